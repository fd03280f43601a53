//! The system calls of network namespaces, which std does not have.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Moves the calling thread into a new network namespace.
pub fn enter_new() -> io::Result<()> {
    // SAFETY: passes a number only.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// Moves the calling thread into a network namespace.
pub fn enter(netns: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; no memory is passed.
    checked(unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Makes the child start in a network namespace.
pub fn starts_in(command: &mut Command, netns: File) {
    // SAFETY: between fork and exec, `enter` calls setns alone, which allocates nothing.
    unsafe { command.pre_exec(move || enter(&netns)) };
}
