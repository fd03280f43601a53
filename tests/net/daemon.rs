//! A daemon that cannot start: it reports why and what to do, and damages nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::cluster::{Cluster, Node};
use crate::patch::Patch;
use crate::{sys, wait};

/// Starts the daemon, which must exit with an error; returns its log.
fn refuses_to_start(node: &mut Node) -> String {
    node.spawn();
    let (code, log) = node.ended();
    assert_eq!(code, Some(1), "{log}");
    log
}

#[test]
fn a_second_daemon_on_the_same_state_directory_is_refused_and_the_first_keeps_running() {
    need_root!();
    for number in [0, 1] {
        let cluster = Cluster::new("second", 1).start();
        let first = &cluster.nodes[number];
        let second = first.thimble(&["run"]).failed(1);
        assert!(second.contains("state") && second.contains("another"), "{second}");
        first.thimble(&["status"]).ok();
    }
}

#[test]
fn a_stale_socket_file_is_replaced() {
    need_root!();
    let mut cluster = Cluster::new("stale", 0);
    let socket = cluster.control_socket();
    // A socket file that nothing listens on.
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    cluster.nodes[0].start();
    cluster.nodes[0].stop();
}

#[test]
fn a_file_at_the_path_of_the_control_socket_is_left_alone() {
    need_root!();
    let mut cluster = Cluster::new("in-place", 0);
    let socket = cluster.control_socket();
    fs::write(&socket, "somebody's notes").unwrap();
    let said = refuses_to_start(&mut cluster.nodes[0]);
    assert!(said.contains("control.sock") && said.contains("left alone"), "{said}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "somebody's notes");
}

#[test]
fn a_missing_key_file_is_named_with_the_command_that_makes_it() {
    need_root!();
    let mut cluster = Cluster::new("keyless", 1);
    for node in &mut cluster.nodes {
        fs::remove_file(node.key_file()).unwrap();
        let said = refuses_to_start(node);
        assert!(said.contains("thimble.key") && said.contains("thimble keygen"), "{said}");
    }
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_the_chmod_to_run() {
    need_root!();
    let mut cluster = Cluster::new("keymode", 1);
    for node in &mut cluster.nodes {
        fs::set_permissions(node.key_file(), fs::Permissions::from_mode(0o644)).unwrap();
        let said = refuses_to_start(node);
        assert!(said.contains("0644") && said.contains("chmod 600"), "{said}");
    }
}

#[test]
fn a_key_file_of_the_other_role_is_refused() {
    need_root!();
    let mut cluster = Cluster::new("keyrole", 1);
    let (of_controller, of_agent) = (cluster.nodes[0].key_file(), cluster.nodes[1].key_file());
    let between = cluster.dir.join("between");
    fs::rename(&of_controller, &between).unwrap();
    fs::rename(&of_agent, &of_controller).unwrap();
    fs::rename(&between, &of_agent).unwrap();
    for node in &mut cluster.nodes {
        let said = refuses_to_start(node);
        assert!(said.contains("key file") && said.contains("thimble keygen"), "{said}");
    }
}

/// A read-only bind mount, undone when dropped.
struct ReadOnly(std::path::PathBuf);

impl ReadOnly {
    fn new(path: std::path::PathBuf) -> Self {
        let path_text = path.to_str().unwrap();
        mount(&["--bind", path_text, path_text]);
        mount(&["-o", "remount,bind,ro", path_text]);
        Self(path)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str]) {
    let status = Command::new("mount").args(arguments).status().unwrap();
    assert!(status.success(), "mount {arguments:?}");
}

#[test]
fn a_read_only_state_directory_is_reported_and_nothing_is_damaged() {
    need_root!();
    let mut cluster = Cluster::new("read-only", 1);
    for node in &mut cluster.nodes {
        let read_only = ReadOnly::new(node.state_dir());
        let said = refuses_to_start(node);
        assert!(said.contains("/state") && said.to_lowercase().contains("read-only"), "{said}");
        drop(read_only);
        node.start();
    }
}

#[test]
fn an_upload_survives_a_kill_and_a_stop() {
    need_root!();
    let mut cluster = Cluster::new("durable", 0);
    cluster.nodes[0].start();
    let patch = Patch::new(&cluster, "DURABLE-1").file("etc/durable", b"x").applied(&cluster);
    let before = cluster.json(&["query"]);
    assert_eq!(before["patches"][0]["id"], patch.id.as_str());
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    assert_eq!(cluster.json(&["query"]), before);
    cluster.nodes[0].stop();
    cluster.nodes[0].start();
    assert_eq!(cluster.json(&["query"]), before);
}

#[test]
fn a_worker_that_is_killed_while_it_reads_the_repository_is_started_again() {
    need_root!();
    let mut cluster = Cluster::new("killed-load", 0);
    cluster.nodes[0].start();
    let patch = Patch::new(&cluster, "KEPT-1").file("etc/kept", b"x").applied(&cluster);
    cluster.nodes[0].stop();
    // The worker waits for the store's lock, so it is there to be killed.
    let lock = fs::File::options().write(true).open(cluster.state_dir().join("repo/lock")).unwrap();
    lock.lock().unwrap();
    cluster.nodes[0].spawn();
    let pid = cluster.nodes[0].pid();
    let worker = wait::until("the worker runs", || {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().next().and_then(|child| child.parse().ok())
    });
    sys::signal(worker, libc::SIGKILL).unwrap();
    lock.unlock().unwrap();
    cluster.nodes[0].answers();
    wait::until_true("another has read it", || cluster.nodes[0].patch(&patch.id).is_some());
    assert!(cluster.log().contains("was killed by signal 9"), "{}", cluster.log());
}

#[test]
fn a_command_without_a_daemon_fails_with_how_to_start_one() {
    need_root!();
    let cluster = Cluster::new("nobody", 0);
    cluster.write_config();
    let said = cluster.thimble(&["query"]).failed(3);
    assert!(said.contains("thimble run"), "{said}");
}
