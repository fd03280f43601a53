//! Another controller's map, read over a session and merged into ours.

use std::collections::HashSet;
use std::io;

use super::controllers::Controllers;
use super::disk::Store;
use super::error::{JobFailure, Stop, StoreError, finish, send};
use super::floor;
use super::signed::{self, Compared, Corrected};
use crate::config::Config;
use crate::job::FetchError;
use crate::job::reporter::Reporter;
use crate::job::{Report, SystemError};
use crate::limits;
use crate::repo::entry::{Entry, EntryState};
use crate::repo::join::{MergeEvent, Origin};
use crate::repo::map::Map;
use crate::repo::rollout::Rollout;
use crate::types::{Hash, Hostname, NodeId, PatchId, Reason};

/// The map of another controller, as a pull reads it.
pub trait MapSource {
    /// Asks for the map and returns its head.
    ///
    /// # Errors
    /// [`FetchError`]: the controller refuses, or the session broke.
    fn head(&mut self) -> Result<MapHead, FetchError>;

    /// The next part of the map; `None` at its end.
    ///
    /// # Errors
    /// [`FetchError`]: the session broke.
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

/// The head of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapHead {
    /// The hostname of the controller that sends it.
    pub hostname: Hostname,
    /// Its purge floor.
    pub floor: u64,
}

/// Reads the map of the controller `peer` and merges it with [`join`], in one durable
/// commit; then removes the files of patches that are gone. Nothing changes unless the
/// whole map arrived. Parts that are not accepted are reported, and the rest is merged.
///
/// A change made here is reported as replaced only if its counter is above `agreed`: up
/// to there, all known controllers have had the changes made here.
///
/// Reports [`Report::Controller`], [`Report::Floor`] if it rose, each
/// [`Report::EntryPurged`], each [`Report::Entry`] that changed, followed by
/// [`Report::BlobMissing`] if its file is missing, [`Report::Rollout`] if it changed,
/// each [`Report::Replaced`] and [`Report::Notice`], [`Report::Pulled`], then `Done`; or
/// `Failed`.
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
    // The map is read before the lock is taken, so that a slow peer delays no other job.
    let mut received = ReceivedMap::read(source).map_err(|error| error.of(peer))?;
    let mut store = Store::open(&config.node.state_dir)?;
    let mut notices = std::mem::take(&mut received.notices);
    if let Some(full) = remember(&store, peer, &received.hostname)? {
        notices.push(full);
    } else {
        send(reporter, &Report::Controller { node: peer, hostname: received.hostname.clone() })?;
    }

    let mut is_credible = true;
    for entry in received.stand_by_committed(&mut store, &mut notices)? {
        is_credible = false;
        send(reporter, &Report::Entry(entry))?;
    }
    let before: Vec<Entry> = store.entries().to_vec();
    let floor_before = store.floor();
    let mut memory = Vec::with_capacity(limits::ENTRIES);
    let digest = received.map(&mut memory).digest();
    is_credible &= received.drop_other_patches(&store, &mut notices);
    let theirs = received.map(&mut memory);
    let mut events = store.merge(&theirs, received.floor, &mut notices)?;
    let is_right = correct(&mut store, &mut events, &received.hostname, &mut notices)?;
    if store.floor() > floor_before {
        send(reporter, &Report::Floor(store.floor()))?;
    }
    for event in &events {
        if let MergeEvent::Purged(id) = event {
            send(reporter, &Report::EntryPurged(id.clone()))?;
        }
    }
    for event in &events {
        if let MergeEvent::Changed(entry) = event {
            send(reporter, &Report::Entry(entry.clone()))?;
            if !entry.state.is_deleted() && !store.blobs().has(entry) {
                send(reporter, &Report::BlobMissing { hash: entry.hash, reason: Reason::default() })?;
            } else {
                floor::report(&store.blobs(), entry, reporter)?;
            }
        }
    }
    for event in &events {
        if let MergeEvent::Rollout(rollout) = event {
            send(reporter, &Report::Rollout(*rollout))?;
        }
    }
    for event in &events {
        // A change of something that all controllers had was made with knowledge of it.
        if let MergeEvent::Replaced { ours, theirs } = event
            && ours.stamp.counter > agreed
        {
            send(reporter, &Report::Replaced(replaced(ours, theirs)))?;
        }
    }
    for notice in events.iter().filter_map(|event| notice(&received.hostname, event)).chain(notices) {
        send(reporter, &Report::Notice(notice))?;
    }
    remove_unnamed(&store, &before, reporter)?;
    let is_refused = |event: &MergeEvent| {
        matches!(event, MergeEvent::Leap(_) | MergeEvent::RolloutLeap(_) | MergeEvent::NoRoom(..))
    };
    let is_whole = is_credible && is_right && !events.iter().any(is_refused);
    send(reporter, &Report::Pulled { digest, is_whole })
}

