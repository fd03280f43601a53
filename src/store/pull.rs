//! Another controller's map, read over a session and merged into ours.

use std::collections::HashSet;
use std::io;

use super::controllers::Controllers;
use super::disk::Store;
use super::error::{JobFailure, Stop, finish, tell};
use crate::config::Config;
use crate::job::FetchError;
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::limits;
use crate::repo::entry::{Entry, EntryState};
use crate::repo::join::MergeEvent;
use crate::repo::map::Map;
use crate::repo::rollout::Rollout;
use crate::types::{Hash, Hostname, NodeId, PatchId, Reason};

/// Another controller, as a pull sees it.
pub trait MapSource {
    /// Asks for its map, and gives how that begins.
    ///
    /// # Errors
    /// [`FetchError`]: it says no, or is gone.
    fn head(&mut self) -> Result<MapHead, FetchError>;

    /// What comes next of the map; `None` at its end.
    ///
    /// # Errors
    /// [`FetchError`]: it is gone.
    fn next(&mut self) -> Result<Option<MapPart>, FetchError>;
}

/// A part of a map, after its head.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one at a time, and all but one are entries")]
pub enum MapPart {
    /// An entry.
    Entry(Entry),
    /// The rollout.
    Rollout(Rollout),
}

/// How a map begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapHead {
    /// What the controller that it comes from calls itself.
    pub hostname: Hostname,
    /// Its purge floor.
    pub floor: u64,
}

/// Reads the map of the controller `peer` and merges it as [`join`] says, all of
/// it in one durable commit; then removes the files of patches that are gone.
/// Nothing changes unless the map came whole. What of it is not taken is named,
/// and the rest merges.
///
/// A change made here is told of as replaced only where its counter is above
/// `agreed`: up to there all known controllers have had what was changed here.
///
/// Reports [`Report::Controller`], [`Report::Floor`] where it rose, each
/// [`Report::EntryPurged`], each [`Report::Entry`] that changed, followed by
/// [`Report::BlobMissing`] where its file is not here, [`Report::Rollout`] where
/// that changed, each [`Report::Replaced`]
/// and [`Report::Notice`], [`Report::Pulled`], then `Done`; or `Failed`.
///
/// [`join`]: crate::repo::join::join
///
/// # Errors
/// The reporter's.
pub fn pull(
    config: &Config,
    peer: NodeId,
    agreed: u64,
    source: &mut dyn MapSource,
    reporter: &mut dyn Reporter,
) -> io::Result<()> {
    finish(run(config, peer, agreed, source, reporter), reporter)
}

fn run(
    config: &Config,
    peer: NodeId,
    agreed: u64,
    source: &mut dyn MapSource,
    reporter: &mut dyn Reporter,
) -> Result<(), Stop> {
    // Read before the lock is taken: a slow neighbour holds up nobody.
    let mut answer = Answer::read(source).map_err(|why| why.of(peer))?;
    let mut store = Store::open(&config.node.state_dir)?;
    let mut notices = std::mem::take(&mut answer.notices);
    if let Some(full) = note(&store, peer, &answer.hostname)? {
        notices.push(full);
    } else {
        tell(reporter, &Report::Controller { node: peer, hostname: answer.hostname.clone() })?;
    }

    let before: Vec<Entry> = store.entries().to_vec();
    let floor_before = store.floor();
    let mut memory = Vec::with_capacity(limits::ENTRIES);
    let theirs = answer.map(&mut memory);
    let told = store.merge(&theirs, answer.floor, &mut notices)?;
    if store.floor() > floor_before {
        tell(reporter, &Report::Floor(store.floor()))?;
    }
    for told in &told {
        if let MergeEvent::Purged(id) = told {
            tell(reporter, &Report::EntryPurged(id.clone()))?;
        }
    }
    for told in &told {
        if let MergeEvent::Changed(entry) = told {
            tell(reporter, &Report::Entry(entry.clone()))?;
            if entry.state != EntryState::Deleted && !store.blobs().has(entry) {
                tell(reporter, &Report::BlobMissing { hash: entry.hash, reason: Reason::default() })?;
            }
        }
    }
    for told in &told {
        if let MergeEvent::Rollout(rollout) = told {
            tell(reporter, &Report::Rollout(*rollout))?;
        }
    }
    for told in &told {
        // Whoever changes what is agreed knew it.
        if let MergeEvent::Replaced { ours, theirs } = told
            && ours.stamp.counter > agreed
        {
            tell(reporter, &Report::Replaced(replaced(ours, theirs)))?;
        }
    }
    for notice in told.iter().filter_map(|told| notice(&answer.hostname, told)).chain(notices) {
        tell(reporter, &Report::Notice(notice))?;
    }
    remove_unnamed(&store, &before, reporter)?;
    let is_whole = !told.iter().any(|told| {
        matches!(told, MergeEvent::Leap(_) | MergeEvent::RolloutLeap(_) | MergeEvent::NoRoom(..))
    });
    tell(reporter, &Report::Pulled { digest: theirs.digest(), is_whole })
}

