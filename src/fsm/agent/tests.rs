//! Traces: the agent's input at each millisecond, and every action that follows.

mod pings;
mod proof;
mod recovery;
mod spread;

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;
use crate::fsm::event::WorkerEnd;
use crate::limits;
use crate::repo::digest::set_digest;
use crate::types::{Digest, Hash, RequestId};
use crate::wire::frame::InstalledPatch;
use crate::wire::messages::{AgentState, HelloAgent, RequestState};

const CONTROLLER: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn peer(node: NodeId) -> Peer {
    Peer::Ip(([10, 0, 0, node.0 as u8], 7488).into())
}

fn patches(ids: &[&str]) -> Vec<InstalledPatch> {
    let patch = |id: &&str| InstalledPatch {
        id: crate::types::Name::new(id).unwrap(),
        hash: Hash(*blake3::hash(id.as_bytes()).as_bytes()),
    };
    ids.iter().map(patch).collect()
}

fn digest_of(ids: &[&str]) -> Digest {
    set_digest(patches(ids).iter().map(|patch| (&patch.id, &patch.hash)))
}

fn journal(request: u64, outcome: Outcome) -> LastInstall {
    let reason = if outcome == Outcome::Installed { "" } else { "a script failed" };
    LastInstall {
        request_id: RequestId(request),
        outcome,
        reason: Reason::truncated(reason),
        reboot_required: false,
    }
}

/// An agent, and what it did since it was last asked.
struct Trace {
    agent: Agent<'static>,
    random: Random,
    actions: Actions,
}

impl Trace {
    /// An agent that has just started, with its random numbers from this seed.
    fn start(seed: u8) -> Self {
        let mut random = Random::new([seed; 32]);
        let buffer = || std::boxed::Box::leak(std::boxed::Box::new(Vec::with_capacity(64)));
        let facts = AgentFacts {
            node: NodeId(0xA),
            hostname: Hostname::new("w-1").unwrap(),
            nodetype: NodeType::new("worker").unwrap(),
            sw_version: SwVersion::new("1.0").unwrap(),
            rejection_shown: Duration::from_millis(60_000),
            hello_interval: Duration::from_millis(160),
        };
        let agent = Agent::new(at(0), facts, Installed::new(buffer(), buffer()), &mut random);
        Self { agent, random, actions: Actions::default() }
    }

    /// An agent at 1,000 ms that has recovered, has nothing installed, has sent its
    /// ack, and was never asked to install.
    fn idle() -> Self {
        Self::idle_with(3)
    }

    fn idle_with(seed: u8) -> Self {
        let mut trace = Self::start(seed);
        assert_eq!(trace.waits(0), ["recover"]);
        assert_eq!(trace.snapshot(500, &[], None), [""; 0]);
        assert_eq!(trace.ends(500, WorkerEnd::Done), ["ack idle"]);
        assert_eq!(trace.waits(1_000), [""; 0]);
        trace
    }

    /// As [`idle`](Self::idle), and since 1,000 ms request 7 is installing.
    fn installing() -> Self {
        let mut trace = Self::idle();
        let took = trace.asked(1_000, CONTROLLER, 7, trace.agent.nonce);
        assert_eq!(took, ["connect to 1", "ack installing checking 0 %, 7 running"]);
        assert_eq!(trace.event(1_000, &Event::SessionReady(CONTROLLER, Purpose::Fetch)), ["install 7"]);
        trace
    }

    fn message(&mut self, now: u64, from: NodeId, message: Message, is_forgeable: bool) -> Vec<String> {
        let Self { agent, random, actions } = self;
        let received = ReceivedDatagram { sender: from, key_slot: 0, message, is_forgeable };
        agent.on_message(at(now), peer(from), &received, random, actions);
        self.did()
    }

    /// A hello to all agents.
    fn hello(&mut self, now: u64, from: NodeId, ack_window_ms: u32) -> Vec<String> {
        self.message(now, from, Message::HelloAgent(HelloAgent { op_counter: 1, ack_window_ms }), true)
    }

