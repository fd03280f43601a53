//! What several benches share.

#![allow(dead_code, reason = "each bench uses its own part of this")]

pub mod figures;

use std::process::Command;
use std::thread;
use std::time::Duration;

/// A part's name, and what measures it.
pub type Part = (&'static str, fn());

/// Whether the arguments name this part, or none: `cargo bench --bench daemon -- acks memory`.
pub fn is_wanted(part: &str) -> bool {
    let mut named = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|word| word == part)
}

/// The middle one of these values.
pub fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("values compare"));
    values[values.len() / 2]
}

/// The order in which a round measures so many ways: each round begins with another one.
pub fn turns(round: usize, ways: usize) -> impl Iterator<Item = usize> {
    (0..ways).map(move |way| (round + way) % ways)
}

/// Nothing of what was done before is still on its way to the disk.
pub fn rest() {
    assert!(Command::new("sync").status().unwrap().success());
    thread::sleep(Duration::from_millis(500));
}

/// The numbers of a xorshift generator: the same in each run.
pub struct Numbers(u64);

impl Numbers {
    pub fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `most`.
    pub fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }
}
