//! The system calls of the UDP transport that std does not have.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::fsm::actions::{Arrival, Peer};
use crate::limits;

/// The buffer of one datagram: one byte longer than a datagram may be, so that an oversize
/// datagram is detected even without the kernel's flag.
type DatagramSlot = [u8; limits::DATAGRAM_BYTES + 1];

/// The datagrams of one call, with their senders.
pub struct Batch {
    slots: Box<[DatagramSlot; limits::RECV_BATCH]>,
    lens: [usize; limits::RECV_BATCH],
    from: [libc::sockaddr_in; limits::RECV_BATCH],
    count: usize,
}

impl Default for Batch {
    fn default() -> Self {
        // SAFETY: sockaddr_in is plain data, for which zeros are a value.
        let nowhere = unsafe { std::mem::zeroed() };
        Self {
            slots: Box::new([[0; limits::DATAGRAM_BYTES + 1]; limits::RECV_BATCH]),
            lens: [0; limits::RECV_BATCH],
            from: [nowhere; limits::RECV_BATCH],
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
        let from = &self.from[at];
        let address = Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr));
        let peer = SocketAddr::V4(SocketAddrV4::new(address, u16::from_be(from.sin_port)));
        Some(Arrival::Datagram(&self.slots[at][..self.lens[at]], Peer::Ip(peer)))
    }
}

/// Receives the datagrams that have arrived, without waiting. After a full batch there
/// may be more.
///
/// # Errors
/// As `recvmmsg(2)`; `WouldBlock` where there is nothing. The batch is empty then.
pub fn recv_batch(socket: BorrowedFd<'_>, batch: &mut Batch) -> io::Result<()> {
    batch.count = 0;
    // SAFETY: mmsghdr and iovec are plain data, for which zeros are a value.
    let mut headers: [libc::mmsghdr; limits::RECV_BATCH] = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut vectors: [libc::iovec; limits::RECV_BATCH] = unsafe { std::mem::zeroed() };
    for (at, header) in headers.iter_mut().enumerate() {
        let slot = &mut batch.slots[at];
        vectors[at] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        header.msg_hdr.msg_iov = &raw mut vectors[at];
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = (&raw mut batch.from[at]).cast();
        header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    }
    // SAFETY: every header points to a slot and an address of this batch, which
    // outlive the call, with their true lengths.
    let got = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            limits::RECV_BATCH as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let count = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    for (len, header) in batch.lens.iter_mut().zip(&headers[..count]) {
        let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        *len = if is_cut { limits::DATAGRAM_BYTES + 1 } else { header.msg_len as usize };
    }
    batch.count = count;
    Ok(())
}

/// The index of a network interface.
///
/// # Errors
/// There is no interface of that name.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `name` is a C string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 { Err(io::Error::last_os_error()) } else { Ok(index) }
}

fn set<T>(socket: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` outlives the call and its length is its own.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Joins `group` on an interface, and receives no other groups.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn join(socket: BorrowedFd<'_>, group: Ipv4Addr, interface: u32) -> io::Result<()> {
    set(socket, libc::IP_MULTICAST_ALL, &0 as &libc::c_int)?;
    set(socket, libc::IP_ADD_MEMBERSHIP, &request(group, interface)?)
}

/// Sends a socket's multicast on an interface with this TTL. Multicast is looped back,
/// because a node may have both roles.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn send_multicast_by(socket: BorrowedFd<'_>, interface: u32, ttl: u8) -> io::Result<()> {
    set(socket, libc::IP_MULTICAST_IF, &request(Ipv4Addr::UNSPECIFIED, interface)?)?;
    set(socket, libc::IP_MULTICAST_TTL, &libc::c_int::from(ttl))?;
    set(socket, libc::IP_MULTICAST_LOOP, &1 as &libc::c_int)
}

fn request(group: Ipv4Addr, interface: u32) -> io::Result<libc::ip_mreqn> {
    Ok(libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: u32::from(group).to_be() },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: interface.try_into().map_err(|_| io::ErrorKind::InvalidInput)?,
    })
}
