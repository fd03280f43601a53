//! System calls of the event loop and its workers that std does not provide.

#![deny(clippy::cast_possible_truncation)]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::config::User;
use crate::control::sys::{FDS, uninterrupted};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The system's text for an error number.
#[must_use]
pub fn error_text(number: libc::c_int, buffer: &mut [u8; 64]) -> &str {
    // SAFETY: the pointer and the length are those of `buffer`; what is written ends with a
    // zero byte.
    unsafe { libc::strerror_r(number, buffer.as_mut_ptr().cast(), buffer.len()) };
    CStr::from_bytes_until_nul(buffer).ok().and_then(|text| text.to_str().ok()).unwrap_or_default()
}

/// Removes a variable from the environment, so that no child inherits it.
#[must_use]
pub fn take_variable(name: &str) -> Option<std::ffi::OsString> {
    let value = std::env::var_os(name)?;
    // SAFETY: called at start, while the process has one thread: nobody reads the
    // environment meanwhile.
    unsafe { std::env::remove_var(name) };
    Some(value)
}

/// Fills `bytes` with random bytes from the kernel.
///
/// # Errors
/// As `getrandom(2)`.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    // By number: std knows the function as one that may be missing, and a static
    // link then leaves it out.
    // SAFETY: the pointer and the length are those of `bytes`. The call waits until the
    // kernel's source is seeded, and up to 256 bytes are then never cut short.
    let got = unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0) };
    if usize::try_from(got) == Ok(bytes.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The signals that the loop blocks and reads from a signalfd.
const SIGNALS: [libc::c_int; 4] = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: the set is initialised by sigemptyset before it is read, and lives
    // on this stack throughout.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Blocks the loop's signals and opens a descriptor to read them from. Resets SIGCHLD to
/// its default: if the parent ignored it, that is inherited, and the loop would not
/// learn that a worker ended.
///
/// # Errors
/// As `signalfd(2)`.
pub fn signalfd() -> io::Result<OwnedFd> {
    let set = signal_set(&SIGNALS);
    // SAFETY: `set` is initialised; the new descriptor is owned by nobody else; no
    // handler of ours is replaced.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The next pending signal, if any.
#[must_use]
pub fn next_signal(signals: BorrowedFd<'_>) -> Option<libc::c_int> {
    // SAFETY: signalfd_siginfo is plain data; the length is its own.
    unsafe {
        let mut info: libc::signalfd_siginfo = std::mem::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        let got = libc::read(signals.as_raw_fd(), (&raw mut info).cast(), size);
        if usize::try_from(got) == Ok(size) { libc::c_int::try_from(info.ssi_signo).ok() } else { None }
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// Its wait status.
    pub status: i32,
    /// The most resident memory that it had, in bytes, or one of the processes that it
    /// waited for. What this process had when it forked the child counts as the child's.
    pub peak_bytes: u64,
}

/// How a child ended; `None` while it runs.
#[must_use]
pub fn try_wait(pid: libc::pid_t) -> Option<Waited> {
    wait_for(pid).map(|(_, waited)| waited)
}

fn wait_for(pid: libc::pid_t) -> Option<(libc::pid_t, Waited)> {
    let mut status = 0;
    // SAFETY: zeros are a valid `rusage`. `status` and `usage` outlive the call. `pid` is
    // a child that was not waited for, or any.
    let (got, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
    };
    // In KiB.
    let peak_bytes = u64::try_from(usage.ru_maxrss).unwrap_or_default().saturating_mul(1024);
    (got > 0).then_some((got, Waited { status, peak_bytes }))
}

/// A child that has ended, and how; `None` if none has.
#[must_use]
pub fn wait_any() -> Option<(libc::pid_t, Waited)> {
    wait_for(-1)
}

/// Kills a child that was not waited for, and waits until it has ended.
pub fn end(pid: libc::pid_t) {
    kill(pid, libc::SIGKILL);
    // SAFETY: the call takes a null pointer for no status. A signal does not interrupt it:
    // a worker handles none.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

/// Sends a signal to a child that was not waited for, so that its pid cannot have been
/// reused.
pub fn kill(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, signal) };
}

/// A connected pair of `SOCK_SEQPACKET` sockets, which preserve message boundaries. The
/// first is non-blocking; both are close-on-exec.
///
/// # Errors
/// As `socketpair(2)`.
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for two; the new descriptors are owned by nobody else.
    unsafe {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        check(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()))?;
        let pair = (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]));
        check(libc::fcntl(fds[0], libc::F_SETFL, libc::O_NONBLOCK))?;
        Ok(pair)
    }
}

