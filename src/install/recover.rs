//! Recovery at a start: finishes or undoes an install that a crash interrupted, as far as
//! the trigger allows.
//!
//! Only the daemon runs scripts. A guard runs before the services that scripts may
//! call; if it waited for one of them, it would wait for itself. So a guard restores
//! the files, records that in the journal, and leaves the scripts to the daemon's
//! recovery.
//!
//! An install that awaits a controller was not interrupted. The recovery of the daemon that
//! is started then continues it.

use std::os::fd::AsFd;

use super::error::InstallError;
use super::installer::Installer;
use super::journal::{self, Journal};
use super::report::InstallReporter;
use super::unfinished::{Recovered, RecoveryTrigger, UnfinishedInstall};
use crate::job::Witness;

/// The reason that is recorded for an install that a crash ended, where nobody saw how.
const INTERRUPTED: &str = "the agent or its node was stopped in the middle of the install";

impl Installer<'_> {
    /// Undoes or finishes an install that a crash interrupted, by its worker that `stopped` so.
    pub fn recover(
        &self,
        trigger: RecoveryTrigger,
        stopped: Option<&str>,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<Recovered, InstallError> {
        let interrupted = stopped.unwrap_or(INTERRUPTED);
        let record = self.record()?;
        let Some(journal) = Journal::open(self.home.as_fd())? else {
            if !trigger.is_early() {
                self.sweep(&record, &Default::default());
            }
            return Ok(Recovered::Whole);
        };
        let request = journal.state.request.ok_or_else(|| InstallError::Damaged {
            path: format!(".thimble/{}", journal::NAME),
            what: "is damaged, so what it announced cannot be undone: \
                   see that the host's files are whole, then remove it",
        })?;
        let Some(intent) = journal.state.intent.clone() else {
            reporter.notice("an install was cut short before it changed anything");
            self.reject(journal, request.request_id, &format!("{interrupted}; nothing was changed"))?;
            return Ok(Recovered::Whole);
        };
        let unfinished = UnfinishedInstall { journal, request, intent, record };
        if unfinished.is_committed() {
            if unfinished.journal.state.boot.is_some() {
                return self.continue_after_restart(trigger, unfinished, reporter);
            }
            let new = &unfinished.intent.new;
            reporter.notice(&format!("an install was cut short when it was done: on set {new:.12}"));
            self.finish(unfinished)?;
            return Ok(Recovered::Whole);
        }
        match unfinished.witness() {
            None => {}
            Some(Witness::ToNewThimble) => return self.continue_proof(trigger, unfinished, reporter),
            Some(witness) => return self.continue_awaited(trigger, unfinished, witness, reporter),
        }
        self.scripts.end_strays();
        self.go_back(trigger, unfinished, interrupted, reporter)
    }
}
