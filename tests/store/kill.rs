//! A process that is killed between any two steps: afterwards the store has the old map or
//! the new one, with every blob that it names, and nothing else.
//!
//! The kernel keeps what a killed process has written, so no data is lost for lack of a
//! sync. The simulator's disk (tests/sim/disk.rs), a model, loses it.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{env, fs};

use thimble::job::Report;
use thimble::repo::entry::EntryState;
use thimble::repo::entry::EntryState::{Applied, Available, Deleted};
use thimble::store::incarnation;
use thimble::types::Hash;

use crate::jobs::Bench;
use crate::support::controller::{Controller, Reports};
use crate::support::sign::signature_path;

const ACT: &str = "THIMBLE_TEST_ACT";
const STATE: &str = "THIMBLE_TEST_STATE";
const TRUSTED: &str = "THIMBLE_TEST_TRUSTED";
const PATCH: &str = "THIMBLE_TEST_PATCH";

/// What the process does that is killed.
fn act(act: &str, controller: &Controller, patch: &Path) -> Reports {
    match act {
        "load" => controller.load(),
        "upload" => controller.upload(&[patch]),
        "apply" => controller.change(Applied, &["A"]),
        "delete" => controller.change(Deleted, &["A"]),
        "purge" => controller.purge(),
        "pull" => controller.pull(2, &mut other_controller(patch).map("c-2")),
        "fetch" => controller.fetch(2, &mut other_controller(patch).blobs()),
        other => panic!("no such act: {other}"),
    }
}

/// Another controller, whose state is beside the patch.
fn other_controller(patch: &Path) -> Controller {
    Controller::new(
        &patch.with_file_name("neighbour"),
        "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3",
    )
}

/// Not a test of its own: the process that is killed, which is this test binary started
/// again by the tests below.
#[test]
fn the_part_of_the_process_that_is_killed() {
    let Ok(part) = env::var(ACT) else { return };
    let path = |name| env::var_os(name).unwrap();
    if part == "incarnation" {
        incarnation::next(Path::new(&path(STATE)), 1_000).unwrap();
        return;
    }
    let controller = Controller::new(Path::new(&path(STATE)), &env::var(TRUSTED).unwrap());
    act(&part, &controller, Path::new(&path(PATCH))).done();
}

/// Runs an act in a process that is killed before its `kill_at`-th step.
fn killed(part: &str, state: &Path, trusted: &str, patch: &Path, kill_at: u32) -> ExitStatus {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "kill::the_part_of_the_process_that_is_killed"])
        .env(ACT, part)
        .env(STATE, state)
        .env(TRUSTED, trusted)
        .env(PATCH, patch)
        .env("THIMBLE_KILL_AT", kill_at.to_string())
        .output()
        .unwrap();
    let status = output.status;
    let by_the_failpoint = status.signal() == Some(6);
    assert!(status.success() || by_the_failpoint, "{status}: {}", String::from_utf8_lossy(&output.stdout));
    status
}

/// A loaded repository: its states and its files.
type Whole = (Vec<(String, EntryState)>, usize);

/// Kills `part` before each of its steps, each time in a newly prepared repository. A load
/// must then find `old` or `new`, and doing the part again must give `new`.
fn kill_everywhere(part: &str, prepare: impl Fn(&Bench), old: &Whole, new: &Whole) {
    let bench = Bench::new(part);
    let patch = bench.patch("A", "files/a", "");
    let state = bench.controller.config.node.state_dir.clone();
    prepare(&bench);
    let prepared = bench.scratch.join("prepared");
    let copy = |from: &Path, to: &Path| {
        let _ = fs::remove_dir_all(to);
        if from.exists() {
            assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
        }
    };
    copy(&state, &prepared);
    let counter = |reports: &Reports| match reports.0[0] {
        Report::Store { counter, .. } => counter,
        ref other => panic!("{other:?}"),
    };
    let counter_before = counter(&bench.controller.load().done());
    let look = || -> Whole {
        let loaded = bench.controller.load().done();
        assert!(
            !loaded.0.iter().any(|report| matches!(report, Report::BlobMissing { .. })),
            "a blob is lost"
        );
        assert!(counter(&loaded) >= counter_before, "the counter fell");
        (bench.controller.states(), bench.controller.files().len())
    };
    let mut found = BTreeSet::new();
    let mut steps = 0;
    for kill_at in 1.. {
        copy(&prepared, &state);
        if killed(part, &state, &bench.signer.public, &patch, kill_at).success() {
            break;
        }
        steps += 1;
        let whole = look();
        assert!(whole == *old || whole == *new, "{part} killed at step {kill_at} left {whole:?}");
        found.insert(whole == *new);
        act(part, &bench.controller, &patch);
        assert_eq!(look(), *new, "{part} again after step {kill_at}");
    }
    assert_eq!(look(), *new, "{part} with nobody killing it");
    assert!(steps >= 5, "{part} has only {steps} steps to be killed at");
    if old != new {
        assert_eq!(found.len(), 2, "{part} was killed on both sides of its commit");
    }
}

