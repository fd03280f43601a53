//! Patch files from another controller: whole and verified, or not there.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;

use thimble::job::Report;
use thimble::repo::entry::Entry;
use thimble::repo::entry::EntryState::{Applied, Deleted};
use thimble::store::{self, Offered};
use thimble::types::Hash;

use crate::jobs::Bench;
use crate::support::archive::Tar;
use crate::support::controller::{Controller, Reports, signed};
use crate::support::sign::{Signer, signature_path};

/// Two controllers that trust the same signer.
pub struct Pair {
    pub bench: Bench,
    pub other: Controller,
}

impl Pair {
    fn new(name: &str) -> Self {
        let bench = Bench::new(name);
        let other = Controller::new(&bench.scratch.join("other"), &bench.signer.public);
        Self { bench, other }
    }

    /// A pair whose first controller has one applied patch of some size, which the second
    /// knows of.
    pub fn with_one(name: &str, len: usize) -> (Self, Entry) {
        let pair = Self::new(name);
        pair.upload("A", len);
        pair.bench.controller.change(Applied, &["A"]).done();
        let entry = pair.pull().entries().remove(0);
        (pair, entry)
    }

    pub fn upload(&self, id: &str, len: usize) {
        let patch = Tar::patch(id).file("files/x", &noise(id, len)).gzip();
        let patch = signed(&self.bench.scratch, &format!("{id}.patch"), &patch, &self.bench.signer);
        self.bench.controller.upload(&[&patch]).done();
    }

    pub fn pull(&self) -> Reports {
        self.other.pull(1, &mut self.bench.controller.map("c-1")).done()
    }

    pub fn path(&self, hash: &Hash, end: &str) -> PathBuf {
        self.bench.scratch.join(format!("other/repo/blobs/{hash}.{end}"))
    }

    /// The files of a blob at the second controller, by their ends.
    pub fn ends(&self, hash: &Hash) -> Vec<&'static str> {
        ["fetch", "index", "minisig", "patch"]
            .into_iter()
            .filter(|end| self.path(hash, end).exists())
            .collect()
    }
}

/// Bytes that do not compress.
fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut noise = vec![0; len];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut noise);
    noise
}

const WHOLE: [&str; 3] = ["index", "minisig", "patch"];

/// The reported reasons for missing blobs.
pub fn missing(reports: &Reports) -> Vec<String> {
    let reason = |report: &Report| match report {
        Report::BlobMissing { reason, .. } => Some(reason.to_string()),
        _ => None,
    };
    reports.0.iter().filter_map(reason).collect()
}

pub fn here(reports: &Reports) -> Vec<Hash> {
    let hash = |report: &Report| match report {
        Report::BlobHere { hash } => Some(*hash),
        _ => None,
    };
    reports.0.iter().filter_map(hash).collect()
}

#[test]
fn missing_files_are_fetched_wanted_ones_first_and_served_from_then_on() {
    let pair = Pair::new("fetch");
    for id in ["A", "B", "C", "D"] {
        pair.upload(id, 5_000);
    }
    pair.bench.controller.change(Applied, &["C"]).done();
    pair.bench.controller.change(Deleted, &["B"]).done();
    let entries = pair.pull().entries();
    let hash = |id: &str| entries.iter().find(|entry| entry.id.as_str() == id).unwrap().hash;
    let mut blobs = pair.bench.controller.blobs();
    let reports = pair.other.fetch(1, &mut blobs).done();
    assert_eq!(here(&reports), [hash("C"), hash("A"), hash("D")]);
    assert!(missing(&pair.other.load()).is_empty());
    for id in ["A", "C", "D"] {
        assert_eq!(pair.ends(&hash(id)), WHOLE);
        let name = pair.bench.scratch.join(format!("{id}.patch"));
        assert_eq!(fs::read(pair.path(&hash(id), "patch")).unwrap(), fs::read(&name).unwrap());
    }
    // The index is the same as an upload's: shared paths are known.
    assert!(pair.other.change(Applied, &["A"]).refusal().contains("share a path"));
    assert_eq!(pair.other.fetch(1, &mut blobs).done().0.len(), 1, "nothing is left to fetch");
}

