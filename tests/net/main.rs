//! Nodes on networks of their own: the whole binary, real sockets, real trouble.

/// Leaves the test, loudly, where the user may not make namespaces.
macro_rules! need_root {
    () => {
        if !crate::sys::is_root() {
            return crate::skip(module_path!(), "needs root: tests/rig/as_root.sh COMMAND");
        }
    };
}

/// Not with `eprintln`, which the test harness would swallow.
fn skip(test: &str, reason: &str) {
    use std::io::Write;
    // In one write, so that tests beside it do not cut in.
    let _ = std::io::stderr().write_all(format!("SKIPPED: {test}: {reason}\n").as_bytes());
}

#[path = "../support/mod.rs"]
mod support;

mod allocations;
mod cluster;
mod commands;
mod daemon;
mod datagrams;
mod filter;
mod forge;
mod netns;
mod operator;
mod patch;
mod reasons;
mod requests;
mod rig;
mod sessions;
mod sys;
mod wait;
