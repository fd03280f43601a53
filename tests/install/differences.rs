//! Patches whose files travel as differences to those of other patches, or of the base system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use thimble::patch::make::{MakeError, MakeOptions, Travel, make_with};

use crate::model::Content;
use crate::pieces::{Patch, What, file, patch, program, same};
use crate::rig::Rig;

/// Text of some size that no compression makes small, with this line in the middle.
pub fn text(line: &str) -> Vec<u8> {
    let mut state = 7u64;
    let mut noise = || {
        let lines = (0..400).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{state:x}\n")
        });
        lines.collect::<String>()
    };
    format!("{}{line}\n{}", noise(), noise()).into_bytes()
}

/// A directory that a patch is made of.
fn source(rig: &Rig, patch: &Patch) -> PathBuf {
    let dir = rig.root.with_file_name(format!("source-{}", patch.id));
    for piece in &patch.pieces {
        let path = dir.join("files").join(&piece.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match &piece.what {
            What::File(content) => fs::write(&path, content).unwrap(),
            What::Same(of) => {
                fs::hard_link(dir.join("files").join(of), &path).unwrap();
                continue;
            }
            other => panic!("{other:?} is not needed here"),
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(piece.mode)).unwrap();
        let opened = fs::File::options().write(true).open(&path).unwrap();
        opened.set_modified(UNIX_EPOCH + Duration::from_secs(piece.mtime_s)).unwrap();
        // Another build shares its files with this one.
        let shared = dir.with_extension("shared").join(&piece.path);
        fs::create_dir_all(shared.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&shared);
        fs::hard_link(&path, shared).unwrap();
    }
    let requires = format!("requires = {:?}\n", patch.requires);
    fs::write(dir.join("metadata.toml"), crate::support::archive::metadata(&patch.id) + &requires).unwrap();
    dir
}

/// Makes a patch as a difference to others and to a base, and adds it.
#[track_caller]
pub fn add(rig: &mut Rig, patch: Patch, from: &[&str], base: Option<&Path>) -> Travel {
    let made = try_add(rig, patch, from, base);
    made.unwrap_or_else(|error| panic!("{error}"))
}

fn try_add(rig: &mut Rig, patch: Patch, from: &[&str], base: Option<&Path>) -> Result<Travel, MakeError> {
    let dir = source(rig, &patch);
    let out = dir.with_extension("patch");
    let from: Vec<_> = from.iter().map(|id| rig.file_of(id)).collect();
    let from: Vec<_> = from.iter().map(PathBuf::as_path).collect();
    let options = MakeOptions { out: Some(&out), from: &from, base, ..MakeOptions::default() };
    let made = make_with(&dir, &options);
    let beside: Vec<_> = fs::read_dir(out.parent().unwrap()).unwrap().map(|it| it.unwrap().path()).collect();
    let unfinished = |path: &&PathBuf| path.to_str().unwrap().contains(".unfinished");
    assert_eq!(beside.iter().find(unfinished), None, "something is left behind");
    let made = made?;
    rig.add_bytes(&patch.id, &fs::read(&out).unwrap());
    rig.patches.insert(patch.id.clone(), patch);
    Ok(made.travel.expect("it is a difference"))
}

const fn travel(left_out: usize, differences: usize, whole: usize) -> Travel {
    Travel { left_out, differences, whole }
}

/// P1, and P2 as a difference to it. The base's link leads `bin` to `usr/bin`.
fn pair(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    let version = |id: &str| {
        let pieces = [
            program("bin/tool", text(id), 0o755),
            file("etc/app.conf", text(&format!("conf {id}"))),
            file("opt/same", text("both")),
        ];
        patch(id, pieces)
    };
    rig.add(version("P1"));
    let mut second = version("P2").requires("P1");
    second.pieces.push(file("opt/new", text("new")));
    let made = add(&mut rig, second, &["P1"], None);
    assert_eq!(made, travel(1, 2, 1));
    rig
}

fn size(rig: &Rig, id: &str) -> u64 {
    rig.file_of(id).metadata().unwrap().len()
}

/// The file of a patch is not there for hosts.
fn hide(rig: &Rig, id: &str) {
    fs::rename(rig.file_of(id), rig.file_of(id).with_extension("hidden")).unwrap();
}

#[test]
fn a_difference_is_installed_over_what_the_host_has_and_taken_back() {
    need_root!();
    let rig = pair("difference");
    assert!(size(&rig, "P2") < size(&rig, "P1") * 2 / 3, "one new file of three");
    rig.installed(&["P1"]);
    // What it needs is there.
    hide(&rig, "P1");
    rig.becomes(&["P1", "P2"]);
    rig.becomes(&["P1"]);
    rig.becomes(&[]);
}

#[test]
fn a_host_that_has_neither_takes_both_at_once() {
    need_root!();
    let rig = pair("difference-fresh");
    rig.becomes(&["P1", "P2"]);
    assert_eq!(rig.own("fetch"), [""; 0]);
}

#[test]
fn what_was_changed_by_hand_comes_from_the_patch() {
    need_root!();
    let rig = pair("difference-edited");
    rig.installed(&["P1"]);
    rig.edit("usr/bin/tool", "by hand");
    fs::remove_file(rig.root.join("etc/app.conf")).unwrap();
    rig.installed(&["P1", "P2"]);
    assert_eq!(fs::read(rig.root.join("usr/bin/tool")).unwrap(), text("P2"));
    assert_eq!(fs::read(rig.root.join("etc/app.conf")).unwrap(), text("conf P2"));
    assert_eq!(rig.text("usr/bin/tool.thimble-saved"), "by hand");
    assert_eq!(rig.own("fetch"), [""; 0]);
}

#[test]
fn without_the_old_content_anywhere_nothing_is_touched() {
    need_root!();
    let rig = pair("difference-gone");
    rig.installed(&["P1"]);
    rig.edit("usr/bin/tool", "by hand");
    let before = rig.tree();
    hide(&rig, "P1");
    let run = rig.install(&["P1", "P2"]);
    run.assert_ended("Rejected", &["No such file"]);
    assert_eq!(rig.tree(), before);
}

#[test]
fn a_patch_that_the_set_lacks_is_named() {
    need_root!();
    let mut rig = pair("difference-alone");
    let bytes = fs::read(rig.file_of("P2")).unwrap();
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut tar).unwrap();
    // It forgets what it requires: the line becomes a comment.
    let at = tar.windows(8).position(|bytes| bytes == b"requires").unwrap();
    tar[at] = b'#';
    rig.add_bytes("P2", &crate::support::archive::gzip(&tar));
    let run = rig.install(&["P2"]);
    run.assert_ended("Rejected", &["differences to files of P1", "apply that P1 as well"]);
    rig.assert_tree(&[]);
}

