//! Where a test build can be made to die: between any two steps that a crash
//! must not tear apart.
//!
//! Every step that changes the disk calls [`hit`] before it. In a build with
//! the feature `proof` and `THIMBLE_KILL_AT=n` in its environment, the process
//! ends at its n-th hit as if the power had gone: no destructor, no flush. In
//! any other build the call is nothing.

/// A place to die at, called before the step it names.
#[cfg(not(feature = "proof"))]
#[inline(always)]
pub fn hit(_step: &'static str) {}

/// A place to die at, called before the step it names.
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
