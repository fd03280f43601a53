//! A rollout: an order to bring all hosts to what is applied, a few at a time.
//!
//! It is a register of the repository map: there is at most one, it is stored, merged
//! and served with the entries, and of two the one with the greater stamp stays. So
//! every controller knows it, and any controller that is left continues it. The results
//! of the hosts are not part of it. The hosts' own acks report them, because the number
//! of the request to a host follows from the rollout's number.

use core::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::entry::Stamp;
use crate::types::{NodeId, RequestId};

/// The state of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RolloutState {
    /// Hosts are asked, one after another.
    Running,
    /// Stopped by an operator: no further host is asked.
    Stopped,
    /// Stopped because too many hosts failed.
    Halted,
    /// Every host that is up was asked, and its install has ended.
    Ended,
}

/// A rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its last change.
    pub stamp: Stamp,
    /// Its random number. A resumed rollout gets a new one, so that hosts that failed are
    /// asked again.
    pub id: u64,
    /// The controller that drives it, until another takes it over.
    pub carrier: NodeId,
    /// Its state.
    pub state: RolloutState,
    /// How many hosts may install at once, at least 1.
    pub parallel: u16,
    /// It halts when this many hosts have failed or not answered; 0 for never.
    pub stop_after: u16,
    /// Install even if a host's lock file forbids it.
    pub force: bool,
}

/// How far the counter of a stop is raised. Another controller that does not know of the
/// stop may take the rollout over, even several times, and make other changes. Its stamps
/// stay below the stop's, so the stop wins when they merge.
const STOP_AHEAD: u64 = 1 << 16;

impl Rollout {
    /// This rollout with the stamp of a change, given the changing controller's next stamp.
    #[must_use]
    pub fn stamped(self, next: Stamp) -> Self {
        let ahead = if self.state == RolloutState::Stopped { STOP_AHEAD } else { 0 };
        Self { stamp: Stamp { counter: next.counter.saturating_add(ahead), ..next }, ..self }
    }

    /// The number of its request to a host. It is the same from every controller, so no host
    /// installs twice.
    #[must_use]
    pub const fn request_id(&self, host: NodeId) -> RequestId {
        RequestId(self.id ^ host.0)
    }

    /// Whether hosts are to be asked.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == RolloutState::Running
    }

    /// The total order by which a merge keeps the greater rollout: the stamp, then all other
    /// fields.
    #[must_use]
    pub fn merge_order(&self, other: &Self) -> Ordering {
        let rest = |one: &Self| (one.state, one.id, one.carrier.0, one.parallel, one.stop_after, one.force);
        self.stamp.cmp(&other.stamp).then_with(|| rest(self).cmp(&rest(other)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_wins_over_controllers_that_continued_the_rollout_without_knowing_of_it() {
        let stamp = Stamp { counter: 5, replica: 1 };
        let (carrier, state) = (NodeId(1), RolloutState::Running);
        let began = Rollout { stamp, id: 7, carrier, state, parallel: 4, stop_after: 3, force: false };
        let next = |counter, replica| Stamp { counter, replica };
        let stopped = Rollout { state: RolloutState::Stopped, ..began }.stamped(next(6, 1));
        // On the other side of a partition: taken over twice, and patches were applied.
        let elsewhere = Rollout { carrier: NodeId(2), ..began }.stamped(next(6, 2));
        let again = Rollout { carrier: NodeId(3), ..elsewhere }.stamped(next(40, 3));
        for carried_on in [elsewhere, again] {
            assert_eq!(stopped.merge_order(&carried_on), Ordering::Greater);
        }
        let resumed = Rollout { id: 8, ..began }.stamped(next(stopped.stamp.counter + 1, 2));
        assert_eq!(resumed.merge_order(&stopped), Ordering::Greater, "who knows of it goes on");
    }
}
