//! A file that is sent to all hosts at once, over wires that lose, that double, and that take small frames alone.

use std::fs;

use crate::cluster::Cluster;
use crate::files::noise;
use crate::patch::Patch;
use crate::weather::Weather;

const MIB: usize = 1 << 20;
const RATE: &str = "40Mbit";

/// Sends a file of so many bytes to all hosts at once, and has all install it, at least so many of them from there: a host
/// whose answers are all lost counts for none. Returns what of its size was
/// sent: a per cent of it by source packets, one by repair packets.
fn all_have_it(cluster: &Cluster, id: &str, bytes: usize, least: usize) -> [u64; 2] {
    Patch::new(cluster, id).file(&format!("opt/{id}"), &noise(bytes)).uploaded_at(cluster, 0);
    let hosts = cluster.nodes.len() - 1;
    let said = cluster.thimble(&["spread", id, "--rate", RATE]).ok();
    let complete: usize = said
        .split_once(&format!(" of {hosts} hosts have it all"))
        .and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    assert!(complete >= least, "{said}");
    let sent = cluster.json(&["spread"])["sent"].clone();
    let number = |key: &str| sent[key].as_u64().unwrap_or_else(|| panic!("{key} in {sent}"));
    let percent = ["source_bytes", "repair_bytes"].map(|key| number(key) * 100 / number("size_bytes"));
    let passed = |host: usize| cluster.passed(0, host);
    let before: Vec<_> = (1..=hosts).map(passed).collect();
    cluster.thimble(&["apply", id]).ok();
    cluster.thimble(&["host-install", "--all"]).ok();
    let mut from_there = 0;
    for (host, before) in (1..=hosts).zip(before) {
        let installed = fs::read(cluster.nodes[host].root().join(format!("opt/{id}"))).unwrap();
        assert!(installed == noise(bytes), "host {host} has another content");
        from_there += usize::from(passed(host) - before < bytes as u64 / 2);
    }
    assert!(from_there >= least, "{from_there} hosts did not fetch it for themselves");
    percent
}

#[test]
fn eight_hosts_that_each_lose_one_packet_of_twenty_have_it_by_few_repair_packets() {
    need_root!();
    let cluster = Cluster::of("spread-loses", 1, 8).start();
    cluster.set_weather(Weather { lost_permille: 50, seed: 7, ..Weather::default() });
    let [source, repair] = all_have_it(&cluster, "LOSES-1", 4 * MIB, 7);
    // Each packet sent again to whom it lacks would be a third of the file.
    assert!(source < 106 && (5..25).contains(&repair), "{source} % and {repair} % of it were sent");
    assert!(cluster.lost() > 1_000, "{} frames were lost", cluster.lost());
    // Its budget. Without optimization code is larger, and it has it all the same.
    for host in &cluster.nodes[1..] {
        let peak = host.json(&["status"])["worker_peak_bytes"].as_u64().unwrap();
        assert!(peak <= 8 * MIB as u64, "a worker had {peak} bytes");
    }
}

#[test]
fn wires_that_double_all_frames_cost_nothing() {
    need_root!();
    let cluster = Cluster::of("spread-doubles", 1, 2).start();
    cluster.set_weather(Weather { is_doubled: true, ..Weather::default() });
    let [source, repair] = all_have_it(&cluster, "DOUBLES-1", 3 * MIB, 2);
    assert!(source < 106 && repair < 5, "{source} % and {repair} % of it were sent");
}

#[test]
#[cfg(not(feature = "tipc"))]
fn an_mtu_of_1280_bytes_is_enough_without_fragments() {
    need_root!();
    let cluster = Cluster::of("spread-mtu", 1, 2);
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.namespace.ip("link set net0 mtu 1280\n");
        cluster.hub.namespace.ip(&format!("link set port{number} mtu 1280\n"));
    }
    let cluster = cluster.start();
    all_have_it(&cluster, "MTU-1", 2 * MIB, 2);
    // IPv4's line has names and values, IPv6's a name and a value each.
    let made = cluster.nodes[0].namespace.enter(|| {
        let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap();
        let (four, six) = (read("snmp"), read("snmp6"));
        let mut lines = four.lines().filter_map(|line| line.strip_prefix("Ip: "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|name| name == "FragCreates").unwrap();
        let of_six = six.lines().find(|line| line.starts_with("Ip6FragCreates")).unwrap();
        [values.split(' ').nth(at), of_six.split_whitespace().nth(1)]
            .map(|value| value.unwrap().parse::<u64>().unwrap())
    });
    assert_eq!(made, [0, 0], "fragments of IPv4 and IPv6");
}
