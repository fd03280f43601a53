//! What several benches share.

#![allow(dead_code, reason = "each bench uses its own part of this")]

use std::process::Command;
use std::thread;
use std::time::Duration;

/// The middle one of these values.
pub fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("values compare"));
    values[values.len() / 2]
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
