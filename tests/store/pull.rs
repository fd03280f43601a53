//! Merges of another controller's map, complete or not at all, and purges.

use std::fs;

use thimble::job::{Change, PatchIds, Report};
use thimble::limits;
use thimble::repo::entry::EntryState::{Applied, Available, Committed, Deleted};
use thimble::repo::entry::{Entry, EntryMeta, EntryState, Stamp};
use thimble::store;
use thimble::types::{Digest, Hash, PatchId};

use crate::jobs::Bench;
use crate::support::Scratch;
use crate::support::controller::{Controller, Reports, TheirMap};

/// A key that nothing here is signed with.
const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

/// The reports of a pull or a purge, as one line each.
fn lines(reports: &Reports) -> Vec<String> {
    let line = |report: &Report| match report {
        Report::Controller { node, hostname } => format!("met {:x} {hostname}", node.0),
        Report::Floor(floor) => format!("floor {floor}"),
        Report::EntryPurged(id) => format!("purged {id}"),
        Report::Entry(entry) => shown(entry),
        Report::BlobMissing { .. } => "missing".to_owned(),
        Report::Replaced(line) => line.to_string(),
        Report::Notice(line) => format!("notice: {line}"),
        Report::Item(line) => line.to_string(),
        Report::Pulled { is_whole: true, .. } => "pulled".to_owned(),
        Report::Pulled { .. } => "pulled in part".to_owned(),
        Report::Done => "done".to_owned(),
        other => panic!("it said {other:?}"),
    };
    reports.0.iter().map(line).collect()
}

fn shown(entry: &Entry) -> String {
    format!("{} {:?} no. {}", entry.id, entry.state, entry.stamp.counter)
}

fn entry(id: &str, state: EntryState, counter: u64, replica: u64) -> Entry {
    Entry {
        id: PatchId::new(id).unwrap(),
        hash: Hash(*blake3::hash(id.as_bytes()).as_bytes()),
        size_bytes: 1,
        state,
        stamp: Stamp { counter, replica },
        meta: EntryMeta::default(),
    }
}

/// A controller that has entries without files, in a scratch directory.
fn controller(name: &str) -> (Scratch, Controller) {
    let scratch = Scratch::new(name);
    let controller = Controller::new(&scratch.join("state"), KEY);
    controller.load().done();
    (scratch, controller)
}

/// Entries and floor, as lines.
fn held(controller: &Controller) -> (Vec<String>, u64) {
    let map = controller.map("it");
    let mut lines: Vec<_> = map.entries.iter().map(shown).collect();
    lines.sort();
    (lines, map.head.floor)
}

fn replica_and_counter(controller: &Controller) -> (u64, u64) {
    let loaded = controller.load().done();
    let Report::Store { replica, counter } = loaded.0[0] else { panic!("the store says its name first") };
    (replica, counter)
}

#[test]
fn two_controllers_that_pull_from_each_other_hold_the_same() {
    let (one, two) = (Bench::new("pull-one"), Bench::new("pull-two"));
    one.uploaded("A", "files/a", "");
    two.uploaded("B", "files/b", "");
    two.controller.change(Applied, &["B"]).done();
    let reports = one.controller.pull(2, &mut two.controller.map("c-2")).done();
    assert_eq!(lines(&reports), ["met 2 c-2", "B Applied no. 2", "missing", "pulled", "done"]);
    two.controller.pull(1, &mut one.controller.map("c-1")).done();
    let both = [("A".to_owned(), Available), ("B".to_owned(), Applied)];
    assert_eq!((one.controller.states(), two.controller.states()), (both.to_vec(), both.to_vec()));
    two.controller.change(Deleted, &["A"]).done();
    let reports = one.controller.pull(2, &mut two.controller.map("c-2")).done();
    assert_eq!(
        lines(&reports)[1..],
        [
            "A Deleted no. 3",
            "A: your change (Available, no. 1) was replaced by another controller's (Deleted, no. 3)",
            "pulled",
            "done"
        ]
    );
    assert_eq!(one.controller.files(), ["controllers", "lock", "map"], "the deleted patch's files are gone");
}

