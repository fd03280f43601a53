//! `thimble watch`: it reports changes, survives a restart of the daemon, and leaves the
//! terminal clean.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cluster::{Cluster, Node};
use crate::node::thimble;
use crate::patch::Patch;
use crate::{sys, wait};

/// A running `watch` and its output.
struct Watch {
    child: Child,
    file: PathBuf,
}

impl Watch {
    fn on(node: &Node, words: &[&str]) -> Self {
        let file = node.dir.join("watched");
        let mut command = node.namespace.command(&thimble());
        command.arg("--config").arg(node.config_file()).arg("watch").args(words);
        Self::begin(command, file)
    }

    /// On a terminal of this size.
    fn on_a_terminal(node: &Node, columns: u32, lines: u32) -> Self {
        let file = node.dir.join("watched");
        let (binary, config) = (thimble(), node.config_file());
        let line = format!(
            "stty cols {columns} rows {lines}; exec {binary} --config {} watch --color never",
            config.display()
        );
        let mut command = node.namespace.command("script");
        command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
        Self::begin(command, file)
    }

    fn begin(mut command: Command, file: PathBuf) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(File::create(&file).unwrap())
            .stderr(File::create("/dev/null").unwrap());
        Self { child: sys::dies_with_parent(&mut command).spawn().unwrap(), file }
    }

    fn output(&self) -> String {
        String::from_utf8(fs::read(&self.file).unwrap()).unwrap()
    }

    fn wait_for(&self, what: &str) {
        wait::until_true(&format!("watch writes {what:?}"), || self.output().contains(what));
    }

    fn interrupted(mut self) -> (Option<i32>, String) {
        sys::signal(self.child.id(), libc::SIGINT).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, self.output())
    }
}

#[test]
fn watch_into_a_pipe_writes_a_line_for_each_change_across_a_restart() {
    need_root!();
    let mut cluster = Cluster::new("watch-pipe", 1).start();
    let _patch =
        Patch::new(&cluster, "SEEN-1").file("etc/seen", b"1").script("health", "sleep 2").applied(&cluster);
    let watch = Watch::on(&cluster.nodes[0], &[]);
    watch.wait_for("1 hosts: 1 out of date");
    cluster.thimble(&["host-install", "agent-1"]).ok();
    watch.wait_for("agent-1: health");
    watch.wait_for("over: agent-1: installed");
    watch.wait_for("1 hosts: 1 current");
    cluster.nodes[0].stop();
    watch.wait_for("TROUBLE: The daemon has not answered for");
    cluster.nodes[0].start();
    watch.wait_for("over: TROUBLE: The daemon has not answered for");
    let (code, said) = watch.interrupted();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("incarnation").count(), 2, "a restart is told: {said}");
    // If the daemon stops in the middle of an answer, the reason differs at first.
    let told = said.matches("The daemon has not answered").count();
    assert!([2, 4].contains(&told), "ages are no news: {said}");
    assert!(said.lines().all(|line| line.starts_with("20") && line.as_bytes()[10] == b' '), "{said}");
}

#[test]
fn watch_as_json_writes_documents_with_the_documented_keys() {
    need_root!();
    let cluster = Cluster::new("watch-json", 1).start();
    let watch = Watch::on(&cluster.nodes[0], &["--json"]);
    watch.wait_for(r#""what":"hosts""#);
    let (code, said) = watch.interrupted();
    assert_eq!(code, Some(0));
    for line in said.lines() {
        let document: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let keys: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["data", "key", "over", "text", "time_ms", "what"], "sorted by serde_json");
    }
}

#[test]
fn watch_until_done_ends_with_the_rollouts_exit_code() {
    need_root!();
    let cluster = Cluster::new("watch-done", 1).start();
    assert_eq!(cluster.thimble(&["watch", "--until-done"]).code, 0, "there is none");
    let sick = Patch::new(&cluster, "SICK-1").file("etc/one", b"1");
    let _sick = sick.script("health", "sleep 1; exit 3").applied(&cluster);
    let mut started = cluster.nodes[0].namespace.command(&thimble());
    started.arg("--config").arg(cluster.config_file()).args(["host-install", "--all"]).stdout(Stdio::null());
    let mut started = sys::dies_with_parent(&mut started).spawn().unwrap();
    wait::until_true("the rollout runs", || !cluster.json(&["status"])["controller"]["rollout"].is_null());
    let watched = cluster.thimble(&["watch", "--until-done"]);
    assert_eq!(watched.code, 1, "{watched:?}");
    assert!(watched.stdout.contains("health of SICK-1 ended with status 3"), "{watched:?}");
    assert_eq!(started.wait().unwrap().code(), Some(1), "as host-install's own");
    let said = cluster.nodes[1].thimble(&["watch", "--until-done"]).failed(1);
    assert!(said.contains("this node is not a controller"), "{said}");
}

#[test]
fn watch_on_a_small_terminal_shows_the_first_lines_without_wrapping() {
    need_root!();
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        return crate::skip("watch", "needs script: apt-get install bsdutils");
    }
    let cluster = Cluster::of("watch-small", 2, 1).start();
    let _patch = Patch::new(&cluster, "TINY-1").file("etc/tiny", b"1").applied(&cluster);
    let mut watch = Watch::on_a_terminal(&cluster.nodes[0], 30, 3);
    watch.wait_for("(2 more lines)");
    // It is redrawn in place.
    watch.wait_for("\x1b[2A");
    watch.child.stdin.take().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(watch.child.wait().unwrap().code(), Some(0));
    let said = watch.output();
    assert!(said.ends_with("\x1b[J^C\r\x1b[K") || said.ends_with("\x1b[J\r\x1b[K"), "{said:?}");
    for line in said.lines() {
        let shown = line.rsplit("\x1b[K").next().unwrap().trim_end_matches('\r');
        assert!(::thimble::cli::term::width(shown) <= 30, "{line:?}");
    }
}

#[test]
fn watch_without_a_daemon_fails() {
    need_root!();
    let cluster = Cluster::new("watch-none", 0);
    cluster.nodes[0].write_config();
    assert_eq!(cluster.nodes[0].thimble(&["watch"]).code, 3);
}
