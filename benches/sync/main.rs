//! What it takes to bring a patch to another controller: the time until it is known
//! and held there, what crosses the wire, and for a large one, how that compares
//! with a plain copy that makes the same hashes and with rsync's daemon.
//!
//! `make bench` builds the static binary and names it in `THIMBLE_BIN`.

#![allow(dead_code, reason = "the rig is the tests'; this uses a part of it")]

#[path = "../../tests/net/ask.rs"]
mod ask;
#[path = "../../tests/net/cluster.rs"]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../tests/net/filter.rs"]
mod filter;
#[path = "../../tests/net/netns.rs"]
mod netns;
#[path = "../../tests/net/node.rs"]
mod node;
#[path = "../../tests/net/over_udp.rs"]
mod over;
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

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use thimble::patch::signature::{Claim, TrustedKeys};

use cluster::{Cluster, Node};
use common::{Numbers, median, rest};
use support::archive::Tar;
use support::sign::signature_path;

/// Small patches brought over, of whose times the median is told.
const SMALL_ROUNDS: usize = 21;
const SMALL_BYTES: usize = 4 << 10;
/// Rounds of the large one, of each of whose ways the fastest is told.
const LARGE_ROUNDS: usize = 5;
const LARGE_BYTES: usize = 256 << 20;
/// Of the speed of a plain copy (docs/architecture.md, "Budgets").
const LEAST_RATIO: f64 = 0.8;
const RSYNC_PORT: u16 = 8730;

