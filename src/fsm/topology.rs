//! Peers that a transport's topology service reports as bound, before their first
//! message.
//!
//! A bound peer that has sent nothing is kept here, so that a controller can greet it
//! at once and an operator sees a peer that never answers. For a peer that was heard,
//! the report goes to its host or neighbour entry, which holds its
//! [`Presence`](super::presence::Presence).

use heapless::Vec;

use super::actions::Peer;
use crate::limits;
use crate::time::Instant;
use crate::wire::frame::Role;

/// A report of the topology service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A socket of this role is bound there.
    Published(Role, Peer),
    /// That socket is no longer bound.
    Withdrawn(Role, Peer),
    /// A whole node is lost: its address in its TIPC cluster.
    NodeLost(u32),
    /// The service is lost: its reports may be out of date.
    Gap,
    /// The service is back and has reported every bound socket.
    Settled,
}

/// A peer that is bound and was not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnheardPeer {
    /// Its role.
    pub role: Role,
    /// Where it is bound.
    pub peer: Peer,
    /// Since when.
    pub since: Instant,
}

/// Peers of one node that are kept: a thimble of each role, and as many that take their
/// places.
const OF_ONE_NODE: usize = 4;

/// The peers that are bound and were not heard.
#[derive(Debug, Default)]
pub struct UnheardPeers {
    list: Vec<UnheardPeer, { limits::UNHEARD_PEERS }, u8>,
}

impl UnheardPeers {
    /// Adds a bound peer. It is not kept if the list is full, or its node has enough in it;
    /// the caller greets it anyway.
    pub fn add(&mut self, now: Instant, role: Role, peer: Peer) {
        let of_same = self.list.iter().filter(|one| node_of(one.peer) == node_of(peer)).count();
        if of_same < OF_ONE_NODE && !self.list.iter().any(|one| (one.role, one.peer) == (role, peer)) {
            let _ = self.list.push(UnheardPeer { role, peer, since: now });
        }
    }

    /// Removes a peer that was heard or is no longer bound; true if it was in the list.
    pub fn take(&mut self, role: Role, peer: Peer) -> bool {
        let at = self.list.iter().position(|one| (one.role, one.peer) == (role, peer));
        at.map(|at| self.list.swap_remove(at)).is_some()
    }

    /// Removes the peers on a lost node.
    pub fn node_lost(&mut self, node: u32) {
        self.list.retain(|one| node_of(one.peer) != Some(node));
    }

    /// Removes all peers: the service will report those that are bound again.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &UnheardPeer> {
        self.list.iter()
    }
}

/// The node of a peer in its TIPC cluster.
const fn node_of(peer: Peer) -> Option<u32> {
    match peer {
        Peer::Tipc { node, .. } => Some(node),
        Peer::Ip(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_kept_once_until_it_is_heard_or_lost() {
        let peer = |node| Peer::Tipc { node, port: 7 };
        let at = Instant::from_millis;
        let mut unheard = UnheardPeers::default();
        unheard.add(at(1), Role::Agent, peer(1));
        unheard.add(at(2), Role::Agent, peer(1));
        unheard.add(at(3), Role::Controller, peer(1));
        unheard.add(at(4), Role::Agent, peer(2));
        assert_eq!(unheard.iter().count(), 3);
        assert_eq!(unheard.iter().next().unwrap().since, at(1), "the first report counts");
        assert!(unheard.take(Role::Agent, peer(1)) && !unheard.take(Role::Agent, peer(1)));
        unheard.node_lost(1);
        assert_eq!(unheard.iter().map(|one| one.peer).collect::<std::vec::Vec<_>>(), [peer(2)]);
    }

    #[test]
    fn a_peer_beyond_the_limit_is_not_kept() {
        let mut unheard = UnheardPeers::default();
        for node in 0..=limits::UNHEARD_PEERS as u32 {
            unheard.add(Instant::default(), Role::Agent, Peer::Tipc { node, port: 1 });
        }
        assert_eq!(unheard.iter().count(), limits::UNHEARD_PEERS);
    }

    #[test]
    fn one_node_that_binds_without_end_leaves_room_for_the_others() {
        let mut unheard = UnheardPeers::default();
        for port in 0..100 {
            unheard.add(Instant::default(), Role::Agent, Peer::Tipc { node: 1, port });
        }
        unheard.add(Instant::default(), Role::Agent, Peer::Tipc { node: 2, port: 1 });
        assert_eq!(unheard.iter().count(), OF_ONE_NODE + 1);
    }
}
