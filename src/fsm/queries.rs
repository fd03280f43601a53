//! Detailed queries: a few hosts at a time are asked which patches they have.
//!
//! ```text
//!          a slot is free               pages, end
//! Wanted ------------------> Asking ------------------> Known
//!   ^                          |  deadline, session failed, no page,
//!   |                          v  snapshot or map changed in between
//!   `---- backoff over ---- Backoff
//! ```
//!
//! The states are the hosts' [`Knowledge`]; this module holds the slots. Two things
//! make an answer void: a page of another snapshot than the first page, because pages
//! of two snapshots add up to a set that never existed; and pages that together do not
//! have the digest that they name, because a page is missing.

use super::actions::{Action, Actions};
use super::hosts::{Host, Knowledge};
use crate::repo::digest::SetHasher;
use crate::repo::map::Map;
use crate::repo::slots::{Slot, SlotSet};
use crate::table::Table;
use crate::time::{Duration, Instant};
use crate::types::{Digest, NodeId};
use crate::wire::frame::{DetailPage, Purpose};

/// The longest pause between two failed queries of one host.
const BACKOFF_MOST: Duration = Duration::from_secs(60);

/// An answer that is being received: the content of a slot.
#[derive(Clone, Debug)]
pub struct Query {
    node: NodeId,
    deadline: Instant,
    failures: u8,
    snapshot: Option<(u64, Digest)>,
    hasher: SetHasher,
    is_void: bool,
    installed: SlotSet,
    foreign: u16,
}

/// The queries under way.
#[derive(Debug)]
pub struct Queries<'a> {
    timeout: Duration,
    slots: &'a mut [Option<Query>],
    /// The earliest time at which a host may be waiting for a slot.
    wake: Option<Instant>,
}

impl<'a> Queries<'a> {
    /// No query; as many at once as there are `slots`. `timeout` limits the
    /// connecting and each pause between two pages.
    #[must_use]
    pub fn new(timeout: Duration, slots: &'a mut [Option<Query>]) -> Self {
        Self { timeout, slots, wake: None }
    }

    /// Changes the timeout, for queries that start or progress from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// A host's state changed to `Wanted`: it gets a slot at the next `start`.
    pub fn want(&mut self, now: Instant) {
        self.wake = Some(now);
    }

