//! Directories that a patch lists: they get its owner and mode also where they are there
//! already, and have their own again when it goes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::pieces::{Patch, Piece, directory, file, patch};
use crate::rig::{Mount, Rig};

/// Users that are not root.
const USER: u32 = 7;
const OTHER: u32 = 8;

/// A patch that lists this directory.
fn listing(id: &str, piece: Piece) -> Patch {
    let line = format!("directories = [\"/{}\"]", piece.path);
    patch(id, [piece, file(&format!("srv/{id}"), id)]).says(&line)
}

fn set(path: &Path, mode: u32, owner: u32) {
    chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A host with `var/app`, 0755 of root, which P1 and P2 list. P3 has it and does not.
fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    fs::create_dir(rig.root.join("var/app")).unwrap();
    rig.base = rig.tree();
    rig.add(listing("P1", directory("var/app", 0o2750).owner(USER)));
    rig.add(listing("P2", directory("var/app", 0o700).owner(OTHER)));
    rig.add(patch("P3", [directory("var/app", 0o711), file("srv/P3", "P3")]));
    rig
}

#[track_caller]
fn assert_access(rig: &Rig, mode: u32, owner: u32) {
    let stat = fs::metadata(rig.root.join("var/app")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (mode, owner, owner));
}

#[test]
fn the_topmost_patch_that_lists_a_directory_says_its_owner_and_mode() {
    need_root!();
    let rig = rig("listed");
    let installed = |set: &[&str], mode: u32, owner: u32| {
        let run = rig.installed(set);
        assert_eq!(run.notices(), [""; 0], "{set:?}");
        assert_access(&rig, mode, owner);
    };
    installed(&["P1"], 0o2750, USER);
    installed(&["P1", "P2"], 0o700, OTHER);
    // Who has it and does not list it counts for nothing, and says nothing: it is listed.
    installed(&["P1", "P2", "P3"], 0o700, OTHER);
    installed(&["P1", "P3"], 0o2750, USER);
    installed(&["P1", "P2", "P3"], 0o700, OTHER);
    installed(&["P2", "P3"], 0o700, OTHER);
    installed(&["P3"], 0o755, 0);
    installed(&[], 0o755, 0);
    rig.assert_tree(&[]);
    installed(&["P1", "P2"], 0o700, OTHER);
    installed(&[], 0o755, 0);
    rig.assert_tree(&[]);
}

#[test]
fn a_directory_that_is_made_has_what_the_topmost_says_and_goes_with_the_last() {
    need_root!();
    let mut rig = rig("made");
    fs::remove_dir(rig.root.join("var/app")).unwrap();
    rig.base = rig.tree();
    rig.installed(&["P1", "P2", "P3"]);
    assert_access(&rig, 0o700, OTHER);
    rig.installed(&["P3"]);
    assert_access(&rig, 0o711, 0);
    rig.becomes(&[]);
    // What its program has written there does not come into reach.
    rig.installed(&["P1"]);
    rig.edit("var/app/data", "private");
    rig.installed(&[]);
    assert_access(&rig, 0o2750, USER);
}

#[test]
fn what_was_changed_by_hand_stays_and_is_told() {
    need_root!();
    let rig = rig("changed");
    rig.installed(&["P1"]);
    let path = rig.root.join("var/app");
    set(&path, 0o770, USER);
    let told = |run: &crate::rig::Run, asked: &str| {
        let notice = format!(
            "the directory /var/app was changed by hand and stays 0770 7:7: `chmod` and `chown` it if it \
             should become {asked}"
        );
        assert_eq!(run.notices(), [notice.as_str()]);
        assert!(run.says("reason").contains(&notice), "{run:?}");
        assert_access(&rig, 0o770, USER);
    };
    told(&rig.installed(&["P1", "P2"]), "0700 8:8");
    told(&rig.installed(&["P1"]), "2750 7:7");
    told(&rig.installed(&[]), "0755 0:0");
    // Changed to what it should be, there is nothing to tell.
    set(&path, 0o755, 0);
    rig.installed(&["P1"]);
    set(&path, 0o755, 0);
    assert_eq!(rig.installed(&[]).notices(), [""; 0]);
    // One that was deleted is gone.
    rig.installed(&["P1"]);
    fs::remove_dir(&path).unwrap();
    assert_eq!(rig.installed(&[]).notices(), [""; 0]);
    assert!(!path.exists());
}

#[test]
fn a_failed_install_gives_the_former_owner_and_mode_back() {
    need_root!();
    let mut rig = rig("undone");
    rig.add(listing("P4", directory("var/app", 0o777).owner(OTHER)).script("health", "exit 1"));
    rig.install(&["P4"]).assert_ended("RolledBack", &["health of P4"]);
    rig.assert_tree(&[]);
    rig.installed(&["P1"]);
    let before = rig.tree();
    rig.install(&["P4"]).assert_ended("RolledBack", &["health of P4"]);
    crate::model::assert_same(&rig.tree(), &before, "after the rollback");
    // A script that changes it is a change by hand.
    let script = "chmod 1777 var/app; exit 1";
    rig.add(listing("P5", directory("var/app", 0o777).owner(OTHER)).script("post-install", script));
    rig.install(&["P5"]).assert_ended(
        "RolledBack",
        &["post-install of P5", "the directory /var/app was changed meanwhile and stays 1777 8:8"],
    );
    assert_access(&rig, 0o1777, OTHER);
}

