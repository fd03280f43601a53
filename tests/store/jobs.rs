//! The store's jobs for an operator (upload, apply, remove, delete, show) and for agents
//! that fetch.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use thimble::job::{RefusalKind, Report};
use thimble::repo::effective::effective_digest;
use thimble::repo::entry::EntryState::{Applied, Available, Deleted};
use thimble::store::{self, Store, StoreError};
use thimble::types::{Digest, Hash, NodeType, PatchId};

use crate::support::Scratch;
use crate::support::archive::{Tar, metadata};
use crate::support::controller::{Controller, signed};
use crate::support::sign::Signer;

/// A controller that trusts a signer, and a directory for making patches.
pub struct Bench {
    pub scratch: Scratch,
    pub signer: Signer,
    pub controller: Controller,
}

impl Bench {
    pub fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let signer = Signer::new(&scratch, "trusted");
        let controller = Controller::new(&scratch.join("state"), &signer.public);
        Self { scratch, signer, controller }
    }

    /// A signed patch with one file and more lines of metadata.
    pub fn patch(&self, id: &str, file: &str, more: &str) -> PathBuf {
        let text = metadata(id) + more;
        let tar = Tar::default().file("metadata.toml", text.as_bytes()).file(file, id.as_bytes());
        signed(&self.scratch, &format!("{id}.patch"), &tar.gzip(), &self.signer)
    }

    /// The same, uploaded to the repository.
    pub fn uploaded(&self, id: &str, file: &str, more: &str) {
        let patch = self.patch(id, file, more);
        self.controller.upload(&[&patch]).done();
    }
}

fn states(
    states: &[(&str, thimble::repo::entry::EntryState)],
) -> Vec<(String, thimble::repo::entry::EntryState)> {
    states.iter().map(|(id, state)| ((*id).to_string(), *state)).collect()
}

#[test]
fn an_uploaded_patch_is_available_also_after_a_restart() {
    let bench = Bench::new("upload");
    let (one, two) = (bench.patch("A", "files/a", ""), bench.patch("B", "files/b", "requires = [\"A\"]"));
    let reports = bench.controller.upload(&[&one, &two]).done();
    assert_eq!(reports.items(), ["A is now available", "B is now available"]);
    let entry = &reports.entries()[1];
    assert_eq!(entry.hash, Hash(*blake3::hash(&fs::read(&two).unwrap()).as_bytes()));
    assert_eq!(entry.size_bytes, fs::metadata(&two).unwrap().len());
    assert_eq!(entry.meta.requires.as_slice(), [PatchId::new("A").unwrap()]);

    let loaded = bench.controller.load().done();
    assert_eq!(loaded.entries(), reports.entries());
    let Report::Store { replica, counter } = loaded.0[0] else { panic!("the store says its name first") };
    assert_eq!((entry.stamp.replica, entry.stamp.counter), (replica, counter));
    assert!(!loaded.0.iter().any(|report| matches!(report, Report::BlobMissing { .. })));
    assert_eq!(bench.controller.files().len(), 2 + 2 * 3, "{:?}", bench.controller.files());
}

#[test]
fn uploading_again_changes_nothing_and_other_content_is_refused_with_both_hashes() {
    let bench = Bench::new("again");
    let patch = bench.patch("A", "files/a", "");
    let hash = bench.controller.upload(&[&patch]).done().entries()[0].hash;
    let before = bench.controller.load().entries();
    assert_eq!(bench.controller.upload(&[&patch]).done().items(), ["A is already in the repository"]);
    let patch = bench.patch("A", "files/other", "");
    let said = bench.controller.upload(&[&patch]).refusal();
    let other = Hash(*blake3::hash(&fs::read(&patch).unwrap()).as_bytes());
    assert!(said.contains(&format!("hash {hash:.16}, offered {other:.16}")), "{said}");
    assert_eq!(bench.controller.load().entries(), before);
    assert_eq!(bench.controller.files().len(), 2 + 3);
}

