//! System calls of the control socket that std does not offer: descriptors sent with a
//! message, and the credentials of the peer.

#![deny(clippy::cast_possible_truncation)]

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use heapless::Vec;

use crate::limits;

/// The most descriptors that one message carries: two per file.
pub const FDS: usize = 2 * limits::UPLOAD_FILES;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes a call of the `recv(2)` family until no signal interrupts it. A call with a time limit
/// is interrupted where a process is stopped and goes on, even if it handles no signal: see
/// `signal(7)`.
///
/// # Errors
/// The call's own.
pub fn uninterrupted(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(len) = usize::try_from(call()) {
            return Ok(len);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Sends the beginning of `bytes`, at least one byte, and with it all `descriptors`
/// (`SCM_RIGHTS`), at most [`FDS`]. Returns how many bytes were sent.
///
/// # Errors
/// The system's, or `InvalidInput` for too many descriptors. Nothing was sent.
pub fn send_with_descriptors(stream: &UnixStream, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<usize> {
    if descriptors.len() > FDS || bytes.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // u64s, because a control message must be aligned; its header is two of them.
    let mut control = [0u64; 2 + (FDS * size_of::<RawFd>()).div_ceil(size_of::<u64>())];
    let Ok(payload_len) = u32::try_from(size_of_val(descriptors)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zeros is a valid msghdr: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE and CMSG_LEN compute from their argument alone.
        let (space, len) = unsafe { (libc::CMSG_SPACE(payload_len), libc::CMSG_LEN(payload_len)) };
        assert!(space as usize <= size_of_val(&control), "the buffer holds all descriptors");
        message.msg_controllen = space as _;
        // SAFETY: msg_control points to `control`, zeroed, aligned and at least
        // `space` long, so the first header and its payload lie within it.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = len as _;
            let to = libc::CMSG_DATA(header).cast::<RawFd>();
            std::ptr::copy_nonoverlapping(descriptors.as_ptr(), to, descriptors.len());
        }
    }
    // SAFETY: the message's pointers lead to `part`, `bytes` and `control`, which live until
    // the call returns; the kernel only reads them.
    uninterrupted(|| unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })
}

/// Reads from a Unix socket, with the descriptors sent along. Without `fds` the kernel
/// drops them.
///
/// # Errors
/// As `recvmsg(2)`.
pub fn recv_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    fds: Option<&mut Vec<OwnedFd, FDS>>,
) -> io::Result<usize> {
    let Some(fds) = fds else {
        // SAFETY: the pointer and the length are those of `bytes`.
        return uninterrupted(|| unsafe {
            libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0)
        });
    };
    #[repr(align(8))]
    struct Room([u8; 256]);
    let mut room = Room([0; 256]);
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: the header points to `bytes` and `room`, which outlive the call, with
    // their lengths; control messages are walked as cmsg(3) says, inside `room`;
    // descriptors of SCM_RIGHTS are ours alone from the moment they arrive.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = room.0.as_mut_ptr().cast();
        header.msg_controllen = room.0.len() as _;
        let got =
            uninterrupted(|| libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC))?;
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_RIGHTS {
                let data_len = (*message).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(message).cast::<RawFd>();
                for at in 0..data_len / size_of::<RawFd>() {
                    // One too many is dropped, which closes it.
                    let _ = fds.push(OwnedFd::from_raw_fd(data.add(at).read_unaligned()));
                }
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
        Ok(got)
    }
}

const _: () = assert!(FDS * size_of::<RawFd>() + 16 <= 256);

/// The credentials of a Unix socket's peer.
#[derive(Clone, Copy, Debug)]
pub struct Credentials {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process id in this process's PID namespace; 0 if it is not visible there.
    pub pid: i32,
}

/// The credentials of the process that connected a Unix socket, or of the listener that
/// it was connected to.
///
/// # Errors
/// As `getsockopt(2)`.
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    // SAFETY: `cred` and `len` outlive the call, and `len` is that of `cred`.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        )
    })?;
    Ok(Credentials { uid: cred.uid, gid: cred.gid, pid: cred.pid })
}

/// Whether the peer of a Unix socket has `group` among its supplementary groups.
#[must_use]
pub fn peer_is_in_group(socket: BorrowedFd<'_>, group: u32) -> bool {
    let mut groups = [0 as libc::gid_t; 256];
    let mut len = libc::socklen_t::try_from(size_of_val(&groups)).unwrap_or(0);
    // SAFETY: `groups` and `len` outlive the call, and `len` is that of `groups`. A
    // longer list is an error, and then the answer is no.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    got == 0 && groups[..len as usize / size_of::<libc::gid_t>()].contains(&group)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    /// The bytes of a message and its descriptors.
    fn receive(stream: &UnixStream) -> (std::vec::Vec<u8>, Vec<OwnedFd, FDS>) {
        let (mut bytes, mut fds) = ([0; 64], Vec::new());
        let got = recv_with_fds(stream.as_fd(), &mut bytes, Some(&mut fds)).unwrap();
        (bytes[..got].to_vec(), fds)
    }

    #[test]
    fn descriptors_arrive_in_order_with_the_first_byte() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let pipes: std::vec::Vec<_> = (0..FDS).map(|_| std::io::pipe().unwrap()).collect();
        let readers: std::vec::Vec<RawFd> = pipes.iter().map(|(reader, _)| reader.as_raw_fd()).collect();
        assert_eq!(send_with_descriptors(&ours, b"hello", &readers).unwrap(), 5);
        let (bytes, received) = receive(&theirs);
        assert_eq!(bytes, b"hello");
        assert_eq!(received.len(), FDS);
        for ((at, fd), (_, mut writer)) in (0u8..).zip(received).zip(pipes) {
            writer.write_all(&[at]).unwrap();
            drop(writer);
            let mut content = std::vec::Vec::new();
            File::from(fd).read_to_end(&mut content).unwrap();
            assert_eq!(content, [at]);
        }
    }

    #[test]
    fn too_many_descriptors_are_refused_and_none_is_fine() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let many = [0; FDS + 1];
        let error = send_with_descriptors(&ours, b"x", &many).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(send_with_descriptors(&ours, b"y", &[]).unwrap(), 1);
        assert_eq!(receive(&theirs).0, b"y");
    }
}
