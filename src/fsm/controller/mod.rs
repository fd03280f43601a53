//! The controller's side: it polls all agents, learns what they have, and asks them
//! to install.
//!
//! This machine connects others that have their own files:
//!
//! - the rounds of HelloAgent ([`pacing`](super::pacing)),
//! - the hosts ([`hosts`](super::hosts)) and what each kind of host should have
//!   ([`host_kinds`](super::host_kinds)),
//! - the detailed queries ([`queries`](super::queries)),
//! - the install requests ([`requests`](super::requests)),
//! - the repository map that controllers share ([`sync`](super::sync)).
//!
//! Of its own files, `asks` asks hosts again that missed a window, `repository` applies the workers' reports of the repository,
//! `rollout` drives a [`rollout`](super::rollout), `spread` says which files go to all hosts at once, `topology` applies the topology
//! service's reports, and `view` computes the status of hosts and patches.

mod asks;
pub mod losses;
mod repository;
mod rollout;
pub mod spread;
#[cfg(test)]
mod tests;
mod topology;
mod view;

use serde::{Deserialize, Serialize};

use super::actions::{Actions, Peer, To};
use super::drops::Drops;
use super::event::Event;
use super::host_kinds::HostKinds;
use super::hosts::{Host, Knowledge};
use super::pacing::Pacing;
use super::queries::{Queries, Query};
use super::random::Random;
use super::reasons::Reasons;
use super::requests::{Ask, RequestTimers};
use super::rollout::Watch;
use super::sync::blobs::BlobError;
use super::sync::neighbours::Neighbour;
use super::sync::{Sync, SyncTimers};
use super::topology::UnheardPeers;
use super::ways::Way;
use crate::repo::map::Map;
use crate::repo::slots::SlotSet;
use crate::table::Table;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, NodeType, RequestId};
use crate::wire::frame::Purpose;
use crate::wire::messages::{AgentInstallResp, HelloAgentAck, Message};

/// The timers of a controller.
#[derive(Clone, Copy, Debug)]
pub struct ControllerTimers {
    /// From one HelloAgent to the next.
    pub hello_interval: Duration,
    /// A host that missed its window is asked by unicast for so long, and is then lost.
    pub probe: Duration,
    /// A host that was silent for this long is lost, whatever it was asked.
    pub host_lost: Duration,
    /// The limit for a detailed query's connecting and for each pause between pages.
    pub query_timeout: Duration,
    /// The timers of install requests.
    pub request: RequestTimers,
    /// The timers for other controllers.
    pub sync: SyncTimers,
}

/// Whether a host has the patches that it should have. The control protocol carries
/// it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Currency {
    /// It has them.
    Current,
    /// It does not have them, and nothing is under way.
    OutOfDate,
    /// It installs, or this controller has asked it to and waits for the outcome.
    Pending,
    /// Its last install failed, or was not answered.
    Failed,
    /// It has what this controller knows of. But this controller lacks a patch file,
    /// so it calls no host current.
    Unknown,
}

/// Why an install cannot be requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskRefusal {
    /// No such host.
    Unknown,
    /// A request to this host is open.
    Busy,
    /// The host is lost.
    Lost,
    /// There are more kinds of hosts than [`NODETYPES`](crate::limits::NODETYPES).
    TooManyKinds,
    /// This controller lacks a patch file that hosts should have.
    Incomplete,
}

/// A controller's tables, in memory that its driver lends.
pub struct Tables<'a> {
    /// The repository.
    pub map: Map<'a>,
    /// The hosts.
    pub hosts: Table<'a, Host>,
    /// Slots for detailed queries: this many hosts are queried at once.
    pub queries: &'a mut [Option<Query>],
    /// Why installs failed.
    pub reasons: Reasons<'a>,
    /// Slots for other controllers.
    pub neighbours: &'a mut [Option<Neighbour>],
    /// Why patch files are missing.
    pub blob_errors: &'a mut [BlobError],
}

/// A controller.
pub struct Controller<'a> {
    node: NodeId,
    timers: ControllerTimers,
    map: Map<'a>,
    hosts: Table<'a, Host>,
    kinds: HostKinds,
    pacing: Pacing,
    asks: asks::Asks,
    queries: Queries<'a>,
    reasons: Reasons<'a>,
    sync: Sync<'a>,
    drops: Drops,
    rollout: Watch,
    spreads: spread::Spreads,
    unheard_peers: UnheardPeers,
    /// Entries that were in the map when a worker began to read the repository again,
    /// and that it has not reported yet.
    unconfirmed: SlotSet,
    /// The earliest deadline of all requests, or an earlier time.
    requests_due: Option<Instant>,
    /// Acks of hosts for which the table had no room.
    hosts_refused: u64,
}