#[test]
fn a_file_that_does_not_verify_changes_nothing_and_ends_the_upload() {
    let bench = Bench::new("refused");
    let stranger = Signer::new(&bench.scratch, "stranger");
    let [good, last] = [bench.patch("A", "files/a", ""), bench.patch("Z", "files/z", "")];
    let make = |name: &str, patch: &[u8]| signed(&bench.scratch, name, patch, &bench.signer);
    let unsigned = make("unsigned.patch", &Tar::patch("X").gzip());
    fs::write(thimble_signature(&unsigned), "").unwrap();
    let strange = signed(&bench.scratch, "strange.patch", &Tar::patch("X").gzip(), &stranger);
    let legacy = make("legacy.patch", &Tar::patch("X").gzip());
    bench.signer.sign_legacy(&legacy);
    let altered = make("altered.patch", &Tar::patch("X").gzip());
    let mut bytes = fs::read(&altered).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&altered, bytes).unwrap();
    let hostile = make("hostile.patch", &Tar::patch("X").file("files/../etc/shadow", b"").gzip());
    let nameless = make("nameless.patch", &Tar::default().file("files/x", b"").gzip());
    let cases = [
        (unsigned, "unsigned.patch: its signature file is not a minisign signature"),
        (strange, "which is not trusted here"),
        (legacy, "sign again with `minisign -H`"),
        (altered, "altered.patch: the signature of key"),
        (hostile, "hostile.patch: member files/../etc/shadow: `..` is not allowed"),
        (nameless, "it has no metadata.toml"),
    ];
    bench.controller.load().done();
    let files = bench.controller.files();
    for (bad, expected) in &cases {
        let reports = bench.controller.upload(&[bad, &last]);
        let (kind, said) = reports.end().unwrap_err();
        assert_eq!(kind, RefusalKind::Verification, "{said}");
        assert!(said.contains(expected), "{said:?} should say {expected:?}");
        assert_eq!(bench.controller.files(), files, "after {bad:?}");
    }
    // A file before it stays; a file after it is not read.
    let reports = bench.controller.upload(&[&good, &cases[0].0, &last]);
    assert_eq!(reports.items(), ["A is now available"]);
    assert!(reports.end().is_err());
    assert_eq!(bench.controller.states(), states(&[("A", Available)]));
}

fn thimble_signature(patch: &std::path::Path) -> PathBuf {
    crate::support::sign::signature_path(patch)
}

#[test]
fn an_upload_that_closes_a_circle_of_requirements_is_refused() {
    let bench = Bench::new("circle");
    bench.uploaded("A", "files/a", "requires = [\"B\"]");
    bench.uploaded("B", "files/b", "requires = [\"C\"]");
    let files = bench.controller.files();
    let closing = bench.patch("C", "files/c", "requires = [\"A\"]");
    let said = bench.controller.upload(&[&closing]).refusal();
    assert!(
        said.starts_with("C requires A, which requires it, directly or through others: take one"),
        "{said}"
    );
    assert_eq!(bench.controller.files(), files);
    assert_eq!(bench.controller.states(), states(&[("A", Available), ("B", Available)]));
    // Corrected, it goes with the others.
    bench.uploaded("C", "files/c", "");
    bench.controller.change(Applied, &["A", "B", "C"]).done();
}

#[test]
fn a_patch_is_applied_removed_and_deleted() {
    let bench = Bench::new("change");
    let controller = &bench.controller;
    bench.uploaded("A", "files/a", "");
    bench.uploaded("B", "files/b", "requires = [\"A\"]");
    let said = controller.change(Applied, &["B"]).refusal();
    assert!(said.starts_with("B requires A, which is not applied"), "{said}");
    assert!(controller.change(Applied, &["X"]).refusal().starts_with("X is not in the repository"));
    let reports = controller.change(Applied, &["B", "A"]).done();
    assert_eq!(reports.items(), ["A is now applied", "B is now applied"]);
    assert_eq!(controller.change(Applied, &["A"]).done().items(), ["A is already applied"]);
    assert_eq!(controller.states(), states(&[("A", Applied), ("B", Applied)]));
    assert!(controller.change(Available, &["A"]).refusal().starts_with("A is required by B"));
    assert!(controller.change(Deleted, &["B"]).refusal().starts_with("B is applied"));
    assert_eq!(controller.change(Available, &["B"]).done().items(), ["B is no longer applied"]);
    assert_eq!(controller.change(Deleted, &["B"]).done().items(), ["B has been deleted"]);
    assert_eq!(controller.states(), states(&[("A", Applied), ("B", Deleted)]));
    assert_eq!(controller.files().len(), 2 + 3, "the deleted patch's files are gone");
    // A deleted id may be used again.
    bench.uploaded("B", "files/other", "");
    assert_eq!(controller.states(), states(&[("A", Applied), ("B", Available)]));
    assert_eq!(controller.change(Applied, &[]).done().items(), ["B is now applied"]);
    let counters: Vec<u64> = controller.load().entries().iter().map(|entry| entry.stamp.counter).collect();
    assert!(counters.iter().all(|counter| *counter >= 3), "{counters:?}");
}

