//! An authenticated stream session in a worker: blocking, with a limit for each call and
//! one for each phase; see [`Pace`].

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::pace::Pace;
use super::transport::{self, BlockingStream};
use crate::limits;
use crate::wire::frame::Frame;
use crate::wire::session::{SessionKeys, frame_len};

/// A session that a worker has taken over from the loop.
pub struct Exchange {
    stream: BlockingStream,
    keys: SessionKeys,
    pace: Pace,
    /// The timeout that the socket has.
    timeout: Duration,
    buffer: Box<[u8; limits::FRAME_BYTES]>,
}

impl Exchange {
    /// Takes a session over, with its first phase. A read or write that makes no progress
    /// within `timeout` fails, and one of a phase that takes too long.
    ///
    /// # Errors
    /// As `fcntl(2)` and `setsockopt(2)`.
    pub fn new(socket: OwnedFd, keys: SessionKeys, timeout: Duration) -> io::Result<Self> {
        let stream = transport::blocking(socket, timeout)?;
        let buffer = Box::new([0; limits::FRAME_BYTES]);
        Ok(Self { stream, keys, pace: Pace::new(timeout), timeout, buffer })
    }

    /// Begins the next phase: the wait for a request, or an answer.
    pub fn begin_phase(&mut self) {
        self.pace.begin();
    }

    /// Sends a request: a phase that ends with its answer.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn request(&mut self, frame: Frame) -> io::Result<()> {
        self.begin_phase();
        self.send(frame)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The peer has closed the session, or does not read.
    pub fn send(&mut self, frame: Frame) -> io::Result<()> {
        let len = self.keys.seal(&frame, &mut self.buffer[..]);
        let mut sent = 0;
        while sent < len {
            self.wait_for_what_is_left()?;
            match self.stream.write(&self.buffer[sent..len]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.pace.count(written);
                    sent += written;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.pace.explained(error)),
            }
        }
        Ok(())
    }

    /// Receives a frame; `None` if the peer has ended the session.
    ///
    /// # Errors
    /// The connection was lost or timed out, or the bytes are not a frame of this session.
    pub fn receive(&mut self) -> io::Result<Option<Frame>> {
        let mut filled = 0;
        loop {
            match self.keys.open(&self.buffer[..filled]) {
                Ok(Some((frame, used))) if used == filled => return Ok(Some(frame)),
                Ok(Some(_)) => return Err(io::ErrorKind::InvalidData.into()),
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            // Do not read beyond this frame: raw bytes may follow it.
            let wanted = frame_len(&self.buffer[..filled]);
            self.wait_for_what_is_left()?;
            let room = self.buffer.get_mut(filled..wanted).ok_or(io::ErrorKind::InvalidData)?;
            match self.stream.read(room) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => {
                    self.pace.count(got);
                    filled += got;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.pace.explained(error)),
            }
        }
    }

    /// Makes the next call on the socket wait for no longer than the phase may take.
    fn wait_for_what_is_left(&mut self) -> io::Result<()> {
        let left = self.pace.left()?;
        if left != self.timeout {
            transport::set_patience(&self.stream, left)?;
            self.timeout = left;
        }
        Ok(())
    }
}

/// The raw bytes of a blob.
impl Read for Exchange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait_for_what_is_left()?;
        let got = self.stream.read(buffer).map_err(|error| self.pace.explained(error))?;
        self.pace.count(got);
        Ok(got)
    }
}

/// The raw bytes of a blob.
impl Write for Exchange {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait_for_what_is_left()?;
        let sent = self.stream.write(bytes).map_err(|error| self.pace.explained(error))?;
        self.pace.count(sent);
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use super::*;
    use crate::types::{ClusterId, NodeId};
    use crate::wire::frame::Role;
    use crate::wire::keys::{Key, KeyRing};
    use crate::wire::session::Opening;

    /// A session as a worker has it, and the peer's end of its connection.
    fn session(patience: Duration) -> (Exchange, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let opening = |node| {
            let (role, cluster) = (Role::Controller, ClusterId(1));
            Opening { key_slot: 0, role, cluster, node: NodeId(node), nonce: [node as u8; 32] }
        };
        let ring = KeyRing::controller(&Key([7; 32]));
        let keys = SessionKeys::derive(&ring, &opening(1), &opening(2), true).unwrap();
        (Exchange::new(listener.accept().unwrap().0.into(), keys, patience).unwrap(), peer)
    }

    /// What `wait` fails with, while the peer sends a byte ten times in each patience.
    fn while_bytes_trickle_in(wait: impl FnOnce(&mut Exchange) -> io::Error) -> (io::ErrorKind, Duration) {
        let patience = Duration::from_millis(400);
        let (mut exchange, mut peer) = session(patience);
        let (is_over, began) = (AtomicBool::new(false), Instant::now());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) && began.elapsed() < Duration::from_secs(20) {
                    // As a frame it is one of 2,570 bytes.
                    let _ = peer.write_all(&[10]);
                    std::thread::sleep(patience / 10);
                }
            });
            let error = wait(&mut exchange);
            is_over.store(true, Ordering::Relaxed);
            (error.kind(), began.elapsed())
        })
    }

    #[test]
    fn raw_bytes_that_trickle_in_are_given_up() {
        let raw = |exchange: &mut Exchange| loop {
            if let Err(error) = exchange.read(&mut [0]) {
                return error;
            }
        };
        let (kind, took) = while_bytes_trickle_in(raw);
        assert!(matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{kind}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    #[test]
    fn the_time_limit_of_a_peer_that_says_nothing_is_told() {
        let (mut exchange, _peer) = session(Duration::from_millis(1_000));
        for error in [exchange.receive().unwrap_err(), exchange.read(&mut [0]).unwrap_err()] {
            assert!(error.to_string().starts_with("no answer within 1 s"), "{error}");
        }
    }

    #[test]
    fn a_frame_that_trickles_in_is_given_up() {
        let (kind, took) = while_bytes_trickle_in(|exchange| exchange.receive().unwrap_err());
        assert!(matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{kind}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}
