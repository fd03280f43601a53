//! What it takes to bring patches to another controller: the time until they are known
//! and held there, what crosses the wire, and how that compares
//! with a plain copy that makes the same hashes and with rsync's daemon; and to send one to all hosts at once,
//! beside uftp.
//!
//! `make bench` builds the static binary and names it in `THIMBLE_BIN`. Arguments name parts:
//! `cargo bench --bench sync -- sync-many`.

#![allow(dead_code, reason = "the rig is the tests'; this uses a part of it")]

#[path = "../../tests/net/ask.rs"]
mod ask;
#[path = "../../tests/net/cluster.rs"]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod copy;
#[path = "../../tests/net/filter.rs"]
mod filter;
mod loss;
#[path = "../../tests/net/netns.rs"]
mod netns;
#[path = "../../tests/net/node.rs"]
mod node;
#[path = "../../tests/net/over_udp.rs"]
mod over;
mod rsync;
mod spread;
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../../tests/net/switch.rs"]
mod switch;
#[path = "../../tests/net/sys.rs"]
mod sys;
mod uftp;
#[path = "../../tests/net/wait.rs"]
mod wait;
#[path = "../../tests/net/weather.rs"]
mod weather;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use thimble::patch::signature::TrustedKeys;

use cluster::{Cluster, Node};
use common::figures::{Figure, Most};
use common::{Numbers, Part, is_wanted, rest, turns};
use copy::copy;
use rsync::Rsync;
use support::archive::Tar;

/// Small patches brought over, one by one.
const SMALL_ROUNDS: usize = 21;
const SMALL_BYTES: usize = 4 << 10;
/// Rounds of the large one, and of the many.
const ROUNDS: usize = 5;
const MANY_ROUNDS: usize = 3;
const LARGE_BYTES: usize = 256 << 20;
const MANY: usize = 1_000;
const MANY_BYTES: usize = 16 << 10;
/// Patches that one command uploads.
const AT_ONCE: usize = 100;
/// What is aimed at, times the plain copy.
const LARGE_TARGET: f64 = 1.5;
const MANY_TARGET: f64 = 2.0;
/// docs/architecture.md, "Budgets": times the plain copy, and times rsync's daemon.
const LARGE_BUDGETS: [f64; 2] = [1.25, 1.0];

const PARTS: [Part; 4] =
    [("sync-small", small), ("sync-large", large), ("sync-many", many), ("spread", spread::measure)];

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

fn cluster(name: &str) -> Cluster {
    Cluster::bridged(name, 2, 0).start()
}

/// Bytes that gzip makes nothing of.
fn noise(len: usize) -> Vec<u8> {
    let mut numbers = Numbers::new();
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        bytes.extend_from_slice(&numbers.next().to_le_bytes());
    }
    bytes
}

/// A signed patch with a file of so many bytes, in a directory of the cluster's.
fn patch(cluster: &Cluster, id: &str, len: usize) -> PathBuf {
    let file = cluster.dir.join("patches").join(format!("{id}.patch"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, Tar::patch(id).file("files/usr/noise", &noise(len)).gzip()).unwrap();
    cluster.signer.sign(&file);
    file
}

/// Where the second controller keeps the files of patches.
fn blobs(cluster: &Cluster) -> PathBuf {
    cluster.nodes[1].state_dir().join("repo/blobs")
}

/// Where the second controller keeps a patch's file once it holds it.
fn held(cluster: &Cluster, id: &str) -> PathBuf {
    let patch = cluster.nodes[1].patch(id).expect("the patch is known");
    blobs(cluster).join(format!("{}.patch", patch.hash))
}

/// How many files there are with such an end.
fn count(dir: &Path, end: &str) -> usize {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    fs::read_dir(dir).unwrap().filter_map(name).filter(|name| name.ends_with(end)).count()
}

/// Polls without the pauses that tests have time for.
fn until(condition: impl Fn() -> bool) -> Instant {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < 5 * wait::LONG, "waited in vain");
        thread::sleep(Duration::from_micros(500));
    }
    Instant::now()
}

