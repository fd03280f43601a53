//! Users of the node other than root, and who starts the daemon: what they can hold up,
//! and what they can hand on.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use thimble::limits::{CONTROL_ADMIN_SHARE, CONTROL_CONNECTIONS, CONTROL_SHARE};

use crate::cluster::{Cluster, Node};
use crate::patch::Patch;
use crate::{sys, wait};

/// Makes the node's program start through a shell with these lines.
fn start_through(node: &mut Node, lines: &str) {
    let path = node.dir.join("start");
    fs::write(&path, format!("#!/bin/sh\n{lines}\nexec {} \"$@\"\n", node.binary)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    node.binary = path.to_str().unwrap().to_owned();
}

/// Files and directories in which others than their owner have rights.
fn open_to_others(path: &Path, found: &mut Vec<PathBuf>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.mode() & 0o077 != 0 {
        found.push(path.to_owned());
    }
    if metadata.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| open_to_others(&entry.unwrap().path(), found));
    }
}

#[test]
fn the_state_directory_is_for_the_daemon_alone_whatever_the_umask() {
    need_root!();
    let mut cluster = Cluster::new("umask", 1);
    for node in &mut cluster.nodes {
        start_through(node, "umask 0");
    }
    // One is made by the daemon. The other is there, and its lock is open to everybody.
    fs::remove_dir(cluster.nodes[0].state_dir()).unwrap();
    let wide = cluster.nodes[1].state_dir();
    fs::write(wide.join("daemon.lock"), "").unwrap();
    for path in [wide.join("daemon.lock"), wide] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let cluster = cluster.start();
    let _patch = Patch::new(&cluster, "MODES-1").file("etc/modes", b"x").applied(&cluster);
    cluster.thimble(&["host-install", "agent-1"]).ok();
    for node in &cluster.nodes {
        let mut found = Vec::new();
        open_to_others(&node.state_dir(), &mut found);
        assert!(found.is_empty(), "{}: {found:?}", node.name);
    }
}

#[test]
fn a_state_directory_of_another_user_is_refused() {
    need_root!();
    let mut cluster = Cluster::new("foreign", 0);
    let state_dir = cluster.state_dir();
    std::os::unix::fs::chown(&state_dir, Some(sys::NOBODY), None).unwrap();
    cluster.nodes[0].spawn();
    let (code, log) = cluster.nodes[0].ended();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("state: it belongs to user 65534") && log.contains("chown"), "{log}");
}

#[test]
fn workers_and_scripts_inherit_nothing_from_the_daemons_starter() {
    need_root!();
    let mut cluster = Cluster::new("inherited", 1);
    let (marker, seen) = (cluster.dir.join("marker"), cluster.dir.join("seen"));
    fs::write(&marker, "").unwrap();
    let marker = marker.to_str().unwrap();
    for node in &mut cluster.nodes {
        start_through(node, &format!("exec 3<{marker} 5>>{marker} 9<{marker}"));
    }
    let cluster = cluster.start();
    let script = format!("for fd in /proc/$$/fd/*; do readlink $fd || true; done >{}", seen.display());
    let _patch =
        Patch::new(&cluster, "FDS-1").file("etc/fds", b"x").script("health", &script).applied(&cluster);
    cluster.thimble(&["host-install", "agent-1"]).ok();
    let seen = fs::read_to_string(seen).unwrap();
    assert!(!seen.is_empty() && !seen.contains("marker"), "{seen}");
    for node in &cluster.nodes {
        for entry in fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap() {
            // One may be closed meanwhile.
            let open = fs::read_link(entry.unwrap().path()).unwrap_or_default();
            assert!(!open.ends_with("marker"), "{} has {}", node.name, open.display());
        }
    }
}

/// Connections of one user that begin a request and never end it.
fn held_by(user: u32, socket: &Path, count: usize) -> Vec<UnixStream> {
    sys::as_user(user, || {
        let connect = |_| {
            let mut stream = UnixStream::connect(socket).unwrap();
            // The length of a request that never comes.
            let _ = stream.write_all(&[100, 0, 0, 0, 1]);
            stream.set_read_timeout(Some(wait::LONG)).unwrap();
            stream
        };
        (0..count).map(connect).collect()
    })
}

/// What the daemon said before it closed a connection.
fn refusal(mut stream: &UnixStream) -> String {
    let mut said = Vec::new();
    // With what it did not read, the daemon resets the connection behind its reply.
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

fn is_open(mut stream: &UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    stream.read(&mut [0; 64]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn one_user_cannot_take_all_places() {
    need_root!();
    let cluster = Cluster::new("shares", 0).start();
    let socket = cluster.control_socket();
    let first = held_by(sys::NOBODY, &socket, CONTROL_SHARE + 1);
    let said = refusal(&first[CONTROL_SHARE]);
    assert!(said.contains("User 65534 has 3 commands open") && said.contains("wait until one"), "{said}");
    assert!(first[..CONTROL_SHARE].iter().all(is_open));
    // Another user has a share too, and a third what is left.
    let second = held_by(1, &socket, CONTROL_SHARE);
    let third = held_by(2, &socket, CONTROL_SHARE);
    let said = refusal(&third[CONTROL_SHARE - 1]);
    assert!(said.contains("Too many commands") && second.iter().all(is_open), "{said}");
    // Root gets in, though all places are taken.
    assert!(cluster.counter("commands_refused") >= 2);
}

#[test]
fn members_of_the_admin_group_get_in_and_leave_room_for_each_other_and_root() {
    need_root!();
    let mut cluster = Cluster::new("admins", 0);
    // A user's group has the user's number in these tests.
    cluster.nodes[0].settings.push(("node", "admin_group = \"1\"".to_owned()));
    let cluster = cluster.start();
    let socket = cluster.control_socket();
    let users: Vec<_> = [2, 3, 4].iter().flat_map(|user| held_by(*user, &socket, CONTROL_SHARE)).collect();
    let admin = held_by(1, &socket, CONTROL_ADMIN_SHARE + 1);
    let said = refusal(&admin[CONTROL_ADMIN_SHARE]);
    assert!(said.contains("User 1 has 6 commands open"), "{said}");
    assert!(admin[..CONTROL_ADMIN_SHARE].iter().all(is_open), "others made room");
    let left = users.iter().filter(|one| is_open(one)).count();
    assert!(left <= CONTROL_CONNECTIONS - CONTROL_ADMIN_SHARE, "{left}");
    cluster.thimble(&["status"]).ok();
}