fn whole(state: Option<EntryState>) -> Whole {
    let states: Vec<_> = state.into_iter().map(|state| ("A".to_string(), state)).collect();
    // The lock and the map, and three files of a patch that is not deleted.
    let files = if matches!(state, None | Some(Deleted)) { 2 } else { 5 };
    (states, files)
}

fn upload(bench: &Bench) {
    bench.controller.upload(&[&bench.scratch.join("A.patch")]).done();
}

#[test]
fn the_first_load() {
    kill_everywhere("load", |_| {}, &whole(None), &whole(None));
}

#[test]
fn a_load_that_cleans_up() {
    let prepare = |bench: &Bench| {
        upload(bench);
        let repo = bench.controller.config.node.state_dir.join("repo");
        let left = ["map.unfinished", "blobs/upload.unfinished", "blobs/00.patch", "blobs/00.minisig"];
        for name in left {
            fs::write(repo.join(name), "left by a crash").unwrap();
        }
    };
    kill_everywhere("load", prepare, &whole(Some(Available)), &whole(Some(Available)));
}

#[test]
fn an_upload() {
    kill_everywhere("upload", |_| {}, &whole(None), &whole(Some(Available)));
}

#[test]
fn an_upload_over_a_deleted_patch() {
    let prepare = |bench: &Bench| {
        upload(bench);
        bench.controller.change(Deleted, &["A"]).done();
    };
    kill_everywhere("upload", prepare, &whole(Some(Deleted)), &whole(Some(Available)));
}

#[test]
fn an_apply() {
    kill_everywhere("apply", upload, &whole(Some(Available)), &whole(Some(Applied)));
}

#[test]
fn a_deletion() {
    kill_everywhere("delete", upload, &whole(Some(Available)), &whole(Some(Deleted)));
}

#[test]
fn an_incarnation_is_never_given_twice() {
    let bench = Bench::new("incarnation-kill");
    let state = bench.scratch.join("node");
    let mut last = 0;
    for kill_at in 1.. {
        let is_done = killed("incarnation", &state, "", Path::new(""), kill_at).success();
        let next = incarnation::next(&state, 1).unwrap();
        let of_the_killed = 1_000.max(last + 1);
        if is_done {
            assert_eq!(next, of_the_killed + 1, "the start that was not killed had one of its own");
            break;
        }
        // Its number may be on the disk; if so, it is not used again.
        assert!([last + 1, of_the_killed + 1].contains(&next), "{next} after {last}");
        last = next;
    }
}

/// Adds the bench's patch A to the other controller, deleted or not.
fn at_the_other_controller(bench: &Bench, state: EntryState) {
    let patch = bench.scratch.join("A.patch");
    let path = bench.scratch.join("neighbour");
    let other = Controller::new(&path, &bench.signer.public);
    other.upload(&[&patch]).done();
    if state == Deleted {
        other.change(Deleted, &["A"]).done();
    }
}