/// Corrects entries that changed, where their files say something else. Returns whether
/// none did.
fn correct(
    store: &mut Store,
    events: &mut [MergeEvent],
    hostname: &Hostname,
    notices: &mut Vec<Reason>,
) -> Result<bool, Stop> {
    let changed: HashSet<PatchId> = events
        .iter()
        .filter_map(
            |event| if let MergeEvent::Changed(entry) = event { Some(entry.id.clone()) } else { None },
        )
        .collect();
    let corrected = signed::correct(store, |entry| changed.contains(&entry.id))?;
    for Corrected { entry, notice } in &corrected {
        notices.push(Reason::format(format_args!("controller {hostname}: {notice}")));
        for event in &mut *events {
            if matches!(event, MergeEvent::Changed(changed) if changed.id == entry.id) {
                *event = MergeEvent::Changed(entry.clone());
            }
        }
    }
    Ok(corrected.is_empty())
}

/// A map as it was received.
struct ReceivedMap {
    hostname: Hostname,
    /// 0 if a part of the map is invalid: then it cannot say what was purged.
    floor: u64,
    /// Without duplicate ids.
    entries: Vec<Entry>,
    rollout: Option<Rollout>,
    notices: Vec<Reason>,
}

/// Why a map was not received.
enum PullError {
    Fetch(FetchError),
    /// It has more entries than a map may have.
    TooLong,
}

impl From<FetchError> for PullError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl PullError {
    fn of(&self, peer: NodeId) -> JobFailure {
        match self {
            Self::Fetch(FetchError::Refused(reason)) => {
                JobFailure::refused(format_args!("controller {peer} does not give its map: {reason}"))
            }
            Self::Fetch(FetchError::Session(error) | FetchError::Sink(error)) => {
                JobFailure::refused(format_args!(
                    "controller {peer} fell silent before its map was whole ({}); nothing of it \
                              is taken, and it is asked again soon",
                    SystemError(error)
                ))
            }
            Self::TooLong => JobFailure::refused(format_args!(
                "controller {peer} sends more than the {} entries that a map may have; nothing of it is \
                 taken: look at that controller",
                limits::ENTRIES
            )),
        }
    }
}

