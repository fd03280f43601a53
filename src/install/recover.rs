//! What a start has to mend: an install that a crash cut short is finished or
//! undone, as far as the moment allows.
//!
//! Scripts are run by the daemon alone. A guard comes before the services that
//! they call on: one that waited for those would wait for itself. So a guard puts
//! the files back, journals that, and leaves the scripts to the daemon's recovery,
//! which goes on from there.
//!
//! An install that replaced thimble itself is not cut short: it *awaits* the new
//! one's proof. The daemon's recovery, which that one runs, goes on with it.

use std::os::fd::AsFd;

use super::error::{InstallError, InstallRefusal};
use super::installer::Installer;
use super::journal::{self, Intent, Journal, JournalEntry, JournalPhase};
use super::plan::Moves;
use super::record::{INSTALLED, Record};
use super::{Report, Teller};
use crate::wire::install::InstallRequest;

/// What is said of an install that a crash ended.
const CUT_SHORT: &str = "the agent or its node was stopped in the middle of the install";
/// Starts of a new thimble that may fail: the one by the old daemon, and so many more
/// but one by the supervisor.
const STARTS: u32 = 2;

/// Who recovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecoveryTrigger {
    /// The daemon, at its start or when a worker died.
    Daemon,
    /// The daemon, which has heard a controller since its start.
    Heard,
    /// The daemon, which has heard none for long.
    Unheard,
    /// An install that is about to begin.
    Install,
    /// One without a daemon that may be about to begin.
    Local,
    /// The old thimble's copy, before the new one is started.
    Start,
    /// A guard, and no start follows that counts.
    Boot,
}

impl RecoveryTrigger {
    /// Services are not up yet, and scripts must wait for them.
    const fn is_early(self) -> bool {
        matches!(self, Self::Start | Self::Boot)
    }
}

/// How things are after a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovered {
    /// One whole set is in place.
    Whole,
    /// The same, and this process is not the thimble of that set.
    Superseded,
    /// The new set is in place, and waits to be committed.
    Awaited,
}

/// An install that has not ended.
pub(super) struct UnfinishedInstall {
    pub journal: Journal,
    pub request: InstallRequest,
    pub intent: Intent,
    /// The record in force; what was installed before, unless it is committed.
    pub old: Record,
}

impl UnfinishedInstall {
    fn is_committed(&self) -> bool {
        self.old.serial >= self.intent.serial
    }

    fn awaits_proof(&self) -> bool {
        self.journal.story.phase == Some(JournalPhase::AwaitSelf) && self.journal.story.undoing.is_none()
    }
}

