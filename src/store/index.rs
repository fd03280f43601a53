//! The paths of a patch, stored beside its file so that the rule on shared paths does not
//! unpack it again.
//!
//! A path is kept as 63 bits of its hash and one bit that says whether it is a directory, so
//! 65,536 paths take 512 KiB on the disk and in memory, however long they are. The path that
//! two patches share is read from a patch again, to be named.
//!
//! Body: the keys of the paths and of all directories above them, each `u64` LE, in
//! ascending order. All of it follows from the patch: if the index cannot be read, or is of
//! the first version, which had the paths themselves, the patch is read.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::blobs::BlobStore;
use super::durable;
use super::error::JobFailure;
use super::sealed_file::SealedFile;
use crate::limits;
use crate::patch::PatchError;
use crate::patch::archive::{self, Archive, ArchiveSection, Member, MemberKind};
use crate::patch::metadata::Metadata;
use crate::repo::entry::Entry;
use crate::sealed::SealedFormat;

const FILE: SealedFile = SealedFile {
    format: SealedFormat { magic: b"THMBINDX", version: 2 },
    most_bytes: 64 + 8 * limits::PATCH_MEMBERS as u64,
};

/// A path below the root: 63 bits of its BLAKE3 hash, above a bit that is set if the patch
/// has it as a directory. If a patch of the greatest size is compared with 1,000 others like
/// it, the chance that two different paths are taken for one is 1 in 2 million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PathKey(u64);

impl PathKey {
    fn new(path: &Path, is_directory: bool) -> Self {
        let hash = blake3::hash(path.as_os_str().as_bytes());
        let first = hash.as_bytes().first_chunk().copied().unwrap_or_default();
        Self(u64::from_le_bytes(first) & !1 | u64::from(is_directory))
    }

    /// The lowest key that the same path can have.
    fn of_path(self) -> Self {
        Self(self.0 & !1)
    }

    /// Whether two patches have one path, and not both as a directory.
    fn collides(self, other: Self) -> bool {
        self.of_path() == other.of_path() && self.0 & other.0 & 1 == 0
    }
}

/// The keys of all paths of a patch and of the directories above them, ascending.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PatchPaths(Vec<PathKey>);

impl PatchPaths {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether two patches have a path in common, and not both as a directory.
    pub(super) fn collide(&self, other: &Self) -> bool {
        let (few, many) = if self.len() < other.len() { (self, other) } else { (other, self) };
        few.0.iter().any(|key| many.collides(*key))
    }

    fn collides(&self, key: PathKey) -> bool {
        let from = self.0.partition_point(|other| *other < key.of_path());
        self.0.iter().skip(from).take(2).any(|other| other.collides(key))
    }

    /// The shortest of a path and those above it that another patch may not have beside
    /// these.
    fn first_shared(&self, path: &Path, is_directory: bool) -> Option<PathBuf> {
        let is_above = |at: &Path| at.as_os_str().len() < path.as_os_str().len();
        let key = |at: &Path| PathKey::new(at, is_directory || is_above(at));
        with_above(path).filter(|at| self.collides(key(at))).last().map(Path::to_path_buf)
    }
}

/// Collects the paths of a patch while its members are read.
#[derive(Default)]
pub(super) struct Collector {
    keys: Vec<PathKey>,
    /// The directory of the last path: those above it have been added.
    parent: PathBuf,
}

impl Collector {
    /// Adds a member.
    pub(super) fn add(&mut self, member: &Member) {
        if member.section == ArchiveSection::Files {
            self.add_path(&member.path, member.kind == MemberKind::Directory);
        }
    }

    fn add_path(&mut self, path: &Path, is_directory: bool) {
        if path.parent() != Some(&self.parent) {
            self.parent = path.parent().map(Path::to_path_buf).unwrap_or_default();
            for above in with_above(path).skip(1) {
                self.push(PathKey::new(above, true));
            }
        }
        self.push(PathKey::new(path, is_directory));
    }

