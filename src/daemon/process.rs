//! A worker's process: a child of the loop; or, where the loop is not root, a child of the
//! installer's, at the other end of a connection.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::sys::{self, Waited};
use crate::control::sys::send_with_descriptors;
use crate::job::InstallerReply;
use crate::limits;
use crate::types::Reason;

/// A worker's process, which has not been waited for.
pub enum Process {
    /// A child of this process.
    Child(libc::pid_t),
    /// A child of the installer's. The connection's end kills it.
    Installers(UnixStream),
}

/// How a process ended.
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub enum ProcessEnd {
    /// With this status.
    Waited(Waited),
    /// The installer has not started it, for this reason.
    NotStarted(Reason),
    /// The installer has not started it, since it runs another program file.
    OtherProgram,
    /// The installer itself has ended, and with it the process.
    Lost,
}

impl Process {
    /// Asks the installer at `socket` for a worker with this channel and these files. It
    /// decides what the worker runs, and reads the configuration itself.
    ///
    /// # Errors
    /// Nobody listens there, or this user may not connect.
    pub fn request(socket: &Path, channel: BorrowedFd<'_>, files: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_nonblocking(true)?;
        let mut fds: heapless::Vec<_, 2> = heapless::Vec::new();
        for fd in [channel].iter().chain(files) {
            fds.push(fd.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
        }
        send_with_descriptors(&stream, &[0], &fds)?;
        Ok(Self::Installers(stream))
    }

    /// The descriptor that is readable when the process has ended; `None` for a child, whose
    /// end a signal tells.
    pub fn end_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Child(_) => None,
            Self::Installers(stream) => Some(stream.as_fd()),
        }
    }

    /// Kills the process.
    pub fn kill(&self) {
        match self {
            Self::Child(pid) => sys::kill(*pid, libc::SIGKILL),
            Self::Installers(stream) => drop(stream.shutdown(std::net::Shutdown::Both)),
        }
    }

    /// How the process ended; `None` while it runs.
    pub fn try_wait(&mut self) -> Option<ProcessEnd> {
        let stream = match self {
            Self::Child(pid) => return sys::try_wait(*pid).map(ProcessEnd::Waited),
            Self::Installers(stream) => stream,
        };
        let mut bytes = [0; limits::REPORT_BYTES];
        let got = match stream.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            got => got.unwrap_or(0),
        };
        Some(match postcard::from_bytes(bytes.get(..got).unwrap_or_default()) {
            Ok(InstallerReply::Ended { status, peak_bytes }) => {
                ProcessEnd::Waited(Waited { status, peak_bytes })
            }
            Ok(InstallerReply::Refused(reason)) => ProcessEnd::NotStarted(reason),
            Ok(InstallerReply::OtherProgram) => ProcessEnd::OtherProgram,
            Err(_) => ProcessEnd::Lost,
        })
    }
}
