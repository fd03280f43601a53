//! System calls of the configuration that std does not have.

#![deny(clippy::cast_possible_truncation)]

#[cfg(feature = "udp")]
use std::{io, net::Ipv4Addr, os::fd::AsRawFd, os::fd::BorrowedFd};

/// The effective user id of this process.
pub(super) fn effective_uid() -> u32 {
    // SAFETY: geteuid takes no arguments, touches no memory and cannot fail.
    unsafe { libc::geteuid() }
}

/// The kernel's host name; empty if it cannot be told. Unlike `/proc/sys`, the call is there
/// in every sandbox.
pub(super) fn hostname() -> String {
    let mut name = [0; 65];
    // SAFETY: the pointer and the length are those of `name`, without a last byte that stays zero; the kernel has 64 at most.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), 64) };
    let name = std::ffi::CStr::from_bytes_until_nul(&name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// A request about the interface of this name; `None` for a name that none can have.
#[cfg(feature = "udp")]
fn named(name: &str) -> Option<libc::ifreq> {
    // SAFETY: ifreq is plain data, for which zeros are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Some(request)
}

/// Asks the kernel about an interface. Any socket will do.
#[cfg(feature = "udp")]
fn ask(socket: BorrowedFd<'_>, what: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: each of the calls below reads a name and writes to the same ifreq, which outlives
    // the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), what as _, std::ptr::from_mut(request)) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The index of the interface of this name.
///
/// # Errors
/// As `netdevice(7)`: ENODEV if there is none.
#[cfg(feature = "udp")]
pub(super) fn interface_index(socket: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let mut request = named(name).ok_or(io::ErrorKind::InvalidInput)?;
    ask(socket, libc::SIOCGIFINDEX, &mut request)?;
    // SAFETY: the kernel has written this member.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };
    u32::try_from(index).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Whether the interface of this name is set up, and whether it has a carrier.
///
/// # Errors
/// As `netdevice(7)`: ENODEV if there is none.
#[cfg(feature = "udp")]
pub(super) fn interface_flags(socket: BorrowedFd<'_>, name: &str) -> io::Result<(bool, bool)> {
    let mut request = named(name).ok_or(io::ErrorKind::InvalidInput)?;
    ask(socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: the kernel has written this member.
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    Ok((flags & libc::IFF_UP != 0, flags & libc::IFF_RUNNING != 0))
}

/// The mask of the subnet of an interface's first IPv4 address.
///
/// # Errors
/// As `netdevice(7)`: EADDRNOTAVAIL if it has none.
#[cfg(feature = "udp")]
pub(super) fn interface_mask(socket: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let mut request = named(name).ok_or(io::ErrorKind::InvalidInput)?;
    ask(socket, libc::SIOCGIFNETMASK, &mut request)?;
    // SAFETY: the kernel has written an address of the family of IPv4.
    let mask = unsafe { (&raw const request.ifr_ifru).cast::<libc::sockaddr_in>().read_unaligned() };
    Ok(u32::from_be(mask.sin_addr.s_addr))
}

/// Addresses that are looked through for the interface of one.
#[cfg(feature = "udp")]
const ADDRESSES: usize = 64;

/// The index of the interface that has this address; `None` if it is not among the first.
#[cfg(feature = "udp")]
#[inline(never)]
pub(super) fn interface_of(socket: BorrowedFd<'_>, address: Ipv4Addr) -> Option<u32> {
    // SAFETY: ifreq is plain data, for which zeros are a value.
    let mut all: [libc::ifreq; ADDRESSES] = unsafe { std::mem::zeroed() };
    let mut list = libc::ifconf {
        ifc_len: size_of_val(&all).try_into().unwrap_or(0),
        ifc_ifcu: libc::__c_anonymous_ifc_ifcu { ifcu_req: all.as_mut_ptr() },
    };
    // SAFETY: the kernel writes whole entries, no more than `ifc_len` bytes of them, which is
    // the size of `all`; `list` and `all` outlive the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFCONF as _, &raw mut list) };
    let got = if done < 0 { 0 } else { list.ifc_len as usize / size_of::<libc::ifreq>() };
    let has_it = |one: &&libc::ifreq| {
        // SAFETY: the kernel has written an address of the family of IPv4.
        let its = unsafe { (&raw const one.ifr_ifru.ifru_addr).cast::<libc::sockaddr_in>().read_unaligned() };
        u32::from_be(its.sin_addr.s_addr) == u32::from(address)
    };
    let mut found = *all[..got.min(ADDRESSES)].iter().find(has_it)?;
    // A label of an address may stand there: its interface's name, a colon and more. The kernel
    // reads the name only.
    ask(socket, libc::SIOCGIFINDEX, &mut found).ok()?;
    // SAFETY: the kernel has written this member.
    u32::try_from(unsafe { found.ifr_ifru.ifru_ifindex }).ok()
}

/// Makes a socket send multicast by this interface.
///
/// # Errors
/// As `setsockopt(2)`.
#[cfg(feature = "udp")]
pub(super) fn send_multicast_by(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let request = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: 0 },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: index.try_into().map_err(|_| io::ErrorKind::InvalidInput)?,
    };
    // SAFETY: `request` outlives the call, and its length is its own.
    let done = unsafe {
        let len = libc::socklen_t::try_from(size_of_val(&request)).unwrap_or(0);
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MULTICAST_IF,
            (&raw const request).cast(),
            len,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The same over IPv6.
///
/// # Errors
/// As `setsockopt(2)`.
#[cfg(feature = "udp")]
pub(super) fn send_multicast6_by(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    // SAFETY: `index` outlives the call, and its length is its own.
    let done = unsafe {
        let (len, value) =
            (libc::socklen_t::try_from(size_of_val(&index)).unwrap_or(0), (&raw const index).cast());
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, value, len)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
