//! Each reason to refuse an archive, and archives that must not be refused.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tar::EntryType;
use thimble::limits;
use thimble::patch::PatchError;
use thimble::patch::archive::{self, ArchiveSection, Member, MemberKind, Sink};

use crate::support::archive::{Tar, gzip, index_of, metadata};

/// The error for an archive, which must be the same from both readers.
fn refusal(patch: &[u8]) -> String {
    let indexed = index_of(patch).expect_err("it should be refused");
    let read = archive::read(patch, &mut Record::default()).expect_err("it should be refused");
    assert_eq!(indexed.to_string(), read.to_string());
    assert!(indexed.is_verification(), "{indexed}");
    indexed.to_string()
}

fn refused(tar: Tar, expected: &str) {
    let said = refusal(&tar.gzip());
    assert!(said.contains(expected), "{said:?} should say {expected:?}");
}

/// Records all members: path, and content or the file that it copies.
#[derive(Default)]
struct Record(Vec<(PathBuf, String)>);

impl Sink for Record {
    fn member(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        let mut text = String::new();
        content.read_to_string(&mut text)?;
        self.0.push((member.path.clone(), text));
        Ok(())
    }
    fn copy(&mut self, member: &Member, of: &Path) -> io::Result<()> {
        self.0.push((member.path.clone(), format!("copy of {}", of.display())));
        Ok(())
    }
}

#[test]
fn members_have_their_content_and_all_attributes() {
    let patch = Tar::default()
        .directory("./")
        .directory("./files/")
        .directory("./files/etc/")
        .file("./files/etc/motd", b"hello")
        .hard_link("./files/etc/issue", "./files/etc/motd")
        .symlink("./files/etc/link", "/../anywhere")
        .with_header(b"run", |header| {
            header.set_path("scripts/restart").unwrap();
            header.set_mode(0o4755);
            header.set_uid(7);
            header.set_gid(8);
            header.set_mtime(9);
        })
        .file("metadata.toml", metadata("A").as_bytes())
        .gzip();
    let index = index_of(&patch[..]).unwrap();
    let paths: Vec<_> = index.members.iter().map(|member| member.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["etc", "etc/motd", "etc/issue", "etc/link", "restart", "metadata.toml"]);
    assert_eq!(index.members[0].kind, MemberKind::Directory);
    assert_eq!(index.members[2].kind, MemberKind::File { size: 5 });
    assert_eq!(index.members[3].kind, MemberKind::Symlink { target: "/../anywhere".into() });
    let script = &index.members[4];
    assert_eq!(script.section, ArchiveSection::Scripts);
    let owner = script.owner;
    assert_eq!((owner.mode, owner.uid, owner.gid, owner.mtime_s, owner.mtime_ns), (0o4755, 7, 8, 9, 0));
    assert_eq!(index.unpacked_bytes, 5 + 5 + 3 + metadata("A").len() as u64);

    let mut record = Record::default();
    assert_eq!(archive::read(&patch[..], &mut record).unwrap().metadata.id.as_str(), "A");
    let text = |path: &str| &record.0.iter().find(|(at, _)| at == Path::new(path)).unwrap().1;
    assert_eq!(text("etc/motd"), "hello");
    assert_eq!(text("etc/issue"), "copy of etc/motd");
    assert_eq!(text("restart"), "run");
    assert_eq!(text("metadata.toml"), &metadata("A"));
}

#[test]
fn names_that_leave_their_section_are_refused() {
    let patch = || Tar::patch("A");
    refused(patch().file("/etc/passwd", b""), "member /etc/passwd: an absolute path is not allowed");
    refused(patch().file("files/../x", b""), "member files/../x: `..` is not allowed");
    refused(patch().file("..", b""), "`..` is not allowed");
    refused(patch().file("other/x", b""), "only metadata.toml, files/ and scripts/ are allowed");
    refused(patch().file("files", b""), "only metadata.toml, files/ and scripts/ are allowed");
    refused(patch().symlink("files", "/"), "only metadata.toml, files/ and scripts/ are allowed");
    refused(patch().file("files/.thimble/x", b""), "thimble's own");
    refused(patch().file("files/etc/.thimble~A", b""), "thimble's own");
    refused(patch().file("files/a\u{1b}[2J", b""), "member files/a\\u{1b}[2J: control characters");
    refused(patch().member(b"files/\xff", EntryType::Regular, 0o644, b"", b""), "must be UTF-8");
    refused(patch().symlink("files/x", ""), "its link target makes no sense");
    let long = format!("files/{}", "x".repeat(limits::NAME_BYTES + 1));
    refused(patch().pax(&[("path", &long)]).file("x", b""), "255 between two slashes");
    let deep = format!("files/{}", "x/".repeat(limits::PATH_BYTES / 2));
    refused(patch().pax(&[("path", &deep)]).file("x", b""), "a path may have 3072 bytes");
    refused(patch().pax(&[("path", "../x")]).file("files/x", b""), "`..` is not allowed");
}

