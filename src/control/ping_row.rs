//! A host that `thimble ping` asks, and its answers.

use serde::{Deserialize, Serialize};

use crate::types::{Hostname, NodeId, Text};

/// A host, and when it answered the last ask of `thimble ping`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PingRow {
    /// Its node id.
    pub node: NodeId,
    /// Its hostname.
    pub hostname: Hostname,
    /// The address that it was last heard at.
    pub address: Text<48>,
    /// The port at which it accepts stream sessions; over TIPC the service type.
    pub port: u32,
    /// This controller sends to a group. It does not where `multicast` is false.
    pub is_multicast: bool,
    /// This controller's own interface is not up.
    pub is_cut: bool,
    /// The number of the last ask; 0 before the first.
    pub number: u64,
    /// From it to the host's first answer by unicast, in microseconds. Over TIPC, which does
    /// not tell, by any way.
    pub by_unicast_us: Option<u32>,
    /// The same by multicast.
    pub by_multicast_us: Option<u32>,
    /// The number of the last ask by multicast that the host has heard, as its answer says.
    pub heard: u64,
}
