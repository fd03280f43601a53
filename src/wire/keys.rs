//! The keys of a ring slot, and which key authenticates which message.
//!
//! Only controllers have a slot's secret. BLAKE3 with distinct contexts derives from it
//! the *controller key* (messages among controllers), the *group key* (messages of
//! controllers to all agents) and a *node key* for each agent (its messages, and messages
//! to it alone). An agent's key file contains the last two, so a stolen agent can send
//! only as itself.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::types::NodeId;

/// A 32-byte key with one purpose. Its `Debug` output hides it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key(#[serde(with = "crate::types::bytes")] pub [u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The secret of a ring slot, from a controller's key file.
pub type SlotSecret = Key;

/// Derives keys from a slot's secret.
pub mod derive {
    use super::{Key, NodeId, SlotSecret};

    /// The key for messages among controllers.
    #[must_use]
    pub fn controller(secret: &SlotSecret) -> Key {
        Key(blake3::derive_key("thimble 1 controller key", &secret.0))
    }

    /// The key for messages of controllers to all agents.
    #[must_use]
    pub fn group(secret: &SlotSecret) -> Key {
        Key(blake3::derive_key("thimble 1 group key", &secret.0))
    }

    /// The key from which controllers derive each agent's node key.
    #[must_use]
    pub fn node_master(secret: &SlotSecret) -> Key {
        Key(blake3::derive_key("thimble 1 node key", &secret.0))
    }

    /// The key for messages of one agent and to it.
    #[must_use]
    pub fn node_from_master(master: &Key, node: NodeId) -> Key {
        Key(*blake3::keyed_hash(&master.0, &node.0.to_le_bytes()).as_bytes())
    }

    /// As [`node_from_master`], from the slot's secret; `keygen` writes this key.
    #[must_use]
    pub fn node(secret: &SlotSecret, node: NodeId) -> Key {
        node_from_master(&node_master(secret), node)
    }
}

/// The class of key that authenticates a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyClass {
    /// Controllers among themselves: messages 1 to 4 and 11.
    Controller,
    /// Controllers to all agents: messages 5, 13 and 15. Every agent has this key, so nothing that lasts may
    /// follow from a message that has no other, but for what a host keeps of a file within its bound.
    Group,
    /// One agent with controllers: messages 6 to 10, 12, 14 and 16, and 5 and 13 to it alone.
    Node(NodeId),
}

/// The keys in one slot of this node's ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotKeys {
    /// On a controller: all keys derived from the secret.
    Controller {
        /// For messages among controllers.
        controller: Key,
        /// For messages to all agents.
        group: Key,
        /// To derive each agent's node key.
        node_master: Key,
    },
    /// On an agent: the keys in its key file.
    Agent {
        /// The id that the node key is for.
        node: NodeId,
        /// The node key.
        node_key: Key,
        /// For messages of controllers to all agents.
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

    /// The key of a class, if this node has it.
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

/// The key ring: the slots that are accepted, and the one used to send. With several
/// slots a cluster can change its secret without a stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRing {
    slots: [Option<SlotKeys>; limits::KEY_SLOTS],
    send_slot: u8,
}

impl KeyRing {
    /// A ring; `None` if the slot `send_slot` is empty.
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

    /// The slot used to send.
    #[must_use]
    pub fn send_slot(&self) -> u8 {
        self.send_slot
    }

    /// The key of a class in a slot, if this node has it.
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
    fn an_agent_has_no_key_of_a_controller_or_of_another_agent() {
        let agent = KeyRing::agent(&SECRET, NodeId(5));
        assert_eq!(agent.key(0, KeyClass::Controller), None);
        assert_eq!(agent.key(0, KeyClass::Node(NodeId(6))), None);
    }

    #[test]
    fn every_class_has_its_own_key() {
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
    fn a_ring_must_contain_its_send_slot() {
        let keys = SlotKeys::controller(&SECRET);
        assert!(KeyRing::new([None, Some(keys.clone()), None, None], 0).is_none());
        assert!(KeyRing::new([None, Some(keys), None, None], 1).is_some());
    }
}
