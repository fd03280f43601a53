//! The topology view of UDP: it reports nothing. Timers detect lost peers.

use std::io;

use mio::{Registry, Token};

use crate::fsm::topology::PeerEvent;
use crate::time::Instant;

/// A view without events.
pub struct TopologyView;

impl TopologyView {
    /// Does nothing.
    ///
    /// # Errors
    /// None.
    pub fn register(&mut self, _: &Registry, _: Token) -> io::Result<()> {
        Ok(())
    }

    /// No event, ever.
    pub fn next(&mut self, _: Instant) -> Option<Option<PeerEvent>> {
        None
    }

    /// Does nothing.
    pub fn on_timeout(&mut self, _: Instant) {}

    /// Never.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        None
    }
}
