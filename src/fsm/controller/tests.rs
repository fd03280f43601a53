//! Traces: the controller's input at each millisecond, and every action that follows.

mod answers;
mod asks;
mod queries;
mod rollout;
mod spread;
mod topology;

use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::*;
use crate::fsm::actions::{Action, To};
use crate::fsm::reasons::InstallReason;
use crate::fsm::requests::RequestStatus;
use crate::limits;
use crate::list::reserved;
use crate::repo::digest::set_digest;
use crate::repo::entry::Entry;
use crate::repo::entry::EntryState;
use crate::repo::fixture::{self, entry, id, slot};
use crate::repo::rules::OnHosts;
use crate::repo::state::{PatchState, patch_state};
use crate::table::index_len;
use crate::types::{Digest, Hash, Hostname, NodeType, Nonce, Reason};
use crate::wire::frame::Role;
use crate::wire::frame::{DetailPage, InstalledPatch};
use crate::wire::install::{Outcome, Step};
use crate::wire::messages::{AgentState, DropHostReq, HelloAgent, RequestState};

/// An install that has not moved for so long stands still.
const STALL: Duration = Duration::from_millis(300_000);

const TIMERS: ControllerTimers = ControllerTimers {
    hello_interval: Duration::from_millis(30_000),
    probe: Duration::from_millis(3_000),
    host_lost: Duration::from_millis(100_000),
    query_timeout: Duration::from_millis(5_000),
    request: RequestTimers {
        retry: Duration::from_millis(2_000),
        give_up: Duration::from_millis(60_000),
        stall: STALL,
    },
    sync: SyncTimers {
        hello_interval: Duration::from_millis(30_000),
        probe: Duration::from_millis(3_000),
        hello_start: Duration::from_millis(1_000),
        controller_lost: Duration::from_millis(120_000),
        retry: Duration::from_millis(1_000),
    },
};

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn peer(node: u64) -> Peer {
    Peer::Ip(([10, 0, 0, u8::try_from(node).unwrap()], 7489).into())
}

/// Patches as a host has them: `A` is content as the map knows it, `A'` is not.
fn patches(ids: &[&str]) -> Vec<InstalledPatch> {
    let patch = |name: &&str| {
        let hash = Hash(*blake3::hash(name.as_bytes()).as_bytes());
        InstalledPatch { id: id(name.trim_end_matches('\'')), hash }
    };
    ids.iter().map(patch).collect()
}

fn digest_of(ids: &[&str]) -> Digest {
    set_digest(patches(ids).iter().map(|patch| (&patch.id, &patch.hash)))
}

/// The ack of an idle worker with these patches.
fn ack(ids: &[&str]) -> HelloAgentAck {
    HelloAgentAck {
        installed_digest: digest_of(ids),
        hostname: Hostname::new("host").unwrap(),
        nodetype: NodeType::new("worker").unwrap(),
        nonce: Nonce(7),
        ..HelloAgentAck::default()
    }
}

/// A controller, and what it did since it was last asked.
struct Trace {
    controller: Controller<'static>,
    random: Random,
    actions: Actions,
    /// Nodes that answer no ask in [`runs`](Self::runs).
    dead: Vec<u64>,
}

impl Trace {
    /// A controller at 0 ms with these entries and room for this many hosts, which has
    /// sent its first HelloAgent.
    fn start(entries: &[Entry], hosts: usize) -> Self {
        let index = Vec::leak(vec![0; index_len(hosts)]);
        let queries = Vec::leak(vec![None; limits::DETAILED_QUERIES]);
        let ring = Vec::leak(vec![InstallReason::default(); 4]);
        let map = fixture::map(std::boxed::Box::leak(std::boxed::Box::new(fixture::slots(8))), entries);
        let controller = Controller::new(
            at(0),
            NodeId(100),
            TIMERS,
            Tables {
                map,
                hosts: Table::new(reserved(hosts), index),
                queries,
                reasons: Reasons::new(ring),
                neighbours: Vec::leak(vec![None; 2]),
                blob_errors: Vec::leak(vec![BlobError::default(); 2]),
            },
        );
        let random = Random::new([5; 32]);
        let mut trace = Self { controller, random, actions: Actions::default(), dead: Vec::new() };
        assert_eq!(trace.waits(0), ["hello agents"]);
        trace
    }

