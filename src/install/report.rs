//! What an install reports: progress, notices, what is installed, the outcome.

use super::error::InstallError;
use super::installer::Installer;
use super::record::Installed;
use crate::job::reporter::Reporter;
use crate::job::{FloorFacts, RefusalKind, Report, Witness};
use crate::patch::floor;
use crate::types::Reason;
use crate::wire::frame::InstalledPatch;
use crate::wire::install::{InstallRequest, LastInstall, Outcome, Step};

/// How an install ended, for the final report.
pub(super) struct InstallEnd {
    pub last: LastInstall,
    /// What it means for a command's exit code unless the outcome is `Installed`.
    pub kind: RefusalKind,
}

/// What became of a request.
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub(super) enum RequestEnd {
    /// It has ended.
    Ended(InstallEnd),
    /// Its set is in place, and this message commits it.
    Awaited(Witness),
}

impl From<InstallEnd> for RequestEnd {
    fn from(end: InstallEnd) -> Self {
        Self::Ended(end)
    }
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

    /// Makes the last reports of a request.
    pub fn request_end(&mut self, request: &InstallRequest, end: &RequestEnd) {
        match end {
            RequestEnd::Ended(InstallEnd { last, kind }) if last.outcome != Outcome::Installed => {
                return self.report(Report::Failed { kind: *kind, reason: last.reason.clone() });
            }
            RequestEnd::Ended(_) => {}
            // The new thimble reports the outcome.
            RequestEnd::Awaited(Witness::ToNewThimble) => self.report(Report::Superseded),
            RequestEnd::Awaited(witness) => self.awaited(request, *witness),
        }
        self.report(Report::Done);
    }

    /// Reports an install that waits for this witness.
    pub fn awaited(&mut self, request: &InstallRequest, witness: Witness) {
        let InstallRequest { request_id, controller, .. } = *request;
        self.report(Report::Awaited { request_id, controller, witness });
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
