//! Full disks: an install is refused beforehand if the lack of space is known, and undone
//! if not. It succeeds once there is space.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model;
use crate::pieces::{file, patch, program};
#[cfg(feature = "proof")]
use crate::rig::skip;
use crate::rig::{Mount, Rig, populate, run};

/// A host whose root is a filesystem of its own.
fn rig(name: &str, options: &str) -> (Rig, Mount) {
    let mut rig = Rig::new(name);
    let mount = rig.mounted("tmpfs", options);
    (rig, mount)
}

#[test]
fn an_install_without_space_is_refused_with_both_sizes() {
    need_root!();
    let (mut rig, mount) = rig("room", "size=2m");
    rig.add(patch("P1", [file("srv/big", vec![0; 3 << 20]), file("srv/small", "small")]));
    // 3 MiB and two small files, and what is set aside for the removal.
    let words = ["the install needs 31", "KiB on / and", "is free: make room"];
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
    rig.becomes(&["P1"]);
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
        let says = ["no inode is left: remove files", "has inodes for"];
        assert!(says.iter().any(|says| run.last().contains(says)), "{spare} spare: {run:?}");
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
        let second = patch("P2", [file("srv/a", "of P2"), file("opt/new", "of P2")]).requires("P1");
        rig.add(second.script(script, fill));
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
        rig.becomes(&["P1"]);
    }
}

/// An initramfs's root says that it has no blocks at all: it has no limit.
#[test]
fn a_root_without_a_limit_has_space() {
    need_root!();
    for (kind, options) in [("tmpfs", "size=0,nr_inodes=0"), ("ramfs", "mode=755")] {
        let mut rig = Rig::new(&format!("limitless-{kind}"));
        let root = rig.root.with_file_name("limitless");
        let _mount = Mount::of_kind(kind, &root, options);
        populate(&root);
        rig.root.clone_from(&root);
        rig.orders.root = root;
        rig.orders.reserve_bytes = 1 << 20;
        rig.base = rig.tree();
        rig.add(patch("P1", [file("srv/a", "of P1"), file("etc/app.conf", "of P1")]));
        rig.becomes(&["P1"]);
        rig.becomes(&[]);
    }
}

#[test]
fn a_removal_needs_no_reserve() {
    need_root!();
    let (mut rig, _mount) = rig("reserve", "size=2m");
    rig.add(patch("P1", [file("srv/a", "of P1"), file("etc/app.conf", "of P1")]));
    rig.add(patch("P2", [file("srv/b", "of P2")]));
    rig.installed(&["P1"]);
    rig.orders.reserve_bytes = 1 << 30;
    rig.install(&["P1", "P2"]).assert_ended("Rejected", &["the install needs 10", "MiB on / and"]);
    rig.becomes(&[]);
}

/// Takes all space that is free, to the last byte.
fn fill(path: &Path) {
    let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
    while file.write(&[1; 4096]).is_ok() {}
    let _ = file.sync_all();
}

/// Removes patches from a full disk one by one, while another process takes every byte
/// that becomes free: what a removal writes was set aside.
/// Removes a file, and waits until its space can be used: a journal gives it back with its
/// next commit.
fn give_back(file: &Path) {
    fs::remove_file(file).unwrap();
    run(Command::new("sync").arg("-f").arg(file.parent().unwrap()));
}

fn remove_from_a_full_disk(rig: &mut Rig) {
    let script = "true";
    let first =
        [file("srv/a", "of P1"), file("etc/app.conf", "of P1"), program("usr/bin/tool", "of P1", 0o755)];
    rig.add(patch("P1", first).script("health", script).script("post-remove", script));
    let many: Vec<_> = (0..300).map(|at| file(&format!("srv/many/{at}"), "of P2")).collect();
    rig.add(patch("P2", many).script("pre-remove", script));
    rig.installed(&["P1", "P2"]);
    let filling = rig.root.join("filling");
    let without = |mut tree: model::Tree| {
        tree.remove("filling");
        tree
    };
    fill(&filling);
    rig.add(patch("P3", [file("srv/c", "of P3")]));
    let run = rig.install(&["P1", "P2", "P3"]);
    assert_eq!(run.says("outcome"), "Rejected", "{run:?}");
    model::assert_same(&without(rig.tree()), &rig.expected(&["P1", "P2"]), "refused for lack of space");

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fill(&filling);
            }
        });
        let run = rig.install(&["P1"]);
        is_over.store(true, Ordering::Relaxed);
        assert_eq!((run.last(), run.says("outcome")), ("done", "Installed"), "{run:?}");
    });
    model::assert_same(&without(rig.tree()), &rig.expected(&["P1"]), "P2 is removed");
    give_back(&filling);
    // The install that follows sets the space aside again.
    rig.installed(&["P1"]);
    fill(&filling);
    rig.installed(&[]);
    model::assert_same(&without(rig.tree()), &rig.base, "P1 is removed");
    give_back(&filling);
    rig.becomes(&["P1", "P2"]);
}

#[test]
fn a_patch_is_removed_with_no_byte_free() {
    need_root!();
    let (mut rig, _mount) = rig("no-byte", "size=4m");
    remove_from_a_full_disk(&mut rig);
}

/// The same where directories and second names take space of their own.
#[cfg(feature = "proof")]
#[test]
fn a_patch_is_removed_from_a_disk_with_no_byte_free() {
    need_root!();
    let mut rig = Rig::new("no-block");
    let image = rig.root.with_file_name("image");
    run(Command::new("truncate").args(["-s", "12M"]).arg(&image));
    run(Command::new("mkfs.ext4").args(["-q", "-E", "lazy_itable_init=0"]).arg(&image));
    let root = rig.root.with_file_name("disk");
    let Some(_mount) = Mount::image(&image, &root) else {
        return skip(module_path!(), "cannot mount an image: no loop devices");
    };
    populate(&root);
    rig.root.clone_from(&root);
    rig.orders.root = root;
    rig.base = rig.tree();
    remove_from_a_full_disk(&mut rig);
}

#[test]
fn inodes_that_are_used_up_are_not_told_as_a_full_disk() {
    need_root!();
    let (mut rig, mount) = rig("inode", "size=8m,nr_inodes=200");
    let many: Vec<_> = (0..300).map(|at| file(&format!("srv/{at}"), "of P1")).collect();
    rig.add(patch("P1", many));
    let words =
        ["the install makes 300 files on /, which has inodes for 1", "remove files that are not needed"];
    rig.install(&["P1"]).assert_ended("Rejected", &words);
    mount.remount("nr_inodes=500");
    rig.becomes(&["P1"]);
}
