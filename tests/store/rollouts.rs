//! The map's rollout: changed only with knowledge of the current one, and merged with the
//! entries.

use thimble::job::Report;
use thimble::repo::entry::Stamp;
use thimble::repo::rollout::{Rollout, RolloutState};
use thimble::types::NodeId;

use crate::jobs::Bench;
use crate::support::controller::Reports;

fn rollout(id: u64, state: RolloutState) -> Rollout {
    let stamp = Stamp::default();
    Rollout { stamp, id, carrier: NodeId(3), state, parallel: 4, stop_after: 3, force: false }
}

fn reported(reports: &Reports) -> Option<Rollout> {
    reports.0.iter().find_map(|report| if let Report::Rollout(one) = report { Some(*one) } else { None })
}

#[test]
fn a_change_that_does_not_name_the_current_rollout_is_refused() {
    let bench = Bench::new("rollout");
    bench.uploaded("A", "files/a", "");
    let began =
        reported(&bench.controller.change_rollout(rollout(1, RolloutState::Running), None).done()).unwrap();
    assert_eq!(began.stamp.counter, 2, "above the upload");
    let stopped = Rollout { state: RolloutState::Stopped, ..began };
    let stopped = reported(&bench.controller.change_rollout(stopped, Some(began.stamp)).done()).unwrap();
    assert_eq!(stopped.state, RolloutState::Stopped);
    assert!(stopped.stamp.counter > 1_000, "ahead of who does not know of it: {stopped:?}");

    let ended = Rollout { state: RolloutState::Ended, ..began };
    for instead_of in [None, Some(began.stamp)] {
        let refusal = bench.controller.change_rollout(ended, instead_of).refusal();
        assert!(refusal.contains("has just changed the rollout"), "{refusal}");
    }
    assert_eq!(reported(&bench.controller.load().done()), Some(stopped), "and a start tells of it");
    assert_eq!(
        bench.controller.upload(&[&bench.patch("B", "files/b", "")]).done().entries()[0].stamp.counter,
        stopped.stamp.counter + 1
    );
}

#[test]
fn a_rollout_is_merged_with_the_entries_and_the_later_one_stays() {
    let (one, two) = (Bench::new("rollout-one"), Bench::new("rollout-two"));
    let early =
        reported(&one.controller.change_rollout(rollout(1, RolloutState::Running), None).done()).unwrap();
    assert_eq!(reported(&two.controller.pull(1, &mut one.controller.map("one")).done()), Some(early));
    let late = Rollout { state: RolloutState::Halted, ..early };
    let late = reported(&two.controller.change_rollout(late, Some(early.stamp)).done()).unwrap();
    let merged = one.controller.pull(2, &mut two.controller.map("two")).done();
    assert_eq!(reported(&merged), Some(late));
    assert_eq!(
        reported(&two.controller.pull(1, &mut one.controller.map("one")).done()),
        None,
        "all is known"
    );
}
