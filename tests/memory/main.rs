//! What a process takes at most for one patch: the budget of docs/architecture.md, with a
//! patch at the limits of its members and of their names, and with a small one.

#[path = "../support/mod.rs"]
mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use thimble::control::{Reply, frame};
use thimble::job::{Change, Job, Report};
use thimble::limits;
use thimble::repo::entry::EntryState;
use thimble::types::{PatchId, Text};

use support::archive::{Tar, gzip, metadata};
use support::controller::{config, signed};
use support::peak::{run, work};
use support::sign::{Signer, signature_path};
use support::{Scratch, thimble};

/// With a patch at its limits, in KiB.
const WORKER_KIB: u64 = 12 * 1_024;
/// With a patch of 1,000 members.
const SMALL_KIB: u64 = 4 * 1_024;

/// The paths below `files/` of a patch that has so many members, directories that the
/// names imply and its metadata included.
fn paths(members: usize) -> Vec<String> {
    let (mut paths, mut left) = (Vec::new(), members - 4);
    for directory in 0.. {
        let dir = format!("usr/share/{directory:040}");
        left -= 1;
        for file in 0..127.min(left) {
            paths.push(format!("{dir}/{file:060}"));
            left -= 1;
        }
        if left < 2 {
            return paths;
        }
    }
    unreachable!("there is always another directory")
}

struct Bench {
    scratch: Scratch,
    signer: Signer,
    config: File,
}

impl Bench {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let signer = Signer::new(&scratch, "trusted");
        fs::create_dir(scratch.join("state")).unwrap();
        let path = scratch.join("thimble.toml");
        fs::write(&path, config(&scratch.join("state"), &signer.public)).unwrap();
        Self { config: File::open(path).unwrap(), scratch, signer }
    }

    /// Runs a job, which must end within its budget. Returns its lines, or why it failed.
    fn work(&self, what: &str, job: &Job, files: &[BorrowedFd<'_>], most_kib: u64) -> Vec<String> {
        let (ended, reports) = work(&self.config, job, files);
        ended.within(what, most_kib);
        assert!(matches!(reports.last(), Some(Report::Done | Report::Failed { .. })), "{what}: {reports:?}");
        let lines = reports.iter().filter_map(|report| match report {
            Report::Item(line) => Some(line.to_string()),
            Report::Failed { reason, .. } => Some(reason.to_string()),
            _ => None,
        });
        lines.collect()
    }

    fn upload(&self, patch: &Path, most_kib: u64) -> Vec<String> {
        let (file, signature) = (File::open(patch).unwrap(), File::open(signature_path(patch)).unwrap());
        let names = [Text::truncated("x.patch")].into_iter().collect();
        let job = Job::Upload { names, renew: false };
        self.work("upload", &job, &[file.as_fd(), signature.as_fd()], most_kib)
    }

    /// How many bytes `show` writes.
    fn show(&self, id: &str, json: bool, most_kib: u64) -> usize {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let ids = [PatchId::new(id).unwrap()].into_iter().collect();
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            ours.read_to_end(&mut bytes).unwrap();
            bytes
        });
        self.work("show", &Job::Show { ids, json }, &[theirs.as_fd()], most_kib);
        drop(theirs);
        let bytes = reader.join().unwrap();
        let (mut shown, mut at) = (0, 0);
        loop {
            match frame::first::<Reply>(&bytes[at..]).unwrap().expect("whole frames") {
                (Reply::Output(piece), len) => (shown, at) = (shown + piece.len(), at + len),
                (Reply::End, _) => return shown,
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    fn apply(&self, ids: &[&str], most_kib: u64) -> Vec<String> {
        let ids = ids.iter().map(|id| PatchId::new(id).unwrap()).collect();
        let change = Change { to: EntryState::Applied, ids, below_floor: false, renew: false };
        self.work("apply", &Job::Change(change), &[], most_kib)
    }

    fn verify(&self, patch: &Path, most_kib: u64) {
        let mut command = Command::new(thimble());
        command.args(["verify", "--trust", &self.signer.public]).arg(patch).stdout(Stdio::null());
        run(&mut command, &[]).within("verify", most_kib);
    }
}

/// Each job of a controller, and the command, that reads the archive of a patch.
fn all_within(name: &str, members: usize, most_kib: u64) {
    let bench = Bench::new(name);
    let paths = paths(members);
    let mut tar = Tar::default();
    for path in &paths {
        tar = tar.with_header(b"", |header| header.set_path(format!("files/{path}")).unwrap());
    }
    // Both patches have these files, packed once; the metadata follow.
    let files = gzip(&tar.unended());
    let patch = |id: &str, more: &str| {
        let text = metadata(id) + more;
        let rest = Tar::default().file("metadata.toml", text.as_bytes()).gzip();
        signed(&bench.scratch, &format!("{id}.patch"), &[&files[..], &rest].concat(), &bench.signer)
    };
    let (one, two) = (patch("BIG-1", ""), patch("BIG-2", "requires = [\"BIG-1\"]\n"));
    bench.verify(&one, most_kib);
    assert_eq!(bench.upload(&one, most_kib), ["BIG-1 is now available"]);
    let names_bytes: usize = paths.iter().map(String::len).sum();
    for json in [false, true] {
        assert!(bench.show("BIG-1", json, most_kib) > names_bytes, "all of them are listed");
    }
    assert_eq!(bench.upload(&two, most_kib), ["BIG-2 is now available"]);
    // More paths than are compared at once.
    let path = paths.last().unwrap();
    let clash = Tar::patch("CLASH").file("files/bin/x", b"").with_header(b"", |header| {
        header.set_path(format!("files/{path}")).unwrap();
    });
    let clash = signed(&bench.scratch, "CLASH.patch", &clash.gzip(), &bench.signer);
    bench.upload(&clash, most_kib);
    let said = bench.apply(&["CLASH", "BIG-2", "BIG-1"], most_kib).concat();
    assert!(said.contains("share a path") && said.contains(&format!("The path is /{path}")), "{said}");
    let applied = ["BIG-1 is now applied", "BIG-2 is now applied"];
    assert_eq!(bench.apply(&["BIG-1", "BIG-2"], most_kib), applied);
}

#[test]
fn a_patch_at_its_limits_takes_a_bounded_memory() {
    let names_bytes: usize = paths(limits::PATCH_MEMBERS).iter().map(|path| path.len() + 6).sum();
    assert!(names_bytes > limits::PATCH_NAMES_BYTES * 9 / 10, "the names are at their limit too");
    all_within("memory-limits", limits::PATCH_MEMBERS, WORKER_KIB);
}

#[test]
fn a_small_patch_takes_little() {
    all_within("memory-small", 1_000, SMALL_KIB);
}

/// `make` is no worker, and is held to the same.
#[test]
#[cfg(feature = "tools")]
fn a_patch_is_made_within_the_memory_that_it_is_read_in() {
    for (members, most_kib) in [(limits::PATCH_MEMBERS, WORKER_KIB), (1_000, SMALL_KIB)] {
        let scratch = Scratch::new("memory-make");
        let tree = scratch.join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("metadata.toml"), metadata("BIG-1")).unwrap();
        for path in paths(members) {
            let path = tree.join("files").join(path);
            if !path.parent().unwrap().is_dir() {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
            }
            fs::write(path, "x").unwrap();
        }
        // Not the shipped binary, which does not make patches.
        let mut command = Command::new(env!("CARGO_BIN_EXE_thimble"));
        command.arg("make").arg(&tree).arg("-o").arg(scratch.join("x.patch")).stdout(Stdio::null());
        run(&mut command, &[]).within("make", most_kib);
    }
}
