//! Byte streams over TIPC connections, and their listener.
//!
//! TIPC distinguishes close from shutdown: after a plain close the peer reads a reset. So a
//! dropped [`Stream`] is shut down first, and the peer reads an end of stream, as with TCP.
//! If the process is killed or the node is lost, the peer reads a reset. Data sent before
//! arrives in either case.
//!
//! A connection cannot be half closed: a shutdown ends both directions. No call here
//! waits, except in a worker: see [`Stream::set_blocking`].

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
    // std's calls on the descriptor (receive, send, timeouts) work for any kind of
    // socket. `None` only while the stream is turned into its descriptor.
    socket: Option<TcpStream>,
    /// The peer has ended the stream. The kernel reports it only once.
    is_over: bool,
}

impl Stream {
    /// Begins to connect, without waiting. The stream is writable once the peer has
    /// accepted; [`take_error`](Self::take_error) then gives the result.
    ///
    /// # Errors
    /// As `connect(2)`: `HostUnreachable` where nobody is bound there.
    pub fn connect(to: &Destination) -> io::Result<Self> {
        let socket = Socket::stream()?;
        socket.connect(to)?;
        Ok(Self::from(OwnedFd::from(socket)))
    }

    /// Makes reads and writes wait for at most `patience`; for a worker.
    ///
    /// # Errors
    /// As `fcntl(2)` and `setsockopt(2)`.
    pub fn set_blocking(&self, patience: Duration) -> io::Result<()> {
        let socket = self.socket();
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))
    }

    /// The pending error of the socket, for example that of connecting.
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
    /// `Ok(0)` if the peer has ended the stream; `ConnectionReset` if it is gone without
    /// an end.
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
    /// Gives up the descriptor without a shutdown: to pass it to a worker, or to close it
    /// here after a worker has received it.
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

/// A listener for streams.
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

    /// Accepts a pending stream, without waiting.
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
