//! Instructions that a message takes, counted by callgrind: the same in each run, however busy the
//! machine is. A change of more than 2 % fails, until `benches/instructions.tsv` says that it is meant.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use thimble::wire::frame::Role;

use crate::cluster::{Cluster, thimble};
use crate::common::figures::{Figure, Most, skipped};
use crate::common::median;
use crate::controllers::Asker;
use crate::hosts::{Hosts, NO_ROUNDS};
use crate::over::{Datagrams, To};
use crate::process::{datagrams_taken, sleeps, waits};
use crate::wait;

const PART: &str = "instructions";
/// Messages of the shorter window. The longer one has twice as many; what a window costs by itself is
/// the same in both.
const COUNT: usize = 300;
/// Pairs of windows, of which the middle one counts: a timer may fall into one.
const PAIRS: usize = 5;
const HOSTS: u64 = 1_000;
/// Of the value in the repository, both ways.
const MOST_CHANGE: f64 = 0.02;
/// A datagram that was not taken by then is sent again: it was lost.
const AGAIN: Duration = Duration::from_secs(10);
fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.tsv")
}

/// Of an ack of one host among many, of a Hello that is answered, and of a datagram that was changed.
pub fn measure() {
    let has = |program| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has("valgrind") || !has("callgrind_control") {
        return skipped(PART, "instructions for a message", "valgrind is not installed (Debian has it)");
    }
    if cfg!(not(target_arch = "x86_64")) {
        return skipped(PART, "instructions for a message", "the values in the repository are of x86-64");
    }
    let measured = [
        ("HelloAgentAck, 1,000 hosts", acks()),
        ("Hello answered by an agent", hellos()),
        ("refused datagram", refused()),
    ];
    let known = Known::read();
    let here = format!("{}, {}", compiler(), processor());
    for (name, counts) in &measured {
        let count = median(counts.clone());
        let figure = Figure::new(PART, &format!("instructions for a {name}"), "instructions", counts.clone());
        match known.value(name) {
            Some(value) => {
                if known.of != here {
                    println!("benches/instructions.tsv is of {}; this is {here}", known.of);
                }
                // Both ways: one that became much cheaper is to be told to the file too.
                let changed = ((count - value) / value).abs() * 100.0;
                figure.beside("benches/instructions.tsv", vec![value]).record();
                let most = Most::Value(MOST_CHANGE * 100.0);
                let change =
                    Figure::new(PART, &format!("change of instructions for a {name}"), "%", vec![changed]);
                let is_same = known.of == here;
                if is_same { change.target(most).budget(most) } else { change }.record();
                if changed > MOST_CHANGE * 100.0 {
                    println!("If that is meant: RENEW=1 make bench PART={PART}");
                }
            }
            None => figure.record(),
        }
    }
    if std::env::var_os("RENEW").is_some() {
        let lines: String = measured
            .iter()
            .map(|(name, counts)| format!("{name}\t{:.0}\n", median(counts.clone())))
            .collect();
        fs::write(file(), format!("{here}\n{lines}")).unwrap();
        println!("benches/instructions.tsv is renewed");
    }
}

/// The values in the repository, and what they were measured with.
struct Known {
    of: String,
    values: Vec<(String, f64)>,
}

impl Known {
    fn read() -> Self {
        let text = fs::read_to_string(file()).unwrap_or_default();
        let mut lines = text.lines();
        let of = lines.next().unwrap_or_default().to_owned();
        let value =
            |line: &str| Some((line.split_once('\t')?.0.to_owned(), line.split_once('\t')?.1.parse().ok()?));
        Self { of, values: lines.filter_map(value).collect() }
    }

