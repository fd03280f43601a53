//! The system calls of TIPC, and the kernel's structures as `<linux/tipc.h>` of
//! Linux 6.1 (include/uapi/linux/tipc.h) lays them out.
//!
//! std's socket types do the rest, which works on any descriptor: receive, send, timeouts.

#![deny(clippy::cast_possible_truncation)]

use std::io;
use std::mem::{offset_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_ulong, socklen_t};

use super::address::{Destination, Scope, ServiceRange, SocketAddress};
use super::{event, subscription};

/// An address, the kernel's `struct sockaddr_tipc`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Sockaddr {
    family: u16,
    kind: u8,
    scope: i8,
    /// `id` is ref and node; `nameseq` type, lower and upper; `name` type,
    /// instance and domain.
    words: [u32; 3],
}

const RANGE: u8 = 1;
const SERVICE: u8 = 2;
const SOCKET: u8 = 3;

/// The kernel's `struct tipc_subscr`: [`subscription`] writes its bytes.
#[repr(C)]
struct Subscr {
    seq: [u32; 3],
    timeout: u32,
    filter: u32,
    usr_handle: [u8; 8],
}

/// The kernel's `struct tipc_event`: [`event`] reads its bytes.
#[repr(C)]
struct RawEvent {
    event: u32,
    found_lower: u32,
    found_upper: u32,
    port: [u32; 2],
    s: Subscr,
}

/// The kernel's `struct tipc_sioc_ln_req`.
#[repr(C)]
struct LinkNameRequest {
    peer: u32,
    bearer_id: u32,
    linkname: [u8; LINK_NAME_BYTES],
}

/// The kernel's `struct tipc_sioc_nodeid_req`.
#[repr(C)]
struct NodeIdRequest {
    peer: u32,
    node_id: [u8; NODE_ID_BYTES],
}

/// A node's identity, in bytes (`TIPC_NODEID_LEN`).
pub const NODE_ID_BYTES: usize = 16;
/// A link's name with its end, in bytes (`TIPC_MAX_LINK_NAME`).
pub const LINK_NAME_BYTES: usize = 68;

const _: () = {
    assert!(size_of::<Sockaddr>() == 16);
    assert!(offset_of!(Sockaddr, kind) == 2);
    assert!(offset_of!(Sockaddr, scope) == 3);
    assert!(offset_of!(Sockaddr, words) == 4);
    assert!(size_of::<Subscr>() == subscription::BYTES);
    assert!(offset_of!(Subscr, seq) == 0);
    assert!(offset_of!(Subscr, timeout) == 12);
    assert!(offset_of!(Subscr, filter) == subscription::FILTER_AT);
    assert!(offset_of!(Subscr, usr_handle) == 20);
    assert!(size_of::<RawEvent>() == event::BYTES);
    assert!(offset_of!(RawEvent, event) == 0);
    assert!(offset_of!(RawEvent, found_lower) == 4);
    assert!(offset_of!(RawEvent, found_upper) == 8);
    assert!(offset_of!(RawEvent, port) == 12);
    assert!(offset_of!(RawEvent, s) == event::SUBSCRIPTION_AT);
    assert!(size_of::<LinkNameRequest>() == 76);
    assert!(offset_of!(LinkNameRequest, linkname) == 8);
    assert!(size_of::<NodeIdRequest>() == 20);
    assert!(offset_of!(NodeIdRequest, node_id) == 4);
};

const TIPC_ERRINFO: c_int = 1;
const TIPC_RETDATA: c_int = 2;
const TIPC_DESTNAME: c_int = 3;
const TIPC_DEST_DROPPABLE: c_int = 129;
const TIPC_MCAST_BROADCAST: c_int = 133;
const TIPC_MCAST_REPLICAST: c_int = 134;
const SIOCGETLINKNAME: u32 = 0x89e0;
const SIOCGETNODEID: u32 = 0x89e1;

impl Sockaddr {
    const fn new(kind: u8, scope: i8, words: [u32; 3]) -> Self {
        Self { family: FAMILY, kind, scope, words }
    }

