//! Directories of patches that turn into links or files, and back.

use std::fs;
use std::os::unix::fs::symlink;

use crate::model;
use crate::pieces::{Patch, directory, file, link, patch, program, same};
use crate::rig::{Mount, Rig};
use crate::sys::{set_xattr, xattr};

/// A directory of all kinds of members, in P1; a link in its place, in P2; a file, in P3.
pub fn patches() -> [Patch; 3] {
    let script = "echo $THIMBLE_PATCH $THIMBLE_PHASE $THIMBLE_ACTION >>../log";
    let scripted = |patch: Patch| {
        let names = ["pre-install", "post-install", "pre-remove", "post-remove", "restart", "health"];
        names.into_iter().fold(patch, |patch, name| patch.script(name, script))
    };
    let first = patch(
        "P1",
        [
            file("usr/lib/app/a", "a of P1").mtime(1_650_000_000),
            same("usr/lib/app/deep/er/same", "usr/lib/app/a").mtime(1_650_000_000),
            program("usr/lib/app/tool", "tool of P1", 0o4755).owner(3),
            link("usr/lib/app/link", "a"),
            directory("usr/lib/app/empty", 0o710),
            file("usr/lib/app-1", "beside it"),
        ],
    );
    let second = patch("P2", [link("usr/lib/app", "app-2"), file("usr/lib/app-2/a", "a of P2")]);
    let third = patch("P3", [program("lib/app", "a program", 0o4711)]);
    [scripted(first), scripted(second), third]
}

pub fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    patches().into_iter().for_each(|patch| rig.add(patch));
    rig
}

#[test]
fn a_directory_becomes_a_link_or_a_file_and_comes_back() {
    need_root!();
    let rig = rig("turned");
    for set in ["P1", "P2", "P1", "P3", "P2", "P3", "P1"] {
        assert_eq!(rig.installed(&[set]).notices(), [""; 0]);
        rig.assert_tree(&[set]);
        assert_eq!(rig.own("kept"), [""; 0], "with {set}");
    }
    rig.becomes(&[]);
}

#[test]
fn a_failed_install_brings_the_directory_back_as_it_was() {
    need_root!();
    let mut rig = rig("turned-back");
    for (id, of, script) in [("P5", 1, "post-install"), ("P6", 1, "health"), ("P7", 2, "health")] {
        rig.add(patches()[of].clone().named(id).script_instead(script, "exit 1"));
    }
    rig.add(patches()[0].clone().named("P8").script_instead("health", "exit 1"));
    rig.installed(&["P1"]);
    let top = rig.root.join("usr/lib/app");
    // What a script set counts as the directory's own.
    let set = set_xattr(&top, "user.set", b"by a script").is_ok();
    fs::set_permissions(&top, std::os::unix::fs::PermissionsExt::from_mode(0o751)).unwrap();
    std::os::unix::fs::chown(&top, Some(7), Some(8)).unwrap();
    let before = rig.tree();
    for id in ["P5", "P6", "P7"] {
        rig.install(&[id]).assert_ended("RolledBack", &[id]);
        model::assert_same(&rig.tree(), &before, id);
        assert!(!set || xattr(&top, "user.set").unwrap().starts_with(b"by a script"));
        assert_eq!(rig.own("kept"), [""; 0], "after {id}");
    }
    for old in ["P2", "P3"] {
        rig.installed(&[old]);
        let before = rig.tree();
        rig.install(&["P8"]).assert_ended("RolledBack", &["health of P8"]);
        model::assert_same(&rig.tree(), &before, old);
        assert_eq!(rig.own("kept"), [""; 0]);
    }
    rig.becomes(&[]);
}

