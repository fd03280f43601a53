//! What a command reads on its standard input.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ChildStdin;

use super::{READS, sys};

/// Appends more of an input to a buffer; false at its end.
pub(in crate::install) type More<'m> = &'m mut dyn FnMut(&mut Vec<u8>) -> bool;

/// The input of a process, which it reads while it runs. Only a piece is in memory.
pub(super) struct Input<'m> {
    /// `None` at the end.
    pipe: Option<ChildStdin>,
    more: More<'m>,
    piece: Vec<u8>,
    written: usize,
}

impl<'m> Input<'m> {
    pub(super) fn new(pipe: ChildStdin, more: More<'m>) -> io::Result<Self> {
        sys::set_nonblocking(pipe.as_fd())?;
        Ok(Self { pipe: Some(pipe), more, piece: Vec::new(), written: 0 })
    }

    /// The pipe to write to, while there is more.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Writes what the pipe has room for, with a limit in case the process reads without
    /// pause. A process need not read all.
    pub(super) fn write(&mut self) -> io::Result<()> {
        for _ in 0..READS {
            let Some(pipe) = &mut self.pipe else { return Ok(()) };
            let mut rest = self.piece.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                self.piece.clear();
                self.written = 0;
                if !(self.more)(&mut self.piece) {
                    self.pipe = None;
                    return Ok(());
                }
                rest = &self.piece;
            }
            match pipe.write(rest) {
                Ok(len) => self.written += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.pipe = None,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
