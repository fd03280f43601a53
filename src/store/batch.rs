//! Fetched patch files that get their names together.
//!
//! A disk takes about as long to sync one small file as many at once. So small files wait, for
//! a short time, until there are several: each is synced, several at a time; then, under the
//! lock, all are renamed, and the directory is synced once for the signatures and once for the
//! patch files. A wanted file waits for wanted ones only, and no file waits for the bytes of a
//! large one.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{io, mem, thread};

use super::blobs::BlobStore;
use super::disk::Store;
use super::error::StoreError;
use super::partial::Partial;
use super::signed::{self, Compared, Corrected};
use super::{durable, floor, hashing};
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
    /// What the file says of itself.
    meta: Box<EntryMeta>,
    /// Which floor it is.
    pub(super) floor: Option<FloorFacts>,
}

impl<'a> Arrived<'a> {
    /// Writes the signature beside the patch file.
    ///
    /// # Errors
    /// [`StoreError`]: the signature cannot be written.
    pub(super) fn new(
        entry: &'a Entry,
        partial: Partial,
        signature: &[u8],
        metadata: &Metadata,
    ) -> Result<Self, StoreError> {
        let beside = BlobStore::beside(partial.path());
        let signature = durable::write(&beside, signature).map_err(StoreError::at(&beside))?;
        let (meta, floor) = (Box::new(metadata.entry_meta()), floor::facts(metadata, entry.size_bytes));
        Ok(Self { entry, partial, signature, meta, floor })
    }

    /// Whether it is the file of this entry.
    fn is_of(&self, entry: &Entry) -> bool {
        (entry.hash, &entry.id) == (self.entry.hash, &self.entry.id) && !entry.state.is_deleted()
    }

    /// What the entry has wrong, if it is that of this file.
    fn compare(&self, entry: &Entry) -> Compared {
        if self.is_of(entry) {
            return signed::compare_with(&self.entry.id, &self.meta, self.entry.size_bytes, entry);
        }
        Compared::Same
    }
}

/// What became of a file.
pub(super) enum Published {
    /// It is here. With its entry and a notice, if that was corrected.
    Here(Option<Corrected>),
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
    pub(super) fn publish(&mut self) -> Vec<(Arrived<'a>, Published)> {
        self.began = None;
        let files = mem::take(&mut self.files);
        let mut done = sync(&files);
        if done.iter().any(Option::is_none) {
            match Store::open(self.state_dir) {
                Ok(mut store) => self.publish_synced(&mut store, &files, &mut done),
                Err(error) => {
                    done.iter_mut().for_each(|done| {
                        done.get_or_insert_with(|| Published::failed(&error));
                    });
                }
            }
        }
        let ended = |(file, done): (Arrived<'a>, Option<Published>)| {
            let done = done.unwrap_or(Published::Unnamed);
            if !matches!(done, Published::Here(_)) {
                durable::try_remove(&BlobStore::beside(file.partial.path()));
            }
            (file, done)
        };
        files.into_iter().zip(done).map(ended).collect()
    }

    /// Does the same with the files of which nothing has become yet: they are durable, and the
    /// lock is held.
    fn publish_synced(&self, store: &mut Store, files: &[Arrived<'a>], done: &mut [Option<Published>]) {
        for (file, done) in files.iter().zip(&mut *done).filter(|(_, done)| done.is_none()) {
            if !store.entries().iter().any(|entry| file.is_of(entry)) {
                file.partial.try_remove();
                durable::try_remove(&self.blobs.index(&file.entry.hash));
                *done = Some(Published::Unnamed);
            } else if self.blobs.has(file.entry) {
                // An upload has brought it meanwhile.
                file.partial.try_remove();
                durable::try_remove(&BlobStore::beside(file.partial.path()));
                *done = Some(Published::Here(None));
            }
        }
        let waiting = || files.iter().zip(done.iter()).filter(|(_, done)| done.is_none());
        let mut paths = waiting().map(|(file, _)| (&file.entry.hash, file.partial.path()));
        let mut results = self.blobs.publish(&mut paths).into_iter();
        let mut here = Vec::new();
        for (file, done) in files.iter().zip(&mut *done).filter(|(_, done)| done.is_none()) {
            match results.next() {
                Some(Err(error)) => *done = Some(Published::failed(&error)),
                _ => here.push((file, done)),
            }
        }
        // All at once: this writes the map once. If that fails, those fail that are wrong.
        let compare = |entry: &Entry| {
            let own = here.iter().find(|(file, _)| file.is_of(entry));
            own.map_or(Compared::Same, |(file, _)| file.compare(entry))
        };
        let mut all = signed::correct_as(store, &compare);
        for (file, done) in here {
            let is_own = |entry: &Entry| entry.id == file.entry.id;
            *done = Some(match &mut all {
                Ok(all) => {
                    let own = all.iter().position(|one| is_own(&one.entry));
                    Published::Here(own.map(|at| all.swap_remove(at)))
                }
                Err(error) if store.entries().iter().any(|entry| file.compare(entry) != Compared::Same) => {
                    Published::failed(error)
                }
                Err(_) => Published::Here(None),
            });
        }
    }
}

/// Syncs the patch files and their signatures, several at a time. Returns what became of those
/// that are not durable with their signatures.
fn sync(files: &[Arrived<'_>]) -> Vec<Option<Published>> {
    let all: Vec<_> = files.iter().flat_map(|file| [file.partial.file(), &file.signature]).collect();
    // The numbers of the errors, 0 for none.
    let failed: Vec<_> = files.iter().map(|_| AtomicI32::new(0)).collect();
    let next = AtomicUsize::new(0);
    let some = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = all.get(at) else { return };
            if let Err(error) = durable::sync(file) {
                failed[at / 2].store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..SYNCS.min(all.len()) {
            // Where the system gives no thread, those that there are sync the rest.
            let _ = hashing::spawn(scope, Box::new(&some));
        }
        some();
    });
    let failed = failed.into_iter().map(AtomicI32::into_inner);
    let explain = |(file, number): (&Arrived<'_>, i32)| {
        // What the disk lost is in memory as before, and must not be taken for durable.
        file.partial.try_remove();
        let error = io::Error::from_raw_os_error(number);
        Published::failed(&StoreError::at(file.partial.path())(error))
    };
    files.iter().zip(failed).map(|(file, number)| (number != 0).then(|| explain((file, number)))).collect()
}
