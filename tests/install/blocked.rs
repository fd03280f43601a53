//! Something on the host keeps an install from being undone: nothing claims that the tree is
//! one set, the message names the file, the cause and the remedy, and recovery succeeds once
//! the obstacle is gone.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::child::Act;
use crate::model;
use crate::pieces::{directory, file, patch};
use crate::rig::{Mount, Rig, Run, skip};
use crate::sys::set_immutable;

/// A script that waits for the test, then fails.
const WAIT_AND_FAIL: &str =
    "touch ../began; while ! [ -e ../go ]; do sleep 0.02; done; echo no answer; exit 1";

/// Starts an install, and returns it when its script waits for the test.
#[track_caller]
fn begun(rig: &Rig, set: &[&str]) -> Child {
    let child = rig.start(&rig.orders_for(set));
    let deadline = Instant::now() + Duration::from_secs(120);
    while !rig.root.with_file_name("began").exists() {
        assert!(Instant::now() < deadline, "the script runs");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// Lets the script fail, and returns how the installer ended.
fn go_on(rig: &Rig, mut child: Child) -> Run {
    fs::write(rig.root.with_file_name("go"), "").unwrap();
    let status = child.wait().unwrap();
    Run { status, reports: fs::read_to_string(&rig.orders.reports).unwrap() }
}

/// Makes a file immutable; false where the filesystem does not know that.
fn immutable(path: &Path) -> bool {
    match set_immutable(path, true) {
        Ok(()) => true,
        Err(error) => {
            skip("a file that cannot be put back", &error.to_string());
            false
        }
    }
}

/// P1, and P2 over it, whose health script waits for the test and fails.
fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    rig.orders.script_timeout_ms = 120_000;
    rig.add(patch(
        "P1",
        [file("etc/app.conf", "of P1"), file("srv/x", "of P1"), file("usr/bin/zz", "of P1")],
    ));
    let pieces = [file("etc/app.conf", "of P2"), file("usr/bin/zz", "of P2"), file("srv/new/y", "of P2")];
    rig.add(patch("P2", pieces).requires("P1").script("health", WAIT_AND_FAIL));
    rig.installed(&["P1"]);
    rig
}

/// The end of an install or of a recovery that was blocked.
#[track_caller]
fn assert_blocked(run: &Run, kind: &str, words: &[&str]) {
    assert!(
        run.last().starts_with(&format!("failed {kind} the previous set could not be put back: ")),
        "{run:?}"
    );
    for word in words {
        assert!(run.last().contains(word), "{word:?} is not in {:?}", run.last());
    }
    assert_eq!(run.says("outcome"), "Broken", "{run:?}");
    assert!(run.says("reason").contains("it was to come back because health of P2 ended"), "{run:?}");
}

#[test]
fn a_file_that_was_made_immutable() {
    need_root!();
    let rig = rig("immutable");
    let child = begun(&rig, &["P1", "P2"]);
    let path = rig.root.join("etc/app.conf");
    if !immutable(&path) {
        return drop(go_on(&rig, child));
    }
    let run = go_on(&rig, child);
    let words = ["cannot put in place /etc/app.conf: Operation not permitted: ", "lsattr -d", "chattr -ia"];
    assert_blocked(&run, "Unfinished", &words);
    // All that can be restored is.
    let mut tree = rig.tree();
    assert_eq!(rig.text("etc/app.conf"), "of P2");
    let expected = rig.expected(&["P1"]);
    assert!(tree.insert("etc/app.conf".to_owned(), expected["etc/app.conf"].clone()).is_some());
    model::assert_same(&tree, &expected, "but for the immutable file");

    // The guard, recovery and a further install say the same, and leave the journal.
    let guard = rig.does_in("the same boot", Act::Guard, None);
    assert!(guard.last().contains("cannot put in place /etc/app.conf"), "{guard:?}");
    assert_blocked(&rig.recover(), "Refused", &words);
    assert_blocked(&rig.install(&["P1"]), "Unfinished", &words);
    let journal = rig.root.join(".thimble/journal");
    let size = fs::metadata(&journal).unwrap().len();
    assert_blocked(&rig.recover(), "Refused", &words);
    assert_eq!(fs::metadata(&journal).unwrap().len(), size, "attempts do not let it grow");

    set_immutable(&path, false).unwrap();
    let run = rig.recover();
    assert_eq!((run.last(), run.says("outcome")), ("done", "RolledBack"), "{run:?}");
    assert!(run.says("reason").starts_with("health of P2 ended with status 1: no answer"), "{run:?}");
    rig.assert_tree(&["P1"]);
    assert!(!journal.exists());
    rig.becomes(&[]);
}

#[test]
fn a_new_directory_that_was_made_immutable() {
    need_root!();
    let mut rig = rig("locked");
    rig.add(patch("P3", [directory("srv/kept", 0o755)]).requires("P1").script("health", WAIT_AND_FAIL));
    let child = begun(&rig, &["P1", "P3"]);
    // The directory of a directory: rmdir fails.
    if !immutable(&rig.root.join("srv/kept")) {
        return drop(go_on(&rig, child));
    }
    let run = go_on(&rig, child);
    assert!(run.last().contains("cannot remove /srv/kept: Operation not permitted: "), "{run:?}");
    assert!(run.last().starts_with("failed Unfinished "), "{run:?}");
    set_immutable(&rig.root.join("srv/kept"), false).unwrap();
    assert_eq!(rig.recover().says("outcome"), "RolledBack");
    rig.assert_tree(&["P1"]);
}

#[test]
fn a_filesystem_mounted_over_a_directory_hides_nothing() {
    need_root!();
    let rig = rig("hidden");
    let child = begun(&rig, &["P1", "P2"]);
    let over_old = Mount::tmpfs(&rig.root.join("etc"), "size=1m");
    let over_new = Mount::tmpfs(&rig.root.join("srv"), "size=1m");
    let run = go_on(&rig, child);
    let over = "another filesystem is mounted over its directory: unmount that";
    assert_blocked(&run, "Unfinished", &["cannot put in place /etc/app.conf: ", over]);
    drop(over_old);
    // A new file is not gone because it cannot be seen, nor is its directory.
    assert_blocked(&rig.recover(), "Refused", &["cannot remove /srv/new/y: ", over]);
    assert_eq!(rig.text("etc/app.conf"), "of P1");
    drop(over_new);
    let run = rig.recover();
    assert_eq!((run.last(), run.says("outcome")), ("done", "RolledBack"), "{run:?}");
    rig.assert_tree(&["P1"]);
}

#[test]
fn a_directory_that_is_gone_is_named() {
    need_root!();
    let rig = rig("gone");
    let child = begun(&rig, &["P1", "P2"]);
    let (bin, away) = (rig.root.join("usr/bin"), rig.root.join("usr/away"));
    fs::rename(&bin, &away).unwrap();
    let run = go_on(&rig, child);
    assert_blocked(
        &run,
        "Unfinished",
        &["cannot open the directory of /usr/bin/zz: No such file", "make it again"],
    );
    fs::rename(&away, &bin).unwrap();
    assert_eq!(rig.recover().says("outcome"), "RolledBack");
    rig.assert_tree(&["P1"]);
}

/// Nothing was switched yet, so going back is no more than forgetting it.
#[test]
fn a_file_that_cannot_be_unpacked_is_named() {
    need_root!();
    let mut rig = Rig::new("unpacked");
    rig.add(patch("P1", [file("etc/app.conf", "of P1")]));
    rig.installed(&["P1"]);
    let kept = rig.root.join(".thimble/kept");
    if !immutable(&kept) {
        return;
    }
    set_immutable(&kept, false).unwrap();
    // After the check of what the filesystem can hold.
    rig.add(patch("P2", [file("srv/new/y", "of P2")]).script("pre-apply", "chattr +i .thimble/kept"));
    let run = rig.install(&["P1", "P2"]);
    run.assert_ended("RolledBack", &["cannot unpack /srv/new/y: Operation not permitted"]);
    rig.assert_tree(&["P1"]);
    set_immutable(&kept, false).unwrap();
    rig.add(patch("P2", [file("srv/new/y", "of P2")]));
    rig.becomes(&["P1", "P2"]);
}

/// After the restart of the host, going back from a committed set meets the same.
#[test]
fn a_set_that_waits_for_a_restart() {
    need_root!();
    let mut rig = rig("after");
    let pieces = [file("etc/app.conf", "of P3")];
    let health = "echo once >>../checks; exit 1";
    rig.add(patch("P3", pieces).requires("P1").says("reboot_required = true").script("health", health));
    rig.installed(&["P1", "P3"]);
    let path = rig.root.join("etc/app.conf");
    if !immutable(&path) {
        return;
    }
    for _ in 0..2 {
        let run = rig.recover_after_restart();
        let last = run.last();
        assert!(
            last.starts_with("failed ") && last.contains("cannot put in place /etc/app.conf: "),
            "{run:?}"
        );
        assert_eq!(run.says("outcome"), "Broken", "{run:?}");
    }
    let checks = fs::read_to_string(rig.root.with_file_name("checks")).unwrap();
    assert_eq!(checks, "once\n", "what is being undone is not checked again");
    set_immutable(&path, false).unwrap();
    let run = rig.recover_after_restart();
    assert_eq!((run.last(), run.says("outcome")), ("done", "RolledBack"), "{run:?}");
    rig.assert_tree(&["P1"]);
}
