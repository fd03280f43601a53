//! TIPC, in half of the runs: each start of a daemon has another address, links are lost
//! together with the sockets behind them, and the topology service reports to each
//! controller which sockets are bound.
//!
//! After each change, a controller gets reports of the difference between the sockets
//! bound on a node and those reported before, if the link is up. A short cut of the link
//! delays the reports; a cut longer than the tolerance withdraws all that was reported.
//! Reports of one node keep their order. The loop's rule holds as well: a datagram sent
//! before a withdrawal is handled before the withdrawal, or never.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thimble::fsm::actions::Peer;
use thimble::fsm::controller::Controller;
use thimble::fsm::event::Event as NodeEvent;
use thimble::fsm::presence::Presence;
use thimble::fsm::topology::PeerEvent;
use thimble::time::Instant;
use thimble::types::NodeId;
use thimble::wire::frame::Role;

use crate::machine::peer;
use crate::world::{Event, World};

/// How long a cut may last before the link is lost.
pub const TOLERANCE_MS: u64 = 1_500;
/// The longest delay of a report.
pub const REPORT_DELAY_MOST_MS: u64 = 20;

/// A bound socket: its machine, and its port there.
type Socket = (usize, u32);

const fn socket(machine: usize, start: u32, role: Role) -> Socket {
    (machine, 2 * start + role as u32)
}

fn role_of(socket: Socket) -> Role {
    if socket.1.is_multiple_of(2) { Role::Controller } else { Role::Agent }
}

fn peer_of((machine, port): Socket) -> Peer {
    Peer::Tipc { node: u32::try_from(machine).expect("a few machines"), port }
}

fn socket_of(peer: Peer) -> Option<Socket> {
    match peer {
        Peer::Tipc { node, port } => Some((node as usize, port)),
        Peer::Ip(_) => None,
    }
}

/// Links and topology services.
#[derive(Default)]
pub struct Topology {
    /// By both ends, the lower first.
    links: BTreeMap<(usize, usize), Link>,
    /// Machines without power.
    dark: BTreeSet<usize>,
    /// By the machine of the controller that gets the reports.
    watches: BTreeMap<usize, Watch>,
}

#[derive(Clone, Copy, Default)]
struct Link {
    cut_since: Option<u64>,
    is_lost: bool,
}

/// The reports to one start of a controller.
#[derive(Default)]
struct Watch {
    /// Since when.
    since: u64,
    /// The service is lost.
    is_away: bool,
    /// Nodes and sockets that it knows once all reports have arrived.
    nodes: BTreeSet<usize>,
    reported: BTreeSet<Socket>,
    /// Reports under way, each with the time of what it reports.
    reports: VecDeque<(u64, PeerEvent)>,
    /// All was reported, and there was no gap since.
    is_settled: bool,
    /// When the last gap was reported, and when all was reported again.
    gap_at: u64,
    settled_at: u64,
    /// Datagrams sent before these times have been handled, or never will be: by socket,
    /// by machine, and for all sockets that were not bound then.
    ended: BTreeMap<Socket, u64>,
    lost: BTreeMap<usize, u64>,
    settled: Option<(u64, BTreeSet<Socket>)>,
    /// How many greetings the last report allows.
    greetings_most: u32,
}

/// A node that a controller knows, as a host or as a neighbour.
struct Known {
    role: Role,
    node: NodeId,
    peer: Peer,
    heard: Instant,
    presence: Presence,
}

fn presences(controller: &Controller<'static>) -> impl Iterator<Item = Known> {
    let hosts = controller.hosts().iter().map(|host| Known {
        role: Role::Agent,
        node: host.node,
        peer: host.peer,
        heard: host.last_heard,
        presence: host.presence,
    });
    let neighbours = controller.sync().neighbours().iter().filter_map(|one| {
        let (peer, heard) = one.heard?;
        Some(Known { role: Role::Controller, node: one.node, peer, heard, presence: one.presence })
    });
    hosts.chain(neighbours)
}

impl Topology {
    fn link(&self, one: usize, other: usize) -> Link {
        self.links.get(&(one.min(other), one.max(other))).copied().unwrap_or_default()
    }
}

