//! Receives many messages with one system call, into buffers allocated once.

use std::io;
use std::os::fd::BorrowedFd;

use super::socket;
use super::sys::{self, CONTROL_BYTES, Envelope};
use crate::fsm::actions::{Arrival, Peer};
use crate::fsm::ways::Way;
use crate::limits;

/// The buffer of one message: one byte longer than a datagram may be, so that an oversize
/// message is detected even without the kernel's flag.
type DatagramSlot = [u8; limits::DATAGRAM_BYTES + 1];

/// The messages of one call, with their senders.
pub struct Batch {
    slots: Box<[DatagramSlot; limits::RECV_BATCH]>,
    envelopes: Box<[Envelope<CONTROL_BYTES>; limits::RECV_BATCH]>,
    count: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            slots: Box::new([[0; limits::DATAGRAM_BYTES + 1]; limits::RECV_BATCH]),
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

    /// A message and its sender, or the return of one of ours. An oversize message is
    /// cut to a length that is still greater than [`limits::DATAGRAM_BYTES`].
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
        Some(Arrival::Datagram(&self.slots[at][..len], peer))
    }

    /// By which way a message came: TIPC does not tell.
    #[must_use]
    pub fn way(&self, _: usize) -> Option<Way> {
        None
    }

    /// By which link a message came: TIPC does not tell.
    #[must_use]
    pub fn link(&self, _: usize) -> usize {
        0
    }
}

/// Receives the messages that have arrived, without waiting. After a full batch there may
/// be more.
///
/// # Errors
/// As `recvmmsg(2)`; `WouldBlock` where there is nothing. The batch is empty then.
pub fn recv_batch(socket: BorrowedFd<'_>, batch: &mut Batch) -> io::Result<()> {
    batch.count = 0;
    let slots = batch.slots.each_mut().map(|slot| slot.as_mut_slice());
    batch.count = sys::recv_many(socket, slots, &mut batch.envelopes)?;
    Ok(())
}
