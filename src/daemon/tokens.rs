//! The poll tokens: which source of the loop an event is about.
//!
//! A token is a number below [`TOKENS`](super::ready::TOKENS). Sources that there are
//! several of have a range, which starts at the constant of their name.

use crate::limits;

/// The descriptor that signals are read from.
pub const SIGNALS: usize = 0;
/// The listener of the control socket.
pub const CONTROL: usize = 1;
/// The datagram socket of the controller, then that of the agent.
pub const DATAGRAMS: usize = 2;
/// The listener for sessions of the controller, then that of the agent.
pub const LISTENERS: usize = 4;
/// What tells which nodes are there.
pub const TOPOLOGY: usize = 6;
/// What tells that an interface has changed.
pub const NETWORK: usize = 7;
/// The sessions.
pub const SESSIONS: usize = 8;
/// The channels to workers.
pub const WORKERS: usize = SESSIONS + limits::SESSIONS;
/// The connections of the control socket.
pub const CONNECTIONS: usize = WORKERS + limits::WORKERS;
const _: () = assert!(CONNECTIONS + limits::CONTROL_CONNECTIONS <= super::ready::TOKENS);
