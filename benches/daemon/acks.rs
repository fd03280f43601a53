//! The CPU that a controller spends on each HelloAgentAck, beside programs that only receive the same
//! datagrams.

use std::thread;
use std::time::Duration;

use crate::bare::{self, Call, Receiver};
use crate::cluster::Cluster;
use crate::common::figures::{Figure, Most};
use crate::common::turns;
use crate::hosts::{Hosts, NO_ROUNDS};
use crate::pace::in_bursts;
use crate::process::{cpu, sleeps};
use crate::wait;

const PART: &str = "acks";
const ROUNDS: usize = 15;
const ACKS: usize = 6_000;
const TARGET: f64 = 1.3;
/// docs/architecture.md, "Budgets".
const BUDGET: f64 = 1.3;

/// With so many hosts that send in turn.
pub fn measure() {
    let mut cluster = Cluster::new("bench-acks", 0);
    cluster.nodes[0].timers.extend(NO_ROUNDS);
    let cluster = cluster.start();
    let mut hosts = Hosts::new(&cluster);
    for number in [1, 100, 1_000] {
        hosts.become_known(&cluster, number);
        let mut spent = [const { Vec::new() }; 3];
        for round in 0..ROUNDS {
            let acks = hosts.acks(ACKS);
            for way in turns(round, 3) {
                spent[way].push(match way {
                    0 => daemon(&cluster, &hosts, &acks),
                    1 => bare(&cluster, Call::Recvmmsg, &acks),
                    _ => bare(&cluster, Call::Recv, &acks),
                });
            }
        }
        let [ours, recvmmsg, recv] = spent;
        let name = format!("CPU per HelloAgentAck, {number} {}", if number == 1 { "host" } else { "hosts" });
        let figure = || Figure::new(PART, &name, "us", ours.clone());
        figure()
            .beside("recvmmsg", recvmmsg)
            .target(Most::Ratio(TARGET))
            .budget(Most::Ratio(BUDGET))
            .record();
        figure().beside("recv", recv).record();
    }
}

/// In microseconds.
fn each(spent: Duration, taken: u64) -> f64 {
    spent.as_secs_f64() * 1e6 / taken as f64
}

fn daemon(cluster: &Cluster, hosts: &Hosts, acks: &[Vec<u8>]) -> f64 {
    let pid = cluster.nodes[0].pid();
    let before = cpu(pid);
    let taken = hosts.send(cluster, acks);
    wait::until_true("all is worked off", || sleeps(pid));
    each(cpu(pid) - before, taken)
}

fn bare(cluster: &Cluster, call: Call, acks: &[Vec<u8>]) -> f64 {
    let socket = bare::joined(&cluster.namespace, bare::GROUP);
    let sender = bare::sender(&cluster.stranger);
    let receiver = Receiver::default();
    thread::scope(|scope| {
        let spent = receiver.start(scope, &socket, call, || ());
        let taken =
            in_bursts(|ack| assert!(sender.send_to(ack, bare::GROUP).is_ok()), acks, || receiver.taken());
        receiver.end();
        each(spent.join().expect("no panic").expect("it receives"), taken)
    })
}
