//! Whoever owns a directory with patched files puts something else in its place while an
//! install is under way: that is undone for all else, and told. So are filesystems that are
//! not root's.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use crate::child::Orders;
use crate::model;
use crate::pieces::{directory, file, patch, program};
use crate::rig::{Mount, Rig, Run};

/// A user that is not root.
const USER: u32 = 7;
/// A script that ends the installer, as a power cut would.
const KILL: &str = "kill -9 $PPID";
/// Mounts a filesystem of the user, whose program never answers, on `srv`.
const DEAF: &str = "exec 5<>/dev/fuse && mount -i -t fuse -o \
                    fd=5,rootmode=40000,user_id=7,group_id=7,allow_other deaf \"$ROOT/srv\"";

/// A host with the user's directory `srv`. P1 and P2 have files there and elsewhere.
fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    fs::create_dir(rig.root.join("srv")).unwrap();
    rig.edit("srv/known", "base");
    fs::create_dir(rig.root.join("srv/sub")).unwrap();
    std::os::unix::fs::lchown(rig.root.join("srv"), Some(USER), Some(USER)).unwrap();
    rig.base = rig.tree();
    let pieces = |id: &str| {
        let names = ["srv/known", "srv/new", "srv/sub/new", "etc/app.conf"];
        names.map(|path| file(path, format!("of {id}")))
    };
    rig.add(patch("P1", pieces("P1")));
    rig.add(patch("P2", pieces("P2")).requires("P1").script("post-install", KILL));
    rig.add(patch("P3", [file("etc/p3", "3")]).script("post-install", KILL));
    rig.add(patch("P4", pieces("P4")).script("post-install", KILL));
    rig
}

fn recovered(run: &Run) {
    assert_eq!((run.last(), run.says("outcome")), ("done", "RolledBack"), "{run:?}");
}

fn swap(rig: &Rig) {
    fs::rename(rig.root.join("srv"), rig.root.join("elsewhere")).unwrap();
    symlink("etc", rig.root.join("srv")).unwrap();
}

fn swap_back(rig: &Rig) {
    fs::remove_file(rig.root.join("srv")).unwrap();
    fs::rename(rig.root.join("elsewhere"), rig.root.join("srv")).unwrap();
}

/// His directory in root's, which he may write to: he can move all of it.
fn his(name: &str) -> Rig {
    let mut rig = rig(name);
    std::os::unix::fs::lchown(&rig.root, Some(USER), Some(USER)).unwrap();
    rig.base = rig.tree();
    rig
}

fn lost(rig: &Rig) -> Vec<String> {
    let names = rig.own("kept").into_iter().filter(|name| name.ends_with(".lost"));
    names.map(|name| fs::read_to_string(rig.root.join(".thimble/kept").join(name)).unwrap()).collect()
}

#[test]
fn a_directory_that_its_owner_swaps_does_not_stop_an_install_from_being_undone() {
    need_root!();
    let rig = his("swapped-in-undo");
    assert!(!rig.run(&rig.orders_for(&["P4"]), None).status.success());
    assert_eq!(rig.text("srv/known"), "of P4");
    swap(&rig);
    let run = rig.recover();
    recovered(&run);
    let reason = run.says("reason");
    let told = "/srv/known could not be put back, as its directory is another one now, or gone: it is \
                /.thimble/kept/";
    assert!(reason.contains(told) && reason.ends_with(".lost"), "{reason}");
    assert_eq!(rig.text("etc/app.conf"), "base conf");
    rig.assert_no_new_files_in("etc");
    assert_eq!(lost(&rig), ["base"]);
    // Nothing is tried again, and the next installs leave it where it lies.
    swap_back(&rig);
    rig.installed(&["P1"]);
    rig.installed(&[]);
    assert_eq!(lost(&rig), ["base"]);
}

#[test]
fn what_was_to_come_back_from_under_a_patch_is_kept_on() {
    need_root!();
    let mut rig = his("kept-on");
    rig.installed(&["P1"]);
    // P1 goes: what was there before it is in place while the install is cut.
    rig.add(patch("P5", [file("etc/p5", "5")]).script("post-install", KILL));
    rig.add(patch("P8", [file("etc/p8", "8")]));
    assert!(!rig.run(&rig.orders_for(&["P5"]), None).status.success());
    assert_eq!(rig.text("srv/known"), "base");
    swap(&rig);
    recovered(&rig.recover());
    assert_eq!(rig.text("etc/app.conf"), "of P1");
    let run = rig.installed(&["P1", "P8"]);
    assert!(run.notices().iter().any(|line| line.contains("/srv/known of P1 was deleted")), "{run:?}");
    fs::remove_file(rig.root.join("srv")).unwrap();
    fs::create_dir(rig.root.join("srv")).unwrap();
    rig.installed(&[]);
    assert_eq!(rig.text("srv/known"), "base");
    assert_eq!(rig.text("etc/app.conf"), "base conf");
}

