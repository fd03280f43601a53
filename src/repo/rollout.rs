//! A rollout: one order to bring all hosts to what is applied, a few at a time.
//!
//! It is a register of the repository map: at most one is there, it is durable,
//! merged and served with the entries, and of two the one with the greater stamp
//! stays. So every controller knows it, and whoever is left goes on with it.
//! What became of each host is not in it: that is told by the hosts' own acks,
//! since the request to a host has a number that follows from the rollout's.

use core::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::entry::Stamp;
use crate::types::{NodeId, RequestId};

/// How a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RolloutState {
    /// Hosts are asked, one after another.
    Running,
    /// Stopped by an operator: no further host is asked.
    Stopped,
    /// Stopped since too many hosts failed.
    Halted,
    /// Every host that is there has been asked, and has ended it.
    Ended,
}

/// A rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Who changed it last, and when in that controller's own order.
    pub stamp: Stamp,
    /// Its random number; a new one each time that it is resumed, so that hosts
    /// that failed are asked again.
    pub id: u64,
    /// The controller that carries it, until another takes it over.
    pub carrier: NodeId,
    /// How it stands.
    pub state: RolloutState,
    /// Hosts that may be at work at once, at least 1.
    pub parallel: u16,
    /// It stops once so many hosts have failed or not answered; 0 for never.
    pub stop_after: u16,
    /// Install although a host's lock file says no.
    pub force: bool,
}

/// By how much the counter of a stop is ahead. Another controller may take the
/// rollout over while it does not know of the stop, more than once, and change other
/// things: whatever it stamps meanwhile stays below, and the stop holds once they
/// meet.
const STOP_AHEAD: u64 = 1 << 16;

impl Rollout {
    /// The same, changed with the next stamp of whoever changes it.
    #[must_use]
    pub fn stamped(self, next: Stamp) -> Self {
        let ahead = if self.state == RolloutState::Stopped { STOP_AHEAD } else { 0 };
        Self { stamp: Stamp { counter: next.counter.saturating_add(ahead), ..next }, ..self }
    }

    /// The number of its request to a host: the same whoever asks, so that no host
    /// carries it out twice.
    #[must_use]
    pub const fn request_id(&self, host: NodeId) -> RequestId {
        RequestId(self.id ^ host.0)
    }

    /// Whether hosts are to be asked.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == RolloutState::Running
    }

    /// The total order by which a merge takes the greater: the stamp, then
    /// everything else.
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
    fn a_stop_holds_against_all_who_carried_the_rollout_on_and_did_not_know_of_it() {
        let stamp = Stamp { counter: 5, replica: 1 };
        let (carrier, state) = (NodeId(1), RolloutState::Running);
        let began = Rollout { stamp, id: 7, carrier, state, parallel: 4, stop_after: 3, force: false };
        let next = |counter, replica| Stamp { counter, replica };
        let stopped = Rollout { state: RolloutState::Stopped, ..began }.stamped(next(6, 1));
        // Apart from the one who stopped it: taken over twice, and patches were applied.
        let elsewhere = Rollout { carrier: NodeId(2), ..began }.stamped(next(6, 2));
        let again = Rollout { carrier: NodeId(3), ..elsewhere }.stamped(next(40, 3));
        for carried_on in [elsewhere, again] {
            assert_eq!(stopped.merge_order(&carried_on), Ordering::Greater);
        }
        let resumed = Rollout { id: 8, ..began }.stamped(next(stopped.stamp.counter + 1, 2));
        assert_eq!(resumed.merge_order(&stopped), Ordering::Greater, "who knows of it goes on");
    }
}
