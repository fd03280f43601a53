//! The memory of daemons and workers, beside the update agents that Debian has, idle.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::cluster::{Cluster, thimble};
use crate::common::figures::{Figure, Most, skipped};
use crate::common::median;
use crate::hosts::{Hosts, NO_ROUNDS};
use crate::node::Node;
use crate::patch::Patch;
use crate::peers;
use crate::process::{Memory, tree};
use crate::wait;

const PART: &str = "memory";
const ROUNDS: usize = 3;
/// Of the least of the others.
const TARGET: f64 = 0.1;
/// After each minute a daemon gives back the pages of the program that ran but once.
const UNTIL_IDLE: Duration = Duration::from_secs(90);
const FILES: usize = 1_000;
const FILE_BYTES: usize = 8 << 10;

/// The budgets of docs/architecture.md, "Budgets", in KiB: `RssAnon` and all that is resident.
const AGENT: [f64; 2] = [256.0, 1_024.0];
const INSTALLER: [f64; 2] = [64.0, 512.0];
const CONTROLLER: [f64; 2] = [1_024.0, 2_048.0];

/// What was measured of one thing, and how much of each it may have.
struct Seen {
    name: String,
    rounds: Vec<Memory>,
    budget: Option<[f64; 2]>,
}

/// First the others, of which the least is what all is compared with.
pub fn measure() {
    let others = peers::memory(PART, ROUNDS);
    let mut seen: Vec<Seen> = Vec::new();
    let mut see = |name: String, memory: Memory, budget: Option<[f64; 2]>| match seen
        .iter_mut()
        .find(|seen| seen.name == name)
    {
        Some(seen) => seen.rounds.push(memory),
        None => seen.push(Seen { name, rounds: vec![memory], budget }),
    };
    for round in 0..ROUNDS {
        agent(round, &mut see);
        controller(None, &[0, 100, 1_000], &mut see);
        controller(Some(10_240), &[10_000], &mut see);
    }
    for kind in [Kind::Anon, Kind::Pss] {
        let least = others
            .iter()
            .map(|(name, rounds)| (name, rounds.iter().map(|memory| kind.of(memory)).collect::<Vec<_>>()))
            .min_by(|(_, a), (_, b)| median(a.clone()).total_cmp(&median(b.clone())));
        for Seen { name, rounds, budget } in &seen {
            let values = rounds.iter().map(|memory| kind.of(memory)).collect();
            let mut figure = Figure::new(PART, &format!("{}, {name}", kind.name()), "KiB", values);
            if let Some((peer, values)) = &least {
                figure = figure.beside(peer, values.clone()).target(Most::Ratio(TARGET));
            }
            if let (Kind::Anon, Some([most, _])) = (kind, budget) {
                figure = figure.budget(Most::Value(*most));
            }
            figure.record();
        }
    }
    for Seen { name, rounds, budget } in &seen {
        if let Some([_, most]) = budget {
            let values = rounds.iter().map(|memory| memory.rss as f64).collect();
            Figure::new(PART, &format!("Rss, {name}"), "KiB", values).budget(Most::Value(*most)).record();
        }
    }
    if others.is_empty() {
        skipped(PART, "memory of other update agents", "none of them runs here");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Anon,
    Pss,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Anon => "RssAnon",
            Self::Pss => "PSS",
        }
    }

    fn of(self, memory: &Memory) -> f64 {
        match self {
            Self::Anon => memory.anon as f64,
            Self::Pss => memory.pss as f64,
        }
    }
}

/// Gives a node a program of its own, as on a machine of its own: else all of them share its pages.
fn alone(node: &mut Node) {
    let copy = node.dir.join("thimble");
    fs::copy(thimble(), &copy).unwrap();
    node.binary = copy.to_str().unwrap().to_owned();
}