#[test]
fn devices_fifos_and_unknown_types_are_refused() {
    let with = |kind| Tar::patch("A").member(b"files/x", kind, 0o644, b"", b"");
    refused(with(EntryType::Char), "member files/x: it is a character device");
    refused(with(EntryType::Block), "it is a block device");
    refused(with(EntryType::Fifo), "it is a fifo");
    refused(with(EntryType::new(b'Z')), "a member of an unknown kind");
}

/// The refusal has the member's own name and the option of the program that packed it.
#[test]
fn what_was_packed_with_an_option_names_the_option() {
    let with = |kind| Tar::patch("A").member(b"files/x", kind, 0o644, b"", b"");
    let form = "it is packed as a sparse file, in a form that only its packer reads: pack";
    // Such a header is GNU tar's own; star has another one.
    refused(with(EntryType::GNUSparse), &format!("member files/x: {form} without -sparse"));
    refused(with(EntryType::new(b'M')), "it is continued from another volume: pack without --multi-volume");
    refused(with(EntryType::new(b'V')), "it is a volume label: pack without --label");
    refused(with(EntryType::new(b'D')), "it is the list of a directory: pack without --incremental");
    let of = |header: &str, records: &[(&str, &str)]| {
        Tar::patch("A").pax_named(header, EntryType::XHeader, records).file("files/GNUSparseFile.0/x", b"")
    };
    let (gnu, bsdtar) = ("./PaxHeaders/x", "files/PaxHeader/x");
    let sparse = [("GNU.sparse.major", "2"), ("GNU.sparse.realsize", "0"), ("GNU.sparse.name", "files/x")];
    refused(of(gnu, &sparse), &format!("member files/x: {form} without --sparse"));
    refused(of(bsdtar, &sparse), &format!("member files/x: {form} with --no-read-sparse"));
    refused(of(gnu, &[("SCHILY.realsize", "9"), ("path", "files/x")]), &format!("{form} without -sparse"));
    let xattr = [("SCHILY.xattr.trusted.x", "x"), ("path", "files/ä")];
    let what = "member files/ä: its extended attribute trusted.x would be lost: pack";
    refused(of(gnu, &xattr), &format!("{what} with --xattrs-exclude=trusted.x"));
    refused(of(bsdtar, &xattr), &format!("{what} with --no-xattrs"));
    let list = [("SCHILY.acl.access", "user::rw-"), ("path", "files/x")];
    let what = "member files/x: it has an access list, which would be lost: pack";
    refused(of(gnu, &list), &format!("{what} without --acls"));
    refused(of(bsdtar, &list), &format!("{what} with --no-acls"));
}

/// git begins an archive with the name of the commit.
#[test]
fn global_pax_headers_are_for_all_members_after_them() {
    let global = |records: &[(&str, &str)]| {
        Tar::default().pax_named("pax_global_header", EntryType::XGlobalHeader, records)
    };
    let commit = [("comment", "2d52368fb6ac811deb2bb0fac1cd04a36b12554d")];
    let whole = |tar: Tar| tar.file("metadata.toml", metadata("A").as_bytes()).file("files/x", b"");
    let index = index_of(&whole(global(&commit)).gzip()[..]).unwrap();
    assert_eq!(index.members.len(), 2);
    let index = index_of(&whole(global(&[("mtime", "7.5"), ("uid", "8")])).gzip()[..]).unwrap();
    for Member { owner, .. } in &index.members {
        assert_eq!((owner.mtime_s, owner.mtime_ns, owner.uid), (7, 500_000_000, 8));
    }
    for key in ["path", "linkpath", "size", "SCHILY.xattr.user.x", "GNU.sparse.size"] {
        refused(
            whole(global(&[(key, "1")])),
            "member pax_global_header: its global pax header makes no sense",
        );
    }
    let many = (0..17).fold(Tar::default(), |tar, _| tar.pax_named("g", EntryType::XGlobalHeader, &commit));
    refused(whole(many), "its global pax header makes no sense");
}

