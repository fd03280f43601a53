//! What a file is besides its bytes: its names, its time, its extended attributes, its
//! holes. `make` packs them, other packers do, and both tars unpack what `make` packs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use thimble::patch::archive::{self, Attribute, Member, MemberKind, Sink};
use thimble::patch::make::make;

use crate::support::Scratch;
use crate::support::archive::metadata;
use crate::sys::set_attribute;

/// The capability cap_net_bind_service, permitted and effective.
pub const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Each file below `files/`: the member, the hash of its content, and which file a link is.
#[derive(Default, Debug, PartialEq)]
pub struct Unpacked(pub Vec<(Member, Option<blake3::Hash>, Option<PathBuf>)>);

impl Unpacked {
    pub fn of(patch: &Path) -> Self {
        let mut unpacked = Self::default();
        archive::read(File::open(patch).unwrap(), &mut unpacked).unwrap_or_else(|error| panic!("{error}"));
        unpacked
    }

    pub fn find(&self, end: &str) -> &(Member, Option<blake3::Hash>, Option<PathBuf>) {
        self.0.iter().find(|(member, ..)| member.path.ends_with(end)).expect("a member")
    }
}

impl Sink for Unpacked {
    fn member(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        let (len, hash) = hash_of(content)?;
        if let MemberKind::File { size } = member.kind {
            assert_eq!(len, size, "{}", member.path.display());
        }
        self.0.push((member.clone(), Some(hash), None));
        Ok(())
    }
    fn copy(&mut self, member: &Member, of: &Path) -> io::Result<()> {
        self.0.push((member.clone(), None, Some(of.to_path_buf())));
        Ok(())
    }
}

fn hash_of(content: &mut dyn Read) -> io::Result<(u64, blake3::Hash)> {
    let (mut len_bytes, mut hasher, mut buffer) = (0, blake3::Hasher::new(), vec![0; 64 * 1024]);
    loop {
        let len = content.read(&mut buffer)?;
        if len == 0 {
            return Ok((len_bytes, hasher.finalize()));
        }
        hasher.update(&buffer[..len]);
        len_bytes += len as u64;
    }
}

pub fn hash(file: &Path) -> blake3::Hash {
    hash_of(&mut File::open(file).unwrap()).unwrap().1
}

pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A directory that can be made a patch, with a `files/bin`.
pub fn tree(scratch: &Scratch) -> PathBuf {
    let dir = scratch.join("tree");
    fs::create_dir_all(dir.join("files/bin")).unwrap();
    fs::write(dir.join("metadata.toml"), metadata("WHOLE-1")).unwrap();
    dir
}

/// A file with data between its holes, or with a hole at its end.
pub fn sparse(file: &Path, size_bytes: u64, data_at: &[u64]) {
    let made = File::create(file).unwrap();
    made.set_len(size_bytes).unwrap();
    for at in data_at {
        made.write_all_at(format!("data at {at}").as_bytes(), *at).unwrap();
    }
}

