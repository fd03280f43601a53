//! Computes a plan: what to do to get from the installed set to the requested one. No
//! I/O.
//!
//! Each path is computed by itself: its stack before, its stack after, and so which
//! object leaves the path and which enters it. Adding a patch, removing one from
//! anywhere in a stack, and both at once are the same computation.

use serde::{Deserialize, Serialize};

use super::conflict::Conflict;
use super::notice::Notice;
use super::record::{Content, Layer, Object, Patch, Record, Stack};
use super::tree::{Missing, PathState, Print, Resolved};
use crate::patch::archive::Owner;
use crate::sorted::{FlatMap, FlatSet};
use crate::types::PatchId;

/// One patch of the requested set.
pub(super) struct PlannedPatch {
    /// Its entry in the new record.
    pub patch: Patch,
    /// The content of its file; `None` if it is installed and its file is not needed.
    pub layout: Option<PatchLayout>,
}

/// The files and directories of a patch, with their paths on this host.
#[derive(Default)]
pub(super) struct PatchLayout {
    pub files: Vec<PatchFile>,
    pub directories: Vec<NewDirectory>,
    /// Directories that do not exist, of these and of those that lead to them, each with
    /// the mount point of its filesystem.
    pub missing: FlatMap<String, String>,
}

/// A path that a patch has a file or symbolic link at, or removes.
pub(super) struct PatchFile {
    pub brings: Brings,
    /// Its path on this host.
    pub at: Resolved,
    /// The metadata lists it under `config`.
    pub is_config: bool,
}

/// What a patch brings to a path.
pub(super) enum Brings {
    /// A file or symbolic link.
    Member {
        /// Its path in the patch.
        name: String,
        /// In bytes.
        size_bytes: u64,
        /// It is a symbolic link.
        is_link: bool,
        owner: Owner,
    },
    /// Nothing: the patch removes what is there.
    Nothing,
}

/// The facts about a path before the install.
pub(super) struct PathFact {
    pub state: PathState,
    pub missing: Missing,
    /// A free name beside it, for a saved local change.
    pub saved: String,
    /// A free name beside it, for a new file that must not replace a local change.
    pub new: String,
}

/// What an install will do.
pub(super) struct Plan {
    /// The record to commit. Staging fills in the prints of staged objects.
    pub next: Record,
    /// Files and links to unpack into the kept directories.
    pub stage: Vec<Staged>,
    /// The changes of the tree.
    pub moves: Moves,
    /// Local changes that the operator should know of.
    pub notices: Vec<Notice>,
}

/// A file or symbolic link to unpack.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Staged {
    pub patch: PatchId,
    pub member: String,
    pub path: String,
    pub mount: String,
    pub number: u64,
    pub size_bytes: u64,
    pub is_link: bool,
    pub owner: Owner,
}

/// The changes of the tree: all that undoing an install needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moves {
    /// Patches that are added, in layer order.
    pub added: Vec<Patch>,
    /// Patches that are removed, in layer order.
    pub removed: Vec<PatchId>,
    /// Directories to make, the outermost first.
    pub directories: Vec<NewDirectory>,
    /// Local changes to save.
    pub saves: Vec<Save>,
    /// Paths whose object changes.
    pub switches: Vec<Switch>,
    /// Directories to remove after the commit if they are empty, the innermost first.
    pub old_directories: Vec<String>,
}

/// A directory to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NewDirectory {
    pub path: String,
    /// The mount point of its filesystem; unknown after a crash, when none is made.
    #[serde(skip)]
    pub mount: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// A file that gets a second name beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Save {
    pub path: String,
    pub beside: String,
}

/// A path whose object changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Switch {
    pub path: String,
    /// The mount point of its filesystem.
    pub mount: String,
    /// The number of the object that leaves; it is kept under this number.
    pub from: Option<u64>,
    /// The object that enters.
    pub to: Option<Entering>,
}

/// An object that enters a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entering {
    pub number: u64,
    /// This install staged it, so undoing does not keep it.
    pub is_fresh: bool,
}

/// The installed patches whose file must be fetched again: after the removal of others,
/// one of their layers becomes the top, and its object was deleted or changed by hand
/// before it was covered.
pub(super) fn patches_to_fetch_again(
    record: &Record,
    is_wanted: impl Fn(&PatchId) -> bool,
) -> FlatSet<PatchId> {
    let lost = |stack: &Stack| {
        let top = stack.layers.iter().rfind(|layer| is_wanted(&layer.patch))?;
        let is_top = stack.top().is_some_and(|old| old.patch == top.patch);
        (!is_top && top.content == Content::Lost).then(|| top.patch.clone())
    };
    record.paths.values().filter_map(lost).collect()
}

