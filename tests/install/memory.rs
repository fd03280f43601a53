//! What an install, a removal, the undoing of either and a start take of memory, however
//! many files the host has already. What an upload takes is in `tests/memory`.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use thimble::limits;

use crate::local::Both;
use crate::pieces::{Patch, file, link, patch};
use crate::rig::{run, skip};
use crate::support::netns::Namespace;
use crate::support::peak;
use crate::support::thimble;

/// docs/architecture.md, "Budgets": for as many files as a patch may have, and for at
/// most [`FEW`].
const MOST_KIB: u64 = 12 << 10;
const MOST_KIB_FOR_FEW: u64 = 4 << 10;

/// As many as a patch may have: its metadata, its script and four directories count too.
const MOST: usize = limits::PATCH_MEMBERS - 6;
/// What a host has already.
const MANY: usize = 16_384;
const FEW: usize = 1_000;

/// A node that is controller and agent, in memory that has room for all files twice.
struct Node {
    both: Both,
    namespace: Namespace,
    /// What was done, the memory that it took, and its budget.
    peaks: Vec<(String, u64, u64)>,
}

impl Node {
    fn new() -> Self {
        let both = Both::new("memory");
        run(Command::new("mount").args(["-o", "remount,size=1g,nr_inodes=0"]).arg(&both.dir));
        let (config, socket) = (both.dir.join("thimble.toml"), both.dir.join("control.sock"));
        let text = fs::read_to_string(&config).unwrap();
        let line = format!("[node]\ncontrol_socket = \"{}\"\n", socket.display());
        // It need not wait long for other controllers: there are none.
        let timers = "[timers]\nhello_interval_ms = 200\nhello_start_ms = 50\nsync_retry_ms = 100\n";
        fs::write(config, text.replace("[node]\n", &line) + timers).unwrap();
        let namespace = Namespace::new();
        namespace.ip("link set lo up multicast on\nroute add 239.0.0.0/8 dev lo\n");
        Self { both, namespace, peaks: vec![] }
    }

    fn note(&mut self, what: &str, peak_kib: u64, most_kib: u64) {
        println!("{what:<40} {peak_kib:>7} KiB (budget {most_kib})");
        self.peaks.push((what.to_owned(), peak_kib, most_kib));
    }

    /// Brings the host to what is applied.
    fn installs(&mut self, what: &str, most_kib: u64) {
        let mut command = self.both.command(thimble().as_ref(), &["install-local"]);
        let ended = peak::run(command.stdout(Stdio::null()), &[]);
        assert_eq!(ended.code, Some(0), "{what}");
        self.note(what, ended.peak_kib, most_kib);
    }

    /// The same, and a script kills the installer.
    fn is_killed(&self) {
        let killed = self.both.command(thimble().as_ref(), &["install-local"]).output().unwrap();
        assert_eq!(killed.status.code(), None, "killed: {killed:?}");
    }

    fn start(&self) -> Daemon<'_> {
        let mut command = self.namespace.command(&thimble());
        command.arg("--config").arg(self.both.dir.join("thimble.toml")).arg("run");
        let log = fs::File::create(self.both.dir.join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let daemon = Daemon { node: self, child };
        daemon.rests();
        daemon
    }
}

/// A running daemon; killed when dropped.
struct Daemon<'n> {
    node: &'n Node,
    child: Child,
}