    fn push(&mut self, key: PathKey) {
        // At least one half of these are there twice.
        if self.keys.len() >= 2 * limits::PATCH_MEMBERS {
            self.sort();
        }
        self.keys.push(key);
    }

    fn sort(&mut self) {
        self.keys.sort_unstable();
        self.keys.dedup();
    }

    /// The paths, with those that the patch removes.
    pub(super) fn finish(mut self, metadata: &Metadata) -> PatchPaths {
        metadata.remove.iter().for_each(|path| self.add_path(path, false));
        self.sort();
        PatchPaths(self.keys)
    }
}

/// A path, and then the directories above it, up to the root but without it.
fn with_above(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().filter(|path| !path.as_os_str().is_empty())
}

/// The index file of these paths.
pub(super) fn seal(paths: &PatchPaths) -> Vec<u8> {
    let mut body = Vec::new();
    for key in &paths.0 {
        body.extend_from_slice(&key.0.to_le_bytes());
    }
    FILE.format.seal(&body)
}

/// The paths of a patch in the store, whose lock is held.
///
/// # Errors
/// [`JobFailure`]: the patch file is missing or cannot be read.
pub(super) fn read(blobs: &BlobStore, entry: &Entry) -> Result<PatchPaths, JobFailure> {
    let path = blobs.index(&entry.hash);
    if let Ok(Some((version, body))) = FILE.read_versioned(&path)
        && version == FILE.format.version
        && let Some(paths) = decode(&body)
    {
        return Ok(paths);
    }
    let mut collector = Collector::default();
    let read = read_patch(blobs, entry, &mut |member| collector.add(member))?;
    let archive = read.ok_or_else(|| {
        JobFailure::refused(format_args!(
            "{} cannot be compared with other patches, its file is not in this controller's store: \
             wait for it where another controller has it (thimble status tells), or upload it again",
            entry.id
        ))
    })?;
    let paths = collector.finish(&archive.metadata);
    // If that fails, the patch is read the next time as well.
    let _ = durable::replace(&path, &seal(&paths));
    Ok(paths)
}

/// Makes the index of a patch in the store if it has none. If that fails, the patch is
/// read again when its paths are needed, and the error is reported then.
pub(super) fn make(blobs: &BlobStore, entry: &Entry) {
    let path = blobs.index(&entry.hash);
    let mut collector = Collector::default();
    if !path.exists()
        && let Ok(Some(archive)) = read_patch(blobs, entry, &mut |member| collector.add(member))
    {
        let _ = durable::replace(&path, &seal(&collector.finish(&archive.metadata)));
    }
}

/// The first path of a patch that another one has as well, and not both as a directory.
/// `None` if its file is not here.
///
/// # Errors
/// [`JobFailure`]: the patch file cannot be read.
pub(super) fn shared(
    blobs: &BlobStore,
    entry: &Entry,
    other: &PatchPaths,
) -> Result<Option<PathBuf>, JobFailure> {
    let mut found = None;
    let mut look = |path: &Path, is_directory: bool| {
        if found.is_none() {
            found = other.first_shared(path, is_directory);
        }
    };
    let archive = read_patch(blobs, entry, &mut |member| {
        if member.section == ArchiveSection::Files {
            look(&member.path, member.kind == MemberKind::Directory);
        }
    })?;
    for path in archive.iter().flat_map(|archive| &archive.metadata.remove) {
        look(path, false);
    }
    Ok(found)
}

/// Reads a patch in the store; `None` if its file is not here.
fn read_patch(
    blobs: &BlobStore,
    entry: &Entry,
    each: &mut dyn FnMut(&Member),
) -> Result<Option<Archive>, JobFailure> {
    let Some(blob) = blobs.open(&entry.hash)? else { return Ok(None) };
    let failed = |error: PatchError| JobFailure::of_patch(entry.id.as_str(), &error);
    archive::members(blob.file, each).map(Some).map_err(failed)
}

