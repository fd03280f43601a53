//! From what is installed and what is wanted to what is to be done. No I/O.
//!
//! Every path is computed by itself: its stack before, its stack after, and so
//! which object leaves the place and which one enters it. Adding a patch,
//! removing one from anywhere in a stack and doing both at once are the same
//! computation.

use serde::{Deserialize, Serialize};

use super::error::Conflict;
use super::notice::Notice;
use super::record::{Layer, Object, Patch, Record, Stack};
use super::tree::{Print, Resolved, There};
use crate::sorted::{FlatMap, FlatSet};
use crate::types::PatchId;

/// One patch of the set to end with.
pub(super) struct PlannedPatch {
    /// As it is to be recorded.
    pub patch: Patch,
    /// What its file holds; `None` where it is installed and its file not needed.
    pub laid: Option<Laid>,
}

/// What a patch lays over the tree, and where on this host.
#[derive(Default)]
pub(super) struct Laid {
    pub files: Vec<LaidFile>,
    pub directories: Vec<NewDirectory>,
    /// Those of them, and those on the way to them, that are not there.
    pub missing: FlatSet<String>,
}

/// A file or link of a patch.
pub(super) struct LaidFile {
    /// Its path in the patch.
    pub member: String,
    /// Its place on this host.
    pub at: Resolved,
    /// Listed under `config`.
    pub is_config: bool,
    /// Its size, in bytes.
    pub size_bytes: u64,
}

/// What is at a path now.
pub(super) struct PathFact {
    pub there: There,
    /// Directories on the way that are not there, the outermost first.
    pub missing: Vec<String>,
    /// A free name beside it, to save it under.
    pub saved: String,
    /// A free name beside it, for a new file that may not take its place.
    pub new: String,
}

/// What is to be done.
pub(super) struct Plan {
    /// The record to commit; prints of staged objects are still to be filled in.
    pub next: Record,
    /// What to unpack and where to keep it.
    pub stage: Vec<Staged>,
    /// What to do to the tree.
    pub moves: Moves,
    /// What the operator should know.
    pub notices: Vec<Notice>,
}

/// A file or link to unpack.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Staged {
    pub patch: PatchId,
    pub member: String,
    pub path: String,
    pub mount: String,
    pub number: u64,
    pub size_bytes: u64,
}

/// What an install does to the tree: all that undoing it needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moves {
    /// Patches that come, in layer order.
    pub added: Vec<Patch>,
    /// Patches that go, in layer order.
    pub removed: Vec<PatchId>,
    /// Directories to make, the outermost first.
    pub directories: Vec<NewDirectory>,
    /// Local changes to save.
    pub saves: Vec<Save>,
    /// Places whose object changes.
    pub switches: Vec<Switch>,
    /// Directories to remove once committed, if empty, the innermost first.
    pub old_directories: Vec<String>,
}

/// A directory to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NewDirectory {
    pub path: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// A file to give a second name, beside its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Save {
    pub path: String,
    pub beside: String,
}

/// A place whose object changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Switch {
    pub path: String,
    /// Where its filesystem is mounted.
    pub mount: String,
    /// The object that leaves it, to be kept under this number.
    pub from: Option<u64>,
    /// The object that enters it.
    pub to: Option<Entering>,
}

/// An object that enters a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entering {
    pub number: u64,
    /// It was staged by this install, and undoing need not keep it.
    pub is_fresh: bool,
}

/// The installed patches that a file is needed of again: after the removal
/// their layer comes to light somewhere, and it was deleted or changed by hand
/// before others covered it.
pub(super) fn to_fetch_again(record: &Record, is_wanted: impl Fn(&PatchId) -> bool) -> FlatSet<PatchId> {
    let lost = |stack: &Stack| {
        let top = stack.layers.iter().rfind(|layer| is_wanted(&layer.patch))?;
        let is_top = stack.top().is_some_and(|old| old.patch == top.patch);
        (!is_top && top.object.is_none()).then(|| top.patch.clone())
    };
    record.paths.values().filter_map(lost).collect()
}

/// The paths whose stack changes: the only ones that facts are needed of.
pub(super) fn touched(record: &Record, targets: &[PlannedPatch]) -> FlatSet<String> {
    let rank = ranks(targets);
    let is_changed = |stack: &Stack| {
        !stack.layers.iter().all(|layer| rank.contains_key(&layer.patch))
            || !stack.layers.is_sorted_by_key(|layer| rank.get(&layer.patch))
    };
    let changed = record.paths.iter().filter(|(_, stack)| is_changed(stack)).map(|(path, _)| path);
    let laid = targets.iter().filter_map(|target| target.laid.as_ref()).flat_map(|laid| &laid.files);
    changed.chain(laid.map(|file| &file.at.path)).cloned().collect()
}

