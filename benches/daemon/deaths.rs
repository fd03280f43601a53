//! How soon a node that dies is lost, with the default timers, on the binary of `THIMBLE_BIN`: of
//! this release, of a former one, or of the other transport.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, thimble};
use crate::patch::Patch;
use crate::{sys, wait};

/// What takes longer is not waited for.
const MOST: Duration = Duration::from_secs(150);
/// A node dies when it was heard so shortly before: that takes longest. Over TIPC that is the same at
/// any time.
const JUST_HEARD_MS: u64 = if cfg!(feature = "tipc") { 60_000 } else { 300 };

/// Two controllers and three hosts; all that is printed is how the first controller sees the others.
pub fn print() {
    let mut cluster = Cluster::of("deaths", 2, 3);
    cluster.nodes.iter_mut().for_each(|node| node.timers.clear());
    let mut cluster = cluster.start();
    let patch = Patch::new(&cluster, "SLOW-1").file("etc/slow", b"x");
    let _patch = patch.script("post-install", "sleep 600").applied(&cluster);
    let mut command = cluster.namespace.command(&thimble());
    command.arg("--config").arg(cluster.config_file()).args(["host-install", "agent-3"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut command = sys::dies_with_parent(&mut command).spawn().unwrap();
    wait::until_true("a host is at work", || cluster.host(4)["step"] == "post scripts");
    cluster.nodes[4].kill();
    time(&cluster, &["host killed at work"], |_, _| {
        let host = cluster.host(4);
        host["state"] == "lost" || host["install"] == "no-answer"
    });
    command.kill().unwrap();
    command.wait().unwrap();

    // Just after a Hello of the first controller: its next one is what the other misses.
    let hellos = cluster.counter("hello_sent");
    wait::until_true("a hello is sent", || cluster.counter("hello_sent") > hellos);
    cluster.nodes[1].kill();
    time(&cluster, &["controller killed"], |cluster, _| cluster.status().neighbours[0].is_lost);

    // Only the first controller asks now.
    let is_fresh = |number: usize| cluster.host(number)["age_ms"].as_u64().unwrap() < JUST_HEARD_MS;
    wait::until_true("a round has just been answered", || is_fresh(2) && is_fresh(3));
    cluster.cut(&[3], &[0]);
    cluster.nodes[2].kill();
    let what = ["host killed while idle", "link of a host cut"];
    time(&cluster, &what, |cluster, at| cluster.host(2 + at)["state"] == "lost");
}

/// Prints for each of these how long it takes until `is_lost`.
fn time(cluster: &Cluster, what: &[&str], is_lost: impl Fn(&Cluster, usize) -> bool) {
    let began = Instant::now();
    let mut lost = BTreeMap::new();
    while lost.len() < what.len() && began.elapsed() < MOST {
        for at in 0..what.len() {
            if !lost.contains_key(&at) && is_lost(cluster, at) {
                lost.insert(at, began.elapsed());
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    for (at, what) in what.iter().enumerate() {
        match lost.get(&at) {
            Some(after) => println!("{what:<30} lost after {:>5.1} s", after.as_secs_f64()),
            None => println!("{what:<30} not lost after {} s", MOST.as_secs()),
        }
    }
}
