//! The system calls of the UDP transport that std does not have.
//!
//! Sockets are bound to every address, because a group's datagrams have the group's own.
//! What comes in by another interface than the configured ones is told apart here: a
//! datagram by its `IP_PKTINFO`, a connection by a filter in the kernel. `SO_BINDTODEVICE`
//! would be shorter, but older kernels say of what a node sends to itself that it comes in by the
//! loopback interface. It is used where a newer kernel wants a capability for the filter (6.18);
//! that one names the interface that has the address. A socket is bound to one interface only, so
//! where there are several, each connection is asked by which one it came ([`came_by`]).

#![deny(clippy::cast_possible_truncation)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::config::Family;
use crate::config::interface::LOOPBACK;
use crate::fsm::actions::{Arrival, Peer};
use crate::fsm::ways::Way;
use crate::limits;

/// The buffer of one datagram: one byte longer than a datagram may be, so that an oversize
/// datagram is detected even without the kernel's flag.
type DatagramSlot = [u8; limits::DATAGRAM_BYTES + 1];

/// The datagrams of one call, with their senders.
pub struct Batch {
    slots: Box<[DatagramSlot; limits::RECV_BATCH]>,
    lens: [usize; limits::RECV_BATCH],
    from: [From; limits::RECV_BATCH],
    way: [Way; limits::RECV_BATCH],
    is_elsewhere: [bool; limits::RECV_BATCH],
    link: [u8; limits::RECV_BATCH],
    count: usize,
}

/// Room for a sender's address of either family: IPv6 has the longer one, and both begin with the
/// family.
type From = libc::sockaddr_in6;

/// Room for the one control message of a datagram, an `IP_PKTINFO` or the longer `IPV6_PKTINFO`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// The length of a type, as the kernel takes it.
#[expect(clippy::cast_possible_truncation, reason = "checked right here")]
pub(super) const fn len_of<T>() -> libc::socklen_t {
    const { assert!(size_of::<T>() < 1 << 16) };
    size_of::<T>() as libc::socklen_t
}

/// A constant of 16 bits that its header has as a longer one.
#[expect(clippy::cast_possible_truncation, reason = "checked right here")]
pub(super) const fn code(constant: u32) -> u16 {
    assert!(constant < 1 << 16);
    constant as u16
}

// SAFETY: computes a length; no memory is involved.
const CONTROL_BYTES: usize = unsafe { libc::CMSG_SPACE(len_of::<libc::in6_pktinfo>()) } as usize;

impl Default for Batch {
    fn default() -> Self {
        // SAFETY: sockaddr_in6 is plain data, for which zeros are a value.
        let nowhere = unsafe { std::mem::zeroed() };
        Self {
            slots: Box::new([[0; limits::DATAGRAM_BYTES + 1]; limits::RECV_BATCH]),
            lens: [0; limits::RECV_BATCH],
            from: [nowhere; limits::RECV_BATCH],
            way: [Way::Unicast; limits::RECV_BATCH],
            is_elsewhere: [false; limits::RECV_BATCH],
            link: [0; limits::RECV_BATCH],
            count: 0,
        }
    }
}

impl Batch {
    /// Datagrams in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// True of a batch without datagrams.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A datagram and its sender. An oversize datagram is cut to a length that is still
    /// greater than [`limits::DATAGRAM_BYTES`].
    #[must_use]
    pub fn get(&self, at: usize) -> Option<Arrival<'_>> {
        if at >= self.count {
            return None;
        }
        let peer = Peer::Ip(sender(&self.from[at]));
        let datagram = &self.slots[at][..self.lens[at]];
        Some(match self.is_elsewhere[at] {
            false => Arrival::Datagram(datagram, peer),
            true => Arrival::OtherInterface(datagram, peer),
        })
    }

    /// By which way a datagram of the batch came.
    #[must_use]
    pub fn way(&self, at: usize) -> Option<Way> {
        self.way.get(at).copied()
    }

    /// The number of the link by which a datagram of the batch came; 0 too for what this host sends
    /// to itself by loopback.
    #[must_use]
    pub fn link(&self, at: usize) -> usize {
        self.link.get(at).copied().map_or(0, usize::from)
    }
}

