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

/// The width of the terminal on standard output, in columns; `None` where it is none.
#[must_use]
pub fn terminal_columns() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which `size` is.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
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
