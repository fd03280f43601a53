//! The old contents of files that patches bring as differences.
//!
//! An old content is looked for where a host can have it: in place, among what is kept of the
//! path, and among what was unpacked for this install (`.thimble/fetch/old-HASH`). It counts
//! by its hash alone. What the host lacks is unpacked from the file of the patch that has it,
//! which is fetched for that if it is installed already; there it may be a difference in turn.
//! The base system has no such file: an install that lacks a content of it is refused.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::error::{ErrorContext, InstallError, InstallRefusal};
use super::path_hash::path_hash;
use super::record_file::Record;
use super::sys::{self, InodeKind};
use super::tree::{After, OnTheWay, RootTree, hash_file};
use crate::failpoint;
use crate::limits;
use crate::patch::archive::{self, ArchiveSection, Member, MemberKind, Sink};
use crate::patch::difference::{Difference, OldHash, old_hash};
use crate::sorted::FlatSet;
use crate::types::PatchId;

/// Where old contents are looked for.
#[derive(Clone, Copy)]
pub(super) struct Olds<'h> {
    pub tree: &'h RootTree,
    /// What is installed.
    pub record: &'h Record,
    /// `.thimble/fetch`.
    pub dir: BorrowedFd<'h>,
}

/// Old contents that are not on the host.
#[derive(Default)]
pub(super) struct Missing {
    of: Vec<MissingOf>,
    /// What they take, in bytes.
    bytes: u64,
}

/// Old contents of one patch.
struct MissingOf {
    id: PatchId,
    /// The hashes of their paths.
    paths: Vec<u64>,
    hashes: Vec<OldHash>,
}

/// Gives the file of a patch of the set, which must be at its beginning.
pub(super) type Supply<'s> = dyn FnMut(&PatchId, u64) -> Result<File, InstallError> + 's;

impl Missing {
    fn add(&mut self, of: &PatchId, path: &Path, difference: &Difference) {
        self.bytes = self.bytes.saturating_add(difference.old_bytes);
        let at = self.of.iter().position(|missing| missing.id == *of).unwrap_or_else(|| {
            self.of.push(MissingOf { id: of.clone(), paths: Vec::new(), hashes: Vec::new() });
            self.of.len() - 1
        });
        if let Some(missing) = self.of.get_mut(at) {
            missing.paths.push(path_hash(path));
            missing.hashes.push(difference.old_hash);
        }
    }
}

impl Olds<'_> {
    /// The old content for a member with this path, if the host has it.
    pub fn find(&self, path: &Path, difference: &Difference) -> Option<File> {
        if let Ok(file) = sys::open_read(self.dir, &name(&difference.old_hash)) {
            return Some(file);
        }
        let path = difference.old_path.as_deref().unwrap_or(path).to_str()?;
        let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.tree.resolve(&PatchId::default(), above, path, &AsItIs).ok()?;
        let path = dir.path_of(last);
        let is_old = |file: &mut File| is_old(file, difference);
        let in_place = self.tree.parent(&path).and_then(|(dir, name)| sys::open_read(dir.as_fd(), name));
        if let Some(mut file) = in_place.ok()
            && is_old(&mut file)
        {
            return Some(file);
        }
        let stack = self.record.stack(&path).ok()??;
        let layers = stack.layers.iter().rev().filter_map(|layer| layer.content.object());
        let numbers = layers.map(|object| object.number).chain(stack.base.map(|base| base.number));
        for (number, mount) in numbers.flat_map(|number| [(number, stack.mount.as_str()), (number, "")]) {
            let kept = self.tree.dir(&format!("{mount}/.thimble/kept"));
            let kept = kept.and_then(|dir| sys::open_read(dir.as_fd(), &number.to_string()));
            if let Some(mut file) = kept.ok()
                && is_old(&mut file)
            {
                return Some(file);
            }
        }
        None
    }

    /// Adds the old content of a member to what is missing, if the host lacks it.
    pub fn want(
        &self,
        missing: &mut Missing,
        patch: &PatchId,
        member: &Member,
    ) -> Result<(), InstallRefusal> {
        let Some(difference) = member.difference.as_deref() else { return Ok(()) };
        if self.find(&member.path, difference).is_some() {
            return Ok(());
        }
        let path = difference.old_path.as_ref().unwrap_or(&member.path);
        let Some(of) = &difference.of else {
            return Err(InstallRefusal::OtherBase(patch.clone(), path.display().to_string()));
        };
        missing.add(of, path, difference);
        Ok(())
    }

    /// Unpacks what is missing from the files of the patches that have it.
    pub fn unpack(&self, missing: Missing, supply: &mut Supply<'_>) -> Result<(), InstallError> {
        self.unpack_deep(missing, supply, 0)
    }

    fn unpack_deep(
        &self,
        missing: Missing,
        supply: &mut Supply<'_>,
        depth: usize,
    ) -> Result<(), InstallError> {
        for MissingOf { id, paths, hashes } in missing.of {
            let lacks = || Err(InstallRefusal::OldMissing(id.clone()).into());
            let mut file = supply(&id, missing.bytes)?;
            let deeper = Some(Missing::default());
            let mut sink = Unpack { olds: self, id: &id, paths: paths.into(), deeper, failed: None };
            // First what these are differences to, and what they are hard links to.
            for _ in 0..2 {
                file.rewind().context("read", ".thimble/fetch")?;
                let read = archive::read(&file, &mut sink);
                if let Some(error) = sink.failed.take() {
                    return Err(error);
                }
                read.map_err(|error| InstallError::Patch(id.clone(), Box::new(error)))?;
                if let Some(deeper) = sink.deeper.take().filter(|deeper| !deeper.of.is_empty()) {
                    if depth == limits::DIFFERENCE_CHAIN {
                        return lacks();
                    }
                    self.unpack_deep(deeper, supply, depth + 1)?;
                }
            }
            if hashes.iter().any(|hash| sys::stat_at(self.dir, &name(hash)).is_err()) {
                return lacks();
            }
        }
        Ok(())
    }
}

