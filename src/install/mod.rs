//! Laying patches over a host's tree, so that a power cut at any instant leaves
//! one whole set.
//!
//! The target of an install is a set of patches, named by its digest. Per path
//! there is a stack (`record`): what was there before any patch, then a layer
//! for each patch that has it. The top is in place, the others wait in
//! `.thimble/kept` (`kept`). An install goes this way:
//!
//! 1. `prepare`: manifest and patch files come and are verified, rules are
//!    checked, and `plan` computes from record, set and tree which objects
//!    change places. A no here is `Rejected`: nothing was begun.
//! 2. `carry`: the `journal` announces the plan; then staging, pre scripts,
//!    switching, post and restart scripts, health. What is displaced has its
//!    second name before the first thing is switched, so switching is renames.
//! 3. Renaming the new record over the old one commits. Before it, any failure
//!    or crash is undone (`undo`); after it, what is left is sweeping, or, for a set
//!    that is in effect only after a restart, to see how it is then (`reboot`).
//!
//! Everything under `<root>/.thimble`:
//!
//! ```text
//! lock       held by whoever changes anything here
//! installed  what is installed            last  the last request, how it ended
//! journal    only while an install is under way
//! before     the previous record, until a host that owes a restart has had it
//! guard      the old thimble, until a new one has proven itself
//! kept/N     objects that are not in place; one such directory per filesystem
//! patches/ID/scripts/   of installed patches     fetch/HASH  patch files coming in
//! ```

use crate::config::Config;
use crate::job::reporter::Reporter;
use crate::job::{RefusalKind, Report, Source};
use crate::types::Reason;
use crate::wire::frame::InstalledPatch;
use crate::wire::install::{InstallRequest, LastInstall, Outcome, Step};

mod check;
mod error;
mod execute;
mod fetch;
mod installer;
mod journal;
mod kept;
mod last;
mod notice;
mod own;
mod plan;
mod prepare;
mod reboot;
mod record;
mod recover;
mod scripts;
mod sealed;
mod stage;
mod survey;
mod sys;
mod tree;
mod undo;

pub use error::{Conflict, InstallError, InstallRefusal};
pub use own::own_file;
pub use scripts::{How, ScriptFailure, Trial};

use installer::Installer;
use record::Record;
use recover::{Recovered, RecoveryTrigger};

/// Undoes or finishes what a crash cut short, then reports what is installed:
/// `Installed` for each patch, `InstalledEnd`, `Done`. `Failed` instead of
/// `Done` where the tree could not be made whole; the next call tries again.
/// Waits while another process installs.
///
/// Where the last install replaced thimble itself and this process is the new one,
/// `Awaited` follows the snapshot, and health scripts run before `Done`; where this
/// is the old one, `Superseded` comes before `Done`.
pub fn recover(config: &Config, reporter: &mut dyn Reporter) {
    recover_at(RecoveryTrigger::Daemon, config, reporter);
}

/// As [`recover()`], before an [`install`] without a daemon: one that awaits the new
/// thimble's proof is left to that, and `Failed` says so.
pub fn ready(config: &Config, reporter: &mut dyn Reporter) {
    recover_at(RecoveryTrigger::Local, config, reporter);
}

/// Ends the install that recovery found awaited: commits it where a controller was
/// heard, else undoes it. Reports as [`recover()`] does.
pub fn prove(config: &Config, is_heard: bool, reporter: &mut dyn Reporter) {
    recover_at(if is_heard { RecoveryTrigger::Heard } else { RecoveryTrigger::Unheard }, config, reporter);
}

fn recover_at(moment: RecoveryTrigger, config: &Config, reporter: &mut dyn Reporter) {
    let mut teller = Teller { reporter };
    match Installer::open(config) {
        Ok(None) => {
            teller.snapshot(&Record::default(), None);
            teller.end(None);
        }
        Ok(Some(host)) => {
            let recovered = host.recover(moment, &mut teller);
            if !matches!(recovered, Ok(Recovered::Awaited)) {
                teller.state_of(&host);
            }
            if let Ok(Recovered::Superseded) = recovered {
                teller.tell(Report::Superseded);
            }
            teller.end(recovered.as_ref().err());
        }
        Err(error) => teller.end(Some(&error)),
    }
}