#[test]
fn a_file_signed_by_an_untrusted_key_is_not_transferred_and_the_key_is_named() {
    let pair = Pair::new("fetch-stranger");
    pair.upload("GOOD", 3_000);
    let stranger = Signer::new(&pair.bench.scratch, "stranger");
    let patch = Tar::patch("STRANGE").file("files/s", &noise("s", 9_000)).gzip();
    let patch = signed(&pair.bench.scratch, "strange.patch", &patch, &stranger);
    let mut trusting = pair.bench.controller.config.clone();
    trusting.security.trusted_keys.push(stranger.public.clone());
    let trusting = Controller { config: trusting };
    trusting.upload(&[&patch]).done();
    trusting.change(Applied, &["STRANGE"]).done();
    pair.pull();
    let mut blobs = pair.bench.controller.blobs();
    for _ in 0..2 {
        let reports = pair.other.fetch(1, &mut blobs).done();
        let [why] = &missing(&reports)[..] else { panic!("{:?}", reports.0) };
        assert!(
            why.starts_with("STRANGE of c-1: it is signed with the key ") && why.contains("not trusted here")
        );
    }
    let good = fs::metadata(pair.bench.scratch.join("GOOD.patch")).unwrap().len();
    assert_eq!(blobs.came(), (good, 1), "of the other file no byte came");
    assert_eq!(missing(&pair.other.load()).len(), 1, "it stays named as missing");
    assert_eq!(pair.other.states().len(), 2, "the entries agree all the same");
}

#[test]
fn a_transfer_whose_session_breaks_is_resumed() {
    let (pair, entry) = Pair::with_one("fetch-cut", 600);
    let (whole, hash) = (entry.size_bytes, entry.hash);
    let bytes = fs::read(pair.bench.scratch.join("A.patch")).unwrap();
    for cut in [0, 1, whole / 2, whole - 1] {
        let mut blobs = pair.bench.controller.blobs();
        blobs.breaks_after = Some(cut);
        let reports = pair.other.fetch(1, &mut blobs);
        let said = reports.refusal();
        let expected = format!("A of c-1: the session broke at byte {cut} of {whole} (connection reset)");
        assert!(said.starts_with(&expected), "{said:?} should say {expected:?}");
        assert_eq!(missing(&reports), [said]);
        assert_eq!(pair.ends(&hash), ["fetch"], "nothing partial is visible");
        assert_eq!(fs::read(pair.path(&hash, "fetch")).unwrap(), bytes[..usize::try_from(cut).unwrap()]);
        // A controller that starts again keeps the bytes that have arrived.
        assert_eq!(missing(&pair.other.load()).len(), 1);
        let mut blobs = pair.bench.controller.blobs();
        assert_eq!(here(&pair.other.fetch(1, &mut blobs).done()), [hash]);
        assert_eq!(blobs.came(), (whole - cut, 1), "no byte came twice");
        assert_eq!(pair.ends(&hash), WHOLE);
        assert_eq!(fs::read(pair.path(&hash, "patch")).unwrap(), bytes);
        for end in WHOLE {
            fs::remove_file(pair.path(&hash, end)).unwrap();
        }
    }
}

#[test]
fn cut_at_every_byte_a_file_is_whole_in_the_end_and_no_byte_is_sent_twice() {
    let (pair, entry) = Pair::with_one("fetch-cuts", 300);
    let bytes = fs::read(pair.bench.scratch.join("A.patch")).unwrap();
    for cut in 1..bytes.len() {
        let mut blobs = pair.bench.controller.blobs();
        blobs.breaks_after = Some(1);
        let reports = pair.other.fetch(1, &mut blobs);
        assert!(reports.end().is_err(), "{cut}: {:?}", reports.0);
        assert_eq!(blobs.came(), (1, 1));
        assert_eq!(fs::read(pair.path(&entry.hash, "fetch")).unwrap(), bytes[..cut]);
        assert_eq!(pair.ends(&entry.hash), ["fetch"]);
    }
    let mut blobs = pair.bench.controller.blobs();
    assert_eq!(here(&pair.other.fetch(1, &mut blobs).done()), [entry.hash]);
    assert_eq!((blobs.came(), pair.ends(&entry.hash)), ((1, 1), WHOLE.to_vec()));
}