#[test]
fn unrelated_patches_with_one_path_are_not_applied_together() {
    let bench = Bench::new("collision");
    let controller = &bench.controller;
    bench.uploaded("A", "files/etc/x", "");
    bench.uploaded("B", "files/etc/x", "");
    bench.uploaded("C", "files/etc/x", "requires = [\"MID\"]");
    bench.uploaded("MID", "files/mid", "requires = [\"A\"]");
    bench.uploaded("E", "files/etc/y", "");
    bench.uploaded("W", "files/only", "nodetypes = [\"worker\"]");
    bench.uploaded("S", "files/only", "nodetypes = [\"storage\"]");
    bench.uploaded("R", "files/other", "remove = [\"etc/x\"]");
    let refused = |ids: &[&str], expected: &str| {
        let before = controller.states();
        let said = controller.change(Applied, ids).refusal();
        assert!(said.starts_with(expected), "{said:?} should start with {expected:?}");
        assert_eq!(controller.states(), before);
        said
    };
    let said = refused(&["A", "B"], "A and B share a path and neither requires the other");
    assert!(said.ends_with("The path is /etc/x"), "{said}");
    controller.change(Applied, &["A"]).done();
    refused(&["B"], "A and B share a path");
    refused(&["R"], "A and R share a path");
    controller.change(Applied, &["C", "MID", "E", "W", "S"]).done();
    controller.change(Available, &["C", "MID", "A"]).done();
    controller.change(Applied, &["B"]).done();
    refused(&["A"], "A and B share a path");
    // Without the index, the patch itself is read.
    for file in controller.files().iter().filter(|file| file.ends_with(".index")) {
        fs::write(controller.config.node.state_dir.join("repo").join(file), "").unwrap();
    }
    refused(&["A"], "A and B share a path");
}

#[test]
fn a_missing_or_short_blob_is_named_and_replaced_by_uploading_again() {
    let bench = Bench::new("missing");
    let patch = bench.patch("A", "files/a", "");
    let hash = bench.controller.upload(&[&patch]).done().entries()[0].hash;
    let missing = || {
        let reports = bench.controller.load().done();
        reports
            .0
            .iter()
            .any(|report| matches!(report, Report::BlobMissing { hash: other, .. } if *other == hash))
    };
    let blob = |end: &str| bench.scratch.join(format!("state/repo/blobs/{hash}.{end}"));
    assert!(!missing());
    type Harm = fn(&std::path::Path);
    let harms: [(&str, Harm); 3] = [
        ("patch", |path| fs::remove_file(path).unwrap()),
        ("patch", |path| fs::write(path, "short").unwrap()),
        ("minisig", |path| fs::remove_file(path).unwrap()),
    ];
    for (end, harm) in harms {
        harm(&blob(end));
        assert!(missing(), "{end}");
        assert_eq!(bench.controller.upload(&[&patch]).done().items(), ["A is already in the repository"]);
        assert!(!missing(), "{end}");
    }
}