#[test]
fn the_reported_digest_is_that_of_the_entries_as_received() {
    let (_scratch, ours) = controller("pull-digest");
    let (_scratch, theirs) = controller("pull-digest-theirs");
    theirs.pull(9, &mut TheirMap::new("c-9", 0, &[entry("A", Applied, 1, 9), entry("B", Deleted, 2, 9)]));
    ours.pull(8, &mut TheirMap::new("c-8", 0, &[entry("C", Applied, 3, 8)]));
    let digest = |reports: &Reports| -> Digest {
        let of = |report: &Report| match report {
            Report::Pulled { digest, .. } => Some(*digest),
            _ => None,
        };
        reports.0.iter().find_map(of).unwrap()
    };
    let theirs_digest = digest(&theirs.pull(7, &mut theirs.map("it")).done());
    let mut map = theirs.map("c-2");
    map.entries.reverse();
    assert_eq!(digest(&ours.pull(2, &mut map).done()), theirs_digest, "not that of ours after the merge");
}

#[test]
fn a_map_that_does_not_arrive_whole_changes_nothing() {
    let (_scratch, ours) = controller("pull-cut");
    ours.pull(2, &mut TheirMap::new("c-2", 0, &[entry("A", Applied, 1, 2)])).done();
    let before = (held(&ours), fs::read(ours.config.node.state_dir.join("repo/controllers")).unwrap());
    for after in 0..4 {
        let more = [entry("A", Deleted, 5, 3), entry("B", Applied, 6, 3), entry("C", Applied, 7, 3)];
        let mut map = TheirMap::new("c-3", 4, &more);
        map.breaks_after = Some(after);
        let said = ours.pull(3, &mut map).refusal();
        assert!(
            said.starts_with("controller 0000000000000003 fell silent before its map was whole"),
            "{said}"
        );
    }
    let endless: Vec<_> = (0..=limits::ENTRIES).map(|at| entry(&format!("P-{at}"), Applied, 1, 3)).collect();
    let said = ours.pull(3, &mut TheirMap::new("c-3", 0, &endless)).refusal();
    assert!(said.contains("more than the 1024 entries that a map may have"), "{said}");
    let after = (held(&ours), fs::read(ours.config.node.state_dir.join("repo/controllers")).unwrap());
    assert_eq!(after, before);
}

#[test]
fn invalid_entries_are_refused_by_name_and_the_rest_merges() {
    let (_scratch, ours) = controller("pull-refused");
    for counter in [u64::MAX, limits::COUNTER_LEAP + 2] {
        let theirs = [entry("A", Applied, counter, 2), entry("B", Applied, 1, 2)];
        let reports = ours.pull(2, &mut TheirMap::new("c-2", 0, &theirs)).done();
        let expected = format!(
            "notice: A of controller c-2 is not taken: its counter {counter} is absurdly far above ours; \
             look at that controller"
        );
        assert!(lines(&reports).contains(&expected), "{:?}", lines(&reports));
        assert_eq!(held(&ours).0, ["B Applied no. 1"]);
        assert_eq!(replica_and_counter(&ours).1, 1, "our counter does not follow");
    }
    let reports = ours.pull(2, &mut TheirMap::new("c-2", u64::MAX, &[])).done();
    assert!(lines(&reports)[1].starts_with("notice: a purge floor of 18446744073709551615 is not taken"));
    assert_eq!(held(&ours), (vec!["B Applied no. 1".to_owned()], 0));

    let twice = [entry("C", Applied, 2, 2), entry("C", Deleted, 3, 2), entry("D", Applied, 4, 2)];
    let reports = ours.pull(2, &mut TheirMap::new("c-2", 9, &twice)).done();
    let said = lines(&reports);
    assert!(said.iter().any(|line| line.contains("c-2 sends two entries for patch \"C\"")), "{said:?}");
    assert_eq!(held(&ours).0, ["B Applied no. 1", "C Applied no. 2", "D Applied no. 4"]);
    assert_eq!(held(&ours).1, 0, "such a map does not say what was purged");
}

