//! A whole cluster in a seed.
//!
//! The real core (`fsm::node::Node`, and `wire::codec::Codec` for every
//! datagram) is driven in invented time by a simulator that plays everything
//! else: a network that loses, doubles, delays and reorders, disks that forget
//! what was not synced ([`disk`]), workers that take time and die at any step,
//! power cuts, kills, restarts, an operator with whims, and somebody who sends
//! recorded install requests again.
//!
//! A run has two phases. In the wild one all of that happens, and what must
//! never be is checked all the time ([`check`]). Then comes a calm one, without
//! losses and crashes, in which everything must come to an end: every host that
//! is asked becomes current, every request has its real outcome, every patch's
//! state is computed.
//!
//! The seed fixes the run, bit for bit. A failure prints it, with the last
//! lines of the run's log; `make sim SEED=n` plays it again. In the
//! environment: `SEED`, the first seed; `SEEDS`, how many; `NODES`, how many
//! agents instead of the seed's choice; `LOG=1`, the whole log.

mod check;
mod controller;
mod dice;
mod disk;
mod installer;
mod machine;
mod network;
mod operator;
mod sessions;
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