/// bgzip and joined files have several members; media that are written in blocks have
/// zeros behind them.
#[test]
fn gzip_files_of_several_members_are_read() {
    let tar = Tar::patch("A").file("files/x", &[7; 1_000]).tar();
    let whole = index_of(&gzip(&tar)[..]).unwrap();
    // What bgzip ends every file with: an empty member.
    let end = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0\x1b\0\x03\0\0\0\0\0\0\0\0\0";
    for piece in [1, 100, 511, 512, 513, 1_500, tar.len() - 1] {
        let members: Vec<u8> = tar.chunks(piece).flat_map(gzip).collect();
        for behind in [&[][..], &end[..], &[0; 1], &[0; 100_000], &[&end[..], &[0; 511]].concat()] {
            let joined = [&members, behind].concat();
            let index = index_of(&joined[..]).unwrap();
            assert_eq!(index.members, whole.members, "pieces of {piece}");
            let read = archive::read(&joined[..], &mut Record::default()).unwrap();
            assert_eq!((read.metadata, read.unpacked_bytes), (whole.metadata.clone(), whole.unpacked_bytes));
        }
        let said = "something follows the archive's end";
        assert!(refusal(&[&members[..], b"\0\0x"].concat()).contains(said));
        assert!(refusal(&[&members[..], &[0; 8], &members].concat()).contains(said));
        let cut = members.len() - 3;
        assert!(refusal(&members[..cut]).contains("ends in the middle"), "pieces of {piece}");
        if piece < tar.len() - 1 {
            let mut damaged = members.clone();
            damaged[gzip(&tar[..piece]).len() - 5] ^= 1;
            assert!(refusal(&damaged).contains("damaged"), "pieces of {piece}");
        }
    }
    // What follows is no member, and the tar has not ended.
    let half = gzip(&tar[..512]);
    assert!(refusal(&[&half[..], b"x"].concat()).contains("something follows"));
    assert!(refusal(&[&half[..], &[0; 9]].concat()).contains("ends in the middle"));
}

#[test]
fn contradicting_members_are_refused() {
    let patch = || Tar::patch("A");
    refused(patch().file("files/x", b"").file("./files//x", b""), "it is in the archive twice");
    refused(patch().file("metadata.toml", b""), "it is in the archive twice");
    refused(patch().directory("files/x/").directory("files/x/"), "it is in the archive twice");
    refused(patch().file("files/x", b"").file("files/x/y", b""), "it lies below files/x, which is not");
    refused(patch().symlink("files/x", "/etc").file("files/x/y", b""), "it lies below files/x");
    refused(patch().file("files/x/y/z", b"").symlink("files/x", "/etc"), "other members lie below it");
    // A directory and its content agree in any order.
    let good = patch().file("files/x/y/z", b"").directory("files/x/").directory("files/x/y/").gzip();
    assert_eq!(index_of(&good[..]).unwrap().members.len(), 4);
}

#[test]
fn a_hard_link_needs_an_earlier_file_of_its_section() {
    let patch = || Tar::patch("A");
    let to = |target| format!("member files/y: it is a hard link to {target}, which is no file");
    refused(patch().hard_link("files/y", "files/x"), &to("files/x"));
    refused(patch().hard_link("files/y", "files/y"), &to("files/y"));
    refused(patch().hard_link("files/y", "/etc/shadow"), &to("/etc/shadow"));
    refused(patch().hard_link("files/y", "files/../../etc/shadow"), &to("files/../../etc/shadow"));
    refused(patch().symlink("files/x", "/etc/shadow").hard_link("files/y", "files/x"), &to("files/x"));
    refused(patch().directory("files/x").hard_link("files/y", "files/x"), &to("files/x"));
    refused(patch().hard_link("files/y", "metadata.toml"), &to("metadata.toml"));
    refused(patch().hard_link("files/y", "files/x").file("files/x", b""), &to("files/x"));
}

#[test]
fn scripts_must_be_known_regular_and_executable() {
    refused(Tar::patch("A").script("scripts/preinstall", b""), "known are pre-install, post-install");
    refused(Tar::patch("A").script("scripts/x/health", b""), "no such script is ever run");
    refused(Tar::patch("A").file("scripts/health", b""), "it is not executable: chmod +x it");
    refused(Tar::patch("A").symlink("scripts/health", "/bin/true"), "it must be a plain file");
    let mut all = Tar::patch("A");
    for script in archive::SCRIPTS {
        all = all.script(&format!("scripts/{script}"), b"#!/bin/sh\n");
    }
    assert_eq!(index_of(&all.gzip()[..]).unwrap().members.len(), 9);
}