#[test]
fn the_greatest_accepted_counter_is_merged_and_the_next_stamp_is_above_it() {
    let bench = Bench::new("pull-leap");
    bench.uploaded("A", "files/a", "");
    let most = 1 + limits::COUNTER_LEAP;
    for (counter, is_taken) in [(most + 1, false), (most, true)] {
        bench.controller.pull(2, &mut TheirMap::new("c-2", 0, &[entry("B", Deleted, counter, 2)])).done();
        assert_eq!(held(&bench.controller).0.len() == 2, is_taken, "{counter}");
    }
    assert_eq!(replica_and_counter(&bench.controller).1, most);
    let stamp = bench.controller.change(Applied, &["A"]).done().entries()[0].stamp;
    assert_eq!(stamp.counter, most + 1);
}

#[test]
fn a_restored_backup_gets_a_new_replica_and_uses_no_stamp_twice() {
    let bench = Bench::new("pull-restored");
    let controller = &bench.controller;
    let map = controller.config.node.state_dir.join("repo/map");
    bench.uploaded("A", "files/a", "");
    let backup = fs::read(&map).unwrap();
    let given_out = controller.change(Applied, &["A"]).done().entries()[0].stamp;
    let mut other = TheirMap::new("c-2", 0, &controller.map("c-1").entries);
    let (replica, _) = replica_and_counter(controller);

    fs::write(&map, &backup).unwrap();
    let reports = controller.pull(2, &mut other).done();
    let said = lines(&reports);
    assert!(
        said.iter().any(|line| line.starts_with("notice: controller c-2 knows later changes of ours")),
        "{said:?}"
    );
    assert_eq!(held(controller).0, ["A Applied no. 2"], "what the backup lacked is back");
    assert_ne!(replica_and_counter(controller).0, replica);

    // With `renew`, a change makes a new replica first.
    fs::write(&map, &backup).unwrap();
    let ids: PatchIds = [PatchId::new("A").unwrap()].into_iter().collect();
    let change = Change { to: Applied, ids, below_floor: false, renew: true };
    let mut reports = Reports::default();
    store::change(&controller.config, &change, &mut reports).unwrap();
    let stamp = reports.done().entries()[0].stamp;
    assert_eq!((stamp.counter, stamp.replica == replica), (given_out.counter, false));
    assert_eq!(replica_and_counter(controller).0, stamp.replica, "durably");
}

#[test]
fn an_upload_that_only_adds_a_missing_file_renews_the_replica_as_a_change_does() {
    let bench = Bench::new("renew-mended");
    let patch = bench.patch("A", "files/a", "");
    bench.controller.upload(&[&patch]).done();
    let (replica, counter) = replica_and_counter(&bench.controller);
    // The map comes from a backup, and the file is lost.
    let repo = bench.controller.config.node.state_dir.join("repo/blobs");
    fs::remove_dir_all(&repo).unwrap();
    bench.controller.upload_as(&[&patch], true).done();
    let renewed = replica_and_counter(&bench.controller);
    assert_eq!((renewed.0 == replica, renewed.1), (false, counter));
}

#[test]
fn a_wiped_controller_gets_everything_back_and_keeps_its_own_changes() {
    let bench = Bench::new("pull-wiped");
    let theirs = [entry("A", Applied, 5, 2), entry("B", Committed, 2, 1)];
    bench.uploaded("NEW", "files/new", "");
    let reports = bench.controller.pull(2, &mut TheirMap::new("c-2", 9, &theirs)).done();
    assert_eq!(
        lines(&reports),
        [
            "met 2 c-2",
            "floor 9",
            "NEW Available no. 10",
            "A Applied no. 5",
            "missing",
            "B Committed no. 2",
            "missing",
            "pulled",
            "done"
        ]
    );
    assert!(bench.controller.files().len() > 4, "its file stays");
}

