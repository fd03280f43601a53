//! The old contents of files that patches bring as differences.
//!
//! An old content is looked for where a host can have it: in place, among what is kept of the
//! path, and among what was unpacked for this install (`.thimble/fetch/old-HASH`). It counts
//! by its hash alone. What the host lacks is unpacked from the file of the patch that has it,
//! which is fetched for that if it is installed already; there it may be a difference in turn.
//! The base system has no such file: an install that lacks a content of it is refused.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::error::{ErrorContext, InstallError, InstallRefusal};
use super::path_hash::path_hash;
use super::record_file::Record;
use super::sys::{self, InodeKind};
use super::tree::{After, OnTheWay, RootTree, hash_file};
use crate::failpoint;
use crate::limits;
use crate::patch::archive::{self, ArchiveSection, Member, Sink};
use crate::patch::difference::{Difference, OldHash, old_hash};
use crate::sorted::FlatMap;
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

/// Old contents of one patch, by the hashes of their paths.
type Wants = FlatMap<u64, OldHash>;

/// Old contents that are not on the host, by the patches that have them.
#[derive(Default)]
pub(super) struct Missing {
    of: FlatMap<PatchId, Vec<(u64, OldHash)>>,
    /// What they take, in bytes.
    pub bytes: u64,
}

/// Gives the file of a patch of the set, which must be at its beginning.
pub(super) type Supply<'s> = dyn FnMut(&PatchId, u64) -> Result<File, InstallError> + 's;

impl Missing {
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
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
        let Some(of) = &difference.of else {
            let path = difference.old_path.as_ref().unwrap_or(&member.path).display().to_string();
            return Err(InstallRefusal::OtherBase(patch.clone(), path));
        };
        let old = path_hash(difference.old_path.as_ref().unwrap_or(&member.path));
        missing.bytes = missing.bytes.saturating_add(difference.old_bytes);
        missing.of.get_or_insert_with(of.clone(), Vec::new).push((old, difference.old_hash));
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
        let bytes = missing.bytes;
        for (id, wants) in missing.of {
            let refuse = |error| InstallError::Patch(id.clone(), Box::new(error));
            let mut file = supply(&id, bytes)?;
            let mut sink = Unpack {
                olds: self,
                id: &id,
                wants: wants.into(),
                deeper: Some(Missing::default()),
                failed: None,
            };
            // First what these are differences to, and what they are hard links to.
            for _ in 0..2 {
                file.rewind().context("read", ".thimble/fetch")?;
                let read = archive::read(&file, &mut sink);
                if let Some(error) = sink.failed.take() {
                    return Err(error);
                }
                read.map_err(refuse)?;
                if let Some(deeper) = sink.deeper.take().filter(|deeper| !deeper.is_empty()) {
                    if depth == limits::DIFFERENCE_CHAIN {
                        return Err(InstallRefusal::OldMissing(id.clone()).into());
                    }
                    self.unpack_deep(deeper, supply, depth + 1)?;
                }
            }
            if sink.wants.values().any(|hash| sys::stat_at(self.dir, &name(hash)).is_err()) {
                return Err(InstallRefusal::OldMissing(id.clone()).into());
            }
        }
        Ok(())
    }
}

/// The name of an old content that was unpacked.
fn name(hash: &OldHash) -> String {
    hash.iter().fold("old-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
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
    wants: Wants,
    /// The first time.
    deeper: Option<Missing>,
    failed: Option<InstallError>,
}

impl Unpack<'_> {
    fn write(&self, member: &Member, hash: &OldHash, content: &mut dyn Read) -> io::Result<()> {
        let difference = member.difference.as_deref();
        let old = difference.map(|it| self.olds.find(&member.path, it).ok_or(io::ErrorKind::NotFound));
        let (old, name) = (old.transpose()?, name(hash));
        failpoint::hit("unpacking an old file");
        sys::remove_if_there(self.olds.dir, &name)?;
        let mut file = sys::create_new(self.olds.dir, &name)?;
        match (difference, &old) {
            (Some(difference), Some(old)) => io::copy(&mut difference.apply(content, old), &mut file)?,
            _ => io::copy(content, &mut file)?,
        };
        file.flush()?;
        file.rewind()?;
        if old_hash(&hash_file(&mut file)?) != *hash {
            sys::remove_if_there(self.olds.dir, &name)?;
        }
        Ok(())
    }
}

impl Sink for Unpack<'_> {
    fn member(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        let hash = self.wants.get(&path_hash(&member.path)).copied();
        let Some(hash) = hash.filter(|_| member.section == ArchiveSection::Files) else { return Ok(()) };
        let failed = match &mut self.deeper {
            Some(deeper) => self.olds.want(deeper, self.id, member).map_err(InstallError::from),
            None => self
                .write(member, &hash, content)
                .context("unpack", &format!(".thimble/fetch/{}", name(&hash))),
        };
        failed.map_err(|error| {
            self.failed = Some(error);
            io::ErrorKind::Other.into()
        })
    }

    fn copy(&mut self, member: &Member, of: &Path) -> io::Result<()> {
        if let Some(hash) = self.wants.get(&path_hash(&member.path)).copied() {
            self.wants.insert(path_hash(of), hash);
        }
        Ok(())
    }
}
