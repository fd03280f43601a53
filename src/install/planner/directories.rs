//! The directories of a plan: which are made, which nothing wants any more, which stay.

use super::{Parts, Planner};
use crate::install::error::{ErrorContext, InstallError};
use crate::install::fit::Candidate;
use crate::install::holds::AttributeKinds;
use crate::install::layout::DirectoryPart;
use crate::install::moves::{Move, NewDirectory};
use crate::install::notice::Notice;
use crate::install::record::{Directory, Item, ItemKind};
use crate::patch::archive::{Attribute, Owner};

/// A directory that an install made.
#[derive(Default)]
pub(super) struct MadeDirectory {
    /// It is in the draft of the record: a path below it is, so it may have to come back.
    pub(super) is_written: bool,
    /// Something below it is in place.
    pub(super) is_wanted: bool,
}

impl Planner<'_, '_> {
    /// The new record has something in the directories that the walk is in; perhaps it is
    /// in place.
    pub(super) fn in_directories(&mut self, is_in_place: bool) -> Result<(), InstallError> {
        for (path, made) in self.recorded.inside() {
            made.is_wanted |= is_in_place;
            if !made.is_written {
                let directory = Directory { is_made: true, members_of: Vec::new() };
                self.draft.push(&Item { path: path.clone(), what: ItemKind::Directory(directory) })?;
                made.is_written = true;
            }
        }
        Ok(())
    }

    /// Plans a path at which no file is.
    pub(super) fn directory(
        &mut self,
        path: String,
        old: Option<Directory>,
        parts: Parts,
    ) -> Result<(), InstallError> {
        let Parts { directories: parts, through, .. } = parts;
        let is_recorded = old.is_some();
        let Directory { mut is_made, members_of } = old.unwrap_or_default();
        let mut members_of: Vec<_> =
            members_of.into_iter().filter_map(|rank| self.ranks.moved(rank)).collect();
        let missing = parts.iter().find(|(_, part)| part.is_missing);
        if let Some((rank, DirectoryPart { member, attributes, mount, .. })) = missing {
            self.make(&path, mount, Some(*rank), *member, attributes)?;
            is_made = true;
        }
        for (rank, DirectoryPart { member, mount, is_missing, .. }) in &parts {
            let Some(owner) = member else { continue };
            members_of.push(*rank);
            if !is_missing {
                self.compare_directory(&path, mount, *rank, owner)?;
            }
        }
        // A link that paths of patches lead through is recorded as their directory: no other
        // patch may have a file in its place later.
        members_of.extend(through);
        members_of.sort_unstable();
        members_of.dedup();
        if !members_of.is_empty() {
            self.in_directories(true)?;
            let what = ItemKind::Directory(Directory { is_made, members_of });
            self.draft.push(&Item { path, what })?;
        } else if self.turning.is_some() && is_recorded {
            self.turn_below(&path, is_made)?;
        } else if is_made {
            self.recorded.enter(path, MadeDirectory::default());
        }
        Ok(())
    }

    /// Tells if a directory is there with another owner or mode than a patch has for it: it
    /// stays as it is.
    fn compare_directory(
        &mut self,
        path: &str,
        mount: &str,
        rank: u16,
        owner: &Owner,
    ) -> Result<(), InstallError> {
        let has = self.host.tree.directory_stat(path)?;
        if (has.mode, has.uid, has.gid) == (owner.mode, owner.uid, owner.gid) {
            return Ok(());
        }
        // Nothing is made on a filesystem that the install has nothing else to do with.
        if !self.kept.is_open(mount) {
            return Ok(());
        }
        self.kept.try_out(mount)?;
        if !self.kept.holds(mount).modes {
            return Ok(());
        }
        let has = format!("{:04o} {}:{}", has.mode, has.uid, has.gid);
        let asked = format!("{:04o} {}:{}", owner.mode, owner.uid, owner.gid);
        let notice = Notice::DirectoryStays(path.to_owned(), self.ranks.id(rank), has, asked);
        self.notices.push(notice).context("sort in", ".thimble")
    }

    /// Whether the walk is in a directory that the install makes, and that is this one.
    pub(super) fn is_made(&mut self, path: &str) -> bool {
        self.made.inside().iter().any(|(made, ())| made == path)
    }

    /// Plans to make a directory, unless that is planned.
    pub(super) fn make(
        &mut self,
        path: &str,
        mount: &str,
        directory_of: Option<u16>,
        owner: Option<Owner>,
        attributes: &[Attribute],
    ) -> Result<(), InstallError> {
        if self.is_made(path) {
            return Ok(());
        }
        // A file that leaves makes way only for a directory that a patch brings.
        if let Some(file_of) = self.old_file.top.filter(|_| self.old_file.path == path)
            && directory_of.is_none()
        {
            return Err(self.file_and_directory(self.ranks.old_id(file_of), None, path));
        }
        let (mode, uid, gid) = owner.map_or((0o755, 0, 0), |owner| (owner.mode, owner.uid, owner.gid));
        self.open(mount)?;
        self.kept.try_out(mount)?;
        if let Some(rank) = directory_of {
            let patch = &self.ranks.id(rank);
            let attributes = AttributeKinds::of(attributes);
            let candidate = Candidate { patch, mount, path, is_link: false, mode, uid, gid, attributes };
            self.fit.check(&self.kept, &candidate)?;
        }
        self.made.enter(path.to_owned(), ());
        let (path, mount, attributes) = (path.to_owned(), mount.to_owned(), attributes.to_vec());
        self.journal.plan(&Move::Directory(NewDirectory { path, mount, mode, uid, gid, attributes }))
    }
}
