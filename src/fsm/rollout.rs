//! A rollout, as every controller sees it: what part each host has in it, and
//! what the one that carries it does next.
//!
//! ```text
//!         hosts left, room for one        too many failed
//! Running ----> ask the next      Running ----------------> Halted --resume--> Running
//!    |  nothing left to do                    an operator        (another number:
//!    `--------------------> Ended     Running -----------> Stopped   hosts that failed
//!                                                                    are asked again)
//! ```
//!
//! Nothing of it is remembered here but when to look again. A host's part follows
//! from its last request, which its acks tell to all controllers; so when the one
//! that carries a rollout is lost, or lacks patch files and asks nobody, another
//! takes it over, by its name in the record, and goes on where it was. Should two
//! carry it for a while, they ask with the same numbers: no host does it twice.

use serde::{Deserialize, Serialize};

use super::hosts::Host;
use super::requests::RequestStatus;
use crate::repo::rollout::Rollout;
use crate::time::{Duration, Instant};
use crate::types::Digest;
use crate::wire::install::Outcome;

/// How often a rollout is looked at while nothing happens: hosts grow lost, and
/// other controllers come and go.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// After something has happened, and while there is more to do than one call may.
pub const LOOK_SOON: Duration = Duration::from_millis(20);

/// What part a host has in a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutPart {
    /// It has installed what it was asked for.
    Done,
    /// It has installed what was wanted when it was asked, and more is wanted since.
    Behind,
    /// It had nothing to do.
    Current,
    /// It has failed, or said no.
    Failed,
    /// It was asked, and fell silent.
    NoAnswer,
    /// It is at work, for this rollout or for somebody else.
    AtWork,
    /// It is still to be asked.
    Next,
    /// It has not been heard for long, and so is not asked.
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
        let place = match part {
            RolloutPart::Done => &mut self.done,
            RolloutPart::Behind => &mut self.behind,
            RolloutPart::Current => &mut self.current,
            RolloutPart::Failed => &mut self.failed,
            RolloutPart::NoAnswer => &mut self.no_answer,
            RolloutPart::AtWork => &mut self.at_work,
            RolloutPart::Next => &mut self.next,
            RolloutPart::Lost => &mut self.lost,
        };
        *place = place.saturating_add(1);
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

    /// Whether as many have failed as the rollout bears.
    #[must_use]
    pub fn has_too_many_failures(&self, rollout: &Rollout) -> bool {
        let failed = self.failed.saturating_add(self.no_answer);
        rollout.stop_after > 0 && failed >= u32::from(rollout.stop_after)
    }

    /// How many more may be asked now.
    #[must_use]
    pub fn room(&self, rollout: &Rollout) -> u32 {
        u32::from(rollout.parallel.max(1)).saturating_sub(self.at_work)
    }
}

/// What part a host has. `wanted` is the digest of what it should have; there is
/// none where hosts are of more kinds than are told apart.
#[must_use]
pub fn part(rollout: &Rollout, host: &Host, wanted: Option<Digest>, is_lost: bool) -> RolloutPart {
    if host.request.request_id() == Some(rollout.request_id(host.node)) {
        match host.request.status() {
            RequestStatus::Waiting | RequestStatus::Running => return RolloutPart::AtWork,
            // An answer may be faster than the ack that tells of what is installed.
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
    } else if host.is_installing() {
        RolloutPart::AtWork
    } else {
        match wanted {
            None => RolloutPart::Failed,
            // One whose last install failed is asked, though it went back to what it
            // should have: nothing else tells it that this is well.
            Some(wanted) if wanted == host.ack.installed_digest && !host.ack.patch_failed => {
                RolloutPart::Current
            }
            Some(_) => RolloutPart::Next,
        }
    }
}

/// Whether a rollout ends: nobody is at work, and nobody is left.
#[must_use]
pub fn is_over(census: &Census) -> bool {
    census.at_work == 0 && census.next == 0
}

/// When to look at a rollout again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    due: Option<Instant>,
    /// Since when the controller that carries it was seen to do nothing.
    idle_since: Option<Instant>,
}

impl Watch {
    /// Something has happened that concerns it.
    pub fn soon(&mut self, now: Instant) {
        self.due = Instant::earliest([self.due, Some(now + LOOK_SOON)]);
    }

    /// Whether it is time; the next time is given with [`again`](Self::again).
    pub fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| now >= *due).is_some()
    }

    /// Not before this.
    pub fn again(&mut self, at: Instant) {
        self.due = Some(at);
    }

    /// Since when the controller that carries it was seen to do nothing, as it is now;
    /// `None` where it does something.
    pub fn note_idle(&mut self, now: Instant, is_idle: bool) -> Option<Instant> {
        self.idle_since = is_idle.then(|| self.idle_since.unwrap_or(now));
        self.idle_since
    }

    /// When something is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.due
    }
}