/// Kills `part` before each of its steps and checks entries, purge floor and patch files:
/// the map is all old or all new, and each file is whole. Doing the part again must give
/// the same result as without a kill.
fn kill_the_merge_everywhere(part: &str, prepare: impl Fn(&Bench)) {
    let bench = Bench::new(part);
    let patch = bench.patch("A", "files/a", "");
    let state = bench.controller.config.node.state_dir.clone();
    let blobs = state.join("repo/blobs");
    bench.controller.load().done();
    prepare(&bench);
    let prepared = bench.scratch.join("prepared");
    let copy = |from: &Path, to: &Path| {
        let _ = fs::remove_dir_all(to);
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    copy(&state, &prepared);
    let look = || {
        let map = bench.controller.map("it");
        let mut entries: Vec<_> = map.entries.iter().map(|entry| (entry.id.clone(), entry.state)).collect();
        entries.sort();
        (entries, map.head.floor)
    };
    let old = look();
    act(part, &bench.controller, &patch).done();
    let (new, files) = (look(), bench.controller.files());
    let served = |end: &str| {
        fs::read_dir(&blobs)
            .unwrap()
            .any(|file| file.unwrap().path().extension().is_some_and(|extension| extension == end))
    };
    let (mut steps, mut seen) = (0, BTreeSet::new());
    for kill_at in 1.. {
        copy(&prepared, &state);
        if killed(part, &state, &bench.signer.public, &patch, kill_at).success() {
            break;
        }
        steps += 1;
        let whole = look();
        assert!(whole == old || whole == new, "{part} killed at step {kill_at} left {whole:?}");
        seen.insert((whole == new, served("patch")));
        if served("patch") {
            let blob = fs::read_dir(&blobs).unwrap().map(|file| file.unwrap().path());
            let blob =
                blob.into_iter().find(|path| path.extension().is_some_and(|end| end == "patch")).unwrap();
            assert_eq!(fs::read(blob).unwrap(), fs::read(&patch).unwrap(), "something partial is visible");
        }
        bench.controller.load().done();
        act(part, &bench.controller, &patch).done();
        bench.controller.load().done();
        assert_eq!((look(), bench.controller.files()), (new.clone(), files.clone()), "after step {kill_at}");
    }
    assert!(steps >= 5, "{part} has only {steps} steps to be killed at");
    assert!(seen.len() >= 2, "{part} was killed on one side of its change alone");
}

#[test]
fn a_pull_that_brings_a_patch() {
    kill_the_merge_everywhere("pull", |bench| at_the_other_controller(bench, Available));
}

#[test]
fn a_pull_that_brings_a_deletion_and_a_purge() {
    kill_the_merge_everywhere("pull", |bench| {
        at_the_other_controller(bench, Available);
        let other = other_controller(&bench.scratch.join("A.patch"));
        bench.controller.pull(2, &mut other.map("c-2")).done();
        let trusting = Controller::new(&other.config.node.state_dir, &bench.signer.public);
        bench.controller.fetch(2, &mut trusting.blobs()).done();
        other.pull(1, &mut bench.controller.map("c-1")).done();
        other.change(Deleted, &["A"]).done();
        other.purge().done();
    });
}

#[test]
fn a_purge() {
    kill_the_merge_everywhere("purge", |bench| {
        upload(bench);
        bench.controller.change(Deleted, &["A"]).done();
        at_the_other_controller(bench, Deleted);
        bench.controller.pull(2, &mut other_controller(&bench.scratch.join("A.patch")).map("c-2")).done();
    });
}

#[test]
fn a_fetch_of_a_blob() {
    kill_the_merge_everywhere("fetch", |bench| {
        at_the_other_controller(bench, Available);
        bench.controller.pull(2, &mut other_controller(&bench.scratch.join("A.patch")).map("c-2")).done();
    });
}

/// Wherever a fetch of several files is cut, each patch file with its name is whole and has its
/// signature; the next fetch brings the others, and no byte of a file that had come.
#[test]
fn a_fetch_of_a_batch() {
    const NAMES: [&str; 4] = ["A", "B", "C", "D"];
    let bench = Bench::new("fetch-batch");
    let other = Controller::new(&bench.scratch.join("neighbour"), &bench.signer.public);
    let patches = NAMES.map(|name| bench.patch(name, &format!("files/{name}"), ""));
    let upload = |patch: &PathBuf| other.upload(&[patch]).done().entries().remove(0).hash;
    let hashes = patches.each_ref().map(upload);
    bench.controller.pull(2, &mut other.map("c-2")).done();
    let state = bench.controller.config.node.state_dir.clone();
    let (blobs, prepared) = (state.join("repo/blobs"), bench.scratch.join("prepared"));
    let copy = |from: &Path, to: &Path| {
        let _ = fs::remove_dir_all(to);
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    copy(&state, &prepared);
    let is_named = |(patch, hash): (&PathBuf, &Hash)| {
        let file = |end: &str| fs::read(blobs.join(format!("{hash}.{end}")));
        let Ok(bytes) = file("patch") else { return false };
        assert_eq!(bytes, fs::read(patch).unwrap(), "something partial is visible");
        let signature = file("minisig").expect("a patch file with its name has its signature");
        assert_eq!(signature, fs::read(signature_path(patch)).unwrap());
        true
    };
    let named = || patches.iter().zip(&hashes).filter(|file| is_named(*file)).count();
    let mut seen = BTreeSet::new();
    for kill_at in 1.. {
        copy(&prepared, &state);
        if killed("fetch", &state, &bench.signer.public, &patches[0], kill_at).success() {
            break;
        }
        seen.insert(named());
        let arrived = |hash: &&Hash| {
            let is_whole =
                |end| fs::metadata(blobs.join(format!("{hash}.{end}"))).is_ok_and(|file| file.len() > 0);
            is_whole("fetch") || is_whole("patch")
        };
        let arrived = hashes.iter().filter(arrived).count();
        bench.controller.load().done();
        let mut source = other.blobs();
        bench.controller.fetch(2, &mut source).done();
        assert_eq!(source.came().1, NAMES.len() - arrived, "what came before step {kill_at} came again");
        let loaded = bench.controller.load().done();
        assert!(!loaded.0.iter().any(|report| matches!(report, Report::BlobMissing { .. })));
        let files = bench.controller.files();
        assert_eq!((named(), files.len()), (4, 3 + 4 * 3), "after step {kill_at}: {files:?}");
    }
    assert!((0..=4).all(|count| seen.contains(&count)), "it was cut after each rename: {seen:?}");
}
