//! Transfers of patch files between controllers: interrupted, corrupt, untrusted, and
//! too large for the disk.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use thimble::repo::entry::EntryState::Applied;

use crate::cluster::{Cluster, Node};
use crate::patch::Patch;
use crate::support::sign::Signer;
use crate::wait;

const SIZE: usize = 3 << 20;

/// Bytes that gzip cannot compress.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

/// Uploads a large patch to the first controller and applies it; returns its hash, which
/// names its file in a store.
fn large(cluster: &Cluster) -> String {
    let patch = Patch::new(cluster, "LARGE-1").file("usr/large", &noise(SIZE));
    patch.applied(cluster);
    cluster.nodes[0].patch("LARGE-1").unwrap().hash.to_string()
}

fn blob(controller: &Node, hash: &str, ending: &str) -> PathBuf {
    controller.state_dir().join(format!("repo/blobs/{hash}.{ending}"))
}

fn len(path: &PathBuf) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Waits until the second controller has the whole file and lacks nothing.
fn is_whole(cluster: &Cluster, hash: &str) {
    let [from, to] = [0, 1].map(|number| blob(&cluster.nodes[number], hash, "patch"));
    wait::until_true("the other holds the file", || {
        to.exists() && !cluster.nodes[1].status().row.is_incomplete
    });
    assert!(fs::read(from).unwrap() == fs::read(to).unwrap(), "the files differ");
    assert_eq!(len(&blob(&cluster.nodes[1], hash, "fetch")), 0, "the partial file is removed");
}

/// The second controller reports that the file is missing, has no part of it under its
/// final name, and refuses installs that need it.
fn check_hidden(cluster: &Cluster, hash: &str) {
    let other = &cluster.nodes[1];
    assert!(!blob(other, hash, "patch").exists() && !blob(other, hash, "minisig").exists());
    // It may just have started and not have read its repository yet.
    wait::until_true("it says that the file is missing", || {
        let row = other.status().row;
        row.is_incomplete && row.blobs_missing == 1
    });
    let said = other.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(said.contains("LARGE-1"), "{said}");
    assert_ne!(other.host("agent-1")["current"], "yes");
}

/// Two controllers and an agent. The second controller knows a large patch, and the wire
/// is cut after about this many bytes of its file.
fn partly_fetched(name: &str, bytes: u64) -> (Cluster, String) {
    let cluster = Cluster::of(name, 2, 1).timer("session_idle_ms", 700).timer("sync_wait_ms", 50).start();
    cluster.cut(&[0], &[1]);
    let hash = large(&cluster);
    cluster.heal();
    // Room for the map, then for a part of the file.
    cluster.cut_after(0, 1, bytes as i64 + 30_000);
    let partial = blob(&cluster.nodes[1], &hash, "fetch");
    wait::until_true("a part of the file is fetched", || len(&partial) >= bytes / 2);
    (cluster, hash)
}

#[test]
fn an_interrupted_transfer_resumes_and_its_file_is_hidden_until_complete() {
    need_root!();
    let (cluster, hash) = partly_fetched("cut", 1 << 20);
    check_hidden(&cluster, &hash);
    cluster.cut(&[0], &[1]);
    let partial = blob(&cluster.nodes[1], &hash, "fetch");
    wait::until_true("the session has ended", || cluster.nodes[1].status().row.workers == 0);
    let had = len(&partial);
    // Cut again, nearer to the end.
    cluster.cut_after(0, 1, 3 << 19);
    cluster.cut_after(1, 0, i64::MAX);
    wait::until_true("more has come", || len(&partial) > had + (1 << 19));
    check_hidden(&cluster, &hash);
    cluster.cut(&[0], &[1]);
    wait::until_true("the session has ended", || cluster.nodes[1].status().row.workers == 0);
    assert!(len(&partial) > had + (1 << 19), "it resumes where it stopped");
    // Only the last part is measured, on uncut wires: bytes sent into a cut wire, or lost
    // with a session that a cut ended, are sent again.
    let missing = SIZE as u64 - len(&partial);
    let before = cluster.passed(0, 1);
    cluster.heal();
    is_whole(&cluster, &hash);
    let passed = cluster.passed(0, 1) - before;
    println!("{passed} bytes have passed for the {missing} that were missing");
    assert!(passed < missing + missing / 2, "{passed} bytes for the {missing} that were missing");
    cluster.nodes[1].thimble(&["host-install", "agent-1"]).ok();
    assert!(fs::read(cluster.nodes[2].root().join("usr/large")).unwrap() == noise(SIZE));
}

