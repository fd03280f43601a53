//! Who is bound, as a transport's topology service tells it, before a word was heard.
//!
//! Whoever is bound and has not spoken is kept here, so that a controller can greet it
//! at once and an operator sees one that never answers. Who has spoken is told of where
//! it is kept: a host or a neighbour has its [`Presence`](super::presence::Presence).

use heapless::Vec;

use super::actions::Peer;
use crate::limits;
use crate::time::Instant;
use crate::wire::frame::Role;

/// One word of the topology service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A socket of this role is bound there.
    Published(Role, Peer),
    /// It no longer is.
    Withdrawn(Role, Peer),
    /// A whole node is lost: its address in its TIPC cluster.
    NodeLost(u32),
    /// The service is lost: what it told may no longer be so.
    Gap,
    /// It is back, and has told all that is bound.
    Settled,
}

/// One that is bound and was not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnheardPeer {
    /// Its role.
    pub role: Role,
    /// Where it is bound.
    pub peer: Peer,
    /// Since when.
    pub since: Instant,
}

/// Those that are bound and were not heard.
#[derive(Debug, Default)]
pub struct UnheardPeers {
    list: Vec<UnheardPeer, { limits::UNHEARD_PEERS }, u8>,
}

impl UnheardPeers {
    /// One is bound. Where there is no place for it, it is greeted all the same.
    pub fn add(&mut self, now: Instant, role: Role, peer: Peer) {
        if !self.list.iter().any(|one| (one.role, one.peer) == (role, peer)) {
            let _ = self.list.push(UnheardPeer { role, peer, since: now });
        }
    }

    /// One is heard, or bound no more. Whether it was kept here.
    pub fn take(&mut self, role: Role, peer: Peer) -> bool {
        let at = self.list.iter().position(|one| (one.role, one.peer) == (role, peer));
        at.map(|at| self.list.swap_remove(at)).is_some()
    }

    /// A whole node is lost.
    pub fn node_lost(&mut self, node: u32) {
        self.list.retain(|one| !matches!(one.peer, Peer::Tipc { node: at, .. } if at == node));
    }

    /// Forgets all: those that are bound are told of again.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &UnheardPeer> {
        self.list.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_kept_once_until_it_is_heard_or_lost() {
        let peer = |node| Peer::Tipc { node, port: 7 };
        let at = Instant::from_millis;
        let mut strangers = UnheardPeers::default();
        strangers.add(at(1), Role::Agent, peer(1));
        strangers.add(at(2), Role::Agent, peer(1));
        strangers.add(at(3), Role::Controller, peer(1));
        strangers.add(at(4), Role::Agent, peer(2));
        assert_eq!(strangers.iter().count(), 3);
        assert_eq!(strangers.iter().next().unwrap().since, at(1), "the first word counts");
        assert!(strangers.take(Role::Agent, peer(1)) && !strangers.take(Role::Agent, peer(1)));
        strangers.node_lost(1);
        assert_eq!(strangers.iter().map(|one| one.peer).collect::<std::vec::Vec<_>>(), [peer(2)]);
    }

    #[test]
    fn one_too_many_is_not_kept_and_does_no_harm() {
        let mut strangers = UnheardPeers::default();
        for node in 0..=limits::UNHEARD_PEERS as u32 {
            strangers.add(Instant::default(), Role::Agent, Peer::Tipc { node, port: 1 });
        }
        assert_eq!(strangers.iter().count(), limits::UNHEARD_PEERS);
    }
}
