//! What becomes of a map when another controller's is merged into it.
//!
//! Per id the greater entry stays; that alone would be [`Map::merge`]. What more
//! there is to decide comes of purges and of what a peer must not be believed:
//!
//! - An entry that one side lacks and whose change the floor of that side says
//!   it has seen was deleted there and purged. It goes here as well. One that was
//!   made here stays: the purge would have waited for us, had it known us, so it
//!   cannot have meant it. It is stamped anew, above the floor. Not so where we
//!   have been set back: then others know better than we do.
//! - A deletion up to the floor that the other side has not seen is stamped anew
//!   as well; else the purge that it missed would let the patch rise again.
//! - A counter far above our own is not followed: whoever made it up would use
//!   up all there are.
//!
//! Whatever order controllers merge in, they come to the same entries.

use crate::limits::COUNTER_LEAP;
use crate::repo::entry::{Entry, EntryState, Stamp};
use crate::repo::map::{Full, Map, Merged};
use crate::repo::rollout::Rollout;
use crate::repo::slots::SlotSet;
use crate::types::PatchId;

/// Whose stamps a map gives out, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The map's random name.
    pub replica: u64,
    /// The highest counter that it has given out or merged.
    pub counter: u64,
}

impl Origin {
    /// The stamp of the next change.
    pub fn next_stamp(&mut self) -> Stamp {
        self.counter = self.counter.saturating_add(1);
        Stamp { counter: self.counter, replica: self.replica }
    }

    /// Whether a counter that another controller shows is so far above ours that
    /// it is not followed.
    #[must_use]
    pub fn is_leap(&self, counter: u64) -> bool {
        counter > self.counter.saturating_add(COUNTER_LEAP)
    }
}

/// One thing that a merge did or did not do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "told one at a time, and most are entries")]
pub enum MergeEvent {
    /// This patch was deleted elsewhere and the deletion purged: it is gone.
    Purged(PatchId),
    /// The map holds this entry now.
    Changed(Entry),
    /// The map's rollout is this one now.
    Rollout(Rollout),
    /// The rollout was not taken, for its counter.
    RolloutLeap(Rollout),
    /// A change that was made here gave way to one made elsewhere.
    Replaced {
        /// What was made here.
        ours: Entry,
        /// What took its place.
        theirs: Entry,
    },
    /// An entry was not taken, for its counter.
    Leap(Entry),
    /// An entry was not taken, for want of room.
    NoRoom(PatchId, Full),
    /// The peer knows changes under our replica that we do not: we have been set
    /// back, and give out stamps under a new one from now on.
    Renamed,
}

/// Merges `theirs`, a map of the purge floor `floor`, into `ours`, telling what
/// it does; `fresh` is the replica to go on with where ours was used beyond what
/// we know. True where all was taken.
///
/// A map that did not take all has not seen what a floor says that it has. Where
/// this gives false for a floor above 0, the caller must drop `ours` and merge
/// into it as it was with a floor of 0. So it must with the floor that
/// [`Origin::is_leap`] warns of.
#[must_use]
pub fn join(
    ours: &mut Map<'_>,
    origin: &mut Origin,
    theirs: &Map<'_>,
    floor: u64,
    fresh: u64,
    tell: &mut dyn FnMut(MergeEvent),
) -> bool {
    let before = *origin;
    let seen_here = ours.floor();
    let stamps = || {
        let entries = theirs.iter().map(|(_, entry)| entry.stamp);
        entries.chain(theirs.rollout().map(|rollout| rollout.stamp))
    };
    let counters = stamps().map(|stamp| stamp.counter);
    let followed = counters.filter(|counter| !before.is_leap(*counter)).max().unwrap_or(0);
    origin.counter = before.counter.max(followed).max(floor);
    let is_ahead = |stamp: Stamp| stamp.replica == before.replica && stamp.counter > before.counter;
    let is_set_back = stamps().any(is_ahead);
    if is_set_back {
        origin.replica = fresh;
        tell(MergeEvent::Renamed);
    }

    let mut purged = SlotSet::new();
    let all: SlotSet = ours.iter().map(|(slot, _)| slot).collect();
    for slot in &all {
        let Some(entry) = ours.entry(slot).filter(|entry| is_up_to(entry, floor)) else { continue };
        let is_news = match theirs.get(&entry.id) {
            None if entry.state == EntryState::Deleted => false,
            None if entry.stamp.replica == before.replica && !is_set_back => true,
            None => {
                purged.insert(slot);
                false
            }
            Some((_, other)) => is_unseen_deletion(entry, other),
        };
        if is_news {
            let anew = Entry { stamp: origin.next_stamp(), ..entry.clone() };
            // It takes the place of its own lesser one, for which there is room.
            if ours.merge(&anew).is_ok() {
                tell(MergeEvent::Changed(anew));
            }
        }
    }
    ours.raise_floor(floor);
    for slot in &purged {
        let id = ours.entry(slot).map(|entry| entry.id.clone());
        if let Some(id) = id.filter(|id| ours.remove(id).is_some()) {
            tell(MergeEvent::Purged(id));
        }
    }

    let mut is_whole = true;
    for (_, entry) in theirs.iter_by_id() {
        if before.is_leap(entry.stamp.counter) {
            tell(MergeEvent::Leap(entry.clone()));
            is_whole = false;
            continue;
        }
        let held = ours.get(&entry.id).map(|(_, held)| held.clone());
        let stamp = match &held {
            None if is_up_to(entry, seen_here) => continue,
            Some(held) if is_up_to(entry, ours.floor()) && is_unseen_deletion(entry, held) => {
                origin.next_stamp()
            }
            _ => entry.stamp,
        };
        let taken = Entry { stamp, ..entry.clone() };
        match ours.merge(&taken) {
            Ok(Merged::Unchanged | Merged::Purged(_)) => continue,
            Ok(Merged::Inserted(_) | Merged::Replaced(_)) => tell(MergeEvent::Changed(taken)),
            Err(full) => {
                tell(MergeEvent::NoRoom(taken.id, full));
                is_whole = false;
                continue;
            }
        }
        if let Some(held) = held.filter(|held| held.stamp.replica == before.replica)
            && !is_same_but_for_its_stamp(&held, entry)
        {
            tell(MergeEvent::Replaced { ours: held, theirs: entry.clone() });
        }
    }
    match theirs.rollout() {
        Some(rollout) if before.is_leap(rollout.stamp.counter) => {
            tell(MergeEvent::RolloutLeap(*rollout));
            is_whole = false;
        }
        Some(rollout) if ours.merge_rollout(rollout) => tell(MergeEvent::Rollout(*rollout)),
        _ => {}
    }
    is_whole
}

/// Whether a map with this floor has seen the entry's change, and may have lost
/// it to a purge: a commit is never lost.
fn is_up_to(entry: &Entry, floor: u64) -> bool {
    entry.state != EntryState::Committed && entry.stamp.counter <= floor
}

/// Whether the one deletes what the other has live.
fn is_unseen_deletion(one: &Entry, other: &Entry) -> bool {
    one.state == EntryState::Deleted && other.state != EntryState::Deleted && one.merge_order(other).is_gt()
}

fn is_same_but_for_its_stamp(one: &Entry, other: &Entry) -> bool {
    (one.state, one.hash, one.size_bytes) == (other.state, other.hash, other.size_bytes)
        && one.meta == other.meta
}

#[cfg(test)]
mod tests;
