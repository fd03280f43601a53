//! The installer: what remains root where the daemon of an agent is another user.
//!
//! It faces no network and takes nothing of its requests but descriptors: a worker's channel
//! and a session. For each it starts one worker, which accepts an agent's jobs alone, and with
//! the configuration that the installer reads itself: who has taken over the daemon chooses
//! neither keys nor root.
//!
//! ```text
//! daemon                        installer                     worker
//! connects --channel, session-> reads the configuration
//!                               fork, exec ---------------->  the job is on the channel
//!          <------------------- Ended: wait4 <--------------  ends
//! closes   -------------------> kills it, and what it left
//! ```
//!
//! One worker at a time: the next request waits until the last worker is gone.
//!
//! Jobs and reports are those of one version, so both must run one program file. If the
//! daemon runs another one, as after an install of thimble itself, the installer executes the
//! file that has its name now, and hands over the listener and the connection.

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{info, warn};

use super::event_loop::clock;
use super::notify::{Notify, StatusLine};
use super::{log as lines, sys};
use crate::config::Config;
use crate::control::sys::{FDS, peer_credentials, recv_with_fds};
use crate::install::{adopt_orphans, end_orphans, own_file};
use crate::job::{InstallerReply, close_inherited};
use crate::limits;
use crate::time::Instant;
use crate::types::Reason;

/// How long a connection may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// `S_ISVTX`.
const STICKY: u32 = 0o1000;
/// Warnings come no more often than this.
const WARN_APART: crate::time::Duration = crate::time::Duration::from_secs(10);
/// Set by an installer that executes the new program file: the listener and the connection
/// are open from descriptor 3 on.
const HANDED_OVER: &CStr = c"THIMBLE_HANDED_OVER=1";

/// Serves the daemon of `user` until a signal ends it.
///
/// # Errors
/// Why it cannot run, for the operator.
pub fn run(config_path: &Path, user: u32) -> Result<(), String> {
    let handed_over = sys::take_variable("THIMBLE_HANDED_OVER").is_some();
    let kept =
        if handed_over { [sys::take_inherited(3).ok(), sys::take_inherited(4).ok()] } else { [None, None] };
    if !handed_over {
        close_inherited();
    }
    let mut notify = Notify::from_environment();
    lines::set_up("thimble installer");
    let failed = |error: io::Error| format!("the installer cannot go on: {error}");
    let signals = sys::signalfd().map_err(failed)?;
    let [listener, connection] = kept;
    let (config, text) = Config::load_with_text(config_path).map_err(|error| error.to_string())?;
    let path = config.node.installer_socket;
    let listener = match listener {
        Some(listener) => UnixListener::from(listener),
        None => listen(&path, user)?,
    };
    info!("serves user {user} at {}", path.display());
    listener.set_nonblocking(true).map_err(failed)?;
    let mut installer = Installer {
        config_path,
        socket: fs::symlink_metadata(&path).ok().map(|found| (path, found.dev(), found.ino())),
        listener,
        user,
        signals,
        executable: executable().map_err(failed)?,
        started: text.clone(),
        latest: text,
        warned: None,
    };
    notify.ready();
    notify.on_turn(clock(), || StatusLine::truncated("waits for the daemon"));
    drop(notify);
    let mut connection = connection.map(UnixStream::from);
    loop {
        let is_handed_over = connection.is_some();
        let next = match connection.take() {
            Some(connection) => Some(connection),
            None => installer.next().map_err(failed)?,
        };
        let Some(mut next) = next else { return installer.end() };
        let reply = match runs_other_program(&next) {
            true => match own_file() {
                Some((path, true)) if !is_handed_over => return Err(installer.execute(&path, &next)),
                _ => InstallerReply::OtherProgram,
            },
            false => match installer.serve(&next) {
                Ok(Served::Answer(reply)) => reply,
                Ok(Served::Gone) => continue,
                Ok(Served::End) => return installer.end(),
                Err(error) => InstallerReply::Refused(Reason::format(format_args!(
                    "the installer cannot start a worker: {error}"
                ))),
            },
        };
        installer.answer(&mut next, &reply);
    }
}

