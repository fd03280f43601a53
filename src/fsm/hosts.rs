//! The hosts that a controller knows: what each said last.
//!
//! ```text
//! unknown --ack--> known --silent for host_lost--> lost --ack--> known
//!    ^                                              |
//!    `---------------- drop-host -------------------'
//! ```
//!
//! Lost is not stored but seen: a host is lost while its last ack is too old, or while
//! the topology service says that it is gone.
//! It keeps its place and is named by the commands that it concerns.

use super::actions::Peer;
use super::presence::Presence;
use super::requests::{HostRequest, RequestStatus, RequestTarget, RequestTimers};
use crate::repo::slots::SlotSet;
use crate::table::Keyed;
use crate::time::{Duration, Instant};
use crate::types::{Digest, NodeId};
use crate::wire::messages::{AgentState, HelloAgentAck};

/// How far it is known what a host has installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Knowledge {
    /// A detailed query must be made.
    #[default]
    Wanted,
    /// A detailed query is under way.
    Asking,
    /// One failed; the next not before this.
    Backoff {
        /// When to ask again.
        until: Instant,
        /// How many failed in a row.
        failures: u8,
    },
    /// It is known.
    Known,
}

/// One host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its node id.
    pub node: NodeId,
    /// Where it was heard.
    pub peer: Peer,
    /// When it was heard.
    pub last_heard: Instant,
    /// Whether it is there, as the topology service tells.
    pub presence: Presence,
    /// What it said.
    pub ack: HelloAgentAck,
    /// How far it is known what it has.
    pub knowledge: Knowledge,
    /// The installed set that `installed` is for.
    pub known_digest: Digest,
    /// Which patches of the map it has.
    pub installed: SlotSet,
    /// Patches that it has and the map does not know.
    pub foreign: u16,
    /// The last install request to it.
    pub request: HostRequest,
}

impl Host {
    /// A host that nothing is known of yet: what a table is filled with.
    #[must_use]
    pub fn vacant() -> Self {
        Self {
            node: NodeId(0),
            peer: Peer::Ip(core::net::SocketAddr::V4(core::net::SocketAddrV4::new(
                core::net::Ipv4Addr::UNSPECIFIED,
                0,
            ))),
            last_heard: Instant::default(),
            presence: Presence::default(),
            ack: HelloAgentAck::default(),
            knowledge: Knowledge::Wanted,
            known_digest: Digest::default(),
            installed: SlotSet::new(),
            foreign: 0,
            request: HostRequest::default(),
        }
    }

    /// Where its next install request goes.
    #[must_use]
    pub fn target(&self) -> RequestTarget {
        RequestTarget { node: self.node, peer: self.peer, nonce: self.ack.nonce }
    }

    /// It is there. Where it was known to be gone, its install has the time again that
    /// it had.
    pub fn on_back(&mut self, now: Instant, timers: &RequestTimers) {
        if self.presence.is_gone() {
            self.request.on_back(now, timers);
        }
    }

    /// Whether it has not been heard for so long, or is known to be gone.
    #[must_use]
    pub fn is_lost(&self, now: Instant, after: Duration) -> bool {
        self.presence.is_gone() || now.since(self.last_heard) >= after
    }

    /// Whether what it has is known, and still true as of its last ack.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.knowledge == Knowledge::Known && self.known_digest == self.ack.installed_digest
    }

    /// Whether it says, or was asked and is not known to deny, that it installs.
    #[must_use]
    pub fn is_installing(&self) -> bool {
        self.ack.state == AgentState::Installing
            || matches!(self.request.status(), RequestStatus::Waiting | RequestStatus::Running)
    }
}

impl Keyed for Host {
    fn node(&self) -> NodeId {
        self.node
    }
}