impl Daemon<'_> {
    fn says(&self, words: &[&str]) -> (i32, String) {
        self.node.namespace.enter(|| self.node.both.thimble(words))
    }

    /// Waits until no worker is left. Returns the most memory that one had so far, in KiB.
    fn rests(&self) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let (code, said) = self.says(&["--json", "status"]);
            let status: Value = serde_json::from_str(&said).unwrap_or_default();
            let is_known = !status["agent"]["installed_digest"].is_null();
            if code == 0 && is_known && status["controller"]["started"] == true && status["workers"] == 0 {
                return status["worker_peak_bytes"].as_u64().expect("workers have ended") / 1024;
            }
            let log = || fs::read_to_string(self.node.both.dir.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the daemon does not come to rest: {said}{}", log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Uploads and applies a patch.
    fn applies(&self, patch: &Patch) {
        let path = self.node.both.dir.join(format!("{}.patch", patch.id));
        fs::write(&path, patch.bytes()).unwrap();
        self.node.both.rig.signer.sign(&path);
        for words in [["upload", path.to_str().unwrap()], ["apply", &patch.id]] {
            let (code, said) = self.says(&words);
            assert_eq!(code, 0, "{words:?}: {said}");
        }
        fs::remove_file(path).unwrap();
    }

    fn removes(&self, id: &str) {
        self.does(&["remove", id]);
    }

    fn does(&self, words: &[&str]) {
        let (code, said) = self.says(words);
        assert_eq!(code, 0, "{words:?}: {said}");
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A patch with so many files, and a script that kills the installer at first.
fn files(id: &str, count: usize, script: &str) -> Patch {
    let files: Vec<_> = (0..count).map(|at| file(&format!("srv/{id}/{at}"), "")).collect();
    patch(id, files).script(script, &format!("test -e $THIMBLE_ROOT/calm-{id} || kill -9 $PPID"))
}

#[test]
fn no_worker_takes_more_memory_than_its_budget() {
    need_root!();
    if std::env::var_os("THIMBLE_BIN").is_none() {
        return skip(module_path!(), "THIMBLE_BIN names no binary of make dist; a test build takes minutes");
    }
    let mut node = Node::new();
    node.both.rig.edit("calm-MANY", "");
    node.start().applies(&files("MANY", MANY, "post-install"));
    node.installs("install of many", MOST_KIB);

    let daemon = node.start();
    let peak_kib = daemon.rests();
    daemon.applies(&files("FEW", FEW, "post-install"));
    drop(daemon);
    node.note("start on many", peak_kib, MOST_KIB_FOR_FEW);
    node.is_killed();
    assert!(node.both.rig.root.join("srv/FEW").exists(), "they are in place");
    let peak_kib = node.start().rests();
    assert!(!node.both.rig.root.join("srv/FEW").exists(), "they are gone again");
    node.note("undoing an install of few on many", peak_kib, MOST_KIB_FOR_FEW);
    node.both.rig.edit("calm-FEW", "");
    node.installs("install of few on many", MOST_KIB_FOR_FEW);
    node.start().removes("FEW");
    node.installs("removal of few on many", MOST_KIB_FOR_FEW);

    node.start().applies(&files("MOST", MOST, "pre-remove"));
    node.installs("install of most on many", MOST_KIB);
    node.start().removes("MOST");
    node.is_killed();
    let peak_kib = node.start().rests();
    node.note("undoing a removal of most on many", peak_kib, MOST_KIB);
    node.both.rig.edit("calm-MOST", "");
    node.installs("removal of most on many", MOST_KIB);
    let most = node.both.rig.root.join("srv/MOST");
    assert!(!most.exists(), "they are removed");

    let daemon = node.start();
    daemon.applies(&patch("LINK", [link("srv/MOST", "MANY")]));
    drop(daemon);
    node.installs("install of a link", MOST_KIB_FOR_FEW);
    let daemon = node.start();
    daemon.removes("LINK");
    daemon.does(&["apply", "MOST"]);
    drop(daemon);
    node.installs("a directory of most in place of a link", MOST_KIB);
    assert!(most.join("7").exists());
    fs::write(most.join("foreign"), "").unwrap();
    let daemon = node.start();
    daemon.removes("MOST");
    daemon.does(&["apply", "LINK"]);
    drop(daemon);
    let refused = node.both.command(thimble().as_ref(), &["install-local"]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("/srv/MOST/foreign, which no install made"));
    fs::remove_file(most.join("foreign")).unwrap();
    node.installs("a link in place of a directory of most", MOST_KIB);
    assert!(most.is_symlink());

    node.peaks.retain(|(_, peak_kib, most_kib)| peak_kib > most_kib);
    assert!(node.peaks.is_empty(), "over the budget: what, KiB, budget: {:?}", node.peaks);
}