    /// A hello to this agent alone, with its key.
    fn own_hello(&mut self, now: u64, from: NodeId) -> Vec<String> {
        let hello = HelloAgent { op_counter: 1, ack_window_ms: 20 };
        self.message(now, from, Message::HelloAgent(hello), false)
    }

    /// A hello to this agent alone that wants an answer at once.
    fn is_probed(&mut self, now: u64, from: NodeId) -> Vec<String> {
        self.message(now, from, Message::HelloAgent(HelloAgent { op_counter: 1, ack_window_ms: 0 }), false)
    }

    fn asked(&mut self, now: u64, from: NodeId, request: u64, nonce: Nonce) -> Vec<String> {
        let (request_id, digest) = (RequestId(request), digest_of(&["A"]));
        let request = AgentInstallReq { request_id, nonce, digest, force: false };
        self.message(now, from, Message::AgentInstallReq(request), false)
    }

    fn event(&mut self, now: u64, event: &Event<'_>) -> Vec<String> {
        let Self { agent, random, actions } = self;
        agent.on_event(at(now), event, random, actions);
        self.did()
    }

    /// The worker reports a whole snapshot.
    fn snapshot(&mut self, now: u64, ids: &[&str], last: Option<&LastInstall>) -> Vec<String> {
        let mut did = Vec::new();
        for patch in &patches(ids) {
            did.extend(self.event(now, &Event::Installed(patch)));
        }
        did.extend(self.event(now, &Event::InstalledEnd(digest_of(ids), last)));
        did
    }

    fn ends(&mut self, now: u64, end: WorkerEnd<'_>) -> Vec<String> {
        self.event(now, &Event::WorkerEnded(end))
    }

    fn crashes(&mut self, now: u64) -> Vec<String> {
        self.ends(now, WorkerEnd::Crashed(&Reason::truncated("killed")))
    }

    /// The end of an install at this time is said twice more.
    fn says_again(&mut self, ended: u64, ack: &str) {
        assert_eq!(self.waits(ended + 400), [ack]);
        assert_eq!(self.waits(ended + 2_000), [ack]);
    }

    fn waits(&mut self, until: u64) -> Vec<String> {
        self.agent.on_timeout(at(until), &mut self.actions);
        self.did()
    }

    /// What it did, as text; checks the invariants.
    fn did(&mut self) -> Vec<String> {
        self.agent.invariants();
        core::iter::from_fn(|| self.actions.pop_front()).map(|action| text(&action)).collect()
    }
}

