//! Another controller's map, merged into ours as it should be or not at all.

use thimble::daemon::job::Report;
use thimble::repo::entry::EntryState::{Applied, Available, Deleted};

use crate::jobs::Bench;

/// What a pull said, as one line each.
fn told(reports: &[Report]) -> Vec<String> {
    let line = |report: &Report| match report {
        Report::Controller { node, hostname } => format!("met {node} {hostname}"),
        Report::Floor(floor) => format!("floor {floor}"),
        Report::EntryPurged(id) => format!("purged {id}"),
        Report::Entry(entry) => format!("{} {:?} no. {}", entry.id, entry.state, entry.stamp.counter),
        Report::BlobMissing { .. } => "missing".to_owned(),
        Report::Replaced(line) => line.to_string(),
        Report::Notice(line) => format!("notice: {line}"),
        Report::Pulled { .. } => "pulled".to_owned(),
        Report::Done => "done".to_owned(),
        other => panic!("a pull said {other:?}"),
    };
    reports.iter().map(line).collect()
}

#[test]
fn two_controllers_that_pull_from_each_other_hold_the_same() {
    let (one, two) = (Bench::new("pull-one"), Bench::new("pull-two"));
    one.uploaded("A", "files/a", "");
    two.uploaded("B", "files/b", "");
    two.controller.change(Applied, &["B"]).done();
    let reports = one.controller.pull(2, &mut two.controller.map("c-2")).done();
    assert_eq!(
        told(&reports.0),
        ["met 0000000000000002 c-2", "B Applied no. 2", "missing", "pulled", "done"]
    );
    two.controller.pull(1, &mut one.controller.map("c-1")).done();
    let both = [("A".to_owned(), Available), ("B".to_owned(), Applied)];
    assert_eq!((one.controller.states(), two.controller.states()), (both.to_vec(), both.to_vec()));
    two.controller.change(Deleted, &["A"]).done();
    let reports = one.controller.pull(2, &mut two.controller.map("c-2")).done();
    assert_eq!(
        told(&reports.0)[1..],
        [
            "A Deleted no. 3",
            "A: your change (Available, no. 1) was replaced by another controller's (Deleted, no. 3)",
            "pulled",
            "done"
        ]
    );
    assert_eq!(one.controller.files(), ["controllers", "lock", "map"], "the deleted patch's files are gone");
}