/// The paths whose stack changes. Facts are needed only about these.
pub(super) fn touched(record: &Record, targets: &[PlannedPatch]) -> FlatSet<String> {
    let rank = ranks(targets);
    let is_changed = |stack: &Stack| {
        !stack.layers.iter().all(|layer| rank.contains_key(&layer.patch))
            || !stack.layers.is_sorted_by_key(|layer| rank.get(&layer.patch))
    };
    let changed = record.paths.iter().filter(|(_, stack)| is_changed(stack)).map(|(path, _)| path);
    let layout = targets.iter().filter_map(|target| target.layout.as_ref()).flat_map(|layout| &layout.files);
    changed.chain(layout.map(|file| &file.at.path)).cloned().collect()
}

fn ranks(targets: &[PlannedPatch]) -> FlatMap<&PatchId, usize> {
    targets.iter().enumerate().map(|(rank, target)| (&target.patch.id, rank)).collect()
}

/// Plans the change from the installed set to `targets`, which are in layer order.
///
/// # Errors
/// [`Conflict`]: a patch does not fit the tree.
pub(super) fn plan(
    record: &Record,
    targets: &[PlannedPatch],
    facts: &FlatMap<String, PathFact>,
) -> Result<Plan, Conflict> {
    let rank = ranks(targets);
    let next = Record {
        serial: record.serial + 1,
        next_number: record.next_number,
        patches: targets.iter().map(|target| target.patch.clone()).collect(),
        paths: FlatMap::default(),
        directories: record.directories.clone(),
    };
    let mut plan = Plan { next, stage: vec![], moves: Moves::default(), notices: vec![] };
    let is_new = |target: &&PlannedPatch| record.patch(&target.patch.id).is_none();
    plan.moves.added = targets.iter().filter(is_new).map(|target| target.patch.clone()).collect();
    let is_gone = |patch: &&Patch| !rank.contains_key(&patch.id);
    plan.moves.removed = record.patches.iter().filter(is_gone).map(|patch| patch.id.clone()).collect();

    let mut layout = Vec::new();
    for (rank, target) in targets.iter().enumerate() {
        layout.extend(target.layout.iter().flat_map(|layout| &layout.files).map(|file| (rank, file)));
    }
    layout.sort_unstable_by_key(|(rank, file)| (file.at.path.as_str(), *rank));
    for pair in layout.windows(2) {
        if let [(a, file), (b, other)] = pair
            && (a, &file.at.path) == (b, &other.at.path)
            && let Some(target) = targets.get(*a)
        {
            return Err(Conflict::SameFile(target.patch.id.clone(), file.at.path.clone()));
        }
    }
    let unchanged = record.paths.iter().filter(|(path, _)| !facts.contains_key(path));
    let mut paths: Vec<_> = unchanged.cloned().collect();
    for (path, fact) in facts.iter() {
        let from = layout.partition_point(|(_, file)| file.at.path < *path);
        let brought = layout.get(from..).unwrap_or_default();
        let brought = brought.split(|(_, file)| file.at.path != *path).next().unwrap_or_default();
        let stack = plan.path(path, record.paths.get(path), fact, targets, &rank, brought)?;
        paths.extend(stack.map(|stack| (path.clone(), stack)));
    }
    plan.next.paths = paths.into();
    plan.directories(record, targets, facts)?;
    let next = &mut plan.next;
    let committed: FlatSet<_> = targets.iter().filter(|t| t.patch.committed).map(|t| &t.patch.id).collect();
    for stack in next.paths.values_mut() {
        stack.drop_below_committed(|id| committed.contains(id));
    }
    Ok(plan)
}