fn text(action: &Action) -> String {
    match action {
        Action::Send(To::Controllers, Message::HelloAgentAck(ack)) => {
            let mut text = format!("ack {}", ack.state.as_str());
            if ack.state == AgentState::Installing {
                text += &format!(" {} {} %", ack.step.as_str(), ack.progress);
            }
            match ack.request {
                RequestState::None => text,
                RequestState::Running => format!("{text}, {} running", ack.request_id.0),
                RequestState::Ended(outcome) => format!("{text}, {} {}", ack.request_id.0, word(outcome)),
            }
        }
        Action::Send(To::Node(to, at), Message::HelloAgentAck(ack))
            if ack.state != AgentState::Installing =>
        {
            assert_eq!(*at, peer(*to), "answered where it was asked");
            format!("ack to {} alone", to.0)
        }
        Action::Send(To::Controllers, Message::Pong(pong)) => pings::pong(pong),
        Action::Send(To::Node(to, at), Message::Pong(pong)) => {
            assert_eq!(*at, peer(*to), "answered where it was asked");
            format!("{} to {}", pings::pong(pong), to.0)
        }
        Action::Send(To::Node(to, at), Message::AgentInstallResp(answer)) => {
            assert_eq!(*at, peer(*to), "answered where it was asked");
            assert_eq!(answer.status, answer.outcome == Some(Outcome::Installed));
            let (id, reason) = (answer.request_id.0, &answer.reject_reason);
            format!("tell {}: {id} {} {reason}", to.0, answer.outcome.map_or("refused", word))
                .trim()
                .to_string()
        }
        Action::Send(To::Node(to, at), Message::HelloAgentAck(ack)) => {
            assert_eq!(*at, peer(*to), "asks where it was asked");
            assert_eq!((ack.state, ack.request), (AgentState::Installing, RequestState::Running));
            format!("tell {}: ack, {} running", to.0, ack.request_id.0)
        }
        Action::Connect(to, at, Purpose::Fetch) if *at == peer(*to) => format!("connect to {}", to.0),
        Action::StartInstall(install) => {
            assert_eq!((install.controller, install.digest), (CONTROLLER, digest_of(&["A"])));
            format!("install {}", install.request_id.0)
        }
        Action::Send(To::Node(to, at), Message::SpreadReport(report)) => {
            assert_eq!(*at, peer(*to), "answered where it was asked");
            format!("lacks of {} to {}, with {}", report.transmission, to.0, report.other)
        }
        Action::StartReceiving(offer) => format!("receive {}", offer.transmission),
        Action::PassOffer(offer) => format!("pass {}.{}", offer.transmission, offer.round),
        Action::StopReceiving => "stop receiving".to_string(),
        Action::StartRecovery => "recover".to_string(),
        Action::StartProof { is_heard } => format!("prove {is_heard}"),
        other => panic!("no agent does this: {other:?}"),
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Installed => "installed",
        Outcome::Rejected => "rejected",
        Outcome::RolledBack => "rolled back",
        Outcome::Broken => "broken",
    }
}

#[test]
fn one_ack_within_the_window_serves_all_controllers() {
    let mut trace = Trace::idle();
    assert_eq!(trace.hello(1_000, CONTROLLER, 500), [""; 0]);
    let due = trace.agent.poll_at().unwrap();
    assert!((at(1_000)..at(1_500)).contains(&due));
    for (now, controller) in [(1_000, OTHER), (1_000, CONTROLLER), (1_000, OTHER)] {
        assert_eq!(trace.hello(now, controller, 500), [""; 0]);
    }
    let due = trace.agent.poll_at().unwrap().as_millis();
    assert_eq!(trace.waits(due - 1), [""; 0]);
    assert_eq!(trace.waits(due), ["ack idle"]);
    assert_eq!(trace.agent.poll_at(), None);
}

#[test]
fn a_controller_that_asks_alone_is_answered_at_once_alone_and_with_all() {
    let mut trace = Trace::idle();
    for now in [1_000, 1_001, 1_002] {
        assert_eq!(trace.is_probed(now, CONTROLLER), ["ack idle", "ack to 1 alone"]);
    }
    // Every agent can make a hello to all: those are answered at the usual times.
    assert_eq!(trace.hello(1_003, OTHER, 0), ["ack idle"]);
    assert_eq!(trace.hello(1_004, OTHER, 0), [""; 0]);
    assert_eq!(trace.waits(1_022), [""; 0], "8 to one in an interval of 160 ms");
    assert_eq!(trace.waits(1_023), ["ack idle"]);
    // Before recovery there is nothing to say; then the last that asked is answered.
    let mut trace = Trace::start(3);
    trace.waits(0);
    assert_eq!(trace.is_probed(100, CONTROLLER), [""; 0]);
    assert_eq!(trace.is_probed(200, OTHER), [""; 0]);
    trace.snapshot(500, &[], None);
    assert_eq!(trace.ends(500, WorkerEnd::Done), ["ack idle", "ack to 2 alone"]);
    assert_eq!(trace.waits(9_000), [""; 0]);
}

