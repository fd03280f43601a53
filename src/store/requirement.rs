//! Whether hosts get what patches require. A host refuses a set without it, unless the signed
//! file of the patch says that hosts of its kind need none. That is in no entry, so that no
//! controller can say otherwise; here it is refused early.

use super::blobs::BlobStore;
use super::error::JobFailure;
use super::floor;
use crate::patch::metadata::{Metadata, Requirement};
use crate::repo::entry::Entry;
use crate::repo::map::Map;
use crate::repo::slots::SlotSet;

/// Checks the patches that a command would apply. What is not known because a file is not here,
/// hosts check alone.
///
/// # Errors
/// [`JobFailure`]: hosts would refuse one.
pub(super) fn check(map: &Map<'_>, to_apply: &SlotSet, blobs: &BlobStore) -> Result<(), JobFailure> {
    for entry in to_apply.iter().filter_map(|slot| map.entry(slot)) {
        let required = || entry.meta.requires.iter().filter_map(|id| map.get(id)).map(|(_, entry)| entry);
        if required().all(|other| other.meta.concerns_all(&entry.meta.nodetypes)) {
            continue;
        }
        let Some(Metadata { requires, .. }) = floor::metadata(blobs, entry) else { continue };
        let gets = |other: &&Entry| {
            let of = requires.iter().find(|required| required.id == other.id);
            of.is_none_or(|required| all_get(entry, required, other))
        };
        if let Some(other) = required().find(|other| !gets(other)) {
            return Err(JobFailure::refused(format_args!(
                "{} requires {}, which not all of its hosts get: name the kinds that do, behind that \
                 id in `requires`",
                entry.id, other.id
            )));
        }
    }
    Ok(())
}

/// Whether all hosts that need `other` for a patch get it.
fn all_get(entry: &Entry, required: &Requirement, other: &Entry) -> bool {
    let needing = required.nodetypes.iter().filter(|kind| entry.meta.concerns(kind));
    match required.nodetypes.is_empty() {
        true => other.meta.concerns_all(&entry.meta.nodetypes),
        false => needing.into_iter().all(|kind| other.meta.concerns(kind)),
    }
}
