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
    /// The number of the error that it could not be synced with, or 0.
    unsynced: AtomicI32,
    /// What has become of it, as far as that is known.
    pub(super) end: Option<Published>,
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
        Ok(Self { entry, partial, signature, meta, floor, unsynced: AtomicI32::new(0), end: None })
    }

    /// Whether it is the file of this entry.
    fn is_of(&self, entry: &Entry) -> bool {
        (entry.hash, &entry.id) == (self.entry.hash, &self.entry.id) && !entry.state.is_deleted()
    }

    /// What its entry has wrong.
    fn compare(&self, entry: &Entry) -> Compared {
        signed::compare_with(&self.entry.id, &self.meta, self.entry.size_bytes, entry)
    }

    /// Whether its entry has something wrong.
    fn is_wrong(&self, entry: &Entry) -> bool {
        self.is_of(entry) && self.compare(entry) != Compared::Same
    }
}

/// What became of a file.
pub(super) enum Published {
    /// It is here. With its entry and a notice, if that was corrected.
    Here(Option<Box<Corrected>>),
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
    /// their entries. Returns them with what became of each. The batch is empty then.
    pub(super) fn publish(&mut self) -> Vec<Arrived<'a>> {
        self.began = None;
        let mut files = mem::take(&mut self.files);
        if files.is_empty() {
            return files;
        }
        sync(&mut files);
        match Store::open(self.state_dir) {
            Ok(mut store) => self.publish_synced(&mut store, &mut files),
            Err(error) => fail(&mut files, &error),
        }
        for file in &files {
            // Where the signature has its name, there is none.
            durable::try_remove(&BlobStore::beside(file.partial.path()));
        }
        files
    }

    /// Does the same with files that are durable, under the lock.
    fn publish_synced(&self, store: &mut Store, files: &mut [Arrived<'a>]) {
        for file in waiting(files) {
            let is_named = store.entries().iter().any(|entry| file.is_of(entry));
            // An upload may have brought it meanwhile.
            let is_here = is_named && self.blobs.has(file.entry);
            if !is_named || is_here {
                file.partial.try_remove();
                file.end = Some(if is_here { Published::Here(None) } else { Published::Unnamed });
            }
            if !is_named {
                durable::try_remove(&self.blobs.index(&file.entry.hash));
            }
        }
        let names = [BlobStore::name_signature, BlobStore::name_patch];
        for name in names {
            for file in waiting(files) {
                let named = name(&self.blobs, file.partial.path(), &file.entry.hash);
                file.end = named.err().map(|error| Published::failed(&error));
            }
            if let Err(error) = self.blobs.sync() {
                fail(files, &error);
            }
        }
        // All at once: this writes the map once.
        let own = |entry: &Entry| files.iter().find(|file| file.end.is_none() && file.is_of(entry));
        let compare = |entry: &Entry| own(entry).map_or(Compared::Same, |file| file.compare(entry));
        let mut corrected = signed::correct_as(store, &compare);
        for file in waiting(files) {
            file.end = Some(match &mut corrected {
                Ok(all) => {
                    let own = all.iter().position(|one| one.entry.id == file.entry.id);
                    Published::Here(own.map(|at| Box::new(all.swap_remove(at))))
                }
                // Those fail that are wrong.
                Err(error) if store.entries().iter().any(|entry| file.is_wrong(entry)) => {
                    Published::failed(error)
                }
                Err(_) => Published::Here(None),
            });
        }
    }
}

/// The files of which nothing has become yet.
fn waiting<'f, 'a>(files: &'f mut [Arrived<'a>]) -> impl Iterator<Item = &'f mut Arrived<'a>> {
    files.iter_mut().filter(|file| file.end.is_none())
}

/// These get no names.
fn fail(files: &mut [Arrived<'_>], error: &StoreError) {
    waiting(files).for_each(|file| file.end = Some(Published::failed(error)));
}

/// Syncs the patch files and their signatures, several at a time.
fn sync(files: &mut [Arrived<'_>]) {
    let next = AtomicUsize::new(0);
    let some = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(at / 2) else { return };
            let synced =
                durable::sync(if at.is_multiple_of(2) { file.partial.file() } else { &file.signature });
            if let Err(error) = synced {
                file.unsynced.store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..SYNCS.min(2 * files.len()) {
            // Where the system gives no thread, those that there are sync the rest.
            let _ = hashing::spawn(scope, Box::new(&some));
        }
        some();
    });
    for file in files {
        let number = *file.unsynced.get_mut();
        if number != 0 {
            // What the disk lost is in memory as before, and must not be taken for durable.
            file.partial.try_remove();
            let error = StoreError::at(file.partial.path())(io::Error::from_raw_os_error(number));
            file.end = Some(Published::failed(&error));
        }
    }
}
