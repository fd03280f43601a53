//! Files changed or deleted by hand on a host while patches are added and removed.

use std::fs;

use crate::model::Content;
use crate::pieces::{file, patch, program};
use crate::rig::Rig;

fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    let config = "config = [\"/etc/app.conf\"]";
    rig.add(
        patch("P1", [file("etc/app.conf", "conf of P1"), program("bin/tool", "tool of P1", 0o755)])
            .says(config),
    );
    let second = [file("etc/app.conf", "conf of P2"), program("usr/bin/tool", "tool of P2", 0o755)];
    rig.add(patch("P2", second).says(config).requires("P1"));
    rig
}

#[test]
fn a_changed_file_is_saved_and_reported() {
    need_root!();
    let rig = rig("saved");
    rig.installed(&["P1"]);
    rig.edit("usr/bin/tool", "by hand");
    let run = rig.installed(&["P1", "P2"]);
    assert_eq!(rig.text("usr/bin/tool"), "tool of P2");
    assert_eq!(rig.text("usr/bin/tool.thimble-saved"), "by hand");
    let notice = "/usr/bin/tool was changed by hand: that is saved as tool.thimble-saved";
    assert_eq!(run.notices(), [notice]);
    assert_eq!(run.says("reason"), notice);
    // A change of owner or mode is a local change too. Its copy does not replace the first.
    std::os::unix::fs::chown(rig.root.join("usr/bin/tool"), Some(7), Some(7)).unwrap();
    rig.installed(&[]);
    assert_eq!(rig.text("usr/bin/tool.thimble-saved"), "by hand");
    assert_eq!(rig.text("usr/bin/tool.thimble-saved-2"), "tool of P2");
    fs::remove_file(rig.root.join("usr/bin/tool.thimble-saved")).unwrap();
    fs::remove_file(rig.root.join("usr/bin/tool.thimble-saved-2")).unwrap();
    rig.assert_tree(&[]);
}

#[test]
fn a_new_modification_time_is_not_a_local_change() {
    need_root!();
    let rig = rig("touched");
    rig.installed(&["P1"]);
    rig.edit("usr/bin/tool", "tool of P1");
    let run = rig.installed(&[]);
    assert_eq!((run.notices(), run.says("reason")), (vec![], ""));
    rig.assert_tree(&[]);
}

#[test]
fn a_changed_config_file_stays_and_the_new_one_is_beside_it() {
    need_root!();
    let rig = rig("config");
    rig.installed(&["P1"]);
    rig.edit("etc/app.conf", "by hand");
    let run = rig.installed(&["P1", "P2"]);
    assert_eq!(rig.text("etc/app.conf"), "by hand");
    assert_eq!(rig.text("etc/app.conf.thimble-new"), "conf of P2");
    let notice = "/etc/app.conf was changed by hand and stays; the new file is app.conf.thimble-new";
    assert_eq!(run.notices(), [notice]);
    assert_eq!(run.says("reason"), notice);
    // It also stays when its patches are removed, with the base's file beside it.
    rig.installed(&[]);
    assert_eq!(rig.text("etc/app.conf"), "by hand");
    assert_eq!(rig.text("etc/app.conf.thimble-new-2"), "base conf");
    assert_eq!(rig.text("usr/bin/tool"), "base tool");
}

#[test]
fn taking_the_new_config_file_ends_the_local_change() {
    need_root!();
    let rig = rig("taken");
    rig.installed(&["P1"]);
    rig.edit("etc/app.conf", "by hand");
    rig.installed(&["P1", "P2"]);
    fs::rename(rig.root.join("etc/app.conf.thimble-new"), rig.root.join("etc/app.conf")).unwrap();
    assert_eq!(rig.installed(&[]).notices(), [""; 0]);
    rig.assert_tree(&[]);
}

#[test]
fn an_unchanged_config_file_is_replaced() {
    need_root!();
    let rig = rig("unchanged");
    rig.installed(&["P1"]);
    assert_eq!(rig.installed(&["P1", "P2"]).notices(), [""; 0]);
    rig.assert_tree(&["P1", "P2"]);
}

#[test]
fn a_deleted_file_is_reported_and_restored_by_the_next_patch_that_has_it() {
    need_root!();
    let rig = rig("deleted");
    rig.installed(&["P1"]);
    fs::remove_file(rig.root.join("usr/bin/tool")).unwrap();
    let run = rig.installed(&["P1", "P2"]);
    assert_eq!(run.notices(), ["/usr/bin/tool of P1 had been deleted by hand"]);
    assert_eq!(run.says("reason"), "/usr/bin/tool of P1 had been deleted by hand");
    rig.assert_tree(&["P1", "P2"]);
    // P1's own file is lost, so the patch is fetched again.
    rig.becomes(&["P1"]);
    rig.becomes(&[]);
}

#[test]
fn a_changed_file_that_becomes_the_top_again_has_its_patch_s_content() {
    need_root!();
    let rig = rig("light");
    rig.installed(&["P1"]);
    rig.edit("usr/bin/tool", "by hand");
    rig.installed(&["P1", "P2"]);
    rig.installed(&["P1"]);
    assert_eq!(rig.text("usr/bin/tool"), "tool of P1");
    assert_eq!(rig.text("usr/bin/tool.thimble-saved"), "by hand");
}

#[test]
fn a_deleted_file_that_an_install_does_not_touch_is_reported_and_not_restored() {
    need_root!();
    let mut rig = rig("away");
    rig.add(patch("P3", [file("etc/third", "of P3")]));
    rig.installed(&["P1"]);
    fs::remove_file(rig.root.join("usr/bin/tool")).unwrap();
    let run = rig.installed(&["P1", "P3"]);
    assert_eq!(run.notices().len(), 1);
    assert!(run.notices()[0].starts_with("/usr/bin/tool of P1 was deleted by hand"), "{run:?}");
    assert_eq!(run.says("reason"), run.notices()[0]);
    assert_eq!(rig.recover().says("reason"), run.notices()[0], "and that is remembered");
    assert!(!rig.root.join("usr/bin/tool").exists());
    rig.becomes(&["P3"]);
}

#[test]
fn a_whole_directory_deleted_by_hand_does_not_stop_an_install() {
    need_root!();
    let mut rig = rig("whole");
    rig.add(patch("Q1", [file("srv/q/data", "of Q1")]));
    rig.add(patch("Q2", [file("srv/q/data", "of Q2")]).requires("Q1"));
    rig.installed(&["Q1", "Q2"]);
    fs::remove_dir_all(rig.root.join("srv")).unwrap();
    rig.becomes(&["Q1"]);
    fs::remove_dir_all(rig.root.join("srv")).unwrap();
    rig.becomes(&[]);
}

#[test]
fn a_local_change_is_restored_when_the_install_is_rolled_back() {
    need_root!();
    let mut rig = rig("back");
    let sick = [program("usr/bin/tool", "tool of P3", 0o755), file("etc/app.conf", "conf of P3")];
    rig.add(patch("P3", sick).requires("P1").script("health", "exit 1"));
    rig.installed(&["P1"]);
    rig.edit("usr/bin/tool", "by hand");
    rig.edit("etc/app.conf", "by hand");
    let before = rig.tree();
    rig.install(&["P1", "P3"]).assert_ended("RolledBack", &["health of P3 ended with status 1"]);
    crate::model::assert_same(&rig.tree(), &before, "after going back");
    let run = rig.recover();
    assert_eq!((run.says("outcome"), run.last()), ("RolledBack", "done"), "and that is remembered");
    assert_eq!(before["etc/app.conf"].content, Content::File(b"by hand".to_vec()));
}