/// What a patch that stays has below it, and what was made or changed by hand.
#[test]
fn what_does_not_leave_is_in_the_way_and_named() {
    need_root!();
    let mut rig = rig("in-the-way");
    rig.add(patch("P4", [file("usr/lib/app/deep/of4", "of P4")]));
    rig.add(patch("P5", [directory("usr/lib/app", 0o755)]));
    rig.installed(&["P1", "P4", "P5"]);
    let before = rig.tree();
    let refused = |set: &[&str], words: &[&str]| {
        let before = rig.tree();
        let run = rig.install(set);
        run.assert_ended("Rejected", words);
        assert_eq!(run.notices(), [""; 0]);
        model::assert_same(&rig.tree(), &before, &format!("{words:?}"));
    };
    let both = |other: &str| format!("P2 has a file at /usr/lib/app, where {other} needs a directory");
    refused(&["P2", "P4"], &[&both("P4")]);
    refused(&["P2", "P5"], &[&both("P5")]);
    refused(&["P1", "P2"], &[&both("P1")]);
    model::assert_same(&rig.tree(), &before, "nothing was changed");
    rig.installed(&["P1"]);

    let root = rig.root.join("usr/lib/app");
    let in_the_way = |path: &str| format!("P2 replaces a directory above /usr/lib/app/{path}, which ");
    for path in ["mine", "deep/mine", "deep/er/mine", "empty/mine"] {
        fs::write(root.join(path), "by hand").unwrap();
        refused(&["P2"], &[&in_the_way(path), "no install made: move it away"]);
        fs::remove_file(root.join(path)).unwrap();
    }
    fs::create_dir(root.join("b-dir")).unwrap();
    refused(&["P2"], &[&in_the_way("b-dir"), "no install made"]);
    fs::remove_dir(root.join("b-dir")).unwrap();
    let strange: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
    fs::write(root.join(strange), "by hand").unwrap();
    rig.install(&["P2"]).assert_ended("Rejected", &["above /usr/lib/app/", "no install made"]);
    fs::remove_file(root.join(strange)).unwrap();
    // One that is gone does not hide one that is not.
    fs::rename(root.join("a"), root.join("z")).unwrap();
    refused(&["P2"], &[&in_the_way("z"), "no install made"]);
    fs::rename(root.join("z"), root.join("a")).unwrap();

    fs::rename(root.join("tool"), root.join("away")).unwrap();
    fs::write(root.join("tool"), "by hand").unwrap();
    refused(&["P2"], &[&in_the_way("tool"), "was changed by hand"]);
    fs::rename(root.join("away"), root.join("tool")).unwrap();
    fs::remove_dir(root.join("empty")).unwrap();
    symlink("/", root.join("empty")).unwrap();
    refused(&["P2"], &[&in_the_way("empty"), "no install made"]);
    fs::remove_file(root.join("empty")).unwrap();

    // What is gone is not in the way.
    fs::remove_file(root.join("a")).unwrap();
    fs::remove_dir_all(root.join("deep")).unwrap();
    rig.becomes(&["P2"]);
}

#[test]
fn a_mount_in_the_directory_is_in_the_way() {
    need_root!();
    let rig = rig("turned-mount");
    rig.installed(&["P1"]);
    let before = rig.tree();
    for (path, words) in [
        ("deep/er", "/usr/lib/app/deep/er, which something is mounted on: unmount that"),
        ("", "P2 has the file /usr/lib/app, and something is mounted on it on this host: unmount that"),
    ] {
        let mounted = Mount::tmpfs(&rig.root.join("usr/lib/app").join(path), "size=64k");
        rig.install(&["P2"]).assert_ended("Rejected", &[words]);
        drop(mounted);
        model::assert_same(&rig.tree(), &before, words);
    }
    rig.becomes(&["P2"]);
}

#[test]
fn a_directory_that_no_install_made_does_not_turn() {
    need_root!();
    let rig = rig("turned-base");
    fs::create_dir(rig.root.join("usr/lib/app")).unwrap();
    rig.installed(&["P1"]);
    rig.install(&["P2"]).assert_ended("Rejected", &["P2", "/usr/lib/app, which is a directory on this host"]);
    assert_eq!(rig.text("usr/lib/app/a"), "a of P1");
    rig.installed(&[]);
    fs::remove_dir(rig.root.join("usr/lib/app")).unwrap();
    rig.assert_tree(&[]);
}

/// A file from before P1 in a directory that an install made comes back when P1 goes.
#[test]
fn what_comes_back_is_in_the_way() {
    need_root!();
    let mut rig = rig("turned-before");
    rig.add(patch("P4", [file("usr/lib/app/of4", "of P4")]));
    rig.add(patch("P5", [file("usr/lib/app/conf", "of P5")]).says("config = [\"/usr/lib/app/conf\"]"));
    rig.installed(&["P4"]);
    rig.edit("usr/lib/app/a", "by hand");
    rig.installed(&["P1", "P4"]);
    rig.install(&["P2"]).assert_ended("Rejected", &["/usr/lib/app/a, which is from before its patch"]);
    rig.installed(&["P4"]);
    assert_eq!(rig.text("usr/lib/app/a"), "by hand");
    fs::remove_file(rig.root.join("usr/lib/app/a")).unwrap();
    rig.installed(&["P4", "P5"]);
    rig.edit("usr/lib/app/conf", "by hand");
    rig.install(&["P2"]).assert_ended("Rejected", &["/usr/lib/app/conf, which was changed by hand"]);
}

/// A link that was changed by hand is saved beside the directory; a configuration file that
/// stays is refused.
#[test]
fn a_changed_link_makes_way_for_a_directory_and_a_config_file_does_not() {
    need_root!();
    let mut rig = rig("turned-saved");
    rig.add(patch("P4", [file("usr/lib/app", "of P4")]).says("config = [\"/usr/lib/app\"]"));
    rig.installed(&["P2"]);
    let path = rig.root.join("usr/lib/app");
    fs::remove_file(&path).unwrap();
    symlink("elsewhere", &path).unwrap();
    let run = rig.installed(&["P1"]);
    assert_eq!(run.notices(), ["/usr/lib/app was changed by hand: that is saved as app.thimble-saved"]);
    let saved = rig.root.join("usr/lib/app.thimble-saved");
    assert_eq!(fs::read_link(&saved).unwrap().to_str(), Some("elsewhere"));
    fs::remove_file(saved).unwrap();
    rig.assert_tree(&["P1"]);

    rig.installed(&["P2"]);
    fs::remove_file(&path).unwrap();
    rig.becomes(&["P1"]);

    rig.installed(&["P4"]);
    rig.edit("usr/lib/app", "by hand");
    rig.install(&["P1"]).assert_ended("Rejected", &["P1 needs the directory /usr/lib/app", "move away"]);
    assert_eq!(rig.text("usr/lib/app"), "by hand");
}

