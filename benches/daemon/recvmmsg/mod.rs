//! The barest receiver: epoll, then recvmmsg until there is nothing more.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

mod sys;

/// Receives `expected` datagrams, and tells how many it has so far; gives the CPU time
/// that this thread spent.
pub fn drain(socket: BorrowedFd<'_>, expected: usize, so_far: &AtomicUsize) -> io::Result<Duration> {
    let mut batch = sys::Batch::new();
    let epoll = sys::Epoll::new(socket)?;
    let before = sys::thread_cpu()?;
    let mut received = 0;
    while received < expected {
        epoll.wait()?;
        loop {
            match batch.receive(socket)? {
                0 => break,
                count => {
                    received += count;
                    so_far.store(received, Ordering::Relaxed);
                }
            }
        }
    }
    Ok(sys::thread_cpu()? - before)
}
