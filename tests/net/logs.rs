//! A log that is not read does not block the daemon: lines are dropped and counted, and
//! are written again once there is room.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use crate::cluster::Cluster;
use crate::files::noise;
use crate::patch::Patch;
use crate::{sys, wait};

/// Fills a pipe or socket; the descriptor is blocking again afterwards, as a log is.
fn fill(writer: &OwnedFd) {
    let mut file = File::from(writer.try_clone().unwrap());
    sys::set_nonblocking(writer.as_fd(), true).unwrap();
    loop {
        match file.write(&[b'.'; 512]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    sys::set_nonblocking(writer.as_fd(), false).unwrap();
}

/// Reads what there is; `reader` is non-blocking.
fn drain(reader: &mut File) -> String {
    let mut bytes = Vec::new();
    match reader.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// Runs a daemon whose log is written to `writer`, which is full.
fn unread(name: &str, reader: OwnedFd, writer: OwnedFd) {
    fill(&writer);
    sys::set_nonblocking(reader.as_fd(), true).unwrap();
    let mut reader = File::from(reader);
    let journal = File::from(writer.try_clone().unwrap()).metadata().unwrap();
    let mut cluster = Cluster::new(name, 0);
    let node = &mut cluster.nodes[0];
    node.environment = vec![("JOURNAL_STREAM", format!("{}:{}", journal.dev(), journal.ino()))];
    node.stderr = Some(writer);
    node.start();
    cluster.agree("it takes changes");
    let dropped = || cluster.counter("log_lines_dropped");
    assert!(dropped() >= 2, "{} lines of a start were dropped", dropped());

    // The loop and workers log while commands are answered and the log is not read.
    let before = dropped();
    for _ in 0..20 {
        sys::signal(cluster.pid(), libc::SIGHUP).unwrap();
        cluster.thimble(&["status"]).ok();
    }
    Patch::new(&cluster, "UNREAD-1").file("etc/unread", b"x").uploaded_at(&cluster, 0);
    wait::until_true("more is dropped", || dropped() > before);

    drain(&mut reader);
    cluster.thimble(&["reload"]).ok();
    let mut lines = String::new();
    wait::until_true("lines are written again, each with its priority", || {
        lines += &drain(&mut reader);
        lines.lines().any(|line| line == "<6>thimble: the configuration has not changed")
    });
}

#[test]
fn a_log_pipe_that_is_not_read_does_not_block_the_daemon() {
    need_root!();
    let (reader, writer) = std::io::pipe().unwrap();
    unread("log-pipe", reader.into(), writer.into());
}

#[test]
fn a_log_socket_that_is_not_read_does_not_block_the_daemon() {
    need_root!();
    let (reader, writer) = UnixStream::pair().unwrap();
    unread("log-socket", reader.into(), writer.into());
}

#[test]
fn a_log_file_that_is_truncated_is_filled_from_its_beginning() {
    need_root!();
    let mut cluster = Cluster::new("log-file", 0);
    let node = &mut cluster.nodes[0];
    let path = node.dir.join("rotated");
    // As a shell opens it for `2>`, where the next write goes to where the last one ended.
    node.stderr = Some(File::create(&path).unwrap().into());
    node.start();
    let log = || String::from_utf8(fs::read(&path).unwrap()).unwrap();
    wait::until_true("it logs", || log().contains("the repository is read"));
    let old = log();
    // What `copytruncate` of logrotate does.
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    cluster.thimble(&["reload"]).ok();
    let line = "thimble: the configuration has not changed\n";
    wait::until_true("it logs again", || log().contains(line));
    assert!(old.starts_with("thimble: ") && log().starts_with("thimble: "), "{:?}", log());
}

#[test]
fn a_panic_says_what_and_where_in_the_daemons_log_and_ends_the_worker_alone() {
    need_root!();
    let mut cluster = Cluster::of("panic", 2, 0);
    // std panics where a thread cannot be had: this is more memory than addresses reach.
    // A worker that fetches a patch file hashes it in a thread, unless it is small.
    let stack = u64::to_string(&(1 << 50));
    cluster.nodes[1].environment = vec![("RUST_MIN_STACK", stack)];
    let mut cluster = cluster.start();
    let large = noise(400_000);
    Patch::new(&cluster, "PANIC-1").file("etc/panic", &large).uploaded_at(&cluster, 0);
    let other = &mut cluster.nodes[1];
    wait::until_true("the worker's panic is in the log", || {
        let log = other.log();
        let told = log.split_once(" panicked at ").and_then(|(_, told)| told.split_once('\n'));
        told.is_some_and(|(place, what)| {
            let number = |text: &str| text.parse::<u32>().is_ok();
            let mut place = place.trim_end_matches(':').rsplitn(3, ':');
            let is_place = place.next().is_some_and(number)
                && place.next().is_some_and(number)
                && place.next().is_some_and(|file| file.ends_with(".rs"));
            is_place && what.starts_with("failed to spawn thread: Os { code: ")
        })
    });
    assert_eq!(other.status().row.blobs_missing, 1, "the daemon goes on, without the file");

    other.stop();
    other.environment.clear();
    other.start();
    wait::until_true("it has the file", || other.status().row.blobs_missing == 0);
}
