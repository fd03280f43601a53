//! The effective set of each kind of host, computed once after a change of the map.

use heapless::Vec;

use crate::limits;
use crate::repo::effective::{effective_digest, effective_set};
use crate::repo::map::Map;
use crate::repo::slots::SlotSet;
use crate::types::{Digest, NodeType};

/// One kind of host, and the patches that it should have.
#[derive(Clone, Debug)]
pub struct HostKind {
    /// The kind.
    pub nodetype: NodeType,
    /// The digest of its effective set.
    pub digest: Digest,
    /// Its effective set.
    pub patches: SlotSet,
}

/// All kinds of hosts that were heard, with the patches that they should have.
#[derive(Debug, Default)]
pub struct HostKinds {
    kinds: Vec<HostKind, { limits::NODETYPES }, u8>,
}

impl HostKinds {
    /// The entry of this kind, which is computed and added if it is new. `None` if
    /// there are more kinds than [`limits::NODETYPES`].
    pub fn of(&mut self, nodetype: &NodeType, map: &Map<'_>) -> Option<&HostKind> {
        let at = match self.kinds.iter().position(|kind| kind.nodetype == *nodetype) {
            Some(at) => at,
            None => {
                self.kinds.push(Self::compute(nodetype, map)).ok()?;
                self.kinds.len().checked_sub(1)?
            }
        };
        self.kinds.get(at)
    }

    /// The entry of this kind, if a host of it was heard before.
    #[must_use]
    pub fn known(&self, nodetype: &NodeType) -> Option<&HostKind> {
        self.kinds.iter().find(|kind| kind.nodetype == *nodetype)
    }

    /// Whether this kind is new, so that what it should have is not computed, and there is room for it.
    #[must_use]
    pub fn is_new(&self, nodetype: &NodeType) -> bool {
        !self.kinds.is_full() && self.known(nodetype).is_none()
    }

    /// Whether this kind is new and there is no room for it.
    #[must_use]
    pub fn is_full_for(&self, nodetype: &NodeType) -> bool {
        self.kinds.is_full() && self.known(nodetype).is_none()
    }

    /// Frees the kinds that are no longer needed.
    pub fn retain(&mut self, is_needed: impl Fn(&NodeType) -> bool) {
        self.kinds.retain(|kind| is_needed(&kind.nodetype));
    }

    /// Computes all kinds again after a change of the map.
    pub fn refresh(&mut self, map: &Map<'_>) {
        for kind in &mut self.kinds {
            *kind = Self::compute(&kind.nodetype, map);
        }
    }

    /// The kinds of hosts that were heard.
    pub fn iter(&self) -> impl Iterator<Item = &HostKind> {
        self.kinds.iter()
    }

    fn compute(nodetype: &NodeType, map: &Map<'_>) -> HostKind {
        HostKind {
            nodetype: nodetype.clone(),
            digest: effective_digest(map, nodetype),
            patches: effective_set(map, nodetype),
        }
    }
}
