//! A stream of bytes over a TIPC connection, and what accepts them.
//!
//! TIPC tells a connection that was closed from one that was ended: the other
//! end of a plain close reads a reset. So a [`Stream`] that is dropped is ended
//! first, and the other end reads an end, as with TCP; one whose process is
//! killed, or whose node is lost, is reset. What had been sent arrives before
//! either.
//!
//! A connection has no half: to end it ends both ways. Neither that nor anything else
//! here waits, but in a worker: see [`Stream::set_blocking`].

mod sys;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, event};

use super::address::{Destination, Scope, ServiceRange, SocketAddress};
use super::socket::Socket;
use super::sys as tipc;

/// A stream.
#[derive(Debug)]
pub struct Stream {
    // To receive, send, time out and end is the same for every kind of socket:
    // std does it by the descriptor. Taken only together with the stream.
    socket: Option<TcpStream>,
    /// The other end has ended it: the kernel says so only once.
    is_over: bool,
}

impl Stream {
    /// Begins to connect, without waiting: it is writable once it is done, and
    /// [`take_error`](Self::take_error) then says how. The other end has to accept.
    ///
    /// # Errors
    /// As `connect(2)`: `HostUnreachable` where nobody is bound there.
    pub fn connect(to: &Destination) -> io::Result<Self> {
        let socket = Socket::stream()?;
        socket.connect(to)?;
        Ok(Self::from(OwnedFd::from(socket)))
    }

    /// From now on a read or a write waits, for so long at most; for a worker.
    ///
    /// # Errors
    /// As `fcntl(2)` and `setsockopt(2)`.
    pub fn set_blocking(&self, patience: Duration) -> io::Result<()> {
        let socket = self.socket();
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))
    }

    /// What went wrong since the last call, as connecting does later.
    ///
    /// # Errors
    /// As `getsockopt(2)`.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket().take_error()
    }

    /// The socket at the other end.
    ///
    /// # Errors
    /// As `getpeername(2)`: `NotConnected`.
    pub fn peer(&self) -> io::Result<SocketAddress> {
        let unexpected = io::ErrorKind::InvalidData;
        Ok(tipc::name(self.as_fd(), true)?.socket().ok_or(unexpected)?)
    }

    fn socket(&self) -> &TcpStream {
        self.socket.as_ref().expect("a stream has a socket until it is turned into one")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            sys::end(socket.as_fd());
        }
    }
}

impl Read for Stream {
    /// `Ok(0)` where the other end has ended the stream; `ConnectionReset` where it
    /// is gone without.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_over {
            return Ok(0);
        }
        let got = self.socket().read(buffer)?;
        self.is_over = got == 0 && !buffer.is_empty();
        Ok(got)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl From<OwnedFd> for Stream {
    fn from(fd: OwnedFd) -> Self {
        Self { socket: Some(TcpStream::from(fd)), is_over: false }
    }
}

impl From<Stream> for OwnedFd {
    /// The stream goes on, and is no longer ended when nobody holds it: to a worker,
    /// or to be closed here because a worker has it.
    fn from(mut stream: Stream) -> Self {
        stream.socket.take().expect("a stream has a socket until it is turned into one").into()
    }
}

impl event::Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).deregister(registry)
    }
}

/// What accepts streams.
#[derive(Debug)]
pub struct Listener(Socket);

impl Listener {
    /// Accepts streams to the services of a range.
    ///
    /// # Errors
    /// As [`Socket::bind`] and `listen(2)`.
    pub fn bind(range: &ServiceRange, scope: Scope) -> io::Result<Self> {
        let socket = Socket::stream()?;
        socket.bind(range, scope)?;
        tipc::listen(socket.as_fd())?;
        Ok(Self(socket))
    }

    /// Takes a stream that waits, without waiting for one.
    ///
    /// # Errors
    /// As `accept(2)`: `WouldBlock` where there is none.
    pub fn accept(&self) -> io::Result<Stream> {
        tipc::accept(self.as_fd()).map(Stream::from)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl event::Source for Listener {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.0.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.0.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.0.deregister(registry)
    }
}
