//! End-to-end tests: whole daemons in network namespaces, with real sockets and faults.

/// Skips the test with a message if the user may not create namespaces.
macro_rules! need_root {
    () => {
        if !crate::sys::is_root() {
            return crate::skip(module_path!(), "needs root: tests/rig/as_root.sh COMMAND");
        }
    };
}

fn skip(test: &str, reason: &str) {
    say(&format!("SKIPPED: {test}: {reason}"));
}

/// Writes a line to standard error. Unlike `eprintln`, the test harness does not capture it.
fn say(line: &str) {
    use std::io::Write;
    // In one write, so that lines of parallel tests do not mix.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Skips a test that applies to UDP only, with the reason.
macro_rules! need_udp {
    ($of:literal) => {
        if cfg!(feature = "tipc") {
            return crate::say(&format!("NOT APPLICABLE: {}: {}", module_path!(), $of));
        }
    };
}

/// The part of the tests that depends on the transport.
#[cfg_attr(feature = "tipc", path = "over_tipc.rs")]
#[cfg_attr(not(feature = "tipc"), path = "over_udp.rs")]
mod over;
#[path = "../support/mod.rs"]
mod support;

mod allocations;
mod ask;
#[cfg(not(feature = "tipc"))]
mod bad_peers;
#[cfg(not(feature = "tipc"))]
mod bad_wires;
mod cluster;
mod commands;
mod controllers;
mod crowd;
mod daemon;
mod datagrams;
mod deaths;
mod differences;
mod ending;
mod explain;
mod fetching;
#[cfg(not(feature = "tipc"))]
mod field;
mod files;
mod filter;
mod floors;
mod forge;
mod hidden;
mod installer;
#[cfg(not(feature = "tipc"))]
mod interfaces;
mod intruders;
#[cfg(not(feature = "tipc"))]
mod ipv6;
#[cfg(not(feature = "tipc"))]
mod itself;
#[cfg(not(feature = "tipc"))]
mod linked;
#[cfg(not(feature = "tipc"))]
mod links;
mod local_users;
mod logs;
mod lossy;
mod lost_network;
mod metrics;
#[cfg(feature = "tipc")]
mod multicast;
mod netns;
#[cfg(not(feature = "tipc"))]
mod networks;
#[cfg(not(feature = "tipc"))]
mod newcomers;
mod node;
mod operator;
mod out_of_memory;
mod own_binary;
mod partitions;
mod patch;
mod ping;
mod purging;
mod reasons;
mod reload;
mod repeated;
mod requests;
mod returning;
mod rig;
mod rollouts;
mod rotation;
mod sessions;
mod spread;
mod spread_wires;
mod switch;
mod sys;
#[cfg(not(feature = "tipc"))]
mod thief;
mod thousand;
mod troubles;
#[cfg(not(feature = "tipc"))]
mod unheard;
#[cfg(not(feature = "tipc"))]
mod unicast;
mod verbs;
#[cfg(not(feature = "tipc"))]
mod versions;
mod wait;
mod watch;
mod weather;
mod without_root;
