//! Fetched patch files that get their names together.
//!
//! A disk takes about as long to sync one small file as many at once. So small files wait, for
//! a short time, until there are several: each is synced, several at a time; then, under the
//! lock, all are renamed, and the directory is synced once for the signatures and once for the
//! patch files. A wanted file waits for wanted ones only, and no file waits for the bytes of a
//! large one.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{io, mem, panic, slice, thread};

use super::blobs::{BlobStore, Written};
use super::disk::Store;
use super::error::StoreError;
use super::partial::Partial;
use super::signed::{self, Compared, Corrected};
use super::{durable, floor};
use crate::job::FloorFacts;
use crate::patch::metadata::Metadata;
use crate::repo::entry::{Entry, EntryMeta};

/// A file up to this size, in bytes, may wait for others.
pub(super) const SMALL_BYTES: u64 = 256 * 1024;
/// The most files that wait. Each has two descriptors open.
const FILES: usize = 64;
/// How long the first of them may wait, apart from the time that the next file takes to come.
const PATIENCE: Duration = Duration::from_millis(250);
/// How many files are synced at a time: the disk writes what they have in common once.
const SYNCS: usize = 8;

/// How many of these files, at least one, may be asked for at once: as many as may wait for each
/// other.
pub(super) fn group(missing: &[&Entry]) -> usize {
    let is_like = |(one, other): (&&Entry, &&Entry)| are_alike(one, other);
    let alike = missing.iter().zip(missing.iter().skip(1)).take(FILES - 1).take_while(|pair| is_like(*pair));
    missing.len().min(1 + alike.count())
}

/// Whether one of these files may wait for the other.
fn are_alike(one: &Entry, other: &Entry) -> bool {
    one.size_bytes.max(other.size_bytes) <= SMALL_BYTES && one.is_wanted() == other.is_wanted()
}

/// A patch file that is whole and verified, not yet durable.
pub(super) struct Arrived<'a> {
    pub(super) entry: &'a Entry,
    partial: Partial,
    signature: File,
    has_index: bool,
    /// What the file says of itself.
    meta: Box<EntryMeta>,
    floor: Option<FloorFacts>,
}

impl<'a> Arrived<'a> {
    /// Writes the signature and, if there is one, the index beside the patch file.
    ///
    /// # Errors
    /// [`StoreError`]: the signature cannot be written.
    pub(super) fn new(
        entry: &'a Entry,
        partial: Partial,
        signature: &[u8],
        metadata: &Metadata,
        index: Option<&[u8]>,
    ) -> Result<Self, StoreError> {
        let [signature_path, index_path] = BlobStore::beside(partial.path());
        let signature =
            durable::write(&signature_path, signature).map_err(StoreError::at(&signature_path))?;
        // Without an index, the patch is read.
        let has_index = index.is_some_and(|index| durable::write(&index_path, index).is_ok());
        let (meta, floor) = (Box::new(metadata.entry_meta()), floor::facts(metadata, entry.size_bytes));
        Ok(Self { entry, partial, signature, has_index, meta, floor })
    }

    /// Removes what is beside the patch file.
    fn remove_beside(&self) {
        BlobStore::remove_beside(self.partial.path());
    }

    /// Removes all: the map does not name the file, or it is here, or the disk lost bytes of it.
    fn remove(&self) {
        self.partial.try_remove();
        self.remove_beside();
    }

    /// What the entry has wrong, if it is that of this file.
    fn compare(&self, entry: &Entry) -> Compared {
        signed::compare_with(&self.entry.id, (*self.meta).clone(), self.entry.size_bytes, entry)
    }

    fn is_of(&self, entry: &Entry) -> bool {
        (entry.hash, &entry.id) == (self.entry.hash, &self.entry.id)
    }

    fn is_named(&self, store: &Store) -> bool {
        store.entries().iter().any(|entry| self.is_of(entry) && !entry.state.is_deleted())
    }
}

/// What became of a file.
pub(super) enum Published {
    /// It is here. With its entry and a notice, if that was corrected, and what it is as a floor.
    Here(Vec<Corrected>, Option<FloorFacts>),
    /// The map does not name it any more.
    Unnamed,
    /// It has no name, for this reason.
    Failed(String),
}