/// Puts whole what a crash cut short, before the daemon or other services start:
/// files alone, whose scripts then run at the daemon's start. A `Notice` for
/// what was done, then `Done`, or `Failed` where the tree could not be made whole.
/// Waits while another process installs.
///
/// The old thimble's copy is what a supervisor runs before each start of a new one,
/// and counts those: one that was started twice and heard no controller is undone.
/// Nothing is counted where `is_boot` says that no start follows at once.
pub fn guard(config: &Config, is_boot: bool, reporter: &mut dyn Reporter) {
    let mut teller = Teller { reporter };
    let failed = match Installer::open(config) {
        Ok(Some(host)) => {
            let counts = !is_boot && host.is_guard();
            host.recover(if counts { RecoveryTrigger::Start } else { RecoveryTrigger::Boot }, &mut teller)
                .err()
        }
        // A root that cannot be written to holds nothing half done.
        Ok(None) => None,
        Err(error) => Some(error),
    };
    teller.end(failed.as_ref());
}

/// Installs the set that a request names, reporting on the way, and at the end
/// what is installed and how it went: `Done` or `Failed`. How it ended is
/// durable before it is reported, and a request that has ended already is
/// answered from that. Where it replaced thimble itself, `Superseded` and `Done`
/// end this process's part; how it ends is for the new one's [`recover()`] to say.
///
/// The process must have no other children: what scripts leave behind becomes
/// a child of it, and is ended.
pub fn install(
    config: &Config,
    request: &InstallRequest,
    source: &mut dyn Source,
    reporter: &mut dyn Reporter,
) {
    let mut teller = Teller { reporter };
    teller.progress(Step::Checking, 0);
    let host = match Installer::open(config) {
        Ok(Some(host)) => host,
        Ok(None) => return teller.end(Some(&InstallRefusal::ReadOnlyRoot.into())),
        Err(error) => return teller.end(Some(&error)),
    };
    match host.install(request, source, &mut teller) {
        Ok(ended) => {
            teller.state_of(&host);
            teller.ended(ended.as_ref());
        }
        Err(error) => {
            teller.state_of(&host);
            teller.end(Some(&error));
        }
    }
}

/// How an install ended, for the final report.
struct InstallEnd {
    last: LastInstall,
    kind: RefusalKind,
}

/// Tells whoever waits. One who is gone does not stop an install: the journal
/// remembers what it would have been told.
struct Teller<'r> {
    reporter: &'r mut dyn Reporter,
}

impl Teller<'_> {
    fn tell(&mut self, report: Report) {
        if let Err(error) = self.reporter.report(&report) {
            log::debug!("nobody listens: {error}");
        }
    }

    fn progress(&mut self, step: Step, percent: u8) {
        self.tell(Report::Progress { step, percent });
    }

    /// A line for the host's log, which the loop writes.
    fn notice(&mut self, text: &str) {
        self.tell(Report::Notice(Reason::truncated(text)));
    }

    /// What is installed, and the last request.
    fn state_of(&mut self, host: &Installer<'_>) {
        match host.record().and_then(|record| Ok((record, host.last()?))) {
            Ok((record, last)) => self.snapshot(&record, last),
            Err(error) => self.notice(&error.to_string()),
        }
    }

    fn snapshot(&mut self, record: &Record, last: Option<LastInstall>) {
        for patch in record.by_id() {
            self.tell(Report::Installed(InstalledPatch { id: patch.id.clone(), hash: patch.hash }));
        }
        self.tell(Report::InstalledEnd { digest: record.digest(), last });
    }

    /// The end; without `ended` it is for the new thimble to say.
    fn ended(&mut self, ended: Option<&InstallEnd>) {
        match ended {
            Some(InstallEnd { last, kind }) if last.outcome != Outcome::Installed => {
                return self.tell(Report::Failed { kind: *kind, reason: last.reason.clone() });
            }
            Some(_) => {}
            None => self.tell(Report::Superseded),
        }
        self.tell(Report::Done);
    }

    fn end(&mut self, error: Option<&InstallError>) {
        self.tell(match error {
            None => Report::Done,
            Some(error) => {
                Report::Failed { kind: error.kind(), reason: Reason::format(format_args!("{error}")) }
            }
        });
    }
}