/// The name of an old content that was unpacked.
fn name(hash: &OldHash) -> String {
    let [high, low] = hash.as_chunks().0 else { return String::new() };
    format!("old-{:016x}{:016x}", u64::from_be_bytes(*high), u64::from_be_bytes(*low))
}

/// Whether a file has the old content.
fn is_old(file: &mut File, difference: &Difference) -> bool {
    let is_file = sys::stat_dir(file.as_fd())
        .is_ok_and(|stat| stat.kind == InodeKind::File && stat.size_bytes == difference.old_bytes);
    is_file && hash_file(file).is_ok_and(|hash| old_hash(&hash) == difference.old_hash)
}

/// Resolves paths as they are now.
struct AsItIs;

impl OnTheWay for AsItIs {
    fn patch_at(&self, _: &str) -> Result<Option<PatchId>, InstallError> {
        Ok(None)
    }

    fn after(&self, _: &str) -> Result<After, InstallError> {
        Ok(After::Same)
    }

    fn after_nothing(&self, _: &str) -> Result<After, InstallError> {
        Ok(After::Nothing)
    }
}

/// Reads a patch that has old contents: first to learn what it takes to unpack them, then to do it.
struct Unpack<'a> {
    olds: &'a Olds<'a>,
    id: &'a PatchId,
    /// The hashes of their paths.
    paths: FlatSet<u64>,
    /// The first time.
    deeper: Option<Missing>,
    failed: Option<InstallError>,
}

/// The name of what is being unpacked.
const NEW: &str = "old";

impl Unpack<'_> {
    fn write(&self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        let (old, mut new);
        let content: &mut dyn Read = match &member.difference {
            None => content,
            Some(difference) => {
                old = self.olds.find(&member.path, difference).ok_or(io::ErrorKind::NotFound)?;
                new = difference.apply(content, &old);
                &mut new
            }
        };
        failpoint::hit("unpacking an old file");
        sys::remove_if_there(self.olds.dir, NEW)?;
        let mut file = sys::create_new(self.olds.dir, NEW)?;
        io::copy(content, &mut file)?;
        file.rewind()?;
        let hash = old_hash(&hash_file(&mut file)?);
        sys::rename_at(self.olds.dir, NEW, self.olds.dir, &name(&hash))
    }
}

impl Sink for Unpack<'_> {
    fn member(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        let is_file =
            member.section == ArchiveSection::Files && matches!(member.kind, MemberKind::File { .. });
        if !is_file || !self.paths.contains(&path_hash(&member.path)) {
            return Ok(());
        }
        let done = match &mut self.deeper {
            Some(deeper) => self.olds.want(deeper, self.id, member).map_err(InstallError::from),
            None => self.write(member, content).context("unpack", ".thimble/fetch/old"),
        };
        done.map_err(|error| {
            self.failed = Some(error);
            io::ErrorKind::Other.into()
        })
    }

    fn copy(&mut self, member: &Member, of: &Path) -> io::Result<()> {
        if self.paths.contains(&path_hash(&member.path)) {
            self.paths.insert(path_hash(of));
        }
        Ok(())
    }
}
