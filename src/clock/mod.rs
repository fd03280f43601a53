//! The time of day.

mod sys;

pub use sys::unix_ms;
