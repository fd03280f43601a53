//! The files that a host keeps of what is sent to all, in `state_dir/spread`, each under its hash.
//!
//! ```text
//! 0      the file, with holes where blocks are missing
//! S      the first multiple of 4,096 behind it: one of two slots of 1,024 bytes, which take turns:
//!         0   8  magic           8   8  number; the slot with the higher one counts
//!        16 512  a bit for each block that is here
//!       528   8  sessions that broke at a request for a part of it
//!       536  32  BLAKE3 of the file's hash and all before
//! ```
//! A block is on the disk before its bit is written, and all of it is in one file, so that after a power cut no
//! bit says more than is there. What an install takes from here it verifies as ever.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::coding::proof::{BLOCK_BYTES, Cut};
use crate::job::Space;
use crate::limits::FILE_BLOCKS;
use crate::types::Hash;

const MAGIC: [u8; 8] = *b"THSPRD\x00\x01";
const SLOT_BYTES: u64 = 1_024;
const BITS_BYTES: usize = FILE_BLOCKS / 8;
const SEALED_BYTES: usize = 16 + BITS_BYTES + 8;
/// The most files that are kept, however small they are.
const FILES: usize = 64;
/// A controller whose sessions break so often at requests for a part knows none.
const BREAKS: u64 = 3;
/// No holes are smaller.
const ALIGNED_BYTES: u64 = 4_096;

/// A bit for each block.
pub type Blocks = [u64; FILE_BLOCKS / 64];

/// The directory of the files.
#[derive(Debug)]
pub struct Cache(PathBuf);

/// One of the files.
#[derive(Debug)]
pub struct Kept {
    file: File,
    hash: Hash,
    size_bytes: u64,
    /// The number of the last slot that was written.
    number: u64,
    /// What is here.
    pub blocks: Blocks,
    /// Sessions that broke at a request for a part of it.
    breaks: u64,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The file is larger than all that may be kept, in bytes.
    Cache(u64),
    /// The disk has so many bytes free, and the file and its install need more.
    Disk(u64),
}

