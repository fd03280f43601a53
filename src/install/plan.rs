//! Plans what happens at one path, to get from the installed set to the requested one.
//! No I/O.
//!
//! Each path is planned by itself: its stack before, its stack after, and so which object
//! leaves the path and which enters it. Adding a patch, removing one from anywhere in a
//! stack, and both at once are the same computation.

use super::conflict::Conflict;
use super::moves::{Entering, Save, Switch};
use super::notice::Notice;
use super::record::{ARMED, Base, Content, Layer, Object, Patch, Stack};
use super::tree::{Missing, PathState, Print};
use crate::failpoint;
use crate::repo::relations::closure;
use crate::repo::slots::{Slot, SlotSet};
use crate::types::PatchId;

/// What is known about the patches, by rank.
pub(super) struct Ranks<'p> {
    /// The patches of the new set, in layer order.
    pub new: &'p [Patch],
    /// The patches of the old set, in layer order.
    pub old: &'p [Patch],
    /// The new rank of each patch of the old set; `None` if it leaves.
    moved: Vec<Option<u16>>,
    /// The old ranks of patches that become committed.
    commits: Vec<u16>,
    /// The old rank of each patch of the new set; `None` if it is added.
    was: Vec<Option<u16>>,
    /// Of each patch of the new set: itself and all that it requires, directly or through
    /// others, as slots of their ranks.
    requires: Vec<SlotSet>,
}

impl<'p> Ranks<'p> {
    /// Of two sets, each in layer order.
    pub fn new(old: &'p [Patch], new: &'p [Patch]) -> Self {
        let rank = |patch: &Patch| new.iter().position(|other| other.id == patch.id);
        let moved = old.iter().map(|patch| rank(patch).and_then(|rank| u16::try_from(rank).ok()));
        let becomes_committed = |patch: &Patch| {
            !patch.committed && new.iter().any(|other| other.id == patch.id && other.committed)
        };
        let commits = old.iter().zip(0..).filter(|(patch, _)| becomes_committed(patch)).map(|(_, rank)| rank);
        let was = new.iter().map(|patch| old.iter().position(|other| other.id == patch.id));
        let slot = |id: &PatchId| Slot::new(new.iter().position(|other| other.id == *id)?);
        let direct: Vec<SlotSet> =
            new.iter().map(|patch| patch.requires.iter().filter_map(slot).collect()).collect();
        let of = |slot: Slot| direct.get(slot.index()).into_iter().flatten();
        let requires = (0..new.len()).map(|rank| closure(Slot::new(rank).into_iter().collect(), of));
        Self {
            new,
            old,
            moved: moved.collect(),
            commits: commits.collect(),
            was: was.map(|rank| rank.and_then(|rank| u16::try_from(rank).ok())).collect(),
            requires: requires.collect(),
        }
    }

    /// Two layers of a stack, bottom first, of which the upper one does not require the lower
    /// one, and that the old set does not have in this order: what a host has is not held
    /// against it.
    fn unordered(&self, layers: &[Layer]) -> Option<(u16, u16)> {
        let lies_on = |upper: u16, lower: u16| {
            let lower = Slot::new(usize::from(lower));
            self.requires.get(usize::from(upper)).zip(lower).is_some_and(|(all, lower)| all.contains(lower))
        };
        // If each requires the one below it, it requires all below that.
        if layers.windows(2).all(|pair| matches!(pair, [lower, upper] if lies_on(upper.rank, lower.rank))) {
            return None;
        }
        let was = |rank: u16| self.was.get(usize::from(rank)).copied().flatten();
        let is_new = |lower, upper| was(lower).zip(was(upper)).is_none_or(|(lower, upper)| lower > upper);
        let pairs = layers
            .iter()
            .enumerate()
            .flat_map(|(at, upper)| layers.iter().take(at).map(|lower| (lower.rank, upper.rank)));
        pairs.into_iter().find(|(lower, upper)| !lies_on(*upper, *lower) && is_new(*lower, *upper))
    }

    /// The new rank of a patch of the old set.
    pub fn moved(&self, old: u16) -> Option<u16> {
        self.moved.get(usize::from(old)).copied().flatten()
    }

    /// The id of a patch of the new set.
    pub fn id(&self, new: u16) -> PatchId {
        self.new.get(usize::from(new)).map(|patch| patch.id.clone()).unwrap_or_default()
    }

    /// The id of a patch of the old set.
    pub fn old_id(&self, old: u16) -> PatchId {
        self.old.get(usize::from(old)).map(|patch| patch.id.clone()).unwrap_or_default()
    }

    /// Whether a patch of the new set is committed.
    pub fn is_committed(&self, new: u16) -> bool {
        self.new.get(usize::from(new)).is_some_and(|patch| patch.committed)
    }