impl Published {
    fn failed(error: &StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The files that wait.
pub(super) struct Batch<'a> {
    state_dir: &'a Path,
    blobs: BlobStore,
    files: Vec<Arrived<'a>>,
    /// When the first one came.
    began: Option<Instant>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(state_dir: &'a Path, blobs: BlobStore) -> Self {
        Self { state_dir, blobs, files: Vec::new(), began: None }
    }

    /// Whether the files may wait until the file of `entry` has come, too.
    pub(super) fn may_wait_for(&self, entry: &Entry) -> bool {
        self.files.last().is_none_or(|file| are_alike(file.entry, entry))
            && self.files.len() < FILES
            && self.began.is_none_or(|began| began.elapsed() < PATIENCE)
    }

    pub(super) fn add(&mut self, file: Arrived<'a>) {
        self.began.get_or_insert_with(Instant::now);
        self.files.push(file);
    }

    /// Makes the files durable, gives those their names that the map still names, and corrects
    /// their entries. Returns what became of each. The batch is empty then.
    pub(super) fn publish(&mut self) -> Vec<(&'a Entry, Published)> {
        self.began = None;
        let mut files = mem::take(&mut self.files);
        let mut done = Vec::with_capacity(files.len());
        if files.is_empty() {
            return done;
        }
        let mut synced = sync(&files).into_iter();
        files.retain(|file| {
            let Some(Err(error)) = synced.next() else { return true };
            // What the disk lost is in memory as before, and must not be taken for durable.
            file.remove();
            done.push((file.entry, Published::failed(&StoreError::at(file.partial.path())(error))));
            false
        });
        match Store::open(self.state_dir) {
            Ok(mut store) => self.publish_synced(&mut store, files, &mut done),
            Err(error) => {
                files.iter().for_each(Arrived::remove_beside);
                done.extend(files.iter().map(|file| (file.entry, Published::failed(&error))));
            }
        }
        done
    }

    /// Does the same with files that are durable, under the lock.
    fn publish_synced(
        &self,
        store: &mut Store,
        mut files: Vec<Arrived<'a>>,
        done: &mut Vec<(&'a Entry, Published)>,
    ) {
        files.retain(|file| {
            let is_named = file.is_named(store);
            // An upload may have brought it meanwhile.
            let is_here = is_named && self.blobs.has(file.entry);
            if !is_named || is_here {
                file.remove();
                let what = if is_here {
                    Published::Here(Vec::new(), file.floor.clone())
                } else {
                    Published::Unnamed
                };
                done.push((file.entry, what));
            }
            is_named && !is_here
        });
        let written = |file: &Arrived<'a>| Written {
            hash: file.entry.hash,
            path: file.partial.path().to_path_buf(),
            has_index: file.has_index,
        };
        let published = self.blobs.publish(&files.iter().map(written).collect::<Vec<_>>());
        let mut published = published.into_iter();
        files.retain(|file| {
            let Some(Err(error)) = published.next() else { return true };
            file.remove_beside();
            done.push((file.entry, Published::failed(&error)));
            false
        });
        let compare = |some: &[Arrived<'_>], entry: &Entry| {
            let is_its = some.iter().find(|file| file.is_of(entry) && !entry.state.is_deleted());
            is_its.map_or(Compared::Same, |file| file.compare(entry))
        };
        // All at once: this writes the map once. If that fails, those fail that are wrong.
        let mut all = signed::correct_as(store, &|entry| compare(&files, entry));
        for file in &files {
            let own = match &mut all {
                Ok(all) => Ok(all.extract_if(.., |one| one.entry.id == file.entry.id).collect()),
                Err(_) => signed::correct_as(store, &|entry| compare(slice::from_ref(file), entry)),
            };
            let published = own.map(|corrected| Published::Here(corrected, file.floor.clone()));
            done.push((file.entry, published.unwrap_or_else(|error| Published::failed(&error))));
        }
    }
}

/// Syncs the patch files and their signatures, several at a time. Returns an error for each
/// patch file that is not durable with its signature.
fn sync(files: &[Arrived<'_>]) -> Vec<io::Result<()>> {
    let all: Vec<_> = files.iter().flat_map(|file| [file.partial.file(), &file.signature]).collect();
    let next = AtomicUsize::new(0);
    let some = || {
        let mut failed = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = all.get(at) else { return failed };
            failed.extend(durable::sync(file).err().map(|error| (at / 2, error)));
        }
    };
    let mut results: Vec<_> = files.iter().map(|_| Ok(())).collect();
    thread::scope(|scope| {
        // Where the system gives no thread, those that there are sync the rest.
        let spawn = || thread::Builder::new().spawn_scoped(scope, some).ok();
        let others: Vec<_> = (1..SYNCS.min(all.len())).filter_map(|_| spawn()).collect();
        let mut failed = some();
        for other in others {
            failed.extend(other.join().unwrap_or_else(|cause| panic::resume_unwind(cause)));
        }
        for (at, error) in failed {
            results[at] = Err(error);
        }
    });
    results
}
