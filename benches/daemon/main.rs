//! What a node costs, measured on the shipped binary beside the barest program
//! that could do the same: memory, CPU for each HelloAgentAck, size.
//!
//! `make bench` builds the static binary and names it in `THIMBLE_BIN`. With the argument
//! `deaths`, how soon a node that dies is lost is measured instead.

#![allow(dead_code, reason = "the rig is the tests'; this uses a part of it")]

#[path = "../../tests/net/ask.rs"]
mod ask;
#[cfg_attr(feature = "tipc", path = "bare_tipc.rs")]
#[cfg_attr(not(feature = "tipc"), path = "bare_udp.rs")]
mod bare;
#[path = "../../tests/net/cluster.rs"]
mod cluster;
mod deaths;
#[path = "../../tests/net/filter.rs"]
mod filter;
#[path = "../../tests/net/forge.rs"]
mod forge;
#[path = "../../tests/net/netns.rs"]
mod netns;
#[path = "../../tests/net/node.rs"]
mod node;
#[cfg_attr(feature = "tipc", path = "../../tests/net/over_tipc.rs")]
#[cfg_attr(not(feature = "tipc"), path = "../../tests/net/over_udp.rs")]
mod over;
#[path = "../../tests/net/patch.rs"]
mod patch;
mod recvmmsg;
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

use std::fs;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thimble::limits;
use thimble::repo::digest::set_digest;
use thimble::types::{Hostname, NodeId, NodeType, SwVersion};
use thimble::wire::frame::Role;
use thimble::wire::messages::{HelloAgentAck, Message};

use cluster::Cluster;
use forge::{Forger, with_keys_of};
use node::SW_VERSION;
use over::{Datagrams, To};

const HOSTS: u64 = 1_000;
const ROUNDS: u64 = 60;
/// Parts of them, in each of which both receivers are measured.
const TURNS: usize = 5;
/// Datagrams sent at once; a default socket buffer holds about 277.
const BURST: usize = 128;
/// docs/architecture.md, "Budgets". Over TIPC it is told and held to nothing: a kernel in a process
/// makes system calls dear, and of these a daemon has more than the bare receiver.
const MOST_RATIO: f64 = if cfg!(feature = "tipc") { f64::INFINITY } else { 1.7 };

fn main() {
    if !sys::is_root() {
        println!("SKIPPED: bench needs root (tests/rig/as_root.sh COMMAND)");
        return;
    }
    if std::env::args().any(|argument| argument == "deaths") {
        return deaths::print();
    }
    let mut cluster = Cluster::new("bench", 1);
    cluster.nodes[1].is_split = true;
    let cluster = cluster.start();
    let (controller, agent) = (cluster.nodes[0].pid(), cluster.nodes[1].pid());
    println!("binary                         {:>8} bytes", fs::metadata(cluster::thimble()).unwrap().len());
    print_memory("agent, idle", agent, 256, 1024);
    print_memory("its installer", cluster.nodes[1].installer_pid(), 64, 512);
    print_memory("controller, 1 host", controller, 1024, 2048);

    let mut hosts: Vec<_> = (0..HOSTS).map(|number| host(&cluster, number)).collect();
    let socket = Datagrams::new(&cluster.stranger);
    let to_controllers = |datagram: &[u8]| socket.send(datagram, To::All(Role::Controller));
    let mut say = |rounds: u64| -> Vec<Vec<u8>> {
        let round = |hosts: &mut Vec<(Forger, Message)>| -> Vec<Vec<u8>> {
            hosts.iter_mut().map(|(forger, ack)| forger.encode(ack, NodeId(0))).collect()
        };
        (0..rounds).flat_map(|_| round(&mut hosts)).collect()
    };
    let introductions = say(1);
    let is_done = |_| sleeps(controller);
    send(to_controllers, &introductions, is_done);
    wait::until_true("all hosts are known", || {
        cluster.json(&["status"])["controller"]["hosts"].as_u64() == Some(HOSTS + 1)
    });
    print_memory("controller, 1,001 hosts", controller, 1024, 2048);

    let acks = say(ROUNDS);
    let received = || cluster.json(&["status"])["counters"]["datagrams_received"].as_u64().unwrap();
    // The least of each: what else the machine does makes a turn dearer, never cheaper.
    let (mut bare, mut cost) = (Duration::MAX, Duration::MAX);
    for turn in acks.chunks(acks.len() / TURNS) {
        bare = bare.min(bare_cost(&cluster, turn));
        let (before, heard) = (cpu(controller), received());
        send(to_controllers, turn, is_done);
        // What is still in the socket is worked off before the next command is answered.
        let heard = received() - heard;
        let spent = cpu(controller) - before;
        assert!(heard >= turn.len() as u64, "the socket overflowed: the cost of what was lost is missing");
        cost = cost.min(spent / turn.len() as u32);
    }
    let ratio = cost.as_secs_f64() / bare.as_secs_f64();
    println!(
        "HelloAgentAck of {} bytes: {cost:?} of CPU; bare recvmmsg {bare:?}; ratio {ratio:.2} (budget {MOST_RATIO})",
        acks[0].len()
    );
    assert!(ratio <= MOST_RATIO, "over the budget");
}

