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
        (kept, size_bytes): (&Kept, u64),
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
                copy(kept, at, end, sink).map_err(FetchError::Sink)?;
            } else if end == size_bytes {
                let fetched = self.inner.blob(hash, at, sink)?;
                return Ok(Fetched { len_bytes: size_bytes - offset, ..fetched });
            } else {
                let mut has_any = false;
                let part = self.inner.part(hash, at..end, &mut |bytes| {
                    has_any = true;
                    sink(bytes)
                });
                // An older controller knows no parts: the next attempt is not to ask for one again.
                if matches!(part, Err(FetchError::Session(_))) && !has_any {
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
        let Some((kept, size_bytes)) = self.kept(hash) else { return self.inner.blob(hash, offset, sink) };
        self.taken.push((*hash, false));
        let fetched = self.fetch(hash, (&kept, size_bytes), offset, sink)?;
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

fn copy(kept: &Kept, mut at: u64, end: u64, sink: &mut Sink<'_>) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    while at < end {
        let bytes = (PIECE_BYTES as u64).min(end - at) as usize;
        kept.file().read_exact_at(&mut piece[..bytes], at)?;
        sink(&piece[..bytes])?;
        at += bytes as u64;
    }
    Ok(())
}
