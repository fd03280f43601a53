//! Helpers for several test targets: archives, signing keys, scratch directories, a
//! controller's store.

#![allow(dead_code, reason = "each test target uses its own part of this")]

pub mod archive;
pub mod controller;
pub mod iproute;
pub mod netns;
pub mod peak;
pub mod sign;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The binary under test: the shipped one that `THIMBLE_BIN` names, as in `make test`;
/// otherwise the one just built. Tests that need the features `tools` or `proof` (making
/// patches, dying at a step, counting allocations) or the library always use the one just
/// built.
pub fn thimble() -> String {
    std::env::var("THIMBLE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_thimble").to_owned())
}

/// A directory of one test, deleted when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        Self::below(&std::env::temp_dir(), name)
    }

    /// A directory below another one.
    pub fn below(dir: &Path, name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("thimble-{name}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl std::ops::Deref for Scratch {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
