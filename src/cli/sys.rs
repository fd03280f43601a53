//! System calls of the command line that std does not have: the terminal's size, the
//! interrupt key, an alarm.

#![deny(clippy::cast_possible_truncation)]

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// The columns and lines of a terminal; `None` if the descriptor is not a terminal.
#[must_use]
pub fn terminal_size(fd: RawFd) -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which `size` is.
    let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    let is_known = result == 0 && size.ws_col > 0 && size.ws_row > 0;
    is_known.then_some((usize::from(size.ws_col), usize::from(size.ws_row)))
}

extern "C" fn end(_signal: libc::c_int) {
    // SAFETY: _exit is async-signal-safe.
    unsafe { libc::_exit(0) }
}

/// Ends this process with exit code 0 after this many seconds.
pub fn end_in(seconds: u32) {
    // SAFETY: the handler is async-signal-safe. The two calls fail only for a wrong
    // signal number.
    unsafe {
        libc::signal(libc::SIGALRM, end as extern "C" fn(libc::c_int) as libc::sighandler_t);
        libc::alarm(seconds);
    }
}

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interrupt(_signal: libc::c_int) {
    IS_INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Records the interrupt key from now on; pressed a second time, it ends the process.
pub fn note_interrupts() {
    // SAFETY: all zeros is a valid sigaction: no mask, no flags, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = note_interrupt as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
    // SAFETY: the handler only stores to an atomic, which is async-signal-safe; `action`
    // is read only during the call. It fails only for a wrong signal number.
    unsafe { libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut()) };
}

/// Whether the interrupt key was pressed since [`note_interrupts`].
#[must_use]
pub fn is_interrupted() -> bool {
    IS_INTERRUPTED.load(Ordering::Relaxed)
}
