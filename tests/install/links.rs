//! Hard links inside a patch stay links: on the disk, in place, kept and brought back.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::pieces::{file, patch, program, same};
use crate::rig::Rig;

const SIZE: usize = 1 << 20;
const NAMES: usize = 60;

/// One program of a megabyte with many names, as busybox has.
fn busybox(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    // It does not compress: else so many names would be an archive bomb.
    let program_bytes: Vec<u8> =
        (0..SIZE as u32 / 32).flat_map(|at| *blake3::hash(&at.to_le_bytes()).as_bytes()).collect();
    let mut pieces = vec![program("usr/bin/busybox", program_bytes, 0o755)];
    pieces.extend((0..NAMES).map(|at| same(&format!("usr/bin/tool-{at}"), "usr/bin/busybox")));
    rig.add(patch("P1", pieces));
    rig
}

#[test]
fn many_names_of_one_file_take_its_space_once() {
    need_root!();
    let mut rig = busybox("names");
    rig.add(patch("P2", [file("usr/bin/tool-7", "of P2")]).requires("P1"));
    let inode = |name: &str| {
        let stat = fs::symlink_metadata(rig.root.join("usr/bin").join(name)).unwrap();
        (stat.ino(), stat.nlink())
    };
    rig.installed(&["P1"]);
    let all = NAMES as u64 + 1;
    let (whole, links) = inode("busybox");
    assert_eq!(links, all);
    assert!((0..NAMES).all(|at| inode(&format!("tool-{at}")) == (whole, all)));

    // One of them is covered: the others are as before, and it comes back as one of them.
    rig.installed(&["P1", "P2"]);
    assert_eq!(inode("tool-7").1, 1);
    assert_eq!(inode("tool-8"), (whole, all), "the covered one is kept as a name of it");
    rig.installed(&["P1"]);
    assert_eq!(inode("tool-7"), (whole, all));
    rig.becomes(&[]);
}

#[test]
fn a_change_of_one_name_is_one_of_all() {
    need_root!();
    let rig = busybox("changed");
    rig.installed(&["P1"]);
    fs::write(rig.root.join("usr/bin/tool-3"), "by hand").unwrap();
    let run = rig.installed(&[]);
    for name in ["busybox", "tool-3", "tool-59"] {
        let notice = format!("/usr/bin/{name} was changed by hand: that is saved as {name}.thimble-saved");
        assert!(run.notices().contains(&&*notice), "{run:?}");
        assert_eq!(rig.text(&format!("usr/bin/{name}.thimble-saved")), "by hand");
    }
}

#[test]
fn links_need_the_space_of_one_file() {
    need_root!();
    let mut rig = busybox("room");
    // As copies they would take 60 MB.
    let _mount = rig.mounted("tmpfs", "size=24m");
    rig.installed(&["P1"]);
    assert_eq!(fs::metadata(rig.root.join("usr/bin/busybox")).unwrap().nlink(), NAMES as u64 + 1);
}

#[test]
fn a_set_user_id_program_keeps_its_bits_while_one_of_its_names_is_in_place() {
    need_root!();
    let mut rig = Rig::new("armed");
    rig.add(patch("P1", [program("usr/bin/su", "su", 0o4755), same("usr/bin/login", "usr/bin/su")]));
    rig.add(patch("P2", [file("usr/bin/login", "of P2")]).requires("P1"));
    rig.add(
        patch("P3", [file("usr/bin/login", "of P3")])
            .requires("P2")
            .script("post-remove", "test -e \"$THIMBLE_ROOT/etc/may-go\""),
    );
    let root = rig.root.clone();
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
    rig.installed(&["P1"]);
    assert_eq!((mode("usr/bin/su"), mode("usr/bin/login")), (0o4755, 0o4755));
    rig.installed(&["P1", "P2"]);
    assert_eq!((mode("usr/bin/su"), mode("usr/bin/login")), (0o4755, 0o644));
    rig.installed(&["P1", "P2", "P3"]);
    rig.install(&["P1"]).assert_ended("RolledBack", &["post-remove of P3"]);
    assert_eq!((mode("usr/bin/su"), mode("usr/bin/login")), (0o4755, 0o644));
    fs::write(root.join("etc/may-go"), "").unwrap();
    assert_eq!(rig.installed(&["P1"]).notices(), [""; 0]);
    assert_eq!((mode("usr/bin/su"), mode("usr/bin/login")), (0o4755, 0o4755));
}