/// An agent whose daemon is not root, with its installer: idle, and while it installs.
fn agent(round: usize, see: &mut impl FnMut(String, Memory, Option<[f64; 2]>)) {
    let mut cluster = Cluster::new("bench-agent", 1);
    cluster.nodes[1].is_split = true;
    cluster.nodes.iter_mut().for_each(alone);
    let cluster = cluster.start();
    let agent = &cluster.nodes[1];
    let pids = [agent.pid(), agent.installer_pid()];
    thread::sleep(UNTIL_IDLE);
    see("agent's daemon, idle".to_owned(), Memory::of(pids[0]), Some(AGENT));
    see("agent's installer, idle".to_owned(), Memory::of(pids[1]), Some(INSTALLER));
    see("agent in both, idle".to_owned(), Memory::of_all(&pids), None);

    let mut patch = Patch::new(&cluster, "MANY-1");
    let mut numbers = crate::common::Numbers::new();
    for number in 0..FILES {
        let content: Vec<u8> = (0..FILE_BYTES / 8).flat_map(|_| numbers.next().to_le_bytes()).collect();
        patch = patch.file(&format!("usr/lib/many/part-{number}"), &content);
    }
    let _patch = patch.applied(&cluster);
    let is_over = AtomicBool::new(false);
    let (worker, all) = thread::scope(|scope| {
        let watch = scope.spawn(|| watch(&pids, &is_over));
        cluster.thimble(&["host-install", &agent.name]).ok();
        is_over.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert!(worker.rss > 0, "round {round}: no worker was seen");
    see(format!("worker of an install of {FILES} files"), worker, None);
    see(format!("agent in all, install of {FILES} files"), all, None);
}

/// The most that workers have, and that all have, until it is over.
fn watch(pids: &[u32], is_over: &AtomicBool) -> (Memory, Memory) {
    let (mut workers, mut all) = (Memory::default(), Memory::default());
    while !is_over.load(Ordering::Relaxed) {
        let started: Vec<u32> =
            pids.iter().flat_map(|pid| tree(*pid)).filter(|pid| !pids.contains(pid)).collect();
        let now = Memory::of_all(&started);
        let own = Memory::of_all(pids);
        workers = workers.most(now);
        let sum = Memory { anon: own.anon + now.anon, pss: own.pss + now.pss, rss: own.rss + now.rss };
        all = all.most(sum);
        thread::sleep(Duration::from_millis(2));
    }
    (workers, all)
}

fn controller(most: Option<u64>, numbers: &[u64], see: &mut impl FnMut(String, Memory, Option<[f64; 2]>)) {
    let mut cluster = Cluster::new("bench-controller", 0);
    cluster.nodes[0].timers.extend(NO_ROUNDS);
    if let Some(most) = most {
        cluster.nodes[0].settings.push(("controller", format!("max_hosts = {most}")));
    }
    alone(&mut cluster.nodes[0]);
    let cluster = cluster.start();
    let mut hosts = Hosts::new(&cluster);
    for number in numbers {
        if *number > 0 {
            hosts.become_known(&cluster, *number);
        }
        wait::until_true("no worker is left", || cluster.status().row.workers == 0);
        let budget = (*number == 1_000).then_some(CONTROLLER);
        see(format!("controller, {number} hosts"), Memory::of(cluster.pid()), budget);
    }
}

/// The size of the program, and of the others with all shared libraries that they load.
pub fn disk() {
    const PART: &str = "disk";
    let bytes = fs::metadata(thimble()).unwrap().len() as f64;
    let others = peers::disk(PART);
    let mut figure = Figure::new(PART, "size on disk, with shared libraries", "bytes", vec![bytes]);
    if let Some((peer, least)) = others.into_iter().min_by(|(_, a), (_, b)| a.total_cmp(b)) {
        figure = figure.beside(peer, vec![least]).target(Most::Ratio(1.0));
    }
    // It needs no other file: it is static.
    let output = Command::new("readelf").args(["-lW", &thimble()]).stdin(Stdio::null()).output();
    if output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("INTERP")) {
        return skipped(PART, "size on disk, with shared libraries", "THIMBLE_BIN is not static");
    }
    figure.record();
}
