//! By which way each node is heard, and so by which ways it is sent to.
//!
//! Most of what nodes say is for a group. A network may not carry multicast, or in one direction
//! only. So a node whose last message to a group came by unicast is sent to by unicast too: it
//! asked for that, by listing this node as a peer or because it hears this one by unicast alone.
//! Once a message of it comes by multicast again, that ends.
//!
//! A controller has a host or a neighbour for each node that it heard. An agent keeps the
//! controllers here ([`Controllers`]).

use core::net::{IpAddr, SocketAddr};

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
        | Message::OtherControllers(_)
        | Message::Ping(_)
        // It is sent by each way.
        | Message::Pong(_)
        | Message::SpreadOffer(_)
        | Message::SpreadReport(_) => false,
    }
}

/// A controller that an agent did not hear, or hear of, for this many hello intervals is not
/// reported to by unicast any more.
const HEARD_WITHIN: u64 = 4;

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
    /// It was reported to since.
    is_told: bool,
}

/// The controllers that an agent has heard or heard of, to answer by unicast those that ask by
/// unicast.
///
/// A message with the group's key changes nothing of a controller that was heard with the agent's
/// own key, and takes its place never: else any agent could turn the answers of the others away.
/// One with the group's key is answered by unicast once, and in a hello interval no more of these
/// than there are controllers: any agent can send them in any name and from any address.
#[derive(Debug, Default)]
pub struct Controllers {
    list: Vec<Known, { limits::CONTROLLERS }, u8>,
    /// When a controller was reported to that is not proven.
    told_unproven: Option<Instant>,
}

