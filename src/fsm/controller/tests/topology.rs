//! Traces of a controller with reports of the topology service.

use super::*;
use crate::fsm::presence::Presence;
use crate::fsm::topology::PeerEvent;
use crate::repo::rollout::Rollout;
use crate::wire::messages::{Hello, SpreadReport};

fn tipc(node: u32) -> Peer {
    Peer::Tipc { node, port: 1_000 + node }
}

impl Trace {
    fn reports(&mut self, now: u64, event: PeerEvent) -> Vec<String> {
        self.event(now, &Event::Topology(event))
    }

    /// An ack of the host `node` arrives from its TIPC node.
    fn hears_at(&mut self, now: u64, node: u32, ack: HelloAgentAck) -> Vec<String> {
        let (from, message) = (NodeId(node.into()), Message::HelloAgentAck(ack));
        self.controller.on_message(at(now), from, tipc(node), &message, &mut self.actions);
        self.did()
    }

    /// A Hello of the controller `node` arrives.
    fn hears_hello(&mut self, now: u64, node: u32) {
        let message = Message::Hello(Hello { op_counter: 0, digest: Digest::default() });
        let from = NodeId(node.into());
        self.controller.on_message(at(now), from, tipc(node), &message, &mut self.actions);
        while self.actions.pop_front().is_some() {}
    }

    fn strangers(&self) -> Vec<Peer> {
        self.controller.unheard_peers().map(|one| one.peer).collect()
    }

    fn is_lost(&self, now: u64, node: u64) -> bool {
        self.host(node).is_lost(at(now), TIMERS.host_lost)
    }

    fn present(&self, now: u64) -> usize {
        self.controller.sync().neighbours().present(at(now)).count()
    }
}

#[test]
fn a_bound_host_is_greeted_at_once_and_known_with_its_first_ack() {
    let mut trace = Trace::start(&[], 4);
    assert_eq!(
        trace.reports(10, PeerEvent::Published(Role::Agent, tipc(5))),
        ["greet the agent at 00000005"]
    );
    assert_eq!((trace.strangers(), trace.controller.hosts().len()), (vec![tipc(5)], 0));
    trace.hears_at(30, 5, ack(&[]));
    assert_eq!((trace.strangers(), trace.controller.hosts().len()), (vec![], 1));
    assert_eq!(trace.host(5).presence, Presence::Bound);
    assert_eq!(trace.reports(40, PeerEvent::Published(Role::Agent, tipc(5))), [""; 0], "it is known");
}

#[test]
fn a_withdrawn_host_is_lost_at_once_and_back_with_its_next_ack() {
    let mut trace = Trace::start(&[], 4);
    trace.hears_at(10, 5, ack(&[]));
    trace.hears_at(10, 6, ack(&[]));
    trace.reports(20, PeerEvent::Withdrawn(Role::Agent, tipc(5)));
    assert!(trace.is_lost(20, 5) && !trace.is_lost(20, 6));
    assert_eq!(trace.host(5).presence, Presence::Ended);
    assert_eq!(trace.asks(25, 5).0, Err(AskRefusal::Lost));
    // It restarts with another socket; the old socket's withdrawal may be reported late.
    let again = Peer::Tipc { node: 5, port: 7 };
    assert_eq!(trace.reports(30, PeerEvent::Published(Role::Agent, again)), ["greet the agent at 00000005"]);
    assert!(trace.is_lost(35, 5), "it was not heard since");
    let message = Message::HelloAgentAck(ack(&[]));
    trace.controller.on_message(at(40), NodeId(5), again, &message, &mut trace.actions);
    trace.reports(50, PeerEvent::Withdrawn(Role::Agent, tipc(5)));
    assert!(!trace.is_lost(60, 5));
    assert_eq!(trace.host(5).presence, Presence::Bound);
}