#[test]
fn agents_fetch_the_set_by_its_digest_and_blobs_by_their_hash() {
    let bench = Bench::new("serve");
    let state = &bench.controller.config.node.state_dir;
    let kind = |text| NodeType::new(text).unwrap();
    let none = store::manifest(state, &Digest([0; 32]), &kind("worker")).unwrap_err();
    assert!(none.contains("no repository yet"), "{none}");
    bench.uploaded("B", "files/b", "");
    bench.uploaded("A", "files/a", "requires = [\"B\"]");
    bench.uploaded("C", "files/c", "nodetypes = [\"storage\"]");
    bench.controller.change(Applied, &[]).done();
    let digest = |nodetype: &NodeType| {
        let store = Store::open(state).unwrap();
        effective_digest(&store.map(&mut Vec::new()), nodetype)
    };
    let (worker, storage) = (kind("worker"), kind("storage"));
    let ids = |nodetype: &NodeType| -> Vec<String> {
        let patches = store::manifest(state, &digest(nodetype), nodetype).unwrap();
        patches.iter().map(|patch| patch.id.to_string()).collect()
    };
    assert_eq!(ids(&worker), ["B", "A"]);
    assert_eq!(ids(&storage), ["B", "A", "C"]);
    let said = store::manifest(state, &digest(&worker), &storage).unwrap_err();
    assert!(said.contains("the repository has changed since"), "{said}");

    let patch = &store::manifest(state, &digest(&worker), &worker).unwrap()[0];
    let mut blob = store::blob(state, &patch.hash).unwrap();
    let mut bytes = Vec::new();
    blob.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(Hash(*blake3::hash(&bytes).as_bytes()), patch.hash);
    assert_eq!((bytes.len() as u64, patch.size_bytes), (blob.size_bytes, blob.size_bytes));
    assert_eq!(blob.signature, fs::read(thimble_signature(&bench.scratch.join("B.patch"))).unwrap());
    let said = store::blob(state, &Hash([1; 32])).unwrap_err();
    assert!(said.contains("does not have the patch file 0101010101010101"), "{said}");
}

#[test]
fn show_prints_the_metadata_of_the_patch() {
    let bench = Bench::new("show");
    let more =
        "description = \"Line one\\nline two\"\nwarnings = \"\\\"Mind\\\"\"\nrequires = [\"B\", \"C\"]\n";
    bench.uploaded("A", "files/etc/a", more);
    let show = |ids: &[&str], json| {
        let ids: Vec<PatchId> = ids.iter().map(|id| PatchId::new(id).unwrap()).collect();
        let mut out = Vec::new();
        store::show(&bench.controller.config, &ids, json, &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    let expected = "\
A:
    Release:                   1.0
    Repo State:                Available
    Status:                    REL
    Unremovable:               N
    RR:                        N
    Apply Active Release Only: N
    Summary:                   Patch A
    Description:               Line one
                               line two
    Warnings:                  \"Mind\"
    Requires:                  B
                               C
    Contents:                  /etc/a

";
    assert_eq!(show(&["A"], false).unwrap(), expected);
    let json = show(&["A"], true).unwrap();
    assert!(json.starts_with("{\"patches\":[{\"id\":\"A\",\"release\":\"1.0\""), "{json}");
    assert!(json.contains("\"warnings\":\"\\\"Mind\\\"\"") && json.contains("\"requires\":[\"B\",\"C\"]"));
    assert!(show(&["A", "X"], false).unwrap_err().reason.starts_with("X is not in the repository"));
}

#[test]
fn a_store_that_cannot_be_used_is_left_as_it_is_and_the_error_says_what_to_do() {
    let bench = Bench::new("trouble");
    let state = bench.controller.config.node.state_dir.clone();
    bench.uploaded("A", "files/a", "");
    let held = Store::open(&state).unwrap();
    let said = bench.controller.load().refusal();
    assert!(said.contains("in use by another thimble"), "{said}");
    drop(held);

    let map = state.join("repo/map");
    let good = fs::read(&map).unwrap();
    let mut newer = good.clone();
    newer[8] = 5;
    let mut damaged = good.clone();
    damaged[40] ^= 1;
    for (bytes, expected) in [(newer, "a later thimble (format 5;"), (damaged, "is damaged and is left")] {
        fs::write(&map, &bytes).unwrap();
        let patch = bench.patch("B", "files/b", "");
        for said in [bench.controller.load().refusal(), bench.controller.upload(&[&patch]).refusal()] {
            assert!(said.contains(expected), "{said:?} should say {expected:?}");
        }
        assert_eq!(fs::read(&map).unwrap(), bytes);
    }
    fs::remove_file(&map).unwrap();
    assert!(bench.controller.load().refusal().contains("but the blobs that it named are there"));
    fs::write(&map, &good).unwrap();
    bench.controller.load().done();

    fs::write(bench.scratch.join("file"), "").unwrap();
    let error = Store::open(&bench.scratch.join("file/state")).unwrap_err();
    assert!(error.to_string().contains("not a directory"), "{error}");
    assert!(matches!(Store::open(&state), Ok(store) if store.entries().len() == 1));
    assert!(matches!(Store::open(&bench.scratch.join("file")), Err(StoreError::Io { .. })));
}
