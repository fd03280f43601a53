//! Entries of a controller that lies: they name a file by its true hash, and say something
//! else about it than its signed metadata.

use std::fs;

use thimble::job::Report;
use thimble::repo::entry::Entry;
use thimble::repo::entry::EntryState::{Applied, Available, Committed, Deleted, Voided};
use thimble::types::{Name, PatchId};

use crate::jobs::Bench;
use crate::support::controller::{Controller, Reports, TheirMap};

/// A controller with one patch, and another that knows nothing yet.
struct Pair {
    bench: Bench,
    other: Controller,
    /// The entry of the patch.
    honest: Entry,
}

impl Pair {
    fn new(name: &str) -> Self {
        let bench = Bench::new(name);
        bench.uploaded("A", "files/a", "nodetypes = [\"worker\"]\n");
        let other = Controller::new(&bench.scratch.join("other"), &bench.signer.public);
        let honest = bench.controller.map("c-1").entries.remove(0);
        Self { bench, other, honest }
    }

    /// What the liar says: the patch is applied, for storage hosts, and never to be removed.
    fn lie(&self) -> Entry {
        let mut lie = self.honest.clone();
        lie.state = Applied;
        lie.stamp.counter += 4;
        lie.stamp.replica ^= 1;
        lie.meta.nodetypes.clear();
        lie.meta.nodetypes.push(Name::new("storage").unwrap()).unwrap();
        lie.meta.unremovable = true;
        lie
    }

    /// Checks that a controller was told of the lie and has the truth, as a later change.
    fn corrected(&self, controller: &Controller, reports: &Reports) {
        let told: Vec<_> = notices(reports);
        let [told] = &told[..] else { panic!("{told:?}") };
        for word in ["the entry of A was wrong in unremovable, nodetypes", "signed file"] {
            assert!(told.contains(word), "{told}");
        }
        let loaded = controller.load().done();
        assert_eq!(notices(&loaded), [""; 0]);
        let entry = loaded.entries().remove(0);
        assert_eq!(entry.meta, self.honest.meta);
        assert!(entry.stamp.counter > self.lie().stamp.counter, "it prevails at the others");
        assert_eq!(entry.state, Applied, "who holds the key may apply a patch");
        assert_eq!(reports.entries().last(), Some(&entry), "the daemon knows it too");
    }
}

fn notices(reports: &Reports) -> Vec<String> {
    let of = |report: &Report| if let Report::Notice(text) = report { Some(text.to_string()) } else { None };
    reports.0.iter().filter_map(of).collect()
}

fn is_whole(reports: &Reports) -> bool {
    reports.0.iter().any(|report| matches!(report, Report::Pulled { is_whole: true, .. }))
}

#[test]
fn a_lie_about_a_file_that_is_here_is_corrected_when_it_is_merged() {
    let pair = Pair::new("lie-merged");
    let controller = &pair.bench.controller;
    let mut map = TheirMap::new("c-9", 0, &[pair.lie()]);
    let reports = controller.pull(9, &mut map).done();
    assert!(!is_whole(&reports), "which is a trouble of that controller");
    assert!(notices(&reports)[0].starts_with("controller c-9: "), "{:?}", reports.0);
    assert_eq!(reports.entries().len(), 1, "the lie is not reported as an entry");
    pair.corrected(controller, &reports);
    let again = controller.pull(9, &mut map).done();
    assert!(is_whole(&again) && notices(&again).is_empty() && again.entries().is_empty(), "it is old now");
}

#[test]
fn a_lie_about_a_file_that_comes_later_is_corrected_when_it_comes() {
    let pair = Pair::new("lie-fetched");
    pair.other.pull(9, &mut TheirMap::new("c-9", 0, &[pair.lie()])).done();
    assert_eq!(pair.other.load().done().entries(), [pair.lie()], "nothing to compare it with");
    let reports = pair.other.fetch(1, &mut pair.bench.controller.blobs()).done();
    assert!(reports.0.iter().any(|report| matches!(report, Report::BlobHere { .. })));
    pair.corrected(&pair.other, &reports);
}

#[test]
fn a_lie_about_a_file_that_is_uploaded_later_is_corrected_then() {
    let pair = Pair::new("lie-uploaded");
    pair.other.pull(9, &mut TheirMap::new("c-9", 0, &[pair.lie()])).done();
    let reports = pair.other.upload(&[&pair.bench.scratch.join("A.patch")]).done();
    assert_eq!(reports.items(), ["A is already in the repository"]);
    pair.corrected(&pair.other, &reports);
}

#[test]
fn a_lie_that_was_believed_is_corrected_at_the_start() {
    let pair = Pair::new("lie-loaded");
    pair.other.pull(9, &mut TheirMap::new("c-9", 0, &[pair.lie()])).done();
    let of = |state: &str, end: &str| {
        pair.bench.scratch.join(format!("{state}/repo/blobs/{}.{end}", pair.honest.hash))
    };
    let ours = pair.bench.controller.config.node.state_dir.file_name().unwrap().to_str().unwrap().to_owned();
    for end in ["patch", "minisig"] {
        fs::copy(of(&ours, end), of("other", end)).unwrap();
    }
    let reports = pair.other.load().done();
    pair.corrected(&pair.other, &reports);
}