    fn hears(&mut self, now: u64, node: u64, ack: HelloAgentAck) -> Vec<String> {
        let message = Message::HelloAgentAck(ack);
        self.controller.on_message(at(now), NodeId(node), peer(node), &message, &mut self.actions);
        self.did()
    }

    fn event(&mut self, now: u64, event: &Event<'_>) -> Vec<String> {
        self.controller.on_event(at(now), event, &mut self.actions);
        self.did()
    }

    /// A host answers a detailed query in one page.
    fn answers(&mut self, now: u64, node: u64, ids: &[&str]) -> Vec<String> {
        let page = DetailPage {
            query_id: 1,
            installed_digest: digest_of(ids),
            nodetype: NodeType::new("worker").unwrap(),
            sw_version: crate::types::SwVersion::default(),
            installed: patches(ids).into_iter().collect(),
        };
        let mut did = self.event(now, &Event::DetailPage(NodeId(node), &page));
        did.extend(self.event(now, &Event::DetailEnd(NodeId(node))));
        did
    }

    fn waits(&mut self, until: u64) -> Vec<String> {
        self.controller.on_timeout(at(until), &mut self.random, &mut self.actions);
        self.did()
    }

    fn asks(&mut self, now: u64, node: u64) -> (Result<(), AskRefusal>, Vec<String>) {
        let Self { controller, random, actions, .. } = self;
        let asked = controller.ask_install(at(now), NodeId(node), false, random, actions);
        (asked, self.did())
    }

    fn merges(&mut self, now: u64, entry: &Entry) {
        self.controller.merge(at(now), entry).unwrap();
        assert_eq!(self.did(), [""; 0]);
    }

    fn did(&mut self) -> Vec<String> {
        self.controller.invariants();
        core::iter::from_fn(|| self.actions.pop_front()).map(|action| text(&action)).collect()
    }

    fn host(&self, node: u64) -> &Host {
        self.controller.hosts().get(NodeId(node)).unwrap()
    }

    fn currency(&self, node: u64) -> Currency {
        self.controller.currency(self.host(node))
    }

    fn state(&self, text: &str) -> PatchState {
        let slot = slot(self.controller.map(), text);
        patch_state(self.controller.map().entry(slot).unwrap().state, &self.controller.spread(slot))
    }

    fn on_hosts(&self, now: u64, text: &str, despite_lost: bool) -> OnHosts {
        self.controller.on_hosts(at(now), slot(self.controller.map(), text), despite_lost)
    }
}

fn text(action: &Action) -> String {
    match action {
        Action::Send(To::Agents, Message::HelloAgent(_)) => "hello agents".to_string(),
        Action::Send(To::Controllers, Message::Hello(_)) => "hello controllers".to_string(),
        Action::StartSpread(file) => format!("send {} to all, {} for a second", file.id, file.rate),
        Action::StopSpread => "end sending".to_string(),
        Action::SettleRollout(to) if to.is_running() => "the rollout is carried on here".to_string(),
        Action::SettleRollout(to) => format!("the rollout is {:?}", to.state),
        Action::Send(To::Controllers, Message::DropHostReq(drop)) => {
            format!("all controllers: drop {}", drop.host.0)
        }
        Action::Send(To::Node(node, Peer::Tipc { .. }), Message::AgentInstallReq(_)) => {
            format!("ask {} over TIPC", node.0)
        }
        Action::Send(To::Node(node, at), Message::AgentInstallReq(request)) if *at == peer(node.0) => {
            format!("ask {} with nonce {}", node.0, request.nonce.0)
        }
        Action::Send(To::Node(node, at), Message::HelloAgent(HelloAgent { ack_window_ms: 0, .. })) => {
            assert!(*at == peer(node.0) || matches!(at, Peer::Tipc { .. }));
            format!("probe {}", node.0)
        }
        Action::Send(To::Node(node, at), Message::Hello(_)) if *at == peer(node.0) => {
            format!("probe controller {}", node.0)
        }
        Action::Send(To::Node(node, at), Message::HelloAgent(_)) if *at == peer(node.0) => {
            format!("greet {} alone", node.0)
        }
        Action::Send(To::Peer(at), Message::HelloAgent(_)) => format!("greet the agent at {at}"),
        Action::Send(To::Peer(at), Message::Hello(_)) => format!("greet the controller at {at}"),
        Action::Connect(node, Peer::Tipc { .. }, Purpose::QueryDetailed) => format!("query {}", node.0),
        Action::Connect(node, at, Purpose::QueryDetailed) if *at == peer(node.0) => {
            format!("query {}", node.0)
        }
        Action::Disconnect(node, Purpose::QueryDetailed) => format!("hang up on {}", node.0),
        other => panic!("no controller does this: {other:?}"),
    }
}

