//! The session of an install: a process of its own reads it, which has nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::cluster::{Cluster, Node};
use crate::files::noise;
use crate::patch::Patch;
use crate::{sys, wait};

const SIZE: usize = 3 << 20;

/// The only child of a process, if it has one.
fn child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let children: Vec<_> = children.split_whitespace().collect();
    assert!(children.len() < 2, "{children:?}");
    children.first().and_then(|child| child.parse().ok())
}

/// A line of `/proc/PID/status`.
fn status(pid: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Some(line.expect("the kernel tells it").trim().to_owned())
}

/// What a process has open.
fn open(pid: u32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    // One may be closed meanwhile.
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.map(|link| link.display().to_string()).collect()
}

fn sockets(open: &BTreeSet<String>) -> BTreeSet<String> {
    open.iter().filter(|link| link.starts_with("socket:")).cloned().collect()
}

/// Has the agent fetch until the wire is cut. Returns its worker, and the one that has the
/// session.
fn in_the_middle_of_fetching(cluster: &Cluster) -> (u32, u32) {
    let agent = &cluster.nodes[1];
    let before = fetched_bytes(agent);
    cluster.cut_after(0, 1, 1 << 20);
    cluster.thimble(&["host-install-async", "agent-1"]).ok();
    wait::until_true("a part of the file is fetched", || fetched_bytes(agent) > before + (1 << 19));
    let worker = child(agent.pid()).expect("it installs");
    (worker, child(worker).expect("it fetches"))
}

fn fetched_bytes(agent: &Node) -> u64 {
    let files = fs::read_dir(agent.root().join(".thimble/fetch")).into_iter().flatten();
    files.map(|file| file.unwrap().metadata().map_or(0, |file| file.len())).sum()
}

fn said(agent: &Node) -> String {
    agent.json(&["status"])["agent"]["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn an_install_leaves_its_session_to_a_process_that_has_nothing_else() {
    need_root!();
    // Longer than anything is waited for: nothing below ends because a session has paused.
    let cluster = Cluster::of("fetcher", 1, 1).timer("session_idle_ms", 30_000).start();
    let children = "cat /proc/$PPID/task/$PPID/children >\"$THIMBLE_ROOT/children\"";
    let patch = Patch::new(&cluster, "LARGE-1").file("usr/large", &noise(SIZE));
    let _patch = patch.script("pre-apply", children).applied(&cluster);
    let agent = &cluster.nodes[1];

    let (worker, fetcher) = in_the_middle_of_fetching(&cluster);
    for (key, value) in [("CapPrm", 0), ("CapEff", 0), ("CapBnd", 0), ("NoNewPrivs", 1), ("Seccomp", 2)] {
        let is = u64::from_str_radix(&status(fetcher, key).unwrap(), 16);
        assert_eq!(is, Ok(value), "{key}");
    }
    let private = [worker, fetcher].map(|pid| status(pid, "RssAnon").unwrap());
    let kib = private[1].trim_end_matches(" kB").parse::<u64>().unwrap();
    println!("private memory of the two: {private:?}");
    assert!(kib > 40 && kib <= 2_048, "{kib} KiB");
    let (ours, theirs) = (open(worker), open(fetcher));
    let standard = (0..3).map(|fd| fs::read_link(format!("/proc/{fetcher}/fd/{fd}")).unwrap());
    let standard: BTreeSet<_> = standard.map(|link: PathBuf| link.display().to_string()).collect();
    let has = sockets(&theirs).difference(&standard).count();
    assert_eq!(has, 2, "the session, and what it is asked on: {theirs:?}");
    assert!(theirs.iter().all(|link| link.starts_with("socket:") || standard.contains(link)), "{theirs:?}");
    let shared: Vec<_> =
        sockets(&ours).intersection(&theirs).filter(|it| !standard.contains(*it)).cloned().collect();
    assert!(shared.is_empty(), "the worker has the session as well: {shared:?}");

    sys::signal(worker, libc::SIGKILL).unwrap();
    wait::until_true("it ends with the worker", || {
        status(fetcher, "State").is_none_or(|state| state.starts_with('Z'))
    });
    wait::until_true("recovery has ended the install", || said(agent).contains("nothing was changed"));

    cluster.heal();
    wait::until_true("it can be asked again", || cluster.host(1)["reason"] == said(agent));
    let (worker, fetcher) = in_the_middle_of_fetching(&cluster);
    sys::signal(fetcher, libc::SIGKILL).unwrap();
    wait::until_true("the install is given up", || {
        said(agent).contains("broke: the worker that fetches has ended: install again")
    });
    wait::until_true("no process is left", || child(agent.pid()).is_none());
    assert!(status(worker, "State").is_none() && status(fetcher, "State").is_none());

    cluster.heal();
    wait::until_true("it can be asked again", || cluster.host(1)["reason"] == said(agent));
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(fs::read(agent.root().join("usr/large")).unwrap() == noise(SIZE));
    let children = fs::read_to_string(agent.root().join("children")).unwrap();
    assert_eq!(children.split_whitespace().count(), 1, "the script is the only child: {children}");
}