    /// Whether nothing changes for stacks of these layers, bottom first: all stay, in this
    /// order, and no patch becomes committed.
    pub fn keep(&self, layers: &[u16]) -> bool {
        layers.is_sorted_by_key(|rank| self.moved(*rank))
            && layers.iter().all(|rank| self.moved(*rank).is_some() && !self.commits.contains(rank))
    }

    /// The layers of a stack that stay, with their new ranks.
    pub fn staying(&self, layers: &[Layer]) -> Vec<Layer> {
        let moved = layers.iter().filter_map(|layer| Some(Layer { rank: self.moved(layer.rank)?, ..*layer }));
        moved.collect()
    }

    /// Whether a stack changes, even if no patch brings anything to its path.
    pub fn change(&self, stack: &Stack) -> bool {
        let staying = self.staying(&stack.layers);
        staying.len() != stack.layers.len() || !staying.is_sorted_by_key(|layer| layer.rank)
    }
}

/// What a patch brings to a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brought {
    /// The patch's rank in the new set.
    pub rank: u16,
    /// The number of the file or link; `None`: the patch removes what is there.
    pub number: Option<u64>,
    /// The metadata lists it under `config`.
    pub is_config: bool,
}

/// The facts about a path before the install.
pub(super) struct PathFacts {
    pub state: PathState,
    /// The mount point of its filesystem.
    pub mount: String,
    pub missing: Missing,
    /// A free name beside it, for a saved local change.
    pub saved: String,
    /// A free name beside it, for a new file that must not replace a local change.
    pub new: String,
}

/// What happens at a path.
pub(super) struct PathPlan {
    /// Its new stack. Staging fills in the prints of staged objects.
    pub stack: Option<Stack>,
    /// Which of the objects that are brought are unpacked.
    pub staged: Vec<u64>,
    pub switch: Option<Switch>,
    pub save: Option<Save>,
    pub notice: Option<Notice>,
}

/// Plans one path. `next_number` is the next number for an object.
///
/// # Errors
/// [`Conflict`]: a patch does not fit the tree.
pub(super) fn path(
    path: &str,
    old: Option<&Stack>,
    facts: &PathFacts,
    ranks: &Ranks<'_>,
    brought: &[Brought],
    next_number: &mut u64,
) -> Result<PathPlan, Conflict> {
    let mut plan = PathPlan { stack: None, staged: vec![], switch: None, save: None, notice: None };
    let old_layers = old.map_or(&[][..], |stack| &stack.layers);
    let mut layers = ranks.staying(old_layers);
    for brought in brought {
        if !layers.iter().any(|layer| layer.rank == brought.rank) {
            let Brought { rank, is_config, .. } = *brought;
            layers.push(Layer { rank, content: plan.unpack(brought), is_config });
        }
    }
    layers.sort_unstable_by_key(|layer| layer.rank);
    if let Some((lower, upper)) = ranks.unordered(&layers).filter(|_| !failpoint::takes_any_set()) {
        return Err(Conflict::Unordered([ranks.id(lower), ranks.id(upper)].into(), path.to_owned()));
    }

    // The patches whose objects are in place before and after.
    let old_top = old.and_then(Stack::top);
    let old_id = old_top.map(|top| ranks.old_id(top.rank));
    let Some(concerned) = layers.last().map(|layer| ranks.id(layer.rank)).or(old_id) else {
        return Ok(plan);
    };
    let removes = layers.last().is_some_and(|layer| layer.content == Content::Nothing);
    if facts.state == PathState::Directory {
        return Err(match removes {
            true => Conflict::RemovesDirectory(concerned, path.to_owned()),
            false => Conflict::IsDirectory(concerned, path.to_owned()),
        });
    }
    let mount = facts.mount.clone();
    let mut new_number = || {
        *next_number += 1;
        *next_number - 1
    };
    let base = match (old, facts.state) {
        (Some(stack), _) => stack.base,
        (None, PathState::Inode(found)) => Some(Base { number: new_number(), mode: found.mode }),
        (None, _) => None,
    };
    if layers.last().map(|layer| Some(layer.rank)) != old_top.map(|layer| ranks.moved(layer.rank)) {
        if facts.state == PathState::MountPoint {
            return Err(Conflict::MountPoint(concerned, path.to_owned()));
        }
        // A lost layer that becomes the top is unpacked again.
        if let Some(top) = layers.last_mut()
            && top.content == Content::Lost
        {
            let again = brought.iter().find(|brought| brought.rank == top.rank);
            let Some(again) = again else { return Err(Conflict::Lost(concerned, path.to_owned())) };
            top.content = plan.unpack(again);
        }
        let enters = match layers.last() {
            Some(top) => top.content.object().map(|object| (object.number, object.mode)),
            None => base.map(|base| (base.number, base.mode)),
        };
        if enters.is_some() && facts.missing.is_in_the_way {
            let directory = facts.missing.directories.first().cloned().unwrap_or_default();
            return Err(Conflict::NotDirectory(concerned, directory));
        }
        let to = enters.map(|(number, mode)| {
            let is_fresh = plan.staged.contains(&number);
            Entering { number, is_fresh, mode: (!is_fresh && mode & ARMED != 0).then_some(mode) }
        });
        if let Some(old_top) = old_top {
            let is_config = old_layers.iter().chain(&layers).any(|layer| layer.is_config);
            let old_rank = ranks.moved(old_top.rank);
            let old_id = ranks.old_id(old_top.rank);
            if plan.leave(path, facts, old_top, old_id, is_config, to, new_number) {
                let left = layers.iter_mut().find(|layer| Some(layer.rank) == old_rank);
                if let Some(layer) = left.filter(|layer| layer.content != Content::Nothing) {
                    layer.content = Content::Lost;
                }
            }
        } else {
            if removes && base.is_none() {
                plan.notice = Some(Notice::NothingToRemove(path.to_owned(), concerned));
            }
            plan.switch(path, &mount, base.map(|base| base.number), to);
        }
    }
    plan.stack = (!layers.is_empty()).then_some(Stack { mount, base, layers });
    Ok(plan)
}