impl ReceivedMap {
    fn read(source: &mut dyn MapSource) -> Result<Self, PullError> {
        let MapHead { hostname, mut floor } = source.head()?;
        let (mut entries, mut notices): (Vec<Entry>, _) = (Vec::new(), Vec::new());
        let mut seen: HashSet<PatchId> = HashSet::new();
        let (mut parts, mut rollout) = (0, None);
        while let Some(part) = source.next()? {
            parts += 1;
            let entry = match part {
                _ if parts > limits::ENTRIES + 1 => return Err(PullError::TooLong),
                MapPart::Entry(entry) => entry,
                MapPart::Rollout(one) => {
                    rollout = Some(one);
                    continue;
                }
            };
            if entries.len() == limits::ENTRIES {
                return Err(PullError::TooLong);
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

    /// Commits anew what is committed here, with its file, and void there: only a patch whose
    /// file is nowhere may be void. Returns these entries.
    fn stand_by_committed(
        &self,
        store: &mut Store,
        notices: &mut Vec<Reason>,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut stamp = store.next_stamp();
        let known = Origin { replica: stamp.replica, counter: store.counter() };
        let mut anew = Vec::new();
        for theirs in self.entries.iter().filter(|entry| entry.state == EntryState::Voided) {
            let is_here = |held: &&Entry| {
                held.id == theirs.id && held.state == EntryState::Committed && store.blobs().has(held)
            };
            let Some(held) = store.entries().iter().find(is_here) else { continue };
            if held.merge_order(theirs).is_gt() || known.is_leap(theirs.stamp.counter) {
                continue;
            }
            stamp.counter = stamp.counter.max(theirs.stamp.counter).saturating_add(1);
            anew.push(Entry { stamp, ..held.clone() });
            notices.push(Reason::format(format_args!(
                "{} of controller {} is not taken: it is void there, and here it is committed and has its \
                 file. If no controller is misconfigured, one that lies holds a key",
                theirs.id, self.hostname
            )));
        }
        if !anew.is_empty() {
            store.commit(&anew)?;
        }
        Ok(anew)
    }

    /// Drops entries whose file is here and is that of another patch. Returns whether there
    /// was none.
    fn drop_other_patches(&mut self, store: &Store, notices: &mut Vec<Reason>) -> bool {
        let blobs = store.blobs();
        let before = self.entries.len();
        let hostname = &self.hostname;
        self.entries.retain(|entry| {
            let is_held = |held: &Entry| (&held.id, held.hash) == (&entry.id, entry.hash);
            if store.entries().iter().any(is_held) {
                return true;
            }
            let Compared::Other(id) = signed::compare(&blobs, entry) else { return true };
            notices.push(Reason::format(format_args!(
                "{} of controller {hostname} is not taken: the file that it names is that of {id}; look at \
                 that controller",
                entry.id
            )));
            false
        });
        let is_credible = self.entries.len() == before;
        if !is_credible {
            self.floor = 0;
        }
        is_credible
    }

    fn map<'a>(&self, memory: &'a mut Vec<Entry>) -> Map<'a> {
        let mut map = Map::new(memory);
        for entry in &self.entries {
            // `read` has checked that all entries fit.
            let _ = map.merge(entry);
        }
        if let Some(rollout) = &self.rollout {
            map.merge_rollout(rollout);
        }
        map
    }
}

/// Adds a controller to the known ones. Returns a notice if there is no space.
fn remember(store: &Store, peer: NodeId, hostname: &Hostname) -> Result<Option<Reason>, Stop> {
    let mut known = Controllers::read(store.dir())?;
    if known.name(peer) == Some(hostname) {
        return Ok(None);
    }
    if !known.insert(peer, hostname) {
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
        entries.iter().filter(|entry| !entry.state.is_deleted()).map(|entry| entry.hash).collect()
    };
    let named = live(store.entries());
    for gone in live(before).difference(&named) {
        // The map no longer names it; if it stays, the next start removes it.
        if let Err(error) = store.blobs().remove(gone) {
            let notice = format_args!("the file {gone:.16} of a deleted patch is still there: {error}");
            send(reporter, &Report::Notice(Reason::format(notice)))?;
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

/// The notice about an event of a merge, if the operator must know of it.
fn notice(hostname: &Hostname, event: &MergeEvent) -> Option<Reason> {
    match event {
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
        let of = |event| notice(&host, &event).unwrap();
        let notices = [
            replaced(&longest(EntryState::Available), &longest(EntryState::Deleted)),
            crate::store::disk::leaping_floor(u64::MAX),
            of(MergeEvent::Leap(longest(EntryState::Committed))),
            of(MergeEvent::NoRoom(id, Full { entries: limits::ENTRIES })),
            of(MergeEvent::Renamed),
        ];
        for reason in notices {
            assert!(reason.raw().len() < limits::REASON_BYTES, "cut: {reason}");
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
            replaced(&of(EntryState::Applied, 12), &of(EntryState::Deleted, 14)).raw(),
            "THIMBLE-7: your change (Applied, no. 12) was replaced by another controller's (Deleted, no. 14)"
        );
    }
}
