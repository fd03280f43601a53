//! A tree packed by tar is a patch, in each format that tar writes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use thimble::patch::archive::{ArchiveSection, MemberKind};
use thimble::store;
use thimble::types::PatchId;

use crate::jobs::Bench;
use crate::support::Scratch;
use crate::support::archive::{index_of, metadata};

/// A tree with all kinds of members, long names included.
pub fn tree(dir: &Path) {
    let deep = dir.join("files/usr/share").join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir_all(dir.join("scripts")).unwrap();
    fs::write(dir.join("metadata.toml"), metadata("PLAIN-1")).unwrap();
    fs::write(deep.join("f".repeat(200)), "deep").unwrap();
    fs::write(dir.join("files/usr/tool"), "tool").unwrap();
    fs::set_permissions(dir.join("files/usr/tool"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::hard_link(dir.join("files/usr/tool"), dir.join("files/usr/tool2")).unwrap();
    symlink("t".repeat(150), dir.join("files/usr/link")).unwrap();
    fs::write(dir.join("scripts/health"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dir.join("scripts/health"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn gnu_and_pax_tars_of_one_tree_are_one_patch() {
    let scratch = Scratch::new("plain-tar");
    tree(&scratch.join("tree"));
    for format in ["gnu", "oldgnu", "pax", "posix", "gnu -b 4096"] {
        let patch = scratch.join("x.patch");
        let status = Command::new("tar")
            .args(format!("--format={format}").split(' '))
            .arg("-czf")
            .args([&patch, Path::new("-C"), &scratch.join("tree"), Path::new(".")])
            .status()
            .unwrap();
        assert!(status.success());
        let index = index_of(fs::File::open(&patch).unwrap()).unwrap();
        assert_eq!(index.metadata.id.as_str(), "PLAIN-1");
        let find = |end: &str| index.find(end);
        assert_eq!(find(&"f".repeat(200)).kind, MemberKind::File { size: 4 });
        assert_eq!(find("link").kind, MemberKind::Symlink { target: "t".repeat(150).into() });
        for tool in ["tool", "tool2"] {
            assert_eq!(find(tool).kind, MemberKind::File { size: 4 });
            assert_eq!(find(tool).owner.mode, 0o4711);
        }
        assert_eq!(find("health").section, ArchiveSection::Scripts);
        let of_pax = matches!(format, "pax" | "posix");
        assert_eq!(find("tool").owner.mtime_ns != 0, of_pax, "{format} keeps whole seconds only");
    }
}

/// What `make` would not do by accident, a plain tar does: the packer's own number.
#[test]
fn a_plain_tar_s_owners_and_modes_are_told_on_upload_and_by_show() {
    let bench = Bench::new("cautions");
    let dir = bench.scratch.join("tree");
    tree(&dir);
    fs::set_permissions(dir.join("files/usr/share"), fs::Permissions::from_mode(0o777)).unwrap();
    let patch = bench.scratch.join("PLAIN-1.patch");
    let status = Command::new("tar")
        .args(["--sort=name", "--owner=:1000", "--group=:1000", "-czf"])
        .args([&patch, Path::new("-C"), &dir, Path::new(".")])
        .status()
        .unwrap();
    assert!(status.success());
    bench.signer.sign(&patch);
    let said = bench.controller.upload(&[&patch]).done().items();
    let begin = "PLAIN-1 is now available; caution: 2 members set-user-id: /usr/tool";
    assert!(said[0].starts_with(begin), "{said:?}");
    assert!(said[0].contains("; 1 member world-writable: /usr/share"), "{said:?}");
    assert!(said[0].contains(" members not owned by root:root: /usr"), "{said:?}");
    assert!(said[0].len() < 256, "it is not cut off: {said:?}");
    let mut text = Vec::new();
    let ids = [PatchId::new("PLAIN-1").unwrap()];
    store::show(&bench.controller.config, &ids, false, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let line = text.lines().find(|line| line.trim_start().starts_with("Cautions: ")).unwrap();
    assert!(line.contains("2 members set-user-id: /usr/tool (1000:1000), /usr/tool2 (1000:1000)"), "{text}");
    let mut json = Vec::new();
    store::show(&bench.controller.config, &ids, true, &mut json).unwrap();
    assert!(String::from_utf8(json).unwrap().contains("\"cautions\":[\"2 members set-user-id: "));
}