/// An agent that exists in its datagrams alone, and has what it should have.
fn host(cluster: &Cluster, number: u64) -> (Forger, Message) {
    let ack = HelloAgentAck {
        query_id: 1,
        installed_digest: set_digest([]),
        hostname: Hostname::new(&format!("compute-{number:04}.rack-{:02}.example", number / 40)).unwrap(),
        nodetype: NodeType::new("worker").unwrap(),
        sw_version: SwVersion::new(SW_VERSION).unwrap(),
        ..HelloAgentAck::default()
    };
    let forger = with_keys_of(cluster, Role::Agent, Some(NodeId(0xA6E7_0000 + number)));
    (forger, Message::HelloAgentAck(ack))
}

/// Sends in bursts that a socket's buffer holds, each once so many are worked off as
/// were sent before.
fn send(say: impl Fn(&[u8]), datagrams: &[Vec<u8>], is_done: impl Fn(usize) -> bool) {
    let mut sent = 0;
    for burst in datagrams.chunks(BURST) {
        for datagram in burst {
            say(datagram);
        }
        sent += burst.len();
        let began = Instant::now();
        loop {
            thread::sleep(Duration::from_millis(2));
            if is_done(sent) {
                break;
            }
            assert!(began.elapsed() < wait::LONG, "{sent} datagrams are not worked off");
        }
    }
}

/// Whether a process waits for something to do: it has read all that came.
fn sleeps(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().is_some_and(|behind_its_name| behind_its_name.starts_with('S'))
}

/// The CPU that a loop of epoll and recvmmsg spends on each of the same datagrams.
fn bare_cost(cluster: &Cluster, datagrams: &[Vec<u8>]) -> Duration {
    let (receiver, sender) = bare::pair(&cluster.namespace, &cluster.stranger);
    let expected = datagrams.len();
    let received = AtomicUsize::new(0);
    let spent = thread::scope(|scope| {
        let spent = scope.spawn(|| recvmmsg::drain(receiver.as_fd(), expected, &received));
        let is_done = |sent| received.load(Ordering::Relaxed) >= sent;
        send(|datagram| bare::say(&sender, datagram), datagrams, is_done);
        spent.join().expect("no panic")
    });
    spent.expect("recvmmsg") / expected as u32
}

/// The CPU time of a process so far, exact to the nanosecond.
fn cpu(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().and_then(|first| first.parse().ok()).unwrap())
}

fn print_memory(what: &str, pid: u32, most_anon_kib: u64, most_rss_kib: u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let (anon, rss) = (kib("RssAnon:"), kib("VmRSS:"));
    println!(
        "{what:<30} RssAnon {anon:>5} KiB (budget {most_anon_kib}), VmRSS {rss:>5} KiB (budget {most_rss_kib})"
    );
    assert!(anon <= most_anon_kib && rss <= most_rss_kib, "over the budget");
}

const _: () = assert!(HOSTS < limits::HOSTS_DEFAULT as u64);
