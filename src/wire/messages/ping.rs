//! 13 and 14, `Ping` and `Pong`: an operator wants to know what reaches a host, and what comes back.

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// Controller to one agent, with that agent's own key, or to all agents. The host that it names
/// answers with a [`Pong`]; others ignore it. It changes nothing;
/// but one with the agent's own key shows, as any such message does, that a controller is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The host that is asked.
    pub host: NodeId,
    /// The ask's number. Asks of a controller have different ones.
    pub number: u64,
}

/// Agent to all controllers; and, where a [`Ping`] had its own key, to the one that asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The number of the ask that it answers.
    pub number: u64,
    /// The number of the last ask that came with the key of all agents, 0 if none did: so an ask
    /// by multicast is known to have come although its answer is lost.
    pub heard: u64,
}
