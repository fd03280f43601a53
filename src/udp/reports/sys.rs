//! The socket of rtnetlink(7).

#![deny(clippy::cast_possible_truncation)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::udp::sys::{code, len_of};

/// A socket on which the kernel reports changes of interfaces and of addresses. Without
/// blocking, close-on-exec.
///
/// # Errors
/// As `socket(2)` and `bind(2)`.
pub(super) fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the new descriptor is owned by nobody else. sockaddr_nl is plain data, for which
    // zeros are a value; `to` outlives the call, and its length is its own.
    unsafe {
        let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(fd);
        let mut to: libc::sockaddr_nl = std::mem::zeroed();
        to.nl_family = const { code(libc::AF_NETLINK.cast_unsigned()) };
        to.nl_groups = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
        match libc::bind(fd, (&raw const to).cast(), len_of::<libc::sockaddr_nl>()) {
            0 => Ok(socket),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The beginning of the next report, which the kernel cuts to the room: its length there, or
/// `None` if it is not the kernel's.
///
/// # Errors
/// As `recvfrom(2)`: `WouldBlock` where there is none, ENOBUFS where some were dropped.
pub(super) fn next(socket: BorrowedFd<'_>, head: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: sockaddr_nl is plain data, for which zeros are a value; `head`, `from` and `len`
    // outlive the call, with their true lengths.
    let (got, from) = unsafe {
        let mut from: libc::sockaddr_nl = std::mem::zeroed();
        let mut len = len_of::<libc::sockaddr_nl>();
        let (room, flags) = (head.len(), libc::MSG_DONTWAIT);
        let (fd, source) = (socket.as_raw_fd(), (&raw mut from).cast());
        (libc::recvfrom(fd, head.as_mut_ptr().cast(), room, flags, source, &raw mut len), from)
    };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    // Any process may send to the socket; the kernel's port is 0.
    Ok((from.nl_pid == 0).then_some(got))
}
