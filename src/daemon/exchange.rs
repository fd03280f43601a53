//! An authenticated stream session in a worker: blocking, with a timeout on each call.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::transport::{self, BlockingStream};
use crate::limits;
use crate::wire::frame::Frame;
use crate::wire::session::{SessionKeys, frame_len};

/// A session that a worker has taken over from the loop.
pub struct Exchange {
    stream: BlockingStream,
    keys: SessionKeys,
    buffer: Box<[u8; limits::FRAME_BYTES]>,
}

impl Exchange {
    /// Takes a session over. A read or write that makes no progress within `timeout`
    /// fails.
    ///
    /// # Errors
    /// As `fcntl(2)` and `setsockopt(2)`.
    pub fn new(socket: OwnedFd, keys: SessionKeys, timeout: Duration) -> io::Result<Self> {
        let stream = transport::blocking(socket, timeout)?;
        Ok(Self { stream, keys, buffer: Box::new([0; limits::FRAME_BYTES]) })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The peer has closed the session, or does not read.
    pub fn send(&mut self, frame: Frame) -> io::Result<()> {
        let len = self.keys.seal(&frame, &mut self.buffer[..]);
        self.stream.write_all(&self.buffer[..len])
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
            let room = self.buffer.get_mut(filled..wanted).ok_or(io::ErrorKind::InvalidData)?;
            match self.stream.read(room) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => filled += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The stream itself, for the raw bytes of a blob.
    pub fn raw(&mut self) -> &mut BlockingStream {
        &mut self.stream
    }
}