/// Our program file, also when another has its name.
fn executable() -> io::Result<File> {
    File::open("/proc/self/exe")
}

/// Listens at `path` for this user alone. Replaces the socket file of an installer that no
/// longer runs.
fn listen(path: &Path, user: u32) -> Result<UnixListener, String> {
    let failed = |error: io::Error| format!("node.installer_socket {}: {error}", path.display());
    if UnixStream::connect(path).is_ok() {
        return Err(format!(
            "node.installer_socket {}: another installer serves it; stop that one first",
            path.display()
        ));
    }
    for parent in path.ancestors().skip(1) {
        let found = fs::metadata(parent).map_err(failed)?;
        // In a directory like /tmp nobody else may rename what is root's.
        let is_open = found.mode() & 0o022 != 0 && found.mode() & STICKY == 0;
        if found.uid() != 0 || is_open {
            return Err(format!(
                "node.installer_socket {}: others than root may write to {}; name a path in a directory of root's, \
             such as /run",
                path.display(),
                parent.display()
            ));
        }
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => {
            return Err(format!(
                "node.installer_socket {}: a file that is not a socket has this path and is left alone; move it \
                 away, or configure another",
                path.display()
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    chown(path, Some(user), None).map_err(failed)?;
    Ok(listener)
}

struct Installer<'a> {
    config_path: &'a Path,
    listener: UnixListener,
    /// The daemon's.
    user: u32,
    signals: OwnedFd,
    executable: File,
    /// The socket's file: its path, device and inode.
    socket: Option<(PathBuf, u64, u64)>,
    /// The configuration at the start.
    started: String,
    /// The latest that was valid.
    latest: String,
    /// When something was last warned of.
    warned: Option<Instant>,
}

/// What the installer waited for.
enum Waited {
    /// A descriptor is readable, or its other end is closed.
    Readable,
    /// A child has ended.
    Child,
    /// A signal ends the installer.
    End,
}

/// How a request ended.
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
enum Served {
    /// With this answer.
    Answer(InstallerReply),
    /// Its peer is gone.
    Gone,
    /// A signal ends the installer.
    End,
}

impl Installer<'_> {
    /// Waits for a descriptor or a signal, with as little memory as may be.
    fn wait(&self, fd: BorrowedFd<'_>) -> io::Result<Waited> {
        sys::release_rare_code();
        loop {
            let [is_readable, is_signalled] = sys::wait_readable([fd, self.signals.as_fd()])?;
            if let Some(waited) = is_signalled.then(|| self.signalled()).flatten() {
                return Ok(waited);
            }
            if is_readable {
                return Ok(Waited::Readable);
            }
        }
    }

    /// What the pending signals say, if they say anything.
    fn signalled(&self) -> Option<Waited> {
        loop {
            match sys::next_signal(self.signals.as_fd())? {
                libc::SIGCHLD => return Some(Waited::Child),
                libc::SIGTERM | libc::SIGINT => return Some(Waited::End),
                _ => {}
            }
        }
    }

    /// The next connection; `None` if the installer is to end.
    fn next(&self) -> io::Result<Option<UnixStream>> {
        loop {
            match self.wait(self.listener.as_fd())? {
                Waited::End => return Ok(None),
                // One that was adopted.
                Waited::Child => while sys::wait_any().is_some() {},
                Waited::Readable => match self.listener.accept() {
                    // One that connected before the socket's file had its mode is none of ours.
                    Ok((connection, _)) => {
                        let peer = peer_credentials(connection.as_fd())?.uid;
                        if peer == 0 || peer == self.user {
                            return Ok(Some(connection));
                        }
                    }
                    Err(error) if is_of_connection(&error) => {}
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// Starts the worker that a connection asks for, and waits for its end.
    fn serve(&mut self, connection: &UnixStream) -> io::Result<Served> {
        connection.set_nonblocking(false)?;
        connection.set_read_timeout(Some(REQUEST_TIMEOUT))?;
        let mut given: heapless::Vec<OwnedFd, FDS> = heapless::Vec::new();
        recv_with_fds(connection.as_fd(), &mut [0], Some(&mut given))?;
        let (channel, session) = match &given[..] {
            [channel] => (channel.as_fd(), None),
            [channel, session] => (channel.as_fd(), Some(session.as_fd())),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        if !sys::is_message_socket(channel) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // A file with an error changes nothing, and some values wait for a restart.
        match Config::load_with_text(self.config_path) {
            Ok((_, text)) => self.latest = text,
            Err(error) => self.warn(format_args!("{error}: the former configuration holds")),
        }
        let text = [&self.started, "\0", &self.latest].concat();
        let mut config = sys::memfd()?;
        sys::write_sealed(&mut config, text.as_bytes())?;
        let mut fds: heapless::Vec<_, 3> = heapless::Vec::new();
        fds.extend([channel, config.as_fd()].into_iter().chain(session).map(|fd| fd.as_raw_fd()));
        let pid = sys::spawn(self.executable.as_fd(), &[c"thimble", c"worker", c"install"], &fds)?;
        drop((given, config, text));
        loop {
            let waited = self.wait(connection.as_fd())?;
            if !matches!(waited, Waited::Child) {
                // What its scripts started must not go on when recovery begins.
                adopt_orphans(true)?;
                sys::end(pid);
                end_orphans();
                adopt_orphans(false)?;
                info!("a worker was ended before its time");
                return Ok(if matches!(waited, Waited::End) { Served::End } else { Served::Gone });
            }
            while let Some((ended, sys::Waited { status, peak_bytes })) = sys::wait_any() {
                if ended == pid {
                    return Ok(Served::Answer(InstallerReply::Ended { status, peak_bytes }));
                }
            }
        }
    }

    /// Logs a warning, at most one in ten seconds: the daemon's user may ask without end.
    fn warn(&mut self, line: fmt::Arguments<'_>) {
        let now = clock();
        if self.warned.is_none_or(|warned| now.since(warned) >= WARN_APART) {
            self.warned = Some(now);
            warn!("{line}");
        }
    }

    /// Answers a connection, whose peer may be gone.
    fn answer(&mut self, connection: &mut UnixStream, reply: &InstallerReply) {
        if let InstallerReply::Refused(reason) = reply {
            self.warn(format_args!("{reason}"));
        }
        let mut bytes = [0; limits::REPORT_BYTES];
        if let Ok(bytes) = postcard::to_slice(reply, &mut bytes) {
            let _ = connection.write_all(bytes);
        }
    }

    /// Removes the socket's file, so that a daemon fails to connect at once.
    fn end(&self) -> Result<(), String> {
        if let Some((path, dev, ino)) = &self.socket
            && fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (*dev, *ino))
        {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// Executes the file that has this program's name now. Returns if that failed: the
    /// installer must end, as its descriptors are not in their places any more.
    fn execute(&self, path: &Path, connection: &UnixStream) -> String {
        let shown = path.display();
        info!("{shown} was replaced: the new thimble takes over");
        let keep = sys::keep_across_exec([self.listener.as_fd(), connection.as_fd()]);
        let error = match (CString::new(path.as_os_str().as_bytes()), keep) {
            (Ok(path), Ok(())) => sys::exec(&path, Some(HANDED_OVER)),
            (Err(_), _) => io::ErrorKind::InvalidInput.into(),
            (_, Err(error)) => error,
        };
        format!("{shown} cannot be started in this thimble's place: {error}")
    }
}

/// Whether the peer of a connection runs another program file. If it cannot be told, it does
/// not.
fn runs_other_program(connection: &UnixStream) -> bool {
    let program = |process: &str| {
        let found = fs::metadata(format!("/proc/{process}/exe")).ok()?;
        Some((found.dev(), found.ino()))
    };
    let Ok(peer) = peer_credentials(connection.as_fd()) else { return false };
    match (program(&peer.pid.to_string()), program("self")) {
        (Some(theirs), Some(ours)) => theirs != ours,
        _ => false,
    }
}

/// Whether `accept` failed for the one connection, or none is there any more.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
    )
}