#[test]
fn a_request_is_accepted_once_however_often_it_comes() {
    let mut trace = Trace::idle();
    let nonce = trace.agent.nonce;
    let took = trace.asked(1_000, CONTROLLER, 7, nonce);
    assert_eq!(took, ["connect to 1", "ack installing checking 0 %, 7 running"]);
    assert_ne!(trace.agent.nonce, nonce, "used up");
    assert_eq!(trace.asked(1_300, CONTROLLER, 7, nonce), ["ack installing checking 0 %, 7 running"]);
    let ready = Event::SessionReady(CONTROLLER, Purpose::Fetch);
    assert_eq!(trace.event(1_400, &ready), ["install 7"]);
    assert_eq!(trace.asked(1_600, CONTROLLER, 7, nonce), ["ack installing checking 0 %, 7 running"]);
    assert_eq!(trace.event(1_700, &ready), [""; 0], "a second session starts no second worker");
    trace.snapshot(2_000, &["A"], Some(&journal(7, Outcome::Installed)));
    let done = trace.ends(2_000, WorkerEnd::Done);
    assert_eq!(done, ["tell 1: 7 installed", "ack idle, 7 installed"]);
    assert_eq!(trace.agent.ack().installed_digest, digest_of(&["A"]));
    trace.says_again(2_000, "ack idle, 7 installed");
    for nonce in [nonce, trace.agent.nonce] {
        assert_eq!(trace.asked(5_000, CONTROLLER, 7, nonce), ["tell 1: 7 installed"], "from the journal");
    }
}

#[test]
fn a_wrong_nonce_is_answered_with_the_current_one() {
    let mut trace = Trace::idle();
    let nonce = trace.agent.nonce;
    assert_eq!(trace.asked(1_000, CONTROLLER, 7, Nonce(99)), ["ack idle"]);
    assert_eq!(trace.agent.ack().nonce, nonce, "and does not use it up");
    assert_eq!(trace.agent.stale_nonces(), 1);
    assert_eq!(trace.asked(1_300, CONTROLLER, 7, nonce)[0], "connect to 1");
}

#[test]
fn a_recorded_request_does_nothing_after_a_restart() {
    let recorded = Trace::idle_with(3).agent.nonce;
    let mut after = Trace::idle_with(4);
    assert_eq!(after.asked(1_000, CONTROLLER, 7, recorded), ["ack idle"]);
}

#[test]
fn a_second_request_is_refused_for_good_and_the_refusal_names_the_first() {
    let mut trace = Trace::installing();
    let busy = "ack installing checking 0 %, 7 running";
    assert_eq!(trace.asked(1_500, OTHER, 8, Nonce(99)), [busy], "an old nonce is answered with the new one");
    let nonce = trace.agent.nonce;
    let refused = trace.asked(2_000, OTHER, 8, nonce);
    let why = "tell 2: 8 refused The host is at work on request 0000000000000007 of controller \
               0000000000000001: wait for its end.";
    assert_eq!(refused, [why, busy]);
    trace.snapshot(3_000, &["A"], Some(&journal(7, Outcome::Installed)));
    trace.ends(3_000, WorkerEnd::Done);
    let late = trace.asked(4_000, OTHER, 8, nonce);
    assert_eq!(late, ["ack idle, 7 installed"], "a late copy is not accepted after the refusal");
}

#[test]
fn a_controller_that_cannot_be_reached_is_tried_again_then_the_request_is_rejected() {
    let mut trace = Trace::idle();
    trace.asked(1_000, CONTROLLER, 7, trace.agent.nonce);
    let reason = Reason::truncated("no route");
    let failed = Event::SessionFailed(CONTROLLER, Purpose::Fetch, &reason);
    let mut now = 1_000;
    for pause in [250, 500, 1_000, 2_000, 4_000] {
        assert_eq!(trace.event(now, &failed), [""; 0]);
        assert_eq!(trace.waits(now + pause - 1), [""; 0], "after {pause}");
        now += pause;
        assert_eq!(trace.waits(now), ["connect to 1"], "after {pause}");
    }
    let given_up = "tell 1: 7 rejected The host cannot fetch from the controller: no route";
    assert_eq!(trace.event(now, &failed), [given_up, "ack install-rejected, 7 rejected"]);
    trace.says_again(now, "ack install-rejected, 7 rejected");
    assert_eq!(trace.waits(now + 59_999), [""; 0]);
    assert_eq!(trace.waits(now + 60_000), ["ack idle, 7 rejected"], "the rejection is shown no longer");
    assert!(!trace.agent.ack().patch_failed, "nothing was begun");
}

