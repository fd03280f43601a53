//! By which way each node is heard, and so by which ways it is sent to.
//!
//! Most of what nodes say is for a group. A network may not carry multicast, or in one direction
//! only. So a node whose last message to a group came by unicast is sent to by unicast too: it
//! asked for that, by listing this node as a peer or because it hears this one by unicast alone.
//! Once a message of it comes by multicast again, that ends.
//!
//! A controller has a host or a neighbour for each node that it heard. An agent keeps the
//! controllers here ([`Controllers`]).

use core::net::IpAddr;

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::actions::Peer;
use crate::limits;
use crate::time::{Duration, Instant};
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
        | Message::AgentInstallResp(_)
        | Message::OtherControllers(_) => false,
    }
}

/// A controller that an agent has heard, or heard of.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// `None` while it was only heard of.
    node: Option<NodeId>,
    peer: Peer,
    way: Way,
    /// By a message with the agent's own key. Of one with the group's, any agent may be the sender.
    is_proven: bool,
    heard: Instant,
}

/// The controllers that an agent has heard or heard of, to answer by unicast those that ask by
/// unicast.
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
        match (message, way) {
            (Message::HelloAgent(_), Some(way)) => {
                let (node, is_proven) = (Some(*sender), !is_forgeable);
                self.keep(Known { node, peer, way, is_proven, heard: now });
            }
            (Message::OtherControllers(others), Some(_)) if !is_forgeable => {
                for contact in &others.at {
                    let peer = Peer::Ip((*contact).into());
                    match self.list.iter_mut().find(|known| known.peer == peer) {
                        // Another hears it, so it is there.
                        Some(known) => known.heard = now,
                        None => {
                            self.keep(Known {
                                node: None,
                                peer,
                                way: Way::Unicast,
                                is_proven: true,
                                heard: now,
                            });
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn keep(&mut self, fresh: Known) {
        let may_replace = |old: &Known| fresh.is_proven || !old.is_proven;
        let is_same = |old: &&mut Known| match old.node {
            Some(node) => Some(node) == fresh.node,
            None => old.peer == fresh.peer,
        };
        if let Some(old) = self.list.iter_mut().find(is_same) {
            // A controller's own multicast has the group's key.
            if may_replace(old) || (old.peer == fresh.peer && fresh.way == Way::Multicast) {
                *old = Known { is_proven: old.is_proven || fresh.is_proven, ..fresh };
            }
        } else if let Err(fresh) = self.list.push(fresh) {
            let oldest = self.list.iter_mut().filter(|known| may_replace(known));
            if let Some(oldest) = oldest.min_by_key(|known| (known.is_proven, known.heard)) {
                *oldest = fresh;
            }
        }
    }

    /// The addresses of those that are to be sent to by unicast: heard, or heard of, within this
    /// time.
    pub fn by_unicast(&self, now: Instant, within: Duration) -> impl Iterator<Item = Peer> + '_ {
        let is_recent = move |known: &&Known| now.since(known.heard) < within;
        self.list.iter().filter(|known| known.way == Way::Unicast).filter(is_recent).map(|known| known.peer)
    }

    /// The way by which a controller was heard last.
    #[must_use]
    pub fn way(&self, node: NodeId) -> Option<Way> {
        self.list.iter().find(|known| known.node == Some(node)).map(|known| known.way)
    }

    /// When a controller was heard last, or heard of, at this address of any port.
    #[must_use]
    pub fn heard_at(&self, address: IpAddr) -> Option<Instant> {
        let is_there = |known: &&Known| matches!(known.peer, Peer::Ip(peer) if peer.ip() == address);
        self.list.iter().filter(is_there).map(|known| known.heard).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::{HelloAgent, OtherControllers};

    const INTERVAL: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    fn peer(last: u8) -> Peer {
        Peer::Ip(([10, 0, 0, last], 7488).into())
    }

    fn hello(sender: u64, is_forgeable: bool) -> ReceivedDatagram {
        let message = Message::HelloAgent(HelloAgent { op_counter: 0, ack_window_ms: 0 });
        ReceivedDatagram { sender: NodeId(sender), key_slot: 0, message, is_forgeable }
    }

    fn unicast(controllers: &Controllers, now: u64) -> std::vec::Vec<Peer> {
        controllers.by_unicast(at(now), INTERVAL).collect()
    }

    #[test]
    fn who_asks_by_unicast_is_answered_by_unicast_until_it_asks_by_multicast() {
        let mut controllers = Controllers::default();
        controllers.on_message(at(0), peer(1), &hello(1, true), Some(Way::Multicast));
        assert_eq!(unicast(&controllers, 1), []);
        controllers.on_message(at(1), peer(1), &hello(1, false), Some(Way::Unicast));
        assert_eq!(unicast(&controllers, 1), [peer(1)]);
        assert_eq!(unicast(&controllers, 31), [], "it is silent");
        controllers.on_message(at(32), peer(1), &hello(1, true), Some(Way::Multicast));
        assert_eq!(unicast(&controllers, 32), []);
        controllers.on_message(at(33), peer(1), &hello(1, false), None);
        assert_eq!(controllers.way(NodeId(1)), Some(Way::Multicast), "TIPC tells no way");
    }

    #[test]
    fn the_groups_key_turns_no_answers_away() {
        let mut controllers = Controllers::default();
        for node in 0..8 {
            controllers.on_message(at(node), peer(node as u8), &hello(node, false), Some(Way::Unicast));
        }
        let known = unicast(&controllers, 8);
        for node in 0..20 {
            controllers.on_message(at(9), peer(99), &hello(node, true), Some(Way::Unicast));
            controllers.on_message(at(9), peer(99), &hello(node, true), Some(Way::Multicast));
        }
        assert_eq!(unicast(&controllers, 9), known);
        controllers.on_message(at(9), peer(8), &hello(8, false), Some(Way::Unicast));
        assert!(unicast(&controllers, 9).contains(&peer(8)), "the oldest makes room");
    }

    #[test]
    fn a_controller_that_was_heard_of_is_sent_to_and_known_once_it_is_heard() {
        let others =
            OtherControllers { at: [([10, 0, 0, 2], 7488).into()].map(from_address).into_iter().collect() };
        let told = |is_forgeable| ReceivedDatagram {
            message: Message::OtherControllers(others.clone()),
            ..hello(1, is_forgeable)
        };
        let mut controllers = Controllers::default();
        controllers.on_message(at(0), peer(1), &told(true), Some(Way::Unicast));
        assert_eq!(unicast(&controllers, 0), [], "of no agent");
        controllers.on_message(at(0), peer(1), &told(false), Some(Way::Unicast));
        assert_eq!(unicast(&controllers, 0), [peer(2)]);
        controllers.on_message(at(1), peer(2), &hello(2, false), Some(Way::Unicast));
        controllers.on_message(at(2), peer(1), &told(false), Some(Way::Unicast));
        assert_eq!(unicast(&controllers, 2), [peer(2)]);
        assert_eq!(controllers.way(NodeId(2)), Some(Way::Unicast));
        controllers.on_message(at(40), peer(1), &told(false), Some(Way::Unicast));
        assert_eq!(unicast(&controllers, 40), [peer(2)], "another hears it");
    }

    fn from_address(address: core::net::SocketAddr) -> crate::wire::messages::Contact {
        address.into()
    }
}
