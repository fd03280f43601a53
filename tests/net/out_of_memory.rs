//! A worker that the kernel ends for want of memory: the operator is told so, and the host goes on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cluster::Cluster;
use crate::patch::Patch;
use crate::wait;

/// What the worker and its script may have, in bytes.
const MOST_BYTES: &str = "33554432";

/// A control group whose memory has a bound; gone when dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where this machine lets nobody make one.
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        mounts.lines().find_map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            let [_, at, kind, options, ..] = fields[..] else { return None };
            let limit = match kind {
                "cgroup" if options.split(',').any(|option| option == "memory") => "memory.limit_in_bytes",
                "cgroup2" => "memory.max",
                _ => return None,
            };
            let group = Self(Path::new(at).join(format!("thimble-net-{}", std::process::id())));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(limit), MOST_BYTES).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that has ended leaves it soon after.
        wait::until_true("the group is empty", || fs::remove_dir(&self.0).is_ok() || !self.0.exists());
    }
}

/// A file in memory; gone when dropped.
struct Shared(PathBuf);

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn the_operator_is_told_that_there_was_too_little_memory() {
    need_root!();
    need_udp!("a worker is started and ended as over UDP");
    let Some(group) = Group::new() else {
        return crate::skip(module_path!(), "no control group with a bound of its memory can be made here");
    };
    let cluster = Cluster::new("hungry", 1).start();
    let agent = &cluster.nodes[1];
    // Moves the worker and itself into the group: the daemon lacks nothing. Names the worker as who is to end
    // first, and takes all that there is, more than half of it with a file, so that this shell is not the larger.
    // It ends with the worker; where it gets on for a moment, it is next.
    let file = Shared(PathBuf::from(format!("/dev/shm/thimble-net-{}", std::process::id())));
    let takes_all = format!(
        "test -e \"$THIMBLE_ROOT/plenty\" && exit
        for pid in $PPID $$; do echo $pid >{}/cgroup.procs || exit; done
        echo 500 >/proc/$$/oom_score_adj
        echo 1000 >/proc/$PPID/oom_score_adj && head -c 20M /dev/zero >{} || exit
        x=xxxxxxxxxxxxxxxx
        while :; do x=$x$x; done",
        group.0.display(),
        file.0.display()
    );
    let patch = Patch::new(&cluster, "HUNGRY-1").file("etc/one", b"1");
    let _patch = patch.script("pre-install", &takes_all).applied(&cluster);

    let shown = cluster.thimble(&["host-install", "agent-1"]).failed(1);
    let (_, rest) =
        shown.split_once("the kernel ended the worker for want of memory: it had ").expect(&shown);
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok());
    let (had, available) = (numbers.next().unwrap(), numbers.next().unwrap());
    assert!(rest.contains(&format!("{had} KiB; {available} KiB are available now")), "{shown}");
    assert!(had > 100 && available > 1024, "{shown}");
    assert!(!agent.root().join("etc/one").exists(), "{shown}");
    assert!(agent.runs(), "the daemon goes on");

    // The same install once there is enough.
    drop(file);
    fs::write(agent.root().join("plenty"), "").unwrap();
    wait::until_true("it can be asked again", || {
        cluster.host(1)["reason"] == agent.json(&["status"])["agent"]["reason"]
    });
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert_eq!(fs::read(agent.root().join("etc/one")).unwrap(), b"1");
    drop(cluster);
    drop(group);
}