#[test]
fn a_host_is_added_by_its_first_ack_and_updated_by_each() {
    let mut trace = Trace::start(&[], 4);
    assert_eq!(trace.hears(100, 5, ack(&[])), [""; 0]);
    assert_eq!((trace.controller.hosts().len(), trace.host(5).last_heard), (1, at(100)));
    let renamed = HelloAgentAck { hostname: Hostname::new("other").unwrap(), ..ack(&[]) };
    trace.hears(200, 5, renamed.clone());
    assert_eq!((trace.controller.hosts().len(), trace.host(5).last_heard), (1, at(200)));
    assert_eq!(trace.host(5).ack, renamed);
}

#[test]
fn a_host_that_may_wait_to_hear_a_controller_is_greeted_alone() {
    let mut trace = Trace::start(&[], 4);
    let waits = HelloAgentAck { request: RequestState::Running, step: Step::Health, ..ack(&[]) };
    assert_eq!(trace.hears(100, 5, waits.clone()), ["greet 5 alone"]);
    let ended = RequestState::Ended(Outcome::Installed);
    for other in
        [HelloAgentAck { request: ended, ..waits.clone() }, HelloAgentAck { step: Step::Switching, ..waits }]
    {
        assert_eq!(trace.hears(200, 5, other), [""; 0]);
    }
}

#[test]
fn only_a_controllers_message_to_controllers_adds_a_neighbour() {
    let mut trace = Trace::start(&[], 4);
    let to_agents = Message::HelloAgent(HelloAgent { op_counter: 0, ack_window_ms: 0 });
    let of_agent = AgentInstallResp {
        request_id: RequestId(1),
        status: false,
        outcome: None,
        reject_reason: Reason::default(),
        reboot_required: false,
    };
    for message in [to_agents, Message::AgentInstallResp(of_agent), Message::HelloAgentAck(ack(&[]))] {
        trace.controller.on_message(at(100), NodeId(5), peer(5), &message, &mut trace.actions);
        assert!(trace.controller.sync().neighbours().iter().next().is_none(), "{message:?}");
    }
    let drop = Message::DropHostReq(DropHostReq { host: NodeId(9) });
    trace.controller.on_message(at(200), NodeId(6), peer(6), &drop, &mut trace.actions);
    assert!(trace.controller.sync().neighbours().get(NodeId(6)).is_some());
}

#[test]
fn a_full_table_counts_new_hosts_and_keeps_the_known_ones() {
    let mut trace = Trace::start(&[], 1);
    trace.hears(100, 5, ack(&[]));
    trace.hears(110, 6, ack(&[]));
    trace.hears(120, 6, ack(&[]));
    assert_eq!((trace.controller.hosts().len(), trace.controller.hosts_refused()), (1, 2));
    trace.controller.drop_host(at(200), NodeId(5), &mut Actions::default());
    trace.hears(300, 6, ack(&[]));
    assert_eq!(trace.host(6).node, NodeId(6));
}

#[test]
fn a_host_that_is_dropped_returns_with_its_next_ack() {
    let mut trace = Trace::start(&[entry("A")], 4);
    trace.hears(100, 5, ack(&[]));
    let Trace { controller, actions, .. } = &mut trace;
    controller.drop_host(at(200), NodeId(5), actions);
    assert_eq!(trace.did(), ["hang up on 5", "all controllers: drop 5"]);
    assert_eq!(trace.state("A"), PatchState::NotApplicable, "no host is known");
    assert_eq!(trace.hears(300, 5, ack(&[])), ["query 5"]);
}

