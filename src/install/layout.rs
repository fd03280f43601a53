//! Where the members of patches belong on a host, in the order of the paths.

use std::cmp::Ordering;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{ErrorContext, InstallError};
use super::holds::AttributeKinds;
use super::holes::bytes_without_holes;
use super::olds::{Missing, Olds};
use super::order::order;
use super::path_hash::path_hash;
use super::record::Patch;
use super::scripts::Script;
use super::sorter::{Sorted, SortedItems, Sorter};
use super::tree::{ResolvedDir, RootTree};
use super::way::Ways;
use crate::patch::archive::{self, ArchiveSection, Attribute, Member, MemberKind, Owner, Sink};
use crate::patch::metadata::Metadata;
use crate::sorted::FlatSet;
use crate::types::PatchId;
use crate::wire::frame::ManifestPatch;

/// What a patch has to do with a path of this host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LayoutItem {
    pub path: String,
    /// The place of the patch among those that were surveyed.
    pub patch: u16,
    pub part: Part,
}

/// The part that a patch has in a path. What comes first decides first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Part {
    /// A link of the base system that leads to its files.
    Through,
    /// A directory.
    Directory(DirectoryPart),
    /// A file or symbolic link.
    Member(MemberPart),
    /// It removes what is there.
    Removal {
        /// The mount point of the path's filesystem.
        mount: String,
    },
}

/// A directory of a patch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DirectoryPart {
    /// Its owner and mode, if it is a member of the patch and not only on the way to one.
    pub member: Option<Owner>,
    /// The metadata lists it under `directories`.
    pub is_listed: bool,
    pub attributes: Vec<Attribute>,
    /// The mount point of its filesystem.
    pub mount: String,
    /// It does not exist.
    pub is_missing: bool,
}

/// A file or symbolic link of a patch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MemberPart {
    /// The mount point of the path's filesystem.
    pub mount: String,
    /// The number that its object has or would have.
    pub number: u64,
    /// The bytes that it takes on the disk, about.
    pub size_bytes: u64,
    pub is_link: bool,
    /// It is another name of an earlier member.
    pub is_hard_link: bool,
    pub owner: Owner,
    pub attributes: AttributeKinds,
    /// The metadata lists it under `config`.
    pub is_config: bool,
}

impl Sorted for LayoutItem {
    fn order(&self, other: &Self) -> Ordering {
        let part = |item: &Self| match item.part {
            Part::Through => 0,
            Part::Directory(DirectoryPart { member: Some(_), .. }) => 1,
            Part::Directory(_) => 2,
            Part::Member(_) => 3,
            Part::Removal { .. } => 4,
        };
        order(&self.path, &other.path).then((self.patch, part(self)).cmp(&(other.patch, part(other))))
    }

    fn heap_bytes(&self) -> usize {
        let mount = match &self.part {
            Part::Through => 0,
            Part::Directory(DirectoryPart { mount, attributes, .. }) => {
                mount.len() + attributes.iter().map(|one| one.name.len() + one.value.len()).sum::<usize>()
            }
            Part::Member(MemberPart { mount, .. }) | Part::Removal { mount } => mount.len(),
        };
        self.path.len() + mount
    }
}

/// Finds out where patches' members belong.
pub(super) struct Survey<'h> {
    tree: &'h RootTree,
    ways: Ways<'h>,
    items: Sorter<'h, LayoutItem>,
    /// The number for the next member.
    next_number: u64,
    patches: u16,
    olds: Olds<'h>,
    /// The old contents that the host lacks for the differences of these patches.
    pub missing: Missing,
}

impl<'h> Survey<'h> {
    /// Of no patch yet. `home` is the directory for a file; `leaving` tells of each rank of
    /// the record whether that patch leaves.
    pub fn new(home: BorrowedFd<'h>, olds: Olds<'h>, leaving: Vec<bool>) -> Self {
        let Olds { tree, record, .. } = olds;
        let (items, ways) = (Sorter::new(home), Ways::new(tree, record, leaving));
        let (next_number, missing) = (record.next_number, Missing::default());
        Self { tree, ways, items, next_number, patches: 0, olds, missing }
    }

    /// Reads a patch's file, which must be at its beginning. Numbers its members in their
    /// order, from what [`Self::next_number`] says. Returns the patch as a record has it,
    /// and hashes of the members that others are hard links to.
    pub fn add(
        &mut self,
        manifest: &ManifestPatch,
        metadata: &Metadata,
        file: impl Read,
    ) -> Result<(Patch, FlatSet<u64>), InstallError> {
        let config = metadata.config.iter().filter_map(|path| path.to_str()).collect();
        let listed = metadata.directories.iter().filter_map(|path| path.to_str()).collect();
        let (scripts, linked) = (Vec::new(), Vec::new());
        let id = &manifest.id;
        let mut reader =
            Reader { survey: self, id, config, listed, last: None, scripts, linked, failed: None };
        let read = archive::read(file, &mut reader);
        let Reader { scripts, linked, failed, .. } = reader;
        match (read, failed) {
            (_, Some(error)) => return Err(error),
            (Err(error), None) => return Err(InstallError::Patch(manifest.id.clone(), Box::new(error))),
            (Ok(_), None) => {}
        }
        for path in metadata.remove.iter().filter_map(|path| path.to_str()) {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
            // A directory that is missing is not made for that.
            let dir = self.directory(&manifest.id, above, path, false)?;
            let part = Part::Removal { mount: dir.mount.clone() };
            self.push(dir.path_of(name), part).context("sort in", ".thimble")?;
        }
        self.patches += 1;
        let meta = metadata.entry_meta();
        let patch = Patch {
            id: manifest.id.clone(),
            slot: 0,
            hash: manifest.hash,
            // Which of them this host needs is not known here.
            requires: Vec::new(),
            unremovable: meta.unremovable,
            committed: manifest.committed,
            reboot_required: meta.reboot_required,
            scripts,
        };
        Ok((patch, linked.into()))
    }

