//! Making a patch is reproducible and never makes one that would be refused.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use thimble::patch::archive::{self, ArchiveSection, MemberKind};
use thimble::patch::make::make;

use crate::plain_tar::tree;
use crate::support::Scratch;
use crate::support::archive::metadata;

#[test]
fn a_made_patch_has_the_tree_with_owner_mode_time_and_links() {
    let scratch = Scratch::new("make");
    let dir = scratch.join("tree");
    tree(&dir);
    let tool = dir.join("files/usr/tool");
    let targets = ["../x//y/./z/", "/absolute", ".", "a\\b"];
    for (at, target) in targets.iter().enumerate() {
        symlink(target, dir.join(format!("files/usr/to-{at}"))).unwrap();
    }
    let made = make(&dir, Some(&scratch.join("X.patch"))).unwrap();
    assert_eq!(made, scratch.join("X.patch"));
    let index = archive::index(File::open(&made).unwrap()).unwrap();
    let find =
        |end: &str| index.members.iter().find(|member| member.path.to_str().unwrap().ends_with(end)).unwrap();
    let inode = tool.metadata().unwrap();
    let owner = find("usr/tool").owner;
    assert_eq!((owner.mode, owner.uid, owner.gid), (0o4711, inode.uid(), inode.gid()));
    assert_eq!(owner.mtime_s, inode.mtime());
    assert_eq!(find("usr/link").kind, MemberKind::Symlink { target: "t".repeat(150).into() });
    for (at, target) in targets.iter().enumerate() {
        let MemberKind::Symlink { target: kept } = &find(&format!("usr/to-{at}")).kind else {
            panic!("a link")
        };
        assert_eq!(kept.to_str().unwrap(), *target, "a link's target is data");
    }
    assert_eq!(find(&"f".repeat(200)).kind, MemberKind::File { size: 4 });
    assert_eq!(find("health").section, ArchiveSection::Scripts);
    assert_eq!(find("usr/share").kind, MemberKind::Directory);

    // The same tree in another directory, made at another time, gives the same file.
    let copy = scratch.join("copy");
    assert!(Command::new("cp").arg("-a").args([&dir, &copy]).status().unwrap().success());
    let again = make(&copy, Some(&scratch.join("Y.patch"))).unwrap();
    assert_eq!(fs::read(&made).unwrap(), fs::read(again).unwrap());
    let shown = Command::new("tar").arg("-tvzf").arg(&made).output().unwrap();
    assert!(shown.status.success() && !String::from_utf8_lossy(&shown.stdout).contains("root/"));
}

#[test]
fn a_patch_that_would_be_refused_is_not_made() {
    let scratch = Scratch::new("make-refused");
    let dir = scratch.join("tree");
    let out = scratch.join("X.patch");
    let refused = |expected: &str| {
        let said = make(&dir, Some(&out)).unwrap_err().to_string();
        assert!(said.contains(expected), "{said:?} should say {expected:?}");
        let left: Vec<_> = fs::read_dir(&*scratch).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["tree"], "nothing is left behind");
    };
    fs::create_dir(&dir).unwrap();
    refused("metadata.toml: No such file");
    fs::write(dir.join("metadata.toml"), "id = \"../X\"\nsw_version = \"1\"").unwrap();
    refused("metadata.toml:1: id cannot be \"../X\"; it takes a name");
    fs::write(dir.join("metadata.toml"), metadata("X")).unwrap();
    refused("neither files/ nor scripts/");
    fs::create_dir_all(dir.join("files/etc")).unwrap();
    fs::write(dir.join("README"), "").unwrap();
    refused("README is not allowed in a patch");
    fs::remove_file(dir.join("README")).unwrap();
    let socket = UnixListener::bind(dir.join("files/socket")).unwrap();
    refused("files/socket is a socket");
    drop(socket);
    fs::remove_file(dir.join("files/socket")).unwrap();
    fs::create_dir(dir.join("scripts")).unwrap();
    fs::write(dir.join("scripts/health"), "#!/bin/sh\n").unwrap();
    refused("the patch would be refused: member scripts/health: it is not executable");
    fs::set_permissions(dir.join("scripts/health"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("metadata.toml"), metadata("X") + "config = [\"etc/x\"]").unwrap();
    refused("files/ does not have it");
    fs::write(dir.join("files/etc/x"), "").unwrap();
    assert!(make(&dir, Some(&out)).is_ok());
}
