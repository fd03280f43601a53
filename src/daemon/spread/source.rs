//! What an install fetches from while something of it is here already, as it was sent to all hosts.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::cache::{Cache, Kept};
use crate::coding::proof::BLOCK_BYTES;
use crate::job::{BlobSource, FetchError, Fetched, Sink, Source};
use crate::types::{Digest, Hash, NodeType};
use crate::wire::frame::ManifestPatch;

const PIECE_BYTES: usize = 64 * 1024;

/// A controller, and what is kept here of its files. What comes from either is verified by the install.
pub struct CachedSource<'s> {
    inner: &'s mut dyn Source,
    cache: Cache,
    /// The size of each file of the manifest.
    sizes: Vec<(Hash, u64)>,
    /// Files that were taken from the cache already, and whether to their end. What is asked for again was damaged.
    taken: Vec<(Hash, bool)>,
}

impl<'s> CachedSource<'s> {
    /// Asks `inner` for what is not kept in this state directory.
    #[must_use]
    pub fn new(inner: &'s mut dyn Source, state_dir: &Path) -> Self {
        Self { inner, cache: Cache::of(state_dir), sizes: Vec::new(), taken: Vec::new() }
    }

    /// What is kept of a file, if it is of use.
    fn kept(&self, hash: &Hash) -> Option<(Kept, u64)> {
        if self.taken.iter().any(|(of, _)| of == hash) {
            return None;
        }
        let (_, size_bytes) = self.sizes.iter().find(|(of, _)| of == hash)?;
        let kept = self.cache.open(hash, *size_bytes).ok().flatten()?;
        Some((kept, *size_bytes))
    }

    /// Takes what is kept, and asks for the rest.
    fn fetch(
        &mut self,
        hash: &Hash,
        (mut kept, size_bytes): (Kept, u64),
        offset: u64,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, FetchError> {
        let mut at = offset;
        while at < size_bytes {
            let block = at / BLOCK_BYTES;
            let is_here = kept.has(block);
            let run =
                (block..).find(|block| kept.has(*block) != is_here || *block * BLOCK_BYTES >= size_bytes);
            let end = (run.unwrap_or(block + 1) * BLOCK_BYTES).min(size_bytes);
            if is_here {
                let read = copy(&kept, at, end, sink).map_err(FetchError::Sink)?;
                if read < end {
                    // The disk does not give it any more.
                    let fetched = self.inner.blob(hash, read, sink)?;
                    return Ok(Fetched { len_bytes: size_bytes - offset, ..fetched });
                }
            } else if end == size_bytes {
                let fetched = self.inner.blob(hash, at, sink)?;
                return Ok(Fetched { len_bytes: size_bytes - offset, ..fetched });
            } else {
                let mut has_any = false;
                let part = self.inner.part(hash, at..end, &mut |bytes| {
                    has_any = true;
                    sink(bytes)
                });
                // An older controller knows no parts, and ends the session: in the end none is asked for.
                let is_break = matches!(part, Err(FetchError::Session(_))) && !has_any;
                if is_break && kept.note_break().unwrap_or(true) {
                    let _ = self.cache.remove(hash);
                }
                part?;
            }
            at = end;
        }
        // Only the signature is left.
        let fetched = self.inner.blob(hash, size_bytes.max(offset), sink)?;
        Ok(Fetched { len_bytes: size_bytes.saturating_sub(offset), ..fetched })
    }
}

impl Source for CachedSource<'_> {
    fn manifest(&mut self, digest: Digest, nodetype: &NodeType) -> Result<Vec<ManifestPatch>, FetchError> {
        let patches = self.inner.manifest(digest, nodetype)?;
        self.sizes = patches.iter().map(|patch| (patch.hash, patch.size_bytes)).collect();
        Ok(patches)
    }

    fn has_kept(&self, hash: &Hash) -> bool {
        self.taken.iter().any(|(of, _)| of == hash)
    }

    fn give_up_kept(&mut self, has_all: bool) -> bool {
        let needed = if has_all { &[][..] } else { &self.sizes[..] };
        self.cache
            .remove_but(|name| needed.iter().any(|(hash, _)| *name == *hash.to_string()))
            .unwrap_or(false)
    }

    fn end(&mut self) {
        // Verified by now, and in place or refused.
        for (hash, _) in self.taken.drain(..).filter(|(_, is_whole)| *is_whole) {
            let _ = self.cache.remove(&hash);
        }
        self.inner.end();
    }
}

