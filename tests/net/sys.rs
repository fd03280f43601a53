//! System calls of the test rig that std does not provide.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The user id of `nobody`, by convention.
pub const NOBODY: u32 = 65_534;

/// Whether this process is root in its user namespace.
pub fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Makes the child die with the thread that starts it.
pub fn dies_with_parent(command: &mut Command) -> &mut Command {
    let die = || {
        // SAFETY: passes numbers only.
        checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
    };
    // SAFETY: between fork and exec, `die` calls prctl alone, which allocates nothing.
    unsafe { command.pre_exec(die) }
}

/// Makes these descriptors of the caller the child's third and fourth.
pub fn gets(command: &mut Command, fds: [i32; 2]) -> &mut Command {
    let give = move || {
        // SAFETY: passes numbers only.
        let moved = fds.map(|fd| unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 64) });
        for (to, from) in (3..).zip(moved) {
            // SAFETY: as above.
            checked(unsafe { libc::dup2(checked(from)?, to) })?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec, `give` makes system calls alone.
    unsafe { command.pre_exec(give) }
}

/// A socket for datagrams to a port of every address, which shares it with others that allow that.
#[cfg(not(feature = "tipc"))]
pub fn shared_udp(port: u16, is_ipv6: bool) -> io::Result<std::net::UdpSocket> {
    let (domain, len) = match is_ipv6 {
        true => (libc::AF_INET6, size_of::<libc::sockaddr_in6>()),
        false => (libc::AF_INET, size_of::<libc::sockaddr_in>()),
    };
    // SAFETY: the new descriptor is owned by nobody else; sockaddr_in6 is plain data, for which
    // zeros are a value; `any` and `on` outlive the calls, with no more than their lengths.
    unsafe {
        let socket =
            OwnedFd::from_raw_fd(checked(libc::socket(domain, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?);
        let (fd, on): (_, libc::c_int) = (socket.as_raw_fd(), 1);
        let size = size_of_val(&on) as libc::socklen_t;
        checked(libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, (&raw const on).cast(), size))?;
        let mut any: libc::sockaddr_in6 = std::mem::zeroed();
        // Both families have the port at the same place.
        (any.sin6_family, any.sin6_port) = (domain as libc::sa_family_t, port.to_be());
        checked(libc::bind(fd, (&raw const any).cast(), len as libc::socklen_t))?;
        Ok(socket.into())
    }
}

/// Sends a signal to a process.
pub fn signal(pid: u32, signal: libc::c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: passes numbers only.
    checked(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Sets or clears `O_NONBLOCK`.
pub fn set_nonblocking(fd: BorrowedFd<'_>, is_nonblocking: bool) -> io::Result<()> {
    let flags = if is_nonblocking { libc::O_NONBLOCK } else { 0 };
    // SAFETY: passes numbers only; of the flags that can be set, a pipe or socket of a
    // test has no other.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: `value` lives through the call, and its true size is passed.
    checked(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// A socket for whole frames of an interface, each preceded by a `virtio_net_hdr`, which
/// tells what is left to be checksummed and segmented. Reading times out after 50 ms.
pub fn packet_socket(interface: &str) -> io::Result<File> {
    const ETH_P_ALL: u16 = libc::ETH_P_ALL as u16;
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: `name` is a NUL-terminated string that lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: passes numbers only.
    let fd = checked(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: `fd` is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    let timeout = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
    // SAFETY: `timeout` lives through the call, and its true size is passed.
    checked(unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const timeout).cast(),
            size_of_val(&timeout) as libc::socklen_t,
        )
    })?;
    // SAFETY: zeros are a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ETH_P_ALL.to_be();
    address.sll_ifindex = index as i32;
    // SAFETY: `address` lives through the call, and its true size is passed.
    checked(unsafe {
        libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    })?;
    Ok(File::from(socket))
}

/// Sends a message to the netlink socket with this port, as another process and not as the
/// kernel.
#[cfg(not(feature = "tipc"))]
pub fn send_to_netlink(port: u32, message: &[u8]) -> io::Result<()> {
    // SAFETY: the new descriptor is owned by nobody else. sockaddr_nl is plain data, for which
    // zeros are a value; `to` and `message` outlive the call, with their true lengths.
    unsafe {
        let fd = checked(libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_ROUTE,
        ))?;
        let socket = OwnedFd::from_raw_fd(fd);
        let mut to: libc::sockaddr_nl = std::mem::zeroed();
        to.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        to.nl_pid = port;
        let len = size_of_val(&to) as libc::socklen_t;
        let (data, destination) = (message.as_ptr().cast(), (&raw const to).cast());
        let sent = libc::sendto(socket.as_raw_fd(), data, message.len(), 0, destination, len);
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Sets a process's limit on descriptors; returns the previous limit.
pub fn limit_descriptors(pid: u32, most: u64) -> io::Result<u64> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call; no new limit is passed.
    checked(unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit) })?;
    let before = limit.rlim_cur;
    limit.rlim_cur = most.min(limit.rlim_max);
    // SAFETY: `limit` outlives the call; the old limit is not asked for.
    checked(unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) })?;
    Ok(before)
}

/// Runs `act` in a thread of another user without supplementary groups.
pub fn as_user<T: Send>(user: libc::uid_t, act: impl FnOnce() -> T + Send) -> T {
    let become_user = move || {
        // By number: the library's own calls change every thread of the process.
        // SAFETY: passes numbers and an empty list only; the thread ends with `act`.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()), 0);
            assert_eq!(libc::syscall(libc::SYS_setresgid, user, user, user), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, user, user, user), 0);
        }
        act()
    };
    std::thread::scope(|scope| scope.spawn(become_user).join().expect("the thread ends well"))
}
