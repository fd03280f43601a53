//! What a node costs, measured on the shipped binary beside the barest program
//! that could do the same, and beside what else updates such nodes.
//!
//! `make bench` builds the static binary and names it in `THIMBLE_BIN`. Arguments name parts:
//! `cargo bench --bench daemon -- acks memory`.

#![allow(dead_code, reason = "the rig is the tests'; this uses a part of it")]

#[cfg(not(feature = "tipc"))]
mod acks;
#[path = "../../tests/net/ask.rs"]
mod ask;
#[cfg(not(feature = "tipc"))]
mod bare;
#[path = "../../tests/net/cluster.rs"]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
#[cfg(not(feature = "tipc"))]
mod controllers;
mod deaths;
#[path = "../../tests/net/filter.rs"]
mod filter;
#[path = "../../tests/net/forge.rs"]
mod forge;
#[cfg(not(feature = "tipc"))]
mod hellos;
#[cfg(not(feature = "tipc"))]
mod hosts;
#[cfg(not(feature = "tipc"))]
mod instructions;
#[cfg(not(feature = "tipc"))]
mod known;
#[cfg(not(feature = "tipc"))]
mod memory;
#[path = "../../tests/net/netns.rs"]
mod netns;
#[path = "../../tests/net/node.rs"]
mod node;
#[cfg_attr(feature = "tipc", path = "../../tests/net/over_tipc.rs")]
#[cfg_attr(not(feature = "tipc"), path = "../../tests/net/over_udp.rs")]
mod over;
#[cfg(not(feature = "tipc"))]
mod pace;
#[path = "../../tests/net/patch.rs"]
mod patch;
#[cfg(not(feature = "tipc"))]
mod peers;
mod process;
#[cfg(feature = "tipc")]
mod spread_tipc;
#[cfg(not(feature = "tipc"))]
mod start;
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../../tests/net/switch.rs"]
mod switch;
#[path = "../../tests/net/sys.rs"]
mod sys;
#[path = "../../tests/net/wait.rs"]
mod wait;
#[path = "../../tests/net/weather.rs"]
mod weather;

use common::{Part, is_wanted};

/// What is measured, in this order: what waits most is last.
#[cfg(not(feature = "tipc"))]
const PARTS: [Part; 9] = [
    ("acks", acks::measure),
    ("hellos", hellos::measure),
    ("instructions", instructions::measure),
    ("memory", memory::measure),
    ("disk", memory::disk),
    ("start", start::first_answer),
    ("known", known::measure),
    ("deaths", deaths::measure),
    ("idle", start::idle),
];
/// Over TIPC the kernel is another one, in a process: its times say nothing, but of losses.
#[cfg(feature = "tipc")]
const PARTS: [Part; 2] = [("deaths-tipc", deaths::measure), ("spread-tipc", spread_tipc::measure)];

fn main() {
    if !sys::is_root() {
        println!("SKIPPED: bench needs root (tests/rig/as_root.sh COMMAND)");
        return;
    }
    for (name, measure) in PARTS {
        if is_wanted(name) {
            measure();
        }
    }
}
