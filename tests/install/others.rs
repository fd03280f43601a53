//! Directories on the way that another user owns: what he puts there neither leads an
//! install astray nor stops one that has nothing to do with it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use crate::pieces::{directory, file, link, patch, program};
use crate::rig::Rig;

/// A user that is not root.
const USER: u32 = 7;

fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap();
}

#[test]
fn a_link_is_followed_only_where_root_alone_can_have_put_it() {
    need_root!();
    let mut rig = Rig::new("astray");
    fs::create_dir_all(rig.root.join("var/lib/app/deep")).unwrap();
    fs::create_dir_all(rig.root.join("etc/profile.d")).unwrap();
    symlink("/etc/profile.d", rig.root.join("var/lib/app/conf")).unwrap();
    symlink("/etc/profile.d", rig.root.join("var/lib/app/deep/conf")).unwrap();
    symlink("/etc/profile.d", rig.root.join("var/lib/profiles")).unwrap();
    rig.base = rig.tree();
    rig.add(patch("P1", [file("var/lib/app/conf/app.sh", "of P1").owner(USER)]));
    rig.add(patch("P2", [file("var/lib/app/deep/conf/app.sh", "of P2").owner(USER)]));
    rig.add(patch("P3", [directory("var/lib/app/conf", 0o700)]));
    rig.add(patch("P4", [file("var/lib/profiles/app.sh", "of P4")]).requires("P1"));

    let way = rig.root.join("var/lib/app");
    let refuses = |id: &str, link: &str| {
        rig.install(&[id]).assert_ended("Rejected", &[id, link, "not root alone", "not followed"]);
        rig.assert_no_new_files_in("etc");
    };
    // His directory; root's link in root's directory in his; his link in root's directory;
    // root's directory where a group may write.
    give(&way);
    refuses("P1", "/var/lib/app/conf");
    refuses("P2", "/var/lib/app/deep/conf");
    refuses("P3", "/var/lib/app/conf");
    chown(&way, Some(0), Some(0)).unwrap();
    give(&way.join("conf"));
    refuses("P1", "/var/lib/app/conf");
    std::os::unix::fs::lchown(way.join("conf"), Some(0), Some(0)).unwrap();
    fs::set_permissions(&way, fs::Permissions::from_mode(0o775)).unwrap();
    refuses("P1", "/var/lib/app/conf");

    fs::set_permissions(&way, fs::Permissions::from_mode(0o755)).unwrap();
    rig.installed(&["P1", "P4"]);
    assert_eq!(rig.text("etc/profile.d/app.sh"), "of P4");
    rig.becomes(&[]);
}

/// P1 has a file below a directory that its owner then replaces by a link.
fn swapped(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    fs::create_dir(rig.root.join("srv")).unwrap();
    rig.edit("srv/known", "base");
    rig.base = rig.tree();
    rig.add(patch("P1", [file("srv/new", "of P1"), file("etc/app.conf", "of P1")]));
    rig.add(patch("P2", [file("srv/known", "of P2")]));
    rig.add(patch("P3", [file("etc/app.d/30-p3", "of P3")]));
    rig.installed(&["P1"]);
    fs::write(rig.root.join("etc/new"), "not ours").unwrap();
    rig
}

fn swap(rig: &Rig) {
    fs::rename(rig.root.join("srv"), rig.root.join("elsewhere")).unwrap();
    symlink("etc", rig.root.join("srv")).unwrap();
}

#[test]
fn a_directory_that_became_a_link_counts_as_absent() {
    need_root!();
    let rig = swapped("swapped");
    swap(&rig);
    let run = rig.installed(&["P1", "P3"]);
    assert!(run.notices().iter().any(|line| line.contains("/srv/new of P1 was deleted")), "{run:?}");
    let run = rig.installed(&["P3"]);
    assert!(run.notices().iter().any(|line| line.contains("/srv/new of P1 had been deleted")), "{run:?}");
    assert_eq!(rig.text("etc/new"), "not ours");
    assert_eq!(rig.text("etc/app.conf"), "base conf");
    assert_eq!(rig.text("elsewhere/new"), "of P1");
}

#[test]
fn a_base_file_whose_directory_became_a_link_is_not_put_elsewhere() {
    need_root!();
    let rig = swapped("misplaced");
    rig.installed(&["P1", "P2"]);
    swap(&rig);
    rig.installed(&["P1", "P2", "P3"]);
    rig.install(&["P1", "P3"]).assert_ended("Rejected", &["P2", "/srv", "not a directory"]);
    assert!(!rig.root.join("etc/known").exists());
    fs::remove_file(rig.root.join("srv")).unwrap();
    fs::rename(rig.root.join("elsewhere"), rig.root.join("srv")).unwrap();
    fs::remove_file(rig.root.join("etc/new")).unwrap();
    rig.becomes(&[]);
}