/// An answer to an offer says that a known host is up. One that is not known stays to be heard: its ack makes it so.
#[test]
fn an_answer_to_an_offer_says_that_a_host_is_up() {
    let mut trace = Trace::start(&[], 4);
    let answers = |trace: &mut Trace, now: u64, node: u32| {
        let missing = heapless::Vec::new();
        let report = SpreadReport { transmission: 1, section: 0, round: 1, is_out: false, other: 0, missing };
        let (from, message) = (NodeId(node.into()), Message::SpreadReport(report));
        trace.controller.on_message(at(now), from, tipc(node), &message, &mut trace.actions);
    };
    trace.hears_at(10, 5, ack(&[]));
    trace.reports(20, PeerEvent::Withdrawn(Role::Agent, tipc(5)));
    assert!(trace.is_lost(20, 5));
    answers(&mut trace, 30, 5);
    assert!(!trace.is_lost(30, 5));
    trace.reports(40, PeerEvent::Published(Role::Agent, tipc(6)));
    answers(&mut trace, 50, 6);
    assert_eq!(trace.strangers(), [tipc(6)]);
    trace.hears_at(60, 6, ack(&[]));
    assert_eq!(trace.host(6).presence, Presence::Bound);
}

#[test]
fn a_lost_node_takes_its_host_and_its_controller_with_it_and_both_return() {
    let mut trace = Trace::start(&[], 4);
    trace.controller.sync_mut().on_loaded(at(0));
    while trace.actions.pop_front().is_some() {}
    trace.hears_at(10, 5, ack(&[]));
    trace.hears_hello(10, 5);
    assert_eq!(trace.present(20), 1);
    trace.reports(20, PeerEvent::NodeLost(5));
    assert_eq!((trace.is_lost(20, 5), trace.present(20)), (true, 0));
    assert_eq!(trace.host(5).presence, Presence::OutOfReach);
    for role in [Role::Agent, Role::Controller] {
        assert_eq!(trace.reports(30, PeerEvent::Published(role, tipc(5))).len(), 1, "it is greeted");
    }
    assert_eq!((trace.is_lost(30, 5), trace.present(30)), (false, 1));
}

#[test]
fn a_controller_is_greeted_once_the_map_is_read() {
    let mut trace = Trace::start(&[], 4);
    assert_eq!(trace.reports(10, PeerEvent::Published(Role::Controller, tipc(9))), [""; 0]);
    trace.controller.sync_mut().on_loaded(at(20));
    assert_eq!(
        trace.reports(30, PeerEvent::Published(Role::Controller, tipc(8))),
        ["greet the controller at 00000008"]
    );
}

#[test]
fn a_peer_that_ended_during_a_gap_is_lost_once_the_service_is_settled() {
    let mut trace = Trace::start(&[], 8);
    for node in [5, 6, 7] {
        trace.reports(10, PeerEvent::Published(Role::Agent, tipc(node)));
        trace.hears_at(20, node, ack(&[]));
    }
    // A dropped host must be reported again like all others.
    trace.controller.drop_host(at(25), NodeId(7), &mut Actions::default());
    trace.hears_at(28, 7, ack(&[]));
    // A host that was never reported must be reported now, or it is gone.
    trace.hears_at(20, 8, ack(&[]));
    // A controller's own agent is never reported.
    let own = u32::try_from(trace.controller.node().0).unwrap();
    trace.hears_at(20, own, ack(&[]));
    trace.reports(25, PeerEvent::Published(Role::Agent, tipc(10)));
    trace.reports(30, PeerEvent::Gap);
    assert_eq!(trace.strangers(), [], "every peer that is up is reported again");
    assert!([5, 6, 7, 8].iter().all(|node| !trace.is_lost(30, *node)), "no loss is known");
    trace.reports(40, PeerEvent::Published(Role::Agent, tipc(5)));
    trace.hears_at(45, 6, ack(&[]));
    trace.reports(50, PeerEvent::Published(Role::Agent, tipc(6)));
    // A host that appears before `Settled` is left to the timers until it is reported.
    trace.hears_at(55, 9, ack(&[]));
    trace.reports(60, PeerEvent::Settled);
    let lost: Vec<u64> =
        [own.into(), 5, 6, 7, 8, 9].into_iter().filter(|node| trace.is_lost(60, *node)).collect();
    assert_eq!(lost, [7, 8]);
}