    /// Gives free slots to hosts that need a query; does nothing before that is due.
    pub fn start(&mut self, now: Instant, hosts: &mut Table<'_, Host>, actions: &mut Actions) {
        if self.wake.is_none_or(|wake| now < wake) {
            return;
        }
        self.wake = None;
        // A host that does not know what it has sends no digest; a later ack will.
        for host in hosts.iter_mut().filter(|host| host.ack.installed_digest != Digest::default()) {
            let failures = match host.knowledge {
                Knowledge::Wanted => 0,
                Knowledge::Backoff { until, failures } if until <= now => failures,
                Knowledge::Backoff { until, .. } => {
                    self.wake = Instant::earliest([self.wake, Some(until)]);
                    continue;
                }
                Knowledge::Asking | Knowledge::Known => continue,
            };
            let slot = self.slots.iter_mut().find(|slot| slot.is_none());
            let (Some(slot), true) = (slot, actions.room() > 0) else {
                // A slot that becomes free sets `wake`. For lack of actions it is set here.
                if actions.room() == 0 {
                    self.wake = Some(now);
                }
                return;
            };
            host.knowledge = Knowledge::Asking;
            *slot = Some(Query {
                node: host.node,
                deadline: now + self.timeout,
                failures,
                snapshot: None,
                hasher: SetHasher::default(),
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
            query.hasher.add(&patch.id, &patch.hash);
            match map.get(&patch.id) {
                Some((slot, entry)) if entry.hash == patch.hash => {
                    query.installed.insert(slot);
                }
                _ => query.foreign = query.foreign.saturating_add(1),
            }
        }
    }

    /// The content of a map slot has changed: an answer that was compared with the old
    /// map, and may contain that patch, is void.
    pub fn on_content(&mut self, slot: Slot) {
        for query in self.slots.iter_mut().flatten() {
            query.is_void |= query.foreign > 0 || query.installed.contains(slot);
        }
    }

    /// An answer is complete.
    pub fn on_end(&mut self, now: Instant, node: NodeId, hosts: &mut Table<'_, Host>) {
        let Some(query) = self.query(node) else { return };
        let whole = query.snapshot.filter(|(_, digest)| !query.is_void && query.hasher.digest() == *digest);
        let Some((_, digest)) = whole else { return self.on_failure(now, node, hosts) };
        if let Some(host) = hosts.get_mut(node) {
            host.installed = query.installed;
            host.foreign = query.foreign;
            host.known_digest = digest;
            host.knowledge = Knowledge::Known;
        }
        self.free(now, node);
    }

    /// A query failed: its host waits, longer after each failure.
    pub fn on_failure(&mut self, now: Instant, node: NodeId, hosts: &mut Table<'_, Host>) {
        let Some(failures) = self.query(node).map(|query| query.failures) else { return };
        self.free(now, node);
        if let Some(host) = hosts.get_mut(node) {
            let pause = self.timeout.times(1 << failures.min(6)).min(BACKOFF_MOST);
            let failures = failures.saturating_add(1);
            host.knowledge = Knowledge::Backoff { until: now + pause, failures };
        }
    }

    /// Ends queries that took too long.
    pub fn on_timeout(&mut self, now: Instant, hosts: &mut Table<'_, Host>, actions: &mut Actions) {
        for at in 0..self.slots.len() {
            let query = self.slots.get(at).and_then(Option::as_ref);
            if let Some(node) = query.filter(|query| now >= query.deadline).map(|query| query.node) {
                actions.push(Action::Disconnect(node, Purpose::QueryDetailed));
                self.on_failure(now, node, hosts);
            }
        }
    }

    /// When the next call of [`start`](Self::start) or [`on_timeout`](Self::on_timeout)
    /// is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        let deadline = self.slots.iter().flatten().map(|query| query.deadline).min();
        let is_slot_free = self.slots.iter().any(Option::is_none);
        Instant::earliest([deadline, self.wake.filter(|_| is_slot_free)])
    }

    fn query(&mut self, node: NodeId) -> Option<&mut Query> {
        self.slots.iter_mut().flatten().find(|query| query.node == node)
    }

    /// Frees the slot of a node; another host may be waiting for it.
    fn free(&mut self, now: Instant, node: NodeId) {
        for slot in self.slots.iter_mut() {
            if slot.as_ref().is_some_and(|query| query.node == node) {
                *slot = None;
                self.wake = Some(now);
            }
        }
    }

    /// The nodes that are being queried.
    pub fn asking(&self) -> impl Iterator<Item = NodeId> {
        self.slots.iter().flatten().map(|query| query.node)
    }

    /// Forgets a query whose host was dropped.
    pub fn forget(&mut self, now: Instant, node: NodeId, actions: &mut Actions) {
        if self.query(node).is_some() {
            actions.push(Action::Disconnect(node, Purpose::QueryDetailed));
            self.free(now, node);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::limits;
    use crate::list::reserved;
    use crate::repo::digest::set_digest;
    use crate::repo::entry::EntryState;
    use crate::repo::fixture::{self, entry};
    use crate::table::index_len;
    use crate::types::{Hash, NodeType, PatchId, SwVersion};
    use crate::wire::frame::InstalledPatch;

    const TIMEOUT: Duration = Duration::from_millis(1_000);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// The queries of a controller whose map holds A, B and C.
    struct Trace {
        queries: Queries<'static>,
        hosts: Table<'static, Host>,
        map: Map<'static>,
        actions: Actions,
    }

    impl Trace {
        /// Hosts 1 to `count` want to be asked.
        fn start(count: u64) -> Self {
            let mut hosts = Table::new(reserved(16), Vec::leak(vec![0; index_len(16)]));
            for node in 1..=count {
                let mut host = Host { node: NodeId(node), ..Host::vacant() };
                host.ack.installed_digest = Digest([1; 32]);
                assert!(hosts.insert(host).is_ok());
            }
            let entries = ["A", "B", "C"].map(entry);
            let map = fixture::map(std::boxed::Box::leak(std::boxed::Box::new(fixture::slots(4))), &entries);
            let slots = Vec::leak(vec![None; limits::DETAILED_QUERIES]);
            let mut queries = Queries::new(TIMEOUT, slots);
            queries.want(at(0));
            Self { queries, hosts, map, actions: Actions::default() }
        }

        fn starts(&mut self, now: u64) -> Vec<String> {
            self.queries.start(at(now), &mut self.hosts, &mut self.actions);
            self.did()
        }

        fn waits(&mut self, until: u64) -> Vec<String> {
            self.queries.on_timeout(at(until), &mut self.hosts, &mut self.actions);
            self.starts(until)
        }

        /// A page of snapshot `query_id`, whose whole set is `all`.
        fn page(&mut self, now: u64, node: u64, query_id: u64, all: &[&str], part: &[&str]) {
            let patch = |name: &&str| {
                let hash = Hash(*blake3::hash(name.as_bytes()).as_bytes());
                InstalledPatch { id: PatchId::new(name).unwrap(), hash }
            };
            let all: Vec<_> = all.iter().map(patch).collect();
            let page = DetailPage {
                query_id,
                installed_digest: set_digest(all.iter().map(|patch| (&patch.id, &patch.hash))),
                nodetype: NodeType::default(),
                sw_version: SwVersion::default(),
                installed: part.iter().map(patch).collect(),
            };
            self.queries.on_page(at(now), NodeId(node), &page, &self.map);
        }

        fn ends(&mut self, now: u64, node: u64) -> Knowledge {
            self.queries.on_end(at(now), NodeId(node), &mut self.hosts);
            self.hosts.get(NodeId(node)).unwrap().knowledge
        }

        fn did(&mut self) -> Vec<String> {
            let actions = core::iter::from_fn(|| self.actions.pop_front());
            let text = |action| match action {
                Action::Connect(node, _, Purpose::QueryDetailed) => format!("query {}", node.0),
                Action::Disconnect(node, Purpose::QueryDetailed) => format!("hang up on {}", node.0),
                other => panic!("no query does this: {other:?}"),
            };
            actions.map(text).collect()
        }
    }

    fn backoff(until: u64, failures: u8) -> Knowledge {
        Knowledge::Backoff { until: at(until), failures }
    }

    #[test]
    fn five_hosts_are_queried_at_once_and_the_next_when_one_has_answered() {
        let mut trace = Trace::start(7);
        assert_eq!(trace.starts(0), ["query 1", "query 2", "query 3", "query 4", "query 5"]);
        assert_eq!(trace.starts(10), [""; 0]);
        trace.page(20, 3, 1, &["A", "B"], &["A", "B"]);
        assert_eq!(trace.ends(20, 3), Knowledge::Known);
        assert_eq!(trace.queries.poll_at(), Some(at(20)));
        assert_eq!(trace.starts(20), ["query 6"]);
        assert_eq!(trace.hosts.get(NodeId(3)).unwrap().installed.len(), 2);
    }

    #[test]
    fn a_query_that_finds_no_room_among_the_actions_is_started_in_the_next_call() {
        let mut trace = Trace::start(3);
        for _ in 0..7 {
            trace.actions.push(Action::Disconnect(NodeId(9), Purpose::QueryDetailed));
        }
        assert_eq!(trace.starts(0).last().unwrap(), "query 1");
        assert_eq!(trace.queries.poll_at(), Some(at(0)));
        assert_eq!(trace.starts(0), ["query 2", "query 3"]);
        assert_eq!(trace.actions.dropped(), 0);
    }

    #[test]
    fn silence_ends_a_query_and_each_page_gives_it_more_time() {
        let mut trace = Trace::start(1);
        assert_eq!(trace.starts(0), ["query 1"]);
        trace.page(900, 1, 1, &["A", "B"], &["A"]);
        assert_eq!(trace.waits(1_899), [""; 0]);
        assert_eq!(trace.queries.poll_at(), Some(at(1_900)));
        assert_eq!(trace.waits(1_900), ["hang up on 1"]);
        assert_eq!(trace.ends(1_950, 1), backoff(2_900, 1), "too late");
    }

    #[test]
    fn each_failure_doubles_the_pause_up_to_a_minute() {
        let mut trace = Trace::start(1);
        let mut now = 0;
        for (failures, pause) in (1..).zip([1, 2, 4, 8, 16, 32, 60, 60]) {
            assert_eq!(trace.waits(now), ["query 1"]);
            trace.queries.on_failure(at(now), NodeId(1), &mut trace.hosts);
            let knowledge = trace.hosts.get(NodeId(1)).unwrap().knowledge;
            assert_eq!(knowledge, backoff(now + pause * 1_000, failures));
            assert_eq!(trace.waits(now + pause * 1_000 - 1), [""; 0]);
            now += pause * 1_000;
        }
        assert_eq!(trace.waits(now), ["query 1"]);
        trace.page(now, 1, 1, &[], &[]);
        assert_eq!(trace.ends(now, 1), Knowledge::Known, "the empty set is an answer too");
    }

    #[test]
    fn pages_of_two_snapshots_make_the_answer_void() {
        let mut trace = Trace::start(1);
        trace.starts(0);
        trace.page(10, 1, 1, &["A", "B"], &["A"]);
        trace.page(20, 1, 2, &["A", "B"], &["B"]);
        assert_eq!(trace.ends(30, 1), backoff(1_030, 1));
    }

    #[test]
    fn an_answer_with_a_missing_page_or_no_page_is_void() {
        for pages in [&[][..], &["A"], &["B"]] {
            let mut trace = Trace::start(1);
            trace.starts(0);
            for part in pages {
                trace.page(10, 1, 1, &["A", "B"], &[part]);
            }
            assert_eq!(trace.ends(30, 1), backoff(1_030, 1), "{pages:?}");
        }
    }

    #[test]
    fn an_answer_that_was_compared_with_an_older_map_is_void() {
        // A host has C and something that the map does not know.
        for (merged, is_void) in [("X", true), ("C", true), ("A", false)] {
            let mut trace = Trace::start(1);
            let has: &[&str] = if merged == "X" { &["B", "X"] } else { &["B", "C"] };
            trace.starts(0);
            trace.page(10, 1, 1, has, has);
            let changed = entry(merged).state(EntryState::Available).stamp(2, 1);
            let (crate::repo::map::Merged::Inserted(slot) | crate::repo::map::Merged::Replaced(slot)) =
                trace.map.merge(&changed).unwrap()
            else {
                panic!("{merged} did not change")
            };
            trace.queries.on_content(slot);
            let expected = if is_void { backoff(1_030, 1) } else { Knowledge::Known };
            assert_eq!(trace.ends(30, 1), expected, "{merged}");
        }
    }

    #[test]
    fn a_host_that_sends_no_digest_is_not_queried() {
        let mut trace = Trace::start(2);
        trace.hosts.get_mut(NodeId(1)).unwrap().ack.installed_digest = Digest::default();
        assert_eq!(trace.starts(0), ["query 2"]);
    }

    #[test]
    fn a_forgotten_query_makes_room() {
        let mut trace = Trace::start(6);
        trace.starts(0);
        trace.queries.forget(at(10), NodeId(2), &mut trace.actions);
        trace.hosts.remove(1);
        assert_eq!(trace.starts(10), ["hang up on 2", "query 6"]);
        trace.queries.forget(at(10), NodeId(2), &mut trace.actions);
        assert_eq!(trace.did(), [""; 0], "no query is left");
    }
}
