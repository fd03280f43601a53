//! Who may say what: the keys of a ring slot, and which message wants which.
//!
//! A slot's secret is held by controllers alone. From it come, by BLAKE3 with
//! distinct contexts, the *controller key* (what controllers say to each other),
//! the *group key* (what controllers say to all agents) and one *node key* for
//! each agent (what it says, and what is said to it alone). An agent's key file
//! holds the last two, so a stolen agent speaks for itself alone.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::types::NodeId;

/// A 32-byte key of one purpose. Never shown.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key(#[serde(with = "crate::types::bytes")] pub [u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The secret of a ring slot, as a controller's key file holds it.
pub type SlotSecret = Key;

/// Derives keys from a slot's secret.
pub mod derive {
    use super::{Key, NodeId, SlotSecret};

    /// What controllers say to each other is tagged with this key.
    #[must_use]
    pub fn controller(secret: &SlotSecret) -> Key {
        Key(blake3::derive_key("thimble 1 controller key", &secret.0))
    }

    /// What controllers say to all agents is tagged with this key.
    #[must_use]
    pub fn group(secret: &SlotSecret) -> Key {
        Key(blake3::derive_key("thimble 1 group key", &secret.0))
    }

    /// The key from which controllers make each agent's node key.
    #[must_use]
    pub fn node_master(secret: &SlotSecret) -> Key {
        Key(blake3::derive_key("thimble 1 node key", &secret.0))
    }

    /// What one agent says, or is told, is tagged with this key.
    #[must_use]
    pub fn node_from_master(master: &Key, node: NodeId) -> Key {
        Key(*blake3::keyed_hash(&master.0, &node.0.to_le_bytes()).as_bytes())
    }

    /// As [`node_from_master`], from the slot's secret: what `keygen` writes.
    #[must_use]
    pub fn node(secret: &SlotSecret, node: NodeId) -> Key {
        node_from_master(&node_master(secret), node)
    }
}

/// Which key a message wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyClass {
    /// Controllers among themselves: messages 1 to 4 and 11.
    Controller,
    /// Controllers to all agents: message 5.
    Group,
    /// One agent with controllers: messages 6 to 10.
    Node(NodeId),
}

/// The keys that one slot of the ring holds on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotKeys {
    /// On a controller: all that the secret gives.
    Controller {
        /// For controllers among themselves.
        controller: Key,
        /// For controllers to all agents.
        group: Key,
        /// For one agent's key.
        node_master: Key,
    },
    /// On an agent: what its key file holds.
    Agent {
        /// The id that the node key is for.
        node: NodeId,
        /// Its key.
        node_key: Key,
        /// To hear controllers.
        group: Key,
    },
}

impl SlotKeys {
    /// A controller's keys, from its slot's secret.
    #[must_use]
    pub fn controller(secret: &SlotSecret) -> Self {
        Self::Controller {
            controller: derive::controller(secret),
            group: derive::group(secret),
            node_master: derive::node_master(secret),
        }
    }

    /// The key of a class, where this node has it.
    #[must_use]
    pub fn key(&self, class: KeyClass) -> Option<Key> {
        match (self, class) {
            (Self::Controller { controller, .. }, KeyClass::Controller) => Some(*controller),
            (Self::Controller { group, .. } | Self::Agent { group, .. }, KeyClass::Group) => Some(*group),
            (Self::Controller { node_master, .. }, KeyClass::Node(id)) => {
                Some(derive::node_from_master(node_master, id))
            }
            (Self::Agent { node, node_key, .. }, KeyClass::Node(id)) if *node == id => Some(*node_key),
            (Self::Agent { .. }, KeyClass::Controller | KeyClass::Node(_)) => None,
        }
    }
}

/// The key ring: slots that are accepted, and the one that is sent with.
/// Several slots let a cluster change its secret without a stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRing {
    slots: [Option<SlotKeys>; limits::KEY_SLOTS],
    send_slot: u8,
}

impl KeyRing {
    /// A ring; `None` unless `send_slot` is one of the slots that are filled.
    #[must_use]
    pub fn new(slots: [Option<SlotKeys>; limits::KEY_SLOTS], send_slot: u8) -> Option<Self> {
        slots.get(usize::from(send_slot))?.as_ref()?;
        Some(Self { slots, send_slot })
    }

    /// A ring whose only slot is 0, with a controller's keys.
    #[must_use]
    pub fn controller(secret: &SlotSecret) -> Self {
        Self { slots: [Some(SlotKeys::controller(secret)), None, None, None], send_slot: 0 }
    }

    /// A ring whose only slot is 0, with an agent's keys.
    #[must_use]
    pub fn agent(secret: &SlotSecret, node: NodeId) -> Self {
        let keys =
            SlotKeys::Agent { node, node_key: derive::node(secret, node), group: derive::group(secret) };
        Self { slots: [Some(keys), None, None, None], send_slot: 0 }
    }

    /// The slot that is sent with.
    #[must_use]
    pub fn send_slot(&self) -> u8 {
        self.send_slot
    }

    /// The key of a class in a slot, where this node has it.
    #[must_use]
    pub fn key(&self, slot: u8, class: KeyClass) -> Option<Key> {
        self.slots.get(usize::from(slot))?.as_ref()?.key(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: SlotSecret = Key([7; 32]);

    #[test]
    fn an_agent_has_the_keys_that_its_controller_derives() {
        let (controller, agent) = (KeyRing::controller(&SECRET), KeyRing::agent(&SECRET, NodeId(5)));
        for class in [KeyClass::Group, KeyClass::Node(NodeId(5))] {
            assert!(agent.key(0, class).is_some());
            assert_eq!(controller.key(0, class), agent.key(0, class));
        }
    }

    #[test]
    fn an_agent_cannot_speak_as_a_controller_or_as_another_agent() {
        let agent = KeyRing::agent(&SECRET, NodeId(5));
        assert_eq!(agent.key(0, KeyClass::Controller), None);
        assert_eq!(agent.key(0, KeyClass::Node(NodeId(6))), None);
    }

    #[test]
    fn every_class_has_a_key_of_its_own() {
        let ring = KeyRing::controller(&SECRET);
        let classes =
            [KeyClass::Controller, KeyClass::Group, KeyClass::Node(NodeId(1)), KeyClass::Node(NodeId(2))];
        for (i, a) in classes.iter().enumerate() {
            for b in &classes[..i] {
                assert_ne!(ring.key(0, *a), ring.key(0, *b));
            }
        }
        assert_eq!(ring.key(1, KeyClass::Group), None);
        assert_eq!(ring.key(9, KeyClass::Group), None);
    }

    #[test]
    fn a_ring_must_hold_the_slot_it_sends_with() {
        let keys = SlotKeys::controller(&SECRET);
        assert!(KeyRing::new([None, Some(keys.clone()), None, None], 0).is_none());
        assert!(KeyRing::new([None, Some(keys), None, None], 1).is_some());
    }
}
