//! What a start has to mend: an install that a crash cut short is finished or
//! undone, as far as the moment allows.
//!
//! Scripts are run by the daemon alone. A guard comes before the services that
//! they call on: one that waited for those would wait for itself. So a guard puts
//! the files back, journals that, and leaves the scripts to the daemon's recovery,
//! which goes on from there.

use std::os::fd::AsFd;

use super::Teller;
use super::error::InstallError;
use super::host::Host;
use super::journal::{self, Journal};
use super::plan::Moves;

/// What is said of an install that a crash ended.
const CUT_SHORT: &str = "the agent or its node was stopped in the middle of the install";

/// Who recovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// A daemon's worker, or an install that is about to begin: all of it.
    Daemon,
    /// A guard, before the daemon or any other service has started: files alone.
    Guard,
}

impl Host<'_> {
    /// Undoes or finishes what a crash cut short.
    pub fn recover(&self, moment: Moment, teller: &mut Teller<'_>) -> Result<(), InstallError> {
        let record = self.record()?;
        let Some(mut journal) = Journal::open(self.home.as_fd())? else {
            if moment == Moment::Daemon {
                self.sweep(&record, &Moves::default());
            }
            return Ok(());
        };
        let begin = journal.story.begin.ok_or_else(|| InstallError::Damaged {
            path: format!(".thimble/{}", journal::NAME),
            what: "is damaged, so what it announced cannot be undone: \
                   see that the host's files are whole, then remove it",
        })?;
        let Some(intent) = journal.story.intent.clone() else {
            teller.notice("an install was cut short before it changed anything");
            self.reject(journal, begin.request_id, &format!("{CUT_SHORT}; nothing was changed"))?;
            return Ok(());
        };
        if record.serial >= intent.serial {
            teller.notice(&format!("an install was cut short when it was done: on set {:.12}", intent.new));
            self.finish(journal, &begin, &intent, &record)?;
            return Ok(());
        }
        self.scripts.end_strays();
        if moment == Moment::Guard {
            self.files_back(&mut journal, &intent, &record, CUT_SHORT)?;
            teller.notice(&format!(
                "{CUT_SHORT}: the files of set {:.12} are back, and their scripts run when the daemon starts",
                intent.old
            ));
            return Ok(());
        }
        teller.notice(&format!("{CUT_SHORT}: going back to set {:.12}", intent.old));
        let ended = self.undo(&mut journal, &begin, &intent, &record, CUT_SHORT)?;
        journal.end(self.home.as_fd())?;
        log::info!("back on set {:.12}: {}", record.digest(), ended.reason);
        Ok(())
    }
}
