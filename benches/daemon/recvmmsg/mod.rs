//! The barest receiver: epoll, then recvmmsg until there is nothing more.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

mod sys;

/// Receives `expected` datagrams; gives the CPU time that this thread spent.
pub fn drain(socket: BorrowedFd<'_>, expected: usize) -> io::Result<Duration> {
    let mut batch = sys::Batch::new();
    let epoll = sys::Epoll::new(socket)?;
    let before = sys::thread_cpu()?;
    let mut received = 0;
    while received < expected {
        epoll.wait()?;
        loop {
            match batch.receive(socket)? {
                0 => break,
                count => received += count,
            }
        }
    }
    Ok(sys::thread_cpu()? - before)
}
