//! One transmission to all hosts, beside uftp: what leaves the controller, how long it takes, and the memory of those that
//! take part.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Node};
use crate::common::figures::{Figure, Most, skipped};
use crate::common::rest;
use crate::loss::lose;
use crate::uftp::Uftp;
use crate::{patch, wait};

const PART: &str = "spread";
const ROUNDS: usize = 3;
const BYTES: usize = 32 << 20;
const FEW: usize = 8;
const MANY: usize = 64;
/// 1 %.
const LOST_PERMILLE: u32 = 10;
/// Ethernet, IPv4 and UDP around a datagram.
const HEADERS: u64 = 14 + 20 + 8;
/// As fast as the sender may: uftp's option for "the speed of the interface" is -1.
const UNPACED: (&str, i64) = ("10Gbit", -1);
/// What two processors carry to 64 hosts without an overflow of their sockets, with which loss would not be 1 %.
const PACED: (&str, i64) = ("24Mbit", 24_000);

/// Bytes that have left a node: those of its interface, and those of datagrams.
fn left(node: &Node) -> (u64, u64) {
    let devices = node.namespace.enter(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap());
    let device = devices.lines().find_map(|line| line.trim().strip_prefix("net0:")).unwrap();
    let numbers: Vec<u64> = device.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    (numbers[8], numbers[8] - HEADERS * numbers[9])
}

/// A cluster of so many hosts, and the file of a patch in its repository.
fn cluster(name: &str, hosts: usize, most: u64) -> (Cluster, PathBuf) {
    let mut cluster = Cluster::bridged(name, 1, hosts).timer("hello_interval_ms", 10_000);
    for host in &mut cluster.nodes[1..] {
        host.settings.push(("agent", format!("spread_cache_bytes = {most}")));
    }
    let cluster = cluster.start();
    let file = patch(&cluster, "SPREAD-1", BYTES);
    cluster.nodes[0].thimble(&["upload", file.to_str().unwrap()]).ok();
    (cluster, file)
}

/// Hosts forget what they have kept.
fn forget(cluster: &Cluster) {
    for host in &cluster.nodes[1..] {
        wait::until_true("nothing is received", || host.status().row.workers == 0);
        let _ = fs::remove_dir_all(host.state_dir().join("spread"));
    }
}

/// Has it sent; the time until the command ends. Few hosts may be left to sessions, as they would be by an operator.
fn send(cluster: &Cluster, rate: &str, hosts: usize) -> Duration {
    let started = Instant::now();
    cluster.nodes[0].thimble(&["spread", "SPREAD-1", "--rate", rate]).ok();
    let elapsed = started.elapsed();
    let sent = cluster.nodes[0].json(&["spread"])["sent"].clone();
    println!("{sent}");
    let complete = sent["complete"].as_u64().unwrap() as usize;
    assert!(complete * 100 >= hosts * 98, "{sent}");
    elapsed
}

pub fn measure() {
    few();
    many();
}

fn few() {
    let (cluster, file) = cluster("bench-spread", FEW, 1 << 30);
    let payload = fs::metadata(&file).unwrap().len() as f64;
    let uftp = Uftp::start(&cluster);
    let mut ours = [const { Vec::new() }; 3];
    let mut theirs = [const { Vec::new() }; 3];
    let mut peaks = Vec::new();
    for round in 0..ROUNDS {
        let add = |to: &mut [Vec<f64>; 3], send: &mut dyn FnMut() -> Duration| {
            rest();
            let before = left(&cluster.nodes[0]);
            let seconds = send().as_secs_f64();
            let after = left(&cluster.nodes[0]);
            to[0].push((after.1 - before.1) as f64 / payload);
            to[1].push((after.0 - before.0) as f64 / payload);
            to[2].push(seconds);
        };
        for way in crate::turns(round, 2) {
            match (way, &uftp) {
                (0, _) => {
                    forget(&cluster);
                    let over = AtomicBool::new(false);
                    thread::scope(|scope| {
                        let watch = scope.spawn(|| peak(&cluster, &over));
                        add(&mut ours, &mut || send(&cluster, UNPACED.0, FEW));
                        over.store(true, Ordering::Relaxed);
                        peaks.push(watch.join().unwrap());
                    });
                }
                (_, Ok(uftp)) => add(&mut theirs, &mut || uftp.send(&cluster, &file, UNPACED.1)),
                _ => {}
            }
        }
    }
    let names = [
        ("bytes of datagrams that leave the controller, 8 hosts", "x the file", Some(Most::Value(1.05))),
        ("bytes that leave its interface, 8 hosts", "x the file", None),
        ("32 MiB to 8 hosts, unpaced", "s", Some(Most::Ratio(1.0))),
    ];
    for ((name, unit, target), (ours, theirs)) in names.into_iter().zip(ours.into_iter().zip(theirs)) {
        let mut figure = Figure::new(PART, name, unit, ours);
        if uftp.is_ok() {
            figure = figure.beside("uftp", theirs);
        }
        if let Some(most) = target {
            figure = figure.target(most);
        }
        figure.record();
    }
    if let Err(why) = &uftp {
        skipped(PART, "uftp beside it", why);
    }
    let kib = |of: fn(&Peak) -> u64| peaks.iter().map(|peak| of(peak) as f64).collect();
    Figure::new(PART, "resident at most of a host's worker that receives", "KiB", kib(|peak| peak.receiver))
        .target(Most::Value(8_192.0))
        .record();
    Figure::new(PART, "of it private", "KiB", kib(|peak| peak.receiver_own)).record();
    Figure::new(
        PART,
        "resident at most of the controller's worker that sends",
        "KiB",
        kib(|peak| peak.sender),
    )
    .record();
    Figure::new(PART, "private memory of a host's daemon while it receives", "KiB", kib(|peak| peak.daemon))
        .record();
}