#[test]
fn spread_counts_the_hosts_that_a_patch_concerns() {
    let mut trace = Trace::start(&[entry("A").concerning(&["controller"]), entry("B").requires(&["X"])], 4);
    trace.hears(100, 5, ack(&[]));
    let master = NodeType::new("controller").unwrap();
    trace.hears(100, 6, HelloAgentAck { nodetype: master, ..ack(&["A"]) });
    let spread = |text| trace.controller.spread(slot(trace.controller.map(), text));
    let a = spread("A");
    assert_eq!((a.hosts_known, a.hosts_concerned, a.concerned_with, a.hosts_with), (2, 1, 1, 1));
    assert!(!a.is_unknown && !a.is_blocked);
    assert!(spread("B").is_blocked);
}

#[test]
fn a_lost_host_may_have_any_patch_unless_lost_hosts_do_not_count() {
    let mut trace = Trace::start(&[entry("A").state(EntryState::Available)], 4);
    trace.hears(100, 5, ack(&[]));
    trace.hears(50_000, 6, ack(&[]));
    let host = || Hostname::new("host").unwrap();
    assert_eq!(trace.on_hosts(100_099, "A", false), OnHosts::Nowhere);
    assert_eq!(trace.on_hosts(100_100, "A", false), OnHosts::MayBeOn(host()));
    assert_eq!(trace.on_hosts(100_100, "A", true), OnHosts::Nowhere);
    assert_eq!(trace.asks(100_100, 5).0, Err(AskRefusal::Lost));
    trace.hears(100_200, 5, ack(&["A"]));
    assert_eq!(
        trace.on_hosts(100_200, "A", true),
        OnHosts::MayBeOn(host()),
        "its installed set is not known yet"
    );
    trace.answers(100_300, 5, &["A"]);
    assert_eq!(trace.on_hosts(100_300, "A", true), OnHosts::On(host()));
}

#[test]
fn a_host_that_installs_may_have_any_patch() {
    let mut trace = Trace::start(&[entry("A").state(EntryState::Available)], 4);
    trace.hears(100, 5, ack(&[]));
    let working = HelloAgentAck { state: AgentState::Installing, ..ack(&[]) };
    trace.hears(200, 5, working);
    assert!(matches!(trace.on_hosts(200, "A", true), OnHosts::MayBeOn(_)));
}

/// Its configuration was read again, for example.
#[test]
fn a_host_that_becomes_another_kind_is_current_if_it_has_what_that_should_have() {
    let mut trace = Trace::start(&[], 4);
    trace.hears(100, 5, ack(&[]));
    assert_eq!(trace.currency(5), Currency::Current);
    let other = HelloAgentAck { nodetype: NodeType::new("other").unwrap(), ..ack(&[]) };
    assert_eq!(trace.hears(200, 5, other.clone()), [""; 0], "nothing is asked");
    assert_eq!(trace.currency(5), Currency::Current);
    // There is no room for all kinds: one without is not asked at each ack.
    for kind in 0..2 * limits::NODETYPES {
        let nodetype = NodeType::new(&format!("kind-{kind}")).unwrap();
        trace.hears(300 + kind as u64, 6, HelloAgentAck { nodetype, ..ack(&[]) });
    }
    trace.answers(1_000, 6, &[]);
    let last = NodeType::new(&format!("kind-{}", 2 * limits::NODETYPES - 1)).unwrap();
    assert_eq!(trace.hears(1_001, 6, HelloAgentAck { nodetype: last, ..ack(&[]) }), [""; 0]);
}