#[test]
fn metadata_must_be_there_once_regular_small_and_agree_with_the_files() {
    refused(Tar::default().file("files/x", b""), "it has no metadata.toml");
    refused(Tar::default().symlink("metadata.toml", "x"), "it must be a plain file");
    let large = vec![b'#'; limits::METADATA_BYTES as usize + 1];
    refused(Tar::default().file("metadata.toml", &large), "it is larger than 65536 bytes");
    refused(Tar::default().file("metadata.toml", b"id = 1"), "metadata.toml:1: id cannot be 1; it takes");
    let config = metadata("A") + "config = [\"/etc/x\"]\n";
    let patch = || Tar::default().file("metadata.toml", config.as_bytes());
    refused(patch(), "lists /etc/x in `config`, but files/ does not have it");
    refused(patch().directory("files/etc/x"), "lists /etc/x in `config`");
    assert!(index_of(&patch().file("files/etc/x", b"").gzip()[..]).is_ok());
}

#[test]
fn a_directory_that_is_listed_is_a_member_itself() {
    let text = metadata("A") + "directories = [\"/etc/x\"]\n";
    let patch = || Tar::default().file("metadata.toml", text.as_bytes());
    let fault = "lists /etc/x in `directories`, but the archive has no such directory itself";
    refused(patch().directory("files/etc/y"), fault);
    refused(patch().file("files/etc/x", b""), fault);
    refused(patch().file("files/etc/x/y", b""), fault);
    refused(patch().symlink("files/etc/x", "y"), fault);
    assert!(index_of(&patch().file("files/etc/x/y", b"").directory("files/etc/x").gzip()[..]).is_ok());
}

#[test]
fn a_path_to_remove_is_one_that_a_patch_may_have_and_has_not() {
    let patch = |paths: &str| {
        let text = metadata("A") + &format!("remove = [{paths}]\n");
        Tar::default().file("metadata.toml", text.as_bytes())
    };
    let twice = "lists /etc/x in `remove` twice, or files/ has it, a file above it or something below it";
    refused(patch("\"etc/x\"").file("files/etc/x", b""), twice);
    refused(patch("\"etc/x\"").file("files/etc/x/y", b""), twice);
    refused(patch("\"etc/x\"").file("files/etc", b""), twice);
    refused(patch("\"etc/x\", \"/etc//x\""), twice);
    refused(patch("\"etc/.thimble/x\""), "lists /etc/.thimble/x in `remove`: names `.thimble`");
    refused(patch("\"../x\""), "remove cannot be \"../x\"");
    assert!(index_of(&patch("\"etc/x\"").directory("files/etc").gzip()[..]).is_ok());
}

#[test]
fn bounds_hold() {
    let mut many = Tar::patch("A");
    for at in 0..limits::PATCH_MEMBERS {
        many = many.file(&format!("files/{at}"), b"");
    }
    refused(many, "it has more than 65536 members");

    let mut deep = Tar::patch("A");
    for at in 0..50 {
        deep = deep.pax(&[("path", &format!("files/{at}/{}", "x/".repeat(1500)))]).file("x", b"");
    }
    refused(deep, "it has more than 65536 members");

    let mut wordy = Tar::patch("A");
    let rest = vec!["x".repeat(200); 15].join("/");
    for at in 0..2800 {
        wordy = wordy.pax(&[("path", &format!("files/{at}/{rest}"))]).file("x", b"");
    }
    refused(wordy, "its names take more than 8388608 bytes together");

    // A header may announce any size: memory is used only for bytes that follow.
    let huge = Tar::patch("A").with_header(b"", |header| {
        header.set_path("files/x").unwrap();
        header.set_size(limits::PATCH_UNPACKED_BYTES);
    });
    refused(huge, "it unpacks to more than 8589934592 bytes");
    let endless_name = Tar::patch("A").with_header(b"", |header| {
        header.set_path("././@LongLink").unwrap();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 32);
    });
    refused(endless_name, "a path may have 3072 bytes");
    let two_sizes = Tar::patch("A").pax(&[("size", "9")]).file("files/x", b"");
    refused(two_sizes, "its size makes no sense");

    let links = |many: u64| {
        let size = 4 << 20;
        let mut tar = Tar::default().file("files/x", &vec![0; size]);
        for at in 1..many {
            tar = tar.hard_link(&format!("files/{at}"), "files/x");
        }
        tar.file("metadata.toml", metadata("A").as_bytes())
    };
    // A gibibyte of links is no bomb yet; its metadata are too much.
    let most = limits::BOMB_LEAST_BYTES / (4 << 20);
    refused(links(most), "more than 1100 times its size: an archive bomb");
    assert!(index_of(&links(most - 1).gzip()[..]).is_ok());
}

