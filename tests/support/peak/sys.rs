//! The system calls that stop a process before it ends.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::null_mut;

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Two ends of a connection that keeps messages apart. Closed on exec.
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` has room for two.
    checked(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) }.into())?;
    // SAFETY: the new descriptors are owned by nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Makes the child be traced by the thread that starts it, and start with duplicates of
/// these descriptors as 3, 4 and so on.
pub fn starts_traced(command: &mut Command, fds: Vec<RawFd>) {
    /// Above all descriptors that the child is given.
    const FREE: RawFd = 64;
    let start = move || {
        // Twice: the number that one must get may be another one's.
        for (to, from) in (FREE..).zip(&fds) {
            // SAFETY: passes numbers only.
            checked(unsafe { libc::dup2(*from, to) }.into())?;
        }
        for at in 0..fds.len() as RawFd {
            // SAFETY: passes numbers only.
            checked(unsafe { libc::dup2(FREE + at, 3 + at) }.into())?;
            // SAFETY: passes a number only; that descriptor was made above.
            checked(unsafe { libc::close(FREE + at) }.into())?;
        }
        let nothing = null_mut::<libc::c_void>();
        // SAFETY: passes no memory.
        checked(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, nothing, nothing) }).map(drop)
    };
    // SAFETY: between fork and exec, `start` makes system calls alone and allocates nothing.
    unsafe { command.pre_exec(start) };
}

/// Why a traced process has stopped.
pub enum Stop {
    /// It is about to end. Its memory is still there.
    Ending,
    /// It got this signal, or has just been executed.
    Signal(libc::c_int),
    /// It has ended, with this exit code, or by a signal.
    Ended(Option<i32>),
}

/// Waits until a traced child of this thread stops or ends.
pub fn wait(pid: libc::pid_t) -> io::Result<Stop> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    checked(unsafe { libc::waitpid(pid, &raw mut status, 0) }.into())?;
    if !libc::WIFSTOPPED(status) {
        return Ok(Stop::Ended(libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))));
    }
    Ok(match status >> 8 {
        stop if stop == libc::SIGTRAP | (libc::PTRACE_EVENT_EXIT << 8) => Stop::Ending,
        _ => Stop::Signal(libc::WSTOPSIG(status)),
    })
}

/// Makes a stopped child stop again before it ends, and end with this thread.
pub fn stop_before_end(pid: libc::pid_t) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACEEXIT | libc::PTRACE_O_EXITKILL;
    // SAFETY: passes no memory: the options are a number in the place of a pointer.
    let set = unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, null_mut::<libc::c_void>(), options) };
    checked(set).map(drop)
}

/// Lets a stopped child go on, with a signal or with 0 for none.
pub fn go_on(pid: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: passes no memory: the signal is a number in the place of a pointer.
    let done = unsafe { libc::ptrace(libc::PTRACE_CONT, pid, null_mut::<libc::c_void>(), signal) };
    checked(done).map(drop)
}
