//! A set that takes effect only after a restart of the host. It is committed at once,
//! and the previous record is kept until the health scripts have passed after the
//! restart.
//!
//! If a health script fails then, the previous set comes back, once: nothing waits for
//! that return to prove healthy, and the host owes another restart.

use std::os::fd::AsFd;

use super::beside::free_beside;
use super::boot::has_restarted_since;
use super::error::InstallError;
use super::installer::Installer;
use super::journal::JournalEntry;
use super::kept::Kept;
use super::order::order;
use super::record_file::Record;
use super::record_table::BEFORE;
use super::report::InstallReporter;
use super::tree::PathState;
use super::unfinished::{Recovered, RecoveryTrigger, UnfinishedInstall};

impl Installer<'_> {
    /// Continues a committed install that waits for a restart of the host, or that the
    /// host has been restarted for.
    pub fn continue_after_restart(
        &self,
        trigger: RecoveryTrigger,
        mut unfinished: UnfinishedInstall,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<Recovered, InstallError> {
        if let Some(reason) = unfinished.journal.state.undoing.clone() {
            return self.go_back(trigger, self.with_record_before(unfinished)?, &reason, reporter);
        }
        let has_restarted = unfinished.journal.state.boot.as_deref().is_some_and(has_restarted_since);
        match trigger {
            // The set is whole, and scripts must wait for the daemon.
            RecoveryTrigger::Boot | RecoveryTrigger::Start | RecoveryTrigger::Local => {
                return Ok(Recovered::Whole);
            }
            // The next install needs the previous record's place for its own; or removing
            // the previous record has begun.
            _ if trigger == RecoveryTrigger::Install || unfinished.journal.state.is_healthy => {}
            _ if !has_restarted => {
                let request_id = unfinished.request.request_id;
                let is_remembered = self.last()?.is_some_and(|last| last.request_id == request_id);
                if !is_remembered {
                    self.settle(unfinished)?;
                }
                return Ok(Recovered::Whole);
            }
            _ => {
                self.scripts.end_strays();
                if !unfinished.journal.state.is_restarted {
                    unfinished.journal.append(JournalEntry::Restarted)?;
                }
                if let Err(error) = self.health(&mut unfinished.journal, &unfinished.record) {
                    let reason = format!("after the restart: {error}");
                    return self.go_back(trigger, self.with_record_before(unfinished)?, &reason, reporter);
                }
                reporter.notice("the set that wanted the restart is healthy after it");
            }
        }
        if !unfinished.journal.state.is_healthy {
            unfinished.journal.append(JournalEntry::Healthy)?;
        }
        self.finish(unfinished)?;
        Ok(Recovered::Whole)
    }

    /// Prepares going back from a committed set: saves local changes, and replaces the
    /// record with that of the set before.
    fn with_record_before(&self, unfinished: UnfinishedInstall) -> Result<UnfinishedInstall, InstallError> {
        if unfinished.journal.state.undoing.is_none() {
            self.save_changes(&unfinished)?;
        }
        let what = "is gone, so the set before cannot come back: see that the host works with the set that it \
                    has, then remove .thimble/journal to keep that";
        let gone = || InstallError::Damaged { path: format!(".thimble/{}", BEFORE.name), what };
        let before = Record::open(self.home.as_fd(), &BEFORE)?.ok_or_else(gone)?;
        Ok(UnfinishedInstall { record: before, ..unfinished })
    }

    /// Saves files of the set that were changed by hand since the install, each beside
    /// its path: going back knows only what the install did.
    fn save_changes(&self, unfinished: &UnfinishedInstall) -> Result<(), InstallError> {
        let UnfinishedInstall { journal, record, .. } = unfinished;
        self.tree.forget();
        let mounts = journal.mounts()?;
        let kept = Kept::open(&self.tree, mounts.iter().map(String::as_str), |_| false)?;
        let (mut moves, mut items) = (journal.moves(), record.items());
        let mut item = items.next_stack()?;
        while let Some(switch) = moves.next_switch()? {
            if switch.is_beside {
                continue;
            }
            while item.as_ref().is_some_and(|(path, _)| order(path, &switch.path).is_lt()) {
                item = items.next_stack()?;
            }
            let stack = item.as_ref().filter(|(path, _)| *path == switch.path).map(|(_, stack)| stack);
            let top = stack.and_then(|stack| stack.top());
            let Some(object) = top.and_then(|layer| layer.content.object()) else { continue };
            if let PathState::Inode(found) = self.tree.inspect(&switch.path, Some(object.size_bytes))?
                && !found.is(&object.print)
            {
                kept.save(&switch.path, &free_beside(&self.tree, &switch.path, "thimble-saved")?)?;
            }
        }
        kept.barrier()
    }
}