#[test]
fn a_controller_that_was_off_for_long_drops_what_was_purged() {
    let bench = Bench::new("pull-late");
    bench.uploaded("A", "files/a", "");
    let mut other = bench.controller.map("c-1");
    let (_scratch, late) = controller("pull-late-other");
    late.pull(1, &mut other).done();
    // The other controller deleted it, purged, and made more changes.
    let reports = late.pull(1, &mut TheirMap::new("c-1", 2, &[entry("B", Applied, 3, 1)])).done();
    assert_eq!(lines(&reports)[..4], ["met 1 c-1", "floor 2", "purged A", "B Applied no. 3"]);
    assert_eq!(held(&late), (vec!["B Applied no. 3".to_owned()], 2));
    let (_, counter) = replica_and_counter(&late);
    assert_eq!(counter, 3);
    // A controller that still has it does not bring it back.
    let reports = late.pull(3, &mut TheirMap::new("c-3", 0, &other.entries)).done();
    assert_eq!(lines(&reports), ["met 3 c-3", "pulled", "done"]);
}

#[test]
fn a_commit_made_here_stays_whatever_another_controller_does_with_the_patch() {
    let bench = Bench::new("pull-commit");
    bench.uploaded("P", "files/p", "");
    bench.uploaded("Q", "files/q", "requires = [\"P\"]");
    bench.controller.change(Applied, &[]).done();
    assert!(bench.controller.change(Committed, &["X"]).refusal().starts_with("X is not in the repository"));
    let items = bench.controller.change(Committed, &["Q"]).done().items();
    assert_eq!(items, ["P is now committed", "Q is now committed"]);
    assert_eq!(bench.controller.change(Committed, &["P"]).done().items(), ["P is already committed"]);
    let before = held(&bench.controller);
    let theirs = [entry("P", Available, 99, 2), entry("Q", Deleted, 99, 2)];
    let reports = bench.controller.pull(2, &mut TheirMap::new("c-2", 0, &theirs)).done();
    assert_eq!(lines(&reports), ["met 2 c-2", "pulled", "done"]);
    assert_eq!(held(&bench.controller), before);
    bench.uploaded("DEV", "files/dev", "status = \"DEV\"");
    bench.controller.change(Applied, &[]).done();
    assert!(bench.controller.change(Committed, &[]).refusal().starts_with("DEV has status DEV"));
}

#[test]
fn a_map_full_of_tombstones_refuses_by_name_until_it_is_purged() {
    let bench = Bench::new("full-map");
    let controller = &bench.controller;
    let mut gone: Vec<_> =
        (1..=limits::ENTRIES as u64).map(|at| entry(&format!("P-{at}"), Deleted, at, 2)).collect();
    controller.pull(2, &mut TheirMap::new("c-2", 0, &gone)).done();
    let patch = bench.patch("A", "files/a", "");
    let full =
        "The repository is full: 1024 entries, those of deleted patches included. Run purge to drop them.";
    let files = controller.files();
    assert_eq!(controller.upload(&[&patch]).refusal(), format!("A is not uploaded. {full}"));
    assert_eq!(controller.files(), files, "nothing of it is left");
    let reports = controller.pull(3, &mut TheirMap::new("c-3", 0, &[entry("B", Applied, 1, 3)])).done();
    assert_eq!(lines(&reports)[1], format!("notice: B of controller c-3 is not taken. {full}"));

    // If another controller has purged, its floor frees the space.
    let map = controller.config.node.state_dir.join("repo/map");
    let before = fs::read(&map).unwrap();
    let reports =
        controller.pull(3, &mut TheirMap::new("c-3", 1_024, &[entry("B", Applied, 1_025, 3)])).done();
    assert_eq!(lines(&reports)[..3], ["met 3 c-3", "floor 1024", "B Applied no. 1025"]);
    assert_eq!(held(controller).0.len(), 1);

    fs::write(&map, before).unwrap();
    let said = lines(&controller.purge().done());
    assert_eq!(said.len(), 1_024 + 3);
    assert_eq!(said[1_024..], ["floor 1024", "1024 deleted patches are purged", "done"]);
    assert_eq!(controller.upload(&[&patch]).done().entries()[0].stamp.counter, 1_025);
    let loaded = controller.load().done();
    let floor = loaded.0.iter().position(|report| matches!(report, Report::Floor(1_024)));
    let first = loaded.0.iter().position(|report| matches!(report, Report::Entry(_)));
    assert!(floor < first && floor.is_some(), "a start tells the floor before the entries");
    gone.truncate(1);
    let reports = controller.pull(2, &mut TheirMap::new("c-2", 0, &gone)).done();
    assert_eq!(lines(&reports), ["met 2 c-2", "pulled", "done"], "and they stay gone");
    let said = lines(&controller.purge().done());
    assert_eq!(said, ["floor 1024", "there are no deleted patches to purge", "done"]);
}