#[cfg(feature = "proof")]
#[test]
fn a_new_directory_appears_with_its_owner_and_mode() {
    need_root!();
    let mut rig = Rig::new("whole");
    let members = [directory("srv", 0o750).owner(USER), file("srv/in/file", "of P1")];
    rig.add(patch("P1", members));
    let made = rig.root.join("srv");
    let mut seen = 0;
    for step in 1.. {
        let run = rig.run(&rig.orders_for(&["P1"]), Some(step));
        if let Ok(stat) = fs::symlink_metadata(&made) {
            assert_eq!((stat.uid(), stat.mode() & 0o7777), (USER, 0o750), "killed at step {step}");
            seen += 1;
        }
        if run.status.success() {
            break;
        }
        rig.becomes(&[]);
    }
    assert!(seen > 5, "{seen}");
    rig.becomes(&[]);
}

#[test]
fn a_saved_file_is_of_no_use_as_a_set_user_id_program() {
    need_root!();
    let mut rig = Rig::new("disarmed");
    rig.add(patch("P1", [program("usr/bin/su", "vulnerable", 0o4755), link("usr/bin/su2", "su")]));
    rig.add(patch("P2", [program("usr/bin/su", "mended", 0o4755)]).requires("P1"));
    rig.installed(&["P1"]);
    rig.edit("usr/bin/su", "changed by hand");
    fs::set_permissions(rig.root.join("usr/bin/su"), fs::Permissions::from_mode(0o6755)).unwrap();
    rig.installed(&["P1", "P2"]);
    let mode = |name: &str| fs::metadata(rig.root.join(name)).unwrap().mode() & 0o7777;
    assert_eq!(mode("usr/bin/su.thimble-saved"), 0o755);
    assert_eq!(mode("usr/bin/su"), 0o4755);
}

#[test]
fn a_displaced_set_user_id_program_is_disarmed_under_all_its_names() {
    need_root!();
    let mut rig = Rig::new("displaced");
    // A user may have given it a second name, where that is not forbidden.
    let names = |path: &str, his: &str| fs::hard_link(rig.root.join(path), rig.root.join(his)).unwrap();
    fs::create_dir(rig.root.join("home")).unwrap();
    names("usr/bin/tool", "home/base");
    let (before, root) = (rig.tree(), rig.root.clone());
    rig.base = before;
    rig.add(patch("P1", [program("usr/bin/tool", "of P1", 0o6755)]));
    rig.add(patch("P2", [program("usr/bin/tool", "of P2", 0o755)]).requires("P1"));
    rig.add(patch("P3", [file("etc/p3", "3")]).script("post-remove", "exit 1"));

    rig.installed(&["P1"]);
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("usr/bin/tool"), mode("home/base")), (0o6755, 0o755));
    fs::hard_link(root.join("usr/bin/tool"), root.join("home/first")).unwrap();
    rig.installed(&["P1", "P2", "P3"]);
    assert_eq!((mode("usr/bin/tool"), mode("home/first"), mode("home/base")), (0o755, 0o755, 0o755));

    // Each is armed again when it comes back, and not if that fails.
    rig.install(&["P1"]).assert_ended("RolledBack", &["post-remove of P3"]);
    assert_eq!((mode("usr/bin/tool"), mode("home/first"), mode("home/base")), (0o755, 0o755, 0o755));
    rig.installed(&["P1", "P3"]);
    assert_eq!((mode("usr/bin/tool"), mode("home/first"), mode("home/base")), (0o6755, 0o6755, 0o755));
    rig.install(&[]).assert_ended("RolledBack", &["post-remove of P3"]);
    assert_eq!((mode("usr/bin/tool"), mode("home/first"), mode("home/base")), (0o6755, 0o6755, 0o755));
    rig.installed(&["P3"]);
    assert_eq!((mode("usr/bin/tool"), mode("home/first"), mode("home/base")), (0o4755, 0o755, 0o4755));
}

#[test]
fn a_file_of_another_size_is_not_read() {
    need_root!();
    let mut rig = Rig::new("huge");
    rig.add(patch("P1", [file("srv/app", "of P1"), file("srv/conf", "of P1")]));
    rig.installed(&["P1"]);
    // To read it takes an hour.
    for name in ["srv/app", "srv/conf"] {
        let file = fs::File::options().write(true).open(rig.root.join(name)).unwrap();
        file.set_len(4 << 40).unwrap();
    }
    let run = rig.installed(&[]);
    assert!(
        run.notices().contains(&"/srv/app was changed by hand: that is saved as app.thimble-saved"),
        "{run:?}"
    );
    assert_eq!(fs::metadata(rig.root.join("srv/app.thimble-saved")).unwrap().len(), 4 << 40);
}

#[test]
fn a_directory_that_is_there_stays_as_it_is_and_that_is_told() {
    need_root!();
    let mut rig = Rig::new("stays");
    fs::create_dir(rig.root.join("var/spool")).unwrap();
    fs::set_permissions(rig.root.join("var/spool"), fs::Permissions::from_mode(0o2775)).unwrap();
    rig.base = rig.tree();
    let pieces =
        [directory("etc", 0o755), directory("var/spool", 0o700).owner(USER), file("var/spool/a", "a")];
    rig.add(patch("P1", pieces));
    let run = rig.installed(&["P1"]);
    let notice = "the directory /var/spool stays 2775 0:0 and does not become 0700 7:7 as in P1: `chmod` and \
                  `chown` it if it should";
    assert_eq!(run.notices(), [notice]);
    rig.becomes(&[]);
}