/// A map as it came.
struct Answer {
    hostname: Hostname,
    /// 0 where not all of it makes sense: then it does not say what was purged.
    floor: u64,
    /// No two of one id.
    entries: Vec<Entry>,
    rollout: Option<Rollout>,
    notices: Vec<Reason>,
}

/// Why a map did not come.
enum NoAnswer {
    Fetch(FetchError),
    Endless,
}

impl From<FetchError> for NoAnswer {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl NoAnswer {
    fn of(&self, peer: NodeId) -> JobFailure {
        match self {
            Self::Fetch(FetchError::Refused(reason)) => {
                JobFailure::refused(format_args!("controller {peer} does not give its map: {reason}"))
            }
            Self::Fetch(FetchError::Session(error) | FetchError::Sink(error)) => {
                JobFailure::refused(format_args!(
                    "controller {peer} fell silent before its map was whole ({}); nothing of it \
                              is taken, and it is asked again soon",
                    error.kind()
                ))
            }
            Self::Endless => JobFailure::refused(format_args!(
                "controller {peer} sends more than the {} entries that a map may have; nothing of it is \
                 taken: look at that controller",
                limits::ENTRIES
            )),
        }
    }
}

impl Answer {
    fn read(source: &mut dyn MapSource) -> Result<Self, NoAnswer> {
        let MapHead { hostname, mut floor } = source.head()?;
        let (mut entries, mut notices): (Vec<Entry>, _) = (Vec::new(), Vec::new());
        let mut seen: HashSet<PatchId> = HashSet::new();
        let (mut came, mut rollout) = (0, None);
        while let Some(part) = source.next()? {
            came += 1;
            let entry = match part {
                _ if came > limits::ENTRIES + 1 => return Err(NoAnswer::Endless),
                MapPart::Entry(entry) => entry,
                MapPart::Rollout(one) => {
                    rollout = Some(one);
                    continue;
                }
            };
            if entries.len() == limits::ENTRIES {
                return Err(NoAnswer::Endless);
            }
            if !entry.id.is_empty() && seen.insert(entry.id.clone()) {
                entries.push(entry);
                continue;
            }
            floor = 0;
            notices.push(Reason::format(format_args!(
                "controller {hostname} sends two entries for patch {:?}, or one without a name; only \
                 the first is taken: look at that controller",
                entry.id.as_str()
            )));
        }
        Ok(Self { hostname, floor, entries, rollout, notices })
    }

    fn map<'a>(&self, memory: &'a mut Vec<Entry>) -> Map<'a> {
        let mut map = Map::new(memory);
        for entry in &self.entries {
            // There are at most as many as there is room for: `read` saw to it.
            let _ = map.merge(entry);
        }
        if let Some(rollout) = &self.rollout {
            map.merge_rollout(rollout);
        }
        map
    }
}

/// Keeps a controller that was met in mind. Where there is no room, what to say.
fn note(store: &Store, peer: NodeId, hostname: &Hostname) -> Result<Option<Reason>, Stop> {
    let mut known = Controllers::read(store.dir())?;
    if known.name(peer) == Some(hostname) {
        return Ok(None);
    }
    if !known.note(peer, hostname) {
        return Ok(Some(Reason::format(format_args!(
            "controller {hostname} ({peer}) is one more than the {} that a cluster may have, so a purge \
             does not wait for it: drop-controller one that is gone for good",
            limits::CONTROLLERS
        ))));
    }
    known.write(store.dir())?;
    Ok(None)
}