#[test]
fn a_directory_in_the_place_of_a_file_is_told_too() {
    need_root!();
    let rig = rig("in-place");
    assert!(!rig.run(&rig.orders_for(&["P4"]), None).status.success());
    for path in ["srv/known", "srv/new"] {
        fs::remove_file(rig.root.join(path)).unwrap();
        fs::create_dir(rig.root.join(path)).unwrap();
    }
    let run = rig.recover();
    recovered(&run);
    assert!(run.says("reason").contains("/srv/known could not be put back"), "{run:?}");
    assert_eq!(lost(&rig), ["base"]);
    assert!(!rig.root.join("srv/sub/new").exists());
    assert_eq!(rig.text("etc/app.conf"), "base conf");
}

#[test]
fn a_listed_directory_that_its_owner_swaps_keeps_what_it_has() {
    need_root!();
    let mut rig = his("listed-in-undo");
    let listed = patch("P6", [directory("srv", 0o700), file("etc/p6", "6")]);
    rig.add(listed.says("directories = [\"/srv\"]").script("post-install", KILL));
    assert!(!rig.run(&rig.orders_for(&["P6"]), None).status.success());
    swap(&rig);
    let run = rig.recover();
    recovered(&run);
    let told = "/srv is another directory now, or gone, and was not made 0755 7:7 again";
    assert!(run.says("reason").contains(told), "{run:?}");
    let etc = fs::metadata(rig.root.join("etc")).unwrap();
    assert_eq!((etc.mode() & 0o7777, etc.uid()), (0o755, 0));
    assert!(!rig.root.join("etc/p6").exists());
    swap_back(&rig);
    rig.installed(&["P1"]);
}

fn in_deaf(rig: &Rig, orders: &Orders) -> Run {
    let root: PathBuf = rig.root.clone();
    rig.run_in(&format!("ROOT={} && {DEAF}", root.display()), orders)
}

#[test]
fn a_users_own_filesystem_is_not_touched() {
    need_root!();
    let rig = rig("deaf");
    let recover = Orders { request_id: None, ..rig.orders.clone() };
    // On the way of a new patch.
    let run = in_deaf(&rig, &rig.orders_for(&["P1"]));
    run.assert_ended("Rejected", &["P1 has files below /srv,", "a user has mounted", "fusermount -u"]);
    rig.assert_tree(&[]);
    // On the way of an install that is undone.
    assert!(!rig.run(&rig.orders_for(&["P4"]), None).status.success());
    let run = in_deaf(&rig, &recover);
    recovered(&run);
    assert!(run.says("reason").contains("/srv/known could not be put back"), "{run:?}");
    assert_eq!(rig.text("etc/app.conf"), "base conf");
    // On the way of one that has nothing to do with it.
    rig.installed(&["P1"]);
    let mut rig = rig;
    rig.add(patch("P7", [file("etc/p7", "7")]));
    let run = in_deaf(&rig, &rig.orders_for(&["P1", "P7"]));
    assert_eq!((run.last(), run.says("outcome")), ("done", "Installed"), "{run:?}");
    assert!(run.notices().iter().any(|line| line.contains("/srv/known of P1 was deleted")), "{run:?}");
}

#[test]
fn a_users_own_filesystem_that_comes_while_an_install_is_under_way_does_not_stop_it() {
    need_root!();
    let mut rig = rig("deaf-meanwhile");
    let mount = "mount -i -t fuse -o fd=5,rootmode=40000,user_id=7,group_id=7,allow_other deaf srv; exit 1";
    let pieces = [file("srv/known", "of P9"), file("etc/app.conf", "of P9")];
    rig.add(patch("P9", pieces).script("post-install", mount));
    // The installer holds the device, so the program seems to be there.
    let run = rig.run_in("exec 5<>/dev/fuse", &rig.orders_for(&["P9"]));
    run.assert_ended("RolledBack", &["post-install of P9", "/srv/known could not be put back"]);
    assert_eq!(rig.text("etc/app.conf"), "base conf");
}

#[test]
fn nothing_is_kept_on_a_filesystem_whose_top_is_not_roots() {
    need_root!();
    let mut rig = Rig::new("others-top");
    rig.add(patch("P1", [program("mnt/tool", "of P1", 0o755)]));
    for (options, access) in
        [("uid=7,mode=755", "0755 7:0"), ("mode=777", "0777 0:0"), ("gid=7,mode=775", "0775 0:7")]
    {
        let mount = Mount::tmpfs(&rig.root.join("mnt"), &format!("size=1m,{options}"));
        let words = ["the filesystem mounted at /mnt", access, "`chown root` and `chmod go-w` it"];
        rig.install(&["P1"]).assert_ended("Rejected", &words);
        assert_eq!(fs::read_dir(rig.root.join("mnt")).unwrap().count(), 0);
        drop(mount);
    }
    let mount = Mount::tmpfs(&rig.root.join("mnt"), "size=1m,mode=1777");
    let before = rig.tree();
    rig.installed(&["P1"]);
    rig.installed(&[]);
    model::assert_same(&rig.tree(), &before, "after the removal");
    drop(mount);
}
