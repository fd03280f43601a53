//! What an install reports: progress, notices, what is installed, the outcome.

use super::error::InstallError;
use super::installer::Installer;
use super::record::Installed;
use crate::job::reporter::Reporter;
use crate::job::{FloorFacts, RefusalKind, Report};
use crate::patch::floor;
use crate::types::Reason;
use crate::wire::frame::InstalledPatch;
use crate::wire::install::{LastInstall, Outcome, Step};

/// How an install ended, for the final report.
pub(super) struct InstallEnd {
    pub last: LastInstall,
    /// What it means for a command's exit code unless the outcome is `Installed`.
    pub kind: RefusalKind,
}

/// Sends the reports of an install. A reader that is gone does not stop an install:
/// the outcome is on disk.
pub(super) struct InstallReporter<'r> {
    reporter: &'r mut dyn Reporter,
}

impl<'r> InstallReporter<'r> {
    pub fn new(reporter: &'r mut dyn Reporter) -> Self {
        Self { reporter }
    }

    pub fn report(&mut self, report: Report) {
        if let Err(error) = self.reporter.report(&report) {
            log::debug!("a report was not received: {error}");
        }
    }

    pub fn progress(&mut self, step: Step, percent: u8) {
        self.report(Report::Progress { step, percent });
    }

    /// Reports a line for the host's log, which the event loop writes.
    pub fn notice(&mut self, text: &str) {
        self.report(Report::Notice(Reason::truncated(text)));
    }

    /// Reports what is installed on a host, and its last request.
    pub fn installed_on(&mut self, host: &Installer<'_>) {
        match host.record().and_then(|record| Ok((record, host.last()?))) {
            Ok((record, last)) => self.snapshot(&record, last),
            Err(error) => self.notice(&error.to_string()),
        }
    }

    /// Reports these installed patches and this last request.
    pub fn snapshot(&mut self, record: &Installed, last: Option<LastInstall>) {
        for patch in record.by_id() {
            self.report(Report::Installed(InstalledPatch { id: patch.id.clone(), hash: patch.hash }));
        }
        let floor = floor::in_force(&record.memory.says).next();
        let floor = floor.map(|(id, floor)| FloorFacts {
            id: id.clone(),
            serial: floor.serial,
            expires: floor.expires,
        });
        self.report(Report::InstalledEnd { digest: record.digest(), last, floor });
    }

    /// Makes the last report of an install. `None`: the new thimble will report the
    /// outcome.
    pub fn install_end(&mut self, end: Option<&InstallEnd>) {
        match end {
            Some(InstallEnd { last, kind }) if last.outcome != Outcome::Installed => {
                return self.report(Report::Failed { kind: *kind, reason: last.reason.clone() });
            }
            Some(_) => {}
            None => self.report(Report::Superseded),
        }
        self.report(Report::Done);
    }

    /// Makes the last report of a job.
    pub fn end(&mut self, error: Option<&InstallError>) {
        match error {
            None => self.report(Report::Done),
            Some(error) => self.failed(error.kind(), error),
        }
    }

    /// Makes the last report of a job that failed.
    pub fn failed(&mut self, kind: RefusalKind, error: &InstallError) {
        self.report(Report::Failed { kind, reason: Reason::format(format_args!("{error}")) });
    }
}

/// The percentage of the whole install at which a part of it is that runs from `start`
/// to `end` percent and has done `done` of `total`.
pub(super) fn percent_within(start: u8, end: u8, done: u64, total: u64) -> u8 {
    let span = u64::from(end.saturating_sub(start));
    let part = done.min(total).saturating_mul(span).checked_div(total).unwrap_or(span);
    start.saturating_add(u8::try_from(part).unwrap_or(0))
}
