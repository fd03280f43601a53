//! The paths of a patch, stored beside its file so that the rule on shared paths does not
//! unpack it again.
//!
//! A path is kept as 63 bits of its hash and one bit that says whether it is a directory, so
//! 65,536 paths take 512 KiB on the disk and in memory, however long they are. The path at
//! which two patches conflict is read from a patch again, to be named.
//!
//! Body: the keys of the paths and of all directories above them, each `u64` LE, in
//! ascending order. All of it follows from the patch: if the index cannot be read, or is of
//! the first version, which had the paths themselves, the patch is read.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::blobs::BlobStore;
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

    /// Whether the patch has it as a directory.
    pub(super) fn is_directory(self) -> bool {
        self.0 & 1 == 1
    }

    /// Whether two patches conflict with these: they are the same path and not both a
    /// directory, nor both something else if one patch `may_cover` files of the other.
    fn conflicts(self, other: Self, may_cover: bool) -> bool {
        self.of_path() == other.of_path()
            && match (self.is_directory(), other.is_directory()) {
                (true, true) => false,
                (false, false) => !may_cover,
                (true, false) | (false, true) => true,
            }
    }
}

/// What a patch has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// A directory, or something below the path.
    Directory,
    /// A file.
    File,
    /// A symbolic link.
    Link,
    /// It removes what is there.
    Removed,
}

/// The keys of all paths of a patch and of the directories above them, ascending.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PatchPaths(Vec<PathKey>);

impl PatchPaths {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The keys of a path, here and of another patch, with which they conflict, if there is
    /// one. Where one patch `may_cover` files of the other, only a file in the place of a
    /// directory does. Takes as many steps as the shorter list has keys, each times the
    /// logarithm of how much longer the other is.
    pub(super) fn conflict(&self, other: &Self, may_cover: bool) -> Option<(PathKey, PathKey)> {
        let is_shorter = self.len() < other.len();
        let (few, mut many) = if is_shorter { (self, &other.0[..]) } else { (other, &self.0[..]) };
        for key in &few.0 {
            many = from_path(many, *key);
            if let Some(found) = many.iter().take(2).find(|other| key.conflicts(**other, may_cover)) {
                return Some(if is_shorter { (*key, *found) } else { (*found, *key) });
            }
        }
        None
    }
}

/// The keys from this path on. Those that come soon are found soon.
fn from_path(keys: &[PathKey], key: PathKey) -> &[PathKey] {
    let is_before = |other: &PathKey| *other < key.of_path();
    let mut end = 1;
    while keys.get(end).is_some_and(is_before) {
        end *= 2;
    }
    let near = keys.get(..end).unwrap_or(keys);
    keys.get(near.partition_point(is_before)..).unwrap_or_default()
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
    blobs.write_index(&entry.hash, &seal(&paths));
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
        blobs.write_index(&entry.hash, &seal(&collector.finish(&archive.metadata)));
    }
}

/// The path of a key, as a directory or not, and what a patch has there. `None` if it has no
/// such path, or its file is not here.
///
/// # Errors
/// [`JobFailure`]: the patch file cannot be read.
pub(super) fn find(
    blobs: &BlobStore,
    entry: &Entry,
    key: PathKey,
) -> Result<Option<(PathBuf, Held)>, JobFailure> {
    let mut finder = Finder { key, parent: PathBuf::new(), found: None };
    let archive = read_patch(blobs, entry, &mut |member| finder.look_at(member))?;
    for path in archive.iter().flat_map(|archive| &archive.metadata.remove) {
        finder.look(path, Held::Removed);
    }
    Ok(finder.found)
}

/// Looks for the path of a key while the members of a patch are read.
struct Finder {
    key: PathKey,
    /// The directory of the last path: those above it have been looked at.
    parent: PathBuf,
    found: Option<(PathBuf, Held)>,
}

impl Finder {
    fn look_at(&mut self, member: &Member) {
        let held = match member.kind {
            MemberKind::Directory => Held::Directory,
            MemberKind::File { .. } => Held::File,
            MemberKind::Symlink { .. } => Held::Link,
        };
        if member.section == ArchiveSection::Files {
            self.look(&member.path, held);
        }
    }