impl Watch {
    fn push(&mut self, now: u64, event: PeerEvent) {
        self.reports.push_back((now, event));
    }

    /// Applies a report that has arrived.
    fn take_in(&mut self, now: u64, at: u64, event: PeerEvent) {
        match event {
            PeerEvent::Published(..) => {}
            PeerEvent::Withdrawn(_, peer) => {
                self.ended.extend(socket_of(peer).map(|socket| (socket, at)));
            }
            PeerEvent::NodeLost(node) => {
                self.lost.insert(node as usize, at);
            }
            PeerEvent::Gap => (self.is_settled, self.gap_at) = (false, now),
            PeerEvent::Settled => {
                (self.is_settled, self.settled_at) = (true, now);
                // The next gap begins with no reports under way.
                self.settled = Some((at, self.reported.clone()));
            }
        }
    }

    /// Whether a datagram that a socket sent at `sent` can still be handled.
    fn hears(&self, from: Socket, sent: u64) -> bool {
        let is_after = |at: Option<&u64>| at.is_none_or(|at| sent > *at);
        let was_bound = |(at, bound): &(u64, BTreeSet<Socket>)| sent > *at || bound.contains(&from);
        is_after(self.ended.get(&from))
            && is_after(self.lost.get(&from.0))
            && self.settled.as_ref().is_none_or(was_bound)
    }
}

impl World {
    /// The address that a machine's daemon sends from in a role.
    pub fn peer_of(&self, machine: usize, role: Role) -> Peer {
        match self.topology {
            Some(_) => peer_of(socket(machine, self.machines[machine].starts, role)),
            None => peer(machine),
        }
    }

    /// An address of a machine to which no socket is bound.
    pub fn stray_peer(&self, machine: usize) -> Peer {
        if self.topology.is_some() { peer_of((machine, 0)) } else { peer(machine) }
    }

    /// Whether the socket that a datagram was sent to is bound on a machine.
    pub fn is_bound(&self, machine: usize, to: Peer) -> bool {
        let Some(at) = socket_of(to) else { return true };
        self.bound(machine).contains(&at)
    }

    /// Whether a link is lost: nothing passes it.
    pub fn is_link_lost(&self, one: usize, other: usize) -> bool {
        self.topology.as_ref().is_some_and(|topology| topology.link(one, other).is_lost)
    }

    /// Whether a machine still handles a datagram sent at `sent`, by the loop's rule.
    pub fn hears(&self, machine: usize, from: Peer, sent: u64) -> bool {
        let watch = self.topology.as_ref().and_then(|topology| topology.watches.get(&machine));
        watch.zip(socket_of(from)).is_none_or(|(watch, from)| watch.hears(from, sent))
    }

    /// The sockets that are bound on a machine.
    fn bound(&self, machine: usize) -> BTreeSet<Socket> {
        let here = &self.machines[machine];
        let roles = [Role::Controller, Role::Agent].into_iter().filter(|role| here.roles.has(*role));
        let roles = roles.filter(|_| here.process.is_some());
        roles.map(|role| socket(machine, here.starts, role)).collect()
    }

    /// A daemon's sockets are bound; if its machine was without power, its links start again.
    pub fn on_bound(&mut self, machine: usize) {
        let is_controller = self.machines[machine].roles.is_controller;
        let Some(topology) = &mut self.topology else { return };
        if topology.dark.contains(&machine) {
            for (ends, link) in &mut topology.links {
                link.is_lost |= (ends.0 == machine || ends.1 == machine) && link.cut_since.is_some();
            }
            self.review();
        }
        let Some(topology) = &mut self.topology else { return };
        topology.dark.remove(&machine);
        if is_controller {
            let watch = Watch { since: self.now, gap_at: self.now, ..Watch::default() };
            topology.watches.insert(machine, watch);
        }
        self.review();
        self.settle_topology(machine);
    }

    /// A daemon's sockets are no longer bound, and its machine may be without power.
    pub fn on_unbound(&mut self, machine: usize, with_power: bool) {
        let Some(topology) = &mut self.topology else { return };
        topology.watches.remove(&machine);
        if with_power {
            topology.dark.insert(machine);
        }
        self.review();
    }