impl Plan {
    /// Plans one path and returns its new stack.
    fn path(
        &mut self,
        path: &str,
        old: Option<&Stack>,
        fact: &PathFact,
        targets: &[PlannedPatch],
        rank: &FlatMap<&PatchId, usize>,
        brought: &[(usize, &PatchFile)],
    ) -> Result<Option<Stack>, Conflict> {
        let old_layers = old.map_or(&[][..], |stack| &stack.layers);
        let mut layers: Vec<(usize, Layer)> = old_layers
            .iter()
            .filter_map(|layer| rank.get(&layer.patch).map(|rank| (*rank, layer.clone())))
            .collect();
        for (rank, file) in brought {
            if !layers.iter().any(|(other, _)| other == rank) {
                let Some(target) = targets.get(*rank) else { continue };
                let content = self.stage(&target.patch.id, file);
                let patch = target.patch.id.clone();
                layers.push((*rank, Layer { patch, content, is_config: file.is_config }));
            }
        }
        layers.sort_unstable_by_key(|(rank, _)| *rank);

        // The patches whose objects are in place before and after.
        let old_top = old.and_then(Stack::top);
        let concerned = layers.last().map(|(_, layer)| &layer.patch).or(old_top.map(|layer| &layer.patch));
        let Some(concerned) = concerned.cloned() else { return Ok(None) };
        let removes = layers.last().is_some_and(|(_, layer)| layer.content == Content::Nothing);
        if fact.state == PathState::Directory {
            return Err(match removes {
                true => Conflict::RemovesDirectory(concerned, path.to_owned()),
                false => Conflict::IsDirectory(concerned, path.to_owned()),
            });
        }
        let mount = match (old, brought) {
            (Some(stack), _) => stack.mount.clone(),
            (None, [(_, file), ..]) => file.at.mount.clone(),
            (None, []) => return Ok(None),
        };
        let base = match (old, fact.state) {
            (Some(stack), _) => stack.base,
            (None, PathState::Nothing) => None,
            (None, _) => Some(self.next_number()),
        };
        let is_same = layers.last().map(|(_, layer)| &layer.patch) == old_top.map(|layer| &layer.patch);
        if !is_same {
            if fact.state == PathState::MountPoint {
                return Err(Conflict::MountPoint(concerned, path.to_owned()));
            }
            // A lost layer that becomes the top is unpacked again.
            if let Some((rank, top)) = layers.last_mut()
                && top.content == Content::Lost
            {
                let file = brought.iter().find(|(other, _)| other == rank);
                let Some((_, file)) = file else {
                    return Err(Conflict::Lost(concerned, path.to_owned()));
                };
                top.content = self.stage(&concerned, file);
            }
            let enters = match layers.last() {
                Some((_, top)) => top.content.object().map(|object| object.number),
                None => base,
            };
            if enters.is_some() && fact.missing.is_in_the_way {
                let directory = fact.missing.directories.first().cloned().unwrap_or_default();
                return Err(Conflict::NotDirectory(concerned, directory));
            }
            let is_fresh = |number| self.stage.iter().rev().any(|staged| staged.number == number);
            let to = enters.map(|number| Entering { number, is_fresh: is_fresh(number) });
            let is_config =
                old_layers.iter().chain(layers.iter().map(|(_, layer)| layer)).any(|layer| layer.is_config);
            if let Some(old_top) = old_top {
                let is_lost = self.leave(path, &mount, fact, old_top, is_config, to);
                if is_lost {
                    let left = layers.iter_mut().find(|(_, layer)| layer.patch == old_top.patch);
                    if let Some((_, layer)) = left.filter(|(_, layer)| layer.content != Content::Nothing) {
                        layer.content = Content::Lost;
                    }
                }
            } else {
                if removes && base.is_none() {
                    self.notices.push(Notice::NothingToRemove(path.to_owned(), concerned));
                }
                self.switch(path, &mount, base, to);
            }
        }
        let layers: Vec<_> = layers.into_iter().map(|(_, layer)| layer).collect();
        Ok((!layers.is_empty()).then_some(Stack { mount, base, layers }))
    }

    /// Plans the departure of a path's top object, with regard to local changes since.
    /// Returns whether the object is lost.
    fn leave(
        &mut self,
        path: &str,
        mount: &str,
        fact: &PathFact,
        top: &Layer,
        is_config: bool,
        to: Option<Entering>,
    ) -> bool {
        match (fact.state, top.content) {
            (PathState::Inode(Some(found)), Content::Object(object)) if found.is(&object.print) => {
                self.switch(path, mount, Some(object.number), to);
                return false;
            }
            (PathState::Nothing, Content::Nothing) => {
                self.switch(path, mount, None, to);
                return false;
            }
            (PathState::Inode(_), Content::Nothing) if to.is_none() => {
                self.notices.push(Notice::Stays(path.to_owned()));
                return false;
            }
            (PathState::Nothing | PathState::Directory, _) => {
                self.notices.push(Notice::Replaced(path.to_owned(), top.patch.clone()));
                self.switch(path, mount, None, to);
            }
            (PathState::Inode(_) | PathState::MountPoint, _) if is_config && to.is_some() => {
                self.notices.push(Notice::NewBeside(path.to_owned(), fact.new.clone()));
                self.switch(&fact.new, mount, None, to);
            }
            (PathState::Inode(_) | PathState::MountPoint, _) if is_config => {
                self.notices.push(Notice::Stays(path.to_owned()));
            }
            (PathState::Inode(_) | PathState::MountPoint, _) => {
                self.notices.push(Notice::Saved(path.to_owned(), fact.saved.clone()));
                self.moves.saves.push(Save { path: path.to_owned(), beside: fact.saved.clone() });
                let number = self.next_number();
                self.switch(path, mount, Some(number), to);
            }
        }
        true
    }