#[test]
fn currency_follows_the_request_and_the_ack() {
    let mut trace = Trace::start(&[entry("A")], 4);
    trace.hears(100, 5, ack(&[]));
    trace.answers(100, 5, &[]);
    assert_eq!(trace.currency(5), Currency::OutOfDate);
    assert_eq!(trace.asks(200, 5), (Ok(()), vec!["ask 5 with nonce 7".to_string()]));
    assert_eq!(trace.currency(5), Currency::Pending);
    assert_eq!(trace.asks(300, 5), (Err(AskRefusal::Busy), Vec::new()));
    assert_eq!(trace.runs(2_200), ["ask 5 with nonce 7"], "again");
    trace.dead.push(5);
    let again = "ask 5 with nonce 7";
    assert_eq!(trace.runs(20_000), [again, again], "given up when it is lost");
    assert!(trace.host(5).presence.is_unanswered());
    assert_eq!(trace.currency(5), Currency::Failed, "no answer");
    trace.hears(60_300, 5, ack(&["A"]));
    assert_eq!(trace.currency(5), Currency::Current, "whatever the outcome of the request");
    trace.hears(60_400, 5, HelloAgentAck { patch_failed: true, ..ack(&["A"]) });
    assert_eq!(trace.currency(5), Currency::Failed);
    assert_eq!(trace.asks(60_500, 6).0, Err(AskRefusal::Unknown));
}

#[test]
fn an_answer_closes_the_request_of_that_host_alone() {
    let mut trace = Trace::start(&[entry("A")], 4);
    for node in [5, 6] {
        trace.hears(100, node, ack(&[]));
        assert!(trace.asks(200, node).0.is_ok());
    }
    let mut random = Random::new([5; 32]);
    let jitter_then_two = [random.next_u64(), random.next_u64(), random.next_u64()];
    let answer = Message::AgentInstallResp(AgentInstallResp {
        request_id: RequestId(jitter_then_two[1]),
        status: true,
        outcome: Some(Outcome::Installed),
        reject_reason: Reason::default(),
        reboot_required: false,
    });
    let Trace { controller, actions, .. } = &mut trace;
    controller.on_message(at(300), NodeId(6), peer(6), &answer, actions);
    assert_eq!(trace.host(6).request.status(), RequestStatus::Waiting, "it is not 6's request");
    let Trace { controller, actions, .. } = &mut trace;
    controller.on_message(at(300), NodeId(5), peer(5), &answer, actions);
    assert_eq!(trace.host(5).request.status(), RequestStatus::Ended(Outcome::Installed));
    let ended = HelloAgentAck {
        request_id: RequestId(jitter_then_two[2]),
        request: RequestState::Ended(Outcome::Installed),
        ..ack(&["A"])
    };
    trace.hears(400, 6, ended);
    assert_eq!(trace.host(6).request.status(), RequestStatus::Ended(Outcome::Installed), "by its ack");
}

#[test]
fn nothing_is_done_before_poll_at() {
    let mut trace = Trace::start(&[entry("A")], 4);
    trace.hears(100, 5, ack(&["A"]));
    assert!(trace.asks(200, 5).0.is_ok());
    let watched = 200 + TIMERS.probe.as_millis() / 2;
    let looked_at = trace.controller.poll_at();
    assert!(looked_at < Some(at(watched)), "the round's window has passed: {looked_at:?}");
    assert_eq!(trace.waits(watched - 1), [""; 0]);
    assert_eq!(trace.controller.poll_at(), Some(at(watched)));
    assert_eq!(trace.waits(watched - 1), [""; 0]);
}

#[test]
fn one_host_that_claims_ever_other_kinds_keeps_no_other_from_its_own() {
    let mut trace = Trace::start(&[entry("A")], 64);
    let of_kind = |kind: &str| HelloAgentAck { nodetype: NodeType::new(kind).unwrap(), ..ack(&[]) };
    for number in 0..100 {
        trace.hears(number, 5, of_kind(&format!("invented-{number}")));
    }
    for (host, kind) in [(6, "worker"), (7, "storage")] {
        trace.hears(200, host, of_kind(kind));
        assert!(trace.controller.wanted_digest(trace.host(host)).is_some(), "{kind}");
    }
    assert!(trace.controller.kinds().iter().count() <= limits::NODETYPES);
    // Kinds of hosts that are there are not given up, of lost ones they are.
    for host in 10..50 {
        trace.hears(300, host, of_kind(&format!("kind-{host}")));
    }
    for (host, kind) in [(6, "worker"), (7, "storage")] {
        assert!(trace.controller.wanted_digest(trace.host(host)).is_some(), "{kind}");
    }
    let later = 300 + TIMERS.host_lost.as_millis();
    trace.hears(later, 8, of_kind("compute"));
    assert!(trace.controller.wanted_digest(trace.host(8)).is_some());
}
