//! The installer on real trees: cut short anywhere, with scripts that fail,
//! disks that fill, files changed by hand and patches that mean harm. Every
//! install runs in a process of its own, as it does under the daemon.

/// Leaves the test, loudly, where the user may not mount and own things.
macro_rules! need_root {
    () => {
        if !crate::rig::is_root() {
            return crate::rig::skip(module_path!(), "needs root: tests/rig/as_root.sh COMMAND");
        }
    };
}

#[path = "../support/mod.rs"]
mod support;

mod child;
mod model;
mod pieces;
mod rig;
mod sys;

#[cfg(feature = "proof")]
mod killed;
mod local;
mod local_changes;
#[cfg(feature = "proof")]
mod own;
mod places;
#[cfg(feature = "proof")]
mod power;
#[cfg(feature = "proof")]
mod reboot;
mod refusals;
mod scripts;
mod sequences;
mod space;