fn main() {
    if !sys::is_root() {
        println!("SKIPPED: bench needs root (tests/rig/as_root.sh COMMAND)");
        return;
    }
    let mut cluster = Cluster::bridged("bench-sync", 2, 0).start();
    small(&cluster);
    large(&mut cluster);
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

/// A signed patch with a file of so many bytes.
fn patch(cluster: &Cluster, id: &str, len: usize) -> PathBuf {
    let file = cluster.dir.join(format!("{id}.patch"));
    fs::write(&file, Tar::patch(id).file("files/usr/noise", &noise(len)).gzip()).unwrap();
    cluster.signer.sign(&file);
    file
}

/// Where the second controller keeps a patch's file once it holds it.
fn held(cluster: &Cluster, id: &str) -> PathBuf {
    let patch = cluster.nodes[1].patch(id).expect("the patch is known");
    cluster.nodes[1].state_dir().join(format!("repo/blobs/{}.patch", patch.hash))
}

/// Polls without the pauses that tests have time for.
fn until(condition: impl Fn() -> bool) -> Instant {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < 5 * wait::LONG, "waited in vain");
        thread::sleep(Duration::from_micros(200));
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

fn small(cluster: &Cluster) {
    let (mut known, mut is_held, mut said) = (Vec::new(), Vec::new(), Vec::new());
    let (mut datagrams, mut bytes) = (Vec::new(), Vec::new());
    let mut file_len = 0;
    for round in 0..SMALL_ROUNDS {
        let id = format!("SMALL-{round}");
        let file = patch(cluster, &id, SMALL_BYTES);
        file_len = fs::metadata(&file).unwrap().len();
        let before = crossed(&cluster.nodes[1]);
        let started = Instant::now();
        thread::scope(|scope| {
            let upload = scope.spawn(|| {
                cluster.nodes[0].thimble(&["upload", file.to_str().unwrap()]).ok();
                started.elapsed()
            });
            known.push(until(|| cluster.nodes[1].patch(&id).is_some()) - started);
            let path = held(cluster, &id);
            is_held.push(until(|| path.exists()) - started);
            said.push(upload.join().unwrap());
        });
        let after = crossed(&cluster.nodes[1]);
        datagrams.push(after.0 - before.0);
        bytes.push(after.1 - before.1);
    }
    datagrams.sort_unstable();
    bytes.sort_unstable();
    println!(
        "a patch of {file_len} bytes: known to the other controller {:.1?} after its upload was asked for, held \
         after {:.1?}, the command's reply after {:.1?}; {} datagrams, {} bytes on the wire",
        median(known),
        median(is_held),
        median(said),
        datagrams[SMALL_ROUNDS / 2],
        bytes[SMALL_ROUNDS / 2],
    );
}

/// rsync's daemon, which gives away one directory.
struct Rsync(Child);

impl Rsync {
    fn start(cluster: &Cluster, directory: &Path) -> Self {
        let config = cluster.dir.join("rsyncd.conf");
        let directory = directory.display();
        fs::write(
            &config,
            format!("use chroot = no\nuid = 0\ngid = 0\n[patches]\npath = {directory}\nread only = yes\n"),
        )
        .unwrap();
        let mut command = cluster.nodes[0].namespace.command("rsync");
        command.args(["--daemon", "--no-detach", &format!("--port={RSYNC_PORT}")]);
        command.arg(format!("--config={}", config.display())).stdin(Stdio::null());
        let daemon = sys::dies_with_parent(&mut command).spawn().expect("rsync is installed (make setup)");
        let to = format!("{}:{RSYNC_PORT}", cluster.nodes[0].address);
        let answers = || cluster.nodes[1].namespace.enter(|| TcpStream::connect(&to).is_ok());
        wait::until_true("rsync's daemon answers", answers);
        Self(daemon)
    }
}

impl Drop for Rsync {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rsync(cluster: &Cluster, name: &str, to: &Path) -> Duration {
    let from = format!("rsync://{}:{RSYNC_PORT}/patches/{name}", cluster.nodes[0].address);
    let mut command = cluster.nodes[1].namespace.command("rsync");
    command.args(["--fsync", &from]).arg(to);
    let started = Instant::now();
    assert!(command.status().unwrap().success(), "rsync");
    started.elapsed()
}

/// Copies, makes BLAKE3 and BLAKE2b as a controller does, and has it on the disk.
fn copy(from: &Path, to: &Path, keys: &TrustedKeys) -> Duration {
    let signature = fs::read(signature_path(from)).unwrap();
    let started = Instant::now();
    let claim = Claim::parse(&signature, keys).unwrap();
    let mut pass = claim.begin();
    let (mut source, mut target) = (File::open(from).unwrap(), File::create(to).unwrap());
    let mut buffer = vec![0; 128 << 10];
    loop {
        let len = source.read(&mut buffer).unwrap();
        if len == 0 {
            break;
        }
        pass.update(&buffer[..len]).unwrap();
        target.write_all(&buffer[..len]).unwrap();
    }
    target.sync_all().unwrap();
    pass.finish().unwrap();
    started.elapsed()
}

/// From the moment at which the other controller begins to fetch the file to that
/// at which it holds it: verified, durable, and under its name.
fn sync(other: &mut Node, held: &Path) -> Duration {
    other.stop();
    for end in ["patch", "minisig", "index"] {
        fs::remove_file(held.with_extension(end)).unwrap();
    }
    rest();
    other.spawn();
    let begun = until(|| held.with_extension("fetch").exists());
    let elapsed = until(|| held.exists()) - begun;
    other.answers();
    // What is done with the file afterwards is not to slow the others down.
    wait::until_true("all is done", || other.status().row.workers == 0);
    elapsed
}

fn large(cluster: &mut Cluster) {
    let id = "LARGE-1";
    let file = patch(cluster, id, LARGE_BYTES);
    cluster.nodes[0].thimble(&["upload", file.to_str().unwrap()]).ok();
    wait::until_true("the patch is known", || cluster.nodes[1].patch(id).is_some());
    let held = held(cluster, id);
    wait::until_true("it is held, and all is done", || {
        held.exists() && cluster.nodes[1].status().row.workers == 0
    });
    let name = file.file_name().unwrap().to_str().unwrap();
    let keys = TrustedKeys::parse(std::slice::from_ref(&cluster.signer.public)).unwrap();
    let _daemon = Rsync::start(cluster, &cluster.dir);
    let target = cluster.nodes[1].dir.join("copy");
    let mut best = [Duration::MAX; 3];
    for round in 1..=LARGE_ROUNDS {
        let sync = sync(&mut cluster.nodes[1], &held);
        rest();
        let copy = copy(&file, &target, &keys);
        fs::remove_file(&target).unwrap();
        rest();
        let rsync = rsync(cluster, name, &target);
        fs::remove_file(&target).unwrap();
        println!(
            "256 MiB, round {round}: sync {sync:.2?}, plain copy {copy:.2?}, rsync's daemon {rsync:.2?}"
        );
        for (best, time) in best.iter_mut().zip([sync, copy, rsync]) {
            *best = time.min(*best);
        }
    }
    let [sync, copy, rsync] = best.map(|time| time.as_secs_f64());
    let mib_per_s = 256.0 / sync;
    println!(
        "256 MiB, the best of each: sync {sync:.2} s ({mib_per_s:.0} MiB/s), {:.2} x the speed of a plain copy with \
         BLAKE3, BLAKE2b and fsync (budget {LEAST_RATIO}), {:.2} x that of rsync's daemon (budget 1)",
        copy / sync,
        rsync / sync,
    );
    assert!(copy / sync >= LEAST_RATIO, "slower than the plain copy allows");
    assert!(sync < rsync, "slower than rsync's daemon");
}
