//! How soon a node that dies is lost, with the default timers, on the binary of `THIMBLE_BIN`: of
//! this release, of a former one, or of the other transport.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, thimble};
use crate::common::figures::{Figure, Most, skipped};
use crate::patch::Patch;
use crate::{sys, wait};

/// What takes longer is not waited for.
const MOST: Duration = Duration::from_secs(150);
/// A node dies when it was heard so shortly before: that takes longest. Over TIPC that is the same at
/// any time.
const JUST_HEARD_MS: u64 = if cfg!(feature = "tipc") { 60_000 } else { 300 };
/// Clusters that are measured side by side: all that they do is wait. Over TIPC there is one, in a
/// kernel of its own.
const ROUNDS: usize = if cfg!(feature = "tipc") { 1 } else { 3 };
const PART: &str = if cfg!(feature = "tipc") { "deaths-tipc" } else { "deaths" };
/// How often is looked.
const LOOKED_EACH: Duration = Duration::from_millis(if cfg!(feature = "tipc") { 20 } else { 100 });

/// What dies, and what the protocol promises with the default timers, in seconds: docs/guide.md, "How
/// soon a loss is known". Over TIPC: 1.5 s and as much again of a link, nothing of a program.
const WHAT: [(&str, f64); 4] = if cfg!(feature = "tipc") {
    [
        ("host killed at work", 1.0),
        ("controller killed", 1.0),
        ("host killed while idle", 1.0),
        ("link of a host cut", 3.0),
    ]
} else {
    [
        ("host killed at work", 4.5),
        ("controller killed", 35.0),
        ("host killed while idle", 35.0),
        ("link of a host cut", 35.0),
    ]
};

/// Two controllers and three hosts each; all that is told is how the first controller sees the others.
pub fn measure() {
    let rounds: Vec<_> = thread::scope(|scope| {
        let rounds: Vec<_> = (0..ROUNDS).map(|round| scope.spawn(move || one(round))).collect();
        rounds.into_iter().map(|round| round.join().expect("no panic")).collect()
    });
    let over = if cfg!(feature = "tipc") { ", TIPC" } else { "" };
    for (what, most) in WHAT {
        let name = format!("{what}, until it is lost{over}");
        let seconds: Vec<_> =
            rounds.iter().filter_map(|round| Some(round.get(what)?.as_secs_f64())).collect();
        if seconds.is_empty() {
            skipped(PART, &name, &format!("not lost within {} s", MOST.as_secs()));
            continue;
        }
        // Beside the bound: how long it took until that was seen, on a machine that may be busy.
        Figure::new(PART, &name, "s", seconds)
            .target(Most::Value(most + 2.0 * LOOKED_EACH.as_secs_f64()))
            .record();
    }
}

fn one(round: usize) -> BTreeMap<&'static str, Duration> {
    let mut lost = BTreeMap::new();
    let mut cluster = Cluster::of(&format!("deaths-{round}"), 2, 3);
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
    time(&cluster, &["host killed at work"], &mut lost, |_, _| {
        let host = cluster.host(4);
        host["state"] == "lost" || host["install"] == "no-answer"
    });
    command.kill().unwrap();
    command.wait().unwrap();

    // Just after a Hello of the first controller: its next one is what the other misses.
    let hellos = cluster.counter("hello_sent");
    wait::until_true("a hello is sent", || cluster.counter("hello_sent") > hellos);
    cluster.nodes[1].kill();
    time(&cluster, &["controller killed"], &mut lost, |cluster, _| cluster.status().neighbours[0].is_lost);

    // Only the first controller asks now.
    let is_fresh = |number: usize| cluster.host(number)["age_ms"].as_u64().unwrap() < JUST_HEARD_MS;
    wait::until_true("a round has just been answered", || is_fresh(2) && is_fresh(3));
    cluster.cut(&[3], &[0]);
    cluster.nodes[2].kill();
    let what = ["host killed while idle", "link of a host cut"];
    time(&cluster, &what, &mut lost, |cluster, at| cluster.host(2 + at)["state"] == "lost");
    lost
}

/// Adds for each of these how long it takes until `is_lost`.
fn time(
    cluster: &Cluster,
    what: &[&'static str],
    lost: &mut BTreeMap<&'static str, Duration>,
    is_lost: impl Fn(&Cluster, usize) -> bool,
) {
    let began = Instant::now();
    while what.iter().any(|what| !lost.contains_key(what)) && began.elapsed() < MOST {
        for (at, what) in what.iter().enumerate() {
            if !lost.contains_key(what) && is_lost(cluster, at) {
                lost.insert(what, began.elapsed());
            }
        }
        thread::sleep(LOOKED_EACH);
    }
}
