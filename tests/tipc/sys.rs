//! The system calls that these tests need and std does not have.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Moves the calling thread into a network namespace.
pub fn enter_netns(netns: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; no memory is passed.
    let done = unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the test runs as root.
pub fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
