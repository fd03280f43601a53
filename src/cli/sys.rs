//! What the command line needs of the system and the standard library does not
//! give: a terminal's width, the interrupt key.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// The columns and lines of the terminal behind a descriptor; `None` where it is none.
#[must_use]
pub fn terminal_size(fd: RawFd) -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which `size` is.
    let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    let is_known = result == 0 && size.ws_col > 0 && size.ws_row > 0;
    is_known.then_some((usize::from(size.ws_col), usize::from(size.ws_row)))
}

extern "C" fn end(_signal: libc::c_int) {
    // SAFETY: ends the process, which a signal handler may.
    unsafe { libc::_exit(0) }
}

/// Ends this process, quietly, once so many seconds have passed.
pub fn end_in(seconds: u32) {
    // SAFETY: the handler does only what one may; the two calls fail for a wrong
    // signal number only.
    unsafe {
        libc::signal(libc::SIGALRM, end as extern "C" fn(libc::c_int) as libc::sighandler_t);
        libc::alarm(seconds);
    }
}

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interrupt(_signal: libc::c_int) {
    IS_INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on the interrupt key is noted; pressed again, it ends the process.
pub fn note_interrupts() {
    // SAFETY: all zeros is a valid sigaction: no mask, no flags, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = note_interrupt as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
    // SAFETY: the handler only stores to an atomic, which a signal may; `action`
    // is read during the call alone. It fails for a wrong signal number only.
    unsafe { libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut()) };
}

/// Whether the interrupt key was pressed since [`note_interrupts`].
#[must_use]
pub fn is_interrupted() -> bool {
    IS_INTERRUPTED.load(Ordering::Relaxed)
}
