//! Floors: made, uploaded, applied, and never gone below by an operator's mistake.

use std::fs::{self, File};
use std::path::PathBuf;

use thimble::patch::archive;
use thimble::patch::make::{make, make_floor};
use thimble::repo::entry::EntryState::{Applied, Available};
use thimble::types::Hash;

use crate::jobs::Bench;
use crate::support::archive::{Tar, metadata};
use crate::support::controller::signed;

const FLOOR: &str = "[floor]\nexpires = \"2027-06-30\"\n";

/// A signed floor, made from patch files as a maker does it.
fn floor(bench: &Bench, id: &str, serial: u32, required: &[PathBuf]) -> PathBuf {
    let dir = bench.scratch.join(format!("{id}-dir"));
    fs::create_dir(&dir).unwrap();
    let text = metadata(id) + FLOOR + &format!("serial = {serial}\n");
    fs::write(dir.join("metadata.toml"), text).unwrap();
    let required: Vec<_> = required.iter().map(PathBuf::as_path).collect();
    let made = make_floor(&dir, Some(&bench.scratch.join(format!("{id}.made"))), false, &required).unwrap();
    signed(&bench.scratch, &format!("{id}.patch"), &fs::read(made.file).unwrap(), &bench.signer)
}

#[test]
fn a_floor_is_made_of_the_patches_that_it_requires() {
    let bench = Bench::new("floor-made");
    let one = bench.patch("P1", "files/a", "nodetypes = [\"worker\", \"storage\"]\n");
    let two = bench.patch("P:2", "files/b", "apply_active_release_only = true\n");
    let made = floor(&bench, "F1", 1, &[one.clone(), two]);
    let floor = archive::metadata(File::open(made).unwrap()).unwrap().floor.unwrap();
    assert_eq!((floor.serial, floor.expires.to_string()), (1, "2027-06-30".to_owned()));
    let [p1, p2] = &floor.require[..] else { panic!("{floor:?}") };
    assert_eq!(p1.id.as_str(), "P1");
    assert_eq!(p1.hash, Hash(*blake3::hash(&fs::read(one).unwrap()).as_bytes()));
    assert_eq!(p1.nodetypes.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(), ["storage", "worker"]);
    assert_eq!((p1.release.as_ref(), p2.nodetypes.len()), (None, 0));
    assert_eq!(p2.release.as_ref().map(|release| release.as_str()), Some("1.0"));
}

#[test]
fn a_floor_has_nothing_but_its_metadata() {
    let bench = Bench::new("floor-files");
    let dir = bench.scratch.join("dir");
    fs::create_dir_all(dir.join("files")).unwrap();
    fs::write(dir.join("metadata.toml"), metadata("F") + FLOOR + "serial = 1\n").unwrap();
    fs::write(dir.join("files/x"), "x").unwrap();
    let said = make(&dir, Some(&bench.scratch.join("F.patch")), false).unwrap_err().to_string();
    assert!(said.contains("it has [floor]") && said.contains("another patch"), "{said}");
    let text = metadata("F") + FLOOR + "serial = 1\n";
    let tar = Tar::default().file("metadata.toml", text.as_bytes()).file("files/x", b"x");
    let patch = signed(&bench.scratch, "F.patch", &tar.gzip(), &bench.signer);
    assert!(bench.controller.upload(&[&patch]).refusal().contains("it cannot have files or scripts"));
    // And a requirement is one of a floor.
    fs::write(dir.join("metadata.toml"), metadata("F")).unwrap();
    let required = bench.patch("P1", "files/a", "");
    let said = make_floor(&dir, Some(&bench.scratch.join("F.patch")), false, &[&required]).unwrap_err();
    assert!(said.to_string().contains("only a floor can have it: add [floor]"), "{said}");
}

#[test]
fn a_floor_needs_a_higher_serial_than_those_that_are_there() {
    let bench = Bench::new("floor-serial");
    bench.controller.upload(&[&floor(&bench, "F5", 5, &[])]).done();
    for (id, serial) in [("F4", 4), ("G5", 5)] {
        let said = bench.controller.upload(&[&floor(&bench, id, serial, &[])]).refusal();
        let expected =
            format!("{id} is a floor with serial {serial}, and F5 has serial 5: give it a higher one");
        assert_eq!(said, expected);
    }
    bench.controller.upload(&[&bench.scratch.join("F5.patch")]).done();
    bench.controller.upload(&[&floor(&bench, "F6", 6, &[])]).done();
    bench.controller.change(thimble::repo::entry::EntryState::Deleted, &["F6"]).done();
    bench.controller.upload(&[&floor(&bench, "G6", 6, &[])]).done();
}

#[test]
fn what_hosts_would_refuse_is_not_applied_or_removed() {
    let bench = Bench::new("floor-rules");
    let controller = &bench.controller;
    let p1 = bench.patch("P1", "files/a", "");
    controller.upload(&[&p1]).done();
    bench.uploaded("P2", "files/b", "supersedes = [\"P1\"]\n");
    controller.upload(&[&floor(&bench, "F1", 1, &[p1])]).done();
    controller.upload(&[&floor(&bench, "F2", 2, &[bench.scratch.join("P2.patch")])]).done();
    let refused = |to, ids: &[&str], words: &str| {
        let said = controller.change(to, ids).refusal();
        assert!(said.contains(words), "{said:?} should say {words:?}");
    };
    refused(Applied, &["F1"], "the floor F1 requires P1");
    controller.change(Applied, &["F1", "P1"]).done();
    refused(Available, &["P1"], "the floor F1 requires P1");
    refused(Available, &["F1"], "F1 is the floor in force (serial 1)");
    refused(Available, &["F1", "P1"], "F1 is the floor in force");
    refused(Applied, &["F2"], "the floor F2 requires P2");
    controller.change(Applied, &["P2"]).done();
    refused(Available, &["P2"], "P1 was superseded");
    controller.change(Available, &["P1"]).done();
    refused(Available, &["P2"], "the floor F1 requires P1");
    controller.change(Applied, &["F2"]).done();
    controller.change(Available, &["F1"]).done();
    refused(Available, &["F2"], "F2 is the floor in force (serial 2)");
}