/// Sends one message; never raises SIGPIPE.
///
/// # Errors
/// As `send(2)`.
pub fn send_message(socket: BorrowedFd<'_>, message: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `message`.
    let sent = uninterrupted(|| unsafe {
        libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), libc::MSG_NOSIGNAL)
    })?;
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Whether this is one of two sockets as of [`message_pair`].
#[must_use]
pub fn is_message_socket(fd: BorrowedFd<'_>) -> bool {
    let is = |option, wanted: libc::c_int| {
        let mut value: libc::c_int = 0;
        let mut len = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(0);
        // SAFETY: `value` and `len` outlive the call, and `len` is that of `value`.
        let got = unsafe {
            libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut len)
        };
        got == 0 && value == wanted
    };
    is(libc::SO_DOMAIN, libc::AF_UNIX) && is(libc::SO_TYPE, libc::SOCK_SEQPACKET)
}

/// Receives one message and returns its length; 0 if the other end is closed.
///
/// # Errors
/// As `recv(2)`.
pub fn recv_message(socket: BorrowedFd<'_>, message: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of `message`.
    uninterrupted(|| unsafe { libc::recv(socket.as_raw_fd(), message.as_mut_ptr().cast(), message.len(), 0) })
}

/// The effective user id of this process.
#[must_use]
pub fn own_uid() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { libc::geteuid() }
}

/// Becomes this user, in its group and in no other. What is made from now on is for this user
/// alone.
///
/// # Errors
/// As `setgroups(2)`, `setgid(2)` and `setuid(2)`.
pub fn become_user(user: User) -> io::Result<()> {
    // SAFETY: no memory is involved: the list of groups is empty. The process has one thread.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setgid(user.gid))?;
        check(libc::setuid(user.uid))?;
        libc::umask(0o077);
    }
    Ok(())
}

/// An empty file in memory, for [`write_sealed`].
///
/// # Errors
/// As `memfd_create(2)`.
pub fn memfd() -> io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a C string; the new descriptor is owned by nobody else.
    unsafe {
        let fd = check(libc::memfd_create(c"thimble".as_ptr(), flags))?;
        Ok(File::from_raw_fd(fd))
    }
}

/// Writes the workers' configuration to a memfd and seals it against any change.
///
/// # Errors
/// As `write(2)` and `fcntl(2)`.
pub fn write_sealed(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    io::Write::write_all(file, bytes)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK;
    // SAFETY: no memory is involved.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(drop)
}

/// A child finds its files at descriptors below this.
const CHILD_FDS: RawFd = 64;

/// Starts the program open at `executable`, with duplicates of `fds` as its descriptors
/// from 3 on. The child is killed when this process ends. Its signals are unblocked.
///
/// # Errors
/// As `fork(2)`. If the exec fails, the child ends with status 127.
pub fn spawn(executable: BorrowedFd<'_>, arguments: &[&CStr], fds: &[RawFd]) -> io::Result<libc::pid_t> {
    let mut argv = [std::ptr::null(); 8];
    for (slot, argument) in argv[..7].iter_mut().zip(arguments) {
        *slot = argument.as_ptr();
    }
    let own_pid = std::process::id() as libc::pid_t;
    let all_signals = signal_set(&SIGNALS);
    // SAFETY: the process has one thread, and the child calls nothing but system
    // calls before it execs or ends. `argv` ends with a null pointer, and it and
    // `environ`, which nothing changes after start, outlive the call.
    unsafe {
        unsafe extern "C" {
            static environ: *const *const libc::c_char;
        }
        let pid = check(libc::fork())?;
        if pid != 0 {
            return Ok(pid);
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // The parent may have died before the line above.
        if libc::getppid() != own_pid {
            libc::_exit(127);
        }
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const all_signals, std::ptr::null_mut());
        // Duplicate twice, above CHILD_FDS first: the number that a descriptor must get
        // may be in use by another one of them.
        let mut moved = [-1; FDS + 8];
        for (slot, fd) in moved.iter_mut().zip(fds) {
            *slot = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, CHILD_FDS);
        }
        let executable = libc::fcntl(executable.as_raw_fd(), libc::F_DUPFD_CLOEXEC, CHILD_FDS);
        for (to, from) in (3..).zip(&moved[..fds.len().min(FDS + 8)]) {
            libc::dup2(*from, to);
        }
        let empty = c"".as_ptr();
        libc::syscall(libc::SYS_execveat, executable, empty, argv.as_ptr(), environ, libc::AT_EMPTY_PATH);
        libc::_exit(127);
    }
}