/// Removes the files of patches that the merge deleted, purged or gave other content.
fn remove_unnamed(store: &Store, before: &[Entry], reporter: &mut dyn Reporter) -> Result<(), Stop> {
    let live = |entries: &[Entry]| -> HashSet<Hash> {
        entries.iter().filter(|entry| entry.state != EntryState::Deleted).map(|entry| entry.hash).collect()
    };
    let named = live(store.entries());
    for gone in live(before).difference(&named) {
        // As with a deletion made here: the map no longer names it.
        if let Err(error) = store.blobs().remove(gone) {
            let notice = format_args!("the file {gone:.16} of a deleted patch is still there: {error}");
            tell(reporter, &Report::Notice(Reason::format(notice)))?;
        }
    }
    Ok(())
}

fn replaced(ours: &Entry, theirs: &Entry) -> Reason {
    let other_content = if ours.hash == theirs.hash { "" } else { " with other content" };
    Reason::format(format_args!(
        "{}: your change ({:?}, no. {}) was replaced by another controller's ({:?}{other_content}, no. {})",
        ours.id, ours.state, ours.stamp.counter, theirs.state, theirs.stamp.counter
    ))
}

/// What is to be said of what a merge did beyond its entries.
fn notice(hostname: &Hostname, told: &MergeEvent) -> Option<Reason> {
    match told {
        MergeEvent::Purged(_)
        | MergeEvent::Changed(_)
        | MergeEvent::Rollout(_)
        | MergeEvent::Replaced { .. } => None,
        MergeEvent::RolloutLeap(rollout) => Some(Reason::format(format_args!(
            "the rollout of controller {hostname} is not taken: its counter {} is absurdly far above ours; \
             look at that controller",
            rollout.stamp.counter
        ))),
        MergeEvent::Leap(entry) => Some(Reason::format(format_args!(
            "{} of controller {hostname} is not taken: its counter {} is absurdly far above ours; look at \
             that controller",
            entry.id, entry.stamp.counter
        ))),
        MergeEvent::NoRoom(id, full) => {
            Some(Reason::format(format_args!("{id} of controller {hostname} is not taken. {full}")))
        }
        MergeEvent::Renamed => Some(Reason::format(format_args!(
            "controller {hostname} knows later changes of ours than we do: this repository has been set \
             back, from a backup perhaps, and goes on under a new replica name"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::entry::{EntryMeta, Stamp};
    use crate::repo::map::Full;

    fn longest(state: EntryState) -> Entry {
        let id = PatchId::new(&"P".repeat(limits::PATCH_ID_BYTES)).unwrap();
        let stamp = Stamp { counter: u64::MAX, replica: u64::MAX };
        let hash = Hash([u8::from(state == EntryState::Deleted); 32]);
        Entry { id, hash, size_bytes: 1, state, stamp, meta: EntryMeta::default() }
    }

    #[test]
    fn every_notice_of_a_merge_fits_the_reason_that_reaches_the_operator() {
        let host = Hostname::new(&"h".repeat(limits::HOSTNAME_BYTES)).unwrap();
        let id = longest(EntryState::Applied).id;
        let of = |told| notice(&host, &told).unwrap();
        let said = [
            replaced(&longest(EntryState::Available), &longest(EntryState::Deleted)),
            crate::store::disk::leaping_floor(u64::MAX),
            of(MergeEvent::Leap(longest(EntryState::Committed))),
            of(MergeEvent::NoRoom(id, Full { entries: limits::ENTRIES })),
            of(MergeEvent::Renamed),
        ];
        for reason in said {
            assert!(reason.as_str().len() < limits::REASON_BYTES, "cut: {reason}");
        }
    }

    #[test]
    fn a_replaced_change_is_shown_with_what_replaced_it() {
        let id = PatchId::new("THIMBLE-7").unwrap();
        let of = |state, counter| Entry {
            id: id.clone(),
            hash: Hash([1; 32]),
            stamp: Stamp { counter, replica: 1 },
            ..longest(state)
        };
        assert_eq!(
            replaced(&of(EntryState::Applied, 12), &of(EntryState::Deleted, 14)).as_str(),
            "THIMBLE-7: your change (Applied, no. 12) was replaced by another controller's (Deleted, no. 14)"
        );
    }
}
