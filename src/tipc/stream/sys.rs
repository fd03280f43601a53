//! Shuts down a connection without waiting for the peer.
//!
//! If the peer does not receive, `shutdown(2)` and `close(2)` of a TIPC connection wait
//! for up to eight seconds, even on a non-blocking socket (Linux 6.1, `__tipc_shutdown`),
//! before they end it all the same. A signal interrupts that wait.

#![deny(clippy::cast_possible_truncation)]

use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use libc::{SIGALRM, c_int, c_long, itimerspec, pollfd, sigaction, sigevent, timer_t, timespec};

/// The time until the first signal that interrupts the wait, and between signals.
const WAIT_NS: c_long = 2_000_000;

/// Shuts down a connection, so that the peer reads the sent data and then an end of
/// stream. Does nothing to a socket without a connection.
pub fn end(socket: BorrowedFd<'_>) {
    let interruption = would_wait(socket).then(Interruption::new);
    // SAFETY: no pointer is passed. It fails where there is no connection.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
    drop(interruption);
}

/// Whether the socket is congested: the peer has not received the sent data.
fn would_wait(socket: BorrowedFd<'_>) -> bool {
    let mut asked = pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: `asked` is one pollfd and outlives the call.
    unsafe { libc::poll(&raw mut asked, 1, 0) };
    asked.revents & (libc::POLLOUT | libc::POLLHUP | libc::POLLERR) == 0
}

/// Interrupts this thread's system calls repeatedly, until it is dropped.
struct Interruption {
    timer: Option<timer_t>,
    before: sigaction,
}

extern "C" fn wake(_: c_int) {}

/// The kernel's number of this thread, by system call: std declares musl's `gettid`
/// weak, and in a static binary linked with LTO its address is then 0.
#[expect(clippy::cast_possible_truncation, reason = "the kernel's pid_t, sign-extended")]
fn thread_id() -> c_int {
    // SAFETY: it takes no arguments and always succeeds.
    let id = unsafe { libc::syscall(libc::SYS_gettid) };
    id as c_int
}

impl Interruption {
    fn new() -> Self {
        // SAFETY: these are plain data, for which zeros are a value; what is pointed
        // to outlives each call. The handler does nothing, and may so at any time; it
        // is there before the timer that needs it.
        unsafe {
            let mut before: sigaction = zeroed();
            let mut action: sigaction = zeroed();
            action.sa_sigaction = wake as extern "C" fn(c_int) as libc::sighandler_t;
            libc::sigaction(SIGALRM, &raw const action, &raw mut before);
            let mut event: sigevent = zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = SIGALRM;
            event.sigev_notify_thread_id = thread_id();
            let mut timer: timer_t = zeroed();
            let is_made = libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) == 0;
            let mut wait: timespec = zeroed();
            wait.tv_nsec = WAIT_NS;
            let times = itimerspec { it_interval: wait, it_value: wait };
            if is_made {
                libc::timer_settime(timer, 0, &raw const times, null_mut());
            }
            Self { timer: is_made.then_some(timer), before }
        }
    }
}

impl Drop for Interruption {
    fn drop(&mut self) {
        // SAFETY: the timer is ours, and is gone with its last signal before another
        // handler can get that; `before` came from the kernel.
        unsafe {
            if let Some(timer) = self.timer {
                libc::timer_delete(timer);
            }
            libc::sigaction(SIGALRM, &raw const self.before, null_mut());
        }
    }
}