impl<'a> Controller<'a> {
    /// The controller `node` with this map. It has heard no host yet.
    #[must_use]
    pub fn new(now: Instant, node: NodeId, timers: ControllerTimers, tables: Tables<'a>) -> Self {
        let Tables { map, hosts, queries, reasons, neighbours, blob_errors: blob_whys } = tables;
        Self {
            node,
            timers,
            map,
            reasons,
            sync: Sync::new(timers.sync, neighbours, blob_whys),
            drops: Drops::new(timers.sync.retry),
            rollout: Watch::default(),
            spreads: spread::Spreads::default(),
            unheard_peers: UnheardPeers::default(),
            unconfirmed: SlotSet::new(),
            kinds: HostKinds::default(),
            pacing: Pacing::new(now, timers.hello_interval, hosts.capacity()),
            asks: asks::Asks::new(node),
            queries: Queries::new(timers.query_timeout, queries),
            requests_due: None,
            hosts_refused: 0,
            hosts,
        }
    }

    /// Changes the timers.
    pub fn set_timers(&mut self, now: Instant, timers: ControllerTimers) {
        self.timers = timers;
        self.pacing.set_interval(now, timers.hello_interval);
        self.queries.set_timeout(timers.query_timeout);
        self.drops.set_retry(timers.sync.retry);
        self.sync.set_timers(now, timers.sync);
    }

    /// The network is there again: hosts and controllers are asked soon.
    pub fn on_network_back(&mut self, now: Instant, random: &mut Random) {
        self.pacing.soon(now);
        self.sync.on_network_back(now, random);
    }

    /// Handles a message of an agent or of another controller.
    pub fn on_message(
        &mut self,
        now: Instant,
        from: NodeId,
        peer: Peer,
        message: &Message,
        actions: &mut Actions,
    ) {
        if let Message::SpreadReport(_) = message {
            // For the worker that sends. Of a host that is known, it says that it is up.
            let Some(host) = self.hosts.get_mut(from) else { return };
            host.on_heard(now, peer, &self.timers.request);
        }
        let is_bound = self.unheard_peers.take(message.msgtype().sender(), peer);
        match message {
            Message::HelloAgentAck(ack) => self.on_ack(now, from, peer, ack, actions),
            Message::AgentInstallResp(response) => self.on_response(now, from, peer, response, actions),
            Message::Hello(_) | Message::HelloAck(_) | Message::SyncReq(_) | Message::SyncComplete(_) => {
                self.sync.on_message(now, from, peer, message, &self.map, actions);
            }
            Message::DropHostReq(drop) => {
                self.forget_host(now, drop.host, actions);
                self.sync.on_message(now, from, peer, message, &self.map, actions);
            }
            // Messages to agents.
            _ => {}
        }
        if is_bound {
            self.mark_bound(from, peer);
        }
    }

    fn on_ack(&mut self, now: Instant, from: NodeId, peer: Peer, ack: &HelloAgentAck, actions: &mut Actions) {
        if self.hosts.find(from).is_none() {
            let newcomer = Host { node: from, ..Host::vacant() };
            if self.hosts.insert(newcomer).is_err() {
                self.hosts_refused = self.hosts_refused.saturating_add(1);
                return;
            }
        }
        self.make_room_for(now, &ack.nodetype);
        let hosts = self.hosts.len();
        let Some(host) = self.hosts.get_mut(from) else { return };
        host.on_heard(now, peer, &self.timers.request);
        let is_news = host.ack.installed_digest != ack.installed_digest;
        let (before, was_open) = ((host.ack.request_id, host.ack.request), host.request.is_open());
        host.take_ack(now, ack);
        let target = host.target();
        host.request.on_ack(now, &self.timers.request, target, before, ack, actions);
        self.requests_due = Instant::earliest([self.requests_due, host.request.poll_at()]);
        self.asks.watch(now, host, self.timers.probe);
        if ack.may_be_unproven() {
            let hello = self.pacing.greeting(hosts, self.map.highest_counter());
            actions.send(To::Node(from, peer), hello);
        }
        if was_open && !host.request.is_open() {
            self.rollout.soon(now);
        }
        self.on_installed_digest(now, from, is_news, actions);
    }

