//! What a file is besides its content: extended attributes, capabilities, holes, times. Each
//! is packed with `make`, installed, covered, and back after the removal.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::pieces::{file, patch, program};
use crate::rig::Rig;
use crate::sys::{set_xattr, xattr};

/// `cap_net_raw+ep`, as in revision 2 of `vfs_cap_data`.
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// `cap_sys_admin+ep`.
const ADMIN: [u8; 20] = [1, 0, 0, 2, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const HUGE: u64 = 1 << 29;

/// A patch that `make` makes of a directory that `fill` has filled.
fn made(rig: &mut Rig, id: &str, fill: impl Fn(&Path)) {
    let source = rig.root.with_file_name(format!("source-{id}"));
    fs::create_dir_all(source.join("files")).unwrap();
    let metadata =
        format!("id = \"{id}\"\nsw_version = \"22.12\"\nsummary = \"x\"\nreboot_required = false\n");
    fs::write(source.join("metadata.toml"), metadata).unwrap();
    fill(&source.join("files"));
    let out = source.join("out.patch");
    thimble::patch::make::make(&source, Some(&out), false).unwrap();
    rig.add_bytes(id, &fs::read(&out).unwrap());
}

fn with_attributes(files: &Path) {
    fs::create_dir_all(files.join("srv/spool")).unwrap();
    fs::create_dir_all(files.join("usr/bin")).unwrap();
    for path in ["srv/data", "usr/bin/ping"] {
        fs::write(files.join(path), path).unwrap();
    }
    set_xattr(&files.join("srv/data"), "user.origin", b"a\0b").unwrap();
    set_xattr(&files.join("srv/spool"), "user.queue", b"7").unwrap();
    set_xattr(&files.join("usr/bin/ping"), "security.capability", &NET_RAW).unwrap();
}

#[test]
fn attributes_and_capabilities_travel() {
    need_root!();
    let mut rig = Rig::new("attributes");
    made(&mut rig, "P1", with_attributes);
    rig.add(patch("P2", [file("srv/data", "2"), file("usr/bin/ping", "2")]).requires("P1"));
    let root = rig.root.clone();
    let of = |path: &str, name: &str| xattr(&root.join(path), name);
    let is_installed = || {
        assert_eq!(of("srv/data", "user.origin").unwrap(), b"a\0b");
        assert_eq!(of("srv/spool", "user.queue").unwrap(), b"7");
        assert_eq!(of("usr/bin/ping", "security.capability").unwrap(), NET_RAW);
    };
    rig.installed(&["P1"]);
    is_installed();
    rig.installed(&["P1", "P2"]);
    assert!(of("srv/data", "user.origin").is_err() && of("usr/bin/ping", "security.capability").is_err());
    rig.installed(&["P1"]);
    is_installed();
    rig.becomes(&[]);
}

/// A program of the base with capabilities and a second name that a user has given it, P1 and
/// P2 over it.
fn capable(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    fs::create_dir(rig.root.join("home")).unwrap();
    fs::hard_link(rig.root.join("usr/bin/other"), rig.root.join("home/base")).unwrap();
    set_xattr(&rig.root.join("home/base"), "security.capability", &ADMIN).unwrap();
    rig.base = rig.tree();
    made(&mut rig, "P1", |files| {
        fs::create_dir_all(files.join("usr/bin")).unwrap();
        let program = files.join("usr/bin/other");
        fs::write(&program, "of P1").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        set_xattr(&program, "security.capability", &NET_RAW).unwrap();
    });
    rig.add(patch("P2", [program("usr/bin/other", "of P2", 0o755)]).requires("P1"));
    rig
}

/// The capabilities of a file; none if it has none.
fn capabilities(rig: &Rig, path: &str) -> Vec<u8> {
    xattr(&rig.root.join(path), "security.capability").unwrap_or_default()
}

#[test]
fn a_program_that_is_displaced_has_no_capabilities_under_any_name_until_it_is_back() {
    need_root!();
    let mut rig = capable("capable");
    rig.add(patch("P3", [file("etc/p3", "3")]).script("post-remove", "exit 1"));
    let none = || Vec::new();
    let are = |rig: &Rig, expected: [Vec<u8>; 3]| {
        let paths = ["usr/bin/other", "home/base", "home/first"];
        assert_eq!(paths.map(|path| capabilities(rig, path)), expected);
    };
    rig.installed(&["P1"]);
    fs::hard_link(rig.root.join("usr/bin/other"), rig.root.join("home/first")).unwrap();
    are(&rig, [NET_RAW.to_vec(), none(), NET_RAW.to_vec()]);
    rig.installed(&["P1", "P2", "P3"]);
    are(&rig, [none(), none(), none()]);
    // They come back with it, and not if that fails.
    rig.install(&["P1"]).assert_ended("RolledBack", &["post-remove of P3"]);
    are(&rig, [none(), none(), none()]);
    rig.installed(&["P1", "P3"]);
    are(&rig, [NET_RAW.to_vec(), none(), NET_RAW.to_vec()]);
    rig.install(&[]).assert_ended("RolledBack", &["post-remove of P3"]);
    are(&rig, [NET_RAW.to_vec(), none(), NET_RAW.to_vec()]);
    rig.installed(&["P3"]);
    are(&rig, [ADMIN.to_vec(), ADMIN.to_vec(), none()]);
    // Nothing is left beside them.
    assert!(xattr(&rig.root.join("usr/bin/other"), "trusted.thimble.capability").is_err());
}

#[test]
fn a_program_that_was_changed_while_it_was_covered_has_no_capabilities_any_more() {
    need_root!();
    let rig = capable("uncapable");
    rig.installed(&["P2", "P1"]);
    rig.edit("home/base", "changed");
    rig.installed(&[]);
    assert_eq!(rig.text("usr/bin/other"), "changed");
    assert!(capabilities(&rig, "usr/bin/other").is_empty());
    assert!(xattr(&rig.root.join("usr/bin/other"), "trusted.thimble.capability").is_err());
}

#[test]
fn a_saved_program_has_no_capabilities() {
    need_root!();
    let rig = capable("saved-capable");
    rig.installed(&["P1"]);
    rig.edit("usr/bin/other", "by hand");
    set_xattr(&rig.root.join("usr/bin/other"), "security.capability", &ADMIN).unwrap();
    rig.installed(&["P1", "P2"]);
    let saved = "usr/bin/other.thimble-saved";
    assert_eq!((rig.text(saved), capabilities(&rig, saved)), ("by hand".to_owned(), vec![]));
    assert!(xattr(&rig.root.join(saved), "trusted.thimble.capability").is_err());
}

/// Killed at any step, what is in place has its capabilities.
#[cfg(feature = "proof")]
#[test]
fn a_power_cut_loses_no_capabilities() {
    need_root!();
    let rig = capable("cut-capable");
    for (from, to) in [(&[][..], &["P1"][..]), (&["P1"], &[]), (&["P1", "P2"], &["P1"])] {
        for step in 1.. {
            rig.installed(from);
            let run = rig.run(&rig.orders_for(to), Some(step));
            if run.status.success() {
                break;
            }
            let run = rig.recover_killed_at([1 + step * 7 % 13, 30 + step]);
            let of = |path| capabilities(&rig, path);
            let expected = match run.installed().last() {
                None => (ADMIN.to_vec(), ADMIN.to_vec()),
                Some(&"P1") => (NET_RAW.to_vec(), vec![]),
                _ => (vec![], vec![]),
            };
            let when = format!("{from:?} to {to:?}, killed at step {step}: {run:?}");
            assert_eq!((of("usr/bin/other"), of("home/base")), expected, "{when}");
        }
    }
}

#[test]
fn a_filesystem_without_attributes_refuses_them_by_name() {
    need_root!();
    let mut rig = Rig::new("none");
    made(&mut rig, "P1", with_attributes);
    let _mount = rig.mounted("ramfs", "mode=755");
    rig.install(&["P1"]).assert_ended("Rejected", &["P1 has /srv/", "holds none: leave them out"]);
    rig.assert_tree(&[]);
}

#[test]
fn holes_stay_holes() {
    need_root!();
    let mut rig = Rig::new("holes");
    made(&mut rig, "P1", |files| {
        fs::create_dir_all(files.join("srv")).unwrap();
        let file = File::create(files.join("srv/disk.img")).unwrap();
        file.set_len(HUGE).unwrap();
        file.write_all_at(b"in the middle", HUGE / 2 + 77).unwrap();
    });
    // As zeros it would not fit.
    let _mount = rig.mounted("tmpfs", "size=24m");
    let root = rig.root.clone();
    rig.installed(&["P1"]);
    let file = File::open(root.join("srv/disk.img")).unwrap();
    let stat = file.metadata().unwrap();
    assert_eq!(stat.len(), HUGE);
    assert!(stat.blocks() * 512 < 1 << 20, "{} blocks", stat.blocks());
    let mut content = [0; 15];
    file.read_exact_at(&mut content, HUGE / 2 + 76).unwrap();
    assert_eq!(&content, b"\0in the middle\0");
    rig.installed(&[]);
    assert!(!root.join("srv/disk.img").exists());
}

#[test]
fn times_have_nanoseconds_and_may_be_before_1970() {
    need_root!();
    let mut rig = Rig::new("times");
    let times = [
        ("new", UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789)),
        ("old", UNIX_EPOCH - Duration::new(86_400, 250_000_000)),
    ];
    made(&mut rig, "P1", |files| {
        fs::create_dir_all(files.join("srv")).unwrap();
        for (name, time) in times {
            File::create(files.join("srv").join(name)).unwrap().set_modified(time).unwrap();
        }
    });
    rig.installed(&["P1"]);
    for (name, time) in times {
        assert_eq!(fs::metadata(rig.root.join("srv").join(name)).unwrap().modified().unwrap(), time);
    }
}
