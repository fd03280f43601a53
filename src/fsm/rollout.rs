//! A rollout, as every controller sees it: the part of each host in it, and the next
//! step of the controller that drives it (its *carrier*).
//!
//! ```text
//!         hosts left, room for one        too many failed
//! Running ----> ask the next      Running ----------------> Halted --resume--> Running
//!    |  nothing left to do                    an operator        (with a new number:
//!    `--------------------> Ended     Running -----------> Stopped   failed hosts are
//!                                                                    asked again)
//! ```
//!
//! The only state kept here is when to look again. A host's part follows from its last
//! request, which its acks report to all controllers. If the carrier is lost, or lacks
//! patch files and asks no host, another controller writes its own id into the record
//! and continues. If two controllers drive it for a while, they use the same request
//! numbers, so no host installs twice.

use serde::{Deserialize, Serialize};

use super::hosts::Host;
use super::requests::RequestStatus;
use crate::repo::rollout::Rollout;
use crate::time::{Duration, Instant};
use crate::types::Digest;
use crate::wire::install::Outcome;

/// How often a rollout is looked at without an event: hosts become lost, and other
/// controllers come and go.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The delay after an event, and while there is more to do than fits one call.
pub const LOOK_SOON: Duration = Duration::from_millis(20);

/// The part of a host in a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutPart {
    /// It has installed what was requested.
    Done,
    /// It has installed what was requested, and more has been applied since.
    Behind,
    /// It had nothing to do.
    Current,
    /// Its install failed or was rejected.
    Failed,
    /// It was asked and did not answer, or it reports an install that stands still.
    NoAnswer,
    /// It installs, for this rollout or for another request.
    AtWork,
    /// It is still to be asked.
    Next,
    /// It is lost, so it is not asked.
    Lost,
}

/// How many hosts have each [`RolloutPart`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// [`RolloutPart::Done`].
    pub done: u32,
    /// [`RolloutPart::Behind`].
    pub behind: u32,
    /// [`RolloutPart::Current`].
    pub current: u32,
    /// [`RolloutPart::Failed`].
    pub failed: u32,
    /// [`RolloutPart::NoAnswer`].
    pub no_answer: u32,
    /// [`RolloutPart::AtWork`].
    pub at_work: u32,
    /// [`RolloutPart::Next`].
    pub next: u32,
    /// [`RolloutPart::Lost`].
    pub lost: u32,
}

impl Census {
    /// Counts a host.
    pub fn count(&mut self, part: RolloutPart) {
        let count = match part {
            RolloutPart::Done => &mut self.done,
            RolloutPart::Behind => &mut self.behind,
            RolloutPart::Current => &mut self.current,
            RolloutPart::Failed => &mut self.failed,
            RolloutPart::NoAnswer => &mut self.no_answer,
            RolloutPart::AtWork => &mut self.at_work,
            RolloutPart::Next => &mut self.next,
            RolloutPart::Lost => &mut self.lost,
        };
        *count = count.saturating_add(1);
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> u32 {
        let parts = [
            self.done,
            self.behind,
            self.current,
            self.failed,
            self.no_answer,
            self.at_work,
            self.next,
            self.lost,
        ];
        parts.into_iter().fold(0, u32::saturating_add)
    }

    /// Whether as many hosts have failed as stop the rollout.
    #[must_use]
    pub fn has_too_many_failures(&self, rollout: &Rollout) -> bool {
        let failed = self.failed.saturating_add(self.no_answer);
        rollout.stop_after > 0 && failed >= u32::from(rollout.stop_after)
    }

    /// How many more hosts may be asked now.
    #[must_use]
    pub fn room(&self, rollout: &Rollout) -> u32 {
        u32::from(rollout.parallel.max(1)).saturating_sub(self.at_work)
    }
}

/// What the part of a host follows from, besides the host itself.
#[derive(Clone, Copy, Debug)]
pub struct HostView {
    /// The digest of what it should have; `None` if there are more kinds of hosts than
    /// [`NODETYPES`](crate::limits::NODETYPES).
    pub wanted: Option<Digest>,
    /// It is lost.
    pub is_lost: bool,
    /// The install that it reports stands still.
    pub is_stalled: bool,
}

/// The part of a host.
#[must_use]
pub fn part(rollout: &Rollout, host: &Host, view: HostView) -> RolloutPart {
    let HostView { wanted, is_lost, is_stalled } = view;
    if host.request.request_id() == Some(rollout.request_id(host.node)) {
        match host.request.status() {
            RequestStatus::Waiting | RequestStatus::Running => return RolloutPart::AtWork,
            // The answer may come before the ack that carries the installed digest.
            RequestStatus::Ended(Outcome::Installed) => {
                let has = [host.request.digest(), Some(host.ack.installed_digest)];
                return if has.contains(&wanted) { RolloutPart::Done } else { RolloutPart::Behind };
            }
            RequestStatus::Ended(_) => return RolloutPart::Failed,
            RequestStatus::NoAnswer => return RolloutPart::NoAnswer,
            RequestStatus::None => {}
        }
    }
    if is_lost {
        RolloutPart::Lost
    } else if is_stalled {
        RolloutPart::NoAnswer
    } else if host.is_installing() {
        RolloutPart::AtWork
    } else {
        match wanted {
            None => RolloutPart::Failed,
            // A host whose last install failed is asked, even if it has what it
            // should have after going back: only an install clears its failure.
            Some(wanted) if wanted == host.ack.installed_digest && !host.ack.patch_failed => {
                RolloutPart::Current
            }
            Some(_) => RolloutPart::Next,
        }
    }
}

/// Whether a rollout ends: no host is at work, and none is left to ask.
#[must_use]
pub fn is_over(census: &Census) -> bool {
    census.at_work == 0 && census.next == 0
}

/// When to look at a rollout again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    due: Option<Instant>,
    /// Since when the carrier has been idle.
    idle_since: Option<Instant>,
    /// Since when the carrier has been lost.
    lost_since: Option<Instant>,
    /// When the rollout was learned to be over.
    over_since: Option<Instant>,
}

impl Watch {
    /// Something has changed: looks again soon.
    pub fn soon(&mut self, now: Instant) {
        self.due = Instant::earliest([self.due, Some(now + LOOK_SOON)]);
    }

    /// Whether it is time to look. The caller then sets the next time with
    /// [`again`](Self::again).
    pub fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| now >= *due).is_some()
    }

    /// Sets the next time.
    pub fn again(&mut self, at: Instant) {
        self.due = Some(at);
    }

    /// Records whether the carrier is idle now, and gives since when it has been;
    /// `None` if it is not idle.
    pub fn note_idle(&mut self, now: Instant, is_idle: bool) -> Option<Instant> {
        self.idle_since = is_idle.then(|| self.idle_since.unwrap_or(now));
        self.idle_since
    }

    /// The same of whether it is lost.
    pub fn note_lost(&mut self, now: Instant, is_lost: bool) -> Option<Instant> {
        self.lost_since = is_lost.then(|| self.lost_since.unwrap_or(now));
        self.lost_since
    }

    /// Since when the carrier has been lost, or else idle, as far as was noted.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        self.lost_since.or(self.idle_since)
    }

    /// The rollout is over.
    pub fn note_over(&mut self, now: Instant) {
        self.over_since = Some(now);
    }

    /// When the rollout was learned to be over; `None` if it is not.
    #[must_use]
    pub fn over_since(&self) -> Option<Instant> {
        self.over_since
    }

    /// When something is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.due
    }
}