/// Scripts put files where the install cannot know of them.
#[test]
fn what_is_put_into_the_directory_meanwhile_is_not_lost() {
    need_root!();
    let mut rig = rig("turned-meanwhile");
    let puts = "echo put >usr/lib/app/put";
    rig.add(patches()[1].clone().named("P5").script_instead("pre-install", puts));
    let first = patches()[0].clone().named("P6");
    rig.add(first.script_instead("post-install", puts).script_instead("health", "exit 1"));
    rig.installed(&["P1"]);
    let words = ["cannot clear /usr/lib/app: Directory not empty", "move that away and install again"];
    rig.install(&["P5"]).assert_ended("RolledBack", &words);
    assert_eq!(rig.text("usr/lib/app/put"), "put\n");
    fs::remove_file(rig.root.join("usr/lib/app/put")).unwrap();
    rig.assert_tree(&["P1"]);

    rig.installed(&["P2"]);
    rig.install(&["P6"]).assert_ended("RolledBack", &["health of P6"]);
    assert_eq!(rig.text("usr/lib/app.thimble-saved/put"), "put\n");
    fs::remove_file(rig.root.join("usr/lib/app.thimble-saved/put")).unwrap();
    fs::remove_dir(rig.root.join("usr/lib/app.thimble-saved")).unwrap();
    rig.assert_tree(&["P2"]);
}

#[test]
fn a_removal_of_a_directory_that_goes_removes_nothing() {
    need_root!();
    let mut rig = rig("turned-removal");
    rig.add(patch("P4", []).removes("usr/lib/app"));
    rig.installed(&["P1"]);
    let run = rig.installed(&["P4"]);
    assert_eq!(run.notices(), ["/usr/lib/app, which P4 removes, was not there"]);
    rig.assert_tree(&["P4"]);
    rig.becomes(&["P1"]);
}

/// A set-user-id program that leaves with its directory loses the bit under all its names.
#[test]
fn a_program_that_leaves_with_its_directory_is_disarmed() {
    need_root!();
    use std::os::unix::fs::PermissionsExt;
    let mut rig = rig("turned-armed");
    rig.add(patches()[1].clone().named("P5").script_instead("health", "exit 1"));
    rig.installed(&["P1"]);
    let mode = |path: &str| fs::metadata(rig.root.join(path)).unwrap().permissions().mode() & 0o7777;
    fs::hard_link(rig.root.join("usr/lib/app/tool"), rig.root.join("var/taken")).unwrap();
    rig.install(&["P5"]).assert_ended("RolledBack", &["health of P5"]);
    assert_eq!((mode("usr/lib/app/tool"), mode("var/taken")), (0o4755, 0o4755), "it is in place again");
    rig.installed(&["P2"]);
    assert_eq!(mode("var/taken"), 0o755);
    fs::remove_file(rig.root.join("var/taken")).unwrap();

    rig.installed(&["P3"]);
    fs::hard_link(rig.root.join("usr/lib/app"), rig.root.join("var/taken")).unwrap();
    assert_eq!(mode("var/taken"), 0o4711);
    rig.installed(&["P1"]);
    assert_eq!(mode("var/taken"), 0o711);
}

/// Each directory that goes has another kept for it, until the commit.
#[test]
fn without_room_for_its_way_back_a_directory_does_not_turn() {
    need_root!();
    let mut rig = Rig::new("turned-room");
    rig.add(patch("P1", (0..60).map(|at| file(&format!("opt/t/{at}/f"), "of P1")).collect::<Vec<_>>()));
    rig.add(patch("P2", [link("opt/t", "u")]));
    let _mount = rig.mounted("tmpfs", "size=8m,nr_inodes=300");
    rig.installed(&["P1"]);
    let filler = |at: usize| rig.root.join(format!("var/filler-{at}"));
    let made = (0..).take_while(|at| fs::write(filler(*at), "").is_ok()).count();
    for at in made - 30..made {
        fs::remove_file(filler(at)).unwrap();
    }
    let before = rig.tree();
    rig.install(&["P2"]).assert_ended("Rejected", &["the install makes", "which has inodes for"]);
    model::assert_same(&rig.tree(), &before, "nothing was changed");
    (0..made - 30).for_each(|at| fs::remove_file(filler(at)).unwrap());
    rig.becomes(&["P2"]);
}
