//! A full disk: a clear error, nothing partial, and it works once there is space.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use thimble::job::{RefusalKind, Report};
use thimble::repo::entry::EntryState::{Applied, Available};
use thimble::types::Hash;

use crate::jobs::Bench;
use crate::support::archive::Tar;
use crate::support::controller::{Controller, Reports, signed};

/// A mounted file system of a given size.
struct Small(PathBuf);

impl Small {
    /// Needs root; otherwise prints so and returns `None`.
    fn mount(at: PathBuf, size_kib: u32) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let options = format!("size={size_kib}k,mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        eprintln!("SKIPPED: full disks are not tested, for lack of root to mount a tmpfs with");
        None
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let remount =
            || Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success();
        // A process that another test has just forked has this one's files open until it executes
        // its program, and the mount is busy meanwhile.
        let is_done = (0..600).any(|_| {
            let is_done = remount();
            if !is_done {
                thread::sleep(Duration::from_millis(100));
            }
            is_done
        });
        assert!(is_done, "mount -o {options}");
    }

    /// Fills all but this many pages of 4 KiB.
    fn leave(&self, pages: u64) {
        let path = self.0.join("filler");
        let _ = fs::remove_file(&path);
        let mut filler = File::create(&path).unwrap();
        let mut len = 0;
        while let Ok(more @ 1..) = filler.write(&[1; 4096]) {
            len += more as u64;
        }
        filler.set_len(len - pages * 4096).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut noise = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

fn no_space(reports: &crate::support::controller::Reports, name: &str) {
    let (kind, said) = reports.end().unwrap_err();
    assert_eq!(kind, RefusalKind::Refused, "{said}");
    assert!(said.starts_with(name) && said.contains("no space left for "), "{said}");
    assert!(said.contains("nothing is changed; make room and try again"), "{said}");
}

fn controller(state: &Path, bench: &Bench) -> Controller {
    Controller::new(&state.join("state"), &bench.signer.public)
}

/// A controller on a small disk that has the patch FIRST.
fn with_first(state: &Path, bench: &Bench) -> Controller {
    let controller = controller(state, bench);
    controller.upload(&[&bench.patch("FIRST", "files/first", "")]).done();
    controller
}

#[test]
fn a_patch_larger_than_the_disk_is_refused_until_there_is_space() {
    let bench = Bench::new("full");
    let Some(small) = Small::mount(bench.scratch.join("small"), 64) else { return };
    let controller = controller(&small.0, &bench);
    controller.load().done();
    let files = controller.files();
    let large = Tar::patch("LARGE").file("files/x", &noise(200_000)).gzip();
    let large = signed(&bench.scratch, "large.patch", &large, &bench.signer);
    no_space(&controller.upload(&[&large]), "large.patch: ");
    assert_eq!(controller.files(), files, "nothing partial is left");
    let little = bench.patch("LITTLE", "files/a", "");
    controller.upload(&[&little]).done();
    small.remount("size=1m");
    assert_eq!(controller.upload(&[&large]).done().items(), ["LARGE is now available"]);
}

#[test]
fn wherever_the_disk_fills_up_a_change_is_whole_or_not_there() {
    let bench = Bench::new("filling");
    let Some(small) = Small::mount(bench.scratch.join("small"), 256) else { return };
    let controller = with_first(&small.0, &bench);
    let (before, files) = (controller.states(), controller.files());
    small.leave(0);
    no_space(&controller.change(Applied, &["FIRST"]), "");
    assert_eq!((controller.states(), controller.files()), (before.clone(), files.clone()));

    let second = bench.patch("SECOND", "files/second", "");
    let mut refused = 0;
    for pages in 0.. {
        small.leave(pages);
        let reports = controller.upload(&[&second]);
        if reports.end().is_ok() {
            break;
        }
        no_space(&reports, "SECOND.patch: ");
        assert_eq!(
            (controller.states(), controller.files()),
            (before.clone(), files.clone()),
            "{pages} pages"
        );
        refused += 1;
    }
    // The patch, its signature, its index, the map: each found the disk full once.
    assert_eq!(refused, 4);
    assert_eq!(controller.states(), [("FIRST".to_string(), Available), ("SECOND".to_string(), Available)]);
    small.leave(1);
    controller.change(Applied, &["FIRST"]).done();
}

#[test]
fn a_read_only_state_directory_is_named_in_the_error() {
    let bench = Bench::new("read-only");
    let Some(small) = Small::mount(bench.scratch.join("small"), 256) else { return };
    let controller = with_first(&small.0, &bench);
    let before = controller.states();
    small.remount("ro");
    let first = bench.patch("FIRST", "files/first", "");
    for reports in [controller.load(), controller.change(Applied, &["FIRST"]), controller.upload(&[&first])] {
        let said = reports.refusal();
        assert!(said.contains("is on a read-only file system: set state_dir to where"), "{said}");
    }
    small.remount("rw");
    assert_eq!(controller.states(), before);
}

/// A controller on a small disk that lacks a patch file of about 200 KB.
fn lacking_a_blob(bench: &Bench, small: &Small) -> (Controller, Hash, u64) {
    let large = Tar::patch("LARGE").file("files/x", &noise(200_000)).gzip();
    let large = signed(&bench.scratch, "large.patch", &large, &bench.signer);
    let hash = bench.controller.upload(&[&large]).done().entries()[0].hash;
    let controller = controller(&small.0, bench);
    controller.pull(1, &mut bench.controller.map("c-1")).done();
    (controller, hash, fs::metadata(large).unwrap().len())
}

/// The reported reason for the missing blob.
fn missing(reports: &Reports) -> String {
    match &reports.0[..] {
        [Report::BlobMissing { reason, .. }, Report::Done] => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_blob_without_space_is_not_fetched_until_there_is_space() {
    let bench = Bench::new("full-fetch");
    let Some(small) = Small::mount(bench.scratch.join("small"), 512) else { return };
    let (controller, hash, whole) = lacking_a_blob(&bench, &small);
    let partial = small.0.join(format!("state/repo/blobs/{hash}.fetch"));
    let mut blobs = bench.controller.blobs();
    blobs.breaks_after = Some(50_000);
    assert!(controller.fetch(1, &mut blobs).end().is_err());
    small.leave(3);
    let mut blobs = bench.controller.blobs();
    let said = missing(&controller.fetch(1, &mut blobs));
    assert!(said.starts_with("LARGE: no space left for ") && said.contains("are free; make room"), "{said}");
    assert!(said.contains(&format!("it needs {} bytes more and ", whole - 50_000)), "{said}");
    assert_eq!((blobs.came().0, fs::metadata(&partial).unwrap().len()), (0, 50_000));
    fs::remove_file(small.0.join("filler")).unwrap();
    assert!(matches!(controller.fetch(1, &mut blobs).done().0[..], [Report::BlobHere { .. }, Report::Done]));
    assert_eq!(blobs.came().0, whole - 50_000);
}

#[test]
fn a_blob_larger_than_the_disk_takes_no_space_and_the_error_has_both_sizes() {
    let bench = Bench::new("full-forever");
    let Some(small) = Small::mount(bench.scratch.join("small"), 128) else { return };
    let (controller, hash, whole) = lacking_a_blob(&bench, &small);
    let partial = small.0.join(format!("state/repo/blobs/{hash}.fetch"));
    fs::write(&partial, noise(1)).unwrap();
    let mut blobs = bench.controller.blobs();
    let said = missing(&controller.fetch(1, &mut blobs));
    assert!(said.starts_with(&format!("LARGE has {whole} bytes, and the file system of ")), "{said}");
    assert!(said.contains("only 131072 in all: give it a larger one"), "{said}");
    assert!(blobs.came().0 == 0 && !partial.exists());
}

/// A file system that says that it has no blocks has no limit.
#[test]
fn a_blob_is_fetched_to_a_file_system_without_a_limit() {
    let bench = Bench::new("full-never");
    let Some(small) = Small::mount(bench.scratch.join("small"), 0) else { return };
    let (controller, _, whole) = lacking_a_blob(&bench, &small);
    let mut blobs = bench.controller.blobs();
    assert!(matches!(controller.fetch(1, &mut blobs).done().0[..], [Report::BlobHere { .. }, Report::Done]));
    assert_eq!(blobs.came().0, whole);
}

#[test]
fn inodes_that_are_used_up_are_not_told_as_a_full_disk() {
    let bench = Bench::new("full-inodes");
    let Some(small) = Small::mount(bench.scratch.join("small"), 512) else { return };
    let controller = with_first(&small.0, &bench);
    let (before, files) = (controller.states(), controller.files());
    let output = Command::new("stat").args(["-f", "-c", "%c %d"]).arg(&small.0).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    small.remount(&format!("nr_inodes={}", numbers[0] - numbers[1]));
    let second = bench.patch("SECOND", "files/second", "");
    let (_, said) = controller.upload(&[&second]).end().unwrap_err();
    assert!(said.starts_with("SECOND.patch: no inode is left for "), "{said}");
    assert!(said.ends_with("nothing is changed; remove files that are not needed and try again"), "{said}");
    assert_eq!((controller.states(), controller.files()), (before, files));
}

#[test]
fn wherever_the_disk_fills_up_a_merge_or_a_blob_is_whole_or_not_there() {
    let bench = Bench::new("full-merge");
    let Some(small) = Small::mount(bench.scratch.join("small"), 256) else { return };
    let controller = with_first(&small.0, &bench);
    bench.uploaded("SECOND", "files/second", "");
    let (before, files) = (controller.states(), controller.files());
    let mut refused = 0;
    for pages in 0.. {
        small.leave(pages);
        let reports = controller.pull(1, &mut bench.controller.map("c-1"));
        if reports.end().is_ok() {
            break;
        }
        no_space(&reports, "");
        assert_eq!(controller.states(), before, "{pages} pages");
        refused += 1;
    }
    assert!(refused >= 1);
    let known = controller.files();
    assert_eq!(known.len(), files.len() + 1, "the controller met is noted");
    let mut found_full = 0;
    for pages in 0.. {
        small.leave(pages);
        let reports = controller.fetch(1, &mut bench.controller.blobs()).done();
        if matches!(reports.0[0], Report::BlobHere { .. }) {
            break;
        }
        assert!(missing(&reports).contains("no space left for "));
        let partial = controller.files().into_iter().filter(|file| file.ends_with(".fetch")).count();
        assert!(partial <= 1 && controller.files().iter().all(|file| !file.ends_with(".unfinished")));
        found_full += 1;
    }
    // First the file, whose page stays, then the files beside it.
    assert!(found_full >= 2, "{found_full}");
    assert_eq!(controller.files().len(), known.len() + 3);
}
