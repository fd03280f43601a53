//! A controller with a thousand hosts: its status stays short, and costs the loop little
//! time.

use std::fs;
use std::time::{Duration, Instant};

use thimble::types::NodeId;
use thimble::wire::frame::Role;
use thimble::wire::messages::{AgentState, HelloAgentAck, Message};

use crate::cluster::Cluster;
use crate::forge::invented_host;
use crate::over::{Datagrams, To};
use crate::wait;

const HOSTS: u64 = 1_000;
/// One host in this many reports that its last install failed.
const FAILED_EACH: u64 = 50;
/// Datagrams sent at once; a default socket buffer holds about 277.
const BURST: u64 = 128;
/// A `status` of a daemon that was built without optimizing may take this much of
/// the loop's time; an optimized one takes a tenth, 1 ms.
const MOST: Duration = Duration::from_millis(10);

/// Sends the acks of hosts that do not exist otherwise.
fn introduce(cluster: &Cluster, hosts: u64) {
    let socket = Datagrams::new(&cluster.stranger);
    for number in 0..hosts {
        let is_failed = number % FAILED_EACH == 0;
        let (mut forger, ack) = invented_host(cluster, number);
        let ack = HelloAgentAck {
            patch_failed: is_failed,
            state: if is_failed { AgentState::InstallFailed } else { AgentState::Idle },
            ..ack
        };
        let datagram = forger.encode(&Message::HelloAgentAck(ack), NodeId(0));
        socket.send(&datagram, To::One(Role::Controller, cluster.address));
        if number % BURST == 0 {
            wait::until_true("the burst is heard", || {
                cluster.json(&["status"])["controller"]["hosts"].as_u64() > Some(number)
            });
        }
    }
}

/// The CPU time of a process so far, exact to the nanosecond.
fn cpu(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().and_then(|first| first.parse().ok()).unwrap())
}

#[test]
fn status_of_a_thousand_hosts_is_short_and_cheap() {
    need_root!();
    let cluster = Cluster::new("thousand", 0).timer("hello_interval_ms", 30_000).start();
    introduce(&cluster, HOSTS);
    wait::until_true("all hosts are known", || {
        cluster.json(&["status"])["controller"]["hosts"].as_u64() == Some(HOSTS)
    });
    let status = cluster.thimble(&["status"]).ok();
    assert!(status.contains("1000 of at most 1024: 980 current, 20 failed\n"), "{status}");
    assert_eq!(status.matches("\nhost   ").count(), 9, "{status}");
    assert!(status.contains("and 12 more to see to"), "{status}");
    assert!(status.lines().count() < 70 && status.len() < 6_000, "{} bytes: {status}", status.len());

    const TIMES: u32 = 50;
    let mut client = thimble::cli::client::Client::connect(&cluster.control_socket()).unwrap();
    let (before, started) = (cpu(cluster.pid()), Instant::now());
    for _ in 0..TIMES {
        client.ask(&thimble::control::Request::Status, |_| Ok(())).unwrap();
    }
    let (each, elapsed) = ((cpu(cluster.pid()) - before) / TIMES, started.elapsed() / TIMES);
    println!("status with {HOSTS} hosts: {each:?} of the loop's CPU, answered in {elapsed:?}");
    assert!(each < MOST, "{each:?}");
    let metrics = cluster.thimble(&["metrics"]).ok();
    assert!(metrics.contains("thimble_hosts{state=\"failed\"} 20\n") && metrics.len() < 20_000, "{metrics}");
}