#[test]
#[cfg(feature = "proof")]
fn a_power_cut_leaves_one_whole_set() {
    need_root!();
    let rig = pair("difference-killed");
    crate::killed::kill_everywhere(&rig, &["P1"], &["P1", "P2"], |rig| {
        // One old content comes from the file of P1.
        rig.edit("usr/bin/tool", "by hand");
    });
}

#[test]
fn each_of_a_chain_is_a_difference_to_the_one_before() {
    need_root!();
    let mut rig = Rig::new("difference-chain");
    let version = |number: usize| {
        let pieces = [program("bin/tool", text(&"v".repeat(number)), 0o755), file("opt/app", text("all"))];
        patch(&format!("P{number}"), pieces)
    };
    rig.add(version(1));
    let ids: Vec<_> = (1..=5).map(|number| format!("P{number}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    for number in 2..=5 {
        // All that came before: those that have the file as a difference are unpacked of these.
        let next = version(number).requires(ids[number - 2]);
        let made = add(&mut rig, next, &ids[..number - 1], None);
        assert_eq!(made, travel(1, 1, 0));
    }
    for number in 1..=5 {
        rig.installed(&ids[..number]);
        rig.assert_tree(&ids[..number]);
    }
    // From the topmost patch alone its files are not known.
    let alone = patch("P6", [program("bin/tool", text("six"), 0o755)]).requires("P5");
    assert_eq!(add(&mut rig, alone, &["P5"], None), travel(0, 0, 1));
    rig.becomes(&[]);
    // All at once: of each only the file is there.
    rig.installed(&ids);
    rig.assert_tree(&ids);
    rig.edit("usr/bin/tool", "by hand");
    rig.installed(&ids[..4]);
    assert_eq!(fs::read(rig.root.join("usr/bin/tool")).unwrap(), text("vvvv"));
}

#[test]
fn a_base_that_is_no_directory_is_refused() {
    need_root!();
    let mut rig = pair("difference-base");
    for (base, why) in [("nowhere", "No such file"), ("etc", "")] {
        let base = rig.root.join(base);
        let next = patch(&format!("P3{}", why.len()), [file("opt/next", text("next"))]);
        let made = try_add(&mut rig, next, &[], Some(&base));
        match why {
            "" => drop(made.unwrap()),
            why => assert!(made.unwrap_err().to_string().contains(why)),
        }
    }
}

#[test]
fn a_file_of_the_base_must_be_as_it_was() {
    need_root!();
    let mut rig = Rig::new("difference-base");
    let base = rig.root.with_file_name("base");
    for dir in [&base, &rig.root] {
        fs::create_dir_all(dir.join("usr/lib")).unwrap();
        fs::write(dir.join("usr/lib/libapp"), text("base")).unwrap();
    }
    rig.base = rig.tree();
    let first = patch("P1", [file("usr/lib/libapp", text("one"))]);
    assert_eq!(add(&mut rig, first, &[], Some(&base)), travel(0, 1, 0));
    // The base's file is kept, and another difference to it goes over a patch.
    let second = patch("P2", [file("usr/lib/libapp", text("two"))]).requires("P1");
    assert_eq!(add(&mut rig, second, &[], Some(&base)), travel(0, 1, 0));
    rig.becomes(&["P1"]);
    rig.becomes(&["P1", "P2"]);
    rig.becomes(&[]);
    rig.edit("usr/lib/libapp", "by hand");
    let before = rig.tree();
    let run = rig.install(&["P1"]);
    run.assert_ended("Rejected", &["/usr/lib/libapp", "restore the file, or make the patch without --base"]);
    assert_eq!(rig.tree(), before);
}

#[test]
fn a_file_that_has_another_number_in_its_name_is_a_difference_too() {
    need_root!();
    let mut rig = Rig::new("difference-renamed");
    rig.add(patch("P1", [file("opt/modules/6.1.0-50/net.ko", text("50")), file("opt/doc", "short")]));
    let next = patch("P2", [file("opt/modules/6.1.0-57/net.ko", text("57")), file("opt/doc", "tall")]);
    // The short file is smaller whole.
    assert_eq!(add(&mut rig, next.requires("P1"), &["P1"], None), travel(0, 1, 1));
    rig.installed(&["P1"]);
    hide(&rig, "P1");
    rig.becomes(&["P1", "P2"]);
}

#[test]
fn the_names_of_one_file_stay_one() {
    need_root!();
    let mut rig = Rig::new("difference-names");
    let version = |id: &str| {
        let pieces = [
            file("opt/a", text(id)),
            same("opt/b", "opt/a"),
            file("opt/c", text("both")),
            same("opt/d", "opt/c"),
            file("opt/e", text("three")),
            same("opt/f", "opt/e"),
        ];
        patch(id, pieces)
    };
    rig.add(version("P1"));
    let mut next = version("P2").requires("P1");
    // One name more: the file travels with all.
    next.pieces.push(same("opt/g", "opt/e"));
    assert_eq!(add(&mut rig, next, &["P1"], None), travel(2, 2, 0));
    rig.installed(&["P1"]);
    rig.becomes(&["P1", "P2"]);
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&rig.root.join(path).metadata().unwrap());
    for names in [["opt/a", "opt/b"], ["opt/c", "opt/d"], ["opt/e", "opt/f"], ["opt/e", "opt/g"]] {
        assert_eq!(inode(names[0]), inode(names[1]), "{names:?}");
    }
}

