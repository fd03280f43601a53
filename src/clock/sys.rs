//! The kernel's clock.
//!
//! Not std's: on a target of 32 bits it asks musl for a time that ends in January 2038, and
//! panics after that. The crate libc asks for the longer one where it is told that musl has it,
//! as `make dist` does.

#![deny(clippy::cast_possible_truncation)]

const _: () = assert!(
    size_of::<libc::timespec>() == 16,
    "times of 32 bits end in 2038: build for musl, with --cfg=libc_unstable_musl_v1_2 in RUSTFLAGS"
);

/// The time of a clock in microseconds; 0 if it is negative.
fn us(clock: libc::clockid_t) -> u64 {
    // SAFETY: all zeros is a `timespec`.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` outlives the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let (Ok(seconds), Ok(ns)) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec)) else { return 0 };
    seconds.saturating_mul(1_000_000).saturating_add(ns / 1_000)
}

/// The time of day now, in milliseconds since 1970; 0 before that.
#[must_use]
pub fn unix_ms() -> u64 {
    us(libc::CLOCK_REALTIME) / 1_000
}

/// Milliseconds since boot, time asleep included. This clock exists since Linux 2.6.39.
#[must_use]
pub fn boottime_ms() -> u64 {
    us(libc::CLOCK_BOOTTIME) / 1_000
}

/// Microseconds since boot without time asleep, which is the clock that systemd expects
/// in `MONOTONIC_USEC`.
#[must_use]
pub fn monotonic_us() -> u64 {
    us(libc::CLOCK_MONOTONIC)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::unix_ms;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "std is what it is compared with")]
    fn it_is_what_std_says() {
        let std = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let (before, between, after) = (std(), unix_ms(), std());
        assert!((before..=after).contains(&u128::from(between)), "{before} {between} {after}");
    }
}
