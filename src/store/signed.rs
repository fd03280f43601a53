//! What the signed file of a patch says, where its entry says something else.
//!
//! An entry is the word of whoever made it: the holder of a controller's key can serve one
//! with false metadata. The file has the hash that the entry names and a maker's signature,
//! so where a file is here, it is right. Its entry is corrected by a change of this
//! controller's own, which goes to the others like any change.

use super::blobs::BlobStore;
use super::disk::Store;
use super::error::{Stop, StoreError, send};
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::patch::archive;
use crate::repo::entry::{Entry, EntryMeta};
use crate::types::{PatchId, Reason};

/// An entry beside its file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// It says what the file says, or the file is not here.
    Same,
    /// What the file says, and what of it the entry has wrong.
    Wrong { meta: Box<EntryMeta>, size_bytes: u64, wrong: String },
    /// The file is that of another patch.
    Other(PatchId),
}

/// Compares an entry with its file, if that is here.
pub(super) fn compare(blobs: &BlobStore, entry: &Entry) -> Compared {
    // A tombstone says nothing about its file.
    if entry.state.is_deleted() {
        return Compared::Same;
    }
    match blobs.open(&entry.hash) {
        Ok(Some(blob)) => match archive::metadata(&blob.file) {
            Ok(metadata) => compare_with(&metadata.id, &metadata.entry_meta(), blob.size_bytes, entry),
            // Whoever reads the file tells.
            Err(_) => Compared::Same,
        },
        _ => Compared::Same,
    }
}

/// Compares an entry with what its file says: an id, and the metadata, and its size.
pub(super) fn compare_with(id: &PatchId, is: &EntryMeta, size_bytes: u64, entry: &Entry) -> Compared {
    if *id != entry.id {
        return Compared::Other(id.clone());
    }
    let says = &entry.meta;
    let fields = [
        ("sw_version", is.sw_version == says.sw_version),
        ("summary", is.summary == says.summary),
        ("status", is.status == says.status),
        ("reboot_required", is.reboot_required == says.reboot_required),
        ("unremovable", is.unremovable == says.unremovable),
        ("apply_active_release_only", is.apply_active_release_only == says.apply_active_release_only),
        ("requires", is.requires == says.requires),
        ("nodetypes", is.nodetypes == says.nodetypes),
        ("size", size_bytes == entry.size_bytes),
    ];
    let wrong: Vec<_> = fields.iter().filter(|(_, is_same)| !is_same).map(|(name, _)| *name).collect();
    if is == says && wrong.is_empty() {
        return Compared::Same;
    }
    Compared::Wrong { meta: Box::new(is.clone()), size_bytes, wrong: wrong.join(", ") }
}

/// An entry that was corrected.
#[derive(Debug)]
pub(super) struct Corrected {
    /// As it is now.
    pub(super) entry: Entry,
    /// What the operator must know.
    pub(super) notice: Reason,
}

impl Corrected {
    /// Reports the entry and the notice.
    pub(super) fn report(self, reporter: &mut dyn Reporter) -> Result<(), Stop> {
        send(reporter, &Report::Entry(self.entry))?;
        send(reporter, &Report::Notice(self.notice))
    }
}

/// Corrects those of the store's entries that `is_asked` for and that say something else
/// than their files.
///
/// # Errors
/// [`StoreError`]: the map cannot be written; no entry is changed then.
pub(super) fn correct(
    store: &mut Store,
    is_asked: impl Fn(&Entry) -> bool,
) -> Result<Vec<Corrected>, StoreError> {
    let blobs = store.blobs();
    correct_as(store, &|entry| if is_asked(entry) { compare(&blobs, entry) } else { Compared::Same })
}

/// Corrects those of the store's entries that are [`Compared::Wrong`] by `compare`.
///
/// # Errors
/// As [`correct`].
pub(super) fn correct_as(
    store: &mut Store,
    compare: &dyn Fn(&Entry) -> Compared,
) -> Result<Vec<Corrected>, StoreError> {
    let mut corrected = Vec::new();
    let mut stamp = store.next_stamp();
    for entry in store.entries() {
        if let Compared::Wrong { meta, size_bytes, wrong } = compare(entry) {
            let notice = Reason::format(format_args!(
                "the entry of {} was wrong in {wrong}: it now says what its signed file says. If no \
                 controller is misconfigured, one that lies holds a key",
                entry.id
            ));
            let entry = Entry { meta: *meta, size_bytes, stamp, ..entry.clone() };
            corrected.push(Corrected { entry, notice });
            stamp.counter = stamp.counter.saturating_add(1);
        }
    }
    if !corrected.is_empty() {
        let entries: Vec<_> = corrected.iter().map(|corrected| corrected.entry.clone()).collect();
        store.commit(&entries)?;
    }
    Ok(corrected)
}