    fn value(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// The compiler of this bench, which is that of the binary.
fn compiler() -> String {
    let output =
        Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// What the hashes' code depends on.
fn processor() -> &'static str {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |flag: &str| text.split_whitespace().any(|word| word == flag);
    if has("avx2") {
        "AVX2"
    } else if has("sse4_1") {
        "SSE4.1"
    } else {
        "neither AVX2 nor SSE4.1"
    }
}

/// A cluster whose node `number` runs under callgrind.
fn counted(name: &str, agents: usize, number: usize) -> Cluster {
    let mut cluster = Cluster::new(name, agents);
    for (timer, ms) in NO_ROUNDS {
        cluster = cluster.timer(timer, ms);
    }
    let node = &mut cluster.nodes[number];
    let (wrapper, real) = (node.dir.join("counted"), thimble());
    let out = node.dir.join("callgrind.out").display().to_string();
    let text =
        format!("#!/bin/sh\nexec valgrind -q --tool=callgrind --callgrind-out-file={out} {real} \"$@\"\n");
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    node.binary = wrapper.to_str().unwrap().to_owned();
    node.spawn();
    // Commands are run as they are.
    node.binary = real;
    node.answers();
    cluster
}

/// Instructions of what `act` has a process do, for each of so many messages, in each pair of windows.
fn each(pid: u32, out: &Path, mut act: impl FnMut(usize)) -> Vec<f64> {
    let mut dumps = 0;
    let mut window = |count| {
        control("-z", pid);
        act(count);
        control("-d", pid);
        dumps += 1;
        total(&out.with_extension(format!("out.{dumps}"))) as f64
    };
    (0..PAIRS)
        .map(|_| (window(COUNT), window(2 * COUNT)))
        .map(|(one, two)| (two - one) / COUNT as f64)
        .collect()
}

fn control(what: &str, pid: u32) {
    let output = Command::new("callgrind_control")
        .args([what, &pid.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("OK"), "callgrind_control {what}: {said}");
    wait::until_true("it waits again", || sleeps(pid));
}

fn total(dump: &Path) -> u64 {
    let text = wait::until("callgrind's counts are written", || {
        fs::read_to_string(dump).ok().filter(|text| text.contains("totals: "))
    });
    text.split("totals: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok()).expect("a number")
}

/// Sends each once the one before is worked off: each is a turn of the loop by itself.
fn one_by_one(pid: u32, datagrams: &[Vec<u8>], say: impl Fn(&[u8])) {
    for datagram in datagrams {
        let (taken, waited) = (datagrams_taken(pid), waits(pid));
        say(datagram);
        let mut said = Instant::now();
        while datagrams_taken(pid) == taken || waits(pid) == waited || !sleeps(pid) {
            if said.elapsed() > AGAIN {
                say(datagram);
                said = Instant::now();
            }
            thread::yield_now();
        }
    }
}

fn acks() -> Vec<f64> {
    let cluster = counted("bench-count-acks", 0, 0);
    let mut hosts = Hosts::new(&cluster);
    hosts.become_known(&cluster, HOSTS);
    let socket = Datagrams::new(&cluster.stranger);
    let out = cluster.nodes[0].dir.join("callgrind.out");
    let pid = cluster.pid();
    each(pid, &out, |count| {
        let acks = hosts.acks(count);
        one_by_one(pid, &acks, |ack| socket.send(ack, To::All(Role::Controller)));
    })
}

fn hellos() -> Vec<f64> {
    let cluster = counted("bench-count-hellos", 1, 1);
    let agent = &cluster.nodes[1];
    let mut asker = Asker::new(&cluster, agent);
    let first = asker.question();
    asker.ask(&first, asker.to());
    each(agent.pid(), &agent.dir.join("callgrind.out"), |count| {
        let questions: Vec<_> = (0..count).map(|_| asker.question()).collect();
        one_by_one(agent.pid(), &questions, |question| asker.say(question));
        asker.empty();
    })
}

/// The last byte of the tag is another one, as of a sender without the key.
fn refused() -> Vec<f64> {
    let cluster = counted("bench-count-refused", 0, 0);
    let mut hosts = Hosts::new(&cluster);
    hosts.become_known(&cluster, 1);
    let socket = Datagrams::new(&cluster.stranger);
    let pid = cluster.pid();
    each(pid, &cluster.nodes[0].dir.join("callgrind.out"), |count| {
        let mut acks = hosts.acks(count);
        for ack in &mut acks {
            *ack.last_mut().expect("a tag") ^= 1;
        }
        one_by_one(pid, &acks, |ack| socket.send(ack, To::All(Role::Controller)));
    })
}
