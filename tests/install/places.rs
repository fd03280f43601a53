//! The paths of files: links of the base system, links of patches, mounts, directories
//! where files should be.

use std::fs;
use std::os::unix::fs::symlink;

use crate::model;
use crate::pieces::{directory, file, link, patch, program};
use crate::rig::{Mount, Rig};

#[test]
fn links_of_the_base_system_are_followed_and_two_names_are_one_path() {
    need_root!();
    let mut rig = Rig::new("merged");
    rig.add(patch("P1", [program("bin/tool", "by the link", 0o755), file("lib/deep/er", "below the link")]));
    let second = patch("P2", [program("usr/bin/tool", "by the directory", 0o755), directory("lib", 0o700)]);
    rig.add(second.clone().named("P4"));
    rig.add(second.requires("P1"));
    rig.becomes(&["P1"]);
    rig.installed(&["P1", "P2"]);
    assert!(fs::symlink_metadata(rig.root.join("bin")).unwrap().is_symlink());
    assert_eq!(rig.text("usr/bin/tool"), "by the directory");
    // No controller knows of the link.
    let words = ["P1 and P4 share a path and neither requires the other", "The path is /usr/bin/tool"];
    rig.install(&["P1", "P4"]).assert_ended("Rejected", &words);
    rig.installed(&["P4"]);
    rig.becomes(&[]);

    rig.add(patch("P3", [file("lib/twice", "one"), file("usr/lib/twice", "two")]));
    rig.install(&["P3"]).assert_ended("Rejected", &["two members of P3", "/usr/lib/twice"]);
}

#[test]
fn no_link_leads_out_of_the_root() {
    need_root!();
    let mut rig = Rig::new("out");
    let outside = rig.root.with_file_name("outside");
    fs::create_dir(&outside).unwrap();
    symlink("../../../../outside", rig.root.join("up")).unwrap();
    symlink(&outside, rig.root.join("absolute")).unwrap();
    symlink("round", rig.root.join("round")).unwrap();
    rig.add(patch("P1", [file("up/file", "inside"), file("absolute/file", "inside")]));
    rig.installed(&["P1"]);
    assert!(fs::read_dir(&outside).unwrap().next().is_none(), "nothing may leave the root");
    assert_eq!(rig.text("outside/file"), "inside", "`..` ends at the root");
    let inside = rig.root.join(outside.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(inside.join("file")).unwrap(), "inside");
    rig.add(patch("P2", [file("round/file", "nowhere")]));
    rig.install(&["P2"]).assert_ended("Rejected", &["P2", "/round/file", "form a loop"]);
}

#[test]
fn a_link_that_a_patch_brought_is_not_followed() {
    need_root!();
    let mut rig = Rig::new("hostile");
    rig.add(patch("P1", [link("srv", "/etc"), link("opt", "usr")]));
    rig.add(patch("P2", [file("srv/app.conf", "hostile")]));
    // In one install or in two.
    rig.install(&["P1", "P2"]).assert_ended("Rejected", &["P2", "/srv"]);
    rig.installed(&["P1"]);
    rig.install(&["P1", "P2"]).assert_ended("Rejected", &["P2", "/srv", "not followed"]);
    rig.assert_tree(&["P1"]);
    // A patch's link that replaces one of the base counts as a patch's link.
    rig.add(patch("P3", [link("lib", "/etc")]));
    rig.add(patch("P4", [file("lib/app.conf", "hostile")]));
    rig.install(&["P3", "P4"]).assert_ended("Rejected", &["P4", "/lib", "not followed"]);
    rig.installed(&["P3"]);
    rig.install(&["P3", "P4"]).assert_ended("Rejected", &["P4", "/lib", "not followed"]);
    rig.becomes(&[]);
}

