//! The directories of a plan: which are made, which nothing wants any more, which stay.

use std::os::fd::AsFd;

use super::{Parts, Planner};
use crate::install::error::{ErrorContext, InstallError};
use crate::install::fit::Candidate;
use crate::install::holds::AttributeKinds;
use crate::install::layout::DirectoryPart;
use crate::install::moves::{AccessChange, Move, NewDirectory};
use crate::install::notice::Notice;
use crate::install::record::{Access, Directory, Item, ItemKind, Listed};
use crate::install::sys;
use crate::install::tree::is_absent;
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
                let directory = Directory { is_made: true, ..Directory::default() };
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
        let Directory { mut is_made, members_of, listed: old } = old.unwrap_or_default();
        let mut members_of: Vec<_> =
            members_of.into_iter().filter_map(|rank| self.ranks.moved(rank)).collect();
        let layers = self.listed(&path, old.as_ref(), &parts)?;
        let missing = parts.iter().find(|(_, part)| part.is_missing);
        if let Some((rank, DirectoryPart { member, attributes, mount, .. })) = missing {
            let (rank, owner) = match layers.last() {
                Some((rank, Access { mode, uid, gid })) => {
                    let (mode, uid, gid) = (u32::from(*mode), *uid, *gid);
                    (rank, Some(Owner { mode, uid, gid, ..Owner::default() }))
                }
                None => (rank, *member),
            };
            self.make(&path, mount, Some(*rank), owner, attributes)?;
            is_made = true;
        }
        for (rank, DirectoryPart { member, mount, is_missing, .. }) in &parts {
            let Some(owner) = member else { continue };
            members_of.push(*rank);
            if !is_missing && layers.is_empty() {
                self.compare_directory(&path, mount, *rank, owner)?;
            }
        }
        let listed = match self.turning {
            // It goes, or the install is refused.
            Some(_) => None,
            None => self.change_access(&path, old, layers, &parts)?,
        };
        // A link that paths of patches lead through is recorded as their directory: no other
        // patch may have a file in its place later.
        members_of.extend(through);
        members_of.sort_unstable();
        members_of.dedup();
        if !members_of.is_empty() {
            self.in_directories(true)?;
            let what = ItemKind::Directory(Directory { is_made, members_of, listed });
            self.draft.push(&Item { path, what })?;
        } else if self.turning.is_some() && is_recorded {
            self.turn_below(&path, is_made)?;
        } else if is_made {
            self.recorded.enter(path, MadeDirectory::default());
        }
        Ok(())
    }

    /// What the patches of the new set say of a directory that list it, bottom first. Where
    /// the filesystem has one mode for all, they say nothing.
    fn listed(
        &mut self,
        path: &str,
        old: Option<&Listed>,
        parts: &[(u16, DirectoryPart)],
    ) -> Result<Vec<(u16, Access)>, InstallError> {
        let old = old.into_iter().flat_map(|old| &old.layers);
        let mut layers: Vec<_> =
            old.filter_map(|(rank, access)| Some((self.ranks.moved(*rank)?, *access))).collect();
        for (rank, DirectoryPart { member, mount, is_listed, .. }) in parts {
            // Two members may be one directory here, through a link.
            let Some(owner) = member.filter(|_| *is_listed) else { continue };
            if layers.iter().any(|(other, _)| other == rank) {
                continue;
            }
            self.open(mount)?;
            self.kept.try_out(mount)?;
            let (patch, attributes) = (&self.ranks.id(*rank), AttributeKinds::default());
            let Owner { mode, uid, gid, .. } = owner;
            let candidate = Candidate { patch, mount, path, is_link: false, mode, uid, gid, attributes };
            self.fit.check(&self.kept, &candidate)?;
            if self.kept.holds(mount).modes {
                layers.push((*rank, Access::of_member(&owner)));
            }
        }
        layers.sort_unstable_by_key(|(rank, _)| *rank);
        Ok(layers)
    }

    /// Plans the owner and mode that a directory gets from the topmost patch that lists it, or
    /// gets back. If they are not as the last install left them, they stay, and that is told.
    fn change_access(
        &mut self,
        path: &str,
        old: Option<Listed>,
        layers: Vec<(u16, Access)>,
        parts: &[(u16, DirectoryPart)],
    ) -> Result<Option<Listed>, InstallError> {
        let (old_top, new_top) = (old.as_ref().and_then(Listed::top), layers.last().map(|(_, top)| *top));
        let is_missing = parts.iter().any(|(_, part)| part.is_missing);
        let (mount, before) = match (old, new_top) {
            (Some(Listed { mount, before, .. }), _) => (mount, before),
            (None, None) => return Ok(None),
            (None, Some(top)) => {
                let mount = parts.first().map(|(_, part)| part.mount.clone()).unwrap_or_default();
                (mount, self.access_before(path, top, parts)?)
            }
        };
        if old_top != new_top && !is_missing {
            let has = self.host.tree.dir(path).and_then(|dir| sys::stat_dir(dir.as_fd()));
            match has {
                // It was deleted by hand.
                Err(error) if is_absent(&error) => {}
                has => {
                    let from = Access::of(&has.context("look at", path)?);
                    let (left, to) = (old_top.unwrap_or(before), new_top.unwrap_or(before));
                    if from != left && from != to {
                        let notice = Notice::AccessStays(path.to_owned(), from.to_string(), to.to_string());
                        self.notices.push(notice).context("sort in", ".thimble")?;
                    } else if from != to {
                        self.open(&mount)?;
                        let (path, mount) = (path.to_owned(), mount.clone());
                        self.journal.plan(&Move::Access(AccessChange { path, mount, from, to }))?;
                    }
                }
            }
        }
        Ok((!layers.is_empty()).then_some(Listed { mount, before, layers }))
    }

    /// The owner and mode that a directory has without the patches that list it: those that it
    /// has, or what it would be made with if nobody listed it. If it is made only because
    /// somebody does, it keeps what it was made with.
    fn access_before(
        &self,
        path: &str,
        top: Access,
        parts: &[(u16, DirectoryPart)],
    ) -> Result<Access, InstallError> {
        if !parts.iter().any(|(_, part)| part.is_missing) {
            return self.host.tree.directory_stat(path).map(|stat| Access::of(&stat));
        }
        let mut others = parts.iter().filter(|(_, part)| !part.is_listed);
        let other = others.find_map(|(_, part)| part.member);
        Ok(other.map_or(top, |owner| Access::of_member(&owner)))
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
