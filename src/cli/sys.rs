//! What the command line needs of the system and the standard library does not
//! give: descriptors over a socket, a terminal's width, the interrupt key.

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::limits;

/// Descriptors that one message can carry: two per file.
const DESCRIPTORS: usize = 2 * limits::UPLOAD_FILES;

/// Sends the beginning of `bytes`, at least one, and with it all `descriptors`
/// (`SCM_RIGHTS`); gives how many bytes went. At most two descriptors per
/// [`limits::UPLOAD_FILES`].
///
/// # Errors
/// The system's, or `InvalidInput` for too many descriptors. Nothing was sent.
pub fn send_with_descriptors(stream: &UnixStream, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<usize> {
    if descriptors.len() > DESCRIPTORS || bytes.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // u64s, because a control message must be aligned; its header is two of them.
    let mut control = [0u64; 2 + (DESCRIPTORS * size_of::<RawFd>()).div_ceil(size_of::<u64>())];
    let payload_len = size_of_val(descriptors) as u32;
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
    loop {
        // SAFETY: the message's pointers lead to `part`, `bytes` and `control`,
        // which live until the call returns; the kernel only reads them.
        let sent = unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// The columns and lines of the terminal behind a descriptor; `None` where it is none.
#[must_use]
pub fn terminal_size(fd: RawFd) -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which `size` is.
    let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    let is_known = result == 0 && size.ws_col > 0 && size.ws_row > 0;
    is_known.then_some((usize::from(size.ws_col), usize::from(size.ws_row)))
}

extern "C" fn end(_signal: libc::c_int) {
    // SAFETY: ends the process, which a signal handler may.
    unsafe { libc::_exit(0) }
}

/// Ends this process, quietly, once so many seconds have passed.
pub fn end_in(seconds: u32) {
    // SAFETY: the handler does only what one may; the two calls fail for a wrong
    // signal number only.
    unsafe {
        libc::signal(libc::SIGALRM, end as extern "C" fn(libc::c_int) as libc::sighandler_t);
        libc::alarm(seconds);
    }
}

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interrupt(_signal: libc::c_int) {
    IS_INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on the interrupt key is noted; pressed again, it ends the process.
pub fn note_interrupts() {
    // SAFETY: all zeros is a valid sigaction: no mask, no flags, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = note_interrupt as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
    // SAFETY: the handler only stores to an atomic, which a signal may; `action`
    // is read during the call alone. It fails for a wrong signal number only.
    unsafe { libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut()) };
}

/// Whether the interrupt key was pressed since [`note_interrupts`].
#[must_use]
pub fn is_interrupted() -> bool {
    IS_INTERRUPTED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::{FromRawFd, OwnedFd};

    use super::*;

    /// Reads what was sent, with the descriptors that came along.
    fn receive(stream: &UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
        let (mut bytes, mut control) = ([0u8; 64], [0u64; 32]);
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let mut descriptors = Vec::new();
        // SAFETY: the message leads to `part`, `bytes` and `control`, which outlive
        // the call; the first control message lies in `control` and holds as many
        // descriptors as its length says, which are nobody else's yet.
        let got = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control) as _;
            let got = libc::recvmsg(stream.as_raw_fd(), &raw mut message, 0);
            assert_eq!(message.msg_flags & libc::MSG_CTRUNC, 0);
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            if !header.is_null() {
                let payload_len = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let from = libc::CMSG_DATA(header).cast::<RawFd>();
                for place in 0..payload_len / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(from.add(place).read_unaligned()));
                }
            }
            got
        };
        (bytes[..got as usize].to_vec(), descriptors)
    }

    #[test]
    fn descriptors_arrive_in_order_with_the_first_byte() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let pipes: Vec<_> = (0..DESCRIPTORS).map(|_| std::io::pipe().unwrap()).collect();
        let readers: Vec<RawFd> = pipes.iter().map(|(reader, _)| reader.as_raw_fd()).collect();
        assert_eq!(send_with_descriptors(&ours, b"hello", &readers).unwrap(), 5);
        let (bytes, received) = receive(&theirs);
        assert_eq!(bytes, b"hello");
        assert_eq!(received.len(), DESCRIPTORS);
        for ((place, fd), (_, mut writer)) in received.into_iter().enumerate().zip(pipes) {
            writer.write_all(&[place as u8]).unwrap();
            drop(writer);
            let mut said = Vec::new();
            File::from(fd).read_to_end(&mut said).unwrap();
            assert_eq!(said, [place as u8]);
        }
    }

    #[test]
    fn too_many_descriptors_are_refused_and_none_is_fine() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let many = [0; DESCRIPTORS + 1];
        let error = send_with_descriptors(&ours, b"x", &many).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(send_with_descriptors(&ours, b"y", &[]).unwrap(), 1);
        assert_eq!(receive(&theirs).0, b"y");
    }
}