#[test]
fn an_install_on_a_host_that_is_gone_is_given_up_soon_unless_it_comes_back() {
    let failed = RequestState::Ended(Outcome::RolledBack);
    let ways = [RequestState::Running, failed].map(|state| [(state, false), (state, true)]);
    for (state, comes_back) in ways.into_iter().flatten() {
        let mut trace = Trace::start(&[entry("A")], 4);
        trace.hears_at(10, 5, ack(&[]));
        trace.controller.queries.forget(at(10), NodeId(5), &mut trace.actions);
        while trace.actions.pop_front().is_some() {}
        let Trace { controller, random, actions, .. } = &mut trace;
        controller.ask_install(at(100), NodeId(5), false, random, actions).unwrap();
        while trace.actions.pop_front().is_some() {}
        let request_id = trace.host(5).request.request_id().unwrap();
        let running = HelloAgentAck { request_id, request: state, ..ack(&[]) };
        trace.hears_at(200, 5, running.clone());
        trace.reports(1_000, PeerEvent::NodeLost(5));
        if comes_back {
            trace.hears_at(5_000, 5, running);
        }
        // Five retries of 2 s.
        let status = |trace: &mut Trace, now| {
            trace.controller.on_timeout(at(now), &mut trace.random, &mut trace.actions);
            while trace.actions.pop_front().is_some() {}
            trace.host(5).request.status()
        };
        assert_eq!(status(&mut trace, 10_999), RequestStatus::Running);
        let expected = match state {
            _ if comes_back => RequestStatus::Running,
            RequestState::Running => RequestStatus::NoAnswer,
            // It has not sent the reason.
            _ => RequestStatus::Ended(Outcome::RolledBack),
        };
        assert_eq!(status(&mut trace, 11_000), expected);
    }
}

#[test]
fn a_gone_host_counts_as_at_work_until_it_is_given_up_and_one_still_to_be_asked_as_lost() {
    let mut trace = Trace::start(&[entry("A")], 4);
    for node in [5, 6] {
        trace.hears_at(10, node, ack(&[]));
    }
    let rollout = Rollout { id: 77, parallel: 1, stop_after: 1, ..rollout::running() };
    let request_id = rollout.request_id(NodeId(5));
    let ask = Ask { request_id, digest: digest_of(&["A"]), force: false };
    let Controller { hosts, timers, .. } = &mut trace.controller;
    let host = hosts.get_mut(NodeId(5)).unwrap();
    let target = host.target();
    assert!(host.request.ask(at(100), &timers.request, target, ask, &mut trace.actions));
    for node in [5, 6] {
        trace.controller.on_event(
            at(1_000),
            &Event::Topology(PeerEvent::Withdrawn(Role::Agent, tipc(node))),
            &mut trace.actions,
        );
    }
    while trace.actions.pop_front().is_some() {}
    let census = trace.controller.census(at(1_100), &rollout);
    assert_eq!((census.at_work, census.lost, census.no_answer), (1, 1, 0), "it may be restarting");
    trace.controller.on_timeout(at(11_000), &mut trace.random, &mut trace.actions);
    let census = trace.controller.census(at(11_000), &rollout);
    assert_eq!((census.at_work, census.lost, census.no_answer), (0, 1, 1));
    assert!(census.has_too_many_failures(&rollout));
}

#[test]
fn a_peer_that_binds_and_unbinds_without_end_is_greeted_a_bounded_number_of_times() {
    let mut trace = Trace::start(&[], 4);
    let greeted = |trace: &mut Trace, now: u64| {
        let mut greeted = 0;
        for _ in 0..1_000 {
            greeted += trace.reports(now, PeerEvent::Published(Role::Agent, tipc(5))).len();
            trace.reports(now, PeerEvent::Withdrawn(Role::Agent, tipc(5)));
        }
        greeted
    };
    let most = 4 + limits::UNHEARD_PEERS;
    assert_eq!(greeted(&mut trace, 10), most);
    assert_eq!(greeted(&mut trace, 29_000), 0);
    assert_eq!(trace.waits(33_000), ["hello agents"]);
    assert_eq!(greeted(&mut trace, 33_000), most, "a round later");
}

#[test]
fn a_rollout_waits_for_a_gone_host_as_long_as_for_an_answer() {
    let mut trace = Trace::start(&[entry("A")], 4);
    trace.controller.on_loaded(at(0));
    trace.runs(69_000);
    trace.hears_at(69_000, 5, ack(&[]));
    trace.answers(69_000, 5, &[]);
    trace.dead.push(5);
    trace.reports(69_500, PeerEvent::NodeLost(5));
    trace.controller.merge_rollout(at(70_000), &rollout::running());
    // From its last ack: a round of 30 s, and the 60 s of a request.
    assert_eq!(trace.runs(158_000), [""; 0]);
    assert_eq!(trace.runs(160_000).first().unwrap(), "the rollout is Ended");
}