#[test]
fn a_filesystem_of_its_own_keeps_nothing_behind() {
    need_root!();
    let mut rig = rig("mounted");
    let mount = Mount::tmpfs(&rig.root.join("mnt"), "size=1m,mode=755");
    fs::create_dir(rig.root.join("mnt/app")).unwrap();
    rig.base = rig.tree();
    for (id, health) in [("P6", "true"), ("P7", "exit 1")] {
        let patch = listing(id, directory("mnt/app", 0o2770).owner(USER)).script("health", health);
        rig.add(patch);
    }
    rig.installed(&["P6"]);
    let app = fs::metadata(rig.root.join("mnt/app")).unwrap();
    assert_eq!((app.mode() & 0o7777, app.uid()), (0o2770, USER));
    assert!(!rig.root.join("mnt/.thimble").exists());
    rig.installed(&[]);
    rig.install(&["P7"]).assert_ended("RolledBack", &["health of P7"]);
    assert!(!rig.root.join("mnt/.thimble").exists());
    rig.assert_tree(&[]);
    drop(mount);
}

/// Killed at any step, the directory has its old or its new owner and mode with the files of
/// the same set.
#[cfg(feature = "proof")]
#[test]
fn a_power_cut_leaves_the_owner_and_mode_of_one_set() {
    need_root!();
    let rig = rig("cut");
    for (from, to) in [(&[][..], &["P1"][..]), (&["P1"], &["P2"]), (&["P1", "P2"], &[])] {
        rig.installed(from);
        let old = rig.tree();
        rig.installed(to);
        let new = rig.tree();
        let mut seen = std::collections::BTreeSet::new();
        for step in 1.. {
            rig.installed(from);
            let run = rig.run(&rig.orders_for(to), Some(step));
            if run.status.success() {
                break;
            }
            let path = rig.root.join("var/app");
            seen.insert(fs::metadata(&path).map(|stat| (stat.mode(), stat.uid())).unwrap());
            let run = rig.recover_killed_at([1 + step * 7 % 13, 30 + step]);
            let is_new = run.installed() == to;
            let when = format!("{from:?} to {to:?}, killed at step {step}: {run:?}");
            assert!(is_new || run.installed() == from, "{when}");
            crate::model::assert_same(&rig.tree(), if is_new { &new } else { &old }, &when);
        }
        assert_eq!(seen.len(), 3, "the old, the new, and one between: {seen:?}");
        rig.installed(&[]);
    }
}

/// What is mounted over a directory while an install is undone hides it.
#[test]
fn a_filesystem_mounted_over_a_listed_directory_is_not_taken_for_it() {
    need_root!();
    let mut rig = rig("over");
    let listed = listing("P8", directory("var/app", 0o700).owner(USER));
    rig.add(listed.script("post-install", "kill -9 $PPID"));
    assert!(!rig.run(&rig.orders_for(&["P8"]), None).status.success());
    let over = Mount::tmpfs(&rig.root.join("var/app"), "size=1m,mode=755");
    let run = rig.recover();
    let words = "cannot set the owner of /var/app: ";
    assert!(run.last().contains(words) && run.last().contains("unmount that"), "{run:?}");
    drop(over);
    assert_eq!(rig.recover().says("outcome"), "RolledBack");
    rig.assert_tree(&[]);
}

#[test]
fn a_listed_directory_turns_into_a_file_and_back() {
    need_root!();
    let mut rig = Rig::new("turns");
    let line = "directories = [\"/srv/d\", \"/srv/d/e\"]";
    let pieces = [
        directory("srv/d", 0o750).owner(USER),
        directory("srv/d/e", 0o2770).owner(OTHER),
        file("srv/d/e/f", "1"),
    ];
    rig.add(patch("P1", pieces).says(line));
    let upper = [directory("srv/d", 0o700).owner(OTHER), directory("srv/d/e", 0o711)];
    rig.add(patch("P2", upper).says(line).requires("P1"));
    rig.add(patch("P3", [file("srv/d", "a file")]));
    rig.add(patch("P4", [file("srv/d", "a file")]).script("health", "exit 1"));
    // Made as the first says, so that all leaving would change them once more.
    rig.installed(&["P1"]);
    rig.installed(&["P1", "P2"]);
    let listed = rig.tree();
    let of = |path: &str| (listed[path].mode, listed[path].owner);
    assert_eq!((of("srv/d"), of("srv/d/e")), ((0o700, OTHER), (0o711, 0)));
    rig.install(&["P4"]).assert_ended("RolledBack", &["health of P4"]);
    crate::model::assert_same(&rig.tree(), &listed, "after the rollback");
    rig.becomes(&["P3"]);
    rig.installed(&["P1", "P2"]);
    crate::model::assert_same(&rig.tree(), &listed, "turned back");
    rig.becomes(&[]);
}