    /// A controller loses its topology service for a while.
    pub fn lose_topology(&mut self, machine: usize, back: u64) {
        let (now, start) = (self.now, self.machines[machine].starts);
        let watch = self.topology.as_mut().and_then(|topology| topology.watches.get_mut(&machine));
        let Some(watch) = watch.filter(|watch| !watch.is_away) else { return };
        watch.is_away = true;
        watch.reports.clear();
        watch.reported.clear();
        watch.nodes.clear();
        watch.push(now, PeerEvent::Gap);
        self.note(format_args!("{machine} loses its topology service for {back}"));
        self.schedule_reports(machine, 1);
        self.schedule(back, Event::TopologyBack { machine, start });
    }

    pub fn on_topology_back(&mut self, machine: usize) {
        let Some(topology) = &mut self.topology else { return };
        if let Some(watch) = topology.watches.get_mut(&machine) {
            watch.is_away = false;
        }
        self.review();
        self.settle_topology(machine);
    }

    /// Whether a controller's topology service was lost since its start.
    pub fn has_had_gap(&self, machine: usize) -> bool {
        let watch = self.topology.as_ref().and_then(|topology| topology.watches.get(&machine));
        watch.is_some_and(|watch| watch.gap_at != watch.since)
    }

    /// All bound sockets have been reported.
    fn settle_topology(&mut self, machine: usize) {
        let Some(topology) = &mut self.topology else { return };
        if let Some(watch) = topology.watches.get_mut(&machine) {
            watch.push(self.now, PeerEvent::Settled);
            self.schedule_reports(machine, 1);
        }
    }

    /// After a change: updates the links, then sends the reports.
    pub fn review(&mut self) {
        let Some(mut topology) = self.topology.take() else { return };
        for other in 0..self.machines.len() {
            for one in 0..other {
                self.review_link(&mut topology, one, other);
            }
        }
        let mut watches = std::mem::take(&mut topology.watches);
        for (machine, watch) in watches.iter_mut().filter(|(_, watch)| !watch.is_away) {
            for other in (0..self.machines.len()).filter(|other| other != machine) {
                self.review_node(&topology, *machine, watch, other);
            }
        }
        topology.watches = watches;
        self.topology = Some(topology);
    }

    fn review_link(&mut self, topology: &mut Topology, one: usize, other: usize) {
        let is_dark = topology.dark.contains(&one) || topology.dark.contains(&other);
        let is_cut = is_dark || self.network.is_apart(self.now, one, other);
        let link = topology.links.entry((one, other)).or_default();
        match link.cut_since {
            _ if !is_cut => *link = Link::default(),
            None => {
                link.cut_since = Some(self.now);
                self.schedule(TOLERANCE_MS, Event::Links);
            }
            Some(since) => link.is_lost |= self.now >= since + TOLERANCE_MS,
        }
    }

    /// Reports to one controller what has changed on one node, as far as it can know.
    fn review_node(&mut self, topology: &Topology, machine: usize, watch: &mut Watch, other: usize) {
        let is_lost = topology.link(machine, other).is_lost;
        let is_silent = topology.dark.contains(&other) || self.network.is_cut(self.now, other, machine);
        if is_silent && !is_lost {
            return;
        }
        let bound = if is_lost { BTreeSet::new() } else { self.bound(other) };
        let held = watch.reported.range((other, 0)..=(other, u32::MAX));
        let gone: Vec<Socket> = held.filter(|socket| !bound.contains(socket)).copied().collect();
        let new: Vec<Socket> = bound.difference(&watch.reported).copied().collect();
        let withdrawn = gone.iter().map(|socket| PeerEvent::Withdrawn(role_of(*socket), peer_of(*socket)));
        let published = new.iter().map(|socket| PeerEvent::Published(role_of(*socket), peer_of(*socket)));
        let mut reports: Vec<PeerEvent> = withdrawn.chain(published).collect();
        if !is_lost {
            watch.nodes.insert(other);
        } else if watch.nodes.remove(&other) {
            let at = self.dice.index(reports.len() + 1);
            reports.insert(at, PeerEvent::NodeLost(u32::try_from(other).expect("a few machines")));
        }
        watch.reported.retain(|socket| !gone.contains(socket));
        watch.reported.extend(new);
        self.schedule_reports(machine, reports.len());
        reports.into_iter().for_each(|event| watch.push(self.now, event));
    }

