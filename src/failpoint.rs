//! Points at which a test build can end its process: one before each step that changes
//! the disk.
//!
//! Each such step calls [`hit`] first. In a build with the feature `proof` and with
//! `THIMBLE_KILL_AT=n` in the environment, the process aborts at its n-th hit, without
//! destructors and without flushing. The kernel keeps what was written, so unlike a power
//! cut this loses no data that was not synced. In any other build the call does nothing.
//!
//! [`takes_any_set`] gives a test a host as it could be before hosts checked what patches
//! require.

/// Marks a point at which a test can end the process, before the step that it names.
#[cfg(not(feature = "proof"))]
#[inline(always)]
pub fn hit(_step: &'static str) {}

/// Marks a point at which a test can end the process, before the step that it names.
#[cfg(feature = "proof")]
pub fn hit(step: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static KILL_AT: OnceLock<Option<u64>> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);
    let kill_at = KILL_AT.get_or_init(|| std::env::var("THIMBLE_KILL_AT").ok()?.parse().ok());
    let hits = HITS.fetch_add(1, Ordering::Relaxed) + 1;
    if *kill_at == Some(hits) {
        eprintln!("failpoint {hits}: dying before {step}");
        std::process::abort();
    }
}

/// Whether sets that break the rules of `requires` are installed.
#[cfg(not(feature = "proof"))]
#[inline(always)]
pub const fn takes_any_set() -> bool {
    false
}

/// Whether sets that break the rules of `requires` are installed: with `THIMBLE_ANY_SET` in
/// the environment.
#[cfg(feature = "proof")]
pub fn takes_any_set() -> bool {
    std::env::var_os("THIMBLE_ANY_SET").is_some()
}