impl Controllers {
    /// Notes a message to the agent.
    pub fn on_message(&mut self, now: Instant, peer: Peer, received: &ReceivedDatagram, way: Option<Way>) {
        let ReceivedDatagram { sender, message, is_forgeable, .. } = received;
        match (message, way) {
            (Message::HelloAgent(_), Some(way)) => {
                let (node, is_proven) = (Some(*sender), !is_forgeable);
                self.keep(Known { node, peer, way, is_proven, heard: now, is_told: false });
            }
            (Message::OtherControllers(others), Some(_)) if !is_forgeable => {
                for contact in &others.at {
                    let peer = Peer::Ip(on_link_of(peer, (*contact).into()));
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
                                is_told: false,
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

    /// Those that a report is sent to by unicast now, with their addresses; they count as told. One
    /// that was only heard of has no node id yet.
    pub fn take_by_unicast(
        &mut self,
        now: Instant,
        hello_interval: Duration,
    ) -> Vec<(Option<NodeId>, Peer), { limits::CONTROLLERS }, u8> {
        let within = hello_interval.times(HEARD_WITHIN);
        let share = hello_interval.as_millis().checked_div(limits::CONTROLLERS as u64).unwrap_or(0);
        let mut may_tell_unproven =
            self.told_unproven.is_none_or(|told| now.since(told) >= Duration::from_millis(share));
        let mut peers = Vec::new();
        let is_recent = |known: &&mut Known| known.way == Way::Unicast && now.since(known.heard) < within;
        for known in self.list.iter_mut().filter(is_recent) {
            if !known.is_proven {
                if known.is_told || !may_tell_unproven {
                    continue;
                }
                (known.is_told, may_tell_unproven, self.told_unproven) = (true, false, Some(now));
            }
            // As many as the list has at most.
            let _ = peers.push((known.node, known.peer));
        }
        peers
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

/// The address of another node, as this one named it: an address of the link is of the link by which
/// this one is heard.
fn on_link_of(peer: Peer, mut address: SocketAddr) -> SocketAddr {
    if let (Peer::Ip(SocketAddr::V6(heard)), SocketAddr::V6(named)) = (peer, &mut address)
        && named.ip().is_unicast_link_local()
        && named.scope_id() == 0
    {
        named.set_scope_id(heard.scope_id());
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::{HelloAgent, OtherControllers};

    /// A controller is forgotten after 32 s, and the share of one is 1 s.
    const INTERVAL: Duration = Duration::from_secs(8);

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

    fn unicast(controllers: &mut Controllers, now: u64) -> std::vec::Vec<Peer> {
        controllers.take_by_unicast(at(now), INTERVAL).into_iter().map(|(_, peer)| peer).collect()
    }

    #[test]
    fn who_asks_by_unicast_is_answered_by_unicast_until_it_asks_by_multicast() {
        let mut controllers = Controllers::default();
        controllers.on_message(at(0), peer(1), &hello(1, true), Some(Way::Multicast));
        assert_eq!(unicast(&mut controllers, 1), []);
        controllers.on_message(at(1), peer(1), &hello(1, false), Some(Way::Unicast));
        assert_eq!(unicast(&mut controllers, 1), [peer(1)]);
        assert_eq!(unicast(&mut controllers, 33), [], "it is silent");
        controllers.on_message(at(34), peer(1), &hello(1, true), Some(Way::Multicast));
        assert_eq!(unicast(&mut controllers, 34), []);
        controllers.on_message(at(35), peer(1), &hello(1, false), None);
        assert_eq!(controllers.way(NodeId(1)), Some(Way::Multicast), "TIPC tells no way");
    }

    #[test]
    fn the_groups_key_turns_no_answers_away() {
        let mut controllers = Controllers::default();
        for node in 0..8 {
            controllers.on_message(at(node), peer(node as u8), &hello(node, false), Some(Way::Unicast));
        }
        let known = unicast(&mut controllers, 8);
        for node in 0..20 {
            controllers.on_message(at(9), peer(99), &hello(node, true), Some(Way::Unicast));
            controllers.on_message(at(9), peer(99), &hello(node, true), Some(Way::Multicast));
        }
        assert_eq!(unicast(&mut controllers, 9), known);
        controllers.on_message(at(9), peer(8), &hello(8, false), Some(Way::Unicast));
        assert!(unicast(&mut controllers, 9).contains(&peer(8)), "the oldest makes room");
    }

    #[test]
    fn hellos_that_any_agent_can_send_get_few_answers_by_unicast() {
        let mut controllers = Controllers::default();
        let mut answers = 0;
        // 1,000 in each of 8 s, each in another name.
        for number in 0..8_000u64 {
            let now = Instant::from_millis(number);
            controllers.on_message(now, peer(number as u8), &hello(number, true), Some(Way::Unicast));
            answers += controllers.take_by_unicast(now, INTERVAL).len();
        }
        assert_eq!(answers, 8);
        let now = at(100);
        controllers.on_message(now, peer(1), &hello(1, true), Some(Way::Unicast));
        assert_eq!(unicast(&mut controllers, 100), [peer(1)]);
        assert_eq!(unicast(&mut controllers, 110), [], "once");
    }

    /// It names itself by no link; on this host that is the link by which the one that told it is heard.
    #[test]
    fn an_address_of_the_link_that_was_told_is_the_one_that_is_heard() {
        let of_link = |last, scope_id| {
            let ip = core::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last);
            SocketAddr::V6(core::net::SocketAddrV6::new(ip, 7488, 0, scope_id))
        };
        let others = OtherControllers { at: [of_link(2, 0).into()].into_iter().collect() };
        let told = ReceivedDatagram { message: Message::OtherControllers(others), ..hello(1, false) };
        let mut controllers = Controllers::default();
        controllers.on_message(at(0), Peer::Ip(of_link(1, 3)), &told, Some(Way::Unicast));
        controllers.on_message(at(0), Peer::Ip(of_link(2, 3)), &hello(2, false), Some(Way::Unicast));
        assert_eq!(unicast(&mut controllers, 1), [Peer::Ip(of_link(2, 3))]);
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
        assert_eq!(unicast(&mut controllers, 0), [], "of no agent");
        controllers.on_message(at(0), peer(1), &told(false), Some(Way::Unicast));
        assert_eq!(unicast(&mut controllers, 0), [peer(2)]);
        controllers.on_message(at(1), peer(2), &hello(2, false), Some(Way::Unicast));
        controllers.on_message(at(2), peer(1), &told(false), Some(Way::Unicast));
        assert_eq!(unicast(&mut controllers, 2), [peer(2)]);
        assert_eq!(controllers.way(NodeId(2)), Some(Way::Unicast));
        controllers.on_message(at(40), peer(1), &told(false), Some(Way::Unicast));
        assert_eq!(unicast(&mut controllers, 40), [peer(2)], "another hears it");
    }

    fn from_address(address: core::net::SocketAddr) -> crate::wire::messages::Contact {
        address.into()
    }
}