fn ranks(targets: &[PlannedPatch]) -> FlatMap<&PatchId, usize> {
    targets.iter().enumerate().map(|(rank, target)| (&target.patch.id, rank)).collect()
}

/// Plans the way from what is installed to `targets`, which are in layer order.
///
/// # Errors
/// [`Conflict`]: a patch cannot be laid over the tree as it is.
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

    let mut laid = Vec::new();
    for (rank, target) in targets.iter().enumerate() {
        laid.extend(target.laid.iter().flat_map(|laid| &laid.files).map(|file| (rank, file)));
    }
    laid.sort_unstable_by_key(|(rank, file)| (file.at.path.as_str(), *rank));
    for pair in laid.windows(2) {
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
        let from = laid.partition_point(|(_, file)| file.at.path < *path);
        let brought = laid.get(from..).unwrap_or_default();
        let brought = brought.split(|(_, file)| file.at.path != *path).next().unwrap_or_default();
        let stack = plan.path(path, record.paths.get(path), fact, targets, &rank, brought)?;
        paths.extend(stack.map(|stack| (path.clone(), stack)));
    }
    plan.next.paths = paths.into();
    plan.directories(record, targets, facts)?;
    let next = &mut plan.next;
    let committed: FlatSet<_> = targets.iter().filter(|t| t.patch.committed).map(|t| &t.patch.id).collect();
    for stack in next.paths.values_mut() {
        stack.forget_below_committed(|id| committed.contains(id));
    }
    Ok(plan)
}

impl Plan {
    /// The place of one path, and its stack after.
    fn path(
        &mut self,
        path: &str,
        old: Option<&Stack>,
        fact: &PathFact,
        targets: &[PlannedPatch],
        rank: &FlatMap<&PatchId, usize>,
        brought: &[(usize, &LaidFile)],
    ) -> Result<Option<Stack>, Conflict> {
        let old_layers = old.map_or(&[][..], |stack| &stack.layers);
        let mut layers: Vec<(usize, Layer)> = old_layers
            .iter()
            .filter_map(|layer| rank.get(&layer.patch).map(|rank| (*rank, layer.clone())))
            .collect();
        for (rank, file) in brought {
            if !layers.iter().any(|(other, _)| other == rank) {
                let Some(target) = targets.get(*rank) else { continue };
                let object = Some(self.stage(&target.patch.id, file));
                let patch = target.patch.id.clone();
                layers.push((*rank, Layer { patch, object, is_config: file.is_config }));
            }
        }
        layers.sort_unstable_by_key(|(rank, _)| *rank);

        // Who is in place before and after.
        let old_top = old.and_then(Stack::top);
        let concerned = layers.last().map(|(_, layer)| &layer.patch).or(old_top.map(|layer| &layer.patch));
        let Some(concerned) = concerned.cloned() else { return Ok(None) };
        if fact.there == There::Directory {
            return Err(Conflict::IsDirectory(concerned, path.to_owned()));
        }
        let mount = match (old, brought) {
            (Some(stack), _) => stack.mount.clone(),
            (None, [(_, file), ..]) => file.at.mount.clone(),
            (None, []) => return Ok(None),
        };
        let base = match (old, fact.there) {
            (Some(stack), _) => stack.base,
            (None, There::Nothing) => None,
            (None, _) => Some(self.number()),
        };
        let is_same = layers.last().map(|(_, layer)| &layer.patch) == old_top.map(|layer| &layer.patch);
        if !is_same {
            // A layer that comes to light again and was lost is unpacked again.
            if let Some((rank, top)) = layers.last_mut()
                && top.object.is_none()
            {
                let file = brought.iter().find(|(other, _)| other == rank);
                let Some((_, file)) = file else {
                    return Err(Conflict::Lost(concerned, path.to_owned()));
                };
                top.object = Some(self.stage(&concerned, file));
            }
            let enters = match layers.last() {
                Some((_, top)) => top.object.map(|object| object.number),
                None => base,
            };
            let is_fresh = |number| self.stage.iter().rev().any(|staged| staged.number == number);
            let to = enters.map(|number| Entering { number, is_fresh: is_fresh(number) });
            let is_config =
                old_layers.iter().chain(layers.iter().map(|(_, layer)| layer)).any(|layer| layer.is_config);
            if let Some(old_top) = old_top {
                let is_lost = self.leave(path, &mount, fact, old_top, is_config, to);
                if is_lost {
                    for (_, layer) in layers.iter_mut().filter(|(_, layer)| layer.patch == old_top.patch) {
                        layer.object = None;
                    }
                }
            } else {
                self.switch(path, &mount, base, to);
            }
        }
        let layers: Vec<_> = layers.into_iter().map(|(_, layer)| layer).collect();
        Ok((!layers.is_empty()).then_some(Stack { mount, base, layers }))
    }

