//! How soon a change is known to all controllers, with the default timers.

use std::thread;
use std::time::{Duration, Instant};

use thimble::repo::entry::EntryState;

use crate::cluster::Cluster;
use crate::common::figures::{Figure, Most};
use crate::patch::Patch;
use crate::wait;

const ROUNDS: usize = 15;
const CONTROLLERS: usize = 3;
/// The protocol's own bound: a change is told at once, and again to whoever has not taken it after
/// `sync_retry_ms`; one that was lost is so seen a second later.
const TARGET_MS: f64 = 1_000.0;

/// From the begin of `apply` or `remove` to the moment at which the last of the others shows it.
pub fn measure() {
    let mut cluster = Cluster::bridged("bench-known", CONTROLLERS, 0);
    cluster.nodes.iter_mut().for_each(|node| node.timers.clear());
    let cluster = cluster.start();
    let id = "KNOWN-1";
    Patch::new(&cluster, id).file("etc/known", b"x").uploaded_at(&cluster, 0);
    wait::until_true("all know it and rest", || {
        cluster.controllers().iter().all(|node| node.patch(id).is_some() && node.holds_all_files())
    });
    let (mut known, mut said) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (verb, state) = match round % 2 {
            0 => ("apply", EntryState::Applied),
            _ => ("remove", EntryState::Available),
        };
        let started = Instant::now();
        thread::scope(|scope| {
            let command = scope.spawn(|| {
                cluster.thimble(&[verb, id]).ok();
                started.elapsed()
            });
            let is_known = || cluster.controllers()[1..].iter().all(|node| node.state_of(id) == Some(state));
            while !is_known() {
                assert!(started.elapsed() < wait::LONG, "{verb} is not known");
                thread::sleep(Duration::from_millis(1));
            }
            known.push(started.elapsed().as_secs_f64() * 1e3);
            said.push(command.join().unwrap().as_secs_f64() * 1e3);
        });
    }
    let name = format!("apply until all of {CONTROLLERS} controllers know it");
    Figure::new("known", &name, "ms", known).target(Most::Value(TARGET_MS)).record();
    Figure::new("known", "apply until its command ends", "ms", said).record();
}
