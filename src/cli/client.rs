//! The client of the control socket: sends one request at a time and reads its replies.

use std::borrow::Borrow;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::exit::{Exit, Failure};
use crate::control::frame::{self, FRAME_BYTES, HEAD_BYTES};
use crate::control::sys::{self, peer_credentials};
use crate::control::{ErrorKind, Reply, Request, VERSION};
use crate::limits;

/// The time limit for an answer from the daemon's memory.
const ANSWER: Duration = Duration::from_secs(30);
/// The time limit for a worker that hashes, verifies and stores.
const WORK: Duration = Duration::from_secs(30 * 60);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    socket: PathBuf,
    is_greeted: bool,
}

impl Client {
    /// Connects and checks the protocol's version.
    ///
    /// # Errors
    /// The daemon is not reachable, refuses this user, or has another version.
    pub fn connect(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
        let mut client = Self { stream, socket: socket.to_owned(), is_greeted: false };
        client.ask(Request::Hello { version: VERSION }, |_| Ok(()))?;
        client.is_greeted = true;
        Ok(client)
    }

    /// The daemon's process id in this PID namespace.
    #[must_use]
    pub fn daemon_pid(&self) -> Option<u32> {
        let listener = peer_credentials(self.stream.as_fd()).ok()?;
        u32::try_from(listener.pid).ok().filter(|pid| *pid > 0)
    }

    /// Sends a request and passes every reply to `each`. Pass a literal request by
    /// value: a reference to it would put all its 8 KB into the binary as a constant.
    ///
    /// # Errors
    /// The daemon's error reply, a lost connection, or an error of `each`.
    pub fn ask(
        &mut self,
        request: impl Borrow<Request>,
        mut each: impl FnMut(Reply) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.ask_with(request.borrow(), &[], &mut each)
    }

    /// As [`ask`](Self::ask), and passes file descriptors to the daemon. `each` is a
    /// trait object, so that the function is compiled only once.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn ask_with(
        &mut self,
        request: &Request,
        descriptors: &[RawFd],
        each: &mut dyn FnMut(Reply) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let patience = match request {
            Request::Upload { .. }
            | Request::Change { .. }
            | Request::Show { .. }
            | Request::Purge
            | Request::StartRollout { .. }
            | Request::StopRollout
            | Request::ResumeRollout
            | Request::Reload
            | Request::DropController { .. } => WORK,
            _ => ANSWER,
        };
        let prepared = self.stream.set_read_timeout(Some(patience));
        prepared.and_then(|()| self.stream.set_write_timeout(Some(ANSWER))).map_err(|e| self.lost(&e))?;
        if let Err(error) = self.send(request, descriptors) {
            // A daemon that refuses this user replies and closes before it reads.
            return match self.receive() {
                Ok(Reply::Error { kind, reason }) => Err(refusal(kind, &reason.to_string())),
                _ => Err(self.lost(&error)),
            };
        }
        loop {
            match self.receive().map_err(|error| self.lost(&error))? {
                Reply::End => return Ok(()),
                Reply::Error { kind, reason } => return Err(refusal(kind, &reason.to_string())),
                reply => each(reply)?,
            }
        }
    }

    fn send(&mut self, request: &Request, descriptors: &[RawFd]) -> io::Result<()> {
        let mut buffer = vec![0; FRAME_BYTES];
        let len = frame::encode(request, &mut buffer).ok_or(io::ErrorKind::InvalidInput)?;
        let frame = &buffer[..len];
        let sent = sys::send_with_descriptors(&self.stream, frame, descriptors)?;
        self.stream.write_all(&frame[sent..])
    }

    fn receive(&mut self) -> io::Result<Reply> {
        let malformed = |_| io::Error::from(io::ErrorKind::InvalidData);
        let mut head = [0; HEAD_BYTES];
        self.stream.read_exact(&mut head)?;
        let mut body = vec![0; frame::body_len(head).map_err(malformed)?];
        self.stream.read_exact(&mut body)?;
        frame::decode(&body).map_err(malformed)
    }

    /// The failure for a connection that broke during a request.
    fn lost(&self, error: &io::Error) -> Failure {
        let socket = self.socket.display();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::new(
                Exit::TimedOut,
                "the daemon did not answer in time; the request may still be carried out: \
                 see `thimble status` and `thimble query`",
            ),
            io::ErrorKind::InvalidData => Failure::new(
                Exit::Refused,
                "this thimble cannot decode the daemon's answer: their versions differ; \
                 restart the daemon",
            ),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                if !self.is_greeted =>
            {
                let most = limits::CONTROL_CONNECTIONS;
                Failure::new(
                    Exit::Unreachable,
                    format!(
                        "the daemon at {socket} closed the connection at once: it serves at most {most} commands at a \
                         time, or is shutting down; try again"
                    ),
                )
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Failure::new(
                    Exit::Unreachable,
                    format!(
                        "the daemon at {socket} closed the connection before its answer was complete; \
                         it may have ended: see its log, then `thimble query` for what was done"
                    ),
                )
            }
            _ => Failure::new(Exit::Unreachable, format!("the connection to {socket} failed: {error}")),
        }
    }
}

fn refusal(kind: ErrorKind, reason: &str) -> Failure {
    let exit = match kind {
        ErrorKind::Refused => Exit::Refused,
        ErrorKind::NotPermitted => Exit::NotPermitted,
        ErrorKind::Verification => Exit::Verification,
        ErrorKind::TimedOut => Exit::TimedOut,
    };
    Failure::new(exit, reason)
}

/// The failure for a connection that could not be made.
fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::Unreachable,
            format!(
                "the daemon is not running: there is no socket at {socket}; start it with `thimble run`, \
                 or name its socket with --socket PATH"
            ),
        ),
        io::ErrorKind::ConnectionRefused => Failure::new(
            Exit::Unreachable,
            format!("the daemon is not running: no process listens at {socket}; start it with `thimble run`"),
        ),
        io::ErrorKind::PermissionDenied => Failure::new(
            Exit::NotPermitted,
            format!(
                "you may not talk to the daemon at {socket}: become root, or a member of the group that \
                 node.query_group or node.admin_group names"
            ),
        ),
        _ => Failure::new(Exit::Unreachable, format!("the daemon cannot be reached at {socket}: {error}")),
    }
}
