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
mod ask;
mod cluster;
mod commands;
mod controllers;
mod crowd;
mod daemon;
mod datagrams;
mod ending;
mod files;
mod filter;
mod forge;
mod intruders;
mod logs;
mod metrics;
mod netns;
mod node;
mod operator;
mod own_binary;
mod partitions;
mod patch;
mod purging;
mod reasons;
mod reload;
mod requests;
mod returning;
mod rig;
mod rollouts;
mod rotation;
mod sessions;
mod switch;
mod sys;
mod thousand;
mod troubles;
mod verbs;
mod wait;
mod watch;
