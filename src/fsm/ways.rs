//! By which way each node is heard, and so by which ways it is sent to.
//!
//! Most of what nodes say is for a group. A network may not carry multicast, or in one direction
//! only. So a node whose last message to a group came by unicast is sent to by unicast too: it
//! asked for that, by listing this node as a peer or because it hears this one by unicast alone.
//! Once a message of it comes by multicast again, that ends.
//!
//! A controller has a host or a neighbour for each node that it heard. An agent keeps the
//! controllers here ([`Controllers`]).

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::actions::Peer;
use crate::limits;
use crate::time::Instant;
use crate::types::NodeId;
use crate::wire::codec::ReceivedDatagram;
use crate::wire::messages::Message;

/// By which way a datagram came. The control protocol carries it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// To a group that this node has joined.
    Multicast,
    /// To this node's own address.
    Unicast,
}

impl Way {
    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Multicast => "multicast",
            Self::Unicast => "unicast",
        }
    }
}

/// Whether a message is one that its sender sends to a group: the way of any other tells nothing.
#[must_use]
pub fn is_to_group(message: &Message) -> bool {
    match message {
        Message::Hello(_)
        | Message::SyncReq(_)
        | Message::HelloAgent(_)
        | Message::HelloAgentAck(_)
        | Message::DropHostReq(_) => true,
        Message::HelloAck(_)
        | Message::SyncComplete(_)
        | Message::AgentInstallReq(_)
        | Message::AgentInstallResp(_) => false,
    }
}

/// A controller that an agent has heard.
#[derive(Clone, Copy, Debug)]
struct Known {
    node: NodeId,
    peer: Peer,
    way: Way,
    /// It has the agent's own key. Of a message with the group's, any agent may be the sender.
    is_proven: bool,
    heard: Instant,
}

/// The controllers that an agent has heard, to answer by unicast those that ask by unicast.
///
/// A message with the group's key changes nothing of a controller that was heard with the agent's
/// own key, and takes its place never: else any agent could turn the answers of the others away.
#[derive(Debug, Default)]
pub struct Controllers {
    list: Vec<Known, { limits::CONTROLLERS }, u8>,
}

impl Controllers {
    /// Notes a message to the agent.
    pub fn on_message(&mut self, now: Instant, peer: Peer, received: &ReceivedDatagram, way: Option<Way>) {
        let ReceivedDatagram { sender, message, is_forgeable, .. } = received;
        let (Some(way), Message::HelloAgent(_)) = (way, message) else { return };
        let fresh = Known { node: *sender, peer, way, is_proven: !is_forgeable, heard: now };
        let may_replace = |old: &Known| fresh.is_proven || !old.is_proven;
        if let Some(old) = self.list.iter_mut().find(|known| known.node == *sender) {
            // Its own multicast has the group's key.
            if may_replace(old) || (old.peer == peer && way == Way::Multicast) {
                *old = Known { is_proven: old.is_proven || fresh.is_proven, ..fresh };
            }
            return;
        }
        if let Err(fresh) = self.list.push(fresh) {
            let oldest = self.list.iter_mut().filter(|known| may_replace(known));
            if let Some(oldest) = oldest.min_by_key(|known| (known.is_proven, known.heard)) {
                *oldest = fresh;
            }
        }
    }

    /// The addresses of those that are to be sent to by unicast.
    pub fn by_unicast(&self) -> impl Iterator<Item = Peer> + '_ {
        self.list.iter().filter(|known| known.way == Way::Unicast).map(|known| known.peer)
    }

    /// The way by which a controller was heard last.
    #[must_use]
    pub fn way(&self, node: NodeId) -> Option<Way> {
        self.list.iter().find(|known| known.node == node).map(|known| known.way)
    }
}