    /// Finds out what a host has, if that is not known. `is_news`: it is another set than
    /// the host had.
    fn on_installed_digest(&mut self, now: Instant, from: NodeId, is_news: bool, actions: &mut Actions) {
        let Some(host) = self.hosts.get_mut(from) else { return };
        let ack = &host.ack;
        let is_known = host.known_digest == ack.installed_digest && host.knowledge == Knowledge::Known;
        if is_known && !self.kinds.is_new(&ack.nodetype) {
            return;
        }
        match self.kinds.of(&ack.nodetype, &self.map) {
            // It has what it should have, so the installed set is known.
            Some(kind) if kind.digest == ack.installed_digest => {
                host.installed = kind.patches;
                host.foreign = 0;
                host.known_digest = kind.digest;
                let was_asked = host.knowledge == Knowledge::Asking;
                host.knowledge = Knowledge::Known;
                if was_asked {
                    self.queries.forget(now, from, actions);
                }
            }
            _ => {
                match host.knowledge {
                    Knowledge::Asking => {}
                    // After a change of the installed set, a failed query does not
                    // delay the next one.
                    Knowledge::Backoff { .. } if !is_news => {}
                    Knowledge::Wanted | Knowledge::Known | Knowledge::Backoff { .. } => {
                        host.knowledge = Knowledge::Wanted;
                        self.queries.want(now);
                    }
                }
                self.queries.start(now, &mut self.hosts, actions);
            }
        }
    }

    /// Frees the kinds of which there is no host, if there is no room for this one; and if
    /// that frees none, those of lost hosts.
    fn make_room_for(&mut self, now: Instant, nodetype: &NodeType) {
        let (hosts, lost_after) = (&self.hosts, self.timers.host_lost);
        for despite_lost in [true, false] {
            if !self.kinds.is_full_for(nodetype) {
                return;
            }
            let counts = |host: &Host| despite_lost || !host.is_lost(now, lost_after);
            self.kinds.retain(|kind| hosts.iter().any(|host| host.ack.nodetype == *kind && counts(host)));
        }
    }

    fn on_response(
        &mut self,
        now: Instant,
        from: NodeId,
        peer: Peer,
        response: &AgentInstallResp,
        actions: &mut Actions,
    ) {
        let Some(host) = self.hosts.get_mut(from) else { return };
        if host.peer == peer {
            host.on_heard(now, peer, &self.timers.request);
        }
        let (was_open, before) = (host.request.is_open(), host.ack.installed_digest);
        if host.request.on_response(response) {
            self.reasons.keep(from, response.request_id, &response.reject_reason);
        }
        self.rollout.soon(now);
        if was_open && !host.request.is_open() {
            host.on_answered(response);
            let is_news = host.ack.installed_digest != before;
            self.on_installed_digest(now, from, is_news, actions);
        }
    }

    /// Handles an event of a session, a worker or the topology service.
    pub fn on_event(&mut self, now: Instant, event: &Event<'_>, actions: &mut Actions) {
        match event {
            Event::Topology(event) => return self.on_topology(now, *event, actions),
            Event::SpreadEnded => return self.on_spread_ended(now, actions),
            Event::DetailPage(node, page) => self.queries.on_page(now, *node, page, &self.map),
            Event::DetailEnd(node) => self.queries.on_end(now, *node, &mut self.hosts),
            Event::SessionFailed(node, Purpose::QueryDetailed, _)
            | Event::SessionBusy(node, Purpose::QueryDetailed, _) => {
                // The next query starts in `on_timeout`, not here: if every session
                // failed at once, this would recurse through all hosts in one turn.
                self.queries.on_failure(now, *node, &mut self.hosts);
                return;
            }
            other => return self.sync.on_event(now, other, &self.map, actions),
        }
        self.queries.start(now, &mut self.hosts, actions);
    }