#[test]
fn a_request_in_the_journal_is_answered_after_a_later_one_was_given_up() {
    let mut trace = Trace::installing();
    trace.snapshot(2_000, &[], Some(&journal(7, Outcome::RolledBack)));
    trace.ends(2_000, WorkerEnd::Failed(&Reason::truncated("a second reason")));
    trace.asked(3_000, OTHER, 8, trace.agent.nonce);
    let reason = Reason::truncated("no route");
    for attempt in 0..ATTEMPTS {
        let now = 3_000 + 10_000 * u64::from(attempt);
        trace.waits(now);
        trace.event(now, &Event::SessionFailed(OTHER, Purpose::Fetch, &reason));
    }
    trace.waits(200_000);
    let given_up = "tell 2: 8 rejected The host cannot fetch from the controller: no route";
    assert_eq!(trace.asked(200_000, OTHER, 8, trace.agent.nonce), [given_up]);
    let again = trace.asked(200_000, CONTROLLER, 7, trace.agent.nonce);
    assert_eq!(again, ["tell 1: 7 rolled back a script failed"], "it is not executed again");
    assert_eq!(trace.agent.ack().request_id, RequestId(8), "the ack carries the last request");
}

#[test]
fn an_install_whose_session_breaks_is_begun_again_six_times() {
    let mut trace = Trace::installing();
    let broken = Reason::truncated("the session broke");
    let ready = Event::SessionReady(CONTROLLER, Purpose::Fetch);
    for round in 1..u64::from(ATTEMPTS) {
        let now = 1_000 + round * 1_000;
        trace.ends(now, WorkerEnd::SessionLost(&broken));
        assert_eq!(trace.agent.ack().request, RequestState::Running, "it has not ended");
        assert_eq!(trace.waits(now + 249), ["ack installing checking 0 %, 7 running"; 0]);
        assert_eq!(trace.waits(now + 250), ["connect to 1"]);
        // The worker that served it before is not gone yet.
        trace.event(now + 250, &Event::SessionBusy(CONTROLLER, Purpose::Fetch, Duration::from_millis(300)));
        assert_eq!(trace.waits(now + 550), ["connect to 1"]);
        assert_eq!(trace.event(now + 600, &ready).first().map(String::as_str), Some("install 7"));
    }
    let did = trace.ends(9_000, WorkerEnd::SessionLost(&broken));
    assert_eq!(did, ["tell 1: 7 rejected the session broke", "ack install-rejected, 7 rejected"]);
    let mut trace = Trace::installing();
    trace.snapshot(2_000, &[], Some(&journal(7, Outcome::RolledBack)));
    let did = trace.ends(2_000, WorkerEnd::SessionLost(&broken));
    assert_eq!(
        did.first().map(String::as_str),
        Some("tell 1: 7 rolled back a script failed"),
        "it has ended"
    );
}

#[test]
fn a_busy_controller_is_tried_again_without_limit() {
    let mut trace = Trace::idle();
    trace.asked(1_000, CONTROLLER, 7, trace.agent.nonce);
    for round in 1..20 {
        let busy = Event::SessionBusy(CONTROLLER, Purpose::Fetch, Duration::from_millis(300));
        assert_eq!(trace.event(1_000 + (round - 1) * 300, &busy), [""; 0]);
        assert_eq!(trace.waits(1_000 + round * 300), ["connect to 1"]);
        // Sessions that are lost between its answers are no reason to give up.
        let lost = Reason::truncated("connection reset");
        trace.event(1_000 + round * 300, &Event::SessionFailed(CONTROLLER, Purpose::Fetch, &lost));
    }
    assert_eq!(trace.agent.ack().request, RequestState::Running);
}