    /// The address for a binding to a range with a scope.
    #[must_use]
    pub const fn binding(range: &ServiceRange, scope: Scope) -> Self {
        // TIPC_CLUSTER_SCOPE, TIPC_NODE_SCOPE
        let scope = match scope {
            Scope::Cluster => 2,
            Scope::Node => 3,
        };
        Self::new(RANGE, scope, [range.service_type, range.lower, range.upper])
    }

    /// The address that removes the binding: the kernel expects the negated scope.
    #[must_use]
    pub const fn unbinding(range: &ServiceRange, scope: Scope) -> Self {
        let binding = Self::binding(range, scope);
        Self::new(RANGE, -binding.scope, binding.words)
    }

    /// The socket address, if this is one.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddress> {
        let is_socket = self.family == FAMILY && self.kind == SOCKET;
        is_socket.then_some(SocketAddress { port: self.words[0], node: self.words[1] })
    }
}

impl From<&Destination> for Sockaddr {
    fn from(destination: &Destination) -> Self {
        match *destination {
            Destination::Service { service_type, instance, domain } => {
                Self::new(SERVICE, 0, [service_type, instance, domain])
            }
            Destination::Range(ServiceRange { service_type, lower, upper }) => {
                Self::new(RANGE, 0, [service_type, lower, upper])
            }
            Destination::Socket(SocketAddress { port, node }) => Self::new(SOCKET, 0, [port, node, 0]),
        }
    }
}

const SOCKADDR_LEN: socklen_t = len_of::<Sockaddr>();

/// The family of an address.
#[expect(clippy::cast_possible_truncation, reason = "a family has 16 bits in an address")]
const FAMILY: u16 = libc::AF_TIPC as u16;

/// The length of a type, as the kernel takes it.
#[expect(clippy::cast_possible_truncation, reason = "checked right here")]
const fn len_of<T>() -> socklen_t {
    const { assert!(size_of::<T>() < 1 << 16) };
    size_of::<T>() as socklen_t
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes a socket, non-blocking and close-on-exec.
///
/// # Errors
/// As `socket(2)`.
pub fn socket(kind: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::socket(libc::AF_TIPC, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
    // SAFETY: the descriptor is new and has no other owner.
    check(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes the kernel return undelivered messages to the socket.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn have_returned(socket: BorrowedFd<'_>) -> io::Result<()> {
    let is_droppable: u32 = 0;
    // SAFETY: the value outlives the call and its length is its own.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_TIPC,
            TIPC_DEST_DROPPABLE,
            (&raw const is_droppable).cast(),
            len_of::<u32>(),
        )
    })
    .map(|_| ())
}

/// Makes the kernel send a multicast as one message to each node that has a binding.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn replicate_multicasts(socket: BorrowedFd<'_>) -> io::Result<()> {
    choose(socket, TIPC_MCAST_REPLICAST)
}

/// Makes the kernel send a multicast once by each bearer.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn broadcast_multicasts(socket: BorrowedFd<'_>) -> io::Result<()> {
    choose(socket, TIPC_MCAST_BROADCAST)
}

fn choose(socket: BorrowedFd<'_>, option: c_int) -> io::Result<()> {
    // SAFETY: these options have no value, and the kernel accepts no pointer to one.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_TIPC, option, std::ptr::null(), 0) })
        .map(|_| ())
}

/// Binds a socket to an address, or unbinds it from one.
///
/// # Errors
/// As `bind(2)`.
pub fn bind(socket: BorrowedFd<'_>, address: &Sockaddr) -> io::Result<()> {
    // SAFETY: the address outlives the call and its length is its own.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const *address).cast(), SOCKADDR_LEN) }).map(|_| ())
}

/// Removes all bindings of a socket.
///
/// # Errors
/// As `bind(2)`.
pub fn unbind_all(socket: BorrowedFd<'_>) -> io::Result<()> {
    let unread = Sockaddr::new(RANGE, 0, [0; 3]);
    // SAFETY: of a length of 0 the kernel reads nothing.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const unread).cast(), 0) }).map(|_| ())
}

/// Makes a bound socket accept connections. TIPC does not bound the backlog.
///
/// # Errors
/// As `listen(2)`.
pub fn listen(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::listen(socket.as_raw_fd(), 0) }).map(|_| ())
}

