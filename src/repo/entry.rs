//! One entry of the repository map: a patch as all controllers know it.

use core::cmp::Ordering;

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::types::{Hash, NodeType, PatchId, SwVersion, Text};

/// What the cluster means to do with a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EntryState {
    /// Deleted; the entry stays as a tombstone so that a merge does not bring it back.
    Deleted,
    /// In the repository, on no host.
    Available,
    /// Every host that it concerns should have it.
    Applied,
    /// As applied, and never to be removed.
    Committed,
    /// Deleted although it was committed, because its file is nowhere. The entry stays as a
    /// tombstone, which prevails over a commit that its controller knew of.
    Voided,
}

impl EntryState {
    /// Whether the entry is a tombstone.
    #[must_use]
    pub const fn is_deleted(self) -> bool {
        matches!(self, Self::Deleted | Self::Voided)
    }

    /// Whether it prevails over a state that is not final, whatever their counters.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Committed | Self::Voided)
    }
}

/// The last change of an entry: the controller that made it, and its number there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// The changing controller's counter; never falls.
    pub counter: u64,
    /// The changing controller's replica id: random, made with its map.
    pub replica: u64,
}

/// The release status of a patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Released.
    #[default]
    Released,
    /// In development.
    Development,
    /// Obsolete.
    Obsolete,
}

impl Status {
    /// As StarlingX's patch metadata writes it: `REL`, `DEV`, `OBS`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Released => "REL",
            Self::Development => "DEV",
            Self::Obsolete => "OBS",
        }
    }
}

/// The part of a patch's metadata that controllers need for decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryMeta {
    /// The release that the patch is for.
    pub sw_version: SwVersion,
    /// One line for tables.
    pub summary: Text<{ limits::SUMMARY_BYTES }>,
    /// Its release status.
    pub status: Status,
    /// A host that gained or lost it must restart.
    pub reboot_required: bool,
    /// It can be applied but never removed.
    pub unremovable: bool,
    /// It can be applied only if its release is the running one.
    pub apply_active_release_only: bool,
    /// The patches that must be applied before it, sorted by id.
    pub requires: Vec<PatchId, { limits::REQUIRES }, u8>,
    /// The kinds of hosts that it concerns; empty means all.
    pub nodetypes: Vec<NodeType, { limits::PATCH_NODETYPES }, u8>,
}

impl EntryMeta {
    /// Whether the patch concerns hosts of this kind.
    #[must_use]
    pub fn concerns(&self, nodetype: &NodeType) -> bool {
        self.nodetypes.is_empty() || self.nodetypes.contains(nodetype)
    }

    /// Whether the patch concerns hosts of each of these kinds; none means all.
    #[must_use]
    pub fn concerns_all(&self, kinds: &[NodeType]) -> bool {
        self.nodetypes.is_empty() || (!kinds.is_empty() && kinds.iter().all(|kind| self.concerns(kind)))
    }
}

/// A patch as all controllers know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id, the map's key.
    pub id: PatchId,
    /// BLAKE3 of its file.
    pub hash: Hash,
    /// Its file's size.
    pub size_bytes: u64,
    /// What the cluster means to do with it.
    pub state: EntryState,
    /// The last change of the entry.
    pub stamp: Stamp,
    /// Its metadata.
    pub meta: EntryMeta,
}

impl Entry {
    /// The total order by which a merge keeps the greater of two entries of one id: first
    /// whether its state is final, then counter, replica, and all other fields.
    #[must_use]
    pub fn merge_order(&self, other: &Self) -> Ordering {
        let (ours, theirs) = (self.state.is_final(), other.state.is_final());
        ours.cmp(&theirs)
            .then_with(|| self.stamp.cmp(&other.stamp))
            .then_with(|| self.state.cmp(&other.state))
            .then_with(|| self.hash.cmp(&other.hash))
            .then_with(|| self.size_bytes.cmp(&other.size_bytes))
            .then_with(|| self.meta.cmp(&other.meta))
    }

    /// Whether the cluster wants the patch on its hosts.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        matches!(self.state, EntryState::Applied | EntryState::Committed)
    }
}