    fn switch(&mut self, path: &str, mount: &str, from: Option<u64>, to: Option<Entering>) {
        if from.is_some() || to.is_some() {
            let (path, mount) = (path.to_owned(), mount.to_owned());
            self.moves.switches.push(Switch { path, mount, from, to });
        }
    }

    fn next_number(&mut self) -> u64 {
        let number = self.next.next_number;
        self.next.next_number += 1;
        number
    }

    fn stage(&mut self, patch: &PatchId, file: &PatchFile) -> Content {
        let Brings::Member { name, size_bytes, is_link, owner } = &file.brings else {
            return Content::Nothing;
        };
        let number = self.next_number();
        self.stage.push(Staged {
            patch: patch.clone(),
            member: name.clone(),
            path: file.at.path.clone(),
            mount: file.at.mount.clone(),
            number,
            size_bytes: *size_bytes,
            is_link: *is_link,
            owner: *owner,
        });
        Content::Object(Object { number, print: Print::default() })
    }

    /// Plans which directories are made and removed, and checks for files in their
    /// place.
    fn directories(
        &mut self,
        record: &Record,
        targets: &[PlannedPatch],
        facts: &FlatMap<String, PathFact>,
    ) -> Result<(), Conflict> {
        let next = &mut self.next;
        let mut new: FlatMap<&str, NewDirectory> = FlatMap::default();
        let plain = |path: &str, mount: &str| NewDirectory {
            path: path.to_owned(),
            mount: mount.to_owned(),
            mode: 0o755,
            uid: 0,
            gid: 0,
        };
        for target in targets {
            let Some(layout) = &target.layout else { continue };
            let conflict = |path: &str| {
                let top = next.paths.get(path).and_then(Stack::top);
                let file_of = top.map(|layer| layer.patch.clone()).unwrap_or_default();
                let directory_of = Some(target.patch.id.clone());
                Conflict::FileAndDirectory { file_of, directory_of, path: path.to_owned() }
            };
            let files = layout.files.iter().map(|file| file.at.path.as_str());
            let directories = layout.directories.iter().map(|directory| directory.path.as_str());
            for path in files.chain(directories.clone()) {
                let mut above = path.match_indices('/').map(|(at, _)| path.split_at(at).0);
                if let Some(file) = above.find(|above| next.paths.contains_key(*above)) {
                    return Err(conflict(file));
                }
            }
            if let Some(file) = directories.clone().find(|path| next.paths.contains_key(*path)) {
                return Err(conflict(file));
            }
            for through in layout.files.iter().flat_map(|file| &file.at.through) {
                if next.paths.contains_key(through) {
                    return Err(Conflict::ThroughPatchedLink(target.patch.id.clone(), through.clone()));
                }
            }
            for (path, mount) in layout.missing.iter() {
                let brought = || layout.directories.iter().find(|directory| directory.path == *path);
                new.get_or_insert_with(path, || brought().cloned().unwrap_or_else(|| plain(path, mount)));
            }
        }
        let entered = self.moves.switches.iter().filter(|switch| switch.to.is_some());
        for (switch, fact) in entered.filter_map(|switch| Some((switch, facts.get(&switch.path)?))) {
            for path in &fact.missing.directories {
                new.get_or_insert_with(path, || plain(path, &switch.mount));
            }
        }
        // A file that leaves in the same install is still there when directories are made.
        let in_the_way = new.iter().find_map(|(path, _)| Some((*path, record.paths.get(*path)?.top()?)));
        if let Some((path, layer)) = in_the_way {
            let needs = |target: &&PlannedPatch| {
                target.layout.as_ref().is_some_and(|layout| layout.missing.contains_key(path))
            };
            let directory_of = targets.iter().find(needs).map(|target| target.patch.id.clone());
            let file_of = layer.patch.clone();
            return Err(Conflict::FileAndDirectory { file_of, directory_of, path: path.to_owned() });
        }
        self.moves.directories = new.into_iter().map(|(_, directory)| directory).collect();
        let made = self.moves.directories.iter().map(|directory| directory.path.clone());
        let all: FlatSet<_> = std::mem::take(&mut next.directories).into_iter().chain(made).collect();
        let (wanted, old): (Vec<_>, Vec<_>) = all.into_iter().partition(|path| next.wants_directory(path));
        next.directories = wanted.into();
        self.moves.old_directories = old.into_iter().rev().collect();
        Ok(())
    }

    /// Records the print of a staged object.
    pub fn set_print(&mut self, staged: &Staged, print: Print) {
        let layers = self.next.paths.get_mut(&staged.path).into_iter().flat_map(|stack| &mut stack.layers);
        for layer in layers {
            if let Content::Object(object) = &mut layer.content
                && object.number == staged.number
            {
                object.print = print;
            }
        }
    }
}