#[test]
fn a_controller_that_never_knew_another_purges_without_a_floor() {
    let bench = Bench::new("purge-alone");
    bench.uploaded("A", "files/a", "");
    bench.controller.change(Deleted, &["A"]).done();
    assert_eq!(lines(&bench.controller.purge().done()), ["purged A", "1 deleted patch is purged", "done"]);
    assert_eq!(held(&bench.controller), (vec![], 0));
    bench.uploaded("A", "files/a", "");
    assert_eq!(held(&bench.controller).0, ["A Available no. 3"], "no stamp comes twice");
}

#[test]
fn a_map_that_changed_since_all_agreed_is_not_purged() {
    let (_scratch, ours) = controller("purge-late");
    let (live, gone) = (entry("A", Applied, 1, 2), entry("A", Deleted, 5, 2));
    ours.pull(2, &mut TheirMap::new("c-2", 0, &[live, entry("B", Deleted, 2, 2)])).done();
    let agreed = ours.digest();
    // A merge before the purge brings an entry that a third controller does not have.
    ours.pull(2, &mut TheirMap::new("c-2", 0, &[gone])).done();
    let before = held(&ours);
    let refusal = ours.purge_agreed(agreed).refusal();
    assert!(refusal.starts_with("the repository has just changed"), "{refusal}");
    assert_eq!(held(&ours), before);
    assert_eq!(lines(&ours.purge().done())[..3], ["purged A", "purged B", "floor 5"]);
}

#[test]
fn controllers_are_known_by_their_latest_name_until_they_are_dropped() {
    let (_scratch, ours) = controller("controllers");
    let known = || -> Vec<String> {
        let is_controller = |line: &String| line.starts_with("met ");
        let loaded = Reports(ours.load().done().0.split_off(1));
        lines(&loaded).into_iter().filter(is_controller).collect()
    };
    for node in 1..=7 {
        ours.pull(node, &mut TheirMap::new("old", 0, &[])).done();
        ours.pull(node, &mut TheirMap::new(&format!("c-{node}"), 0, &[])).done();
    }
    assert_eq!(
        known(),
        ["met 1 c-1", "met 2 c-2", "met 3 c-3", "met 4 c-4", "met 5 c-5", "met 6 c-6", "met 7 c-7"]
    );
    let reports = ours.pull(8, &mut TheirMap::new("c-8", 0, &[entry("A", Applied, 1, 8)])).done();
    let said = lines(&reports);
    assert_eq!(said[..2], ["A Applied no. 1", "missing"], "its entries merge all the same");
    assert!(
        said[2].starts_with("notice: controller c-8 (0000000000000008) is one more than the 8"),
        "{said:?}"
    );
    assert!(said[2].contains("drop-controller one that is gone for good"), "{said:?}");
    let reports = ours.drop_controller(3).done();
    assert_eq!(reports.items(), ["controller c-3 (0000000000000003) is forgotten"]);
    assert!(matches!(reports.0[0], Report::ControllerDropped(node) if node.0 == 3));
    assert!(ours.drop_controller(3).refusal().contains("controller 0000000000000003 is not known here"));
    ours.pull(8, &mut TheirMap::new("c-8", 0, &[])).done();
    assert_eq!(known().last().unwrap(), "met 8 c-8");
}

#[test]
fn only_the_load_at_a_start_removes_unfinished_files() {
    let (_scratch, ours) = controller("load-later");
    let left = ours.config.node.state_dir.join("repo/blobs/upload-1.unfinished");
    fs::write(&left, "on its way").unwrap();
    let mut reports = Reports::default();
    store::load(&ours.config, false, &mut reports).unwrap();
    assert!(reports.done().0.len() == 2 && left.exists());
    ours.load().done();
    assert!(!left.exists());
}
