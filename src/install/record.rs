//! The record of what is installed: the patches, and a stack for each path.
//!
//! A stack is a base (the object that was there before any patch, if any) and layers,
//! bottom first. The top layer is in place; every object below it is kept under its
//! number. The patches are in memory; the paths are read from the disk one by one
//! ([`super::record_file`]), so that a record may have any number of them. Nothing here
//! does I/O.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::scripts::Script;
use super::tree::Print;
use crate::patch::floor::Memory;
use crate::repo::digest::set_digest;
use crate::types::{Digest, Hash, PatchId};

/// What a record says of the installed set. The order of the fields here and below is on
/// disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Installed {
    /// The number of committed installs. Comparing it with a journal's shows whether that
    /// install is committed.
    pub serial: u64,
    /// The next number for an object.
    pub next_number: u64,
    /// The installed patches in layer order, bottom first. The place of one is its rank.
    pub patches: Vec<Patch>,
    /// The mount points of the filesystems that objects of the record lie on.
    pub mounts: Vec<String>,
    /// What is remembered of floors and superseded patches. It is on the disk behind the
    /// table ([`super::record_table`]).
    #[serde(skip)]
    pub memory: Memory,
}

/// One installed patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Patch {
    pub id: PatchId,
    /// What the items on the disk have in place of its rank: it stays while the patch is
    /// installed.
    pub slot: u16,
    pub hash: Hash,
    /// The patches that it requires on this host, or that were installed with it.
    pub requires: Vec<PatchId>,
    pub unremovable: bool,
    pub committed: bool,
    pub reboot_required: bool,
    /// The scripts kept for it.
    pub scripts: Vec<Script>,
}

/// What a record says of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub path: String,
    pub what: ItemKind,
}

/// The kinds of items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ItemKind {
    Directory(Directory),
    Stack(Stack),
}

/// A directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    /// An install made it, so it is removed when it is empty.
    pub is_made: bool,
    /// The ranks of the patches that it is a member of: they want it even if it is empty.
    pub members_of: Vec<u16>,
    /// What patches say of its owner and mode that list it under `directories`.
    pub listed: Option<Listed>,
}

/// The owner and mode that a directory has by the patches that list it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// The mount point of its filesystem.
    pub mount: String,
    /// What it has without them.
    pub before: Access,
    /// What each of them says, bottom first, by rank; never empty. The top one counts.
    pub layers: Vec<(u16, Access)>,
}

/// The owner and mode of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Access {
    /// Its permission bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o} {}:{}", self.mode, self.uid, self.gid)
    }
}

/// The objects of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stack {
    /// The mount point of the path's filesystem, where its objects are kept.
    pub mount: String,
    /// The kept object from before any patch. `None` if there was none or it cannot be
    /// needed again.
    pub base: Option<Base>,
    /// The patches' layers, bottom first; never empty.
    pub layers: Vec<Layer>,
}

/// The bits of set-user-id and set-group-id.
pub(super) const ARMED: u16 = 0o6000;

/// A kept object from before any patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// Its name where it is kept.
    pub number: u64,
    /// Its permission bits. A kept object has no set-user-id and no set-group-id.
    pub mode: u16,
}

/// The part that one patch has in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    /// The rank of the patch.
    pub rank: u16,
    pub content: Content,
    /// The patch's metadata lists the path under `config`.
    pub is_config: bool,
}

/// What a patch has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// Its name where it is kept.
    pub number: u64,
    /// Its permission bits.
    pub mode: u16,
    /// Its size, in bytes, to detect a local change without reading it.
    pub size_bytes: u64,
    /// Its print, to detect a local change.
    pub print: Print,
}

impl Installed {
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

    /// The rank of the patch that has this slot.
    pub fn rank_of(&self, slot: u16) -> Option<u16> {
        self.patches.iter().position(|patch| patch.slot == slot).and_then(|rank| u16::try_from(rank).ok())
    }

    /// The id of the patch with this rank; an empty one if there is none.
    pub fn id(&self, rank: u16) -> PatchId {
        self.patches.get(usize::from(rank)).map(|patch| patch.id.clone()).unwrap_or_default()
    }
}

impl Listed {
    /// What the topmost patch says.
    pub fn top(&self) -> Option<Access> {
        self.layers.last().map(|(_, access)| *access)
    }
}

impl Stack {
    /// The layer in place.
    pub fn top(&self) -> Option<&Layer> {
        self.layers.last()
    }

    /// Whether the top layer has a file in place.
    pub fn has_file(&self) -> bool {
        self.top().is_some_and(|top| top.content != Content::Nothing)
    }

    /// The kept objects of its covered layers, bottom first.
    pub fn covered(&self) -> impl Iterator<Item = u64> {
        let covered = self.layers.split_last().map_or(&[][..], |(_, covered)| covered);
        covered.iter().filter_map(|layer| layer.content.object()).map(|object| object.number)
    }

    /// Drops the objects below a committed layer: they can never be in place again.
    pub fn drop_below_committed(&mut self, is_committed: impl Fn(u16) -> bool) {
        let Some(at) = self.layers.iter().rposition(|layer| is_committed(layer.rank)) else { return };
        self.base = None;
        for layer in self.layers.iter_mut().take(at) {
            layer.content = Content::Lost;
        }
    }

    /// Gives up objects of layers. The patch's file is fetched again when such a layer
    /// becomes the top. Returns whether it had one of them.
    pub fn forget(&mut self, is_given_up: impl Fn(u64) -> bool) -> bool {
        let mut has = false;
        for layer in &mut self.layers {
            if layer.content.object().is_some_and(|object| is_given_up(object.number)) {
                layer.content = Content::Lost;
                has = true;
            }
        }
        has
    }
}

/// The patches that have this script.
pub(super) fn with_script<'p>(
    patches: impl IntoIterator<Item = &'p Patch>,
    script: Script,
) -> impl Iterator<Item = &'p Patch> {
    patches.into_iter().filter(move |patch| patch.scripts.contains(&script))
}