#[test]
fn an_entry_that_names_the_file_of_another_patch_is_refused_by_name() {
    let pair = Pair::new("lie-other");
    let mut lie = pair.lie();
    lie.id = PatchId::new("B").unwrap();
    // A floor of one that lies is not followed either.
    let floor = pair.honest.stamp.counter + 1;
    let reports =
        pair.bench.controller.pull(9, &mut TheirMap::new("c-9", floor, &[lie.clone(), pair.honest.clone()]));
    let reports = reports.done();
    assert!(!is_whole(&reports) && reports.entries().is_empty());
    assert_eq!(
        notices(&reports),
        ["B of controller c-9 is not taken: the file that it names is that of A; look at that controller"]
    );
    assert_eq!(pair.bench.controller.states(), [("A".to_owned(), Available)]);
    // Where the file is not here, it is refused when it comes.
    pair.other.pull(9, &mut TheirMap::new("c-9", 0, &[lie])).done();
    let reports = pair.other.fetch(9, &mut pair.bench.controller.blobs()).done();
    let missing = reports.0.iter().find_map(|report| match report {
        Report::BlobMissing { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    assert_eq!(missing.unwrap(), "B of c-9: the file that it names is that of A");
}

#[test]
fn a_committed_entry_whose_file_nobody_has_can_be_deleted() {
    let pair = Pair::new("lie-nowhere");
    let mut lie = pair.lie();
    lie.state = Committed;
    lie.hash.0[0] ^= 1;
    lie.id = PatchId::new("B").unwrap();
    let mut map = TheirMap::new("c-9", 0, &[lie]);
    let controllers = [&pair.bench.controller, &pair.other];
    for controller in controllers {
        controller.pull(9, &mut map).done();
    }
    let [one, other] = controllers;
    assert_eq!(one.change(Available, &["B"]).refusal(), "B is committed and cannot be removed.");
    assert_eq!(one.change(Deleted, &["B"]).done().items(), ["B has been deleted"]);
    let state_of_b = |controller: &Controller| {
        controller.states().iter().find(|(id, _)| id == "B").map(|(_, state)| *state)
    };
    assert_eq!(state_of_b(one), Some(Voided));
    one.pull(9, &mut map).done();
    assert_eq!(state_of_b(one), Some(Voided), "the lie is older");
    assert!(is_whole(&other.pull(1, &mut one.map("c-1")).done()));
    assert_eq!(state_of_b(other), Some(Voided));

    let patch = pair.bench.patch("B", "files/b", "");
    let refusal = one.upload(&[&patch]).refusal();
    assert!(refusal.contains("purge it first"), "{refusal}");
    other.pull(1, &mut one.map("c-1")).done();
    one.purge().done();
    one.upload(&[&patch]).done();
    other.pull(1, &mut one.map("c-1")).done();
    assert_eq!((state_of_b(one), state_of_b(other)), (Some(Available), Some(Available)));
}

#[test]
fn a_committed_patch_whose_file_is_here_is_not_void_because_another_says_so() {
    let pair = Pair::new("lie-void");
    let controller = &pair.bench.controller;
    controller.change(Applied, &["A"]).done();
    controller.change(Committed, &["A"]).done();
    assert_eq!(controller.change(Deleted, &["A"]).refusal(), "A is committed and cannot be removed.");
    let mut void = pair.honest.clone();
    void.state = Voided;
    void.stamp.counter += 40;
    void.stamp.replica ^= 1;
    let mut map = TheirMap::new("c-9", 0, &[void.clone()]);
    let reports = controller.pull(9, &mut map).done();
    assert!(!is_whole(&reports), "which is a trouble of that controller");
    let told = notices(&reports);
    assert!(
        told.len() == 1 && told[0].starts_with("A of controller c-9 is not taken: it is void"),
        "{told:?}"
    );
    let held = controller.load().done().entries().remove(0);
    assert_eq!((held.state, &held.meta), (Committed, &pair.honest.meta));
    assert!(held.stamp.counter > void.stamp.counter, "it prevails at the others");
    assert_eq!(reports.entries(), [held]);
    assert!(controller.load().done().0.iter().all(|report| !matches!(report, Report::BlobMissing { .. })));
    assert!(is_whole(&controller.pull(9, &mut map).done()), "it is old now");

    // One without the file believes it, until it hears of the commit.
    pair.other.pull(9, &mut map).done();
    assert_eq!(pair.other.states()[0].1, Voided);
    pair.other.pull(1, &mut controller.map("c-1")).done();
    assert_eq!(pair.other.states()[0].1, Committed);
}
