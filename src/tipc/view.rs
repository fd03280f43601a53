//! What a node sees of the others through the topology service.

use std::io;

use mio::{Registry, Token};

use super::transport::Services;
use crate::fsm::topology::Word;
use crate::time::Instant;
use crate::wire::frame::Role;

/// The topology service's words, in the core's terms.
pub struct View;

impl View {
    /// Opens it.
    ///
    /// # Errors
    /// None yet.
    pub fn open(_: Services, _: u32, _: &[Role]) -> io::Result<Self> {
        Ok(Self)
    }
    /// Registers it.
    ///
    /// # Errors
    /// None yet.
    pub fn register(&mut self, _: &Registry, _: Token) -> io::Result<()> {
        Ok(())
    }
    /// The next word.
    pub fn next(&mut self, _: Instant) -> Option<Word> {
        None
    }
    /// Does what is due.
    pub fn on_timeout(&mut self, _: Instant, _: &Registry, _: Token) {}
    /// When something is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        None
    }
}
