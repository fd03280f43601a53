//! A set that is in effect only after a restart of the host: it is committed, and the
//! way back is kept until it has been seen healthy after that restart.
//!
//! Where it is not, the previous set comes back, once: that return is not itself
//! waited for, and it owes the host another restart.

use std::os::fd::AsFd;

use super::Teller;
use super::error::InstallError;
use super::execute::with_script;
use super::installer::Installer;
use super::journal::{Intent, Journal, JournalEntry};
use super::kept::Kept;
use super::last::boot_id;
use super::record::{BEFORE, INSTALLED, Record, Script};
use super::recover::{Recovered, RecoveryTrigger, UnfinishedInstall};
use super::survey::free_name;
use super::tree::There;
use crate::wire::install::{InstallRequest, LastInstall, Outcome};

/// Whether the boot that a set waits for the end of is over.
pub(super) fn is_over(boot: Option<&str>) -> bool {
    boot.is_some_and(|boot| boot != boot_id())
}

impl Installer<'_> {
    /// Commits the new set. One that says after a restart how it is keeps the way back.
    pub fn commit(
        &self,
        journal: &mut Journal,
        intent: &Intent,
        old: &Record,
        next: &Record,
    ) -> Result<(), InstallError> {
        if intent.reboot_required && with_script(&next.patches, Script::Health).next().is_some() {
            BEFORE.write(self.home.as_fd(), old)?;
            journal.append(JournalEntry::AwaitReboot(boot_id()))?;
        }
        INSTALLED.publish(self.home.as_fd())
    }

    /// Ends an install that is committed, as far as it has ended.
    pub fn settle(
        &self,
        journal: Journal,
        request: &InstallRequest,
        intent: &Intent,
        record: &Record,
    ) -> Result<LastInstall, InstallError> {
        match journal.story.boot {
            None => self.finish(journal, request, intent, record),
            Some(_) => self.remember(request.request_id, Outcome::Installed, &intent.noted, true),
        }
    }

    /// Goes on with a committed set that waits for the host's restart, or has had it.
    pub(super) fn go_on_after_restart(
        &self,
        moment: RecoveryTrigger,
        mut open: UnfinishedInstall,
        teller: &mut Teller<'_>,
    ) -> Result<Recovered, InstallError> {
        if let Some(reason) = open.journal.story.undoing.clone() {
            return self.return_from(moment, open, &reason, teller);
        }
        match moment {
            // Nothing was cut short, and scripts must wait.
            RecoveryTrigger::Boot | RecoveryTrigger::Start | RecoveryTrigger::Local => {
                return Ok(Recovered::Whole);
            }
            // There is one way back, and it is to be the next install's; or it is being
            // given up, and some of it is gone.
            _ if moment == RecoveryTrigger::Install || open.journal.story.is_healthy => {}
            _ if !is_over(open.journal.story.boot.as_deref()) => {
                let is_told = self.last()?.is_some_and(|last| last.request_id == open.request.request_id);
                if !is_told {
                    self.settle(open.journal, &open.request, &open.intent, &open.old)?;
                }
                return Ok(Recovered::Whole);
            }
            _ => {
                self.scripts.end_strays();
                open.journal.append(JournalEntry::Restarted)?;
                if let Err(error) = self.health(&mut open.journal, &open.old) {
                    return self.return_from(moment, open, &format!("after the restart: {error}"), teller);
                }
                teller.notice("the set that wanted the restart is healthy after it");
            }
        }
        if !open.journal.story.is_healthy {
            open.journal.append(JournalEntry::Healthy)?;
        }
        self.finish(open.journal, &open.request, &open.intent, &open.old)?;
        Ok(Recovered::Whole)
    }

    /// Puts the set before a committed one back.
    fn return_from(
        &self,
        moment: RecoveryTrigger,
        open: UnfinishedInstall,
        reason: &str,
        teller: &mut Teller<'_>,
    ) -> Result<Recovered, InstallError> {
        if open.journal.story.undoing.is_none() {
            self.save_changes(&open)?;
        }
        let what = "is gone, so which set was there before is not known";
        let gone = || InstallError::Damaged { path: format!(".thimble/{}", BEFORE.name), what };
        let before: Record = BEFORE.read(self.home.as_fd())?.ok_or_else(gone)?;
        self.go_back(moment, UnfinishedInstall { old: before, ..open }, reason, teller)
    }

    /// Files that the set brought and that were changed by hand since then are kept
    /// beside their places: going back knows only what the install did.
    fn save_changes(&self, open: &UnfinishedInstall) -> Result<(), InstallError> {
        let switches = &open.intent.moves.switches;
        let kept = Kept::open(&self.tree, switches.iter().map(|switch| switch.mount.as_str()), |_| false)?;
        for switch in switches {
            let top = open.old.paths.get(&switch.path).and_then(|stack| stack.top());
            let Some(object) = top.and_then(|layer| layer.object) else { continue };
            if let There::Inode(print) = self.tree.look(&switch.path)?
                && print != Some(object.print)
            {
                kept.save(&switch.path, &free_name(&self.tree, &switch.path, "thimble-saved")?)?;
            }
        }
        kept.barrier()
    }
}
