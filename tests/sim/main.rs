//! Simulates a whole cluster from a seed.
//!
//! The real core (`fsm::node::Node`, `repo::{map, join, rules}`, and
//! `wire::codec::Codec` for every datagram) runs in simulated time. The simulator provides
//! everything else: a network that loses, duplicates, delays and reorders datagrams and
//! partitions, in one direction or both ([`network`]); disks that lose writes that were
//! not synced ([`disk`]), and that are restored from a backup or emptied ([`chaos`]);
//! workers that take time and die at any step ([`worker`]); sets with which a host loses its
//! network ([`awaited`]); random commands of operators
//! at every controller ([`operator`]); recorded install requests that are sent again; files that
//! are sent to all hosts at once ([`spread`], [`receive`], [`kept`]), with false packets amid the
//! true ones.
//! Odd seeds use TIPC: there each start has another address, and a topology service,
//! which is lost at times, reports which sockets are bound ([`topology`]).
//!
//! A run has two phases. In the wild phase all of these faults happen, and safety is
//! checked after every event: hosts and installs by [`check`], the repository by
//! [`ledger`], the presence of nodes by [`topology`]. In the calm phase ([`calm`]), without
//! losses and crashes, the cluster must converge: all controllers have one map, every host
//! that is asked becomes current at each of them, every request has its real outcome, a
//! node that goes away is known to be gone ([`absence`]), a file that is sent to all hosts is
//! installed from what they keep ([`transmit`]), a purge drops the tombstones, and
//! afterwards no controller sends more than necessary.
//!
//! The seed determines the run completely. A failure prints it, with the last lines of the
//! run's log; `make sim SEED=n` repeats it. Environment variables: `SEED`, the first seed;
//! `SEEDS`, how many; `NODES`, how many machines instead of the seed's choice, the first of
//! them controllers; `LOG=1` prints the whole log. [`losses`] is another simulation, of when a node
//! is lost; `HOURS` says how long. [`crowd`] is a third, of one transmission to 1,000 hosts.

mod absence;
mod awaited;
mod blobs;
mod calm;
mod chaos;
mod check;
mod commands;
mod crowd;
mod dice;
mod disk;
mod installer;
mod kept;
mod ledger;
mod losses;
mod machine;
mod network;
mod operator;
mod pull;
mod receive;
mod repository;
mod sessions;
mod spread;
mod topology;
mod traffic;
mod transmissions;
mod transmit;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::World;

/// How many seeds a test run simulates.
const SEEDS: u64 = 20;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: this must be a number")))
}

/// Simulates a seed, and returns a hash of the run's log.
fn play(seed: u64) -> [u8; 32] {
    let mut world = World::new(seed, number("NODES"));
    let played = catch_unwind(AssertUnwindSafe(|| {
        world.wild_phase();
        world.calm_phase();
    }));
    if let Err(failure) = played {
        let nodes = number("NODES").map(|nodes| format!(" NODES={nodes}")).unwrap_or_default();
        eprintln!(
            "{}\nseed {seed} failed: play it again with\n\n    make sim SEED={seed}{nodes}\n",
            world.log
        );
        resume_unwind(failure);
    }
    world.log.hash()
}

#[test]
fn every_seed_stays_safe_and_converges() {
    let first = number("SEED").unwrap_or(1);
    let count = number("SEEDS").unwrap_or(if number("SEED").is_some() { 1 } else { SEEDS });
    for seed in first..first + count {
        play(seed);
    }
}

#[test]
fn a_seed_determines_the_run() {
    assert_eq!(play(3), play(3));
    assert_ne!(play(3), play(4));
}
