//! The store, opened to change it: one process at a time.

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::blobs::BlobStore;
use super::controllers::Controllers;
use super::durable;
use super::error::StoreError;
use super::map_file::{self, Snapshot};
use super::sys;
use crate::failpoint;
use crate::repo::entry::{Entry, Stamp};
use crate::repo::join::{MergeEvent, Origin, join};
use crate::repo::map::Map;
use crate::repo::rollout::Rollout;
use crate::types::{PatchId, Reason};

/// How long to wait for a lock that another process holds, and how often to try.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A repository on disk, locked for as long as this lives.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    /// The map on the disk.
    snapshot: Snapshot,
    /// The replica of the next stamp: the map's own, unless it is renewed.
    replica: u64,
    lock: File,
}

impl Store {
    /// Locks the repository below `state_dir` and reads its map. Makes them if they are
    /// missing; a new map gets a random replica.
    ///
    /// # Errors
    /// [`StoreError`]: in use, unwritable, of a later version, damaged. Nothing
    /// is changed then.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let dir = dir(state_dir);
        durable::make_dir(&dir).map_err(StoreError::at(&dir))?;
        let lock = lock(&dir.join("lock"))?;
        let blobs = BlobStore::of(&dir);
        let snapshot = match Snapshot::read(&dir)? {
            Some(snapshot) => snapshot,
            // The map is made before the first blob.
            None if blobs.any()? => return Err(StoreError::MapGone { path: map_file::path(&dir) }),
            None => {
                let snapshot = Snapshot::new(random()?);
                snapshot.write(&dir)?;
                snapshot
            }
        };
        blobs.make_dir()?;
        let replica = snapshot.replica;
        Ok(Self { dir, snapshot, replica, lock })
    }

    /// The map's random name.
    #[must_use]
    pub fn replica(&self) -> u64 {
        self.replica
    }

    /// Gives the map a new random name, which its next commit makes durable.
    ///
    /// # Errors
    /// [`StoreError`]: the system gives no random number.
    pub fn renew(&mut self) -> Result<(), StoreError> {
        self.replica = random()?;
        Ok(())
    }

    /// The highest counter that this map has used or merged; it never decreases.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.snapshot.counter
    }

    /// The map's purge floor; see [`Map::floor`].
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.snapshot.floor
    }

    /// The last rollout; see [`Map::rollout`].
    #[must_use]
    pub fn rollout(&self) -> Option<&Rollout> {
        self.snapshot.rollout.as_ref()
    }

    /// All entries, tombstones included.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.snapshot.entries
    }

    /// The entries as a map, in memory that the caller lends.
    #[must_use]
    pub fn map<'a>(&self, slots: &'a mut Vec<Entry>) -> Map<'a> {
        self.snapshot.map(slots)
    }

    /// The stamp of the next change: greater than all stamps that this map has had.
    #[must_use]
    pub fn next_stamp(&self) -> Stamp {
        let highest = self.snapshot.entries.iter().map(|entry| entry.stamp.counter).max();
        let counter = self.counter().max(highest.unwrap_or(0)).max(self.floor());
        Origin { replica: self.replica, counter }.next_stamp()
    }

    /// Adds these entries to the map, replacing those with the same ids. Durable when it
    /// returns.
    ///
    /// # Errors
    /// [`StoreError::Io`]. The map is unchanged then; if only the last fsync failed, the
    /// disk has either the old map or the new one.
    pub fn commit(&mut self, changed: &[Entry]) -> Result<(), StoreError> {
        let mut next = self.snapshot.clone();
        next.entries.retain(|entry| changed.iter().all(|change| change.id != entry.id));
        next.entries.extend_from_slice(changed);
        let highest = changed.iter().map(|entry| entry.stamp.counter).max();
        next.counter = next.counter.max(highest.unwrap_or(0));
        next.replica = self.replica;
        self.write(next)
    }

    /// Replaces the map's rollout. Durable when it returns.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub(super) fn set_rollout(&mut self, rollout: Rollout) -> Result<(), StoreError> {
        let mut next = self.snapshot.clone();
        next.counter = next.counter.max(rollout.stamp.counter);
        next.replica = self.replica;
        next.rollout = Some(rollout);
        self.write(next)
    }

    fn write(&mut self, next: Snapshot) -> Result<(), StoreError> {
        next.write(&self.dir)?;
        self.snapshot = next;
        Ok(())
    }

    /// Merges another controller's map with the purge floor `floor`, and returns what
    /// changed. A notice about the floor itself goes to `notices`. Durable when it
    /// returns.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub(super) fn merge(
        &mut self,
        theirs: &Map<'_>,
        floor: u64,
        notices: &mut Vec<Reason>,
    ) -> Result<Vec<MergeEvent>, StoreError> {
        let fresh = random()?;
        let before = Origin { replica: self.replica, counter: self.counter() };
        let mut floor = floor;
        if before.is_leap(floor) {
            notices.push(leaping_floor(floor));
            floor = 0;
        }
        loop {
            let (mut slots, mut events, mut origin) = (Vec::new(), Vec::new(), before);
            let mut map = self.map(&mut slots);
            let is_whole = join(&mut map, &mut origin, theirs, floor, fresh, &mut |event| events.push(event));
            if !is_whole && floor > 0 {
                floor = 0;
                continue;
            }
            let entries = map.iter_by_id().map(|(_, entry)| entry.clone()).collect();
            let Origin { replica, counter } = origin;
            let rollout = map.rollout().copied();
            let next = Snapshot { replica, counter, floor: map.floor(), entries, rollout };
            if !events.is_empty() || (next.counter, next.floor) != (self.counter(), self.floor()) {
                self.write(next)?;
                self.replica = replica;
            }
            return Ok(events);
        }
    }

    /// Drops all tombstones and returns their ids. Raises the floor to the highest counter
    /// of all entries, unless no other controller was ever known: no other controller has
    /// the deleted patches then, and the floor of a map that was made new after its disk
    /// was lost would purge what others have. Durable when it returns.
    ///
    /// The floor is not the map's own counter: another controller with the same entries
    /// may have a lower one, and its next change must be above the floor.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub(super) fn purge(&mut self) -> Result<Vec<PatchId>, StoreError> {
        let is_tombstone = |entry: &&Entry| entry.state.is_deleted();
        let gone: Vec<_> = self.entries().iter().filter(is_tombstone).map(|entry| entry.id.clone()).collect();
        if gone.is_empty() {
            return Ok(gone);
        }
        let mut next = self.snapshot.clone();
        let highest = next.entries.iter().map(|entry| entry.stamp.counter).max().unwrap_or(0);
        next.counter = next.counter.max(highest);
        if Controllers::read_if_any(&self.dir)?.is_some() {
            next.floor = next.floor.max(highest);
        }
        next.entries.retain(|entry| !entry.state.is_deleted());
        self.write(next)?;
        Ok(gone)
    }

    /// The repository's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// After a failed commit: whether the map on the disk is certainly the old one. If only
    /// an fsync failed, it may be the new one.
    pub(super) fn is_as_before(&self) -> bool {
        matches!(Snapshot::read(&self.dir), Ok(Some(snapshot)) if snapshot == self.snapshot)
    }

    /// The patch files.
    pub(super) fn blobs(&self) -> BlobStore {
        BlobStore::of(&self.dir)
    }

    /// Removes files that a crash may have left: unfinished ones, and blobs that no entry
    /// names.
    pub(super) fn clean(&self) -> Result<(), StoreError> {
        durable::remove_unfinished(&self.dir).map_err(StoreError::at(&self.dir))?;
        let live = self.entries().iter().filter(|entry| !entry.state.is_deleted());
        let named: Vec<_> = live.map(|entry| entry.hash).collect();
        self.blobs().keep_only(&named)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closing does not unlock while a process that was forked meanwhile has not
        // called exec yet.
        let _ = self.lock.unlock();
    }
}

/// The path of the repository below a state directory.
pub(super) fn dir(state_dir: &Path) -> PathBuf {
    state_dir.join("repo")
}

/// The notice about a purge floor that is not taken over.
pub(super) fn leaping_floor(floor: u64) -> Reason {
    Reason::format(format_args!(
        "a purge floor of {floor} is not taken: it is absurdly far above our counter; look at the \
         controller that sends it"
    ))
}

/// Takes the lock. A worker that holds it ends soon, also if its daemon was killed. A lock
/// that stays held belongs to another daemon.
fn lock(path: &Path) -> Result<File, StoreError> {
    failpoint::hit("opening the lock");
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(StoreError::at(path))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_PATIENCE => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(StoreError::Busy { lock: path.to_path_buf() }),
            Err(TryLockError::Error(error)) => return Err(StoreError::at(path)(error)),
        }
    }
}

fn random() -> Result<u64, StoreError> {
    // By a call: a worker may have no file but the store's.
    sys::random().map_err(StoreError::at(Path::new("a random number")))
}