/// Accepts a pending connection, non-blocking and close-on-exec.
///
/// # Errors
/// As `accept(2)`.
pub fn accept(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the address is not asked for.
    let fd = unsafe { libc::accept4(socket.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    // SAFETY: the descriptor is new and has no other owner.
    check(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Connects a socket.
///
/// # Errors
/// As `connect(2)`; `EINPROGRESS` is one.
pub fn connect(socket: BorrowedFd<'_>, to: &Sockaddr) -> io::Result<()> {
    // SAFETY: the address outlives the call and its length is its own.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const *to).cast(), SOCKADDR_LEN) }).map(|_| ())
}

/// A socket's own address, or that of the one it is connected to.
///
/// # Errors
/// As `getsockname(2)`, `getpeername(2)`.
pub fn name(socket: BorrowedFd<'_>, of_peer: bool) -> io::Result<Sockaddr> {
    let mut address = Sockaddr::new(0, 0, [0; 3]);
    let mut len = SOCKADDR_LEN;
    let ask = if of_peer { libc::getpeername } else { libc::getsockname };
    // SAFETY: `address` has room for `len` bytes, and any bytes are a value of it.
    check(unsafe { ask(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut len) })?;
    Ok(address)
}

/// Sends a message.
///
/// # Errors
/// As `sendto(2)`.
pub fn send_to(socket: BorrowedFd<'_>, message: &[u8], to: &Sockaddr) -> io::Result<usize> {
    // SAFETY: the message and the address outlive the call, with their own lengths.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            libc::MSG_NOSIGNAL,
            (&raw const *to).cast(),
            SOCKADDR_LEN,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// The metadata of a received message, with room for `BYTES` of control messages.
#[repr(C)]
pub struct Envelope<const BYTES: usize> {
    // The first field, aligned for the header of a control message.
    control: ControlBuffer<BYTES>,
    from: Sockaddr,
    from_len: socklen_t,
    control_len: usize,
    flags: c_int,
    /// Bytes of the message, at most as many as there was room for.
    pub len: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ControlBuffer<const BYTES: usize> {
    align: [libc::cmsghdr; 0],
    bytes: [u8; BYTES],
}

/// Room for one control message other than returned data: the destination of a message,
/// or the reason for its return.
pub const CONTROL_BYTES: usize = 32;
const _: () = {
    // SAFETY: only computes.
    assert!(unsafe { libc::CMSG_SPACE(12) } as usize <= CONTROL_BYTES);
};

/// Why a message was returned, in the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrInfo {
    /// `TIPC_ERR_NO_NAME` and so on.
    pub code: u32,
    /// Bytes of the message that are returned.
    pub returned_len: u32,
}

impl<const BYTES: usize> Envelope<BYTES> {
    /// An envelope before any message.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            control: ControlBuffer { align: [], bytes: [0; BYTES] },
            from: Sockaddr::new(0, 0, [0; 3]),
            from_len: 0,
            control_len: 0,
            flags: 0,
            len: 0,
        }
    }

    /// The socket that sent it; of a returned message, the one that refused it.
    #[must_use]
    pub fn from(&self) -> Option<SocketAddress> {
        self.from.socket().filter(|_| self.from_len >= SOCKADDR_LEN)
    }

    /// The message was longer than the room for it.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.flags & libc::MSG_TRUNC != 0
    }

    /// The reason for the return, if this is one of our messages returned.
    #[must_use]
    pub fn err_info(&self) -> Option<ErrInfo> {
        let data = self.control(TIPC_ERRINFO)?.first_chunk::<8>()?;
        let [a, b, c, d, e, f, g, h] = *data;
        let (code, returned_len) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
        Some(ErrInfo { code, returned_len })
    }

    /// The returned data, as far as it fits.
    #[must_use]
    pub fn returned(&self) -> Option<&[u8]> {
        self.control(TIPC_RETDATA)
    }

    /// The service, or range of them, that it was sent to, if it was sent to one.
    #[must_use]
    pub fn destination(&self) -> Option<ServiceRange> {
        let data = self.control(TIPC_DESTNAME)?.first_chunk::<12>()?;
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *data;
        let word = u32::from_ne_bytes;
        let (lower, upper) = (word([e, f, g, h]), word([i, j, k, l]));
        Some(ServiceRange { service_type: word([a, b, c, d]), lower, upper })
    }

    #[allow(clippy::unnecessary_cast, reason = "with musl these lengths are u32")]
    fn control(&self, kind: c_int) -> Option<&[u8]> {
        const HEADER: usize = size_of::<libc::cmsghdr>();
        let mut rest = self.control.bytes.get(..self.control_len)?;
        loop {
            let header_bytes = rest.get(..HEADER)?;
            // SAFETY: these are as many bytes as a cmsghdr has, and any are a value
            // of it; the read does not ask for alignment.
            let header = unsafe { header_bytes.as_ptr().cast::<libc::cmsghdr>().read_unaligned() };
            let len = header.cmsg_len as usize;
            // SAFETY: only computes.
            let data_at = unsafe { libc::CMSG_LEN(0) } as usize;
            let data = rest.get(data_at..len)?;
            if header.cmsg_level == libc::SOL_TIPC && header.cmsg_type == kind {
                return Some(data);
            }
            // SAFETY: only computes; a length that does not fit ends the walk.
            let step = unsafe { libc::CMSG_SPACE(u32::try_from(data.len()).ok()?) } as usize;
            rest = rest.get(step..)?;
        }
    }
}

impl<const BYTES: usize> Default for Envelope<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

/// Receives up to `N` messages without waiting, and returns their number.
///
/// # Errors
/// As `recvmmsg(2)`; `WouldBlock` where there is none.
#[allow(clippy::unnecessary_cast, reason = "with musl these lengths are u32")]
pub fn recv_many<const N: usize, const BYTES: usize>(
    socket: BorrowedFd<'_>,
    slots: [&mut [u8]; N],
    envelopes: &mut [Envelope<BYTES>; N],
) -> io::Result<usize> {
    // SAFETY: mmsghdr and iovec are plain data, for which zeros are a value.
    let mut headers: [libc::mmsghdr; N] = unsafe { zeroed() };
    // SAFETY: as above.
    let mut vectors: [libc::iovec; N] = unsafe { zeroed() };
    let rows = headers.iter_mut().zip(&mut vectors).zip(slots).zip(&mut *envelopes);
    for (((header, vector), slot), envelope) in rows {
        *vector = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        header.msg_hdr.msg_iov = &raw mut *vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = (&raw mut envelope.from).cast();
        header.msg_hdr.msg_namelen = SOCKADDR_LEN;
        header.msg_hdr.msg_control = (&raw mut envelope.control.bytes).cast();
        header.msg_hdr.msg_controllen = BYTES as _;
    }
    // SAFETY: every header points to a vector, a slot, an address and a control
    // buffer that outlive the call, with their true lengths.
    let got = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            N.try_into().unwrap_or(0),
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let count = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    for (envelope, header) in envelopes.iter_mut().zip(&headers).take(count) {
        envelope.len = header.msg_len as usize;
        envelope.from_len = header.msg_hdr.msg_namelen;
        envelope.control_len = header.msg_hdr.msg_controllen as usize;
        envelope.flags = header.msg_hdr.msg_flags;
    }
    Ok(count)
}

/// The identity of this node or of a node that it knows.
///
/// # Errors
/// As `ioctl(2)`; `EADDRNOTAVAIL` where the node is not known.
pub fn node_id(socket: BorrowedFd<'_>, node: u32) -> io::Result<[u8; NODE_ID_BYTES]> {
    let mut request = NodeIdRequest { peer: node, node_id: [0; NODE_ID_BYTES] };
    // SAFETY: the request outlives the call and is what this ioctl reads and writes.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), c_ulong::from(SIOCGETNODEID) as _, &raw mut request) })?;
    Ok(request.node_id)
}

/// The name of the link to a node by one of our bearers.
///
/// # Errors
/// As `ioctl(2)`; `EADDRNOTAVAIL` where there is no such link.
pub fn link_name(socket: BorrowedFd<'_>, node: u32, bearer: u32) -> io::Result<[u8; LINK_NAME_BYTES]> {
    let mut request = LinkNameRequest { peer: node, bearer_id: bearer, linkname: [0; LINK_NAME_BYTES] };
    // SAFETY: the request outlives the call and is what this ioctl reads and writes.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), c_ulong::from(SIOCGETLINKNAME) as _, &raw mut request) })?;
    Ok(request.linkname)
}
