//! A TIPC socket: bound to ranges of services, as many as one likes.
//!
//! None blocks and no child inherits one. To wait for one, register it with mio.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, event};

use super::address::{Destination, Scope, ServiceRange, SocketAddress};
use super::sys::{self, Envelope, Sockaddr};
use crate::fsm::actions::Undelivered;

/// The longest message that TIPC carries, in bytes.
pub const MESSAGE_BYTES: usize = 66_000;
/// What comes back of a message that could not be delivered, at most, in bytes.
pub const RETURNED_BYTES: usize = 1_024;
/// Room for the reason, the data and the address that a returned message comes with.
const CONTROL_BYTES: usize = 2 * sys::CONTROL_BYTES + RETURNED_BYTES + 16;

/// Why TIPC cannot be had here.
#[derive(Debug)]
pub enum SocketError {
    /// The kernel has no TIPC, or it is not loaded.
    NoTipc,
    /// The kernel has it, and lets us not.
    NotAllowed(io::Error),
    /// There is no bearer, and so no other node.
    NoBearer,
    /// Anything else.
    Other(io::Error),
}

impl From<io::Error> for SocketError {
    fn from(cause: io::Error) -> Self {
        match cause.raw_os_error() {
            Some(libc::EAFNOSUPPORT) => Self::NoTipc,
            Some(libc::EPERM | libc::EACCES) => Self::NotAllowed(cause),
            _ => Self::Other(cause),
        }
    }
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTipc => f.write_str(
                "this kernel has no TIPC: run `modprobe tipc`, and for the next boot `echo tipc \
                 >/etc/modules-load.d/tipc.conf` (in a systemd unit, RestrictAddressFamilies= must name AF_TIPC)",
            ),
            Self::NotAllowed(cause) => write!(
                f,
                "TIPC sockets are denied to this program ({cause}): a security policy of this host does that; \
                 `journalctl -k -g 'denied|audit'` shows which, and it must allow the address family AF_TIPC (30)",
            ),
            Self::NoBearer => f.write_str(
                "TIPC has no bearer here, and reaches no other node: run `tipc bearer enable media eth device \
                 IFACE` with the interface that leads to the other nodes",
            ),
            Self::Other(cause) => write!(f, "no TIPC socket can be had: {cause}"),
        }
    }
}

impl std::error::Error for SocketError {}

/// A message, or one of ours that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes in the buffer: of the message, or of what came back of ours. What did
    /// not fit is lost.
    pub len: usize,
    /// The message was longer than the buffer.
    pub is_cut: bool,
    /// The socket that sent it; the one that refused it, where it came back.
    pub from: Option<SocketAddress>,
    /// Why our message came back, and how many bytes of it did, at most
    /// [`RETURNED_BYTES`].
    pub undelivered: Option<(Undelivered, usize)>,
    /// The service or the range that it was sent to, if it was.
    pub destination: Option<ServiceRange>,
}

/// A TIPC socket.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// For messages, each by itself, reliably and in order. One that nobody takes
    /// comes back: see [`Received::undelivered`].
    ///
    /// # Errors
    /// As `socket(2)`; [`SocketError`] says it for people.
    pub fn rdm() -> io::Result<Self> {
        let socket = Self(sys::socket(libc::SOCK_RDM)?);
        sys::have_returned(socket.as_fd())?;
        Ok(socket)
    }

    /// For messages over a connection.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub fn seqpacket() -> io::Result<Self> {
        sys::socket(libc::SOCK_SEQPACKET).map(Self)
    }

    /// For bytes over a connection: what [`Stream`](super::stream::Stream) and
    /// [`Listener`](super::stream::Listener) are made of.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub fn stream() -> io::Result<Self> {
        sys::socket(libc::SOCK_STREAM).map(Self)
    }

    /// Binds to a range, besides what it is bound to; to the same one again if it
    /// is asked twice.
    ///
    /// # Errors
    /// As `bind(2)`: `EACCES` for a type below 64, `EINVAL` for a range that is
    /// backwards.
    pub fn bind(&self, range: &ServiceRange, scope: Scope) -> io::Result<()> {
        sys::bind(self.as_fd(), &Sockaddr::binding(range, scope))
    }

    /// Takes one binding back, which must be as it was bound.
    ///
    /// # Errors
    /// As `bind(2)`: `EINVAL` where it is not bound so.
    pub fn unbind(&self, range: &ServiceRange, scope: Scope) -> io::Result<()> {
        sys::bind(self.as_fd(), &Sockaddr::unbinding(range, scope))
    }

    /// Takes all bindings back.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub fn unbind_all(&self) -> io::Result<()> {
        sys::unbind_all(self.as_fd())
    }

    /// Its own address. The node is 0 until TIPC has had a bearer for a second.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn address(&self) -> io::Result<SocketAddress> {
        let unexpected = io::ErrorKind::InvalidData;
        Ok(sys::name(self.as_fd(), false)?.socket().ok_or(unexpected)?)
    }

    /// Sends a message, without waiting.
    ///
    /// # Errors
    /// As `sendto(2)`: `WouldBlock` where the link has no room, `HostUnreachable`
    /// where nobody is bound there or the node is not known.
    pub fn send_to(&self, message: &[u8], to: &Destination) -> io::Result<usize> {
        sys::send_to(self.as_fd(), message, &Sockaddr::from(to))
    }

    /// Takes a message, without waiting.
    ///
    /// # Errors
    /// As `recvmsg(2)`: `WouldBlock` where there is none.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut envelope = [Envelope::<CONTROL_BYTES>::new()];
        sys::recv_many(self.as_fd(), [&mut *buffer], &mut envelope)?;
        let [envelope] = &envelope;
        let undelivered = envelope.err_info().map(|info| (reason(info.code), info.returned_len as usize));
        let mut len = envelope.len;
        if undelivered.is_some() {
            // It comes beside the message, which is then empty.
            let returned = envelope.returned().unwrap_or_default();
            len = returned.len().min(buffer.len());
            buffer[..len].copy_from_slice(&returned[..len]);
        }
        Ok(Received {
            len,
            is_cut: envelope.is_cut(),
            from: envelope.from(),
            undelivered,
            destination: envelope.destination(),
        })
    }

    /// Begins to connect, without waiting: it is writable once it is done. What becomes
    /// of it is known by the [`Stream`](super::stream::Stream) that it is turned into.
    ///
    /// # Errors
    /// As `connect(2)`: `HostUnreachable` where nobody is bound there.
    pub fn connect(&self, to: &Destination) -> io::Result<()> {
        match sys::connect(self.as_fd(), &Sockaddr::from(to)) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
            done => done,
        }
    }
}

/// What a reason of the kernel's for returning a message is.
#[must_use]
pub fn reason(code: u32) -> Undelivered {
    match code {
        1 => Undelivered::NoName,
        2 => Undelivered::NoPort,
        3 => Undelivered::NoNode,
        4 => Undelivered::Overload,
        _ => Undelivered::Other,
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.0
    }
}

impl event::Source for Socket {
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