    /// Lets a place's object go that an install had left there, minding what was
    /// done to it by hand since. Says whether the object is lost.
    fn leave(
        &mut self,
        path: &str,
        mount: &str,
        fact: &PathFact,
        top: &Layer,
        is_config: bool,
        to: Option<Entering>,
    ) -> bool {
        match (fact.there, top.object) {
            (There::Inode(Some(print)), Some(object)) if print == object.print => {
                self.switch(path, mount, Some(object.number), to);
                return false;
            }
            (There::Nothing | There::Directory, _) => {
                self.notices.push(Notice::Replaced(path.to_owned(), top.patch.clone()));
                self.switch(path, mount, None, to);
            }
            (There::Inode(_), _) if is_config && to.is_some() => {
                self.notices.push(Notice::NewBeside(path.to_owned(), fact.new.clone()));
                self.switch(&fact.new, mount, None, to);
            }
            (There::Inode(_), _) if is_config => {
                self.notices.push(Notice::Stays(path.to_owned()));
            }
            (There::Inode(_), _) => {
                self.notices.push(Notice::Saved(path.to_owned(), fact.saved.clone()));
                self.moves.saves.push(Save { path: path.to_owned(), beside: fact.saved.clone() });
                let number = self.number();
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

    fn number(&mut self) -> u64 {
        let number = self.next.next_number;
        self.next.next_number += 1;
        number
    }

    fn stage(&mut self, patch: &PatchId, file: &LaidFile) -> Object {
        let number = self.number();
        self.stage.push(Staged {
            patch: patch.clone(),
            member: file.member.clone(),
            path: file.at.path.clone(),
            mount: file.at.mount.clone(),
            number,
            size_bytes: file.size_bytes,
        });
        Object { number, print: Print::default() }
    }

    /// Directories that are to come and to go, and whether files are in the way.
    fn directories(
        &mut self,
        record: &Record,
        targets: &[PlannedPatch],
        facts: &FlatMap<String, PathFact>,
    ) -> Result<(), Conflict> {
        let next = &mut self.next;
        let mut new: FlatMap<&str, NewDirectory> = FlatMap::default();
        let plain = |path: &str| NewDirectory { path: path.to_owned(), mode: 0o755, uid: 0, gid: 0 };
        for target in targets {
            let Some(laid) = &target.laid else { continue };
            let conflict = |path: &str| Conflict::FileAndDirectory(target.patch.id.clone(), path.to_owned());
            let files = laid.files.iter().map(|file| file.at.path.as_str());
            let directories = laid.directories.iter().map(|directory| directory.path.as_str());
            for path in files.chain(directories.clone()) {
                let mut above = path.match_indices('/').map(|(at, _)| path.split_at(at).0);
                if let Some(file) = above.find(|above| next.paths.contains_key(*above)) {
                    return Err(conflict(file));
                }
            }
            if let Some(file) = directories.clone().find(|path| next.paths.contains_key(*path)) {
                return Err(conflict(file));
            }
            for through in laid.files.iter().flat_map(|file| &file.at.through) {
                if next.paths.contains_key(through) {
                    return Err(Conflict::ThroughPatchedLink(target.patch.id.clone(), through.clone()));
                }
            }
            for path in laid.missing.iter() {
                let said = || laid.directories.iter().find(|directory| directory.path == *path);
                new.get_or_insert_with(path, || said().cloned().unwrap_or_else(|| plain(path)));
            }
        }
        let entered = self.moves.switches.iter().filter(|switch| switch.to.is_some());
        for path in entered.filter_map(|switch| facts.get(&switch.path)).flat_map(|fact| &fact.missing) {
            new.get_or_insert_with(path, || plain(path));
        }
        // A file that leaves in the same install is still in the way.
        let in_the_way = new.iter().find_map(|(path, _)| Some((*path, record.paths.get(*path)?.top()?)));
        if let Some((path, layer)) = in_the_way {
            return Err(Conflict::FileAndDirectory(layer.patch.clone(), path.to_owned()));
        }
        self.moves.directories = new.into_iter().map(|(_, directory)| directory).collect();
        let made = self.moves.directories.iter().map(|directory| directory.path.clone());
        let all: FlatSet<_> = std::mem::take(&mut next.directories).into_iter().chain(made).collect();
        let (wanted, old): (Vec<_>, Vec<_>) = all.into_iter().partition(|path| next.wants_directory(path));
        next.directories = wanted.into();
        self.moves.old_directories = old.into_iter().rev().collect();
        Ok(())
    }

    /// Notes what a staged object is known again by.
    pub fn set_print(&mut self, staged: &Staged, print: Print) {
        let layers = self.next.paths.get_mut(&staged.path).into_iter().flat_map(|stack| &mut stack.layers);
        for object in layers.filter_map(|layer| layer.object.as_mut()) {
            if object.number == staged.number {
                object.print = print;
            }
        }
    }
}
