//! The barest programs that could do the same: they receive, or receive and answer, and look at nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::netns::Namespace;

mod sys;

/// The controllers' group, and a port where nobody else listens.
pub const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 84, 72), 7500);

/// How a receiver takes what is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Up to 16 datagrams with one system call, as a daemon does.
    Recvmmsg,
    /// One with each.
    Recv,
}

/// What a receiver tells while it runs, and when it is to end.
#[derive(Default)]
pub struct Receiver {
    taken: AtomicU64,
    is_over: AtomicBool,
}

impl Receiver {
    /// Datagrams that it has taken so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Ends it. It may be asleep for a twentieth of a second yet.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Receives in a thread until it is ended: waits with epoll, takes all that is there, and calls
    /// `answer` for each. The thread returns the CPU time that it has spent.
    pub fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        socket: &'scope UdpSocket,
        call: Call,
        answer: impl Fn() + Send + 'scope,
    ) -> ScopedJoinHandle<'scope, io::Result<Duration>> {
        scope.spawn(move || {
            let mut batch = sys::Batch::new();
            let epoll = sys::Epoll::new(socket.as_fd())?;
            let before = sys::thread_cpu()?;
            while !self.is_over.load(Ordering::Relaxed) {
                epoll.wait()?;
                loop {
                    let count = match call {
                        Call::Recvmmsg => batch.receive(socket.as_fd())?,
                        Call::Recv => batch.receive_one(socket.as_fd())?,
                    };
                    if count == 0 {
                        break;
                    }
                    (0..count).for_each(|_| answer());
                    self.taken.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
            Ok(sys::thread_cpu()? - before)
        })
    }
}

/// A socket in a namespace that receives what is sent to a group.
pub fn joined(at: &Namespace, group: SocketAddrV4) -> UdpSocket {
    let socket = at.enter(|| UdpSocket::bind(group)).unwrap();
    socket.join_multicast_v4(group.ip(), &Ipv4Addr::UNSPECIFIED).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// A socket in a namespace to send from.
pub fn sender(at: &Namespace) -> UdpSocket {
    at.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap()
}