#[test]
fn a_transfer_survives_the_death_of_the_sender_and_of_the_receiver() {
    need_root!();
    let (mut cluster, hash) = partly_fetched("dead", 1 << 20);
    let partial = blob(&cluster.nodes[1], &hash, "fetch");
    let had = len(&partial);
    cluster.nodes[0].kill();
    // Not mended first: what the dead one's kernel still has to send may be all of the file.
    cluster.cut_after(0, 1, 3 << 19);
    cluster.nodes[0].start();
    wait::until_true("more has come", || len(&partial) > had + (1 << 19));
    cluster.nodes[1].kill();
    let had = len(&partial);
    cluster.nodes[1].start();
    check_hidden(&cluster, &hash);
    assert!(len(&partial) >= had, "the fetched part is kept");
    cluster.heal();
    is_whole(&cluster, &hash);
}

#[test]
fn a_corrupt_partial_file_is_discarded_and_fetched_from_the_start() {
    need_root!();
    let (mut cluster, hash) = partly_fetched("poisoned", 1 << 20);
    cluster.nodes[1].kill();
    fs::write(blob(&cluster.nodes[1], &hash, "fetch"), vec![0xEE; 2 << 20]).unwrap();
    cluster.heal();
    cluster.nodes[1].start();
    is_whole(&cluster, &hash);
}

#[test]
fn a_blob_with_an_untrusted_key_is_reported_and_retried_with_backoff() {
    need_root!();
    let mut cluster = Cluster::of("untrusted", 2, 1);
    let stranger = Signer::new(&cluster.dir, "stranger");
    cluster.nodes[1].trusted_keys = vec![stranger.public.clone()];
    let mut cluster = cluster.start();
    let _patch = Patch::new(&cluster, "FOREIGN-1").file("etc/foreign", b"x").applied(&cluster);
    cluster.agree("the entries are the same");
    let other = &cluster.nodes[1];
    assert_eq!(other.state_of("FOREIGN-1"), Some(Applied));
    wait::until_true("it says why it cannot have the file", || {
        other.status().blobs.iter().any(|blob| blob.reason.raw().contains("key"))
    });
    let status = other.status();
    assert!(status.row.is_incomplete);
    assert_eq!((status.blobs[0].id.as_str(), status.blobs[0].is_wanted), ("FOREIGN-1", true));
    let said = other.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(said.contains("FOREIGN-1") && said.contains("key"), "{said}");
    cluster.nodes[0].thimble(&["host-install", "agent-1"]).ok();
    wait::until_true("the first calls the host current", || cluster.host(2)["current"] == "yes");
    assert_eq!(other.host("agent-1")["current"], "n/a");

    let before = cluster.sent_by_controllers();
    const INTERVALS: u64 = 15;
    std::thread::sleep(Duration::from_millis(INTERVALS * 200));
    let said = cluster.sent_by_controllers() - before;
    println!("a blob that cannot be fetched, in {INTERVALS} hello intervals: {said:?}");
    // Two controllers, each with Hello, HelloAck and HelloAgent; the pauses between
    // fetches double.
    assert!(said.all() <= 2 * 3 * (INTERVALS + 2), "{said:?}");
    assert!(said.sessions <= 6, "{said:?}");

    cluster.nodes[1].stop();
    cluster.nodes[1].trusted_keys.push(cluster.signer.public.clone());
    cluster.nodes[1].start();
    wait::until_true("it is complete", || !cluster.nodes[1].status().row.is_incomplete);
    wait::until_true("and calls the host current", || cluster.nodes[1].host("agent-1")["current"] == "yes");
}

/// A small disk, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: PathBuf, size: &str) -> Self {
        // It has more than thimble's files, so it must be for its user alone.
        let options = format!("size={size},mode=0700");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).status();
        assert!(status.unwrap().success(), "mount of a tmpfs");
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_reported_and_the_file_is_fetched_once_there_is_room() {
    need_root!();
    let cluster = Cluster::of("full-disk", 2, 1);
    let _disk = SmallDisk::new(cluster.nodes[1].state_dir(), "5m");
    let ballast = cluster.nodes[1].state_dir().join("ballast");
    fs::write(&ballast, vec![0; SIZE]).unwrap();
    let cluster = cluster.start();
    let hash = large(&cluster);
    cluster.agree("the entries are the same");
    let other = &cluster.nodes[1];
    wait::until_true("it says why it cannot have the file", || {
        other.status().blobs.iter().any(|blob| blob.reason.raw().contains("no space left"))
    });
    check_hidden(&cluster, &hash);
    fs::remove_file(ballast).unwrap();
    is_whole(&cluster, &hash);
}
