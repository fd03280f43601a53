//! What is installed: the patches, and per path the stack of what lies there.
//!
//! A stack is a base (what was there before any patch, if anything) and layers,
//! bottom first. The top layer is in place; everything under it is kept, each
//! under a number of its own. Nothing here does I/O.

use serde::{Deserialize, Serialize};

use super::scripts::Script;
use super::tree::Print;
use crate::repo::digest::set_digest;
use crate::sorted::{FlatMap, FlatSet};
use crate::types::{Digest, Hash, PatchId};

/// What is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Installs committed so far; tells a journal's install from this one's.
    pub serial: u64,
    /// The next number for an object.
    pub next_number: u64,
    /// The installed patches in layer order, bottom first.
    pub patches: Vec<Patch>,
    /// Every path that a patch has a file or link at.
    pub paths: FlatMap<String, Stack>,
    /// The directories that installs made and that are to go when empty.
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
    /// The directories that it brings by itself, also when nothing is in them.
    pub directories: FlatSet<String>,
}

/// What lies at one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stack {
    /// Where the path's filesystem is mounted: there its objects are kept.
    pub mount: String,
    /// The kept object that was there before any patch; `None`: nothing was, or
    /// it can never be wanted again.
    pub base: Option<u64>,
    /// What patches brought, bottom first; never empty.
    pub layers: Vec<Layer>,
}

/// What one patch brought to a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layer {
    pub patch: PatchId,
    /// The object; `None` where it was deleted or changed by hand, or can never
    /// be wanted again.
    pub object: Option<Object>,
    /// The patch's metadata lists the path under `config`.
    pub is_config: bool,
}

/// A file or link that a patch brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Object {
    /// What it is called where it is kept.
    pub number: u64,
    /// What it is known again by.
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

    /// Whether a directory is still wanted: something of a patch is below it,
    /// or a patch brings it by itself.
    pub fn wants_directory(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let holds = self.paths.starting_at(&below).first().is_some_and(|(path, _)| path.starts_with(&below));
        holds
            || self.patches.iter().any(|patch| {
                patch.directories.contains(path)
                    || patch.directories.starting_at(&below).first().is_some_and(|d| d.starts_with(&below))
            })
    }

    /// The numbers of all objects that are kept, each behind the filesystem that it is
    /// kept on. The top of a stack is in place and not kept.
    pub fn kept_numbers(&self) -> FlatSet<(&str, u64)> {
        let mut numbers = Vec::new();
        for stack in self.paths.values() {
            let covered = stack.layers.split_last().map_or(&[][..], |(_, covered)| covered);
            let of_layers = covered.iter().filter_map(|layer| layer.object).map(|object| object.number);
            let of_stack = stack.base.into_iter().chain(of_layers);
            numbers.extend(of_stack.map(|number| (stack.mount.as_str(), number)));
        }
        numbers.into()
    }
}

impl Stack {
    /// The layer that is in place.
    pub fn top(&self) -> Option<&Layer> {
        self.layers.last()
    }

    /// Forgets what lies below a committed layer: it never comes to light again.
    pub fn forget_below_committed(&mut self, is_committed: impl Fn(&PatchId) -> bool) {
        let Some(at) = self.layers.iter().rposition(|layer| is_committed(&layer.patch)) else { return };
        self.base = None;
        for layer in self.layers.iter_mut().take(at) {
            layer.object = None;
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
