//! A daemon ends at once on a signal, whatever it does. It notifies its supervisor from
//! the start on.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Node, thimble};
use crate::patch::Patch;
use crate::{sys, wait};

/// A script that runs longer than any test waits.
const SLEEPING: &str = "sleep 600";

/// Stops a daemon with SIGTERM; returns what it logged since.
fn ends(node: &mut Node) -> String {
    let before = node.log().len();
    let pid = node.pid();
    let asked = Instant::now();
    sys::signal(pid, libc::SIGTERM).unwrap();
    // It does not wait for its workers.
    let (code, log) = node.ended();
    println!("{} ended in {:?}", node.name, asked.elapsed());
    assert_eq!(code, Some(0), "{log}");
    assert!(!node.control_socket().exists(), "the control socket's file is left");
    log[before..].to_owned()
}

/// An agent in the middle of an install whose script sleeps.
fn sleeping(name: &str) -> (Cluster, std::process::Child) {
    let cluster = Cluster::new(name, 1).start();
    let _patch = Patch::new(&cluster, "SLOW-1")
        .file("etc/slow", b"x")
        .script("post-install", SLEEPING)
        .applied(&cluster);
    let mut command = cluster.namespace.command(&thimble());
    command.arg("--config").arg(cluster.config_file()).args(["host-install", "agent-1"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let command = sys::dies_with_parent(&mut command).spawn().unwrap();
    wait::until_true("the script sleeps", || {
        cluster.host(1)["step"] == "post scripts" && cluster.nodes[1].root().join("etc/slow").exists()
    });
    (cluster, command)
}

#[test]
fn an_agent_stopped_during_an_install_undoes_it_at_its_next_start() {
    need_root!();
    let (mut cluster, mut command) = sleeping("end-agent");
    let said = ends(&mut cluster.nodes[1]);
    assert!(said.contains("cut short (post scripts): the next start undoes it"), "{said}");
    cluster.nodes[1].start();
    wait::until_true("it is undone", || !cluster.nodes[1].root().join("etc/slow").exists());
    assert_eq!(command.wait().unwrap().code(), Some(1), "its controller told the command");
}

#[test]
fn a_controller_stops_while_a_command_follows_an_install() {
    need_root!();
    let (mut cluster, command) = sleeping("end-controller");
    ends(&mut cluster.nodes[0]);
    let output = command.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("daemon"), "{said}");
}

#[test]
fn a_second_signal_changes_nothing() {
    need_root!();
    let mut cluster = Cluster::new("end-twice", 0).start();
    for _ in 0..5 {
        sys::signal(cluster.pid(), libc::SIGTERM).unwrap();
    }
    ends(&mut cluster.nodes[0]);
}

/// The notifications that a supervisor receives, up to the one that contains `last`.
fn heard_until(supervisor: &UnixDatagram, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    let mut bytes = [0; 512];
    let mut one = || match wait::uninterrupted(|| supervisor.recv(&mut bytes)) {
        Ok(len) => String::from_utf8_lossy(&bytes[..len]).into_owned(),
        Err(error) => panic!("{last} never comes: {error}"),
    };
    loop {
        heard.push(one());
        if heard.last().is_some_and(|text| text.contains(last)) {
            return heard;
        }
    }
}

/// Starts a node with this test as its supervisor.
fn supervised(node: &mut Node, abstract_name: bool, watchdog_us: u64) -> UnixDatagram {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let (name, address) = if abstract_name {
        let name = format!("thimble-test-{}", std::process::id());
        (format!("@{name}"), SocketAddr::from_abstract_name(&name).unwrap())
    } else {
        let path = node.dir.join("notify");
        (path.display().to_string(), SocketAddr::from_pathname(&path).unwrap())
    };
    let bind = || UnixDatagram::bind_addr(&address);
    // Abstract names belong to a network namespace.
    let supervisor = node.namespace.enter(bind).unwrap();
    supervisor.set_read_timeout(Some(wait::LONG)).unwrap();
    node.environment = vec![("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", watchdog_us.to_string())];
    node.spawn();
    supervisor
}

#[test]
fn a_supervisor_is_notified_of_ready_status_and_stopping() {
    need_root!();
    let mut cluster = Cluster::new("notify", 1);
    let supervisor = supervised(&mut cluster.nodes[0], false, 0);
    let heard = heard_until(&supervisor, "READY=1");
    assert_eq!(heard[0], "STATUS=controller: reading the repository", "{heard:?}");
    cluster.nodes[1].start();
    heard_until(&supervisor, "STATUS=controller: 0 patches, 1 hosts, 0 lost");
    Patch::new(&cluster, "SEEN-1").file("etc/seen", b"x").uploaded_at(&cluster, 0);
    let heard = heard_until(&supervisor, "STATUS=controller: 1 patches, 1 hosts, 0 lost");
    assert!(heard.len() <= 3, "more notifications than changes: {heard:?}");
    sys::signal(cluster.pid(), libc::SIGTERM).unwrap();
    heard_until(&supervisor, "STOPPING=1");
    assert_eq!(cluster.nodes[0].ended().0, Some(0));
}

/// A supervisor that waited for it would end the start after its time limit, again and again.
#[test]
fn a_node_without_its_interface_is_ready_and_says_what_it_waits_for() {
    need_root!();
    need_udp!("TIPC waits for its bearer");
    let mut cluster = Cluster::new("notify-waits", 0);
    cluster.unplug(0);
    let supervisor = supervised(&mut cluster.nodes[0], false, 0);
    heard_until(&supervisor, "READY=1");
    heard_until(&supervisor, "STATUS=the interface net0 is missing; controller: 0 patches, 0 hosts, 0 lost");
    cluster.plug(0);
    heard_until(&supervisor, "STATUS=controller: 0 patches, 0 hosts, 0 lost");
    cluster.nodes[0].stop();
}

#[test]
fn the_loop_feeds_the_watchdog_and_workers_do_not_inherit_its_socket() {
    need_root!();
    let mut cluster = Cluster::new("watchdog", 1);
    cluster.nodes[0].start();
    let supervisor = supervised(&mut cluster.nodes[1], true, 200_000);
    heard_until(&supervisor, "READY=1");
    let began = Instant::now();
    (0..5).for_each(|_| drop(heard_until(&supervisor, "WATCHDOG=1")));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(380), "more often than twice in the time: {took:?}");

    let _patch = Patch::new(&cluster, "SLOW-1")
        .file("etc/slow", b"x")
        .script("post-install", SLEEPING)
        .applied(&cluster);
    wait::until_true("the install is taken up", || {
        cluster.json(&["query-hosts"])["hosts"].as_array().is_some_and(|hosts| !hosts.is_empty())
    });
    let mut command = cluster.namespace.command(&thimble());
    command.arg("--config").arg(cluster.config_file()).args(["host-install", "agent-1"]);
    let mut command = sys::dies_with_parent(command.stdout(Stdio::null())).spawn().unwrap();
    heard_until(&supervisor, "STATUS=agent: installing");
    let children = wait::until("a worker is at work", || {
        let pid = cluster.nodes[1].pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        (!children.trim().is_empty()).then_some(children)
    });
    for child in children.split_whitespace() {
        let environment = fs::read(format!("/proc/{child}/environ")).unwrap();
        let environment = String::from_utf8_lossy(&environment);
        assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");
        assert!(environment.contains("PATH="), "other variables are inherited: {environment}");
    }
    sys::signal(cluster.nodes[1].pid(), libc::SIGTERM).unwrap();
    heard_until(&supervisor, "STOPPING=1");
    assert_eq!(cluster.nodes[1].ended().0, Some(0));
    command.kill().unwrap();
    command.wait().unwrap();
}
