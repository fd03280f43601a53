//! What the log was told last of nodes and links that are lost.

use crate::time::Instant;

/// What was said last.
#[derive(Debug, Default)]
pub struct Losses {
    /// The next look is not before this.
    pub next: Instant,
    /// A look is due then even if nothing else happens.
    pub is_wanted: bool,
    /// How many nodes have been lost by then because they did not answer.
    pub unanswered: u64,
    /// An agent that said so hears no controller, since this time.
    pub unasked_since: Option<Instant>,
    /// No TIPC link is up, since this time.
    #[cfg(feature = "tipc")]
    pub unlinked_since: Option<Instant>,
    /// A TIPC link was up.
    #[cfg(feature = "tipc")]
    pub was_linked: bool,
}
