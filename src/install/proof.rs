//! An install that replaced thimble itself and waits for the new one to prove itself:
//! the new thimble must pass its health scripts and receive a message of a controller.

use std::os::fd::AsFd;

use super::error::{InstallError, InstallRefusal};
use super::installer::Installer;
use super::journal::JournalEntry;
use super::record_file::Record;
use super::record_table::INSTALLED;
use super::report::InstallReporter;
use super::unfinished::{Recovered, RecoveryTrigger, UnfinishedInstall};
use crate::job::Witness;

/// Starts of a new thimble that may fail: the one by the old daemon, and all but one of
/// these by the supervisor.
const STARTS: u32 = 2;

impl Installer<'_> {
    /// Continues an install that waits for the new thimble to prove itself.
    pub fn continue_proof(
        &self,
        trigger: RecoveryTrigger,
        mut unfinished: UnfinishedInstall,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<Recovered, InstallError> {
        match trigger {
            RecoveryTrigger::Install | RecoveryTrigger::Local => {
                return Err(InstallRefusal::Awaits(Witness::ToNewThimble).into());
            }
            RecoveryTrigger::Boot => {
                reporter.notice("thimble itself was replaced: the new one must start and hear a controller");
                return Ok(Recovered::Awaited);
            }
            RecoveryTrigger::Start if unfinished.journal.state.starts + 1 < STARTS => {
                unfinished.journal.append(JournalEntry::Start)?;
                reporter.notice("the new thimble has heard no controller yet: it is started once more");
                return Ok(Recovered::Awaited);
            }
            RecoveryTrigger::Start => {
                let reason = "the new thimble was started twice and heard no controller";
                return self.go_back(trigger, unfinished, reason, reporter);
            }
            // The files are switched, but the old thimble runs: it must start the new one.
            _ if self.own(&unfinished.journal)? == Some(true) => return Ok(Recovered::Superseded),
            RecoveryTrigger::Unheard => {
                return self.go_back(trigger, unfinished, "the new thimble heard no controller", reporter);
            }
            RecoveryTrigger::Daemon => {
                reporter.installed_on(self);
                reporter.awaited(&unfinished.request, Witness::ToNewThimble);
            }
            RecoveryTrigger::Heard => {}
        }
        self.scripts.end_strays();
        match self.prove(trigger, &mut unfinished) {
            Ok(None) => Ok(Recovered::Awaited),
            Ok(Some(record)) => {
                self.settle(UnfinishedInstall { record, ..unfinished })?;
                Ok(Recovered::Whole)
            }
            Err(error) => self.go_back(trigger, unfinished, &error.to_string(), reporter),
        }
    }

    /// The record of a set that waits for its commit.
    pub fn next_record(&self) -> Result<Record, InstallError> {
        let gone =
            || InstallError::Damaged { path: format!(".thimble/{}", INSTALLED.draft), what: "is gone" };
        Record::open_draft(self.home.as_fd(), &INSTALLED)?.ok_or_else(gone)
    }

    /// Runs the health scripts of the new set, and commits it if a controller was heard.
    fn prove(
        &self,
        trigger: RecoveryTrigger,
        unfinished: &mut UnfinishedInstall,
    ) -> Result<Option<Record>, InstallError> {
        let next = self.next_record()?;
        let UnfinishedInstall { journal, intent, record, .. } = unfinished;
        if !journal.state.is_healthy {
            if !intent.reboot_required {
                self.health(journal, &next)?;
            }
            journal.append(JournalEntry::Healthy)?;
        }
        if trigger != RecoveryTrigger::Heard {
            return Ok(None);
        }
        self.commit(journal, intent, record, &next)?;
        Ok(Some(next))
    }
}
