//! What each kind of host should have: the effective sets, computed once after
//! a change of the map.

use heapless::Vec;

use crate::limits;
use crate::repo::effective::{effective_digest, effective_set};
use crate::repo::map::Map;
use crate::repo::slots::SlotSet;
use crate::types::{Digest, NodeType};

/// What one kind of host should have.
#[derive(Clone, Debug)]
pub struct HostKind {
    /// The kind.
    pub nodetype: NodeType,
    /// The digest of its effective set.
    pub digest: Digest,
    /// Its effective set.
    pub patches: SlotSet,
}

/// What all kinds of hosts that were met should have.
#[derive(Debug, Default)]
pub struct HostKinds {
    kinds: Vec<HostKind, { limits::NODETYPES }, u8>,
}

impl HostKinds {
    /// What this kind of host should have; takes the kind in at first sight.
    /// `None` where there are more kinds than [`limits::NODETYPES`].
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

    /// What this kind of host should have, where it was met before.
    #[must_use]
    pub fn known(&self, nodetype: &NodeType) -> Option<&HostKind> {
        self.kinds.iter().find(|kind| kind.nodetype == *nodetype)
    }

    /// Computes all anew: the map has changed.
    pub fn refresh(&mut self, map: &Map<'_>) {
        for kind in &mut self.kinds {
            *kind = Self::compute(&kind.nodetype, map);
        }
    }

    /// The kinds met.
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
