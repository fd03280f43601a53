//! The installer on real trees: interrupted anywhere, with scripts that fail, disks that
//! fill, files changed by hand and malicious patches. Each install runs in a process of
//! its own, as it does under the daemon.

/// Skips the test, with a message, if the user is not root.
macro_rules! need_root {
    () => {
        if !crate::rig::is_root() {
            return crate::rig::skip(module_path!(), "needs root: tests/rig/as_root.sh COMMAND");
        }
    };
}

/// Skips the test, with a message, in a build in which no host takes a set that breaks the rules
/// of `requires`.
macro_rules! need_proof {
    () => {
        if !cfg!(feature = "proof") {
            return crate::rig::skip(module_path!(), "needs the feature `proof`");
        }
    };
}

#[path = "../support/mod.rs"]
mod support;

mod astray;
mod at_limits;
mod attributes;
#[cfg(feature = "proof")]
mod awaited;
mod blocked;
mod child;
mod differences;
mod directories;
mod filesystems;
mod floor;
mod memory;
mod model;
mod pieces;
mod rig;
mod sys;

#[cfg(feature = "proof")]
mod killed;
mod links;
mod local;
mod local_changes;
mod ordered;
mod others;
#[cfg(feature = "proof")]
mod own;
mod places;
#[cfg(feature = "proof")]
mod power;
#[cfg(feature = "proof")]
mod reboot;
mod refusals;
mod relabel;
mod removed;
mod scripts;
#[cfg(feature = "proof")]
mod segments;
mod sequences;
mod space;
mod turned;
#[cfg(feature = "proof")]
mod turned_killed;