impl BlobSource for CachedSource<'_> {
    fn blob(&mut self, hash: &Hash, offset: u64, sink: &mut Sink<'_>) -> Result<Fetched, FetchError> {
        let Some(found) = self.kept(hash) else { return self.inner.blob(hash, offset, sink) };
        self.taken.push((*hash, false));
        let fetched = self.fetch(hash, found, offset, sink)?;
        self.taken.iter_mut().filter(|(of, _)| of == hash).for_each(|(_, is_whole)| *is_whole = true);
        Ok(fetched)
    }

    fn part(&mut self, hash: &Hash, bytes: Range<u64>, sink: &mut Sink<'_>) -> Result<(), FetchError> {
        self.inner.part(hash, bytes, sink)
    }

    fn ahead(&mut self, hash: &Hash, offset: u64) {
        if self.kept(hash).is_none() {
            self.inner.ahead(hash, offset);
        }
    }
}

/// Gives what is kept from `at` on, and returns the place at which it ends, or cannot be read.
fn copy(kept: &Kept, mut at: u64, end: u64, sink: &mut Sink<'_>) -> io::Result<u64> {
    let mut piece = vec![0; PIECE_BYTES];
    while at < end {
        let bytes = (PIECE_BYTES as u64).min(end - at) as usize;
        if kept.file().read_exact_at(&mut piece[..bytes], at).is_err() {
            break;
        }
        sink(&piece[..bytes])?;
        at += bytes as u64;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::cache::Blocks;
    use super::*;
    use crate::limits::FILE_BLOCKS;

    const SIZE: u64 = 3 * BLOCK_BYTES + 5;
    const HASH: Hash = Hash([7; 32]);

    /// A controller whose file has the number of its block in each byte. What it was asked for is noted.
    struct Controller {
        /// Its sessions break at so many requests for a part.
        breaks: u32,
        asked: Vec<Range<u64>>,
    }

    impl Source for Controller {
        fn manifest(&mut self, _: Digest, _: &NodeType) -> Result<Vec<ManifestPatch>, FetchError> {
            unreachable!("the sizes are told by the test")
        }
    }

    impl BlobSource for Controller {
        fn blob(&mut self, _: &Hash, offset: u64, sink: &mut Sink<'_>) -> Result<Fetched, FetchError> {
            self.asked.push(offset..SIZE);
            sink(&content(offset..SIZE)).map_err(FetchError::Sink)?;
            Ok(Fetched { len_bytes: SIZE - offset, signature: b"signed".to_vec() })
        }

        fn part(&mut self, _: &Hash, bytes: Range<u64>, sink: &mut Sink<'_>) -> Result<(), FetchError> {
            if self.breaks > 0 {
                self.breaks -= 1;
                return Err(FetchError::Session(io::ErrorKind::UnexpectedEof.into()));
            }
            self.asked.push(bytes.clone());
            sink(&content(bytes)).map_err(FetchError::Sink)
        }
    }

    fn content(bytes: Range<u64>) -> Vec<u8> {
        bytes.map(|at| (at / BLOCK_BYTES) as u8).collect()
    }

    /// A state directory in which block 1 of the file is kept, of four.
    fn state_dir(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("thimble-source-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let mut kept = Cache::of(&dir).make(&HASH, SIZE, SIZE, 0).unwrap().unwrap();
        kept.file().write_all_at(&content(BLOCK_BYTES..2 * BLOCK_BYTES), BLOCK_BYTES).unwrap();
        let mut blocks: Blocks = [0; FILE_BLOCKS / 64];
        blocks[0] = 2;
        kept.note(&blocks).unwrap();
        dir
    }

    /// One session of an install, that fetches from `offset` on.
    fn session(dir: &Path, controller: &mut Controller, offset: u64) -> Result<Vec<u8>, FetchError> {
        let mut source = CachedSource::new(controller, dir);
        source.sizes = vec![(HASH, SIZE)];
        let mut got = Vec::new();
        let fetched = source.blob(&HASH, offset, &mut |bytes| {
            got.extend_from_slice(bytes);
            Ok(())
        })?;
        assert_eq!(fetched, Fetched { len_bytes: got.len() as u64, signature: b"signed".to_vec() });
        source.end();
        Ok(got)
    }

    #[test]
    fn what_is_kept_is_not_asked_for_and_goes_once_it_was_taken() {
        let dir = state_dir("kept");
        let mut controller = Controller { breaks: 0, asked: Vec::new() };
        assert_eq!(session(&dir, &mut controller, 9).unwrap(), content(9..SIZE));
        assert_eq!(controller.asked, [9..BLOCK_BYTES, 2 * BLOCK_BYTES..SIZE]);
        assert!(Cache::of(&dir).open(&HASH, SIZE).unwrap().is_none());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_session_that_breaks_costs_nothing_of_what_is_kept_and_a_controller_without_parts_all() {
        let dir = state_dir("breaks");
        let mut controller = Controller { breaks: 2, asked: Vec::new() };
        for _ in 0..2 {
            assert!(matches!(session(&dir, &mut controller, 0), Err(FetchError::Session(_))));
        }
        assert_eq!(session(&dir, &mut controller, 0).unwrap(), content(0..SIZE));
        assert_eq!(controller.asked, [0..BLOCK_BYTES, 2 * BLOCK_BYTES..SIZE]);
        fs::remove_dir_all(dir).unwrap();
        let dir = state_dir("older");
        let mut controller = Controller { breaks: u32::MAX, asked: Vec::new() };
        let broken = (0..).take_while(|_| session(&dir, &mut controller, 0).is_err()).take(9).count();
        assert_eq!((broken, controller.asked.len(), controller.asked[0].clone()), (3, 1, 0..SIZE));
        fs::remove_dir_all(dir).unwrap();
    }

    /// What it asks for again was damaged, or the disk does not give it.
    #[test]
    fn what_is_asked_for_again_comes_by_the_session() {
        let dir = state_dir("again");
        let mut controller = Controller { breaks: 0, asked: Vec::new() };
        let mut source = CachedSource::new(&mut controller, &dir);
        source.sizes = vec![(HASH, SIZE)];
        assert!(!source.has_kept(&HASH));
        source.blob(&HASH, 0, &mut |_| Ok(())).unwrap();
        assert!(source.has_kept(&HASH));
        source.blob(&HASH, 0, &mut |_| Ok(())).unwrap();
        assert_eq!((controller.asked.len(), controller.asked[2].clone()), (3, 0..SIZE));
        fs::remove_dir_all(dir).unwrap();
        let dir = state_dir("short");
        let mut kept = Cache::of(&dir).open(&HASH, SIZE).unwrap().unwrap();
        let mut blocks: Blocks = [0; FILE_BLOCKS / 64];
        blocks[0] = 1;
        kept.note(&blocks).unwrap();
        // As from a sector that cannot be read: what is there ends in the middle of the block.
        let (mut short, mut got) = (Vec::new(), Vec::new());
        let name = Cache::of(&dir);
        let file = name.open(&HASH, SIZE).unwrap().unwrap();
        file.file().set_len(700_000).unwrap();
        let end = copy(&file, 0, BLOCK_BYTES, &mut |bytes| {
            short.extend_from_slice(bytes);
            Ok(())
        });
        assert_eq!((end.unwrap(), short.len()), (655_360, 655_360));
        let mut source = CachedSource::new(&mut controller, &dir);
        controller_rest(&mut source, file, &mut got);
        assert_eq!(got.len() as u64, SIZE);
        fs::remove_dir_all(dir).unwrap();
    }

    /// Fetches with a kept file that is shorter than it says.
    fn controller_rest(source: &mut CachedSource<'_>, kept: Kept, got: &mut Vec<u8>) {
        let fetched = source.fetch(&HASH, (kept, SIZE), 0, &mut |bytes| {
            got.extend_from_slice(bytes);
            Ok(())
        });
        assert_eq!(fetched.unwrap().len_bytes, SIZE);
    }

    #[test]
    fn what_an_install_needs_is_given_up_last() {
        let dir = state_dir("room");
        let cache = Cache::of(&dir);
        cache.make(&Hash([8; 32]), 9, 2 * SIZE, 0).unwrap().unwrap();
        let mut controller = Controller { breaks: 0, asked: Vec::new() };
        let mut source = CachedSource::new(&mut controller, &dir);
        source.sizes = vec![(HASH, SIZE)];
        let there = || [HASH, Hash([8; 32])].map(|hash| dir.join("spread").join(hash.to_string()).exists());
        assert_eq!((source.give_up_kept(false), there()), (true, [true, false]));
        assert!(!source.give_up_kept(false));
        assert_eq!((source.give_up_kept(true), there()), (true, [false, false]));
        fs::remove_dir_all(&dir).unwrap();
    }
}
