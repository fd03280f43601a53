//! The time of day, and since boot.

mod sys;

pub use sys::{boottime_ms, monotonic_us, unix_ms};
