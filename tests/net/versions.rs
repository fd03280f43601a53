//! A version that knows nothing of files that are sent to all hosts, beside this one.

use std::path::Path;

use crate::cluster::Cluster;
use crate::files::noise;
use crate::patch::Patch;
use crate::{skip, wait};

const MIB: usize = 1 << 20;

/// The binary of the version before, which `tests/rig/previous.sh` builds.
fn previous() -> Option<String> {
    let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/previous/debug/thimble");
    if !binary.is_file() {
        skip(module_path!(), "the version before is not built (tests/rig/previous.sh)");
        return None;
    }
    Some(binary.to_str().unwrap().to_owned())
}

fn patch(cluster: &Cluster, id: &str, bytes: usize) {
    Patch::new(cluster, id).file(&format!("opt/{id}"), &noise(bytes)).uploaded_at(cluster, 0);
}

fn is_installed(cluster: &Cluster, host: usize, id: &str, bytes: usize) -> bool {
    let file = cluster.nodes[host].root().join(format!("opt/{id}"));
    std::fs::read(file).is_ok_and(|found| found == noise(bytes))
}

#[test]
fn an_agent_of_the_version_before_fetches_what_the_others_are_sent_at_once() {
    need_root!();
    let Some(binary) = previous() else { return };
    let mut cluster = Cluster::of("versions-agent", 1, 3);
    cluster.nodes[1].binary = binary;
    let cluster = cluster.start();
    patch(&cluster, "NEWS-1", 3 * MIB);
    let before: Vec<_> = (1..4).map(|host| cluster.passed(0, host)).collect();
    cluster.thimble(&["apply", "NEWS-1"]).ok();
    cluster.thimble(&["host-install", "--all"]).ok();
    assert!((1..4).all(|host| is_installed(&cluster, host, "NEWS-1", 3 * MIB)));
    let sent = cluster.json(&["spread"])["sent"].clone();
    assert_eq!((sent["complete"].as_u64(), sent["hosts"].as_u64()), (Some(2), Some(2)), "{sent}");
    // Each wire carries the transmission, and the session of the one host.
    for (host, before) in (1..4).zip(&before) {
        let passed = cluster.passed(0, host) - before;
        assert!(passed < 8 * MIB as u64, "host {host} was sent {passed} bytes");
    }
    // It counts what it does not know, and says nothing else of it.
    assert!(cluster.nodes[1].counter("refused_unknown_type") > 0);
    assert!(!cluster.nodes[1].log().contains("warning"), "{}", cluster.nodes[1].log());
}

#[test]
fn a_host_that_has_a_part_installs_from_a_controller_of_the_version_before() {
    need_root!();
    let Some(binary) = previous() else { return };
    let mut cluster = Cluster::of("versions-controller", 1, 1).start();
    patch(&cluster, "PART-1", 4 * MIB);
    cluster.thimble(&["apply", "PART-1"]).ok();
    let mut sending = cluster.nodes[0].namespace.command(&cluster.nodes[0].binary);
    sending.args(["--config", cluster.nodes[0].config_file().to_str().unwrap()]);
    let mut sending = sending.args(["spread", "PART-1", "--rate", "8Mbit"]).spawn().unwrap();
    let received = |key: &str| cluster.nodes[1].json(&["spread"])["received"][key].as_u64();
    wait::until_true("a block is here, and not all", || received("blocks_here") >= Some(1));
    cluster.thimble(&["spread", "--stop"]).ok();
    sending.wait().unwrap();
    assert!(received("blocks_here") < received("blocks"));
    wait::until_true("nothing is received", || cluster.nodes[1].json(&["spread"])["receiving"] == false);
    cluster.nodes[0].kill();
    cluster.nodes[0].binary = binary;
    cluster.nodes[0].start();
    wait::until_true("the host is heard", || cluster.host(1)["state"] == "idle");
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(is_installed(&cluster, 1, "PART-1", 4 * MIB));
}