/// The address that the kernel wrote of a sender.
fn sender(from: &From) -> SocketAddr {
    if libc::c_int::from(from.sin6_family) == libc::AF_INET6 {
        let address = Ipv6Addr::from(from.sin6_addr.s6_addr);
        return SocketAddrV6::new(address, u16::from_be(from.sin6_port), 0, from.sin6_scope_id).into();
    }
    // SAFETY: an address of IPv4 is shorter, and the kernel has written one.
    let from = unsafe { std::ptr::from_ref(from).cast::<libc::sockaddr_in>().read_unaligned() };
    SocketAddrV4::new(Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr)), u16::from_be(from.sin_port)).into()
}

/// Receives the datagrams that have arrived, without waiting. After a full batch there
/// may be more. Those that came in neither by one of these interfaces nor from this host are marked.
///
/// # Errors
/// As `recvmmsg(2)`; `WouldBlock` where there is nothing. The batch is empty then.
pub fn recv_batch(socket: BorrowedFd<'_>, links: &[u32; limits::LINKS], batch: &mut Batch) -> io::Result<()> {
    batch.count = 0;
    // SAFETY: mmsghdr and iovec are plain data, for which zeros are a value.
    let mut headers: [libc::mmsghdr; limits::RECV_BATCH] = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut vectors: [libc::iovec; limits::RECV_BATCH] = unsafe { std::mem::zeroed() };
    let mut controls = [Control([0; CONTROL_BYTES]); limits::RECV_BATCH];
    for (at, header) in headers.iter_mut().enumerate() {
        let slot = &mut batch.slots[at];
        vectors[at] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        header.msg_hdr.msg_iov = &raw mut vectors[at];
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = (&raw mut batch.from[at]).cast();
        header.msg_hdr.msg_namelen = len_of::<From>();
        header.msg_hdr.msg_control = (&raw mut controls[at]).cast();
        header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
    }
    // SAFETY: every header points to a slot and an address of this batch and to a control
    // buffer, which outlive the call, with their true lengths.
    let got = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            limits::RECV_BATCH.try_into().unwrap_or(0),
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let count = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    for (at, header) in headers[..count].iter().enumerate() {
        let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        batch.lens[at] = if is_cut { limits::DATAGRAM_BYTES + 1 } else { header.msg_len as usize };
        // SAFETY: the kernel filled this header, and its control buffer is still there.
        let arrived = unsafe { packet_info(&header.msg_hdr) };
        let Some(arrived) = arrived else {
            (batch.is_elsewhere[at], batch.way[at]) = (true, Way::Unicast);
            continue;
        };
        // The kernel drops what comes off a wire with an address of this host as its source, but
        // only of IPv4.
        let from = sender(&batch.from[at]).ip();
        let is_own = from.is_ipv4() && arrived.to == from;
        let link = links.iter().position(|index| *index == arrived.interface);
        batch.link[at] = link.and_then(|link| link.try_into().ok()).unwrap_or_default();
        batch.is_elsewhere[at] = !(is_own || link.is_some() || arrived.interface == LOOPBACK);
        batch.way[at] = if arrived.to.is_multicast() { Way::Multicast } else { Way::Unicast };
    }
    batch.count = count;
    Ok(())
}

/// How a datagram came in.
struct Arrived {
    /// The address that it was sent to.
    to: IpAddr,
    /// The index of the interface.
    interface: u32,
}