/// Two patches of which one leads through a link that the other has something in place of:
/// together, and either one first.
#[test]
fn whether_two_patches_fit_does_not_depend_on_which_comes_first() {
    need_root!();
    let mut rig = Rig::new("either");
    symlink("bin", rig.root.join("sbin")).unwrap();
    rig.base = rig.tree();
    let conf = || file("lib/app.conf", "of B");
    let rejected = [
        (patch("A", [link("lib", "/etc")]), patch("B", [conf()])),
        (patch("A", [link("lib", "usr/lib")]), patch("B", [conf()])),
        (patch("A", [file("lib", "a file")]), patch("B", [conf()])),
        (patch("A", []).removes("lib"), patch("B", [conf()])),
        (patch("A", [link("lib", "/etc")]), patch("B", []).removes("lib/libx.so")),
        (patch("A", [link("lib", "/etc")]), patch("B", [directory("lib/app.d", 0o755)])),
        (patch("A", [link("bin", "/etc")]), patch("B", [file("sbin/new", "of B")])),
        (patch("A", [link("sbin", "/etc")]), patch("B", [file("sbin/new", "of B")])),
        (patch("A", [link("usr/lib/sub", "/etc")]), patch("B", [file("lib/sub/new", "of B")])),
        (patch("A", [link("srv", "/etc")]), patch("B", [file("srv/app.conf", "of B")])),
        (patch("A", [link("srv", "/etc")]), patch("B", [directory("srv", 0o755)])),
        (patch("A", []).removes("srv"), patch("B", [file("srv/app.conf", "of B")])),
    ];
    for (at, (one, two)) in rejected.into_iter().enumerate() {
        rig.add(one);
        rig.add(two);
        let mut alone = Vec::new();
        for first in [&[][..], &["A"], &["B"]] {
            rig.installed(&[]);
            rig.installed(first);
            alone.push(rig.tree());
            rig.install(&["A", "B"]).assert_ended("Rejected", &[]);
            model::assert_same(&rig.tree(), &alone[alone.len() - 1], &format!("{at}, {first:?} first"));
        }
        // One takes the place of the other.
        for (set, tree) in [("A", 1), ("B", 2), ("A", 1)] {
            rig.installed(&[set]);
            model::assert_same(&rig.tree(), &alone[tree], &format!("{at}, {set} in place of the other"));
        }
        rig.becomes(&[]);
    }

    let fit = [
        (patch("A", [link("lib", "/etc")]), patch("B", [file("usr/lib/app.conf", "of B")])),
        (patch("A", [link("lib/app", "/etc")]), patch("B", [file("lib/app.conf", "of B")])),
    ];
    for (one, two) in fit {
        rig.add(one);
        rig.add(two);
        for first in [&[][..], &["A"], &["B"]] {
            rig.installed(first);
            rig.becomes(&["A", "B"]);
        }
        rig.becomes(&[]);
    }
}

#[test]
fn files_and_directories_do_not_replace_each_other() {
    need_root!();
    let mut rig = Rig::new("types");
    rig.add(patch("P1", [file("etc/app.d", "a file")]));
    rig.install(&["P1"]).assert_ended("Rejected", &["P1", "/etc/app.d", "is a directory on this host"]);
    rig.add(patch("P2", [file("etc/app.conf/file", "below a file")]));
    rig.install(&["P2"])
        .assert_ended("Rejected", &["P2", "/etc/app.conf", "is not a directory on this host"]);
    rig.add(patch("P3", [directory("etc/app.conf", 0o755)]));
    rig.install(&["P3"]).assert_ended("Rejected", &["P3", "/etc/app.conf"]);
    rig.add(patch("P4", [file("srv/x", "a file")]));
    rig.add(patch("P5", [file("srv/x/y", "below it")]));
    rig.add(patch("P6", [directory("srv/x", 0o755)]));
    // The patch with the file is named as such, whichever comes first.
    let both =
        |other: &str| format!("P4 has a file at /srv/x, where {other} needs a directory: remove one of");
    rig.install(&["P4", "P5"]).assert_ended("Rejected", &[&both("P5")]);
    rig.install(&["P4", "P6"]).assert_ended("Rejected", &[&both("P6")]);
    for other in ["P5", "P6"] {
        rig.installed(&["P4"]);
        rig.install(&["P4", other]).assert_ended("Rejected", &[&both(other)]);
        // Alone it takes the place of P4: see `turned`.
        rig.installed(&[other]);
        rig.install(&["P4", other]).assert_ended("Rejected", &[&both(other)]);
    }
    rig.becomes(&[]);
}

#[test]
fn a_filesystem_without_files_of_patches_has_nothing_of_thimble_s() {
    need_root!();
    let mut rig = Rig::new("traces");
    let boot = Mount::tmpfs(&rig.root.join("boot"), "size=256k");
    rig.edit("boot/kernel", "base kernel");
    rig.base = rig.tree();
    let root = rig.root.clone();
    let traces = || boot_names(&root.join("boot"));
    rig.add(patch("P1", [file("boot/kernel", vec![b'1'; 300_000])]));
    rig.install(&["P1"]).assert_ended("Rejected", &["on /boot", "make room"]);
    assert_eq!(traces(), ["kernel"], "refused for space");
    rig.add(patch("P2", [file("boot/kernel", "of P2")]).script("pre-apply", "exit 1"));
    rig.install(&["P2"]).assert_ended("Rejected", &["pre-apply of P2"]);
    assert_eq!(traces(), ["kernel"], "refused by a script");
    rig.add(patch("P3", [file("boot/kernel", "of P3")]).script("health", "exit 1"));
    rig.install(&["P3"]).assert_ended("RolledBack", &["health of P3"]);
    assert_eq!(traces(), ["kernel"], "undone");
    rig.add(patch("P4", [file("boot/kernel", "of P4")]));
    rig.installed(&["P4"]);
    assert_eq!(traces(), [".thimble", "kernel"]);
    rig.installed(&[]);
    assert_eq!(traces(), ["kernel"], "removed");
    rig.assert_tree(&[]);
    drop(boot);
}

