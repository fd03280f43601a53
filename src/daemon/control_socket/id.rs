//! The identity of a connection, for whoever answers it later.

use super::ControlSocket;

/// A connection. Its slot may be reused before an answer is ready, so the
/// generation tells the connections of one slot apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// Its slot.
    pub slot: usize,
    generation: u64,
}

impl ConnectionId {
    /// The connection that a slot has in this generation.
    #[must_use]
    pub const fn new(slot: usize, generation: u64) -> Self {
        Self { slot, generation }
    }
}

impl ControlSocket {
    /// The identity of the connection in a slot.
    #[must_use]
    pub fn id(&self, slot: usize) -> ConnectionId {
        ConnectionId::new(slot, self.slots[slot].generation)
    }

    /// Whether a connection is still open.
    #[must_use]
    pub fn has(&self, id: ConnectionId) -> bool {
        self.id(id.slot) == id && self.slots[id.slot].connection.is_some()
    }
}
