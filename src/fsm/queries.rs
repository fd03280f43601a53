//! Detailed queries: asking hosts what exactly they have, few at a time.
//!
//! ```text
//!          a place is free              pages, end
//! Wanted ------------------> Asking ------------------> Known
//!   ^                          |  deadline, session failed, no page,
//!   |                          v  snapshot or map changed in between
//!   `---- backoff over ---- Backoff
//! ```
//!
//! (The states are the hosts' [`Knowledge`]; here are the places.) A page that
//! belongs to another snapshot than the first page makes the answer void, since
//! pages of two snapshots would make up a third that never was.

use super::actions::{Action, Actions};
use super::hosts::{Host, Knowledge};
use crate::limits;
use crate::repo::map::Map;
use crate::repo::slots::{Slot, SlotSet};
use crate::table::Table;
use crate::time::{Duration, Instant};
use crate::types::{Digest, NodeId};
use crate::wire::frame::{DetailPage, Purpose};

/// The longest pause between two queries of one host that fail.
const BACKOFF_MOST: Duration = Duration::from_secs(60);

/// An answer that is coming in.
#[derive(Clone, Copy, Debug)]
struct Query {
    node: NodeId,
    deadline: Instant,
    failures: u8,
    snapshot: Option<(u64, Digest)>,
    is_void: bool,
    installed: SlotSet,
    foreign: u16,
}

/// The queries under way.
#[derive(Debug)]
pub struct Queries {
    timeout: Duration,
    places: [Option<Query>; limits::DETAILED_QUERIES],
    /// When a host may be waiting for its turn, at the earliest.
    wake: Option<Instant>,
}

impl Queries {
    /// No query. `timeout` is the deadline of connecting, and of each pause after.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, places: [None; limits::DETAILED_QUERIES], wake: None }
    }

    /// A host's state changed to `Wanted`: it gets its turn.
    pub fn want(&mut self, now: Instant) {
        self.wake = Some(now);
    }

    /// Gives free places to hosts that want one. Early: does nothing.
    pub fn start(&mut self, now: Instant, hosts: &mut Table<'_, Host>, actions: &mut Actions) {
        if self.wake.is_none_or(|wake| now < wake) {
            return;
        }
        self.wake = None;
        for host in hosts.iter_mut() {
            let failures = match host.knowledge {
                Knowledge::Wanted => 0,
                Knowledge::Backoff { until, failures } if until <= now => failures,
                Knowledge::Backoff { until, .. } => {
                    self.wake = Instant::earliest([self.wake, Some(until)]);
                    continue;
                }
                Knowledge::Asking | Knowledge::Known => continue,
            };
            let place = self.places.iter_mut().find(|place| place.is_none());
            let (Some(place), true) = (place, actions.room() > 0) else {
                // A place that becomes free wakes us; so do more actions, soon.
                if actions.room() == 0 {
                    self.wake = Some(now);
                }
                return;
            };
            host.knowledge = Knowledge::Asking;
            *place = Some(Query {
                node: host.node,
                deadline: now + self.timeout,
                failures,
                snapshot: None,
                is_void: false,
                installed: SlotSet::new(),
                foreign: 0,
            });
            actions.push(Action::Connect(host.node, host.peer, Purpose::QueryDetailed));
        }
    }

    /// A page of an answer.
    pub fn on_page(&mut self, now: Instant, node: NodeId, page: &DetailPage, map: &Map<'_>) {
        let timeout = self.timeout;
        let Some(query) = self.query(node) else { return };
        query.deadline = now + timeout;
        let snapshot = (page.query_id, page.installed_digest);
        query.is_void |= *query.snapshot.get_or_insert(snapshot) != snapshot;
        for patch in &page.installed {
            match map.get(&patch.id) {
                Some((slot, entry)) if entry.hash == patch.hash => {
                    query.installed.insert(slot);
                }
                _ => query.foreign = query.foreign.saturating_add(1),
            }
        }
    }

    /// The content of a slot is new or another: an answer that was read with
    /// the old map and may speak of it is void.
    pub fn on_content(&mut self, slot: Slot) {
        for query in self.places.iter_mut().flatten() {
            query.is_void |= query.foreign > 0 || query.installed.contains(slot);
        }
    }

    /// An answer is complete.
    pub fn on_end(&mut self, now: Instant, node: NodeId, hosts: &mut Table<'_, Host>) {
        let Some(query) = self.query(node).copied() else { return };
        let Some((_, digest)) = query.snapshot.filter(|_| !query.is_void) else {
            return self.on_failure(now, node, hosts);
        };
        self.free(now, node);
        if let Some(host) = hosts.get_mut(node) {
            host.installed = query.installed;
            host.foreign = query.foreign;
            host.known_digest = digest;
            host.knowledge = Knowledge::Known;
        }
    }

    /// A query came to nothing: its host waits, longer each time.
    pub fn on_failure(&mut self, now: Instant, node: NodeId, hosts: &mut Table<'_, Host>) {
        let Some(query) = self.query(node).copied() else { return };
        self.free(now, node);
        if let Some(host) = hosts.get_mut(node) {
            let pause = self.timeout.times(1 << query.failures.min(6)).min(BACKOFF_MOST);
            let failures = query.failures.saturating_add(1);
            host.knowledge = Knowledge::Backoff { until: now + pause, failures };
        }
    }

    /// Ends what took too long. Early: does nothing.
    pub fn on_timeout(&mut self, now: Instant, hosts: &mut Table<'_, Host>, actions: &mut Actions) {
        for at in 0..self.places.len() {
            let query = self.places.get(at).copied().flatten();
            if let Some(query) = query.filter(|query| now >= query.deadline) {
                actions.push(Action::Disconnect(query.node, Purpose::QueryDetailed));
                self.on_failure(now, query.node, hosts);
            }
        }
    }

    /// When something is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        let deadline = self.places.iter().flatten().map(|query| query.deadline).min();
        let is_place_free = self.places.iter().any(Option::is_none);
        Instant::earliest([deadline, self.wake.filter(|_| is_place_free)])
    }

    fn query(&mut self, node: NodeId) -> Option<&mut Query> {
        self.places.iter_mut().flatten().find(|query| query.node == node)
    }

    /// Frees the place of a node; somebody may be waiting for it.
    fn free(&mut self, now: Instant, node: NodeId) {
        for place in &mut self.places {
            if place.is_some_and(|query| query.node == node) {
                *place = None;
                self.wake = Some(now);
            }
        }
    }

    /// The nodes that are being asked.
    pub fn asking(&self) -> impl Iterator<Item = NodeId> {
        self.places.iter().flatten().map(|query| query.node)
    }

    /// Forgets a query whose host was dropped.
    pub fn forget(&mut self, now: Instant, node: NodeId, actions: &mut Actions) {
        if self.query(node).is_some() {
            actions.push(Action::Disconnect(node, Purpose::QueryDetailed));
            self.free(now, node);
        }
    }
}