#[test]
fn progress_is_sent_at_most_every_200_ms() {
    let mut trace = Trace::installing();
    for percent in 1..=40 {
        let now = 1_000 + u64::from(percent);
        assert_eq!(trace.event(now, &Event::Progress(Step::Fetching, percent)), [""; 0]);
    }
    assert_eq!(trace.waits(1_199), [""; 0]);
    assert_eq!(trace.waits(1_200), ["ack installing fetching 40 %, 7 running"]);
    assert_eq!(trace.hello(1_250, CONTROLLER, 1), ["ack installing fetching 40 %, 7 running"]);
}

#[test]
fn a_failed_install_is_answered_with_its_reason_and_shows_until_the_next() {
    let mut trace = Trace::installing();
    trace.waits(1_200);
    trace.snapshot(2_000, &[], Some(&journal(7, Outcome::RolledBack)));
    let failed = trace.ends(2_000, WorkerEnd::Failed(&Reason::truncated("a second reason")));
    assert_eq!(failed, ["tell 1: 7 rolled back a script failed", "ack install-failed, 7 rolled back"]);
    assert!(trace.agent.ack().patch_failed);
    trace.says_again(2_000, "ack install-failed, 7 rolled back");
    assert_eq!(trace.agent.poll_at(), None, "it shows until the next install");
    trace.asked(5_000, CONTROLLER, 8, trace.agent.nonce);
    trace.event(5_000, &Event::SessionReady(CONTROLLER, Purpose::Fetch));
    let failed = trace.ends(5_500, WorkerEnd::Failed(&Reason::truncated("Node must be locked.")));
    let rejected = "ack install-rejected, 8 rejected";
    assert_eq!(failed, ["tell 1: 8 rejected Node must be locked.", rejected], "it is not in the journal");
    assert!(trace.agent.ack().patch_failed, "the earlier failure remains");
}

#[test]
fn a_snapshot_that_is_cut_off_is_dropped() {
    let mut trace = Trace::installing();
    trace.event(2_000, &Event::Installed(&patches(&["HALF"])[0]));
    trace.crashes(2_000);
    assert_eq!(trace.agent.ack().installed_digest, digest_of(&[]), "the previous snapshot stays");
    trace.snapshot(3_000, &["A"], Some(&journal(7, Outcome::Installed)));
    trace.ends(3_000, WorkerEnd::Done);
    assert_eq!(trace.agent.installed().patches(), patches(&["A"]));
}

#[test]
fn the_pages_of_a_detailed_query_are_of_one_snapshot() {
    let mut trace = Trace::idle();
    let empty = trace.agent.detail_page(0).unwrap();
    assert_eq!((empty.installed.len(), empty.installed_digest), (0, digest_of(&[])));
    assert_eq!(trace.agent.detail_page(1), None);
    const PAGE: usize = limits::PAGE_PATCHES;
    let names: Vec<String> = (0..PAGE + 8).map(|number| format!("P-{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    trace.snapshot(2_000, &names, None);
    let (first, second) = (trace.agent.detail_page(0).unwrap(), trace.agent.detail_page(PAGE).unwrap());
    assert_eq!((first.installed.len(), second.installed.len()), (PAGE, 8));
    assert_eq!(trace.agent.detail_page(PAGE + 8), None);
    assert_eq!(first.query_id, second.query_id);
    assert_ne!(first.query_id, empty.query_id, "another snapshot has another number");
    let all: Vec<_> = first.installed.iter().chain(&second.installed).cloned().collect();
    assert_eq!(all, patches(&names));
}
