//! The poll tokens: which source of the loop an event is about.
//!
//! A token is a number below [`TOKENS`](super::ready::TOKENS). Sources that there are
//! several of have a range, which starts at the constant of their name.

use super::transport::ENDPOINTS;
use crate::limits;

/// The descriptor that signals are read from.
pub const SIGNALS: usize = 0;
/// The listener of the control socket.
pub const CONTROL: usize = 1;
/// The datagram sockets, in the order of the transport's endpoints.
pub const DATAGRAMS: usize = 2;
/// The listeners for sessions, in the same order.
pub const LISTENERS: usize = DATAGRAMS + ENDPOINTS;
/// What tells which nodes are there.
pub const TOPOLOGY: usize = LISTENERS + ENDPOINTS;
/// What tells that an interface has changed.
pub const NETWORK: usize = TOPOLOGY + 1;
/// The hosts that are still to be sent a hello by unicast.
pub const HELLOS: usize = NETWORK + 1;
/// The sessions.
pub const SESSIONS: usize = HELLOS + 1;
/// The channels to workers.
pub const WORKERS: usize = SESSIONS + limits::SESSIONS;
/// The connections of the control socket.
pub const CONNECTIONS: usize = WORKERS + limits::WORKERS;
const _: () = assert!(CONNECTIONS + limits::CONTROL_CONNECTIONS <= super::ready::TOKENS);