#[test]
fn a_damaged_part_is_dropped_and_the_file_is_fetched_from_its_first_byte() {
    let (pair, entry) = Pair::with_one("fetch-poison", 10_000);
    let (whole, hash) = (entry.size_bytes, entry.hash);
    let bytes = fs::read(pair.bench.scratch.join("A.patch")).unwrap();
    for len in [1, 5_000, bytes.len()] {
        let mut prefix = bytes[..len].to_vec();
        *prefix.last_mut().unwrap() ^= 1;
        fs::write(pair.path(&hash, "fetch"), prefix).unwrap();
        let mut blobs = pair.bench.controller.blobs();
        assert_eq!(here(&pair.other.fetch(1, &mut blobs).done()), [hash], "poisoned up to {len}");
        let rest = whole - len as u64;
        assert_eq!(blobs.came(), (rest + whole, if rest == 0 { 1 } else { 2 }));
        assert_eq!(fs::read(pair.path(&hash, "patch")).unwrap(), bytes);
        fs::remove_file(pair.path(&hash, "patch")).unwrap();
    }
    // A part that is longer than the file is dropped as well.
    fs::write(pair.path(&hash, "fetch"), [&bytes[..], b"x"].concat()).unwrap();
    let mut blobs = pair.bench.controller.blobs();
    assert_eq!(here(&pair.other.fetch(1, &mut blobs).done()), [hash]);
    assert_eq!(blobs.came(), (whole, 1));
}

#[test]
fn a_file_that_does_not_match_the_map_is_reported_and_removed() {
    let (pair, entry) = Pair::with_one("fetch-altered", 4_000);
    let theirs = pair.bench.scratch.join(format!("state/repo/blobs/{}.patch", entry.hash));
    let good = fs::read(&theirs).unwrap();
    let mut altered = good.clone();
    altered[2_000] ^= 1;
    let longer = [&good[..], b"x"].concat();
    let why = |bytes: &[u8]| {
        fs::write(&theirs, bytes).unwrap();
        let mut blobs = pair.bench.controller.blobs();
        let reports = pair.other.fetch(1, &mut blobs);
        assert!(here(&reports).is_empty());
        (missing(&reports).remove(0), reports.end().is_ok(), pair.ends(&entry.hash))
    };
    let (said, is_done, left) = why(&altered);
    assert!(said.starts_with("A of c-1: the signature of key ") && said.contains("does not hold"), "{said}");
    assert_eq!((is_done, left.len()), (true, 0));
    let (said, is_done, left) = why(&good[..1_000]);
    assert_eq!(
        (said.as_str(), is_done, left.len()),
        ("A of c-1: The file is shorter than the requested offset.", true, 0)
    );
    let (said, is_done, left) = why(&longer);
    assert_eq!((said.as_str(), is_done), ("A of c-1: its file is longer than the map says", false));
    assert!(left.is_empty());
    fs::remove_file(&theirs).unwrap();
    let mut blobs = pair.bench.controller.blobs();
    let said = missing(&pair.other.fetch(1, &mut blobs).done()).remove(0);
    assert!(said.starts_with("A of c-1: the controller does not have the patch file"), "{said}");
}

#[test]
fn a_patch_that_is_deleted_while_its_file_is_fetched_gets_no_file() {
    let (pair, entry) = Pair::with_one("fetch-deleted", 3_000);
    let mut deleted = pair.bench.controller.map("c-1");
    deleted.entries[0].state = Deleted;
    deleted.entries[0].stamp.counter += 1;
    let other = Controller { config: pair.other.config.clone() };
    let mut blobs = pair.bench.controller.blobs();
    // The store's lock is free while bytes arrive.
    blobs.meanwhile = Some(Box::new(move || drop(other.pull(1, &mut deleted).done())));
    let reports = pair.other.fetch(1, &mut blobs).done();
    assert_eq!(reports.0.len(), 1, "{:?}", reports.0);
    assert!(blobs.came().0 > 0 && pair.ends(&entry.hash).is_empty());
}

#[test]
fn an_upload_does_not_hold_the_lock_while_its_bytes_arrive() {
    let pair = Pair::new("slow-upload");
    pair.upload("A", 3_000);
    let patch = pair.bench.scratch.join("A.patch");
    let bytes = fs::read(&patch).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let files = vec![Offered {
        name: "A.patch".to_owned(),
        patch: File::from(OwnedFd::from(reader)),
        signature: File::open(signature_path(&patch)).unwrap(),
    }];
    let config = pair.other.config.clone();
    let uploading = thread::spawn(move || {
        let mut reports = Reports::default();
        store::upload(&config, files, false, &mut reports).unwrap();
        reports
    });
    writer.write_all(&bytes[..1_000]).unwrap();
    pair.pull();
    let mut blobs = pair.bench.controller.blobs();
    assert_eq!(here(&pair.other.fetch(1, &mut blobs).done()).len(), 1);
    writer.write_all(&bytes[1_000..]).unwrap();
    drop(writer);
    let reports = uploading.join().unwrap().done();
    assert_eq!(reports.items(), ["A is already in the repository"]);
}
