//! Merges another controller's map into this controller's.
//!
//! For each id the greater entry stays, as in [`Map::merge`]. Purges and untrusted
//! counters need further rules:
//!
//! - An entry that one side lacks, and whose counter is not above the purge floor of
//!   that side, was deleted there and purged. It is removed here as well. An entry that
//!   was made here stays: the purge would have waited for this controller if it had
//!   known it, so the purge did not cover the entry. It gets a new stamp above the
//!   floor. This exception does not hold if this map is older than what the peer has
//!   seen of it (restored from a backup): then the peer's knowledge counts.
//! - A deletion with a counter not above the floor, which the other side has not seen,
//!   gets a new stamp as well. Without it, the purge that the other side missed would
//!   bring the patch back.
//! - A counter far above our own is refused: an invented one would use up the range.
//!
//! In whatever order controllers merge, they end with the same entries.

use crate::limits::COUNTER_LEAP;
use crate::repo::entry::{Entry, EntryState, Stamp};
use crate::repo::map::{Full, Map, Merged};
use crate::repo::rollout::Rollout;
use crate::repo::slots::SlotSet;
use crate::types::PatchId;

/// The replica id and counter for new stamps of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The map's replica id, a random number.
    pub replica: u64,
    /// The highest counter that the map has used or merged.
    pub counter: u64,
}

impl Origin {
    /// The stamp of the next change.
    pub fn next_stamp(&mut self) -> Stamp {
        self.counter = self.counter.saturating_add(1);
        Stamp { counter: self.counter, replica: self.replica }
    }

    /// Whether a counter of another controller is too far above ours to be accepted.
    #[must_use]
    pub fn is_leap(&self, counter: u64) -> bool {
        counter > self.counter.saturating_add(COUNTER_LEAP)
    }
}

/// One result of a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "reported one at a time, and most are entries")]
pub enum MergeEvent {
    /// The patch was deleted and purged elsewhere, and is removed here.
    Purged(PatchId),
    /// The map now contains this entry.
    Changed(Entry),
    /// The map now contains this rollout.
    Rollout(Rollout),
    /// The rollout was refused: its counter is too far above ours.
    RolloutLeap(Rollout),
    /// A change made here was replaced by one made elsewhere.
    Replaced {
        /// The entry made here.
        ours: Entry,
        /// The entry that replaces it.
        theirs: Entry,
    },
    /// An entry was refused: its counter is too far above ours.
    Leap(Entry),
    /// An entry was refused for lack of room.
    NoRoom(PatchId, Full),
    /// The peer has changes of our replica that we do not have: our map was restored from
    /// a backup, and new stamps use a new replica id.
    Renamed,
}

/// Merges `theirs`, a map with the purge floor `floor`, into `ours`, and reports each
/// result to `report`. `fresh` is the new replica id for [`MergeEvent::Renamed`]. True if
/// everything was merged.
///
/// A map that refused an entry must not take over a floor, which claims that everything
/// up to it was seen. If this returns false for a floor above 0, the caller must discard
/// `ours` and merge into its previous content with a floor of 0. It must do the same for
/// a floor for which [`Origin::is_leap`] is true.
#[must_use]
pub fn join(
    ours: &mut Map<'_>,
    origin: &mut Origin,
    theirs: &Map<'_>,
    floor: u64,
    fresh: u64,
    report: &mut dyn FnMut(MergeEvent),
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
        report(MergeEvent::Renamed);
    }

    let mut purged = SlotSet::new();
    let all: SlotSet = ours.iter().map(|(slot, _)| slot).collect();
    for slot in &all {
        let Some(entry) = ours.entry(slot).filter(|entry| is_up_to(entry, floor)) else { continue };
        let is_news = match theirs.get(&entry.id) {
            None if entry.state.is_deleted() => false,
            None if entry.stamp.replica == before.replica && !is_set_back => true,
            None => {
                purged.insert(slot);
                false
            }
            Some((_, other)) => is_unseen_deletion(entry, other),
        };
        if is_news {
            let anew = Entry { stamp: origin.next_stamp(), ..entry.clone() };
            // It replaces the same entry with a lower stamp, so there is room.
            if ours.merge(&anew).is_ok() {
                report(MergeEvent::Changed(anew));
            }
        }
    }
    ours.raise_floor(floor);
    for slot in &purged {
        let id = ours.entry(slot).map(|entry| entry.id.clone());
        if let Some(id) = id.filter(|id| ours.remove(id).is_some()) {
            report(MergeEvent::Purged(id));
        }
    }

    let mut is_whole = true;
    for (_, entry) in theirs.iter_by_id() {
        if before.is_leap(entry.stamp.counter) {
            report(MergeEvent::Leap(entry.clone()));
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
            Ok(Merged::Inserted(_) | Merged::Replaced(_)) => report(MergeEvent::Changed(taken)),
            Err(full) => {
                report(MergeEvent::NoRoom(taken.id, full));
                is_whole = false;
                continue;
            }
        }
        if let Some(held) = held.filter(|held| held.stamp.replica == before.replica)
            && !is_same_but_for_its_stamp(&held, entry)
        {
            report(MergeEvent::Replaced { ours: held, theirs: entry.clone() });
        }
    }
    match theirs.rollout() {
        Some(rollout) if before.is_leap(rollout.stamp.counter) => {
            report(MergeEvent::RolloutLeap(*rollout));
            is_whole = false;
        }
        Some(rollout) if ours.merge_rollout(rollout) => report(MergeEvent::Rollout(*rollout)),
        _ => {}
    }
    is_whole
}

/// Whether a map with this floor has seen the entry's change and may have purged it. A
/// committed patch is never purged.
fn is_up_to(entry: &Entry, floor: u64) -> bool {
    entry.state != EntryState::Committed && entry.stamp.counter <= floor
}

/// Whether `one` deletes a patch that is live in `other`, whose change is earlier.
fn is_unseen_deletion(one: &Entry, other: &Entry) -> bool {
    let is_later = one.merge_order(other).is_gt() && one.stamp > other.stamp;
    one.state.is_deleted() && !other.state.is_deleted() && is_later
}

fn is_same_but_for_its_stamp(one: &Entry, other: &Entry) -> bool {
    (one.state, one.hash, one.size_bytes) == (other.state, other.hash, other.size_bytes)
        && one.meta == other.meta
}

#[cfg(test)]
mod tests;