    fn look(&mut self, path: &Path, held: Held) {
        if self.found.is_some() {
            return;
        }
        let is_it = |path: &&Path| PathKey::new(path, false) == self.key.of_path();
        if is_it(&path) {
            self.found = Some((path.to_path_buf(), held));
        } else if path.parent() != Some(&self.parent) {
            let above = with_above(path).skip(1).find(is_it);
            self.found = above.map(|above| (above.to_path_buf(), Held::Directory));
            self.parent = path.parent().map(Path::to_path_buf).unwrap_or_default();
        }
    }
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

    fn member(path: &str, kind: MemberKind) -> Member {
        let (section, owner, attributes) = (ArchiveSection::Files, Owner::default(), Vec::new());
        let (path, is_labelled, is_sparse) = (path.into(), false, false);
        Member { section, path, kind, owner, attributes, is_labelled, is_sparse, difference: None }
    }

    fn paths(members: &[(&str, bool)], remove: &str) -> PatchPaths {
        let mut collector = Collector::default();
        for (path, is_directory) in members {
            let kind = if *is_directory { MemberKind::Directory } else { MemberKind::File { size: 1 } };
            collector.add(&member(path, kind));
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
    fn only_directories_may_be_shared_and_files_if_one_covers_the_other() {
        let all = paths(&[("d", true), ("d/f", false)], "");
        let other = |path| paths(&[("d", true), ("x", true), ("y", true), (path, false)], "");
        let cases = [("d/f", true, false), ("d/f/g", true, true), ("d/g", false, false), ("e", false, false)];
        for (path, conflicts, covering_conflicts) in cases {
            for (may_cover, expected) in [(false, conflicts), (true, covering_conflicts)] {
                let found = all.conflict(&other(path), may_cover);
                assert_eq!(found.is_some(), expected, "{path} {may_cover}");
                let swapped = other(path).conflict(&all, may_cover).map(|(one, two)| (two, one));
                assert_eq!(found, swapped, "{path} {may_cover}");
                if let Some((one, two)) = found {
                    assert_eq!(one, PathKey::new(Path::new("d/f"), false));
                    assert_eq!(two, PathKey::new(Path::new("d/f"), path != "d/f"));
                }
            }
        }
    }

    #[test]
    fn each_path_in_common_is_found_wherever_it_lies() {
        let numbered = |range: std::ops::Range<usize>| {
            let names: Vec<_> = range.map(|number| number.to_string()).collect();
            paths(&names.iter().map(|name| (name.as_str(), false)).collect::<Vec<_>>(), "")
        };
        let many = numbered(0..1_000);
        for number in 0..1_000 {
            let few = numbered(number..number + 1);
            assert!(many.conflict(&few, false).is_some() && few.conflict(&many, false).is_some(), "{number}");
            let mut beside = numbered(1_000..1_500);
            beside.0.extend_from_slice(&few.0);
            beside.0.sort();
            assert_eq!(many.conflict(&beside, false), Some((few.0[0], few.0[0])), "{number}");
        }
        assert_eq!(many.conflict(&numbered(1_000..3_000), false), None);
    }

    #[test]
    fn a_path_is_found_by_either_key_with_what_the_patch_has_there() {
        let found = |path: &str, is_directory| {
            let key = PathKey::new(Path::new(path), is_directory);
            let mut finder = Finder { key, parent: PathBuf::new(), found: None };
            let link = MemberKind::Symlink { target: "x".into() };
            let members =
                [("d/e", MemberKind::Directory), ("d/e/f", MemberKind::File { size: 1 }), ("l", link)];
            for (path, kind) in members {
                finder.look_at(&member(path, kind));
            }
            finder.look(Path::new("gone"), Held::Removed);
            finder.found.map(|(path, held)| (path.to_str().unwrap().to_owned(), held))
        };
        let expected = [
            ("d", Held::Directory),
            ("d/e", Held::Directory),
            ("d/e/f", Held::File),
            ("l", Held::Link),
            ("gone", Held::Removed),
        ];
        for (path, held) in expected {
            assert_eq!(found(path, false), Some((path.to_owned(), held)));
            assert_eq!(found(path, true), Some((path.to_owned(), held)));
        }
        assert_eq!(found("f", false), None);
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