#[test]
fn a_patch_is_no_difference_to_one_that_a_host_need_not_have() {
    need_root!();
    let mut rig = pair("difference-required");
    let other = patch("P3", [file("opt/same", text("three"))]);
    let said = try_add(&mut rig, other, &["P1"], None).unwrap_err().to_string();
    assert!(
        said.contains("has P1, which a host of this patch need not have: add \"P1\" to `requires`"),
        "{said}"
    );
    // Through another one of them is enough.
    let third = patch("P3", [file("opt/same", text("three"))]).requires("P2");
    assert_eq!(add(&mut rig, third, &["P2", "P1"], None), travel(0, 1, 0));
    rig.becomes(&["P1", "P2", "P3"]);
}

#[test]
fn a_difference_that_was_damaged_and_signed_installs_nothing() {
    need_root!();
    let mut rig = pair("difference-damaged");
    rig.installed(&["P1"]);
    let before = rig.tree();
    let bytes = fs::read(rig.file_of("P2")).unwrap();
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut tar).unwrap();
    // The last byte of the new content's hash, in the header of the first difference.
    let at = tar.windows(4).position(|bytes| bytes == b"THMD").unwrap();
    tar[at + 71] ^= 1;
    rig.add_bytes("P2", &crate::support::archive::gzip(&tar));
    let run = rig.install(&["P1", "P2"]);
    run.assert_ended("RolledBack", &["its difference does not give the new content"]);
    assert_eq!(rig.tree(), before);
    assert!(before.values().any(|node| node.content == Content::File(text("P1"))));
}