    /// The number that the next member would get.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// All items.
    pub fn sorted(self) -> io::Result<SortedItems<LayoutItem>> {
        self.items.sorted()
    }

    fn push(&mut self, path: String, part: Part) -> io::Result<()> {
        self.items.push(LayoutItem { path, patch: self.patches, part })
    }

    /// Resolves a directory, and adds what is on the way to it: links, and the directories
    /// that must be made if the patch brings something there.
    fn directory(
        &mut self,
        id: &PatchId,
        path: &str,
        member: &str,
        brings: bool,
    ) -> Result<ResolvedDir, InstallError> {
        let dir = self.tree.resolve(id, path, member, &self.ways)?;
        let mut push = |path: &str, part| self.push(path.to_owned(), part).context("sort in", ".thimble");
        for path in &dir.through {
            push(path, Part::Through)?;
        }
        for path in dir.missing().filter(|_| brings) {
            let mount = dir.mount.clone();
            let attributes = Vec::new();
            let part = DirectoryPart { member: None, is_listed: false, attributes, mount, is_missing: true };
            push(path, Part::Directory(part))?;
        }
        Ok(dir)
    }
}

/// Reads one patch.
struct Reader<'s, 'h> {
    survey: &'s mut Survey<'h>,
    id: &'s PatchId,
    config: FlatSet<&'s str>,
    listed: FlatSet<&'s str>,
    /// The directory of the last member: its path in the patch, and on this host.
    last: Option<(String, ResolvedDir)>,
    scripts: Vec<Script>,
    linked: Vec<u64>,
    /// Why a member's place cannot be found.
    failed: Option<InstallError>,
}

impl Reader<'_, '_> {
    fn add(&mut self, member: &Member, is_hard_link: bool, size_bytes: u64) -> Result<(), InstallError> {
        let Some(path) = member.path.to_str() else { return Ok(()) };
        match member.section {
            ArchiveSection::Scripts => self.scripts.extend(Script::from_name(path)),
            ArchiveSection::Metadata => {}
            ArchiveSection::Files if member.kind == MemberKind::Directory => {
                let dir = self.directory(path, path)?;
                let (mount, is_missing) = (dir.mount.clone(), dir.missing_from.is_some());
                let attributes = member.attributes.clone();
                let (host_path, is_listed) = (dir.path.clone(), self.listed.contains(path));
                let member = Some(member.owner);
                let part = DirectoryPart { member, is_listed, attributes, mount, is_missing };
                self.push(host_path, Part::Directory(part))?;
            }
            ArchiveSection::Files => {
                let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
                let number = self.survey.next_number;
                let dir = self.directory(above, path)?;
                let is_link = !matches!(member.kind, MemberKind::File { .. });
                let (mount, owner, host_path) = (dir.mount.clone(), member.owner, dir.path_of(name));
                let is_config = self.config.contains(path);
                let attributes = AttributeKinds::of(&member.attributes);
                let part = MemberPart {
                    mount,
                    number,
                    size_bytes,
                    is_link,
                    is_hard_link,
                    owner,
                    attributes,
                    is_config,
                };
                self.push(host_path, Part::Member(part))?;
            }
        }
        self.survey.next_number += 1;
        Ok(())
    }

    fn push(&mut self, path: String, part: Part) -> Result<(), InstallError> {
        self.survey.push(path, part).context("sort in", ".thimble")
    }

    fn directory(&mut self, path: &str, member: &str) -> Result<&ResolvedDir, InstallError> {
        let last = match self.last.take() {
            Some(last) if last.0 == path => last,
            _ => (path.to_owned(), self.survey.directory(self.id, path, member, true)?),
        };
        Ok(&self.last.insert(last).1)
    }

    fn note(&mut self, member: &Member, is_hard_link: bool, size_bytes: u64) -> io::Result<()> {
        self.add(member, is_hard_link, size_bytes).map_err(|error| {
            self.failed = Some(error);
            io::ErrorKind::Other.into()
        })
    }
}

impl Sink for Reader<'_, '_> {
    fn member(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        let Survey { olds, missing, .. } = &mut *self.survey;
        match olds.want(missing, self.id, member) {
            // Of a patch that is installed already, few files are unpacked again.
            Err(refusal) if olds.record.patch(self.id).is_none() => {
                self.failed = Some(refusal.into());
                return Err(io::ErrorKind::Other.into());
            }
            _ => {}
        }
        let size_bytes = match member.kind {
            MemberKind::File { .. } if member.is_sparse => bytes_without_holes(content)?,
            MemberKind::File { size } => size,
            _ => 0,
        };
        self.note(member, false, size_bytes)
    }

    fn copy(&mut self, member: &Member, of: &Path) -> io::Result<()> {
        self.linked.push(path_hash(of));
        let size_bytes = if let MemberKind::File { size } = member.kind { size } else { 0 };
        self.note(member, true, size_bytes)
    }
}
