//! A whole cluster in a seed.
//!
//! The real core (`fsm::node::Node`, `repo::{map, join, rules}`, and
//! `wire::codec::Codec` for every datagram) is driven in invented time by a
//! simulator that plays everything else: a network that loses, doubles, delays,
//! reorders and parts, one way or both ([`network`]); disks that forget what was
//! not synced ([`disk`]) and that are put back to a backup or emptied ([`chaos`]);
//! workers that take time and die at any step ([`worker`]); operators with whims at
//! every controller ([`operator`]); and somebody who sends recorded install
//! requests again. Seeds that are odd play over TIPC: there an address is another with
//! each start, and a topology service, which is lost at times, tells who is there
//! ([`topology`]).
//!
//! A run has two phases. In the wild one all of that happens, and what must never
//! be is checked all the time: of hosts and installs by [`check`], of the
//! repository by [`ledger`], of who is known to be gone by [`topology`]. Then comes
//! a calm one ([`calm`]), without losses and crashes, in which everything must come
//! to an end: all controllers have one map, every host that is asked becomes current
//! at each of them, every request has its real outcome, whoever goes is known to be
//! gone ([`absence`]), a purge drops the tombstones, and then nobody says more than
//! must be.
//!
//! The seed fixes the run, bit for bit. A failure prints it, with the last
//! lines of the run's log; `make sim SEED=n` plays it again. In the
//! environment: `SEED`, the first seed; `SEEDS`, how many; `NODES`, how many
//! machines instead of the seed's choice, the first of them controllers; `LOG=1`,
//! the whole log.

mod absence;
mod blobs;
mod calm;
mod chaos;
mod check;
mod commands;
mod dice;
mod disk;
mod installer;
mod ledger;
mod machine;
mod network;
mod operator;
mod pull;
mod repository;
mod sessions;
mod topology;
mod traffic;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::World;

/// Seeds that every run of the tests plays.
const SEEDS: u64 = 10;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: this must be a number")))
}

/// Plays a seed; gives a hash of all that happened.
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
fn every_seed_keeps_its_promises_and_converges() {
    let first = number("SEED").unwrap_or(1);
    let count = number("SEEDS").unwrap_or(if number("SEED").is_some() { 1 } else { SEEDS });
    for seed in first..first + count {
        play(seed);
    }
}

#[test]
fn a_seed_makes_the_run() {
    assert_eq!(play(3), play(3));
    assert_ne!(play(3), play(4));
}
