//! Floors: made, uploaded, applied, and never gone below by an operator's mistake.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use thimble::job::Report;
use thimble::patch::archive;
use thimble::patch::make::{Made, MakeError, MakeOptions, make, make_with};
use thimble::repo::entry::EntryState::{Applied, Available, Deleted};
use thimble::store;
use thimble::types::{Hash, Name, PatchId, Text};

use crate::jobs::Bench;
use crate::support::archive::{Tar, metadata};
use crate::support::controller::{Controller, Reports, signed};

const FLOOR: &str = "[floor]\nexpires = \"2020-02-29\"\n";

/// A signed floor, made from patch files as a maker does it.
fn make_floor(dir: &Path, out: &Path, required: &[&Path]) -> Result<Made, MakeError> {
    make_with(dir, &MakeOptions { out: Some(out), floor: required, ..MakeOptions::default() })
}

fn floor(bench: &Bench, id: &str, serial: u32, required: &[PathBuf]) -> PathBuf {
    let dir = bench.scratch.join(format!("{id}-dir"));
    fs::create_dir(&dir).unwrap();
    let text = metadata(id) + FLOOR + &format!("serial = {serial}\n");
    fs::write(dir.join("metadata.toml"), text).unwrap();
    let required: Vec<_> = required.iter().map(PathBuf::as_path).collect();
    let made = make_floor(&dir, &bench.scratch.join(format!("{id}.made")), &required).unwrap();
    signed(&bench.scratch, &format!("{id}.patch"), &fs::read(made.file).unwrap(), &bench.signer)
}

#[test]
fn a_floor_is_made_of_the_patches_that_it_requires() {
    let bench = Bench::new("floor-made");
    let one = bench.patch("P1", "files/a", "nodetypes = [\"worker\", \"storage\"]\n");
    let two = bench.patch("P:2", "files/b", "apply_active_release_only = true\n");
    let made = floor(&bench, "F1", 1, &[one.clone(), two]);
    let floor = archive::metadata(File::open(made).unwrap()).unwrap().floor.unwrap();
    assert_eq!((floor.serial, floor.expires.to_string()), (1, "2020-02-29".to_owned()));
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
    let said = make_floor(&dir, &bench.scratch.join("F.patch"), &[&required]).unwrap_err();
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
    bench.controller.change(Deleted, &["F6"]).done();
    bench.controller.upload(&[&floor(&bench, "G6", 6, &[])]).done();
}

/// Two patches that supersede P1, of which P2 requires it, and the floor F1, which does too.
fn with_superseded(name: &str) -> Bench {
    let bench = Bench::new(name);
    let controller = &bench.controller;
    let p1 = bench.patch("P1", "files/a", "");
    controller.upload(&[&p1]).done();
    bench.uploaded("P2", "files/b", "supersedes = [\"P1\"]\nrequires = [\"P1\"]\n");
    bench.uploaded("P3", "files/c", "supersedes = [\"P1\"]\n");
    controller.upload(&[&floor(&bench, "F1", 1, &[p1])]).done();
    bench
}

#[test]
fn what_hosts_would_refuse_is_not_applied_or_removed() {
    let bench = with_superseded("floor-rules");
    let controller = &bench.controller;
    controller.upload(&[&floor(&bench, "F2", 2, &[bench.scratch.join("P2.patch")])]).done();
    let refused = |to, ids: &[&str], words: &str| {
        let said = controller.change(to, ids).refusal();
        assert!(said.contains(words), "{said:?} should say {words:?}");
    };
    refused(Applied, &["F1"], "the floor F1 requires P1");
    controller.change(Applied, &["F1", "P1"]).done();
    refused(Available, &["P1"], "the floor F1 requires P1");
    refused(Available, &["F1"], "F1 is the floor in force (serial 1)");
    refused(Available, &["F1"], "or use --below-floor, if no host has the floor");
    refused(Available, &["F1", "P1"], "F1 is the floor in force");
    refused(Applied, &["F2"], "the floor F2 requires P2");
    refused(Applied, &["P3"], "P3 takes the place of P1: remove P1 first, with --below-floor if a floor");
    controller.change(Applied, &["P2"]).done();
    refused(
        Available,
        &["P2"],
        "P2 supersedes P1, which hosts refuse without it: remove both in one command",
    );
    refused(Available, &["P1"], "P1 is required by P2");
    refused(Available, &["P1", "P2"], "the floor F1 requires P1");
    controller.change(Applied, &["F2"]).done();
    controller.change(Available, &["F1"]).done();
    refused(Available, &["F2"], "F2 is the floor in force (serial 2)");
    controller.change_below_floor(Available, &["F2"]).done();
}

/// Each refusal says what leads on, and that does.
#[test]
fn a_refusal_for_a_superseded_patch_says_what_leads_on() {
    let bench = with_superseded("floor-advice");
    let controller = &bench.controller;
    // A patch on top leaves with what it covers.
    controller.change(Applied, &["P1", "P2"]).done();
    let said = controller.change(Available, &["P2"]).refusal();
    assert_eq!(
        said,
        "P2 supersedes P1, which hosts refuse without it: remove both in one command, or neither"
    );
    controller.change(Available, &["P1", "P2"]).done();
    // One in its place comes after it.
    controller.change(Applied, &["F1", "P1"]).done();
    let said = controller.change(Applied, &["P3"]).refusal();
    let first = "P3 takes the place of P1: remove P1 first, with --below-floor if a floor requires it";
    assert_eq!(said, first);
    let said = controller.change(Available, &["P1"]).refusal();
    assert!(said.contains("requires P1") && said.contains("if a patch that supersedes it is next"), "{said}");
    controller.change_below_floor(Available, &["P1"]).done();
    controller.change(Applied, &["P3"]).done();
    // And it does not come back: that P3 is removed does not help.
    let said = controller.change(Applied, &["P1"]).refusal();
    let expected = "P3 takes the place of P1: hosts that had P3 refuse P1, unless a floor allows it; or use \
                    --below-floor, if none had it";
    assert_eq!(said, expected);
}

