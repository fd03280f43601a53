//! Fetched files that get their names together: which wait for which, and what one that fails
//! does to the others.

use std::fs;
use std::path::PathBuf;

use thimble::job::Report;
use thimble::job::{BlobSource, FetchError, Fetched, Sink};
use thimble::repo::entry::Entry;
use thimble::repo::entry::EntryState::Applied;
use thimble::types::Hash;

use crate::jobs::Bench;
use crate::support::archive::Tar;
use crate::support::controller::{Controller, Reports, TheirBlobs, signed};

/// A controller that has patches, and another that knows of them.
struct Pair {
    bench: Bench,
    other: Controller,
}

impl Pair {
    /// The patches have these ids and files of so many bytes; the first one is applied.
    fn new(name: &str, patches: &[(&str, usize)]) -> (Self, Vec<Entry>) {
        let bench = Bench::new(name);
        let other = Controller::new(&bench.scratch.join("other"), &bench.signer.public);
        for (id, len) in patches {
            let mut noise = vec![0; *len];
            blake3::Hasher::new().update(id.as_bytes()).finalize_xof().fill(&mut noise);
            let patch = Tar::patch(id).file(&format!("files/{id}"), &noise).gzip();
            let patch = signed(&bench.scratch, &format!("{id}.patch"), &patch, &bench.signer);
            bench.controller.upload(&[&patch]).done();
        }
        bench.controller.change(Applied, &[patches[0].0]).done();
        let pulled = other.pull(1, &mut bench.controller.map("c-1")).done().entries();
        let of =
            |(id, _): &(&str, usize)| pulled.iter().find(|entry| entry.id.as_str() == *id).unwrap().clone();
        (Self { bench, other }, patches.iter().map(of).collect())
    }

    fn path(&self, entry: &Entry, end: &str) -> PathBuf {
        self.bench.scratch.join(format!("other/repo/blobs/{}.{end}", entry.hash))
    }

    fn fetch(&self, source: &mut dyn BlobSource) -> Reports {
        let mut reports = Reports::default();
        let peer = thimble::types::NodeId(1);
        thimble::store::fetch_blobs(&self.other.config, peer, source, &mut reports).unwrap();
        reports
    }
}

fn here(reports: &Reports) -> Vec<Hash> {
    let hash = |report: &Report| if let Report::BlobHere { hash } = report { Some(*hash) } else { None };
    reports.0.iter().filter_map(hash).collect()
}

/// The reported reasons for missing files.
fn missing(reports: &Reports) -> Vec<(Hash, String)> {
    let of = |report: &Report| match report {
        Report::BlobMissing { hash, reason } => Some((*hash, reason.to_string())),
        _ => None,
    };
    reports.0.iter().filter_map(of).collect()
}

/// Looks at the disk before the bytes of a file come.
struct Watched<'a> {
    source: TheirBlobs,
    look: &'a mut dyn FnMut(&Hash),
}

impl BlobSource for Watched<'_> {
    fn blob(&mut self, hash: &Hash, offset: u64, sink: &mut Sink<'_>) -> Result<Fetched, FetchError> {
        if offset == 0 {
            (self.look)(hash);
        }
        self.source.blob(hash, offset, sink)
    }
}

#[test]
fn what_is_wanted_or_is_here_waits_neither_for_the_others_nor_for_a_large_file() {
    let patches = [("WANTED", 500), ("A", 500), ("B", 500), ("LARGE", 600_000), ("Z", 500)];
    let (pair, entries) = Pair::new("batch-order", &patches);
    let mut held = Vec::new();
    let mut look = |hash: &Hash| {
        let at = entries.iter().position(|entry| entry.hash == *hash).unwrap();
        let here = entries.iter().filter(|entry| pair.path(entry, "patch").exists());
        held.push((patches[at].0, here.map(|entry| entry.id.to_string()).collect::<Vec<_>>()));
    };
    let reports = pair.fetch(&mut Watched { source: pair.bench.controller.blobs(), look: &mut look }).done();
    assert_eq!(here(&reports).len(), patches.len());
    let held_before = |id: &str| held.iter().find(|(one, _)| *one == id).unwrap().1.clone();
    assert_eq!(held_before("A"), ["WANTED"]);
    assert_eq!(held_before("LARGE"), ["WANTED", "A", "B"]);
    assert_eq!(held_before("Z"), ["WANTED", "A", "B", "LARGE"]);
}

#[test]
fn a_file_that_gets_no_name_does_not_keep_the_others_from_theirs() {
    let patches = [("A", 500), ("B", 500), ("C", 500), ("D", 500)];
    for end in ["minisig", "patch"] {
        let (pair, entries) = Pair::new(&format!("batch-{end}"), &patches);
        // A rename does not replace a directory.
        let obstacle = pair.path(&entries[2], end);
        fs::create_dir(&obstacle).unwrap();
        let reports = pair.fetch(&mut pair.bench.controller.blobs()).done();
        let rest = [0, 1, 3].map(|at: usize| entries[at].hash);
        assert_eq!(here(&reports), rest);
        let [(hash, why)] = &missing(&reports)[..] else { panic!("{:?}", reports.0) };
        assert_eq!(*hash, entries[2].hash);
        assert!(why.starts_with("C: ") && why.contains(&obstacle.display().to_string()), "{why}");
        assert!(!pair.path(&entries[2], "fetch.unfinished").exists());
        fs::remove_dir(&obstacle).unwrap();
        let mut source = pair.bench.controller.blobs();
        assert_eq!(here(&pair.fetch(&mut source).done()), [entries[2].hash]);
        assert_eq!(source.came().0, 0, "its bytes had come");
    }
}

#[test]
fn what_has_come_when_a_session_breaks_gets_its_name_first() {
    let patches = [("A", 500), ("B", 500), ("C", 500), ("D", 500)];
    let (pair, entries) = Pair::new("batch-cut", &patches);
    let mut source = pair.bench.controller.blobs();
    source.breaks_after = Some(entries[..3].iter().map(|entry| entry.size_bytes).sum::<u64>() - 1);
    let reports = pair.fetch(&mut source);
    assert!(reports.refusal().starts_with("C of c-1: the session broke"), "{:?}", reports.0);
    assert_eq!(here(&reports), [entries[0].hash, entries[1].hash]);
    assert_eq!(missing(&reports).len(), 1);
    let mut source = pair.bench.controller.blobs();
    assert_eq!(here(&pair.fetch(&mut source).done()), [entries[2].hash, entries[3].hash]);
    assert_eq!(source.came(), (1 + entries[3].size_bytes, 2));
}

#[test]
fn a_file_that_an_upload_brings_meanwhile_is_here() {
    let patches = [("A", 500), ("B", 500)];
    let (pair, entries) = Pair::new("batch-upload", &patches);
    let file = pair.bench.scratch.join("B.patch");
    let uploading = Controller { config: pair.other.config.clone() };
    let mut look = |hash: &Hash| {
        if *hash == entries[1].hash {
            uploading.upload(&[&file]).done();
        }
    };
    let reports = pair.fetch(&mut Watched { source: pair.bench.controller.blobs(), look: &mut look }).done();
    assert_eq!(here(&reports), entries.iter().map(|entry| entry.hash).collect::<Vec<_>>());
    assert!(missing(&reports).is_empty());
    let files = pair.other.files();
    assert_eq!(files.iter().filter(|name| name.starts_with("blobs/")).count(), 2 * 3, "{files:?}");
}