#[test]
fn a_damaged_archive_is_told_from_a_failure_to_read() {
    let whole = Tar::patch("A").file("files/x", b"some content that is long enough").gzip();
    for len in 2..whole.len() {
        let said = refusal(&whole[..len]);
        assert!(said.contains("ends in the middle"), "cut at {len}: {said}");
    }
    for at in 2..whole.len() {
        let mut altered = whole.clone();
        altered[at] ^= 0x10;
        // gzip has bits without a meaning: its header's time, the rest of the last byte.
        match index_of(&altered[..]) {
            Ok(index) => assert_eq!(index.members, index_of(&whole[..]).unwrap().members),
            Err(error) => assert!(error.is_verification(), "altered at {at}: {error}"),
        }
    }
    assert!(refusal(b"").contains("a patch is a gzip tar"));
    assert!(refusal(b"#!/bin/sh\n").contains("a patch is a gzip tar"));
    assert!(refusal(&gzip(&[b'x'; 4096])).contains("there is no ustar, pax or GNU tar"));
    let mut damaged = Tar::patch("A").tar();
    damaged[100] ^= 1;
    assert!(refusal(&gzip(&damaged)).contains("damaged, and was signed so: pack it again"));
    let unended = Tar::patch("A").unended();
    assert!(refusal(&gzip(&unended)).contains("ends in the middle, and was signed so: pack it again"));

    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk on fire"))
        }
    }
    for cut in [0, 5, whole.len() / 2, whole.len()] {
        let error = index_of((&whole[..cut]).chain(Broken)).unwrap_err();
        assert!(matches!(error, PatchError::Io(_)), "after {cut}: {error}");
        assert_eq!(error.to_string(), "it cannot be read: disk on fire");
    }
}

#[test]
fn a_gzip_header_may_hold_what_the_format_has_and_its_own_checksum_holds() {
    // A checksum of the header, extra fields, a name, a comment; RFC 1952.
    const FLAGS: u8 = 0b1_1110;
    let plain = Tar::patch("A").gzip();
    let mut header = plain[..10].to_vec();
    assert_eq!(header[3], 0, "nothing optional is in it yet");
    header[3] = FLAGS;
    header.extend(b"\x04\0abcdname\0comment\0");
    let mut sum = flate2::Crc::new();
    sum.update(&header);
    header.extend(&sum.sum().to_le_bytes()[..2]);
    let packed = [&header, &plain[10..]].concat();
    assert!(index_of(&packed[..]).is_ok());
    for at in 2..header.len() {
        let mut altered = packed.clone();
        altered[at] ^= 1;
        assert!(index_of(&altered[..]).is_err(), "altered at {at}");
    }
    for reserved in [1 << 5, 1 << 6, 1 << 7] {
        let mut altered = plain.clone();
        altered[3] = reserved;
        assert!(refusal(&altered).contains("damaged"), "flags {reserved:#x}");
    }
    // A name without an end is given up after 64 KiB.
    let mut start = plain[..10].to_vec();
    start[3] = 1 << 3;
    let endless = start.as_slice().chain(io::repeat(b'x')).take(1 << 20);
    let error = index_of(endless).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn nothing_may_follow_the_end() {
    let said = "something follows the archive's end";
    let whole = Tar::patch("A").gzip();
    assert!(refusal(&[&whole[..], b"x"].concat()).contains(said));
    assert!(refusal(&[&whole[..], &whole[..]].concat()).contains(said));
    let inside = [&Tar::patch("A").tar()[..], &Tar::patch("B").tar()[..]].concat();
    assert!(refusal(&gzip(&inside)).contains(said));
    let zeros = [&Tar::patch("A").tar()[..], &vec![0; limits::PATCH_PADDING_BYTES + 1_024]].concat();
    assert!(refusal(&gzip(&zeros)).contains(said));
    // What tar pads to by default, and with the longest records that are common.
    for padding in [10_240, 4_096 * 512] {
        let padded = [&Tar::patch("A").tar()[..], &vec![0; padding]].concat();
        assert!(index_of(&gzip(&padded)[..]).is_ok(), "{padding}");
    }
}

#[test]
fn an_error_of_the_sink_is_not_the_archive_s() {
    struct Full;
    impl Sink for Full {
        fn member(&mut self, _: &Member, _: &mut dyn Read) -> io::Result<()> {
            Err(io::Error::from_raw_os_error(28))
        }
        fn copy(&mut self, _: &Member, _: &Path) -> io::Result<()> {
            unreachable!("the first member fails")
        }
    }
    let error = archive::read(&Tar::patch("A").gzip()[..], &mut Full).unwrap_err();
    assert!(!error.is_verification());
    assert!(error.to_string().contains("No space left on device"), "{error}");
}