/// The address that a datagram was sent to and the interface that it came in by; none if the
/// kernel does not say. For what this host sends to itself that is the interface which has the
/// address, and loopback for an address of loopback's.
///
/// # Safety
/// `header` is as recvmsg(2) left it, and the buffers that it points to are still there.
unsafe fn packet_info(header: &libc::msghdr) -> Option<Arrived> {
    // SAFETY: the caller vouches for the header; the control message is read as cmsg(3)
    // says, once its type and length say what it is, and the kernel cuts off none that it begins.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        if message.is_null() {
            return None;
        }
        let kind = ((*message).cmsg_level, (*message).cmsg_type);
        let has = |size: u32| (*message).cmsg_len as usize >= libc::CMSG_LEN(size) as usize;
        let data = libc::CMSG_DATA(message);
        match kind {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if has(len_of::<libc::in_pktinfo>()) => {
                let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                let to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                Some(Arrived { to: to.into(), interface: u32::try_from(info.ipi_ifindex).ok()? })
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if has(len_of::<libc::in6_pktinfo>()) => {
                let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                let to = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                // An unsigned number by some C libraries.
                Some(Arrived { to: to.into(), interface: info.ipi6_ifindex as u32 })
            }
            _ => None,
        }
    }
}

/// A socket for datagrams to a port of every address of a family; those of IPv6 take no IPv4. It
/// tells with each datagram by which interface it came in. Without blocking, close-on-exec.
///
/// # Errors
/// As `socket(2)`, `setsockopt(2)` and `bind(2)`.
pub fn datagrams(family: Family, port: u16) -> io::Result<UdpSocket> {
    let socket = open(family, libc::SOCK_DGRAM)?;
    tell_interface(socket.as_fd(), family)?;
    bind(socket.as_fd(), family, port)?;
    Ok(UdpSocket::from(socket))
}

/// What an option is set to that is on or off.
pub(super) const ON: libc::c_int = 1;

/// Has a socket tell by which interface each datagram, or the connection, came in.
fn tell_interface(socket: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, &ON),
        Family::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &ON),
    }
}

/// The interface by which a connection came in to a listener that is one of several links; `None`
/// if the kernel does not say.
pub fn came_by(stream: BorrowedFd<'_>, family: Family) -> Option<u32> {
    // <linux/in.h>: IP_PKTOPTIONS. <linux/in6.h>: IPV6_2292PKTOPTIONS.
    let (level, option) = match family {
        Family::V4 => (libc::IPPROTO_IP, 9),
        Family::V6 => (libc::IPPROTO_IPV6, 6),
    };
    let mut control = Control([0; CONTROL_BYTES]);
    let mut len = CONTROL_BYTES.try_into().unwrap_or(0);
    // SAFETY: `control` and `len` outlive the call, with their true lengths; the header then points
    // to the control messages that the kernel has written, all zeros where there is none.
    unsafe {
        let buffer = (&raw mut control).cast();
        let done = libc::getsockopt(stream.as_raw_fd(), level, option, buffer, &raw mut len);
        let mut header: libc::msghdr = std::mem::zeroed();
        (header.msg_control, header.msg_controllen) = (buffer, len as _);
        (done == 0).then(|| packet_info(&header))?.map(|arrived| arrived.interface)
    }
}

