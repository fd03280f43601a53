//! The record of what is installed: the patches, and a stack for each path.
//!
//! A stack is a base (the object that was there before any patch, if any) and layers,
//! bottom first. The top layer is in place; every object below it is kept under its
//! number. Nothing here does I/O.

use serde::{Deserialize, Serialize};

use super::scripts::Script;
use super::tree::Print;
use crate::repo::digest::set_digest;
use crate::sorted::{FlatMap, FlatSet};
use crate::types::{Digest, Hash, PatchId};

/// What is installed. The order of the fields here and below is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The number of committed installs. Comparing it with a journal's shows whether that
    /// install is committed.
    pub serial: u64,
    /// The next number for an object.
    pub next_number: u64,
    /// The installed patches in layer order, bottom first.
    pub patches: Vec<Patch>,
    /// Every path that a patch has a file or link at, or removes.
    pub paths: FlatMap<String, Stack>,
    /// Directories that installs made, to be removed when they are empty.
    pub directories: FlatSet<String>,
}

/// One installed patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Patch {
    pub id: PatchId,
    pub hash: Hash,
    pub requires: Vec<PatchId>,
    pub unremovable: bool,
    pub committed: bool,
    pub reboot_required: bool,
    /// The scripts kept for it.
    pub scripts: Vec<Script>,
    /// The directories that are members of it, even if they are empty.
    pub directories: FlatSet<String>,
}

/// The objects of one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stack {
    /// The mount point of the path's filesystem, where its objects are kept.
    pub mount: String,
    /// The kept object from before any patch. `None` if there was none or it cannot be
    /// needed again.
    pub base: Option<u64>,
    /// The patches' layers, bottom first; never empty.
    pub layers: Vec<Layer>,
}

/// The part that one patch has in a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layer {
    pub patch: PatchId,
    pub content: Content,
    /// The patch's metadata lists the path under `config`.
    pub is_config: bool,
}

/// What a patch has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Content {
    /// Its object was deleted or changed by hand, was given up for room, or cannot be needed
    /// again.
    Lost,
    Object(Object),
    /// The patch removes what is there.
    Nothing,
}

impl Content {
    /// The object, if there is one.
    pub fn object(self) -> Option<Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }
}

/// A file or symbolic link of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Object {
    /// Its name where it is kept.
    pub number: u64,
    /// Its print, to detect a local change.
    pub print: Print,
}

impl Record {
    /// The digest of what is installed.
    pub fn digest(&self) -> Digest {
        set_digest(self.by_id().into_iter().map(|patch| (&patch.id, &patch.hash)))
    }

    /// The installed patches, sorted by id.
    pub fn by_id(&self) -> Vec<&Patch> {
        let mut patches: Vec<_> = self.patches.iter().collect();
        patches.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        patches
    }

    /// The installed patch with this id.
    pub fn patch(&self, id: &PatchId) -> Option<&Patch> {
        self.patches.iter().find(|patch| patch.id == *id)
    }

    /// Whether a directory is still needed: a patch's file is in place below it, or a patch
    /// has it as a member.
    pub fn wants_directory(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let mut paths_below = self.paths.starting_at(&below).iter();
        let holds = paths_below
            .by_ref()
            .take_while(|(path, _)| path.starts_with(&below))
            .any(|(_, stack)| stack.top().is_some_and(|top| top.content != Content::Nothing));
        holds
            || self.patches.iter().any(|patch| {
                patch.directories.contains(path)
                    || patch.directories.starting_at(&below).first().is_some_and(|d| d.starts_with(&below))
            })
    }

    /// Gives up objects of layers. The patch's file is fetched again when such a layer
    /// becomes the top.
    pub fn forget(&mut self, numbers: &FlatSet<u64>) {
        for layer in self.paths.values_mut().flat_map(|stack| &mut stack.layers) {
            if layer.content.object().is_some_and(|object| numbers.contains(&object.number)) {
                layer.content = Content::Lost;
            }
        }
    }

    /// All kept objects, as mount point and number. The top of a stack is in place, not
    /// kept.
    pub fn kept_numbers(&self) -> FlatSet<(&str, u64)> {
        let mut numbers = Vec::new();
        for stack in self.paths.values() {
            let of_stack = stack.base.into_iter().chain(stack.covered());
            numbers.extend(of_stack.map(|number| (stack.mount.as_str(), number)));
        }
        numbers.into()
    }
}

impl Stack {
    /// The layer in place.
    pub fn top(&self) -> Option<&Layer> {
        self.layers.last()
    }

    /// The kept objects of its covered layers, bottom first.
    pub fn covered(&self) -> impl Iterator<Item = u64> {
        let covered = self.layers.split_last().map_or(&[][..], |(_, covered)| covered);
        covered.iter().filter_map(|layer| layer.content.object()).map(|object| object.number)
    }

    /// Drops the objects below a committed layer: they can never be in place again.
    pub fn drop_below_committed(&mut self, is_committed: impl Fn(&PatchId) -> bool) {
        let Some(at) = self.layers.iter().rposition(|layer| is_committed(&layer.patch)) else { return };
        self.base = None;
        for layer in self.layers.iter_mut().take(at) {
            layer.content = Content::Lost;
        }
    }
}

/// The patches that have this script.
pub(super) fn with_script<'p>(
    patches: impl IntoIterator<Item = &'p Patch>,
    script: Script,
) -> impl Iterator<Item = &'p Patch> {
    patches.into_iter().filter(move |patch| patch.scripts.contains(&script))
}
