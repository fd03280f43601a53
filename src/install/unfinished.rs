//! An install that has not ended, and how the previous set comes back in its place.

use std::os::fd::AsFd;

use super::error::{InstallError, InstallRefusal};
use super::installer::Installer;
use super::journal::{self, Intent, Journal, JournalPhase};
use super::record_file::Record;
use super::report::InstallReporter;
use super::sys;
use crate::job::Witness;
use crate::wire::install::InstallRequest;

/// What a recovery is part of. It decides how far the recovery goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecoveryTrigger {
    /// The daemon started, or one of its workers died.
    Daemon,
    /// The daemon has received a message of a controller since its start.
    Heard,
    /// The daemon has received no message of a controller for long.
    Unheard,
    /// An install is about to begin.
    Install,
    /// An install without a daemon may be about to begin.
    Local,
    /// The guard runs before a start of the new thimble.
    Start,
    /// The guard runs, and no start of thimble follows that counts.
    Boot,
}

impl RecoveryTrigger {
    /// Other services may not run yet, so scripts must wait.
    pub const fn is_early(self) -> bool {
        matches!(self, Self::Start | Self::Boot)
    }
}

/// The state after a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovered {
    /// One whole set is in place.
    Whole,
    /// One whole set is in place, and this process is not the thimble of that set.
    Superseded,
    /// The new set is in place and waits for a controller.
    Awaited,
}

/// An install that has not ended.
pub(super) struct UnfinishedInstall {
    pub journal: Journal,
    pub request: InstallRequest,
    pub intent: Intent,
    /// The record in force: of the previous set, or, after the commit, of the new one.
    pub record: Record,
}

impl UnfinishedInstall {
    pub fn is_committed(&self) -> bool {
        self.record.serial >= self.intent.serial
    }

    /// Whose message commits the install; `None` if it waits for nobody.
    pub fn witness(&self) -> Option<Witness> {
        let state = &self.journal.state;
        state.phase.and_then(JournalPhase::witness).filter(|_| state.undoing.is_none())
    }
}

impl Installer<'_> {
    /// Whether an install that ended with this error left a journal, so that recovery must
    /// end it.
    pub fn is_left_unfinished(&self, error: &InstallError) -> bool {
        let is_awaited =
            matches!(error, InstallError::Refused(refusal) if matches!(**refusal, InstallRefusal::Awaits(_)));
        !is_awaited && sys::stat_at(self.home.as_fd(), journal::NAME).is_ok()
    }

    /// Brings the previous set back. Early in a boot only its files: scripts wait for
    /// the daemon.
    pub fn go_back(
        &self,
        trigger: RecoveryTrigger,
        unfinished: UnfinishedInstall,
        reason: &str,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<Recovered, InstallError> {
        let UnfinishedInstall { mut journal, request, intent, record } = unfinished;
        if trigger.is_early() {
            self.restore_files(&mut journal, &record, reason)?;
            reporter.notice(&format!(
                "{reason}: the files of set {:.12} are back, and their scripts run when the daemon starts",
                intent.old
            ));
            return Ok(Recovered::Whole);
        }
        reporter.notice(&format!("{reason}: going back to set {:.12}", intent.old));
        let last = self.undo(&mut journal, &request, &intent, &record, reason)?;
        let own = self.own(&journal)?;
        self.end(journal, &record)?;
        log::info!("back on set {:.12}: {}", record.digest(), last.reason);
        Ok(match own {
            Some(true) => Recovered::Superseded,
            _ => Recovered::Whole,
        })
    }
}
