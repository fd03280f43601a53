//! What tells who is there: nothing, over UDP. Timers do.

use std::io;

use mio::{Registry, Token};

use crate::fsm::topology::PeerEvent;
use crate::time::Instant;

/// Nothing to watch.
pub struct TopologyView;

impl TopologyView {
    /// Does nothing.
    ///
    /// # Errors
    /// None.
    pub fn register(&mut self, _: &Registry, _: Token) -> io::Result<()> {
        Ok(())
    }

    /// Never a word.
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
