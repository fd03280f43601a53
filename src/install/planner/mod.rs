//! Plans an install: walks through the record and the layout of the patches side by side,
//! path by path, and writes down what is to be done.
//!
//! What grows with the number of files goes to the disk as it comes: the moves into the
//! journal, the new record into its draft, the files to unpack and the notices into
//! sorters. In memory are the path that the walk is at and the directories that it is in.

use std::cmp::Ordering;
use std::os::fd::AsFd;

use crate::install::beside::free_beside;
use crate::install::conflict::Conflict;
use crate::install::error::{ErrorContext, InstallError};
use crate::install::fit::{Candidate, Fit};
use crate::install::installer::Installer;
use crate::install::journal::Journal;
use crate::install::kept::Kept;
use crate::install::layout::{LayoutItem, MemberPart};
use crate::install::moves::Move;
use crate::install::needs::Needs;
use crate::install::notice::{Notice, Notices, SortedNotices};
use crate::install::order::{FileAbove, Left, order};
use crate::install::plan::{self, Brought, PathFacts, Ranks};
use crate::install::presence::Presence;
use crate::install::record::{Directory, Installed, Item, ItemKind, Patch, Stack};
use crate::install::record_draft::Draft;
use crate::install::record_file::Record;
use crate::install::record_item::{RawItem, RawStack};
use crate::install::record_table::INSTALLED;
use crate::install::sorter::{SortedItems, Sorter};
use crate::install::staged::Staged;
use crate::install::tree::PathState;
use crate::patch::archive::Owner;
use crate::patch::floor::Memory;
use crate::sorted::FlatSet;
use crate::types::PatchId;

mod directories;
mod keeping;
mod parts;
mod passing;
mod turning;

use directories::MadeDirectory;
use parts::Parts;
use turning::Turning;

/// Files deleted by hand that get a notice of their own.
const NOTICES: usize = 8;

/// A patch whose file was read.
pub(super) struct Surveyed {
    /// Its rank in the new set.
    pub rank: u16,
    /// It is installed, and only its lost layers are unpacked again.
    pub is_again: bool,
}

/// What an install will do. The moves are in the journal.
pub(super) struct Plan<'h> {
    /// The new record, without the prints of what is not unpacked yet.
    pub draft: Draft<'h>,
    /// The end of it.
    pub next: Installed,
    /// Files and links to unpack.
    pub staged: SortedItems<Staged>,
    /// Local changes that the operator should know of.
    pub notices: SortedNotices,
    /// The kept directories of the filesystems that it is about.
    pub kept: Kept<'h>,
    pub needs: Needs,
    /// Patches of the old set that had a file in place where something changes.
    pub displaced: FlatSet<PatchId>,
}

/// The state of the walk.
pub(super) struct Planner<'h, 'p> {
    host: &'h Installer<'h>,
    record: &'p Record,
    ranks: Ranks<'p>,
    surveyed: &'p [Surveyed],
    journal: &'p mut Journal,
    draft: Draft<'h>,
    staged: Sorter<'h, Staged>,
    notices: Notices<'h>,
    fit: Fit<'h>,
    kept: Kept<'h>,
    needs: Needs,
    displaced: FlatSet<PatchId>,
    /// What the new record remembers.
    memory: Memory,
    next_number: u64,
    /// The path that the walk is at or below, if it has a stack in the new set.
    new_file: FileAbove,
    /// The same of the old set.
    old_file: FileAbove,
    /// The directories to make that the walk is in.
    made: Left<()>,
    /// The directories that installs made and that the walk is in.
    recorded: Left<MadeDirectory>,
    /// The directory that makes way for a file or link, if the walk is in it.
    turning: Option<Turning>,
    presence: Presence,
    /// Files found deleted, and those without a notice.
    deleted: usize,
    more_deleted: usize,
}

impl<'h, 'p> Planner<'h, 'p> {
    /// Before the first path. `new` are the patches of the new set, in layer order.
    pub fn new(
        host: &'h Installer<'h>,
        record: &'p Record,
        new: &'p [Patch],
        surveyed: &'p [Surveyed],
        next_number: u64,
        memory: Memory,
        journal: &'p mut Journal,
    ) -> Result<Self, InstallError> {
        let home = host.home.as_fd();
        Ok(Self {
            host,
            record,
            ranks: Ranks::new(&record.patches, new),
            surveyed,
            journal,
            draft: Draft::begin(home, &INSTALLED, new)?,
            staged: Sorter::new(home),
            notices: Notices::new(home),
            fit: Fit::new(home),
            kept: Kept::open(&host.tree, [""], |_| true)?,
            needs: Needs::default(),
            displaced: FlatSet::default(),
            memory,
            next_number,
            new_file: FileAbove::default(),
            old_file: FileAbove::default(),
            made: Left::default(),
            recorded: Left::default(),
            turning: None,
            presence: Presence::default(),
            deleted: 0,
            more_deleted: 0,
        })
    }

