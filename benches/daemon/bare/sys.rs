//! epoll, recvmmsg, recv and the thread's clock.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use thimble::limits::{DATAGRAM_BYTES, RECV_BATCH};

/// Room for a batch of datagrams, with their senders' addresses: over IPv4
/// these have 16 bytes.
pub struct Batch {
    buffers: Vec<[u8; DATAGRAM_BYTES + 1]>,
    addresses: Vec<libc::sockaddr_in>,
}

impl Batch {
    pub fn new() -> Self {
        // SAFETY: zeros are a valid `sockaddr_in`.
        let address = unsafe { std::mem::zeroed() };
        Self { buffers: vec![[0; DATAGRAM_BYTES + 1]; RECV_BATCH], addresses: vec![address; RECV_BATCH] }
    }

    /// Takes what is there, at most a batch; gives how many, 0 where nothing is.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut parts: [libc::iovec; RECV_BATCH] = std::array::from_fn(|place| libc::iovec {
            iov_base: self.buffers[place].as_mut_ptr().cast(),
            iov_len: DATAGRAM_BYTES + 1,
        });
        let mut messages: [libc::mmsghdr; RECV_BATCH] = std::array::from_fn(|place| {
            // SAFETY: zeros are a valid `mmsghdr`.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_name = (&raw mut self.addresses[place]).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            message.msg_hdr.msg_iov = &raw mut parts[place];
            message.msg_hdr.msg_iovlen = 1;
            message
        });
        // SAFETY: every message points to a buffer and an address of its own, of the
        // size that it says, which live through the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                RECV_BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        or_none(count as isize)
    }

    /// Takes one; gives 0 where nothing is.
    pub fn receive_one(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let buffer = &mut self.buffers[0];
        // SAFETY: the buffer lives through the call, and its true size is passed.
        let len = unsafe {
            libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        };
        or_none(len).map(|len| len.min(1))
    }
}

/// What a call returned; 0 where it would have waited.
fn or_none(count: isize) -> io::Result<usize> {
    match usize::try_from(count) {
        Ok(count) => Ok(count),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            error => Err(error),
        },
    }
}

/// Waits for one socket, edge-triggered.
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new(socket: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: passes a number only.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is new and nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
        // SAFETY: both descriptors are open, and `event` lives through the call.
        let added = unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) };
        if added < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(epoll)) }
    }

    /// Returns when something came, or after a twentieth of a second.
    pub fn wait(&self) -> io::Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: there is room for the one event that is asked for.
        match unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, 50) } {
            count if count < 0 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                error => Err(error),
            },
            _ => Ok(()),
        }
    }
}

/// The CPU time of the calling thread.
pub fn thread_cpu() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives through the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}