fn many() {
    let (cluster, file) = cluster("bench-spread-64", MANY, 1 << 30);
    let payload = fs::metadata(&file).unwrap().len() as f64;
    let name = "bytes of datagrams that leave the controller, 64 hosts, 1 % lost";
    let lossy: Result<Vec<_>, _> =
        cluster.nodes[1..].iter().map(|host| lose(&host.namespace, LOST_PERMILLE)).collect();
    let _lossy = match lossy {
        Ok(lossy) => lossy,
        Err(error) => return skipped(PART, name, &format!("no packets can be lost here: {error}")),
    };
    let sent = |send: &dyn Fn() -> Duration| {
        let before = left(&cluster.nodes[0]).1;
        let seconds = send().as_secs_f64();
        [(left(&cluster.nodes[0]).1 - before) as f64 / payload, seconds].map(|value| vec![value])
    };
    let ours = sent(&|| send(&cluster, PACED.0, MANY));
    let uftp = Uftp::start(&cluster);
    let mut theirs = None;
    match &uftp {
        Ok(uftp) => {
            forget(&cluster);
            theirs = Some(sent(&|| uftp.send(&cluster, &file, PACED.1)));
        }
        Err(why) => skipped(PART, "uftp beside it", why),
    }
    let names = [
        (name, "x the file", Some(Most::Value(1.10))),
        ("32 MiB to 64 hosts, 1 % lost, at 24 Mbit/s", "s", None),
    ];
    for (at, ((name, unit, target), ours)) in names.into_iter().zip(ours).enumerate() {
        let mut figure = Figure::new(PART, name, unit, ours);
        if let Some(theirs) = &theirs {
            figure = figure.beside("uftp", theirs[at].clone());
        }
        if let Some(most) = target {
            figure = figure.target(most);
        }
        figure.record();
    }
}

/// The most memory that was seen, in KiB.
#[derive(Clone, Copy, Default)]
struct Peak {
    receiver: u64,
    receiver_own: u64,
    sender: u64,
    daemon: u64,
}

/// Looks at the first host and the controller until it is over.
fn peak(cluster: &Cluster, over: &AtomicBool) -> Peak {
    let mut peak = Peak::default();
    let field = |pid: u32, name: &str| -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.parse().ok()
    };
    while !over.load(Ordering::Relaxed) {
        for child in children(cluster.nodes[1].pid()) {
            peak.receiver = peak.receiver.max(field(child, "VmHWM:").unwrap_or(0));
            peak.receiver_own = peak.receiver_own.max(field(child, "RssAnon:").unwrap_or(0));
        }
        for child in children(cluster.nodes[0].pid()) {
            peak.sender = peak.sender.max(field(child, "VmHWM:").unwrap_or(0));
        }
        peak.daemon = peak.daemon.max(field(cluster.nodes[1].pid(), "RssAnon:").unwrap_or(0));
        thread::sleep(Duration::from_millis(20));
    }
    peak
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(Path::new("/proc").join(format!("{pid}/task/{pid}/children")));
    list.unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect()
}
