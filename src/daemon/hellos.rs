//! How far a hello has come on its way to hosts by unicast, and when the agent announced itself.

use crate::time::{Duration, Instant};
use crate::wire::messages::HelloAgent;

/// The hello that is on its way to the hosts that are heard by unicast.
#[derive(Debug, Default)]
pub struct Hellos {
    /// `None` if there is none.
    pub hello: Option<HelloAgent>,
    /// The slot of the next host.
    pub next: usize,
    /// When the agent announced itself last, and how long it waits for a hello then.
    pub announced: Option<(Instant, Duration)>,
}