/// The patch that is made of a tree, unpacked by both tars.
fn made(scratch: &Scratch, dir: &Path) -> (PathBuf, Vec<(&'static str, PathBuf)>) {
    let patch =
        make(dir, Some(&scratch.join("x.patch")), false).unwrap_or_else(|error| panic!("{error}")).file;
    let unpacked = ["tar", "bsdtar"].map(|tar| {
        let into = scratch.join(format!("by-{tar}"));
        fs::create_dir(&into).unwrap();
        // bsdtar keeps attributes of its own accord.
        let attributes: &[&str] = if tar == "tar" { &["--xattrs", "--xattrs-include=*"] } else { &[] };
        run(Command::new(tar).args(attributes).arg("-xpzf").arg(&patch).arg("-C").arg(&into));
        (tar, into)
    });
    (patch, unpacked.into())
}

#[test]
fn a_file_with_several_names_is_packed_once() {
    let scratch = Scratch::new("names");
    let dir = tree(&scratch);
    // Does not compress.
    let mut bytes = vec![0; 1 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    fs::write(dir.join("files/bin/busybox"), &bytes).unwrap();
    for at in 0..269 {
        fs::hard_link(dir.join("files/bin/busybox"), dir.join(format!("files/bin/tool-{at:03}"))).unwrap();
    }
    // Long names, and one in the section of scripts, which is a file of its own.
    let long = dir.join("files").join("d".repeat(150)).join("l".repeat(150));
    fs::create_dir(long.parent().unwrap()).unwrap();
    fs::hard_link(dir.join("files/bin/busybox"), &long).unwrap();
    fs::create_dir(dir.join("scripts")).unwrap();
    run(Command::new("chmod").arg("755").arg(dir.join("files/bin/busybox")));
    fs::hard_link(dir.join("files/bin/busybox"), dir.join("scripts/health")).unwrap();

    let (patch, unpacked) = made(&scratch, &dir);
    assert!(fs::metadata(&patch).unwrap().len() < 2_300_000, "the file is in it for each section");
    let read = Unpacked::of(&patch);
    let links = read.0.iter().filter(|(_, _, of)| of.as_deref() == Some(Path::new("bin/busybox")));
    assert_eq!(links.count(), 270);
    assert!(read.find("health").2.is_none());
    for (tar, into) in unpacked {
        let inode = |path: &str| fs::metadata(into.join(path)).unwrap().ino();
        assert_eq!(inode("files/bin/tool-268"), inode("files/bin/busybox"), "{tar}");
        assert_eq!(
            hash(&into.join("files").join(long.strip_prefix(dir.join("files")).unwrap())),
            hash(&long)
        );
    }
    // The owner of one name differs: it cannot be the same inode.
    fs::write(dir.join("metadata.toml"), metadata("X") + "owners = [\"/bin/tool-007 7:7\"]").unwrap();
    let patch = make(&dir, Some(&scratch.join("y.patch")), false).unwrap().file;
    let read = Unpacked::of(&patch);
    let (member, _, of) = read.find("tool-007");
    assert!(of.is_none() && member.owner.uid == 7, "{member:?}");
}

#[test]
fn times_are_kept_to_the_nanosecond_and_before_1970() {
    let scratch = Scratch::new("times");
    let dir = tree(&scratch);
    let times = [
        "1969-12-31 23:59:58.5",
        "1901-12-13 20:45:52.000000001",
        "2024-02-29 12:00:00.123456789",
        "2300-01-01 00:00:00",
    ];
    for (at, time) in times.iter().enumerate() {
        let file = dir.join(format!("files/bin/{at}"));
        fs::write(&file, "x").unwrap();
        symlink("x", dir.join(format!("files/bin/link-{at}"))).unwrap();
        for file in [file, dir.join(format!("files/bin/link-{at}"))] {
            run(Command::new("touch").env("TZ", "UTC").args(["-h", "-d", time]).arg(file));
        }
    }
    run(Command::new("touch").args(["-d", "@-5.25"]).arg(dir.join("files/bin")));
    let (patch, unpacked) = made(&scratch, &dir);
    let read = Unpacked::of(&patch);
    for (member, ..) in &read.0 {
        let Ok(inode) = dir.join("files").join(&member.path).symlink_metadata() else { continue };
        let kept = (member.owner.mtime_s, i64::from(member.owner.mtime_ns));
        assert_eq!(kept, (inode.mtime(), inode.mtime_nsec()), "{}", member.path.display());
    }
    assert_eq!(read.find("0").0.owner.mtime_s, -2);
    assert_eq!(read.find("0").0.owner.mtime_ns, 500_000_000);
    for (tar, into) in unpacked {
        // libarchive reads a fraction before 1970 as if it were behind it.
        for at in if tar == "tar" { 0..times.len() } else { 2..times.len() } {
            let time = |dir: &Path| {
                let inode = dir.join(format!("files/bin/{at}")).metadata().unwrap();
                (inode.mtime(), inode.mtime_nsec())
            };
            assert_eq!(time(&into), time(&dir), "{tar}: {}", times[at]);
        }
    }
}

#[test]
fn attributes_and_capabilities_travel() {
    let scratch = Scratch::new("attributes");
    let dir = tree(&scratch);
    let tool = dir.join("files/bin/tool");
    fs::write(&tool, "tool").unwrap();
    let odd = "user.a=b%3Dc";
    for (name, value) in [("user.zero", &b""[..]), (odd, b"\0\n=\xff"), ("security.capability", &CAPABILITY)]
    {
        if let Err(error) = set_attribute(&tool, name, value) {
            println!("SKIPPED: attributes: this filesystem has no {name}: {error}");
            return;
        }
    }
    set_attribute(&dir.join("files/bin"), "user.of-a-directory", b"1").unwrap();
    let (patch, unpacked) = made(&scratch, &dir);
    let read = Unpacked::of(&patch);
    let attribute = |name: &str, value: &[u8]| Attribute { name: name.to_owned(), value: value.to_vec() };
    let kept = &read.find("bin/tool").0.attributes;
    assert_eq!(kept[0].name, "security.capability");
    assert_eq!(kept[0].value[4..8], CAPABILITY[4..8]);
    assert_eq!(kept[1..], [attribute(odd, b"\0\n=\xff"), attribute("user.zero", b"")]);
    assert_eq!(read.find("bin").0.attributes, [attribute("user.of-a-directory", b"1")]);
    // GNU tar's names are those that `make` writes. A second pass says what was unpacked.
    let again = unpacked[0].1.join("again.patch");
    let again = make(&unpacked[0].1, Some(&again), false).unwrap().file;
    assert_eq!(fs::read(again).unwrap(), fs::read(&patch).unwrap());

    let cautions = make(&dir, Some(&patch), false).unwrap().cautions;
    assert_eq!(cautions[0].to_string(), "1 member with capabilities: /bin/tool");
}

#[test]
fn an_attribute_that_would_be_lost_is_refused_and_a_label_is_told() {
    let scratch = Scratch::new("lost");
    let dir = tree(&scratch);
    let tool = dir.join("files/bin/tool");
    let refused = |name: &str, value: &[u8], expected: &str| {
        fs::write(&tool, "tool").unwrap();
        if let Err(error) = set_attribute(&tool, name, value) {
            return println!("SKIPPED: attributes: {name} cannot be set here: {error}");
        }
        let said = make(&dir, Some(&scratch.join("x.patch")), false).unwrap_err().to_string();
        assert!(said.contains(expected), "{said:?} should say {expected:?}");
        fs::remove_file(&tool).unwrap();
    };
    refused(
        "trusted.x",
        b"1",
        "bin/tool has the extended attribute trusted.x, which a patch cannot have: remove it",
    );
    // Version 2; user rw, user 1 r, group r, mask r, other none.
    let list: Vec<u8> = [2u8, 0, 0, 0]
        .into_iter()
        .chain(
            [(1u16, 6u16, u32::MAX), (2, 4, 1), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
                .iter()
                .flat_map(|(tag, mode, id)| {
                    [&tag.to_le_bytes()[..], &mode.to_le_bytes(), &id.to_le_bytes()].concat()
                }),
        )
        .collect();
    refused(
        "system.posix_acl_access",
        &list,
        "bin/tool has an access list, which a patch cannot have: remove it with `setfacl -b`",
    );

    fs::write(&tool, "tool").unwrap();
    if set_attribute(&tool, "security.selinux", b"system_u:object_r:bin_t:s0\0").is_err() {
        return println!("SKIPPED: attributes: security.selinux cannot be set here");
    }
    let made = make(&dir, Some(&scratch.join("x.patch")), false).unwrap();
    let told: Vec<_> = made.cautions.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["1 member with an SELinux label, which the host's policy sets instead: /bin/tool"]);
    assert!(Unpacked::of(&made.file).find("tool").0.attributes.is_empty());
}

#[test]
fn holes_stay_holes() {
    let scratch = Scratch::new("holes");
    let dir = tree(&scratch);
    let files = dir.join("files/bin");
    sparse(&files.join("between"), 300 << 20, &[0, 5_000, 200 << 20, (300 << 20) - 20]);
    sparse(&files.join("behind"), 3 << 20, &[10_000]);
    sparse(&files.join("nothing"), 100_001, &[]);
    sparse(&files.join(format!("long-{}", "n".repeat(200))), 1 << 20, &[500_000]);
    fs::write(files.join("zeros"), vec![0; 300_000]).unwrap();
    fs::write(files.join("after"), "after").unwrap();
    // As many parts as the map takes blocks for.
    let many: Vec<u64> = (0..400).map(|at| at * 8_192).collect();
    sparse(&files.join("many"), 400 * 8_192, &many);

    let (patch, unpacked) = made(&scratch, &dir);
    assert!(fs::metadata(&patch).unwrap().len() < 20_000, "300 MB of zeros would be 300 KB");
    let read = Unpacked::of(&patch);
    for name in fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().file_name()) {
        let name = name.to_str().unwrap();
        let (member, content, _) = read.find(name);
        assert_eq!(*content, Some(hash(&files.join(name))), "{name}");
        assert_eq!(member.is_sparse, !matches!(name, "zeros" | "after"), "{name}");
        for (tar, into) in &unpacked {
            assert_eq!(hash(&into.join("files/bin").join(name)), hash(&files.join(name)), "{tar}: {name}");
        }
    }
    for (tar, into) in &unpacked {
        assert!(
            into.join("files/bin/between").metadata().unwrap().blocks() < 1_000,
            "{tar}: holes are holes"
        );
    }
    // Holes of other sizes are packed as the same.
    let copy = scratch.join("copy");
    run(Command::new("cp").args(["-a", "--sparse=always"]).args([&dir, &copy]));
    fs::remove_file(copy.join("files/bin/zeros")).unwrap();
    run(Command::new("cp")
        .args(["-a", "--sparse=never"])
        .arg(files.join("zeros"))
        .arg(copy.join("files/bin")));
    let filled = File::options().write(true).open(copy.join("files/bin/many")).unwrap();
    filled.write_all_at(&[0; 4_096], 4_096).unwrap();
    drop(filled);
    for path in ["files/bin/many", "files/bin"] {
        run(Command::new("touch").arg("-r").arg(dir.join(path)).arg(copy.join(path)));
    }
    let again = make(&copy, Some(&scratch.join("y.patch")), false).unwrap().file;
    assert_eq!(fs::read(patch).unwrap(), fs::read(again).unwrap());
}
