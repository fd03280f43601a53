//! System calls on processes: sessions, orphans, signals.

#![deny(clippy::cast_possible_truncation)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the command's process lead a session of its own and die with this process.
pub(super) fn isolate(command: &mut Command) {
    let parent = std::process::id();
    let prepare = move || {
        // SAFETY: all of these are async-signal-safe and take no pointers.
        let is_orphan = unsafe {
            if libc::setsid() < 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::umask(0o022);
            libc::getppid() as u32 != parent
        };
        // The parent died before the signal was asked for.
        if is_orphan { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec, `prepare` allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}

/// Makes orphaned descendants children of this process, whatever their session is; or no
/// longer.
///
/// # Errors
/// As `prctl(2)`.
pub fn adopt_orphans(from_now_on: bool) -> io::Result<()> {
    // SAFETY: takes no pointers.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_long::from(from_now_on)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Kills a process; with a negative number, a process group. Does nothing if it is gone.
pub(super) fn kill(pid: i32) {
    // SAFETY: takes no pointers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Reaps all children that have ended. Returns false if no child is left.
pub(super) fn reap() -> bool {
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours to write to.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            0 => return true,
            pid if pid < 0 => return false,
            _ => {}
        }
    }
}

/// Makes reads from a descriptor nonblocking.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `fd` is open; neither call takes a pointer.
    let result = unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits until one descriptor is readable or the other writable, at most `timeout_ms`.
pub(super) fn wait(readable: Option<BorrowedFd<'_>>, writable: Option<BorrowedFd<'_>>, timeout_ms: i32) {
    let poll = |fd: Option<BorrowedFd<'_>>, events| libc::pollfd {
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events,
        revents: 0,
    };
    let mut polls = [poll(readable, libc::POLLIN), poll(writable, libc::POLLOUT)];
    // SAFETY: `polls` is two `pollfd`; a negative descriptor is ignored.
    unsafe { libc::poll(polls.as_mut_ptr(), 2, timeout_ms) };
}