impl Installer<'_> {
    /// Undoes or finishes what a crash cut short.
    pub fn recover(
        &self,
        moment: RecoveryTrigger,
        teller: &mut Teller<'_>,
    ) -> Result<Recovered, InstallError> {
        let record = self.record()?;
        let Some(journal) = Journal::open(self.home.as_fd())? else {
            if !moment.is_early() {
                self.sweep(&record, &Moves::default());
            }
            return Ok(Recovered::Whole);
        };
        let request = journal.story.request.ok_or_else(|| InstallError::Damaged {
            path: format!(".thimble/{}", journal::NAME),
            what: "is damaged, so what it announced cannot be undone: \
                   see that the host's files are whole, then remove it",
        })?;
        let Some(intent) = journal.story.intent.clone() else {
            teller.notice("an install was cut short before it changed anything");
            self.reject(journal, request.request_id, &format!("{CUT_SHORT}; nothing was changed"))?;
            return Ok(Recovered::Whole);
        };
        let open = UnfinishedInstall { journal, request, intent, old: record };
        if open.is_committed() {
            if open.journal.story.boot.is_some() {
                return self.go_on_after_restart(moment, open, teller);
            }
            let UnfinishedInstall { journal, request, intent, old: record } = open;
            teller.notice(&format!("an install was cut short when it was done: on set {:.12}", intent.new));
            self.finish(journal, &request, &intent, &record)?;
            return Ok(Recovered::Whole);
        }
        if open.awaits_proof() {
            return self.go_on_with_proof(moment, open, teller);
        }
        self.scripts.end_strays();
        self.go_back(moment, open, CUT_SHORT, teller)
    }

    /// Puts the previous set back, as far as the moment allows.
    pub fn go_back(
        &self,
        moment: RecoveryTrigger,
        open: UnfinishedInstall,
        reason: &str,
        teller: &mut Teller<'_>,
    ) -> Result<Recovered, InstallError> {
        let UnfinishedInstall { mut journal, request, intent, old } = open;
        if moment.is_early() {
            self.files_back(&mut journal, &intent, &old, reason)?;
            teller.notice(&format!(
                "{reason}: the files of set {:.12} are back, and their scripts run when the daemon starts",
                intent.old
            ));
            return Ok(Recovered::Whole);
        }
        teller.notice(&format!("{reason}: going back to set {:.12}", intent.old));
        let ended = self.undo(&mut journal, &request, &intent, &old, reason)?;
        journal.end(self.home.as_fd())?;
        log::info!("back on set {:.12}: {}", old.digest(), ended.reason);
        Ok(match self.own(&intent.moves) {
            Some(true) => Recovered::Superseded,
            _ => Recovered::Whole,
        })
    }

    /// Goes on with an install that waits for the new thimble to prove itself.
    fn go_on_with_proof(
        &self,
        moment: RecoveryTrigger,
        mut open: UnfinishedInstall,
        teller: &mut Teller<'_>,
    ) -> Result<Recovered, InstallError> {
        match moment {
            RecoveryTrigger::Install | RecoveryTrigger::Local => {
                return Err(InstallRefusal::AwaitsProof.into());
            }
            RecoveryTrigger::Boot => {
                teller
                    .notice("thimble itself was replaced: the new one is to start and to hear a controller");
                return Ok(Recovered::Awaited);
            }
            RecoveryTrigger::Start if open.journal.story.starts + 1 < STARTS => {
                open.journal.append(JournalEntry::Start)?;
                teller.notice("the new thimble has heard no controller yet: it is started once more");
                return Ok(Recovered::Awaited);
            }
            RecoveryTrigger::Start => {
                let reason = "the new thimble was started twice and heard no controller";
                return self.go_back(moment, open, reason, teller);
            }
            // Switched, and yet it is the old one that runs: it has to give way.
            _ if self.own(&open.intent.moves) == Some(true) => return Ok(Recovered::Superseded),
            RecoveryTrigger::Unheard => {
                return self.go_back(moment, open, "the new thimble heard no controller", teller);
            }
            RecoveryTrigger::Daemon => {
                teller.state_of(self);
                let InstallRequest { request_id, controller, .. } = open.request;
                teller.tell(Report::Awaited { request_id, controller });
            }
            RecoveryTrigger::Heard => {}
        }
        self.scripts.end_strays();
        match self.prove(moment, &mut open) {
            Ok(None) => Ok(Recovered::Awaited),
            Ok(Some(record)) => {
                self.settle(open.journal, &open.request, &open.intent, &record)?;
                Ok(Recovered::Whole)
            }
            Err(error) => self.go_back(moment, open, &error.to_string(), teller),
        }
    }

    /// Sees that the new set is well, and commits it where a controller was heard.
    fn prove(
        &self,
        moment: RecoveryTrigger,
        open: &mut UnfinishedInstall,
    ) -> Result<Option<Record>, InstallError> {
        let UnfinishedInstall { journal, intent, old, .. } = open;
        let next: Record = INSTALLED.read_draft(self.home.as_fd())?;
        if !journal.story.is_healthy {
            if !intent.reboot_required {
                self.health(journal, &next)?;
            }
            journal.append(JournalEntry::Healthy)?;
        }
        if moment != RecoveryTrigger::Heard {
            return Ok(None);
        }
        self.commit(journal, intent, old, &next)?;
        Ok(Some(next))
    }
}
