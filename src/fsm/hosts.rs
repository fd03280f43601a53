//! The hosts that a controller knows, with the last ack of each.
//!
//! ```text
//! unknown --ack--> known --answers no ask--> lost --heard--> known
//!    ^                                        |
//!    `---------------- drop-host -------------'
//! ```
//!
//! A host is lost while it is gone: it missed its window and answered none of the asks that
//! followed ([`probes`](super::probes)), or the topology service reports it. One whose last ack is
//! older than `host_lost` is lost, too. It keeps its slot, and commands that it concerns name it.

use super::actions::Peer;
use super::movement::Movement;
use super::presence::Presence;
use super::probes::Probe;
use super::requests::{HostRequest, RequestStatus, RequestTarget, RequestTimers};
use super::ways::Way;
use crate::repo::slots::SlotSet;
use crate::table::Keyed;
use crate::time::{Duration, Instant};
use crate::types::{Digest, NodeId, Nonce};
use crate::wire::install::{Outcome, Step};
use crate::wire::messages::{AgentInstallResp, AgentState, HelloAgentAck, RequestState};

/// Whether the controller knows what a host has installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Knowledge {
    /// A detailed query is needed.
    #[default]
    Wanted,
    /// A detailed query is under way.
    Asking,
    /// A detailed query failed; the next one waits.
    Backoff {
        /// When to ask again.
        until: Instant,
        /// How many queries failed in a row.
        failures: u8,
    },
    /// The installed set is known.
    Known,
}

/// One host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its node id.
    pub node: NodeId,
    /// The address that it last sent from.
    pub peer: Peer,
    /// By which way its last ack came, if the transport tells.
    pub way: Option<Way>,
    /// When its last ack came.
    pub last_heard: Instant,
    /// Whether it is up.
    pub presence: Presence,
    /// The asks that follow a window that it missed.
    pub probe: Probe,
    /// Since when it waits to be asked by this controller: it is new here, was lost, or restarted.
    pub unasked_since: Option<Instant>,
    /// It was lost when that was last looked at.
    pub is_noted_lost: bool,
    /// Its last ack.
    pub ack: HelloAgentAck,
    /// Whether its installed set is known.
    pub knowledge: Knowledge,
    /// The installed set that `installed` is for.
    pub known_digest: Digest,
    /// The patches of the map that it has.
    pub installed: SlotSet,
    /// How many patches it has that the map does not know.
    pub foreign: u16,
    /// The last install request to it.
    pub request: HostRequest,
    /// The install that it reports, of whatever request.
    pub movement: Option<Movement>,
}

impl Host {
    /// An empty host, to fill a table's slots with.
    #[must_use]
    pub fn vacant() -> Self {
        Self {
            node: NodeId(0),
            peer: Peer::Ip(core::net::SocketAddr::V4(core::net::SocketAddrV4::new(
                core::net::Ipv4Addr::UNSPECIFIED,
                0,
            ))),
            way: None,
            last_heard: Instant::default(),
            presence: Presence::default(),
            probe: Probe::default(),
            unasked_since: None,
            is_noted_lost: false,
            ack: HelloAgentAck::default(),
            knowledge: Knowledge::Wanted,
            known_digest: Digest::default(),
            installed: SlotSet::new(),
            foreign: 0,
            request: HostRequest::default(),
            movement: None,
        }
    }

    /// The address and nonce for its next install request.
    #[must_use]
    pub fn target(&self) -> RequestTarget {
        RequestTarget { node: self.node, peer: self.peer, nonce: self.ack.nonce }
    }

    /// The host was heard from this address. One that was gone is back.
    pub fn on_heard(&mut self, now: Instant, peer: Peer, timers: &RequestTimers) {
        self.on_back(now, timers);
        // The topology service reports of its sockets, which are greeted then.
        if self.presence.is_unanswered() {
            self.unasked_since = Some(now);
        }
        self.presence.on_heard(self.peer != peer);
        self.probe.on_heard();
        (self.peer, self.last_heard) = (peer, now);
    }

    /// The host is up. If it was known to be gone, the full time to give up its install
    /// request starts again.
    pub fn on_back(&mut self, now: Instant, timers: &RequestTimers) {
        if self.presence.is_gone() {
            self.request.on_back(now, timers);
        }
    }

    /// The host has answered its open request. The ack that says the same may come later or
    /// be lost, and the next one may be an interval away: until then the answer counts.
    /// An answer without an outcome is about another request.
    pub fn on_answered(&mut self, response: &AgentInstallResp) {
        let Some(outcome) = response.outcome else { return };
        let ack = &mut self.ack;
        (ack.request_id, ack.request) = (response.request_id, RequestState::Ended(outcome));
        (ack.step, ack.progress) = (Step::default(), 0);
        ack.requires_reboot = response.reboot_required;
        self.movement = None;
        match outcome {
            Outcome::Installed => {
                (ack.state, ack.patch_failed) = (AgentState::Idle, false);
                if let Some(digest) = self.request.digest() {
                    ack.installed_digest = digest;
                }
            }
            Outcome::Rejected => ack.state = AgentState::InstallRejected,
            Outcome::RolledBack => (ack.state, ack.patch_failed) = (AgentState::InstallFailed, true),
            // Its files may be of two sets.
            Outcome::Broken => {
                (ack.state, ack.patch_failed) = (AgentState::InstallFailed, true);
                ack.installed_digest = Digest::default();
            }
        }
    }

    /// Whether its last ack is older than `after`, or it is known to be gone.
    #[must_use]
    pub fn is_lost(&self, now: Instant, after: Duration) -> bool {
        self.presence.is_gone() || now.since(self.last_heard) >= after
    }

    /// Whether its installed set is known and agrees with its last ack.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.knowledge == Knowledge::Known && self.known_digest == self.ack.installed_digest
    }

    /// Whether it reports that it could not be recovered: its files may be of two sets.
    #[must_use]
    pub fn is_unrecovered(&self) -> bool {
        self.ack.state == AgentState::InstallFailed && self.ack.installed_digest == Digest::default()
    }

    /// Takes an ack, and notes how far the install has come that it reports.
    pub fn take_ack(&mut self, now: Instant, ack: &HelloAgentAck) {
        // No agent has the nonce 0. A request changes it with the request's number, a restart alone.
        let has_restarted = self.ack.nonce != ack.nonce && self.ack.request_id == ack.request_id;
        if self.ack.nonce == Nonce(0) || has_restarted {
            self.unasked_since = Some(now);
        }
        // Most acks say what the last one said.
        if self.ack != *ack {
            self.ack.clone_from(ack);
        }
        match self.ack.state {
            AgentState::Installing => {
                self.movement.get_or_insert_with(|| Movement::new(now)).note(now, &self.ack);
            }
            _ => self.movement = None,
        }
    }

    /// The host came to fetch, and this controller had no worker free: it waits for us.
    pub fn on_turned_away(&mut self, now: Instant, timers: &RequestTimers) {
        self.request.on_turned_away(now, timers);
        if let Some(movement) = &mut self.movement {
            movement.excuse(now);
        }
    }

    /// Whether it reports an install that stands still, and has no request of ours that is
    /// still open.
    #[must_use]
    pub fn is_stalled(&self, now: Instant, stall: Duration) -> bool {
        !self.request.is_open() && self.movement.is_some_and(|movement| now >= movement.stalls_at(stall))
    }

    /// Whether it reports an install, or has a request of ours that is still open.
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