impl Cache {
    /// That of this state directory.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self(state_dir.join("spread"))
    }

    fn path(&self, hash: &Hash) -> PathBuf {
        self.0.join(hash.to_string())
    }

    /// Opens what is kept of a file of this size; `None` if there is nothing, or nothing that makes sense.
    ///
    /// # Errors
    /// The system's.
    pub fn open(&self, hash: &Hash, size_bytes: u64) -> io::Result<Option<Kept>> {
        // The directory may be another user's than the one that installs.
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = match options.open(self.path(hash)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let Some(cut) = Cut::of(size_bytes).filter(|_| file.metadata().is_ok_and(|found| found.is_file()))
        else {
            return Ok(None);
        };
        let mut kept =
            Kept { file, hash: *hash, size_bytes, number: 0, blocks: [0; FILE_BLOCKS / 64], breaks: 0 };
        for slot in 0..2 {
            kept.read_slot(slot)?;
        }
        for block in cut.blocks()..FILE_BLOCKS as u64 {
            set(&mut kept.blocks, block, false);
        }
        Ok(Some(kept))
    }

    /// Opens the file, making it if it is missing. Files of at most `most` bytes are kept, holes counted, and 64 of
    /// them: others go, the oldest first. The disk must have room for it twice, as its install copies it, and `reserve` bytes.
    ///
    /// # Errors
    /// The system's; `Ok(Err(..))` if there is no room.
    pub fn make(
        &self,
        hash: &Hash,
        size_bytes: u64,
        most: u64,
        reserve: u64,
    ) -> io::Result<Result<Kept, NoRoom>> {
        if size_bytes > most {
            return Ok(Err(NoRoom::Cache(most)));
        }
        match fs::create_dir(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.evict(hash, most - size_bytes)?;
        let opened = match self.open(hash, size_bytes) {
            // It is no file of ours.
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => None,
            opened => opened?,
        };
        let kept = match opened {
            Some(kept) => kept,
            None => {
                self.remove(hash)?;
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true).mode(0o600);
                let file = options.open(self.path(hash))?;
                file.set_len(slots_at(size_bytes) + 2 * SLOT_BYTES)?;
                Kept { file, hash: *hash, size_bytes, number: 0, blocks: [0; FILE_BLOCKS / 64], breaks: 0 }
            }
        };
        let taken = kept.file.metadata()?.blocks().saturating_mul(512);
        let needed = size_bytes.saturating_mul(2).saturating_add(reserve).saturating_sub(taken);
        if let Some(free) = Space::of(kept.file.as_fd())?.free_bytes.filter(|free| *free < needed) {
            if kept.is_new() {
                self.remove(hash)?;
            }
            return Ok(Err(NoRoom::Disk(free)));
        }
        Ok(Ok(kept))
    }

    /// Removes the oldest files but this until at most `most` bytes are left, and there is one file less than may be.
    fn evict(&self, hash: &Hash, most: u64) -> io::Result<()> {
        let own = self.path(hash);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let found = entry.metadata()?;
            if entry.path() != own && !found.is_dir() {
                files.push((found.mtime(), found.len().saturating_sub(2 * SLOT_BYTES), entry.path()));
            }
        }
        let mut left = files.iter().map(|(_, bytes, _)| *bytes).fold(0, u64::saturating_add);
        while (left > most || files.len() >= FILES)
            && let Some(oldest) = (0..files.len()).min_by_key(|at| files[*at].0)
        {
            let (_, bytes, path) = files.swap_remove(oldest);
            fs::remove_file(path)?;
            left -= bytes;
        }
        Ok(())
    }

    /// Removes all files but those with such names. Returns whether there were any.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_but(&self, is_needed: impl Fn(&OsStr) -> bool) -> io::Result<bool> {
        let mut has_removed = false;
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            if !is_needed(&entry.file_name()) && !entry.metadata()?.is_dir() {
                fs::remove_file(entry.path())?;
                has_removed = true;
            }
        }
        Ok(has_removed)
    }

    /// Removes what is kept of a file.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, hash: &Hash) -> io::Result<()> {
        match fs::remove_file(self.path(hash)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

impl Kept {
    /// The file, whose first bytes are the patch file's.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether a block is here.
    #[must_use]
    pub fn has(&self, block: u64) -> bool {
        usize::try_from(block / 64)
            .ok()
            .and_then(|word| self.blocks.get(word))
            .is_some_and(|word| word >> (block % 64) & 1 != 0)
    }

    /// Whether nothing was ever noted of it.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.number == 0
    }

    /// Notes that a session broke at a request for a part, and says whether that was often enough to ask no
    /// controller for parts any more.
    ///
    /// # Errors
    /// The system's.
    pub fn note_break(&mut self) -> io::Result<bool> {
        self.breaks = self.breaks.saturating_add(1);
        self.write_slot()?;
        Ok(self.breaks >= BREAKS)
    }

    /// Has the disk keep all that was written, then says that these blocks are here.
    ///
    /// # Errors
    /// The system's.
    pub fn note(&mut self, blocks: &Blocks) -> io::Result<()> {
        self.file.sync_data()?;
        self.blocks = *blocks;
        self.write_slot()
    }

    fn write_slot(&mut self) -> io::Result<()> {
        self.number += 1;
        let mut slot = [0; SEALED_BYTES + 32];
        slot[..8].copy_from_slice(&MAGIC);
        slot[8..16].copy_from_slice(&self.number.to_le_bytes());
        for (to, word) in
            slot[16..SEALED_BYTES].chunks_exact_mut(8).zip(self.blocks.iter().chain([&self.breaks]))
        {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let seal = self.seal(&slot[..SEALED_BYTES]);
        slot[SEALED_BYTES..].copy_from_slice(&seal);
        self.file.write_all_at(&slot, slots_at(self.size_bytes) + self.number % 2 * SLOT_BYTES)
    }

    fn seal(&self, bytes: &[u8]) -> [u8; 32] {
        *blake3::Hasher::new().update(&self.hash.0).update(bytes).finalize().as_bytes()
    }

    fn read_slot(&mut self, slot: u64) -> io::Result<()> {
        let mut bytes = [0; SEALED_BYTES + 32];
        match self.file.read_exact_at(&mut bytes, slots_at(self.size_bytes) + slot * SLOT_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let (sealed, seal) = bytes.split_at(SEALED_BYTES);
        let number = sealed[8..].first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
        if sealed[..8] != MAGIC || seal != self.seal(sealed) || number <= self.number {
            return Ok(());
        }
        self.number = number;
        for (word, from) in self.blocks.iter_mut().chain([&mut self.breaks]).zip(sealed[16..].as_chunks().0) {
            *word = u64::from_le_bytes(*from);
        }
        Ok(())
    }
}

fn set(blocks: &mut Blocks, block: u64, is_here: bool) {
    if let Some(word) = usize::try_from(block / 64).ok().and_then(|word| blocks.get_mut(word)) {
        *word = *word & !(1 << (block % 64)) | u64::from(is_here) << (block % 64);
    }
}

/// Where the slots begin.
fn slots_at(size_bytes: u64) -> u64 {
    size_bytes.next_multiple_of(ALIGNED_BYTES)
}

const _: () = assert!(BLOCK_BYTES.is_multiple_of(ALIGNED_BYTES) && SEALED_BYTES + 32 <= SLOT_BYTES as usize);

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A cache in a directory that goes with it.
    struct Scratch(Cache);

    impl std::ops::Deref for Scratch {
        type Target = Cache;
        fn deref(&self) -> &Cache {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.0.parent().unwrap());
        }
    }

    fn cache(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("thimble-spread-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Scratch(Cache::of(&dir))
    }

    fn made(cache: &Cache, byte: u8, size_bytes: u64, most: u64) -> Kept {
        cache.make(&Hash([byte; 32]), size_bytes, most, 0).unwrap().unwrap()
    }

    fn bits(blocks: &[u64]) -> Blocks {
        let mut all = [0; FILE_BLOCKS / 64];
        blocks.iter().for_each(|block| set(&mut all, *block, true));
        all
    }

    #[test]
    fn what_was_noted_is_here_again_and_nothing_else() {
        let cache = cache("noted");
        let (hash, size) = (Hash([1; 32]), 100 * MIB + 17);
        let mut kept = made(&cache, 1, size, size);
        assert_eq!(kept.blocks, bits(&[]));
        kept.note(&bits(&[0, 70])).unwrap();
        kept.note(&bits(&[0, 70, 100])).unwrap();
        let again = cache.open(&hash, size).unwrap().unwrap();
        assert!(again.has(0) && again.has(70) && again.has(100) && !again.has(1));
        // As a file of another size, or under another hash, it says nothing.
        assert_eq!(cache.open(&hash, size + ALIGNED_BYTES).unwrap().unwrap().blocks, bits(&[]));
        fs::rename(cache.path(&hash), cache.path(&Hash([2; 32]))).unwrap();
        assert_eq!(cache.open(&Hash([2; 32]), size).unwrap().unwrap().blocks, bits(&[]));
        assert!(cache.open(&hash, size).unwrap().is_none());
    }

    /// The last slot may be torn anywhere: the one before counts then.
    #[test]
    fn a_torn_slot_says_less_and_never_more() {
        let cache = cache("torn");
        let size = 3 * MIB;
        let mut kept = made(&cache, 1, size, size);
        kept.note(&bits(&[0])).unwrap();
        kept.note(&bits(&[0, 2])).unwrap();
        let at = slots_at(size) + kept.number % 2 * SLOT_BYTES;
        for torn in (0..SEALED_BYTES as u64 + 32).step_by(13) {
            let mut before = [0];
            kept.file.read_exact_at(&mut before, at + torn).unwrap();
            kept.file.write_all_at(&[before[0] ^ 0x10], at + torn).unwrap();
            assert_eq!(cache.open(&Hash([1; 32]), size).unwrap().unwrap().blocks, bits(&[0]), "byte {torn}");
            kept.file.write_all_at(&before, at + torn).unwrap();
        }
        assert_eq!(cache.open(&Hash([1; 32]), size).unwrap().unwrap().blocks, bits(&[0, 2]));
    }

    #[test]
    fn the_oldest_files_make_room_and_what_is_too_large_is_refused() {
        let cache = cache("room");
        assert_eq!(cache.make(&Hash([1; 32]), 5, 4, 0).unwrap().unwrap_err(), NoRoom::Cache(4));
        for byte in 1..=3 {
            let kept = made(&cache, byte, MIB, 3 * MIB);
            kept.file.write_all_at(&vec![7; MIB as usize], 0).unwrap();
            kept.file.sync_all().unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(byte));
            kept.file.set_modified(time).unwrap();
        }
        made(&cache, 4, MIB, 3 * MIB);
        let is_there = |byte: u8| cache.path(&Hash([byte; 32])).exists();
        // Two of a MiB and a little more are left beside it.
        assert!(!is_there(1) && is_there(3) && is_there(4));
        let refused = cache.make(&Hash([5; 32]), MIB, 3 * MIB, u64::MAX).unwrap();
        assert!(matches!(refused, Err(NoRoom::Disk(_))) && !is_there(5));
    }

    /// Nothing came of them: they have holes alone, and grow when their turn comes.
    #[test]
    fn files_without_a_block_count_with_their_size_and_their_number() {
        let cache = cache("holes");
        for byte in 1..=4 {
            made(&cache, byte, MIB, 3 * MIB);
        }
        let there = |most: u8| (1..=most).filter(|byte| cache.path(&Hash([*byte; 32])).exists()).count();
        assert_eq!(there(4), 3);
        for byte in 1..=100 {
            made(&cache, byte, 1, 64 * MIB);
        }
        assert_eq!(there(100), FILES);
    }

    #[test]
    fn a_link_in_place_of_a_file_is_not_followed() {
        let cache = cache("link");
        made(&cache, 1, MIB, MIB);
        std::os::unix::fs::symlink(cache.path(&Hash([1; 32])), cache.path(&Hash([2; 32]))).unwrap();
        assert!(cache.open(&Hash([2; 32]), MIB).is_err());
        // It is replaced once the file is received; a directory stays, whatever it is for.
        fs::create_dir(cache.0.0.join("directory")).unwrap();
        made(&cache, 2, MIB, MIB);
        assert!(cache.open(&Hash([2; 32]), MIB).unwrap().is_some());
        assert!(cache.open(&Hash([1; 32]), MIB).unwrap().is_none(), "it has made room");
        assert!(cache.remove_but(|_| false).unwrap() && !cache.remove_but(|_| false).unwrap());
    }
}
