//! A start without root that meets what is root's: each refusal names it and says what to do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cluster::{Cluster, Node};
use crate::{sys, wait};

/// Gives a node's files to another user.
fn hand_over(node: &Node) {
    for path in [node.dir.clone(), node.key_file(), node.state_dir()] {
        chown(path, Some(sys::NOBODY), Some(sys::NOBODY)).unwrap();
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Starts the daemon as that user with another `state_dir`: it must be refused before it uses
/// the network. Returns its log.
fn refused(node: &Node, state_dir: &Path) -> String {
    node.write_config();
    let line = |dir: &Path| format!("state_dir = \"{}\"", dir.display());
    let text = fs::read_to_string(node.config_file()).unwrap();
    fs::write(node.config_file(), text.replace(&line(&node.state_dir()), &line(state_dir))).unwrap();
    let mut command = Command::new(&node.binary);
    command.arg("--config").arg(node.config_file()).arg("run").stdin(Stdio::null());
    let output = command.uid(sys::NOBODY).gid(sys::NOBODY).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    log
}

#[test]
fn what_root_has_left_is_named_with_its_owner_and_what_to_do() {
    need_root!();
    let cluster = Cluster::new("left", 0);
    let node = &cluster.nodes[0];
    hand_over(node);
    let lock = node.state_dir().join("daemon.lock");
    fs::write(&lock, "").unwrap();
    set_mode(&lock, 0o600);
    let closed = node.dir.join("closed");
    fs::create_dir_all(closed.join("inner")).unwrap();
    set_mode(&closed, 0o700);
    let open = node.dir.join("open");
    fs::create_dir(&open).unwrap();
    let enter = "let thimble's user enter it";
    for (state_dir, path, of_root, mode, remedy) in [
        (node.state_dir(), lock.clone(), lock, "0600", "`chown -R` it"),
        (closed.clone(), closed.clone(), closed.clone(), "0700", "`chown -R` it"),
        (closed.join("inner"), closed.join("inner"), closed.clone(), "0700", enter),
        (closed.join("new/state"), closed.join("new/state"), closed, "0700", enter),
        (open.join("state"), open.join("state"), open, "0755", "let that user make state_dir and chown it"),
    ] {
        let said = refused(node, &state_dir);
        let (path, of_root) = (path.display(), of_root.display());
        let expected = format!("{path}: permission denied: {of_root} belongs to user 0 (mode {mode})");
        assert!(said.contains(&expected) && said.contains(remedy), "{said}");
        assert!(said.contains("start thimble as user 0"), "{said}");
    }
}

#[test]
fn a_repository_behind_a_link_out_of_state_dir_is_refused() {
    need_root!();
    let mut cluster = Cluster::new("linked", 0);
    let node = &mut cluster.nodes[0];
    let (blobs, elsewhere) = (node.state_dir().join("repo/blobs"), node.dir.join("elsewhere"));
    node.start();
    wait::until_true("the repository is made", || blobs.is_dir());
    node.stop();
    fs::rename(&blobs, &elsewhere).unwrap();
    symlink(&elsewhere, &blobs).unwrap();
    node.spawn();
    let (code, log) = node.ended();
    assert_eq!(code, Some(1), "{log}");
    let expected = format!("{}: it is a symbolic link to {}", blobs.display(), elsewhere.display());
    assert!(log.contains(&expected) && log.contains("mount --bind"), "{log}");
}