    /// Does what is due; before that, nothing.
    pub fn on_timeout(&mut self, now: Instant, random: &mut Random, actions: &mut Actions) {
        let op_counter = self.map.highest_counter();
        if let Some(window) = self.pacing.on_timeout(now, self.hosts.len(), op_counter, random, actions) {
            self.on_round(now, window);
        }
        self.drops.on_timeout(now, actions);
        self.sync.on_timeout(now, &self.map, random, actions);
        self.queries.on_timeout(now, &mut self.hosts, actions);
        self.queries.start(now, &mut self.hosts, actions);
        self.drive_rollout(now, actions);
        self.drive_spread(actions);
        if self.requests_due.is_some_and(|due| now >= due) {
            self.requests_due = None;
            for host in self.hosts.iter_mut() {
                let target = host.target();
                host.request.on_timeout(now, &self.timers.request, target, actions);
                self.requests_due = Instant::earliest([self.requests_due, host.request.poll_at()]);
            }
        }
        // The last, because it leaves what finds no room to its next turn.
        self.ask_again(now, actions);
    }

    /// When the next call of [`on_timeout`](Self::on_timeout) is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        let hosts = Instant::earliest([self.queries.poll_at(), self.requests_due]);
        let others = Instant::earliest([self.sync.poll_at(), self.drops.poll_at(), self.asks.poll_at()]);
        Instant::earliest([self.pacing.poll_at(), self.rollout.poll_at(), hosts, others])
    }

    /// Asks a host to install what it should have.
    ///
    /// # Errors
    /// [`AskRefusal`]; nothing has changed then.
    pub fn ask_install(
        &mut self,
        now: Instant,
        node: NodeId,
        force: bool,
        random: &mut Random,
        actions: &mut Actions,
    ) -> Result<(), AskRefusal> {
        let nodetype = self.hosts.get(node).ok_or(AskRefusal::Unknown)?.ack.nodetype.clone();
        self.make_room_for(now, &nodetype);
        let host = self.hosts.get_mut(node).ok_or(AskRefusal::Unknown)?;
        if host.is_lost(now, self.timers.host_lost) {
            return Err(AskRefusal::Lost);
        }
        if self.sync.blobs().first_wanted(&self.map).is_some() {
            return Err(AskRefusal::Incomplete);
        }
        let kind = self.kinds.of(&host.ack.nodetype, &self.map).ok_or(AskRefusal::TooManyKinds)?;
        let ask = Ask { request_id: RequestId(random.next_u64()), digest: kind.digest, force };
        let target = host.target();
        if !host.request.ask(now, &self.timers.request, target, ask, actions) {
            return Err(AskRefusal::Busy);
        }
        self.requests_due = Instant::earliest([self.requests_due, host.request.poll_at()]);
        self.asks.watch(now, host, self.timers.probe);
        Ok(())
    }

    /// A host came to fetch, and no worker was free: until one is, its install cannot move.
    pub fn on_turned_away(&mut self, now: Instant, node: NodeId) {
        if let Some(host) = self.hosts.get_mut(node) {
            host.on_turned_away(now, &self.timers.request);
        }
    }

    /// Makes all controllers forget a host; its next ack adds it again.
    pub fn drop_host(&mut self, now: Instant, node: NodeId, actions: &mut Actions) {
        self.forget_host(now, node, actions);
        self.drops.add(now, node);
        self.drops.on_timeout(now, actions);
    }

    fn forget_host(&mut self, now: Instant, node: NodeId, actions: &mut Actions) {
        self.queries.forget(now, node, actions);
        if let Some(slot) = self.hosts.find(node) {
            self.hosts.remove(slot);
        }
    }

    /// Its node id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The repository.
    #[must_use]
    pub fn map(&self) -> &Map<'a> {
        &self.map
    }

    /// The synchronization with other controllers.
    #[must_use]
    pub fn sync(&self) -> &Sync<'a> {
        &self.sync
    }

    /// The synchronization with other controllers, to change.
    pub fn sync_mut(&mut self) -> &mut Sync<'a> {
        &mut self.sync
    }

    /// The hosts.
    #[must_use]
    pub fn hosts(&self) -> &Table<'a, Host> {
        &self.hosts
    }

    /// The way by which a host was heard last, to change.
    pub fn host_way(&mut self, node: NodeId) -> Option<&mut Option<Way>> {
        self.hosts.get_mut(node).map(|host| &mut host.way)
    }

    /// Checks what must always hold.
    pub fn invariants(&self) {
        debug_assert!(
            self.queries
                .asking()
                .all(|node| { self.hosts.get(node).is_some_and(|host| host.knowledge == Knowledge::Asking) })
        );
        debug_assert!(self.hosts.len() <= self.hosts.capacity());
    }
}
