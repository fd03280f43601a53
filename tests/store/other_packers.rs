//! What GNU tar and bsdtar pack of a file besides its bytes, in each of their forms.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tar::EntryType;
use thimble::limits;
use thimble::patch::archive;
use thimble::store;
use thimble::types::PatchId;

use crate::jobs::Bench;
use crate::support::Scratch;
use crate::support::archive::{Tar, index_of, metadata};
use crate::sys::set_attribute;
use crate::whole_files::{CAPABILITY, Unpacked, hash, run, sparse, tree};

/// Packs a tree with a program and options.
fn packed(scratch: &Scratch, dir: &Path, program: &[&str]) -> PathBuf {
    let patch = scratch.join("x.patch");
    run(Command::new(program[0]).args(&program[1..]).arg("-czf").arg(&patch).arg("-C").arg(dir).arg("."));
    patch
}

#[test]
fn holes_are_read_in_each_form() {
    let scratch = Scratch::new("forms");
    let dir = tree(&scratch);
    let files = dir.join("files/bin");
    let many = |parts: u64| (0..parts).map(|at| at * 16_384 + 4_096).collect::<Vec<_>>();
    sparse(&files.join("one"), 1 << 20, &[500_000]);
    sparse(&files.join("empty"), 70_000, &[]);
    // In a header are four parts, in each block behind it 21.
    sparse(&files.join("four"), 16_384 * 4, &many(4));
    sparse(&files.join("five"), 16_384 * 5, &many(5));
    sparse(&files.join("blocks"), 16_384 * 60, &many(60));
    fs::write(files.join("zz-after"), "after").unwrap();
    let forms: [&[&str]; 6] = [
        &["tar", "--sparse", "--format=gnu"],
        &["tar", "--sparse", "--format=oldgnu"],
        &["tar", "--sparse", "--format=posix", "--sparse-version=0.0"],
        &["tar", "--sparse", "--format=posix", "--sparse-version=0.1"],
        &["tar", "--sparse", "--format=posix", "--sparse-version=1.0"],
        &["bsdtar", "--read-sparse", "--format=pax"],
    ];
    for form in forms {
        let patch = packed(&scratch, &dir, form);
        let read = Unpacked::of(&patch);
        for name in ["one", "empty", "four", "five", "blocks", "zz-after"] {
            let (member, content, _) = read.find(name);
            assert_eq!(*content, Some(hash(&files.join(name))), "{form:?}: {name}");
            // bsdtar packs a file that is one hole as one that is not sparse.
            let is_told = !(name == "zz-after" || name == "empty" && form[0] == "bsdtar");
            assert!(member.is_sparse == is_told || name == "empty", "{form:?}: {name}");
        }
        // Content that nobody reads is passed over.
        let index = index_of(fs::File::open(&patch).unwrap()).unwrap();
        assert_eq!(index.members.len(), read.0.len(), "{form:?}");
    }
}

#[test]
fn attributes_are_read_of_both_packers() {
    let scratch = Scratch::new("packed-attributes");
    let dir = tree(&scratch);
    let tool = dir.join("files/bin/tool");
    fs::write(&tool, "tool").unwrap();
    for (name, value) in
        [("user.a", &b"\0\n=\xff"[..]), ("user.b", b""), ("security.capability", &CAPABILITY)]
    {
        if let Err(error) = set_attribute(&tool, name, value) {
            println!("SKIPPED: attributes: this filesystem has no {name}: {error}");
            return;
        }
    }
    let packers: [&[&str]; 3] = [
        &["tar", "--xattrs", "--xattrs-include=*"],
        &["bsdtar", "--format=pax"],
        &["bsdtar", "--format=pax", "--options", "xattrheader=LIBARCHIVE"],
    ];
    for packer in packers {
        let read = Unpacked::of(&packed(&scratch, &dir, packer));
        let kept = &read.find("tool").0.attributes;
        let names: Vec<_> = kept.iter().map(|attribute| &*attribute.name).collect();
        assert_eq!(names, ["security.capability", "user.a", "user.b"], "{packer:?}");
        assert_eq!(kept[0].value[4..8], CAPABILITY[4..8], "{packer:?}");
        assert_eq!((&*kept[1].value, &*kept[2].value), (&b"\0\n=\xff"[..], &b""[..]), "{packer:?}");
    }
    if set_attribute(&tool, "trusted.x", b"1").is_err() {
        return println!("SKIPPED: attributes: trusted.x cannot be set here");
    }
    for (packer, option) in [(packers[0], "--xattrs-exclude=trusted.x"), (packers[1], "--no-xattrs")] {
        let error = archive::members(fs::File::open(packed(&scratch, &dir, packer)).unwrap(), &mut |_| {});
        let said = error.unwrap_err().to_string();
        let expected = format!("its extended attribute trusted.x would be lost: pack with {option}");
        assert!(said.contains("bin/tool: ") && said.ends_with(&expected), "{said}");
        // The option that it names is the remedy.
        let with_option = [&packer[..1], &[option], &packer[1..]].concat();
        Unpacked::of(&packed(&scratch, &dir, &with_option));
    }
}

#[test]
fn a_label_is_told_on_upload_and_by_show() {
    let bench = Bench::new("labels");
    for (id, key) in [("RHT-1", "RHT.security.selinux"), ("SCHILY-1", "SCHILY.xattr.security.selinux")] {
        let label = [(key, "system_u:object_r:bin_t:s0\0")];
        let tar =
            Tar::patch(id).pax(&label).file(&format!("files/{id}"), b"").pax(&label).directory("files/d");
        let patch = crate::support::controller::signed(&bench.scratch, id, &tar.gzip(), &bench.signer);
        let said = bench.controller.upload(&[&patch]).done().items();
        let told =
            format!("2 members with an SELinux label, which the host's policy sets instead: /{id}, /d");
        assert_eq!(said, [format!("{id} is now available; caution: {told}")]);
        let mut text = Vec::new();
        let ids = [PatchId::new(id).unwrap()];
        store::show(&bench.controller.config, &ids, false, &mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains(&format!("Cautions:                  {told}\n")));
    }
}

