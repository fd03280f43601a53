//! Clients of the control socket that do not behave as commands do.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use thimble::control::{Reply, Request, VERSION};
use thimble::limits::{self, CONTROL_CONNECTIONS};
use thimble::repo::entry::EntryState;
use thimble::types::PatchId;

use crate::cluster::Cluster;
use crate::patch::Patch;
use crate::{sys, wait};

#[test]
fn idle_connections_of_other_users_do_not_keep_root_out() {
    need_root!();
    let cluster = Cluster::new("hogged", 0).start();
    let socket = cluster.control_socket();
    let mut held = Vec::new();
    sys::as_user(sys::NOBODY, || {
        for _ in 0..3 * CONTROL_CONNECTIONS {
            let mut stream = UnixStream::connect(&socket).unwrap();
            // The length of a request that never comes.
            let _ = stream.write_all(&[100, 0, 0, 0, 1]);
            held.push(stream);
        }
    });
    // The idle connections stay open meanwhile.
    for _ in 0..3 {
        cluster.thimble(&["status"]).ok();
    }
}

/// A command's end of a connection, driven by the test.
struct Command(UnixStream);

impl Command {
    fn connect(cluster: &Cluster) -> Self {
        let mut command = Self::connect_only(cluster);
        assert!(matches!(command.last(), Reply::End));
        command
    }

    /// Connects and sends Hello without waiting for the answer.
    fn connect_only(cluster: &Cluster) -> Self {
        let stream = UnixStream::connect(cluster.control_socket()).unwrap();
        stream.set_read_timeout(Some(wait::LONG)).unwrap();
        let mut command = Self(stream);
        command.send(&Request::Hello { version: VERSION });
        command
    }

    fn send(&mut self, request: &Request) {
        let mut frame = vec![0; 4 + limits::CONTROL_FRAME_BYTES];
        let body_len = postcard::to_slice(request, &mut frame[4..]).unwrap().len();
        frame[..4].copy_from_slice(&(body_len as u32).to_le_bytes());
        self.0.write_all(&frame[..4 + body_len]).unwrap();
    }

    /// Reads replies up to the last one of an answer.
    fn last(&mut self) -> Reply {
        loop {
            let mut head = [0; 4];
            self.0.read_exact(&mut head).expect("an answer comes");
            let mut body = vec![0; u32::from_le_bytes(head) as usize];
            self.0.read_exact(&mut body).unwrap();
            let reply = postcard::from_bytes(&body).unwrap();
            if matches!(reply, Reply::End | Reply::Error { .. }) {
                return reply;
            }
        }
    }
}

fn change(id: &str, to: EntryState) -> Request {
    let ids = [PatchId::new(id).unwrap()].into_iter().collect();
    Request::Change { to, ids, force: false, below_floor: false }
}

#[test]
fn a_waiting_change_is_executed_after_an_earlier_one_is_refused() {
    need_root!();
    let cluster = Cluster::new("turns", 0).start();
    wait::until_true("a delete is a question of the repository alone", || {
        cluster.thimble(&["delete", "UNKNOWN"]).failed(1).contains("UNKNOWN")
    });
    let patch = Patch::new(&cluster, "TURNS-1").file("etc/turns", b"x").signed(&cluster);
    cluster.thimble(&["upload", patch.to_str().unwrap()]).ok();

    let store = File::open(cluster.state_dir().join("repo/lock")).unwrap();
    store.lock().unwrap();
    let mut commands = [0; 3].map(|_| Command::connect(&cluster));
    commands[0].send(&change("TURNS-1", EntryState::Applied));
    cluster.thimble(&["status"]).ok();
    // Allowed until the first is executed.
    commands[1].send(&change("TURNS-1", EntryState::Deleted));
    cluster.thimble(&["status"]).ok();
    commands[2].send(&change("TURNS-1", EntryState::Available));
    cluster.thimble(&["status"]).ok();
    store.unlock().unwrap();

    let [first, second, third] = commands.each_mut().map(Command::last);
    assert!(matches!(first, Reply::End), "{first:?}");
    assert!(matches!(second, Reply::Error { .. }), "{second:?}");
    assert!(matches!(third, Reply::End), "{third:?}");
}

#[test]
fn requests_sent_back_to_back_are_all_answered() {
    need_root!();
    let cluster = Cluster::new("piece", 0).start();
    let mut command = Command::connect(&cluster);
    for _ in 0..200 {
        command.send(&Request::Status);
    }
    for _ in 0..200 {
        assert!(matches!(command.last(), Reply::End));
    }
}

#[test]
fn a_command_that_connects_without_free_descriptors_is_served_once_some_are_free() {
    need_root!();
    let cluster = Cluster::new("short", 0).start();
    let before = sys::limit_descriptors(cluster.pid(), 3).unwrap();
    let mut command = Command::connect_only(&cluster);
    wait::until_true("the daemon logs the failure", || cluster.log().contains("no file descriptor is free"));
    sys::limit_descriptors(cluster.pid(), before).unwrap();
    // No further event occurs on the socket: the daemon retries by itself.
    assert!(matches!(command.last(), Reply::End));
}