/// A socket of a family; one of IPv6 has nothing to do with IPv4.
pub(super) fn open(family: Family, kind: libc::c_int) -> io::Result<OwnedFd> {
    let domain = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    // SAFETY: the new descriptor is owned by nobody else.
    let socket = unsafe {
        let fd = libc::socket(domain, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    if family == Family::V6 {
        set(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &ON)?;
    }
    Ok(socket)
}

/// Binds a socket to a port of every address.
pub(super) fn bind(socket: BorrowedFd<'_>, family: Family, port: u16) -> io::Result<()> {
    match family {
        Family::V4 => bind_to(socket, Ipv4Addr::UNSPECIFIED.into(), port),
        Family::V6 => bind_to(socket, Ipv6Addr::UNSPECIFIED.into(), port),
    }
}

/// Binds a socket to an address.
pub(super) fn bind_to(socket: BorrowedFd<'_>, address: IpAddr, port: u16) -> io::Result<()> {
    // SAFETY: sockaddr_in6 is plain data, for which zeros are a value.
    let mut any: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    // Both families have the port at the same place, and IPv4's address is where IPv6 has its flow.
    any.sin6_port = port.to_be();
    let (name, len) = match address {
        IpAddr::V4(address) => {
            any.sin6_flowinfo = u32::from(address).to_be();
            (const { code(libc::AF_INET.cast_unsigned()) }, len_of::<libc::sockaddr_in>())
        }
        IpAddr::V6(address) => {
            any.sin6_addr.s6_addr = address.octets();
            (const { code(libc::AF_INET6.cast_unsigned()) }, len_of::<libc::sockaddr_in6>())
        }
    };
    any.sin6_family = name;
    // SAFETY: `any` outlives the call, and `len` is no more than its length.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const any).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Listens for TCP connections on a port of every address, but takes only those that come
/// in by one of these interfaces or from this host. The kernel drops all other packets unanswered, those
/// of accepted connections too, which inherit the filter. Without blocking, close-on-exec.
///
/// # Errors
/// As `socket(2)`, `setsockopt(2)`, `bind(2)` and `listen(2)`.
pub fn listen(
    family: Family,
    port: u16,
    links: &[u32; limits::LINKS],
    are_several: bool,
) -> io::Result<TcpListener> {
    const BACKLOG: libc::c_int = 1024;
    let socket = open(family, libc::SOCK_STREAM)?;
    // A restarted daemon need not wait until old connections are forgotten.
    set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &ON)?;
    if are_several {
        tell_interface(socket.as_fd(), family)?;
    }
    match admit(socket.as_fd(), links) {
        Err(error) if are_several && error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &links[0])?;
        }
        admitted => admitted?,
    }
    bind(socket.as_fd(), family, port)?;
    // SAFETY: the call takes no memory.
    let done = unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) };
    if done == 0 { Ok(TcpListener::from(socket)) } else { Err(io::Error::last_os_error()) }
}

/// Makes a listener take only what comes in by one of these interfaces or from this host, from now
/// on.
///
/// # Errors
/// As `setsockopt(2)`: `PermissionDenied` where a newer kernel wants a capability for it.
pub fn admit(listener: BorrowedFd<'_>, links: &[u32; limits::LINKS]) -> io::Result<()> {
    let mut filter = interface_filter(links);
    let program = libc::sock_fprog { len: filter.len().try_into().unwrap_or(0), filter: filter.as_mut_ptr() };
    set(listener, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// A classic BPF program that keeps a packet that came in by one of these or by loopback,
/// and drops any other. It needs no privilege before Linux 6.18.
fn interface_filter(links: &[u32; limits::LINKS]) -> [libc::sock_filter; limits::LINKS + 4] {
    // <linux/filter.h>: extra data of the packet is loaded from this negative offset.
    const ARRIVAL_INTERFACE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX) as u32;
    const LOAD: u16 = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
    const EQUAL: u16 = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    const KEEP: u16 = code(libc::BPF_RET | libc::BPF_K);
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // Each comparison that holds jumps over those that are left, and the drop.
    std::array::from_fn(|at| match at {
        0 => step(LOAD, 0, 0, ARRIVAL_INTERFACE),
        at if at <= limits::LINKS + 1 => {
            let left = u8::try_from(limits::LINKS + 2 - at).unwrap_or(0);
            step(EQUAL, left, 0, links.get(at - 1).copied().unwrap_or(LOOPBACK))
        }
        at if at == limits::LINKS + 2 => step(KEEP, 0, 0, 0),
        _ => step(KEEP, 0, 0, u32::MAX),
    })
}

/// Sets an option of a socket.
///
/// # Errors
/// As `setsockopt(2)`.
pub(super) fn set<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: `value`, and what it points to, outlives the call, and its length is its own.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), len_of::<T>())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel find out within 6 s that a connection on which this end waits is cut: another
/// link may be there. Its peer's kernel answers, whatever its program does.
pub fn keep_alive(stream: BorrowedFd<'_>) {
    const SECONDS: [(libc::c_int, libc::c_int); 3] =
        [(libc::TCP_KEEPIDLE, 2), (libc::TCP_KEEPINTVL, 1), (libc::TCP_KEEPCNT, 4)];
    for (option, value) in SECONDS {
        let _ = set(stream, libc::IPPROTO_TCP, option, &value);
    }
    let _ = set(stream, libc::SOL_SOCKET, libc::SO_KEEPALIVE, &ON);
}