fn decode(body: &[u8]) -> Option<PatchPaths> {
    let (keys, rest) = body.as_chunks();
    let keys: Vec<_> = keys.iter().map(|key| PathKey(u64::from_le_bytes(*key))).collect();
    (rest.is_empty() && keys.is_sorted()).then_some(PatchPaths(keys))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::archive::Owner;

    fn paths(members: &[(&str, bool)], remove: &str) -> PatchPaths {
        let mut collector = Collector::default();
        for (path, is_directory) in members {
            let kind = if *is_directory { MemberKind::Directory } else { MemberKind::File { size: 1 } };
            let (section, owner, attributes) = (ArchiveSection::Files, Owner::default(), Vec::new());
            let (path, is_labelled, is_sparse) = (path.into(), false, false);
            collector.add(&Member { section, path, kind, owner, attributes, is_labelled, is_sparse });
        }
        let text = format!("id = \"A\"\nsw_version = \"1\"\nremove = [{remove}]\n");
        collector.finish(&Metadata::parse(&text).unwrap())
    }

    fn has(paths: &PatchPaths, path: &str, is_directory: bool) -> bool {
        paths.0.contains(&PathKey::new(Path::new(path), is_directory))
    }

    #[test]
    fn a_patch_has_its_paths_once_and_the_directories_above_them() {
        let all = paths(&[("b", true), ("b/a/x", false), ("b/a/y", false), ("c/z", false)], "\"d/e\"");
        assert_eq!(all.len(), 8);
        for directory in ["b", "b/a", "c", "d"] {
            assert!(has(&all, directory, true) && !has(&all, directory, false), "{directory}");
        }
        for file in ["b/a/x", "b/a/y", "c/z", "d/e"] {
            assert!(has(&all, file, false) && !has(&all, file, true), "{file}");
        }
    }

    #[test]
    fn keys_come_back_from_the_file_and_other_bodies_do_not() {
        let all = paths(&[("b", true), ("b/a", false), ("a", false)], "");
        let sealed = seal(&all);
        let body = &sealed[10..sealed.len() - 32];
        assert_eq!(body.len(), 3 * 8);
        assert_eq!(decode(body).unwrap(), all);
        assert_eq!(decode(&body[..body.len() - 1]), None);
        let swapped = [&body[8..16], &body[..8]].concat();
        assert_eq!(decode(&swapped), None);
        assert_eq!(decode(&[]).unwrap(), PatchPaths::default());
    }

    /// If this fails, the code is wrong and not the test: such keys are on disks.
    #[test]
    fn a_key_is_the_start_of_the_hash() {
        let hash = blake3::hash(b"etc/motd");
        let number = u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap());
        assert_eq!(PathKey::new(Path::new("etc/motd"), false).0, number & !1);
        assert_eq!(PathKey::new(Path::new("etc/motd"), true).0, number | 1);
    }

    #[test]
    fn only_directories_may_be_shared() {
        let all = paths(&[("d", true), ("d/f", false)], "");
        let key = |path: &str, is_directory| PathKey::new(Path::new(path), is_directory);
        assert!(!all.collides(key("d", true)) && all.collides(key("d", false)));
        assert!(all.collides(key("d/f", true)) && all.collides(key("d/f", false)));
        assert!(!all.collides(key("d/g", false)) && !all.collides(key("e", false)));
        let other = |path| paths(&[("d", true), ("x", true), ("y", true), (path, false)], "");
        for (path, is_shared) in [("d/f", true), ("d/f/g", true), ("d/g", false), ("e", false)] {
            assert_eq!(all.collide(&other(path)), is_shared, "{path}");
            assert_eq!(other(path).collide(&all), is_shared, "{path}");
        }
    }

    /// Deep paths name the directories above them again and again.
    #[test]
    fn the_memory_for_paths_has_a_bound() {
        let mut collector = Collector::default();
        let deep = |at: usize| format!("{}{at}", "d/".repeat(1_000));
        for at in 0..2_000 {
            collector.add_path(Path::new(&deep(at)), false);
            collector.add_path(Path::new("top"), false);
        }
        assert!(collector.keys.capacity() <= 4 * limits::PATCH_MEMBERS);
        collector.sort();
        assert_eq!(collector.keys.len(), 1_000 + 2_000 + 1);
    }
}
