//! Floors and superseded patches in a repository. What a patch says of them is read from its
//! signed file and is in no entry, so that no controller can lie about it. Agents check
//! everything themselves; here it is refused early.

use std::io::Read;

use super::blobs::BlobStore;
use super::error::{JobFailure, Stop, send};
use crate::job::reporter::Reporter;
use crate::job::{FloorFacts, Report};
use crate::limits;
use crate::patch::archive;
use crate::patch::floor::{BelowFloor, Floor, Memory, Says};
use crate::patch::metadata::Metadata;
use crate::repo::effective::wanted;
use crate::repo::entry::Entry;
use crate::repo::map::Map;
use crate::repo::slots::SlotSet;
use crate::types::{Hash, PatchId};

/// How far a patch file is read for its metadata, in bytes: `make` packs them first, and a
/// change must not wait for a file of gigabytes.
const READ_BYTES: u64 = 4 << 20;

/// The metadata of a patch; `None` if its file is not here, is damaged or has them far from
/// its begin.
pub(super) fn metadata(blobs: &BlobStore, entry: &Entry) -> Option<Metadata> {
    let blob = blobs.open(&entry.hash).ok().flatten()?;
    archive::metadata(blob.file.take(READ_BYTES)).ok().filter(|metadata| metadata.id == entry.id)
}

/// What a patch says of others; `None` if it says nothing or is not known.
fn says(blobs: &BlobStore, entry: &Entry) -> Option<Says> {
    metadata(blobs, entry)?.says()
}

/// What a patch says as a floor.
pub(super) fn floor(blobs: &BlobStore, entry: &Entry) -> Option<Floor> {
    if entry.state.is_deleted() || entry.size_bytes > limits::FLOOR_FILE_BYTES {
        return None;
    }
    says(blobs, entry)?.floor
}

/// The facts of a floor, if the file of this size that has this metadata is one.
pub(super) fn facts(metadata: &Metadata, size_bytes: u64) -> Option<FloorFacts> {
    let Floor { serial, expires, .. } = metadata.floor.as_ref()?;
    let is_one = size_bytes <= limits::FLOOR_FILE_BYTES;
    is_one.then(|| FloorFacts { id: metadata.id.clone(), serial: *serial, expires: *expires })
}

/// Reports a file that is a floor.
pub(super) fn report(blobs: &BlobStore, entry: &Entry, reporter: &mut dyn Reporter) -> Result<(), Stop> {
    let floor = metadata(blobs, entry).and_then(|metadata| facts(&metadata, entry.size_bytes));
    floor.map_or(Ok(()), |floor| send(reporter, &Report::FloorHere { hash: entry.hash, floor }))
}

/// Checks the set of applied patches that a change leads to, against the present one.
///
/// # Errors
/// [`JobFailure`]: hosts would refuse it.
pub(super) fn check(map: &Map<'_>, after: &SlotSet, blobs: &BlobStore) -> Result<(), JobFailure> {
    let before = wanted(map);
    let all: SlotSet = before.iter().chain(after.iter()).collect();
    let said = |slot| Some((slot, says(blobs, map.entry(slot)?)?));
    let all: Vec<_> = all.iter().filter_map(said).collect();
    let of = |set: &SlotSet| -> Vec<Says> {
        all.iter().filter(|(slot, _)| set.contains(*slot)).map(|(_, said)| said.clone()).collect()
    };
    // The bound is that of one host, which may never have had all of these.
    let memory = Memory::default().after(of(&before)).unwrap_or_default();
    let hash_of = |id: &PatchId| -> Option<Hash> {
        map.get(id).filter(|(slot, _)| after.contains(*slot)).map(|(_, entry)| entry.hash)
    };
    let requires = |upper: &PatchId, lower: &PatchId| {
        map.get(upper).is_some_and(|(_, entry)| entry.meta.requires.contains(lower))
    };
    // A repository is for every kind of host, also for one that comes later: it needs all that
    // its floor requires. So an operator learns of a file that is missing before such a host does.
    memory.check(&of(after), &hash_of, &|_| true, &requires).map_err(|below| match below {
        BelowFloor::Superseded(id) => superseded(&id, &before, &of(after), &of(&before), map),
        BelowFloor::Lacks { .. } => JobFailure::refused(format_args!(
            "{below}; use --below-floor if no host has the floor, or if a patch that supersedes it is next"
        )),
        _ => JobFailure::refused(format_args!("{below}; or use --below-floor, if no host has the floor")),
    })
}

/// The refusal of a set with a superseded patch: what the command should be instead.
fn superseded(id: &PatchId, before: &SlotSet, after: &[Says], was: &[Says], map: &Map<'_>) -> JobFailure {
    let by =
        |says: &[Says]| says.iter().find(|said| said.supersedes.contains(id)).map(|said| said.id.clone());
    let was_applied = map.get(id).is_some_and(|(slot, _)| before.contains(slot));
    match (by(after), by(was)) {
        (Some(by), _) if was_applied => JobFailure::refused(format_args!(
            "{by} takes the place of {id}: remove {id} first, with --below-floor if a floor requires it"
        )),
        (Some(by), _) => JobFailure::refused(format_args!(
            "{by} takes the place of {id}: hosts that had {by} refuse {id}, unless a floor allows it; or use \
             --below-floor, if none had it"
        )),
        (None, Some(by)) => JobFailure::refused(format_args!(
            "{by} supersedes {id}, which hosts refuse without it: remove both in one command, or neither"
        )),
        (None, None) => JobFailure::refused(BelowFloor::Superseded(id.clone())),
    }
}

/// Checks that a floor is uploaded under a serial of its own, above those that are here.
///
/// # Errors
/// [`JobFailure`] names the floor that is in the way.
pub(super) fn check_upload(
    offered: &PatchId,
    floor: &Floor,
    held: &[Entry],
    blobs: &BlobStore,
) -> Result<(), JobFailure> {
    for entry in held.iter().filter(|entry| entry.id != *offered) {
        if let Some(held) = self::floor(blobs, entry).filter(|held| held.serial >= floor.serial) {
            return Err(JobFailure::refused(format_args!(
                "{offered} is a floor with serial {}, and {} has serial {}: give it a higher one",
                floor.serial, entry.id, held.serial
            )));
        }
    }
    Ok(())
}
