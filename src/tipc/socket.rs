//! TIPC sockets. A socket can be bound to any number of service ranges.
//!
//! Sockets are non-blocking and close-on-exec. Register them with mio to wait.

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
/// The most bytes that come back of an undelivered message.
pub const RETURNED_BYTES: usize = 1_024;
/// Room for the control messages of a returned message: reason, data and address.
const CONTROL_BYTES: usize = 2 * sys::CONTROL_BYTES + RETURNED_BYTES + 16;

/// Why TIPC is not available.
#[derive(Debug)]
pub enum SocketError {
    /// The kernel has no TIPC, or it is not loaded.
    NoTipc,
    /// The kernel denies this program TIPC sockets.
    NotAllowed(io::Error),
    /// There is no bearer, and so no other node can be reached.
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
                "TIPC sockets are denied to this program ({cause}): a security policy of this host denies them; \
                 `journalctl -k -g 'denied|audit'` shows which, and it must allow the address family AF_TIPC (30)",
            ),
            Self::NoBearer => f.write_str(
                "TIPC has no bearer here, and reaches no other node: run `tipc bearer enable media eth device \
                 IFACE` with the interface that leads to the other nodes",
            ),
            Self::Other(cause) => write!(f, "no TIPC socket can be made: {cause}"),
        }
    }
}

impl std::error::Error for SocketError {}

/// A received message, or one of ours that was returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes in the buffer, of the message or of the returned data. Bytes that did not
    /// fit are lost.
    pub len: usize,
    /// The message was longer than the buffer.
    pub is_cut: bool,
    /// The socket that sent the message, or that refused ours.
    pub from: Option<SocketAddress>,
    /// Why our message was returned, and how many bytes of it, at most
    /// [`RETURNED_BYTES`].
    pub undelivered: Option<(Undelivered, usize)>,
    /// The service or range that the message was sent to, if any.
    pub destination: Option<ServiceRange>,
}

/// A TIPC socket.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// A socket for connectionless messages, reliable and in order (`SOCK_RDM`). An
    /// undelivered message is returned: see [`Received::undelivered`].
    ///
    /// A multicast goes to each node as a message of its own. By default the kernel
    /// changes between that and broadcast with the number of destinations, and a receiver
    /// delivers nothing until it has a notice of the change both ways. One whose binding
    /// the sender did not yet know gets a single notice, and then no multicast of that
    /// socket any more (Linux 6.1, `tipc_mcast_filter_msg`).
    ///
    /// # Errors
    /// As `socket(2)`; [`SocketError`] explains it.
    pub fn rdm() -> io::Result<Self> {
        let socket = Self(sys::socket(libc::SOCK_RDM)?);
        sys::have_returned(socket.as_fd())?;
        sys::replicate_multicasts(socket.as_fd())?;
        Ok(socket)
    }

    /// A socket whose multicasts leave each bearer once, as broadcasts of TIPC, and are dropped where they cannot be
    /// delivered.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub fn broadcast() -> io::Result<Self> {
        let socket = Self(sys::socket(libc::SOCK_RDM)?);
        sys::broadcast_multicasts(socket.as_fd())?;
        Ok(socket)
    }

    /// A socket for messages over a connection (`SOCK_SEQPACKET`).
    ///
    /// # Errors
    /// As `socket(2)`.
    pub fn seqpacket() -> io::Result<Self> {
        sys::socket(libc::SOCK_SEQPACKET).map(Self)
    }

    /// A socket for bytes over a connection (`SOCK_STREAM`), for
    /// [`Stream`](super::stream::Stream) and [`Listener`](super::stream::Listener).
    ///
    /// # Errors
    /// As `socket(2)`.
    pub fn stream() -> io::Result<Self> {
        sys::socket(libc::SOCK_STREAM).map(Self)
    }

    /// Adds a binding to a range. Binding twice to the same range makes two bindings.
    ///
    /// # Errors
    /// As `bind(2)`: `EACCES` for a type below 64, `EINVAL` for a range that is
    /// backwards.
    pub fn bind(&self, range: &ServiceRange, scope: Scope) -> io::Result<()> {
        sys::bind(self.as_fd(), &Sockaddr::binding(range, scope))
    }

    /// Removes one binding, with the range and scope that it was made with.
    ///
    /// # Errors
    /// As `bind(2)`: `EINVAL` if there is no such binding.
    pub fn unbind(&self, range: &ServiceRange, scope: Scope) -> io::Result<()> {
        sys::bind(self.as_fd(), &Sockaddr::unbinding(range, scope))
    }

    /// Removes all bindings.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub fn unbind_all(&self) -> io::Result<()> {
        sys::unbind_all(self.as_fd())
    }

    /// The socket's own address. The node is 0 until a second after the first bearer.
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
    /// As `sendto(2)`: `WouldBlock` if the link is congested, `HostUnreachable` if no
    /// socket is bound there or the node is unknown.
    pub fn send_to(&self, message: &[u8], to: &Destination) -> io::Result<usize> {
        sys::send_to(self.as_fd(), message, &Sockaddr::from(to))
    }

    /// Receives a message, without waiting.
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
            // The returned data is in a control message, and the message is empty.
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

    /// Begins to connect, without waiting. The socket is writable once it is done;
    /// [`Stream::take_error`](super::stream::Stream::take_error) then gives the result.
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

/// The kernel's reason for returning a message.
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