/// What has crossed a node's wire so far, both ways: datagrams, and bytes of all.
fn crossed(node: &Node) -> (u64, u64) {
    let (snmp, devices) = node.namespace.enter(|| {
        let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap();
        (read("snmp"), read("dev"))
    });
    let numbers =
        |line: &str| -> Vec<u64> { line.split_whitespace().filter_map(|word| word.parse().ok()).collect() };
    let datagrams = numbers(snmp.lines().filter(|line| line.starts_with("Udp:")).nth(1).unwrap());
    let device = devices.lines().find_map(|line| line.trim().strip_prefix("net0:")).unwrap();
    let bytes = numbers(device);
    // InDatagrams and OutDatagrams; received and sent bytes.
    (datagrams[0] + datagrams[3], bytes[0] + bytes[8])
}

fn small() {
    const PART: &str = "sync-small";
    let cluster = cluster("bench-small");
    let (mut known, mut is_held, mut said) = (Vec::new(), Vec::new(), Vec::new());
    let (mut datagrams, mut bytes) = (Vec::new(), Vec::new());
    for round in 0..SMALL_ROUNDS {
        let id = format!("SMALL-{round}");
        let file = patch(&cluster, &id, SMALL_BYTES);
        let before = crossed(&cluster.nodes[1]);
        let started = Instant::now();
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        thread::scope(|scope| {
            let upload = scope.spawn(|| {
                cluster.nodes[0].thimble(&["upload", file.to_str().unwrap()]).ok();
                started.elapsed()
            });
            known.push(ms(until(|| cluster.nodes[1].patch(&id).is_some()) - started));
            let path = held(&cluster, &id);
            is_held.push(ms(until(|| path.exists()) - started));
            said.push(ms(upload.join().unwrap()));
        });
        let after = crossed(&cluster.nodes[1]);
        datagrams.push((after.0 - before.0) as f64);
        bytes.push((after.1 - before.1) as f64);
    }
    let of = |what| format!("{what}, a patch of 4 KiB");
    Figure::new(PART, &of("upload until the other controller knows it"), "ms", known).record();
    Figure::new(PART, &of("upload until the other controller holds it"), "ms", is_held).record();
    Figure::new(PART, &of("upload until its command ends"), "ms", said).record();
    Figure::new(PART, &of("datagrams on the wire"), "datagrams", datagrams).record();
    Figure::new(PART, &of("bytes on the wire"), "bytes", bytes).record();
}

/// The second controller begins again without the files of patches. Returns the seconds from the
/// moment at which it begins to fetch to that at which it holds so many: verified, durable, and under
/// their names.
fn sync(cluster: &mut Cluster, number: usize) -> f64 {
    let blobs = blobs(cluster);
    let other = &mut cluster.nodes[1];
    other.stop();
    for entry in fs::read_dir(&blobs).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    rest();
    other.spawn();
    let begun = until(|| count(&blobs, ".fetch") > 0 || count(&blobs, ".patch") > 0);
    let elapsed = until(|| count(&blobs, ".patch") == number) - begun;
    other.answers();
    // What is done with the files afterwards is not to slow the others down.
    wait::until_true("all is done", || other.status().row.workers == 0);
    elapsed.as_secs_f64()
}

/// Seconds of sync, of the plain copy and of rsync's daemon, in turns.
fn beside(cluster: &mut Cluster, files: &[PathBuf], rounds: usize) -> [Vec<f64>; 3] {
    let keys = TrustedKeys::parse(std::slice::from_ref(&cluster.signer.public)).unwrap();
    // Without their signatures: the plain copy has no more.
    let given = cluster.dir.join("given");
    fs::create_dir(&given).unwrap();
    for file in files {
        fs::hard_link(file, given.join(file.file_name().unwrap())).unwrap();
    }
    let daemon = Rsync::start(cluster, &cluster.dir);
    let target = cluster.nodes[1].dir.join("copy");
    let mut seconds = [const { Vec::new() }; 3];
    for round in 0..rounds {
        for way in turns(round, 3) {
            seconds[way].push(match way {
                0 => sync(cluster, files.len()),
                1 => {
                    rest();
                    copy(files, &target, &keys).as_secs_f64()
                }
                _ => {
                    rest();
                    daemon.fetch(cluster, "given/", &target).as_secs_f64()
                }
            });
            let _ = fs::remove_dir_all(&target);
        }
    }
    seconds
}

