//! 5, `HelloAgent`: a controller polls all agents, or shows one that it is there.

use serde::{Deserialize, Serialize};

/// Controller to agents, at start and every hello interval. Each agent answers
/// `HelloAgentAck` once, at a random moment within the window.
///
/// To one agent, with that agent's own key, if its ack [says so](super::HelloAgentAck::may_be_unproven).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAgent {
    /// The sender's counter of changes; shown, never compared.
    pub op_counter: u64,
    /// How long agents may take to answer, in milliseconds.
    pub ack_window_ms: u32,
}
