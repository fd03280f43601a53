//! Installs a set of patches on a host's tree. A power cut at any instant leaves one
//! whole set: the previous one or the new one.
//!
//! An install asks for a set, named by its digest. Per path the `record` has a stack:
//! the file that was there before any patch, then a layer for each patch that has the
//! path. The top of the stack is in place, everything below is kept in `.thimble/kept`
//! (`kept`). The stages of an install (`request`):
//!
//! 1. `prepare` fetches and verifies manifest and patch files and checks the rules, and that the
//!    `olds` are there which differences need;
//!    `layout` finds out where their members belong, and the `planner` walks through these
//!    paths and the record and `plan`s each. A failure here rejects the request:
//!    nothing has changed.
//! 2. `execute` announces the `moves` in the `journal`, then stages new files, runs the
//!    pre scripts, switches, and runs the post, restart and health scripts. Each
//!    displaced file gets its second name before the first switch, so that switching
//!    is renames only. What a filesystem `holds` is tried out before, and if space is
//!    short, kept objects make `room`.
//! 3. `commit` renames the new record over the old one. Until then any failure or crash
//!    is undone (`undo`). After it only cleanup is left, or, if the set takes effect
//!    after a restart of the host, the health check after that restart (`reboot`).
//!
//! A controller's install is committed once a controller was heard after its scripts
//! (`awaited`): a set with which the host loses its network is undone.
//!
//! `recover` continues an `unfinished` install after a crash; `proof` continues one that
//! replaced thimble itself (`own`).
//!
//! What grows with the number of files is on the disk, in one `order`: the record
//! (`record_file`), the moves, and what is sorted on the way (`sorter`).
//!
//! Everything under `<root>/.thimble`:
//!
//! ```text
//! lock       held by the process that changes anything here
//! installed  the record                   last  the last request and its outcome
//! journal    only while an install is under way
//! before     the previous record, until a restart that the host owes
//! guard      the old thimble, until the new one has proven itself
//! NAME.spare space for writing NAME on a full disk (`spare`)
//! kept/N     objects that are not in place; one such directory per filesystem
//! patches/ID/scripts/   of installed patches     fetch/HASH  patch files being fetched
//! ```

use crate::config::Config;
use crate::job::reporter::Reporter;
use crate::job::{RefusalKind, Report, Source, Witness};
use crate::wire::install::{InstallRequest, Step};

mod access;
mod astray;
mod awaited;
mod beside;
mod boot;
mod capability;
mod check;
mod commit;
mod conflict;
mod duplicate;
mod error;
mod execute;
mod fetch;
mod fit;
mod frames;
mod holds;
mod holes;
mod installer;
mod journal;
mod kept;
mod last;
mod layout;
mod moves;
mod needs;
mod notice;
mod olds;
mod order;
mod own;
mod path_hash;
mod plan;
mod planner;
mod prepare;
mod presence;
mod proof;
mod reboot;
mod record;
mod record_draft;
mod record_file;
mod record_item;
mod record_table;
mod recover;
mod relabel;
mod report;
mod request;
mod room;
mod scripts;
mod set_aside;
mod sorter;
mod spare;
mod stage;
mod staged;
mod state_files;
mod sys;
mod told;
mod tree;
mod turn;
mod undo;
mod unfinished;
mod users_mounts;
mod way;
mod window;

pub use conflict::{Conflict, InTheWay, Unfit};
pub use error::{InstallError, InstallRefusal};
pub use own::own_file;
pub use scripts::{ScriptError, ScriptFailure, Trial, adopt_orphans, end_orphans};

use installer::Installer;
use record::Installed;
use report::InstallReporter;
use unfinished::{Recovered, RecoveryTrigger};

/// Undoes or finishes an install that a crash interrupted, then reports what is
/// installed: `Installed` for each patch, `InstalledEnd`, `Done`. `Failed` takes the
/// place of `Done` if the tree could not be made whole; the next call tries again.
/// Waits while another process installs.
///
/// If the last install awaits a controller, `Awaited` follows the snapshot. If it replaced
/// thimble itself and this process is the new thimble, health scripts run before `Done`. If
/// this process is the old thimble, `Superseded` comes before `Done`.
///
/// The reason of an install that is undone says how its worker `stopped`, where that is known.
pub fn recover(config: &Config, stopped: Option<&str>, reporter: &mut dyn Reporter) {
    recover_for(RecoveryTrigger::Daemon, stopped, config, reporter);
}

/// Recovers as [`recover()`] does, before an [`install`] without a daemon. An install
/// that awaits a controller is not continued: `Failed` reports it.
pub fn ready(config: &Config, reporter: &mut dyn Reporter) {
    recover_for(RecoveryTrigger::Local, None, config, reporter);
}