/// The names in a directory.
fn boot_names(directory: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_that_something_is_mounted_on_is_named_while_checking() {
    need_root!();
    let mut rig = Rig::new("bound-file");
    rig.edit("var/over", "mounted on it");
    let root = rig.root.clone();
    let over = |path: &str| {
        let (from, to) = (root.join("var/over"), root.join(path));
        crate::rig::run(std::process::Command::new("mount").arg("--bind").args([&from, &to]));
        Mount::at(&to)
    };
    let mounted = over("etc/app.conf");
    rig.base = rig.tree();
    rig.add(patch("P1", [file("srv/x", "of P1"), file("etc/app.conf", "of P1")]));
    let run = rig.install(&["P1"]);
    run.assert_ended(
        "Rejected",
        &["P1 has the file /etc/app.conf, and something is mounted on it", "unmount that"],
    );
    assert_eq!(run.notices(), [""; 0]);
    rig.assert_tree(&[]);
    drop(mounted);
    rig.base = rig.tree();
    rig.installed(&["P1"]);
    // A removal would meet it as well.
    let mounted = over("etc/app.conf");
    rig.install(&[]).assert_ended("Rejected", &["/etc/app.conf, and something is mounted on it"]);
    drop(mounted);
    rig.becomes(&[]);
}

#[test]
fn a_filesystem_mounted_below_the_root_keeps_its_own() {
    need_root!();
    let mut rig = Rig::new("mounts");
    let boot = Mount::tmpfs(&rig.root.join("boot"), "size=4m");
    // A second mount of one filesystem: same device, and no renames across.
    fs::create_dir(rig.root.join("bound")).unwrap();
    crate::rig::run(
        std::process::Command::new("mount")
            .arg("--bind")
            .arg(rig.root.join("var"))
            .arg(rig.root.join("bound")),
    );
    let _bound = Mount::at(&rig.root.join("bound"));
    rig.edit("boot/kernel", "base kernel");
    rig.base = rig.tree();
    rig.add(patch(
        "P1",
        [file("boot/kernel", "of P1"), file("etc/app.conf", "of P1"), file("bound/x", "of P1")],
    ));
    rig.add(patch("P2", [file("boot/kernel", "of P2"), file("boot/sub/more", "of P2")]).requires("P1"));
    rig.installed(&["P1", "P2"]);
    assert_eq!(rig.text("boot/kernel"), "of P2");
    assert_eq!(rig.text("var/x"), "of P1");
    rig.installed(&["P1"]);
    assert_eq!(rig.text("boot/kernel"), "of P1");
    if cfg!(feature = "proof") {
        // On a host that has had both since before it checked `requires`.
        rig.installed(&["P1", "P2"]);
        rig.takes_any_set = true;
        rig.installed(&["P2"]);
        rig.takes_any_set = false;
        assert_eq!(rig.text("boot/kernel"), "of P2");
    }
    rig.becomes(&[]);

    rig.installed(&["P1"]);
    drop(boot);
    rig.install(&[]).assert_ended("Rejected", &["boot"]);
    assert_eq!(rig.text("etc/app.conf"), "of P1");
}

#[test]
fn others_must_not_be_able_to_write_to_thimbles_own() {
    need_root!();
    use std::os::unix::fs::PermissionsExt;
    let mut rig = Rig::new("planted");
    rig.add(patch("P1", [file("srv/data", "of P1")]));
    let own = rig.root.join(".thimble");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
    let run = rig.install(&["P1"]);
    assert!(run.last().starts_with("failed ") && run.last().contains("others may write"), "{run:?}");
    fs::remove_dir(&own).unwrap();
    symlink("etc", &own).unwrap();
    assert!(rig.install(&["P1"]).last().starts_with("failed "));
    rig.assert_no_new_files_in("etc");
}
