//! Stream sessions over TCP: where they go to and come from, and their sockets in workers.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{BlockingStream, Origin, Stream};
use crate::fsm::actions::Peer;

/// Where a node accepts stream sessions, for people who open firewalls.
pub struct Door(pub Peer);

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Peer::Ip(address) => write!(f, "TCP port {} of {}", address.port(), self.0),
            Peer::Tipc { .. } => write!(f, "{}", self.0),
        }
    }
}

/// Where a stream session comes from; `None` if the connection is gone.
#[must_use]
pub fn origin(stream: &Stream) -> Option<Origin> {
    stream.peer_addr().ok().map(|address| address.ip())
}

/// Takes over a stream session's socket in a worker. Each read and write waits for at
/// most `patience`.
///
/// # Errors
/// As `fcntl(2)` and `setsockopt(2)`.
pub fn blocking(socket: OwnedFd, patience: Duration) -> io::Result<BlockingStream> {
    let stream = BlockingStream::from(socket);
    stream.set_nonblocking(false)?;
    set_patience(&stream, patience)?;
    Ok(stream)
}

/// Makes each later read and write of a worker wait for at most `patience`, which is not
/// zero.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_patience(stream: &BlockingStream, patience: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))
}
