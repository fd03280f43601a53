//! A file from another controller that is large enough to be hashed in threads of its own: whole and
//! verified, or not there.

use std::fs;

use thimble::types::Hash;

use crate::fetch::{Pair, here, missing};
use crate::support::sign::signature_path;

/// More than all threads together have in memory.
const LEN: usize = 9 << 20;

/// What became of a fetch.
struct Fetched {
    here: Vec<Hash>,
    missing: Vec<String>,
    /// The bytes that came.
    came: u64,
}

#[test]
fn a_large_file_is_resumed_and_refused_for_any_byte() {
    let (pair, entry) = Pair::with_one("fetch-large", LEN);
    let (hash, whole) = (entry.hash, entry.size_bytes);
    let (fetch, patch) = (pair.path(&hash, "fetch"), pair.path(&hash, "patch"));
    let theirs = pair.bench.scratch.join(format!("state/repo/blobs/{hash}.patch"));
    let good = fs::read(&theirs).unwrap();
    let fetched = |breaks_after| {
        let mut blobs = pair.bench.controller.blobs();
        blobs.breaks_after = breaks_after;
        let reports = pair.other.fetch(1, &mut blobs);
        Fetched { here: here(&reports), missing: missing(&reports), came: blobs.came().0 }
    };

    // Cut in the middle, and resumed: the hashes are those of what was here, and of what came.
    let cut = whole / 2 + 1;
    let broken = fetched(Some(cut));
    assert!(
        broken.here.is_empty() && broken.missing[0].contains("the session broke"),
        "{:?}",
        broken.missing
    );
    assert!(fs::read(&fetch).unwrap() == good[..cut as usize]);
    let resumed = fetched(None);
    assert_eq!((resumed.here, resumed.came), (vec![hash], whole - cut));
    assert!(fs::read(&patch).unwrap() == good);

    // One wrong byte, in what comes or in what is here.
    for at in [0, good.len() / 3, good.len() - 1] {
        fs::remove_file(&patch).unwrap();
        let mut altered = good.clone();
        altered[at] ^= 1;
        fs::write(&theirs, &altered).unwrap();
        let refused = fetched(None);
        assert!(refused.missing[0].contains("does not hold"), "{at}: {:?}", refused.missing);
        assert!(refused.here.is_empty() && !fetch.exists() && !patch.exists(), "{at}");
        fs::write(&theirs, &good).unwrap();
        fs::write(&fetch, &altered[..=at]).unwrap();
        let again = fetched(None);
        let rest = whole - at as u64 - 1;
        assert_eq!((again.here, again.came), (vec![hash], rest + whole), "{at}");
        assert!(fs::read(&patch).unwrap() == good);
    }
}

#[test]
fn a_large_file_that_is_signed_must_be_that_of_the_map() {
    let (pair, entry) = Pair::with_one("fetch-other", LEN);
    let theirs = |end| pair.bench.scratch.join(format!("state/repo/blobs/{}.{end}", entry.hash));
    let mut altered = fs::read(theirs("patch")).unwrap();
    altered[LEN / 2] ^= 1;
    let other = pair.bench.scratch.join("other.patch");
    fs::write(&other, altered).unwrap();
    pair.bench.signer.sign(&other);
    fs::copy(&other, theirs("patch")).unwrap();
    fs::copy(signature_path(&other), theirs("minisig")).unwrap();
    let reports = pair.other.fetch(1, &mut pair.bench.controller.blobs());
    let said = missing(&reports).remove(0);
    assert!(said.contains("its file has another hash than the map says"), "{said}");
    assert!(here(&reports).is_empty() && pair.ends(&entry.hash).is_empty());
}
