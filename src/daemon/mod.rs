//! The event loop, stream sessions, the control socket, worker processes.

pub mod job;
pub mod protocol;
pub mod reporter;