/// Ends the install that recovery found awaited: commits it if a controller was heard,
/// else undoes it. Reports as [`recover()`] does.
pub fn prove(config: &Config, is_heard: bool, reporter: &mut dyn Reporter) {
    let trigger = if is_heard { RecoveryTrigger::Heard } else { RecoveryTrigger::Unheard };
    recover_for(trigger, None, config, reporter);
}

fn recover_for(
    trigger: RecoveryTrigger,
    stopped: Option<&str>,
    config: &Config,
    reporter: &mut dyn Reporter,
) {
    let mut reporter = InstallReporter::new(reporter);
    match Installer::open(config) {
        Ok(None) => {
            reporter.snapshot(&Installed::default(), None);
            reporter.end(None);
        }
        Ok(Some(host)) => {
            let recovered = host.recover(trigger, stopped, &mut reporter);
            if !matches!(recovered, Ok(Recovered::Awaited)) {
                reporter.installed_on(&host);
            }
            if let Ok(Recovered::Superseded) = recovered {
                reporter.report(Report::Superseded);
            }
            reporter.end(recovered.as_ref().err());
        }
        Err(error) => reporter.end(Some(&error)),
    }
}

/// Restores the files of an install that a crash interrupted, before the daemon or
/// other services start. Scripts run when the daemon starts. Reports a `Notice` for
/// what was done, then `Done`, or `Failed` if the tree could not be made whole. Waits
/// while another process installs.
///
/// A supervisor runs the old thimble's copy with this before each start of a new
/// thimble, and that copy counts the starts: a new thimble that was started twice and
/// heard no controller is undone. With `is_boot`, no start follows at once and nothing
/// is counted.
pub fn guard(config: &Config, is_boot: bool, reporter: &mut dyn Reporter) {
    let mut reporter = InstallReporter::new(reporter);
    let failed = match Installer::open(config) {
        Ok(Some(host)) => {
            let counts = !is_boot && host.is_guard();
            let trigger = if counts { RecoveryTrigger::Start } else { RecoveryTrigger::Boot };
            host.recover(trigger, None, &mut reporter).err()
        }
        // A root that cannot be written to has no unfinished install.
        Ok(None) => None,
        Err(error) => Some(error),
    };
    reporter.end(failed.as_ref());
}

/// Installs the set that a request names. Reports progress, then what is installed,
/// then `Done` or `Failed`. The outcome is durable before it is reported; a request that
/// has ended already is answered with its outcome. `Failed` of the kind `Unfinished`: the
/// tree may be of two sets, and [`recover()`] must be called until it succeeds. If the install replaced thimble
/// itself, it ends with `Superseded` and `Done`: [`recover()`] in the new thimble
/// continues it. Otherwise it is committed at once; [`install_watched`] waits for a controller.
///
/// The process must have no other children: processes that scripts leave behind become
/// its children, and are ended.
pub fn install(
    config: &Config,
    request: &InstallRequest,
    source: &mut dyn Source,
    reporter: &mut dyn Reporter,
) {
    install_with(config, request, source, reporter, false, None);
}

/// Installs as [`install()`] does, for a controller. Where that changes anything, it ends with
/// `Awaited` and `Done`: the set is in place, and [`prove`] commits it once this witness was
/// heard, or undoes it.
pub fn install_watched(
    config: &Config,
    request: &InstallRequest,
    source: &mut dyn Source,
    witness: Witness,
    reporter: &mut dyn Reporter,
) {
    install_with(config, request, source, reporter, false, Some(witness));
}

/// Installs as [`install()`] does, also below the floor of the makers of patches: for root on
/// the host itself, never for a controller. Earlier floors and superseded patches are
/// forgotten.
pub fn install_below_floor(
    config: &Config,
    request: &InstallRequest,
    source: &mut dyn Source,
    reporter: &mut dyn Reporter,
) {
    install_with(config, request, source, reporter, true, None);
}

fn install_with(
    config: &Config,
    request: &InstallRequest,
    source: &mut dyn Source,
    reporter: &mut dyn Reporter,
    ignores_floor: bool,
    witness: Option<Witness>,
) {
    let mut reporter = InstallReporter::new(reporter);
    reporter.progress(Step::Checking, 0);
    let host = match Installer::open(config) {
        Ok(Some(mut host)) => {
            (host.ignores_floor, host.witness) = (ignores_floor, witness);
            host
        }
        Ok(None) => return reporter.end(Some(&InstallRefusal::ReadOnlyRoot.into())),
        Err(error) => return reporter.end(Some(&error)),
    };
    let ended = host.install(request, source, &mut reporter);
    reporter.installed_on(&host);
    match ended {
        Ok(end) => reporter.request_end(request, &end),
        Err(error) if host.is_left_unfinished(&error) => reporter.failed(RefusalKind::Unfinished, &error),
        Err(error) => reporter.end(Some(&error)),
    }
}
