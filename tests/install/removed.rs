//! Files of the host that a patch removes.

use std::fs;

use crate::pieces::{directory, file, patch};
use crate::rig::Rig;

#[test]
fn a_removed_file_is_gone_until_its_patch_goes() {
    need_root!();
    let mut rig = Rig::new("removed");
    rig.add(patch("P1", []).removes("bin/tool").removes("usr/lib/libx.so"));
    let run = rig.installed(&["P1"]);
    assert_eq!((run.notices(), run.says("reason")), (vec![], ""));
    assert!(!rig.root.join("usr/bin/tool").exists());
    assert!(fs::symlink_metadata(rig.root.join("usr/lib/libx.so")).is_err());
    rig.assert_tree(&["P1"]);
    // Another install says nothing of it.
    rig.add(patch("P2", [file("etc/p2", "of P2")]));
    assert_eq!(rig.installed(&["P1", "P2"]).notices(), [""; 0]);
    rig.becomes(&[]);
}

#[test]
fn a_name_that_is_not_there_is_a_notice_and_a_directory_is_refused() {
    need_root!();
    let mut rig = Rig::new("absent");
    rig.add(patch("P1", []).removes("usr/bin/none"));
    let run = rig.installed(&["P1"]);
    assert_eq!(run.notices(), ["/usr/bin/none, which P1 removes, was not there"]);
    rig.assert_tree(&["P1"]);
    rig.add(patch("P2", []).removes("etc/app.d"));
    rig.install(&["P1", "P2"]).assert_ended("Rejected", &["P2 removes", "/etc/app.d", "is a directory"]);
    rig.assert_tree(&["P1"]);
}

#[test]
fn a_file_that_was_made_again_by_hand_is_not_lost() {
    need_root!();
    let mut rig = Rig::new("again");
    rig.add(patch("P1", []).removes("usr/bin/tool").removes("etc/new"));
    rig.installed(&["P1"]);
    rig.edit("usr/bin/tool", "by hand");
    rig.edit("etc/new", "by hand");
    let run = rig.installed(&[]);
    let saved = "/usr/bin/tool was changed by hand: that is saved as tool.thimble-saved";
    assert_eq!(run.notices(), [saved, "/etc/new was changed by hand and stays"]);
    assert_eq!(rig.text("usr/bin/tool"), "base tool");
    assert_eq!(rig.text("usr/bin/tool.thimble-saved"), "by hand");
    assert_eq!(rig.text("etc/new"), "by hand");
}

#[test]
fn a_removal_hides_the_file_of_a_patch_below_it() {
    need_root!();
    let mut rig = Rig::new("hidden");
    rig.add(patch("P1", [file("opt/p1/plugin", "of P1"), directory("opt/own", 0o755)]));
    rig.add(patch("P2", []).requires("P1").removes("opt/p1/plugin"));
    rig.becomes(&["P1", "P2"]);
    assert!(!rig.root.join("opt/p1").exists() && rig.root.join("opt/own").exists());
    rig.installed(&["P1"]);
    assert_eq!(rig.text("opt/p1/plugin"), "of P1");
    rig.becomes(&["P1", "P2"]);
    rig.becomes(&[]);
}

#[test]
fn no_directory_is_made_for_a_file_that_is_taken_away() {
    need_root!();
    let mut rig = Rig::new("nowhere");
    let looks = "test ! -e \"$THIMBLE_ROOT/opt/none\"";
    rig.add(patch("P1", [file("etc/p1", "1")]).removes("opt/none/tool").script("health", looks));
    let run = rig.installed(&["P1"]);
    assert_eq!(run.notices(), ["/opt/none/tool, which P1 removes, was not there"]);
    assert!(!rig.root.join("opt/none").exists());
}