/// Executes the program at `path` in this process, with the arguments and environment
/// that this process was started with, including variables that it has removed since
/// ([`take_variable`]), and with one more variable. Pending signals stay pending. Returns
/// only on failure.
pub fn exec(path: &CStr, variable: Option<&CStr>) -> io::Error {
    // A process that is not dumpable may not read its own environment there.
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
    let read = |file| std::fs::read(file).unwrap_or_default();
    let (arguments, environment) = (read("/proc/self/cmdline"), read("/proc/self/environ"));
    let pointers = |texts: &[u8]| -> std::vec::Vec<*const libc::c_char> {
        let texts = texts.split_inclusive(|byte| *byte == 0).filter(|text| text.ends_with(&[0]));
        texts.map(|text| text.as_ptr().cast()).chain([std::ptr::null()]).collect()
    };
    let (argv, mut envp) = (pointers(&arguments), pointers(&environment));
    // A doubled one is taken once.
    if let Some(variable) = variable {
        envp.insert(0, variable.as_ptr());
    }
    // SAFETY: all texts end with a zero byte, both lists with a null pointer, and all
    // of them outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Leaves duplicates of descriptors open across exec, as those from 3 on. To be called
/// before [`exec`] alone: what had these numbers is closed.
///
/// # Errors
/// As `fcntl(2)` and `dup2(2)`.
pub fn keep_across_exec(fds: [BorrowedFd<'_>; 2]) -> io::Result<()> {
    // SAFETY: no memory is involved. Whoever owns a descriptor with one of these numbers does
    // not use it any more, unless exec fails: then it finds another file there, of this process.
    unsafe {
        let moved = fds.map(|fd| libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, CHILD_FDS));
        for (to, from) in (3..).zip(moved) {
            check(libc::dup2(check(from)?, to))?;
        }
    }
    Ok(())
}

/// Waits until one of two descriptors can be read or has its other end closed, and says which.
///
/// # Errors
/// As `poll(2)`.
pub fn wait_readable(fds: [BorrowedFd<'_>; 2]) -> io::Result<[bool; 2]> {
    poll_readable(fds, -1)
}

/// The same for so many milliseconds at most.
///
/// # Errors
/// As `poll(2)`.
pub fn wait_readable_for(fds: [BorrowedFd<'_>; 2], millis: u64) -> io::Result<[bool; 2]> {
    match poll_readable(fds, libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; 2]),
        polled => polled,
    }
}

fn poll_readable(fds: [BorrowedFd<'_>; 2], millis: libc::c_int) -> io::Result<[bool; 2]> {
    let mut polls = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    // SAFETY: `polls` is two `pollfd`, which outlive the call.
    check(unsafe { libc::poll(polls.as_mut_ptr(), 2, millis) })?;
    Ok(polls.map(|poll| poll.revents != 0))
}

/// Takes ownership of an inherited descriptor and sets close-on-exec, so that no script
/// inherits it.
///
/// # Errors
/// It is not open, or was taken before.
pub fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let bit = 1u64.checked_shl(fd.unsigned_abs()).ok_or(io::ErrorKind::InvalidInput)?;
    if fd < 3 || TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: no memory is involved; `fcntl` fails if the descriptor is not open. A
    // worker takes its descriptors before it opens any other, so an open one was
    // inherited; `TAKEN` ensures that it is owned once.
    unsafe {
        check(libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Sends on a socket without blocking; false if that failed. Never raises SIGPIPE.
#[must_use]
pub fn send_unless_blocked(socket: BorrowedFd<'_>, bytes: &[u8]) -> bool {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and the length are those of `bytes`.
    unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) >= 0 }
}

/// Writes to a descriptor unless that would block; false if nothing was written.
#[must_use]
pub fn write_unless_blocked(fd: RawFd, bytes: &[u8]) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: `poll` and `bytes` outlive the calls, with their true lengths. A pipe
    // that polls writable takes PIPE_BUF bytes at once, and a line is shorter.
    unsafe {
        if libc::poll(&raw mut poll, 1, 0) != 1 || poll.revents & libc::POLLOUT == 0 {
            return false;
        }
        libc::write(fd, bytes.as_ptr().cast(), bytes.len()) >= 0
    }
}

/// Has every write go to the end of a file, wherever that is by then. Best effort.
pub fn append_only(file: BorrowedFd<'_>) {
    let fd = file.as_raw_fd();
    // SAFETY: the descriptor is open while it is borrowed; the commands take numbers alone.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags >= 0 {
            libc::fcntl(fd, libc::F_SETFL, flags | libc::O_APPEND);
        }
    }
}

/// Drops the resident pages of our own code, most of which only start-up or rare work needs. They
/// are backed by the executable file: the loop's code is faulted in again from the page
/// cache as it runs, and the rest is no longer resident. Best effort.
///
/// A function of its own: `tests/rig/loop_functions.sh` counts from its first call.
#[inline(never)]
pub fn release_rare_code() {
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    const PAGE: usize = 4096;
    let start = (&raw const __executable_start).addr().next_multiple_of(PAGE);
    let end = (&raw const etext).addr() / PAGE * PAGE;
    if let Some(len) = end.checked_sub(start) {
        // SAFETY: the linker's symbols enclose read-only pages that are mapped from
        // our file, private and never written; dropped ones are read from it again.
        unsafe { libc::madvise(std::ptr::without_provenance_mut(start), len, libc::MADV_DONTNEED) };
    }
}

/// Ends this process by a signal after this time.
pub fn end_after(seconds: u32) {
    // SAFETY: the call takes no memory and cannot fail; the signal's default is to end the process.
    unsafe { libc::alarm(seconds) };
}