fn large() {
    const PART: &str = "sync-large";
    let mut cluster = cluster("bench-large");
    let file = patch(&cluster, "LARGE-1", LARGE_BYTES);
    cluster.nodes[0].thimble(&["upload", file.to_str().unwrap()]).ok();
    settled(&cluster, 1);
    let [sync, copy, rsync] = beside(&mut cluster, &[file], ROUNDS);
    let figure = || Figure::new(PART, "sync of 256 MiB", "s", sync.clone());
    let [of_copy, of_rsync] = LARGE_BUDGETS.map(Most::Ratio);
    figure().beside("copy + hashes + fsync", copy).target(Most::Ratio(LARGE_TARGET)).budget(of_copy).record();
    figure().beside("rsync's daemon", rsync).budget(of_rsync).record();
}

/// Waits until the second controller holds so many files, and does nothing more.
fn settled(cluster: &Cluster, number: usize) {
    until(|| count(&blobs(cluster), ".patch") == number);
    wait::until_true("all is done", || cluster.nodes[1].status().row.workers == 0);
}

fn many() {
    const PART: &str = "sync-many";
    let mut cluster = cluster("bench-many");
    let files: Vec<_> = (0..MANY).map(|at| patch(&cluster, &format!("MANY-{at}"), MANY_BYTES)).collect();
    for some in files.chunks(AT_ONCE) {
        let names: Vec<_> = some.iter().map(|file| file.to_str().unwrap()).collect();
        cluster.nodes[0].thimble(&[&["upload"], &names[..]].concat()).ok();
    }
    settled(&cluster, MANY);
    let [sync, copy, rsync] = beside(&mut cluster, &files, MANY_ROUNDS);
    let figure = || Figure::new(PART, "sync of 1,000 patches of 16 KiB", "s", sync.clone());
    figure().beside("copy + hashes + fsync", copy).target(Most::Ratio(MANY_TARGET)).record();
    figure().beside("rsync's daemon", rsync).record();
    nothing_new(&mut cluster);
}

/// Of as many patches, when the other controller has them all and begins again.
fn nothing_new(cluster: &mut Cluster) {
    const PART: &str = "sync-many";
    settled(cluster, MANY);
    let daemon = Rsync::start(cluster, &cluster.dir);
    let target = cluster.nodes[1].dir.join("copy");
    daemon.fetch(cluster, "given/", &target);
    let (mut seconds, mut bytes) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    for round in 0..ROUNDS {
        for way in turns(round, 2) {
            let before;
            seconds[way].push(
                if way == 0 {
                    cluster.nodes[1].stop();
                    before = crossed(&cluster.nodes[1]).1;
                    let started = Instant::now();
                    cluster.nodes[1].spawn();
                    cluster.nodes[1].answers();
                    until(|| cluster.nodes[1].status().neighbours.iter().any(|other| other.is_synced))
                        - started
                } else {
                    before = crossed(&cluster.nodes[1]).1;
                    daemon.fetch(cluster, "given/", &target)
                }
                .as_secs_f64(),
            );
            bytes[way].push((crossed(&cluster.nodes[1]).1 - before) as f64);
        }
    }
    let [ours, rsync] = seconds;
    let name = "start until nothing new of 1,000 patches is known";
    Figure::new(PART, name, "s", ours).beside("rsync's daemon, nothing new", rsync).record();
    let [ours, rsync] = bytes;
    let name = "bytes on the wire until nothing new of 1,000 patches is known";
    Figure::new(PART, name, "bytes", ours).beside("rsync's daemon, nothing new", rsync).record();
}
