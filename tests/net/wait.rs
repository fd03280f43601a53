//! Waits for a condition, never for a fixed time.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for anything that works, on a machine many times as busy as usual.
pub const LONG: Duration = Duration::from_secs(120);

/// Polls until `condition` gives a value; panics with `what` after [`LONG`].
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        let looked = Instant::now();
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < LONG, "did not happen within {LONG:?}: {what}");
        // A check may start processes. Sleep as long as it took, and an eighth of the time
        // waited so far, so that the checks do not slow down what is waited for.
        let pause = (started.elapsed() / 8).clamp(Duration::from_millis(10), Duration::from_millis(250));
        thread::sleep(looked.elapsed().max(pause));
    }
}

/// Polls until `condition` holds; panics with `what` after [`LONG`].
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || condition().then_some(()));
}

/// Makes a call on a socket with a time limit until no signal interrupts it: where a process is
/// stopped and goes on, it is interrupted even if it handles no signal (signal(7)).
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            called => return called,
        }
    }
}
