//! Making a patch is reproducible and never makes one that would be refused.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use thimble::patch::archive::{ArchiveSection, MemberKind};
use thimble::patch::make::{Made, make};

use crate::plain_tar::tree;
use crate::support::Scratch;
use crate::support::archive::{index_of, metadata};

#[test]
fn a_made_patch_has_the_tree_with_mode_time_and_links_and_belongs_to_root() {
    let scratch = Scratch::new("make");
    let dir = scratch.join("tree");
    tree(&dir);
    let tool = dir.join("files/usr/tool");
    let targets = ["../x//y/./z/", "/absolute", ".", "a\\b"];
    for (at, target) in targets.iter().enumerate() {
        symlink(target, dir.join(format!("files/usr/to-{at}"))).unwrap();
    }
    let Made { file: made, cautions, .. } = make(&dir, Some(&scratch.join("X.patch")), false).unwrap();
    assert_eq!(made, scratch.join("X.patch"));
    assert_eq!(cautions[0].to_string(), "2 members set-user-id: /usr/tool, /usr/tool2");
    let index = index_of(File::open(&made).unwrap()).unwrap();
    let find = |end: &str| index.find(end);
    let inode = tool.metadata().unwrap();
    let owner = find("usr/tool").owner;
    assert_eq!((owner.mode, owner.uid, owner.gid), (0o4711, 0, 0));
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
    let again = make(&copy, Some(&scratch.join("Y.patch")), false).unwrap().file;
    assert_eq!(fs::read(&made).unwrap(), fs::read(again).unwrap());
    let shown = Command::new("tar").arg("-tvzf").arg(&made).output().unwrap();
    assert!(shown.status.success() && !String::from_utf8_lossy(&shown.stdout).contains("root/"));
}

/// The README has patches made by an ordinary user: his number means nothing on a host.
#[test]
fn members_belong_to_root_unless_it_is_said_otherwise() {
    let scratch = Scratch::new("make-owners");
    let dir = scratch.join("tree");
    fs::create_dir_all(dir.join("files/etc/cron.d")).unwrap();
    fs::create_dir_all(dir.join("files/var/lib/app/deep/root")).unwrap();
    for path in ["etc/cron.d/fix", "var/lib/app/data", "var/lib/app/deep/x", "var/lib/app/deep/root/y"] {
        fs::write(dir.join("files").join(path), "x").unwrap();
    }
    symlink("data", dir.join("files/var/lib/app/link")).unwrap();
    let own = dir.join("files/etc/cron.d/fix");
    // Root may give the file away; anybody else is not root anyway.
    let _ = chown(&own, Some(1000), Some(1001));
    let inode = own.metadata().unwrap();
    assert_ne!((inode.uid(), inode.gid()), (0, 0));
    let owners = |more: &str, keep_owners: bool, path: &str| {
        fs::write(dir.join("metadata.toml"), metadata("X") + more).unwrap();
        let made = make(&dir, Some(&scratch.join("X.patch")), keep_owners).unwrap();
        let index = index_of(File::open(made.file).unwrap()).unwrap();
        let member = index.members.iter().find(|member| member.path.to_str() == Some(path)).unwrap();
        (member.owner.uid, member.owner.gid)
    };
    assert_eq!(owners("", false, "etc/cron.d/fix"), (0, 0));
    assert_eq!(owners("", true, "etc/cron.d/fix"), (inode.uid(), inode.gid()));
    let said = "owners = [\"/var/lib/app 33:34\", \"/var/lib/app/deep/root 0:0\"]";
    for (path, owner) in [
        ("etc/cron.d/fix", (0, 0)),
        ("var/lib", (0, 0)),
        ("var/lib/app", (33, 34)),
        ("var/lib/app/link", (33, 34)),
        ("var/lib/app/deep/x", (33, 34)),
        ("var/lib/app/deep/root/y", (0, 0)),
    ] {
        assert_eq!(owners(said, false, path), owner, "{path}");
    }
    assert_eq!(owners(said, true, "var/lib/app/data"), (33, 34));
    assert_eq!(owners(said, true, "etc/cron.d/fix"), (inode.uid(), inode.gid()));
}

#[test]
fn a_patch_that_would_be_refused_is_not_made() {
    let scratch = Scratch::new("make-refused");
    let dir = scratch.join("tree");
    let out = scratch.join("X.patch");
    let refused = |expected: &str| {
        let said = make(&dir, Some(&out), false).unwrap_err().to_string();
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
    fs::write(dir.join("metadata.toml"), metadata("X") + "owners = [\"/etc/y 1:1\"]").unwrap();
    refused("metadata.toml lists /etc/y in `owners`, but files/ does not have it");
    fs::write(dir.join("metadata.toml"), metadata("X") + "directories = [\"/etc/x\"]").unwrap();
    refused("metadata.toml lists /etc/x in `directories`, but the archive has no such directory itself");
    fs::write(dir.join("metadata.toml"), metadata("X") + "directories = [\"/etc\"]").unwrap();
    assert!(make(&dir, Some(&out), false).is_ok());
}
