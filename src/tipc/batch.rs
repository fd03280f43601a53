//! Many messages by one system call, into buffers that are made once.

use std::io;
use std::os::fd::BorrowedFd;

use super::socket;
use super::sys::{self, CONTROL_BYTES, Envelope};
use crate::fsm::actions::{Arrival, Peer};
use crate::limits;

/// A message's place in a batch: one byte more than a datagram may have, so that
/// an oversize one shows even where the kernel would not say.
type DatagramSlot = [u8; limits::DATAGRAM_BYTES + 1];

/// Messages taken by one call, and where each came from.
pub struct Batch {
    places: Box<[DatagramSlot; limits::RECV_BATCH]>,
    envelopes: Box<[Envelope<CONTROL_BYTES>; limits::RECV_BATCH]>,
    count: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            places: Box::new([[0; limits::DATAGRAM_BYTES + 1]; limits::RECV_BATCH]),
            envelopes: Box::new([const { Envelope::new() }; limits::RECV_BATCH]),
            count: 0,
        }
    }
}

impl Batch {
    /// Messages in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// True of a batch without messages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One message and its sender, or that one of ours came back. An oversize one
    /// is cut, and longer than [`limits::DATAGRAM_BYTES`] all the same.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<Arrival<'_>> {
        if at >= self.count {
            return None;
        }
        let envelope = &self.envelopes[at];
        if let Some(info) = envelope.err_info() {
            return Some(Arrival::Undelivered(socket::reason(info.code)));
        }
        let len = if envelope.is_cut() { limits::DATAGRAM_BYTES + 1 } else { envelope.len };
        // The kernel names the sender of every message.
        let from = envelope.from().unwrap_or_default();
        let peer = Peer::Tipc { node: from.node, port: from.port };
        Some(Arrival::Datagram(&self.places[at][..len], peer))
    }
}

/// Takes what has arrived, without waiting. A full batch means that there may be
/// more.
///
/// # Errors
/// As `recvmmsg(2)`; `WouldBlock` where there is nothing. The batch is empty then.
pub fn recv_batch(socket: BorrowedFd<'_>, batch: &mut Batch) -> io::Result<()> {
    batch.count = 0;
    let places = batch.places.each_mut().map(|place| place.as_mut_slice());
    batch.count = sys::recv_many(socket, places, &mut batch.envelopes)?;
    Ok(())
}
