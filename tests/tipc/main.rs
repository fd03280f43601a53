//! `thimble::tipc` on a kernel that has TIPC: run it by `tests/rig/uml.sh`. Each test
//! has network namespaces of its own.

mod names;
mod net;
mod returned;
mod sockets;
mod streams;
mod subscriptions;
#[path = "../support/mod.rs"]
mod support;
mod sys;
mod taken;
mod topology;
mod view;
mod watched;

/// Two nodes with a link between them. If that is impossible, prints that the test is
/// skipped and returns from it.
macro_rules! two_nodes {
    () => {
        match crate::net::Pair::new() {
            Ok(pair) => pair,
            Err(reason) => return crate::skip(module_path!(), &reason),
        }
    };
}
use two_nodes;

fn skip(test: &str, reason: &str) {
    use std::io::Write;
    // In one write, so that output of other tests does not come between; and not with
    // `eprintln`, which the test harness captures.
    let line = format!("SKIPPED: {test}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
