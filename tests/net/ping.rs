//! `ping`: what it tells of each way that works, and of each that does not.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::cluster::{Cluster, Node};
use crate::wait;
#[cfg(not(feature = "tipc"))]
use crate::weather::Weather;

/// Pings the host once by each way: the exit code, and the document.
fn pinged(node: &Node, host: &str) -> (i32, Value) {
    times(node, host, "1")
}

fn times(node: &Node, host: &str, count: &str) -> (i32, Value) {
    let ended = node.thimble(&["ping", host, "-c", count, "--json"]);
    let document = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    (ended.code, document)
}

fn codes(document: &Value) -> Vec<&str> {
    document["causes"].as_array().unwrap().iter().map(|cause| cause["code"].as_str().unwrap()).collect()
}

/// How many asks of each way were answered.
fn answered(document: &Value) -> Vec<(&str, u64)> {
    let ways = document["ways"].as_array().unwrap();
    ways.iter().map(|way| (way["way"].as_str().unwrap(), way["answered"].as_u64().unwrap())).collect()
}

/// What `ping` finds, and its exit code.
#[track_caller]
fn finds(node: &Node, host: &str, code: i32, causes: &[&str]) -> Value {
    let (ended, document) = pinged(node, host);
    assert_eq!((ended, codes(&document)), (code, causes.to_vec()), "{document}");
    document
}

const WAYS: &[&str] = match cfg!(feature = "tipc") {
    true => &["multicast", "unicast", "session"],
    false => &["multicast", "unicast", "unicast-multicast", "session"],
};

#[test]
fn a_host_that_is_well_answers_by_each_way_and_nothing_else_changes() {
    need_root!();
    let cluster = Cluster::of("ping", 2, 3).counting().start();
    wait::until_true("it is known what the hosts have", || cluster.is_settled());
    let (code, document) = times(&cluster, "agent-1", "2");
    let all: Vec<_> = WAYS.iter().map(|way| (*way, 2)).collect();
    assert_eq!((code, answered(&document), codes(&document)), (0, all, vec![]), "{document}");
    for way in document["ways"].as_array().unwrap() {
        let times = ["least_us", "median_us", "greatest_us"].map(|name| way[name].as_u64().unwrap());
        assert!(times.is_sorted() && times[2] > 0 && way["lost_percent"] == 0, "{document}");
    }
    let host = cluster.host(2);
    assert_eq!((&document["node"], &document["address"]), (&host["node"], &host["address"]));
    // By its other names, and from the other controller.
    let said = cluster.nodes[1].thimble(&["ping", host["address"].as_str().unwrap(), "-c", "1"]).ok();
    assert!(said.starts_with("agent-1 (node ") && said.contains(": 1 of 1 answered, 0 % lost, "), "{said}");
    assert!(!said.contains("because"), "{said}");
    let heard_by = if cfg!(feature = "tipc") { Value::Null } else { "multicast".into() };
    for node in &cluster.nodes {
        assert_eq!(node.json(&["status"])["troubles"], Value::Array(Vec::new()), "{}", node.name);
        for reason in ["tag", "replay", "unknown_type", "wrong_direction"] {
            assert_eq!(node.refused(reason), 0, "{}: {reason}", node.name);
        }
        for number in (2..5).filter(|_| node.is_controller) {
            assert_eq!(node.host(&cluster.nodes[number].name)["heard_by"], heard_by);
            assert_eq!(node.counter("asked_again"), 0, "{}", node.name);
        }
        if cfg!(feature = "proof") {
            assert_eq!(node.json(&["status"])["loop_allocations"], 0, "{}", node.name);
        }
    }
}

#[test]
fn a_host_that_is_down_and_one_that_is_cut_off_are_told_apart() {
    need_root!();
    let mut cluster = Cluster::of("ping-down", 1, 2).start();
    cluster.nodes[1].kill();
    let down = finds(&cluster, "agent-1", 6, &["not-running"]);
    let door = if cfg!(feature = "tipc") { "the session service of node " } else { "TCP port 7489 of " };
    let because = down["causes"][0]["because"].as_str().unwrap();
    assert!(because.contains(&format!("nobody listens on {door}")), "{down}");
    cluster.cut(&[0], &[2]);
    let cut = finds(&cluster, "agent-2", 6, &["unreachable"]);
    assert_eq!(answered(&cut), WAYS.iter().map(|way| (*way, 0)).collect::<Vec<_>>());
    cluster.heal();
    wait::until_true("it answers again", || pinged(&cluster, "agent-2").0 == 0);
}