    /// Walks through all paths.
    ///
    /// # Errors
    /// [`Conflict`]: a patch does not fit the tree; or a system error.
    pub fn plan(mut self, layout: &SortedItems<LayoutItem>) -> Result<Plan<'h>, InstallError> {
        let record = self.record;
        let mut items = record.items();
        let mut layout = layout.iter().context("sort in", ".thimble")?;
        let mut item: Option<RawItem<'_>> = None;
        let mut brought = layout.next().context("sort in", ".thimble")?;
        loop {
            if item.is_none() {
                self.pass_over(&mut items, brought.as_ref())?;
                item = items.next_raw()?;
            }
            let which = match (&item, &brought) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(item), Some(brought)) => order(item.path, &brought.path),
            };
            let (path, old) = match (&item, &brought) {
                (Some(raw), _) if which.is_le() => {
                    let stays = raw.stack().filter(|stack| which.is_lt() && self.keeps(stack.slots()));
                    if let Some(stack) = stays {
                        self.stay(raw, stack)?;
                        item = None;
                        continue;
                    }
                    let Item { path, what } = raw.item(record)?;
                    item = None;
                    (path, Some(what))
                }
                (_, Some(brought)) => (brought.path.clone(), None),
                (_, None) => break,
            };
            let stack = match &old {
                Some(ItemKind::Stack(stack)) => Some(stack),
                _ => None,
            };
            let mut parts = Parts::default();
            while let Some(part) = brought.take_if(|brought| brought.path == path) {
                self.sort_part(part, stack, &mut parts);
                brought = layout.next().context("sort in", ".thimble")?;
            }
            self.visit(path, old, parts)?;
        }
        self.end()
    }

    fn end(mut self) -> Result<Plan<'h>, InstallError> {
        self.leave_turning(None)?;
        for (path, directory) in std::mem::take(&mut self.recorded).end() {
            if !directory.is_wanted {
                self.journal.plan(&Move::OldDirectory(path))?;
            }
        }
        if self.more_deleted > 0 {
            self.notices.push(Notice::MoreMissing(self.more_deleted)).context("sort in", ".thimble")?;
        }
        self.journal.end_plan()?;
        self.fit.end(&self.host.tree, &self.kept)?;
        let next = Installed {
            serial: self.record.serial + 1,
            next_number: self.next_number,
            patches: self.ranks.new.to_vec(),
            mounts: self.draft.mounts()?,
            memory: self.memory,
        };
        Ok(Plan {
            draft: self.draft,
            next,
            staged: self.staged.sorted().context("sort in", ".thimble")?,
            notices: self.notices.sorted().context("sort in", ".thimble")?,
            kept: self.kept,
            needs: self.needs,
            displaced: self.displaced,
        })
    }

    /// A path at which nothing changes.
    fn stay(&mut self, item: &RawItem<'_>, stack: RawStack<'_>) -> Result<(), InstallError> {
        self.leave(item.path)?;
        let top = stack.slots().last().and_then(|slot| self.record.rank_of(slot)).unwrap_or_default();
        let new_top = self.ranks.moved(top).unwrap_or_default();
        if let Some(of) = self.new_file.top {
            return Err(self.file_and_directory(self.ranks.id(of), Some(new_top), &self.new_file.path));
        }
        self.new_file.set(item.path, new_top);
        self.old_file.set(item.path, top);
        if stack.has_file() {
            self.look_for(item.path, top)?;
        }
        self.in_directories(stack.has_file())?;
        self.draft.push_raw(item)
    }

    /// Plans one path.
    fn visit(&mut self, path: String, old: Option<ItemKind>, mut parts: Parts) -> Result<(), InstallError> {
        self.leave(&path)?;
        parts.members.sort_unstable_by_key(|(brought, ..)| brought.rank);
        parts.directories.sort_by_key(|(rank, part)| (part.member.is_none(), *rank));
        let twice = parts.members.windows(2).find_map(|pair| match pair {
            [(a, ..), (b, ..)] if a.rank == b.rank => Some(a.rank),
            _ => None,
        });
        if let Some(rank) = twice {
            return Err(Conflict::SameFile(self.ranks.id(rank), path).into());
        }
        let (old, directory) = match old {
            Some(ItemKind::Stack(stack)) => (Some(stack), None),
            Some(ItemKind::Directory(directory)) => (None, Some(directory)),
            None => (None, None),
        };
        let files = parts.members.iter().map(|(brought, ..)| brought.rank);
        let directories = parts.directories.iter().map(|(rank, _)| *rank);
        let first = files.chain(directories).chain(parts.through.iter().copied()).min();
        let first = first.or_else(|| self.stays_below(old.as_ref(), directory.as_ref()));
        if let (Some(first), Some(of)) = (first, self.new_file.top) {
            return Err(self.file_and_directory(self.ranks.id(of), Some(first), &self.new_file.path));
        }
        if let Some(top) = old.as_ref().and_then(Stack::top) {
            self.old_file.set(&path, top.rank);
        }
        let is_changed = !parts.members.is_empty() || old.as_ref().is_some_and(|old| self.ranks.change(old));
        let (stack, staged) = match &old {
            _ if is_changed => self.change(&path, old.as_ref(), directory.as_ref(), &parts)?,
            Some(old) => (Some(self.keep(&path, old)?), Vec::new()),
            None => (None, Vec::new()),
        };
        if let Some(stack) = stack {
            let staying = self.stays_below(None, directory.as_ref());
            let is_made = directory.as_ref().is_some_and(|directory| directory.is_made);
            let through = parts.through.first().copied().or(staying.filter(|_| !is_made));
            if let Some(rank) = through {
                return Err(Conflict::ThroughPatchedLink(self.ranks.id(rank), path).into());
            }
            let top = stack.top().map_or(0, |top| top.rank);
            if let Some(rank) = parts.directories.first().map(|(rank, _)| *rank).or(staying) {
                return Err(self.file_and_directory(self.ranks.id(top), Some(rank), &path));
            }
            self.new_file.set(&path, top);
            return self.record(path, stack, staged, parts);
        }
        self.directory(path, directory, parts)
    }

    /// The walk goes on to a path: tells of the directories that it leaves.
    fn leave(&mut self, path: &str) -> Result<(), InstallError> {
        self.leave_turning(Some(path))?;
        while self.made.leave(path).is_some() {}
        while let Some((path, directory)) = self.recorded.leave(path) {
            if !directory.is_wanted {
                self.journal.plan(&Move::OldDirectory(path))?;
            }
        }
        self.new_file.leave(path);
        self.old_file.leave(path);
        Ok(())
    }

    fn file_and_directory(&self, file_of: PatchId, directory_of: Option<u16>, path: &str) -> InstallError {
        let directory_of = directory_of.map(|rank| self.ranks.id(rank));
        Conflict::FileAndDirectory { file_of, directory_of, path: path.to_owned() }.into()
    }

    /// A path whose stack stays: only the ranks of its patches change.
    fn keep(&mut self, path: &str, old: &Stack) -> Result<Stack, InstallError> {
        if let Some(top) = old.top().filter(|_| old.has_file()) {
            self.look_for(path, top.rank)?;
        }
        let Stack { mount, base, layers } = old;
        Ok(Stack { mount: mount.clone(), base: *base, layers: self.ranks.staying(layers) })
    }

    /// Looks whether a file is there that should be, of the patch with this old rank. It is
    /// not restored, and does not stop the install: the owner of a directory can bring that
    /// about.
    fn look_for(&mut self, path: &str, of: u16) -> Result<(), InstallError> {
        let id = || self.ranks.old_id(of);
        let notice = match self.presence.has(&self.host.tree, path) {
            Ok(true) => return Ok(()),
            Ok(false) => Notice::Missing(path.to_owned(), id()),
            Err(error) => Notice::Unseen(path.to_owned(), id(), error.to_string()),
        };
        if self.deleted == NOTICES {
            self.more_deleted += 1;
            return Ok(());
        }
        self.deleted += 1;
        self.notices.push(notice).context("sort in", ".thimble")
    }

    /// A path whose stack changes. Returns the new one, and which members are unpacked.
    fn change(
        &mut self,
        path: &str,
        old: Option<&Stack>,
        directory: Option<&Directory>,
        parts: &Parts,
    ) -> Result<(Option<Stack>, Vec<u64>), InstallError> {
        let host = self.host;
        let brought: Vec<_> = parts.members.iter().map(|(brought, ..)| *brought).collect();
        let mount = old.map(|stack| &stack.mount).or(parts.members.first().map(|(_, _, mount)| mount));
        let mount = mount.cloned().unwrap_or_default();
        let mut missing = host.tree.missing(path)?;
        if missing.directories.first().is_some_and(|first| self.is_made(first)) {
            missing.is_in_the_way = false;
        }
        let top = old.and_then(Stack::top).and_then(|top| top.content.object());
        let mut state = host.tree.inspect(path, top.map(|top| top.size_bytes))?;
        let turned_by = brought.last().map(|brought| brought.rank).filter(|_| {
            state == PathState::Directory && directory.is_some_and(|directory| directory.is_made)
        });
        if turned_by.is_some() {
            state = PathState::Nothing;
        }
        let is_as_recorded = match state {
            PathState::Inode(found) => top.is_some_and(|top| found.is(&top.print)),
            PathState::MountPoint => false,
            PathState::Nothing | PathState::Directory => true,
        };
        let free = |ending: &str| match old {
            Some(_) if !is_as_recorded => free_beside(&host.tree, path, ending),
            _ => Ok(String::new()),
        };
        let (saved, new) = (free("thimble-saved")?, free("thimble-new")?);
        let facts = PathFacts { state, mount, missing, saved, new };
        let plan = plan::path(path, old, &facts, &self.ranks, &brought, &mut self.next_number)?;
        let makes_way = match parts.directories.first() {
            Some((rank, _)) if plan.stack.is_none() => {
                self.leaves_for_directory(path, &plan, old, *rank)?;
                true
            }
            _ => self.leaves_way(path, &plan, facts.state != PathState::Nothing)?,
        };
        if let Some(notice) = plan.notice {
            self.notices.push(notice).context("sort in", ".thimble")?;
        }
        if plan.save.is_some() || plan.switch.is_some() {
            self.open(&facts.mount)?;
        }
        if let Some(save) = plan.save {
            self.kept.try_out(&facts.mount)?;
            if !self.kept.holds(&facts.mount).hard_links {
                self.needs.add(&facts.mount, host.tree.size_bytes(&save.path)?);
            }
            self.journal.plan(&Move::Save(save))?;
        }
        if let Some(mut switch) = plan.switch {
            if switch.to.is_some() {
                for directory in &facts.missing.directories {
                    self.make(directory, &facts.mount, None, None, &[])?;
                }
            }
            self.find(&mut switch, old)?;
            if let Some(top) = old.and_then(Stack::top).filter(|_| !switch.is_beside) {
                self.displaced.insert(self.ranks.old_id(top.rank));
            }
            self.journal.plan(&if makes_way { Move::MakeWay(switch) } else { Move::Switch(switch) })?;
        }
        if let Some(rank) = turned_by {
            self.turn(path, &facts.mount, rank)?;
        }
        Ok((plan.stack, plan.staged))
    }

    /// Writes a stack to the new record, and its members to what is unpacked.
    fn record(
        &mut self,
        path: String,
        mut stack: Stack,
        staged: Vec<u64>,
        parts: Parts,
    ) -> Result<(), InstallError> {
        stack.drop_below_committed(|rank| self.ranks.is_committed(rank));
        self.in_directories(stack.has_file())?;
        let item = Item { path, what: ItemKind::Stack(stack) };
        let layers_at = self.draft.push(&item)?;
        let Item { path, what: ItemKind::Stack(stack) } = item else { return Ok(()) };
        for (Brought { rank, .. }, member, _) in parts.members {
            let Some(member) = member.filter(|member| staged.contains(&member.number)) else { continue };
            let layer = stack.layers.iter().position(|layer| {
                layer.content.object().is_some_and(|object| object.number == member.number)
            });
            // Below a committed layer it is not needed.
            let Some(layer) = layer.and_then(|layer| u16::try_from(layer).ok()) else { continue };
            let MemberPart {
                mount, number, mut size_bytes, is_link, is_hard_link, owner, attributes, ..
            } = member;
            self.open(&mount)?;
            self.kept.try_out(&mount)?;
            let Owner { mode, uid, gid, .. } = owner;
            let patch = &self.ranks.id(rank);
            let candidate =
                Candidate { patch, mount: &mount, path: &path, is_link, mode, uid, gid, attributes };
            self.fit.check(&self.kept, &candidate)?;
            if let Some(granted) = self.kept.holds(&mount).opened(mode).filter(|_| !is_link) {
                let notice = Notice::Opened(path.clone(), mode, granted);
                self.notices.push(notice).context("sort in", ".thimble")?;
            }
            match is_hard_link {
                true if self.kept.holds(&mount).hard_links => size_bytes = 0,
                true => {
                    self.notices.push(Notice::Copied(path.clone())).context("sort in", ".thimble")?;
                }
                false => {}
            }
            self.needs.add(&mount, size_bytes);
            let staged = Staged { number, path: path.clone(), mount, size_bytes, owner, layers_at, layer };
            self.staged.push(staged).context("sort in", ".thimble")?;
        }
        Ok(())
    }
}
