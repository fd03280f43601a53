//! Bytes to messages and back. No I/O, no clock, no heap.

pub mod frame;
pub mod install;
pub mod session;
