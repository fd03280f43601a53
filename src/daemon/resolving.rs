//! The loop's side of [`names`](super::names): starts the worker, and takes what it found.

use std::net::{IpAddr, Ipv6Addr};

use log::{info, warn};

use super::event_loop::Daemon;
use super::links::IS_USED;
use super::os_error::OsError;
use super::proof;
use super::workers::WorkerKind;
use crate::config::peers::PeerHost;
use crate::fsm::actions::Peer;
use crate::job::Job;
use crate::time::Instant;
use crate::wire::codec::Roles;

/// A peer at which nothing was heard for this many hello intervals is unheard.
const HEARD_WITHIN: u64 = 3;

impl Daemon<'_> {
    /// Has the names of peers resolved, if that is due and needed.
    #[inline(never)]
    pub(super) fn resolve_names(&mut self, now: Instant) {
        if !IS_USED || self.names.due.is_none_or(|due| now < due) {
            return;
        }
        if self.are_names_well(now) {
            return self.names.put_off(now);
        }
        let Self { workers, registry, .. } = self;
        let started = proof::exempt(|| workers.start(now, registry, WorkerKind::Resolve, &Job::Resolve, &[]));
        self.names.due = None;
        if let Err(error) = started {
            warn!("the worker that resolves the names of peers cannot be started: {}", OsError(&error));
            self.names.on_ended(now, false);
        }
    }

    /// An address that the worker found for the peer with this number; unspecified for none.
    pub(super) fn on_resolved(&mut self, at: usize, address: [u8; 16]) {
        let Some(peer) = self.config.network.peers.get(at).filter(|_| IS_USED) else { return };
        let address = Some(Ipv6Addr::from(address)).filter(|found| !found.is_unspecified());
        match (address.map(|found| found.to_canonical()), self.transport.peer_address(at)) {
            (Some(found), before) if before != Some(found) => {
                info!("the peer {peer} is {found}");
                self.transport.resolve(at, found);
            }
            (None, None) => warn!("the peer {peer} has no address: its name does not resolve now"),
            // An address that was good may be still.
            _ => {}
        }
    }

    /// The worker that resolved the names has ended.
    pub(super) fn on_names_resolved(&mut self, now: Instant) {
        let is_well = self.are_names_well(now);
        self.names.on_ended(now, is_well);
    }

    /// Whether every name has an address at which a node is heard.
    fn are_names_well(&self, now: Instant) -> bool {
        let peers = self.config.network.peers.iter().enumerate();
        let mut named = peers.filter(|(_, peer)| matches!(peer.host, PeerHost::Name(_)));
        named.all(|(at, _)| self.transport.peer_address(at).is_some_and(|address| self.hears(now, address)))
    }

    /// Whether a node is heard at an address.
    fn hears(&self, now: Instant, address: IpAddr) -> bool {
        let within = self.hello_interval().times(HEARD_WITHIN);
        let is_there = |peer: Peer| matches!(peer, Peer::Ip(peer) if peer.ip() == address);
        let is_recent = |heard: Instant| now.since(heard) < within;
        let Roles { is_agent, .. } = self.codec.identity().roles;
        (is_agent && self.controllers.heard_at(address).is_some_and(is_recent))
            || self.node.controller.as_ref().is_some_and(|controller| {
                controller.hosts().iter().any(|host| is_there(host.peer) && is_recent(host.last_heard))
                    || controller.sync().neighbours().iter().any(|neighbour| {
                        neighbour.heard.is_some_and(|(peer, heard)| is_there(peer) && is_recent(heard))
                    })
            })
    }
}