fn refused(tar: Tar, expected: &str) {
    let said = index_of(&tar.gzip()[..]).expect_err(expected).to_string();
    assert!(said.contains(expected), "{said:?} should say {expected:?}");
}

/// A header of GNU tar for a sparse file that stores `stored` bytes of `size`.
fn old_header(parts: &[(u64, u64)], size: u64, stored: &[u8]) -> Tar {
    Tar::patch("A").with_header(stored, |header| {
        let stored_bytes = stored.len() as u64;
        *header = tar::Header::new_gnu();
        header.set_path("files/x").unwrap();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(stored_bytes);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(size);
        for (part, (offset, length)) in gnu.sparse.iter_mut().zip(parts) {
            part.set_offset(*offset);
            part.set_length(*length);
        }
    })
}

#[test]
fn a_map_that_contradicts_itself_or_the_content_is_refused() {
    let bad = "member files/x: its map of holes makes no sense";
    let good = old_header(&[(0, 2), (4, 1)], 9, b"abc");
    assert_eq!(index_of(&good.gzip()[..]).unwrap().unpacked_bytes, 9 + metadata("A").len() as u64);
    refused(old_header(&[(4, 2), (0, 1)], 9, b"abc"), bad);
    refused(old_header(&[(0, 2), (4, 1)], 9, b"abcd"), bad);
    refused(old_header(&[(0, 2), (4, 2)], 9, b"abc"), bad);
    refused(old_header(&[(0, 2), (4, 1)], 4, b"abc"), bad);
    let pax =
        |records: &[(&str, &str)], content: &[u8]| Tar::patch("A").pax(records).file("files/x", content);
    let new = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")];
    let with_map = |map: &str| {
        let mut content = map.as_bytes().to_vec();
        content.resize(512, 0);
        [&content[..], b"abc"].concat()
    };
    assert!(index_of(&pax(&new, &with_map("2\n0\n2\n4\n1\n")).gzip()[..]).is_ok());
    refused(pax(&new, &with_map("2\n0\n2\n4\n2\n")), bad);
    refused(pax(&new, &with_map("2\n0\n2\n4\n1")), bad);
    refused(pax(&new, &with_map("2\n0\n2\n4\nx\n")), bad);
    refused(pax(&new, b"2\n0\n2\n4\n1\n"), bad);
    refused(pax(&new, &with_map("16385\n")), "it has more than 16384 holes");
    refused(pax(&[("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,2,4,2")], b"abc"), bad);
    refused(pax(&[("GNU.sparse.size", "9"), ("GNU.sparse.numblocks", "1")], b"abc"), bad);
    refused(pax(&[("GNU.sparse.map", "0,3")], b"abc"), bad);
    let of_directory =
        Tar::patch("A").pax(&[("GNU.sparse.size", "0"), ("path", "files/x")]).directory("files/x");
    refused(of_directory, bad);
    // Both forms at once.
    let twice = old_header(&[(0, 2), (4, 1)], 9, b"abc").unended();
    let records = Tar::default().pax(&new).unended();
    let metadata_bytes = Tar::patch("A").unended().len();
    let both = [&twice[..metadata_bytes], &records, &twice[metadata_bytes..], &[0; 1_024]].concat();
    let said = index_of(&crate::support::archive::gzip(&both)[..]).unwrap_err().to_string();
    assert!(said.ends_with("its map of holes makes no sense"), "{said}");
}

/// Bytes that do not compress.
struct Noise(u32);

impl Iterator for Noise {
    type Item = u8;
    fn next(&mut self) -> Option<u8> {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0.to_be_bytes().first().copied()
    }
}

#[test]
fn holes_count_as_the_bytes_that_they_are() {
    let of = |size: u64| old_header(&[(0, 3)], size, b"abc");
    assert!(index_of(&of(limits::BOMB_LEAST_BYTES / 2).gzip()[..]).is_ok());
    refused(of(limits::BOMB_LEAST_BYTES), "more than 1100 times its size: an archive bomb");
    // What counts is the whole file, nearly all of which comes after the holes here.
    let noise = Noise(1).take(2 << 20).collect::<Vec<u8>>();
    let size = noise.len() as u64 * 1_000;
    assert!(index_of(&of(size).file("files/noise", &noise).gzip()[..]).is_ok());
    refused(of(size).file("files/zeros", &vec![0; noise.len()]), "an archive bomb");
    refused(of(limits::PATCH_UNPACKED_BYTES), "it unpacks to more than 8589934592 bytes");
    refused(of(u64::MAX), "it unpacks to more than 8589934592 bytes");
}

#[test]
fn what_the_records_of_one_member_may_take_has_a_bound() {
    let value = "x".repeat(15_000);
    let of = |more: &str| {
        Tar::patch("A")
            .pax(&[("SCHILY.xattr.user.a", &value), ("SCHILY.xattr.user.b", more)])
            .file("files/x", b"")
    };
    assert_eq!(index_of(&of("x").gzip()[..]).unwrap().find("x").attributes.len(), 2);
    refused(of(&value), "its names, extended attributes and map of holes take more than 16384 bytes");
    let link = Tar::patch("A").pax(&[("SCHILY.xattr.user.a", "1")]).symlink("files/x", "y");
    refused(link, "member files/x: its extended attribute makes no sense");
}
