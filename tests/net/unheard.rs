//! A host that hears nothing for a while after an install: it waits, and commits nothing unheard.

use std::fs;
use std::net::{SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use thimble::types::NodeId;
use thimble::wire::frame::Role;
use thimble::wire::messages::{HelloAgent, Message};

use crate::cluster::{Cluster, Node};
use crate::filter::Verdict::{Lose, Pass};
use crate::filter::{Judge, pass_all};
use crate::lost_network::impatient;
use crate::patch::Patch;
use crate::wait;

/// A cluster of a controller and an agent that receives no datagram while the flag is true.
fn one_that_can_go_deaf(name: &str, wait_ms: u64) -> (Cluster, Arc<AtomicBool>) {
    let is_deaf = Arc::new(AtomicBool::new(false));
    let deaf = is_deaf.clone();
    let to_agent: Judge = Box::new(move |_, _| if deaf.load(Ordering::SeqCst) { Lose } else { Pass });
    let mut cluster = impatient(Cluster::filtered(name, 1, pass_all(), to_agent), 1);
    cluster.nodes[1].timers.insert("install_give_up_ms", wait_ms);
    (cluster.start(), is_deaf)
}

/// Does something while a host that has gone deaf waits for a controller. Returns what the
/// command said.
fn while_it_waits(
    cluster: &mut Cluster,
    is_deaf: &AtomicBool,
    then: impl FnOnce(&mut Node),
) -> crate::node::Ended {
    after(cluster, is_deaf, |_, _| {}, |_| {}, then)
}

/// The same. `in_script` comes before it is deaf, and `released` when its script may end.
fn after(
    cluster: &mut Cluster,
    is_deaf: &AtomicBool,
    in_script: impl FnOnce(&Node, &Node),
    released: impl FnOnce(&Node),
    then: impl FnOnce(&mut Node),
) -> crate::node::Ended {
    let waits = "[ $THIMBLE_ACTION = rollback ] && exit\n\
                 touch \"$THIMBLE_ROOT/waits\"; while test -e \"$THIMBLE_ROOT/waits\"; do sleep 0.02; done";
    Patch::new(cluster, "WAITS-1").file("etc/waits", b"x").script("restart", waits).applied(cluster);
    let (controller, agents) = cluster.nodes.split_at_mut(1);
    let host = &mut agents[0];
    thread::scope(|scope| {
        let asked = scope.spawn(|| controller[0].thimble(&["host-install", "agent-1"]));
        let waiting = host.root().join("waits");
        wait::until_true("the install waits in its script", || waiting.exists());
        in_script(&controller[0], host);
        is_deaf.store(true, Ordering::SeqCst);
        fs::remove_file(&waiting).unwrap();
        released(host);
        wait::until_true("its own status says that it waits", || {
            host.thimble(&["status"]).ok().contains("agent         installed, waits to hear a controller, ")
        });
        assert_eq!(controller[0].host("agent-1")["step"], "health", "it is still at work");
        then(host);
        asked.join().unwrap()
    })
}

#[test]
fn a_set_is_committed_once_a_controller_is_heard_and_not_before() {
    need_root!();
    let (mut cluster, is_deaf) = one_that_can_go_deaf("deaf-for-a-while", 60_000);
    let said = while_it_waits(&mut cluster, &is_deaf, |host| {
        let status = host.json(&["status"]);
        assert_eq!(status["agent"]["installed"], 0, "{status}");
        assert_eq!(status["agent"]["awaits"]["wait_ms"], 60_000, "{status}");
        let (code, said) = {
            let ended = host.thimble(&["install-local"]);
            (ended.code, [ended.stdout, ended.stderr].concat())
        };
        assert_eq!(code, 1, "{said}");
        is_deaf.store(false, Ordering::SeqCst);
    });
    assert!(said.ok().contains("1 of 1 installed"));
    assert_eq!(cluster.nodes[1].json(&["status"])["agent"]["awaits"], serde_json::Value::Null);
}

/// The daemon is killed while it waits: it goes on waiting, and commits nothing unheard.
#[test]
fn a_host_that_restarts_while_it_waits_goes_on_waiting() {
    need_root!();
    let (mut cluster, is_deaf) = one_that_can_go_deaf("deaf-restart", 60_000);
    let said = while_it_waits(&mut cluster, &is_deaf, |host| {
        host.kill();
        host.start();
        wait::until_true("it waits again", || host.json(&["status"])["agent"]["awaits"]["wait_ms"] == 60_000);
        assert_eq!(host.json(&["status"])["agent"]["installed"], 0);
        is_deaf.store(false, Ordering::SeqCst);
    });
    assert!(said.ok().contains("1 of 1 installed"));
    assert_eq!(cluster.nodes[1].json(&["status"])["agent"]["installed"], 1);
}

#[test]
fn a_host_that_restarts_again_and_again_unheard_goes_back() {
    need_root!();
    let (mut cluster, is_deaf) = one_that_can_go_deaf("deaf-loop", 60_000);
    let said = while_it_waits(&mut cluster, &is_deaf, |host| {
        let journal = host.root().join(".thimble/journal");
        for start in 1.. {
            host.kill();
            host.start();
            wait::until_true("recovery has ended", || {
                let status = host.json(&["status"]);
                status["agent"]["awaits"] != serde_json::Value::Null || !journal.exists()
            });
            if !journal.exists() {
                assert_eq!(start, 4);
                break;
            }
        }
        assert!(!host.root().join("etc/waits").exists());
        is_deaf.store(false, Ordering::SeqCst);
    });
    let said = said.failed(1);
    assert!(
        said.contains("the network was lost with this set: no controller was heard after 3 starts"),
        "{said}"
    );
}

/// A message that came while the scripts ran shows nothing, even if the daemon reads it after
/// their end.
#[test]
fn a_message_from_before_the_scripts_ended_does_not_count() {
    need_root!();
    let (mut cluster, is_deaf) = one_that_can_go_deaf("deaf-queued", 60_000);
    let in_script = |controller: &Node, host: &Node| {
        let mut forger = crate::forge::with_keys_of(controller, Role::Controller, Some(NodeId(0x5EC0)));
        let node = host.json(&["status"])["node"].as_str().unwrap().to_owned();
        let node = NodeId(u64::from_str_radix(&node, 16).unwrap());
        crate::sys::signal(host.pid(), libc::SIGSTOP).unwrap();
        let hello = Message::HelloAgent(HelloAgent { op_counter: 1, ack_window_ms: 10 });
        let to = SocketAddrV4::new(host.address.to_string().parse().unwrap(), 7489);
        let socket = host.namespace.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
        socket.send_to(&forger.encode(&hello, node), to).unwrap();
    };
    let released = |host: &Node| {
        let pid = host.pid();
        wait::until_true("its worker has ended", || {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            let ended = |child: &str| {
                let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
                stat.contains(") Z ")
            };
            children.split_whitespace().all(ended)
        });
        crate::sys::signal(pid, libc::SIGCONT).unwrap();
    };
    let said = after(&mut cluster, &is_deaf, in_script, released, |host| {
        let status = host.json(&["status"]);
        assert_eq!(
            (&status["agent"]["installed"], &status["counters"]["refused_tag"]),
            (&0.into(), &0.into())
        );
        is_deaf.store(false, Ordering::SeqCst);
    });
    assert!(said.ok().contains("1 of 1 installed"));
}
