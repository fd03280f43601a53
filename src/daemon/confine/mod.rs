//! What a worker that needs no root gives up, before it takes anything from outside.
//!
//! A worker that serves, merges, fetches, loads, changes or shows needs the descriptors that
//! it was started with, its memory, and the state directory: nothing else. One that fetches for
//! an install needs no directory either. So it keeps nothing else, under any supervisor and
//! whoever its user is:
//!
//! | given up | by |
//! |---|---|
//! | capabilities, also those that a program could bring back | empty sets, the bounding set too, and `no_new_privs` |
//! | all files but those of the state directory, which may be read only or also written | Landlock, Linux 5.13; before, where it is root, a root directory of its own, which may be written; where it needs no file, the filter below as well |
//! | TCP ports, signals to others, abstract sockets | Landlock, Linux 6.7 and 6.12 |
//! | programs, processes, sockets, code that is made as it runs | a filter of system calls |
//! | a core that could hold keys, a debugger of the same user | not dumpable |
//!
//! What the kernel does not have is left out, and [`missing`] says so at the daemon's start.
//! What it has and refuses ends the worker.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm"))]
mod calls;
mod filter;
mod sys;
#[cfg(feature = "proof")]
pub mod taken_over;

use std::io;
use std::path::{Path, PathBuf};

/// What a worker needs of the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Opens no file at all.
    Nothing,
    /// Reads files.
    Read,
    /// Makes, changes and removes files and directories as well.
    Write,
}

/// A directory without files, for a worker that needs none: the root directory that it gets
/// without Landlock.
pub const NOWHERE: &str = "/proc/self/fdinfo";

// The rights of Landlock, <linux/landlock.h>.
const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SYM: u64 = 1 << 12;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

/// The rights that exist since the first version; each later one has added the next bit.
const FIRST_RIGHTS: u64 = EXECUTE | (MAKE_SYM * 2 - 1);
const READ: u64 = READ_FILE | READ_DIR;
/// Not to rename from one directory to another: the first version cannot allow it, and the
/// store has no need to.
const WRITE: u64 = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | TRUNCATE;

/// TCP: to bind and to connect.
const NET: u64 = 0b11;
/// Not beyond the domain: abstract sockets and signals.
const SCOPES: u64 = 0b11;

/// Gives up everything but the state directory and what is open. There is no way back.
/// Returns the path that the state directory has from now on.
///
/// # Errors
/// The kernel refuses what it has: the worker must not go on.
pub fn confine(state_dir: &Path, access: Access) -> io::Result<PathBuf> {
    let landlock = sys::landlock_version();
    // Only root can, and only root's worker has files elsewhere that are its own.
    let is_rooted = landlock.is_none() && sys::enter_root(state_dir).is_ok();
    sys::drop_capabilities()?;
    sys::stay_unprivileged()?;
    if let Some(version) = landlock {
        let known = match version {
            1 => FIRST_RIGHTS,
            2 => FIRST_RIGHTS | (TRUNCATE >> 1),
            3 | 4 => FIRST_RIGHTS | (TRUNCATE >> 1) | TRUNCATE,
            _ => FIRST_RIGHTS | (TRUNCATE >> 1) | TRUNCATE | IOCTL_DEV,
        };
        let rights = match access {
            Access::Nothing => 0,
            Access::Read => READ,
            Access::Write => WRITE,
        };
        sys::restrict(&sys::Ruleset {
            files: known,
            net: if version >= 4 { NET } else { 0 },
            scopes: if version >= 6 { SCOPES } else { 0 },
            beneath: state_dir,
            allowed: rights & known,
        })?;
    }
    if sys::has_filters() {
        sys::filter(&filter::program(access))?;
    }
    Ok(if is_rooted { PathBuf::from("/") } else { state_dir.to_owned() })
}

/// Gives up the capabilities of this process, and those of any program that it executes: for a
/// worker that needs files of the system.
///
/// # Errors
/// The kernel refuses.
pub fn drop_capabilities() -> io::Result<()> {
    sys::drop_capabilities()?;
    sys::stay_unprivileged()
}

/// What a daemon gives up that runs no scripts: a set-user-id program would give its workers
/// no rights, no core holds its keys, and no process of the same user sees its memory.
///
/// # Errors
/// The kernel refuses.
pub fn stay_unprivileged() -> io::Result<()> {
    sys::stay_unprivileged()
}

/// What this kernel lacks to confine a worker of this user's, for the operator; `None` if
/// nothing.
#[must_use]
pub fn missing(uid: u32) -> Option<&'static str> {
    let has_files = sys::landlock_version().is_some() || uid == 0;
    let has_filters = sys::has_filters() && !filter::program(Access::Nothing).is_empty();
    match (has_files, has_filters) {
        (true, true) => None,
        (false, true) => Some("Landlock"),
        (true, false) => Some("filters of system calls"),
        (false, false) => Some("Landlock nor filters of system calls"),
    }
}
