//! Full disks: an install is refused beforehand if the lack of space is known, and undone
//! if not. It succeeds once there is space.

use std::fs;

use crate::model;
use crate::pieces::{file, patch, program};
use crate::rig::{Mount, Rig, populate};

/// A host whose root is a filesystem of its own.
fn rig(name: &str, options: &str) -> (Rig, Mount) {
    let mut rig = Rig::new(name);
    let root = rig.root.with_file_name("small");
    let mount = Mount::tmpfs(&root, options);
    populate(&root);
    rig.root.clone_from(&root);
    rig.orders.root = root;
    rig.base = rig.tree();
    (rig, mount)
}

#[test]
fn an_install_without_space_is_refused_with_both_sizes() {
    need_root!();
    let (mut rig, mount) = rig("room", "size=2m");
    rig.add(patch("P1", [file("srv/big", vec![0; 3 << 20]), file("srv/small", "small")]));
    let words = ["the install needs 308", "KiB on / and", "is free: make room"];
    rig.install(&["P1"]).assert_ended("Rejected", &words);
    rig.assert_tree(&[]);
    // A patch that compresses badly is not even fetched.
    let noise: Vec<u8> = (0..100_000_u32).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
    rig.add(patch("P2", [file("srv/noise", noise)]));
    let run = rig.install(&["P2"]);
    run.assert_ended("Rejected", &["the install needs", "make room"]);
    assert!(!run.reports.contains("fetching"), "{run:?}");
    mount.remount("size=8m");
    rig.orders.reserve_bytes = 6 << 20;
    rig.install(&["P1"]).assert_ended("Rejected", &["the install needs 9", "KiB on / and"]);
    rig.orders.reserve_bytes = 4 << 20;
    rig.installed(&["P1"]);
    rig.assert_tree(&["P1"]);
}

/// Inodes run out at each step in turn; on this filesystem a link takes one.
#[test]
fn a_disk_that_fills_at_any_step_leaves_the_old_set() {
    need_root!();
    let (mut rig, mount) = rig("inodes", "size=8m,nr_inodes=200");
    let first = [
        file("usr/bin/other", "of P1"),
        file("srv/a", "of P1"),
        file("srv/b", "of P1"),
        file("etc/app.conf", "of P1"),
    ];
    rig.add(patch("P1", first));
    let second = [
        program("usr/bin/tool", "of P2", 0o755),
        file("srv/a", "of P2"),
        file("opt/new/file", "of P2"),
        file("etc/app.conf", "of P2"),
    ];
    let note = "true";
    rig.add(patch("P2", second).requires("P1").script("pre-install", note).script("health", note));
    rig.installed(&["P1"]);
    let old = rig.tree();
    let mut ends = std::collections::BTreeMap::new();
    let in_use = |path: &std::path::Path| -> u64 {
        let output =
            std::process::Command::new("stat").args(["-f", "-c", "%c %d"]).arg(path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
        numbers[0] - numbers[1]
    };
    for spare in 0.. {
        mount.remount(&format!("nr_inodes={}", in_use(&rig.root) + spare));
        let run = rig.install(&["P1", "P2"]);
        if run.last() == "done" {
            break;
        }
        assert!(run.last().contains("the disk is full: make room"), "{spare} spare: {run:?}");
        model::assert_same(&rig.tree(), &old, &format!("{spare} spare: {run:?}"));
        assert_eq!(run.installed(), ["P1"], "{spare} spare: {run:?}");
        *ends.entry(run.says("outcome").to_owned()).or_insert(0) += 1;
    }
    assert!(ends.get("Rejected").is_some_and(|count| *count > 1), "{ends:?}");
    assert!(ends.get("RolledBack").is_some_and(|count| *count > 1), "{ends:?}");
    assert!(!ends.contains_key("Broken"), "{ends:?}");
    rig.assert_tree(&["P1", "P2"]);
}

/// A script fills the disk, so it is full for all later steps, undoing included.
#[test]
fn a_disk_that_fills_during_an_install_does_not_stop_the_rollback() {
    need_root!();
    for script in ["pre-install", "post-install", "health"] {
        let (mut rig, _mount) = rig("filled", "size=2m");
        rig.add(patch("P1", [file("srv/a", "of P1"), file("etc/app.conf", "of P1")]));
        let fill = "cat /dev/zero >filling 2>/dev/null; rm -f room; test $THIMBLE_PHASE = pre-install";
        rig.add(patch("P2", [file("srv/a", "of P2"), file("opt/new", "of P2")]).script(script, fill));
        rig.installed(&["P1"]);
        let mut old = rig.tree();
        let run = rig.install(&["P1", "P2"]);
        let filling = rig.root.join("filling");
        assert!(fs::metadata(&filling).unwrap().len() > 1 << 20, "{script}: {run:?}");
        let mut tree = rig.tree();
        tree.remove("filling");
        if run.says("outcome") == "Installed" {
            // Renames need no space.
            old = rig.expected(&["P1", "P2"]);
            assert_eq!(script, "pre-install");
        } else {
            assert_eq!(run.says("outcome"), "RolledBack", "{script}: {run:?}");
        }
        model::assert_same(&tree, &old, script);
        fs::remove_file(filling).unwrap();
        rig.installed(&["P1"]);
        rig.assert_tree(&["P1"]);
    }
}
