//! A set with which a host loses its network is undone: installed means still there.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::cluster::{Cluster, Node};
use crate::filter::Verdict::{Lose, Pass};
use crate::filter::{Judge, pass_all};
use crate::patch::Patch;
use crate::wait;

/// How long a host waits for a controller here.
const WAIT_MS: u64 = 4_000;

/// What the file `etc/net` of a node says, which the restart script of [`cutting`] does.
#[cfg(not(feature = "tipc"))]
fn networks(node: &Node) -> Vec<(&'static str, String, String)> {
    let address = format!("{}/24", node.address);
    vec![
        ("down", "link set net0 down".into(), "link set net0 up".into()),
        ("flushed", "address flush dev net0".into(), format!("address replace {address} dev net0")),
        (
            "renamed",
            "link set net0 down\nlink set net0 name gone0".into(),
            format!("link set gone0 name net0\nlink set net0 up\naddress replace {address} dev net0"),
        ),
    ]
}

#[cfg(feature = "tipc")]
fn networks(_: &Node) -> Vec<(&'static str, String, String)> {
    vec![("down", "link set net0 down".into(), "link set net0 up".into())]
}

/// A patch whose restart script applies `etc/net`, which it brings.
fn cutting(cluster: &Cluster, id: &str, cut: &str) -> Patch {
    let restart = "ip -batch \"$THIMBLE_ROOT/etc/net\"";
    Patch::new(cluster, id).file("etc/net", format!("{cut}\n").as_bytes()).script("restart", restart)
}

/// Gives a node the file that brings its network back.
fn has_network(node: &Node, network: &str) {
    fs::create_dir_all(node.root().join("etc")).unwrap();
    fs::write(node.root().join("etc/net"), format!("{network}\n")).unwrap();
}

/// A cluster whose agents wait for [`WAIT_MS`]: less than the controllers do.
fn impatient(mut cluster: Cluster, controllers: usize) -> Cluster {
    cluster.nodes.iter_mut().skip(controllers).for_each(|node| {
        node.timers.insert("install_give_up_ms", WAIT_MS);
    });
    cluster.nodes.iter_mut().take(controllers).for_each(|node| {
        node.timers.insert("install_give_up_ms", 60_000);
    });
    cluster
}

#[test]
fn a_host_that_loses_its_network_with_a_set_goes_back_and_says_so() {
    need_root!();
    let cluster = impatient(Cluster::new("lost-network", 1), 1).start();
    let host = &cluster.nodes[1];
    for (name, cut, back) in networks(host) {
        has_network(host, &back);
        let id = format!("CUTS-{name}");
        cutting(&cluster, &id, &cut).applied(&cluster);
        let said = cluster.thimble(&["host-install", "agent-1"]).failed(1);
        assert!(said.contains("the network was lost with this set: no controller was heard"), "{said}");
        assert_eq!(fs::read_to_string(host.root().join("etc/net")).unwrap(), format!("{back}\n"));
        assert!(!host.root().join(".thimble/journal").exists());
        let own = host.thimble(&["status"]).ok();
        assert!(own.contains("last install  the network was lost with this set"), "{own}");
        assert!(own.contains("agent         install-failed"), "{own}");
        cluster.thimble(&["remove", &id]).ok();
    }
    // A harmless one is installed.
    Patch::new(&cluster, "GOOD-1").file("etc/good", b"x").applied(&cluster);
    let shown = cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(shown.contains("1 of 1 installed"), "{shown}");
}

#[test]
fn a_rollout_counts_a_lost_network_as_a_failure_and_stops() {
    need_root!();
    let cluster = impatient(Cluster::new("lost-rollout", 3), 1).start();
    let agents = &cluster.nodes[1..];
    agents.iter().for_each(|node| has_network(node, "link set net0 up"));
    cutting(&cluster, "CUTS-1", "link set net0 down").applied(&cluster);
    let one_by_one = ["host-install", "--all", "--parallel", "1", "--stop-after-failures", "1"];
    let said = cluster.thimble(&one_by_one).failed(1);
    assert!(said.contains("the network was lost with this set"), "{said}");
    assert!(said.contains("1 failed"), "{said}");
    let touched = agents.iter().filter(|node| node.root().join(".thimble/last").exists()).count();
    assert_eq!(touched, 1, "the others were not asked");
}

/// A cluster of a controller and an agent that receives no datagram while the flag is true.
#[cfg(not(feature = "tipc"))]
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
#[cfg(not(feature = "tipc"))]
fn while_it_waits(
    cluster: &mut Cluster,
    is_deaf: &AtomicBool,
    then: impl FnOnce(&mut Node),
) -> crate::node::Ended {
    after(cluster, is_deaf, |_, _| {}, |_| {}, then)
}

/// The same. `in_script` comes before it is deaf, and `released` when its script may end.
#[cfg(not(feature = "tipc"))]
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

#[cfg(not(feature = "tipc"))]
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
#[cfg(not(feature = "tipc"))]
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

#[cfg(not(feature = "tipc"))]
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
#[cfg(not(feature = "tipc"))]
#[test]
fn a_message_from_before_the_scripts_ended_does_not_count() {
    use std::net::{SocketAddrV4, UdpSocket};

    use thimble::types::NodeId;
    use thimble::wire::frame::Role;
    use thimble::wire::messages::{HelloAgent, Message};

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

/// A node's own controller is heard without a network.
#[test]
fn a_node_with_both_roles_must_hear_another_controller_if_there_is_one() {
    need_root!();
    let mut cluster = Cluster::bridged("lost-both", 2, 0);
    cluster.nodes.iter_mut().for_each(|node| node.has_both_roles = true);
    let mut cluster = cluster.timer("install_give_up_ms", WAIT_MS).timer("controller_lost_ms", 10_000);
    cluster.nodes.iter_mut().for_each(Node::spawn);
    cluster.nodes.iter_mut().for_each(Node::answers);
    cluster.agree("the controllers take changes");
    wait::until_true("the controllers hear both hosts", || {
        cluster
            .nodes
            .iter()
            .all(|node| node.json(&["query-hosts"])["hosts"].as_array().is_some_and(|hosts| hosts.len() == 2))
    });
    let node = &cluster.nodes[0];
    has_network(node, "link set net0 up");
    cutting(&cluster, "CUTS-1", "link set net0 down").applied(&cluster);
    let said = node.thimble(&["host-install", "controller-0"]).failed(1);
    assert!(said.contains("the network was lost with this set: no other controller was heard"), "{said}");
    assert_eq!(fs::read_to_string(node.root().join("etc/net")).unwrap(), "link set net0 up\n");
    cluster.thimble(&["remove", "CUTS-1"]).ok();
    Patch::new(&cluster, "GOOD-1").file("etc/good", b"x").applied(&cluster);
    wait::until_true("a harmless set is installed", || {
        cluster.thimble(&["host-install", "controller-0"]).code == 0
    });
    // One that is alone hears itself.
    cluster.nodes[1].stop();
    let node = &cluster.nodes[0];
    wait::until_true("it is alone", || node.status().neighbours.iter().all(|other| other.is_lost));
    node.thimble(&["remove", "GOOD-1"]).ok();
    node.thimble(&["host-install", "controller-0"]).ok();
    assert!(!node.root().join("etc/good").exists());
}
