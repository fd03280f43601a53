//! An install that is in place and waits to hear a controller: a set with which the host loses
//! its network must not stay. Without a controller's message it is undone.
//!
//! The wait begins anew when the daemon starts, as after a power cut. It does so a few times
//! only: a set that makes a watchdog restart the host must not stay either.

use super::error::{InstallError, InstallRefusal};
use super::installer::Installer;
use super::journal::JournalEntry;
use super::report::InstallReporter;
use super::unfinished::{Recovered, RecoveryTrigger, UnfinishedInstall};
use crate::job::Witness;
use crate::time::Span;

/// How often the wait begins anew.
const STARTS: u32 = 3;

impl Installer<'_> {
    /// Continues an install that waits for this witness.
    pub fn continue_awaited(
        &self,
        trigger: RecoveryTrigger,
        mut unfinished: UnfinishedInstall,
        witness: Witness,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<Recovered, InstallError> {
        let whom = if witness == Witness::Other { "no other controller" } else { "no controller" };
        let starts = unfinished.journal.state.starts;
        let for_how_long = match trigger {
            RecoveryTrigger::Install | RecoveryTrigger::Local => {
                return Err(InstallRefusal::Awaits(witness).into());
            }
            RecoveryTrigger::Boot | RecoveryTrigger::Start => {
                reporter.notice("an install waits until this host has heard a controller with it");
                return Ok(Recovered::Awaited);
            }
            RecoveryTrigger::Heard => {
                let next = self.next_record()?;
                let UnfinishedInstall { journal, intent, record, .. } = &mut unfinished;
                self.commit(journal, intent, record, &next)?;
                self.settle(UnfinishedInstall { record: next, ..unfinished })?;
                return Ok(Recovered::Whole);
            }
            RecoveryTrigger::Daemon if starts < STARTS => {
                unfinished.journal.append(JournalEntry::Start)?;
                reporter.installed_on(self);
                reporter.awaited(&unfinished.request, witness);
                return Ok(Recovered::Awaited);
            }
            RecoveryTrigger::Daemon => format!("after {starts} starts of thimble"),
            RecoveryTrigger::Unheard => {
                format!("for {}", Span::of_millis(self.config.timers.install_give_up_ms))
            }
        };
        let reason = format!("the network was lost with this set: {whom} was heard {for_how_long}");
        self.scripts.end_strays();
        self.go_back(trigger, unfinished, &reason, reporter)
    }
}