/// The repository is for every kind of host, known or not.
#[test]
fn a_floor_asks_for_the_patches_of_every_kind_of_host() {
    let bench = Bench::new("floor-kinds");
    let of_storage = bench.patch("P1", "files/a", "nodetypes = [\"storage\"]\n");
    bench.controller.upload(&[&of_storage]).done();
    bench.controller.upload(&[&floor(&bench, "F1", 1, &[of_storage])]).done();
    assert!(bench.controller.change(Applied, &["F1"]).refusal().contains("the floor F1 requires P1"));
    bench.controller.change(Applied, &["F1", "P1"]).done();
}

#[test]
fn a_floor_can_be_replaced_so_it_is_not_unremovable() {
    let bench = Bench::new("floor-stays");
    let dir = bench.scratch.join("dir");
    fs::create_dir(&dir).unwrap();
    let text = metadata("F") + "unremovable = true\n" + FLOOR + "serial = 1\n";
    fs::write(dir.join("metadata.toml"), &text).unwrap();
    let said = make(&dir, Some(&bench.scratch.join("F.patch")), false).unwrap_err().to_string();
    assert!(said.contains("unremovable") && said.contains("a later floor takes its place"), "{said}");
    let tar = Tar::default().file("metadata.toml", text.as_bytes());
    let patch = signed(&bench.scratch, "F.patch", &tar.gzip(), &bench.signer);
    assert!(bench.controller.upload(&[&patch]).refusal().contains("a later floor takes its place"));
}

#[test]
fn show_tells_what_a_floor_requires_and_whether_it_is_old() {
    let bench = Bench::new("floor-show");
    let one = bench.patch("P1", "files/a", "nodetypes = [\"worker\", \"storage\"]\nsupersedes = [\"P0\"]\n");
    let hash = blake3::hash(&fs::read(&one).unwrap()).to_hex().to_string();
    bench.controller.upload(&[&one]).done();
    bench.controller.upload(&[&floor(&bench, "F1", 1, &[one])]).done();
    let show = |id: &str, json| {
        let mut out = Vec::new();
        let ids = [PatchId::new(id).unwrap()];
        store::show(&bench.controller.config, &ids, json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let page = show("F1", false);
    assert!(
        page.contains("    Floor:                     serial 1, expires 2020-02-29, which has passed\n"),
        "{page}"
    );
    let line = format!("    Floor Requires:            P1 (hash {}) on storage, worker\n", &hash[..12]);
    assert!(page.contains(&line), "{page}");
    let document = show("F1", true);
    let expected = format!(
        "\"floor\":{{\"serial\":1,\"expires\":\"2020-02-29\",\"require\":[{{\"id\":\"P1\",\"hash\":\"{hash}\",\
         \"nodetypes\":[\"storage\",\"worker\"],\"release\":null}}],\"allows\":[]}}"
    );
    assert!(document.contains(&expected), "{document}");
    assert!(show("P1", false).contains("    Supersedes:                P0\n"));
    assert!(show("P1", true).contains("\"supersedes\":[\"P0\"],\"floor\":null"));
}

/// Which floors a daemon was told of.
fn told(reports: &Reports) -> Vec<(String, u32, String)> {
    let of = |report: &Report| match report {
        Report::FloorHere { floor, .. } => {
            Some((floor.id.to_string(), floor.serial, floor.expires.to_string()))
        }
        _ => None,
    };
    reports.0.iter().filter_map(of).collect()
}

/// The daemon is told of each floor when its file comes, and at its start, also where the
/// entry came from a controller that says something else of it.
#[test]
fn the_daemon_is_told_of_each_floor_whose_file_is_here() {
    let bench = Bench::new("floor-told");
    bench.uploaded("P1", "files/a", "");
    let expected = [("F1".to_owned(), 1, "2020-02-29".to_owned())];
    assert_eq!(told(&bench.controller.upload(&[&floor(&bench, "F1", 1, &[])]).done()), expected);
    assert_eq!(told(&bench.controller.load().done()), expected);
    let mut map = bench.controller.map("c-1");
    let lie = map.entries.iter_mut().find(|entry| entry.id.as_str() == "F1").unwrap();
    lie.meta.nodetypes.push(Name::new("nobody").unwrap()).unwrap();
    lie.meta.summary = Text::truncated("no floor at all");
    let other = Controller::new(&bench.scratch.join("other"), &bench.signer.public);
    other.pull(1, &mut map).done();
    let reports = other.fetch(1, &mut bench.controller.blobs()).done();
    assert_eq!(told(&reports), expected);
    let entry = reports.entries().into_iter().find(|entry| entry.id.as_str() == "F1").unwrap();
    assert!(entry.meta.nodetypes.is_empty(), "what the signed file says prevails");
    // What its entry says has no say in the rules either.
    other.change(Applied, &["F1"]).done();
    assert!(other.change(Available, &["F1"]).refusal().contains("F1 is the floor in force"));
}