    fn schedule_reports(&mut self, machine: usize, count: usize) {
        let start = self.machines[machine].starts;
        for _ in 0..count {
            let delay = self.dice.between(0, REPORT_DELAY_MOST_MS);
            self.schedule(delay, Event::TopologyReport { machine, start });
        }
    }

    /// A report arrives. A peer that is known to be up is not greeted again.
    pub fn on_topology_report(&mut self, machine: usize) {
        let watch = self.topology.as_mut().and_then(|topology| topology.watches.get_mut(&machine));
        let Some(watch) = watch else { return };
        // A report that a gap overtakes is lost.
        let Some((at, event)) = watch.reports.pop_front() else { return };
        watch.take_in(self.now, at, event);
        watch.greetings_most = 0;
        if let PeerEvent::Published(role, peer) = event {
            let controller = self.machines[machine].controller().expect("it gets reports");
            let is_known = presences(controller)
                .any(|one| (one.role, one.peer) == (role, peer) && !one.presence.is_gone());
            watch.greetings_most = u32::from(!is_known);
        }
        self.note(format_args!("{machine} gets the report {event:?}"));
        self.touch(machine, |process, now| {
            process.node.on_event(now, &NodeEvent::Topology(event), &mut process.actions);
        });
    }

    pub fn on_greeting(&mut self, machine: usize) {
        let topology = self.topology.as_mut().expect("unknown peers are greeted over TIPC only");
        let watch = topology.watches.get_mut(&machine).expect("a peer was reported");
        let left = watch.greetings_most.checked_sub(1);
        watch.greetings_most = left.expect("only a peer that is new or was gone is greeted");
    }

    /// A peer that was just heard is not gone.
    pub fn check_heard(&self, machine: usize, role: Role, node: NodeId, from: Peer) {
        let Some(controller) = self.machines[machine].controller() else { return };
        let is_it = |one: &Known| (one.role, one.node, one.peer) == (role, node, from);
        let gone = presences(controller).filter(is_it).find(|one| one.presence.is_gone());
        assert!(gone.is_none(), "{machine} hears a peer that it holds for gone");
    }

    /// After all reports, a controller knows exactly which sockets are bound.
    pub fn check_presence(&self, machine: usize) {
        let watch = self.topology.as_ref().and_then(|topology| topology.watches.get(&machine));
        let Some((watch, controller)) = watch.zip(self.machines[machine].controller()) else { return };
        if watch.is_away || !watch.is_settled || !watch.reports.is_empty() {
            return;
        }
        for Known { role, node, peer, heard, presence } in presences(controller) {
            let other = self.index(node);
            let at = socket_of(peer).expect("over TIPC");
            if other == machine {
                assert_eq!(presence, Presence::Unwatched, "nothing was reported to {machine} of itself");
            } else if watch.reported.contains(&at) {
                // One that is bound may be unanswered: no datagram of it has passed for a while.
                let is_gone = presence.is_reported_gone();
                assert!(!is_gone, "{machine} holds {role:?} {other} for gone, and it is up");
            } else {
                // A node that came and went during a gap is left to the timers.
                let gap = Instant::from_millis(watch.gap_at)..=Instant::from_millis(watch.settled_at);
                let is_missed = presence == Presence::Unwatched && gap.contains(&heard);
                assert!(is_missed || presence.is_gone(), "{machine}: {role:?} {other} is {presence:?}");
            }
        }
        for unheard in controller.unheard_peers() {
            let at = socket_of(unheard.peer).expect("over TIPC");
            assert!(watch.reported.contains(&at) && role_of(at) == unheard.role, "{machine}: {unheard:?}");
        }
    }
}