impl PathPlan {
    /// Plans the departure of a path's top object, with regard to local changes since.
    /// Returns whether the object is lost.
    #[allow(clippy::too_many_arguments)]
    fn leave(
        &mut self,
        path: &str,
        facts: &PathFacts,
        top: &Layer,
        id: PatchId,
        is_config: bool,
        to: Option<Entering>,
        new_number: impl FnOnce() -> u64,
    ) -> bool {
        let owned = || path.to_owned();
        match (facts.state, top.content) {
            (PathState::Inode(found), Content::Object(object)) if found.is(&object.print) => {
                self.switch(path, &facts.mount, Some(object.number), to);
                return false;
            }
            (PathState::Nothing, Content::Nothing) => {
                self.switch(path, &facts.mount, None, to);
                return false;
            }
            (PathState::Inode(_), Content::Nothing) if to.is_none() => {
                self.notice = Some(Notice::Stays(owned()));
                return false;
            }
            (PathState::Nothing | PathState::Directory, _) => {
                self.notice = Some(Notice::Replaced(owned(), id));
                self.switch(path, &facts.mount, None, to);
            }
            (PathState::Inode(_) | PathState::MountPoint, _) if is_config && to.is_some() => {
                self.notice = Some(Notice::NewBeside(owned(), facts.new.clone()));
                self.switch(&facts.new, &facts.mount, None, to);
                self.switch.iter_mut().for_each(|switch| switch.is_beside = true);
            }
            (PathState::Inode(_) | PathState::MountPoint, _) if is_config => {
                self.notice = Some(Notice::Stays(owned()));
            }
            (PathState::Inode(_) | PathState::MountPoint, _) => {
                self.notice = Some(Notice::Saved(owned(), facts.saved.clone()));
                self.save = Some(Save { path: owned(), beside: facts.saved.clone() });
                self.switch(path, &facts.mount, Some(new_number()), to);
            }
        }
        true
    }

    fn switch(&mut self, path: &str, mount: &str, from: Option<u64>, to: Option<Entering>) {
        if from.is_some() || to.is_some() {
            let (path, mount) = (path.to_owned(), mount.to_owned());
            self.switch = Some(Switch { path, mount, from, to, is_beside: false });
        }
    }

    /// The content of a layer that is brought.
    fn unpack(&mut self, brought: &Brought) -> Content {
        let Some(number) = brought.number else { return Content::Nothing };
        self.staged.push(number);
        Content::Object(Object { number, mode: 0, size_bytes: 0, print: Print::default() })
    }
}

/// The installed patch whose file must be fetched again for a stack: after the
/// removal of others, a layer becomes the top whose object was deleted or changed by hand
/// before it was covered. Of each layer, bottom first: the patch's slot, and whether it is
/// lost. Returns the slot.
pub(super) fn lost_top(
    mut layers: impl DoubleEndedIterator<Item = (u16, bool)>,
    is_wanted: impl Fn(u16) -> bool,
) -> Option<u16> {
    let mut is_covered = false;
    let (slot, is_lost) = layers.rfind(|(slot, _)| {
        let is_wanted = is_wanted(*slot);
        is_covered |= !is_wanted;
        is_wanted
    })?;
    (is_covered && is_lost).then_some(slot)
}