#[test]
fn who_cannot_ping_is_told_what_to_do() {
    need_root!();
    let cluster = Cluster::new("ping-none", 2).start();
    let said = cluster.thimble(&["ping", "agnt-1"]).failed(1);
    assert!(said.contains("No host agnt-1 is known") && said.contains("never heard"), "{said}");
    let said = cluster.nodes[1].thimble(&["ping", "controller-0"]).failed(1);
    assert!(said.contains("no controller: `thimble ping` it from one that is"), "{said}");
    assert!(cluster.thimble(&["ping", "agent-1", "-c", "0"]).failed(2).contains("--count wants a number"));

    // A second one while the first is at work.
    let mut first = cluster.namespace.command(&cluster.binary);
    first.arg("--config").arg(cluster.config_file()).args(["ping", "agent-1", "-c", "1000"]);
    let mut first = first.stdout(Stdio::piped()).spawn().unwrap();
    // It is at work once its first attempt is shown.
    let shown = BufReader::new(first.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut shown = shown.skip_while(|line| !line.starts_with("  1, "));
    assert!(shown.next().is_some());
    let said = cluster.thimble(&["ping", "agent-2", "-c", "1"]).failed(1);
    assert!(said.contains("Another ping is at work"), "{said}");
    first.kill().unwrap();
    first.wait().unwrap();
    cluster.thimble(&["ping", "agent-2", "-c", "1"]).ok();
}

#[cfg(not(feature = "tipc"))]
#[test]
fn multicast_that_a_switch_drops_is_told_by_its_direction() {
    need_root!();
    let cluster = Cluster::of("ping-multicast", 1, 1).start();
    cluster.drop_multicast(&[0], &[1]);
    finds(&cluster, "agent-1", 1, &["multicast-there"]);
    cluster.drop_multicast(&[1], &[0]);
    let neither = finds(&cluster, "agent-1", 1, &["multicast"]);
    assert_eq!(
        answered(&neither),
        [("multicast", 0), ("unicast", 1), ("unicast-multicast", 0), ("session", 1)]
    );
    let said = cluster.thimble(&["ping", "agent-1", "-c", "1"]).failed(1);
    assert!(said.contains("snoops IGMP without a querier") && said.contains("100 % lost"), "{said}");
    cluster.heal();
    cluster.drop_multicast(&[1], &[0]);
    finds(&cluster, "agent-1", 1, &["multicast-back"]);
    cluster.heal();
    finds(&cluster, "agent-1", 0, &[]);
}

/// One that is listed as a peer is sent all that goes to the group, but for the asks of `ping`.
#[cfg(not(feature = "tipc"))]
#[test]
fn multicast_is_not_taken_to_reach_a_peer_that_is_sent_copies() {
    need_root!();
    let cluster = Cluster::of("ping-peer", 1, 1).peers(0, &[1]).peers(1, &[0]).without_multicast().start();
    finds(&cluster, "agent-1", 1, &["multicast"]);
    cluster.with_multicast();
    finds(&cluster, "agent-1", 0, &[]);
}

#[cfg(not(feature = "tipc"))]
#[test]
fn a_cluster_without_groups_is_not_asked_by_multicast() {
    need_root!();
    let mut cluster = Cluster::of("ping-alone", 1, 1).peers(0, &[1]).peers(1, &[0]);
    for node in &mut cluster.nodes {
        node.settings.push(("network", "multicast = false".into()));
    }
    let cluster = cluster.start();
    let document = finds(&cluster, "agent-1", 0, &[]);
    assert_eq!(answered(&document), [("unicast", 1), ("session", 1)]);
    let said = cluster.thimble(&["ping", "agent-1", "-c", "1"]).ok();
    assert!(said.contains("not asked by multicast: network.multicast is false here"), "{said}");
}

#[cfg(not(feature = "tipc"))]
#[test]
fn unicast_and_sessions_that_are_blocked_are_told_with_the_port_to_open() {
    need_root!();
    let cluster = Cluster::of("ping-blocked", 1, 1).start();
    cluster.set_weather(Weather { no_unicast: true, ..Weather::default() });
    let blocked = finds(&cluster, "agent-1", 1, &["unicast"]);
    assert!(blocked["causes"][0]["to_do"].as_str().unwrap().contains("UDP port 7489 of "), "{blocked}");
    cluster.set_weather(Weather { no_sessions: true, ..Weather::default() });
    let silent = finds(&cluster, "agent-1", 1, &["session-silent"]);
    let because = silent["causes"][0]["because"].as_str().unwrap();
    assert!(because.starts_with("TCP port 7489 of ") && because.ends_with(": no answer in 3 s"), "{silent}");
    cluster.set_weather(Weather { no_sessions: true, no_unicast: true, ..Weather::default() });
    finds(&cluster, "agent-1", 1, &["unicast", "session-silent"]);
    cluster.set_weather(Weather { no_datagrams: true, ..Weather::default() });
    finds(&cluster, "agent-1", 1, &["datagrams"]);
    cluster.set_weather(Weather::default());
    finds(&cluster, "agent-1", 0, &[]);
}

#[cfg(not(feature = "tipc"))]
#[test]
fn a_wire_that_loses_shows_how_much() {
    need_root!();
    let cluster = Cluster::of("ping-losses", 1, 1).start();
    cluster.set_weather(Weather { lost_permille: 300, ..Weather::default() });
    let (_, document) = times(&cluster, "agent-1", "8");
    assert!(codes(&document).contains(&"losses"), "{document}");
    let answers: u64 = answered(&document).iter().map(|(_, answered)| answered).sum();
    assert!((8..32).contains(&answers), "{document}");
}
