//! 5, `HelloAgent`: a controller polls all agents.

use serde::{Deserialize, Serialize};

/// Controller to agents, at start and every hello interval. Each agent answers
/// `HelloAgentAck` once, at a random moment within the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAgent {
    /// The sender's counter of changes; shown, never compared.
    pub op_counter: u64,
    /// How long agents may take to answer, in milliseconds.
    pub ack_window_ms: u32,
}
