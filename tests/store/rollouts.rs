//! The map's rollout: changed by whoever knew it, and travelling with the entries.

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

fn told(reports: &Reports) -> Option<Rollout> {
    reports.0.iter().find_map(|report| if let Report::Rollout(one) = report { Some(*one) } else { None })
}

#[test]
fn who_did_not_know_the_rollout_as_it_is_changes_nothing() {
    let bench = Bench::new("rollout");
    bench.uploaded("A", "files/a", "");
    let began =
        told(&bench.controller.change_rollout(rollout(1, RolloutState::Running), None).done()).unwrap();
    assert_eq!(began.stamp.counter, 2, "above the upload");
    let stopped = Rollout { state: RolloutState::Stopped, ..began };
    let stopped = told(&bench.controller.change_rollout(stopped, Some(began.stamp)).done()).unwrap();
    assert_eq!(stopped.state, RolloutState::Stopped);
    assert!(stopped.stamp.counter > 1_000, "ahead of who does not know of it: {stopped:?}");

    let ended = Rollout { state: RolloutState::Ended, ..began };
    for instead_of in [None, Some(began.stamp)] {
        let refusal = bench.controller.change_rollout(ended, instead_of).refusal();
        assert!(refusal.contains("has just changed the rollout"), "{refusal}");
    }
    assert_eq!(told(&bench.controller.load().done()), Some(stopped), "and a start tells of it");
    assert_eq!(
        bench.controller.upload(&[&bench.patch("B", "files/b", "")]).done().entries()[0].stamp.counter,
        stopped.stamp.counter + 1
    );
}

#[test]
fn it_travels_with_the_entries_and_the_later_one_stays() {
    let (one, two) = (Bench::new("rollout-one"), Bench::new("rollout-two"));
    let early = told(&one.controller.change_rollout(rollout(1, RolloutState::Running), None).done()).unwrap();
    assert_eq!(told(&two.controller.pull(1, &mut one.controller.map("one")).done()), Some(early));
    let late = Rollout { state: RolloutState::Halted, ..early };
    let late = told(&two.controller.change_rollout(late, Some(early.stamp)).done()).unwrap();
    let merged = one.controller.pull(2, &mut two.controller.map("two")).done();
    assert_eq!(told(&merged), Some(late));
    assert_eq!(told(&two.controller.pull(1, &mut one.controller.map("one")).done()), None, "all is known");
}
