//! Traces of a controller that drives a rollout, or leaves it to another.

use std::string::String;
use std::vec::Vec;

use super::{STALL, Trace, ack, at, peer};
use crate::fsm::rollout::{Census, RolloutPart};
use crate::repo::entry::Stamp;
use crate::repo::fixture::entry;
use crate::repo::rollout::{Rollout, RolloutState};
use crate::types::{Digest, NodeId, RequestId};
use crate::wire::install::Outcome;
use crate::wire::messages::{AgentState, Hello, HelloAck, HelloAgentAck, Message, RequestState};

/// The controller of a [`Trace`], and another.
const OWN: NodeId = NodeId(100);
const OTHER: NodeId = NodeId(7);
/// By then two rounds have polled all hosts, and the start is over.
const SETTLED: u64 = 70_000;

const ID: u64 = 0x7700;

fn rollout(counter: u64, state: RolloutState) -> Rollout {
    let stamp = Stamp { counter, replica: 1 };
    Rollout { stamp, id: ID, carrier: OWN, state, parallel: 2, stop_after: 2, force: false }
}

pub(super) fn running() -> Rollout {
    rollout(9, RolloutState::Running)
}

/// A host's ack that reports the rollout's request.
fn rollout_ack(node: u64, ids: &[&str], request: RequestState) -> HelloAgentAck {
    let state = if request == RequestState::Running { AgentState::Installing } else { AgentState::Idle };
    HelloAgentAck { request_id: RequestId(ID ^ node), request, state, ..ack(ids) }
}

impl Trace {
    /// All that is done until then, without hellos. A node that is asked again answers with what
    /// it said last, unless it is dead.
    pub(super) fn runs(&mut self, until: u64) -> Vec<String> {
        let mut did = Vec::new();
        while let Some(due) = self.controller.poll_at().filter(|due| *due <= at(until)) {
            let all = self.waits(due.as_millis());
            for asked in all.iter().filter_map(|did| did.strip_prefix("probe ")) {
                did.extend(self.is_probed(due.as_millis(), asked));
            }
            did.extend(all.into_iter().filter(|did| !did.starts_with("hello") && !did.starts_with("probe")));
        }
        did
    }

    /// A node is asked again: what follows from its answer.
    fn is_probed(&mut self, now: u64, asked: &str) -> Vec<String> {
        let node = asked.trim_start_matches("controller ").parse().unwrap();
        if self.dead.contains(&node) {
            return Vec::new();
        }
        if asked.starts_with("controller") {
            let ack = Message::HelloAck(HelloAck {});
            self.controller.on_message(at(now), NodeId(node), peer(node), &ack, &mut self.actions);
            return self.did();
        }
        self.hears(now, node, self.host(node).ack.clone())
    }

    /// A controller that has the patch A, and hosts that do not have it.
    fn settled(hosts: &[u64]) -> Self {
        Self::start(&[entry("A")], 4).settle(hosts)
    }

    /// Loads, and hears hosts that have none of the patches.
    pub(super) fn settle(mut self, hosts: &[u64]) -> Self {
        self.controller.on_loaded(at(0));
        self.runs(SETTLED - 1);
        for host in hosts {
            self.hears(SETTLED - 1, *host, ack(&[]));
            self.answers(SETTLED - 1, *host, &[]);
        }
        self.runs(SETTLED);
        self
    }

    fn merges_rollout(&mut self, now: u64, rollout: &Rollout) {
        self.controller.merge_rollout(at(now), rollout);
    }

    fn census(&self, now: u64) -> Census {
        self.controller.census(at(now), &running())
    }

    fn hears_other(&mut self, now: u64) {
        let (op_counter, digest) = (1, Digest([1; 32]));
        let hello = Message::Hello(Hello { op_counter, digest });
        self.controller.on_message(at(now), OTHER, peer(OTHER.0), &hello, &mut self.actions);
        while self.actions.pop_front().is_some() {}
    }
}

#[test]
fn the_parallel_limit_holds_and_the_next_host_is_asked_when_one_has_ended() {
    let mut trace = Trace::settled(&[4, 5, 6]);
    trace.merges_rollout(SETTLED, &running());
    assert_eq!(trace.runs(SETTLED + 100), ["ask 4 with nonce 7", "ask 5 with nonce 7"]);
    assert_eq!(trace.host(4).request.request_id(), Some(RequestId(ID ^ 4)));
    for host in [4, 5] {
        trace.hears(SETTLED + 200, host, rollout_ack(host, &[], RequestState::Running));
    }
    assert_eq!(trace.runs(SETTLED + 1_700), [""; 0]);
    trace.hears(SETTLED + 1_700, 5, rollout_ack(5, &["A"], RequestState::Ended(Outcome::Installed)));
    assert_eq!(trace.runs(SETTLED + 1_800), ["ask 6 with nonce 7"]);
    let counts = Census { at_work: 2, done: 1, ..Census::default() };
    assert_eq!(trace.census(SETTLED + 1_800), counts);
    for host in [4, 6] {
        trace.hears(
            SETTLED + 1_900,
            host,
            rollout_ack(host, &["A"], RequestState::Ended(Outcome::Installed)),
        );
    }
    // The action is repeated until the map shows the change.
    let ended = "the rollout is Ended";
    assert_eq!(trace.runs(SETTLED + 3_500), [ended, ended]);
    trace.merges_rollout(SETTLED + 3_500, &rollout(10, RolloutState::Ended));
    assert_eq!(trace.runs(SETTLED + 9_000), [""; 0]);
}

#[test]
fn enough_failures_halt_it_and_a_resumed_rollout_asks_the_failed_hosts_again() {
    let mut trace = Trace::settled(&[4, 5, 6]);
    trace.merges_rollout(SETTLED, &running());
    trace.runs(SETTLED + 100);
    for host in [4, 5] {
        trace.hears(SETTLED + 200, host, rollout_ack(host, &[], RequestState::Ended(Outcome::RolledBack)));
    }
    let why = "why did it fail";
    // Each failed host is asked for its reason, and counts as at work until it answers.
    let census = trace.census(SETTLED + 210);
    assert_eq!((census.at_work, census.next), (2, 1), "{why}");
    for host in [4, 5] {
        let response = crate::wire::messages::AgentInstallResp {
            request_id: RequestId(ID ^ host),
            status: false,
            outcome: Some(Outcome::RolledBack),
            reject_reason: crate::types::Reason::truncated(why),
            reboot_required: false,
        };
        let message = Message::AgentInstallResp(response);
        trace.controller.on_message(
            at(SETTLED + 300),
            NodeId(host),
            peer(host),
            &message,
            &mut trace.actions,
        );
    }
    let did = trace.runs(SETTLED + 400);
    assert!(did.ends_with(&["the rollout is Halted".into()]), "{did:?}");
    assert!(!did.iter().any(|did| did.starts_with("ask 6")), "{did:?}");
    trace.merges_rollout(SETTLED + 400, &rollout(10, RolloutState::Halted));
    assert_eq!(trace.runs(SETTLED + 9_000), [""; 0]);

    let resumed = Rollout { id: 0x8800, ..rollout(11, RolloutState::Running) };
    trace.merges_rollout(SETTLED + 9_000, &resumed);
    assert_eq!(trace.runs(SETTLED + 9_100), ["ask 4 with nonce 7", "ask 5 with nonce 7"]);
}

#[test]
fn the_carrier_drives_it_and_another_controller_takes_over_when_it_is_lost() {
    let mut trace = Trace::settled(&[4]);
    trace.hears_other(SETTLED);
    let elsewhere = Rollout { carrier: OTHER, ..running() };
    trace.merges_rollout(SETTLED, &elsewhere);
    // The other controller is the carrier, so this one does nothing.
    trace.hears(SETTLED + 100, 4, rollout_ack(4, &[], RequestState::Running));
    for now in [30_000, 60_000, 90_000, 115_000] {
        assert_eq!(trace.runs(SETTLED + now), [""; 0]);
        trace.hears(SETTLED + now, 4, rollout_ack(4, &[], RequestState::Running));
    }
    // It answers no more.
    trace.dead.push(OTHER.0);
    let did = trace.runs(SETTLED + 152_000);
    assert!(did.ends_with(&["the rollout is carried on here".into()]), "{did:?}");
    trace.merges_rollout(
        SETTLED + 152_000,
        &Rollout { stamp: Stamp { counter: 10, replica: 1 }, ..running() },
    );
    trace.hears(SETTLED + 152_000, 5, ack(&[]));
    trace.answers(SETTLED + 152_000, 5, &[]);
    assert_eq!(trace.runs(SETTLED + 153_000), ["ask 5 with nonce 7"], "4 is at work and is not asked again");
    assert_eq!(
        trace.host(5).request.request_id(),
        Some(RequestId(ID ^ 5)),
        "the same number from any carrier"
    );
}

#[test]
fn it_is_taken_over_when_the_carrier_is_present_and_idle_for_long() {
    let mut trace = Trace::settled(&[4]);
    trace.merges_rollout(SETTLED, &Rollout { carrier: OTHER, ..running() });
    trace.hears_other(SETTLED);
    for now in (0..=120_000).step_by(20_000) {
        assert_eq!(trace.runs(SETTLED + now), [""; 0]);
        trace.hears_other(SETTLED + now);
        trace.hears(SETTLED + now, 4, ack(&[]));
    }
    // The idle carrier has the lower id, which does not count.
    let did = trace.runs(SETTLED + 122_000);
    assert!(did.contains(&"the rollout is carried on here".into()), "{did:?}");

    // The idle time of a new rollout starts from zero.
    let next = Rollout { id: 0x8800, carrier: OTHER, ..rollout(20, RolloutState::Running) };
    trace.merges_rollout(SETTLED + 122_000, &next);
    trace.hears_other(SETTLED + 122_000);
    assert_eq!(trace.runs(SETTLED + 130_000), [""; 0]);
}

#[test]
fn hosts_parts_follow_from_their_acks_after_a_controller_starts() {
    let mut trace = Trace::settled(&[]);
    trace.hears(SETTLED, 4, rollout_ack(4, &["A"], RequestState::Ended(Outcome::Installed)));
    trace.hears(SETTLED, 5, rollout_ack(5, &[], RequestState::Running));
    trace.hears(SETTLED, 6, HelloAgentAck { request_id: RequestId(3), ..ack(&["A"]) });
    let counts = Census { done: 1, at_work: 1, current: 1, ..Census::default() };
    assert_eq!(trace.census(SETTLED), counts);
    trace.merges_rollout(SETTLED, &running());
    let did = trace.runs(SETTLED + 1_500);
    assert!(!did.iter().any(|did| did.starts_with("ask")), "{did:?}");
}

#[test]
fn no_host_is_asked_before_two_rounds_have_polled_all() {
    let mut trace = Trace::start(&[entry("A")], 4);
    trace.controller.on_loaded(at(0));
    trace.merges_rollout(100, &running());
    trace.hears(200, 4, ack(&[]));
    trace.answers(200, 4, &[]);
    let did = trace.runs(29_000);
    assert!(!did.iter().any(|did| did.starts_with("ask") || did.contains("rollout")), "{did:?}");
    let did = trace.runs(SETTLED);
    assert!(did.contains(&"ask 4 with nonce 7".into()), "{did:?}");
}

#[test]
fn lost_hosts_are_not_asked_and_delay_no_other() {
    let mut trace = Trace::settled(&[4, 5]);
    // 4 is silent from here on.
    trace.dead.push(4);
    let late = SETTLED + 110_000;
    trace.runs(late - 10);
    trace.hears(late - 10, 5, ack(&[]));
    trace.merges_rollout(late, &running());
    let did = trace.runs(late + 100);
    assert_eq!(did.iter().filter(|did| did.starts_with("ask")).collect::<Vec<_>>(), ["ask 5 with nonce 7"]);
    trace.hears(late + 200, 5, rollout_ack(5, &["A"], RequestState::Ended(Outcome::Installed)));
    assert_eq!(trace.census(late + 200), Census { done: 1, lost: 1, ..Census::default() });
    assert_eq!(trace.runs(late + 300), ["the rollout is Ended"]);
    assert_eq!(trace.controller.part(at(late + 300), &running(), trace.host(4)), RolloutPart::Lost);
}

#[test]
fn a_host_that_installed_before_another_patch_was_applied_is_behind() {
    let mut trace = Trace::settled(&[4]);
    trace.merges_rollout(SETTLED, &running());
    trace.runs(SETTLED + 100);
    // The answer comes before the ack that carries the installed digest.
    let response = crate::wire::messages::AgentInstallResp {
        request_id: RequestId(ID ^ 4),
        status: true,
        outcome: Some(Outcome::Installed),
        reject_reason: crate::types::Reason::default(),
        reboot_required: false,
    };
    let message = Message::AgentInstallResp(response);
    trace.controller.on_message(at(SETTLED + 150), NodeId(4), peer(4), &message, &mut trace.actions);
    assert_eq!(trace.census(SETTLED + 150), Census { done: 1, ..Census::default() });
    trace.hears(SETTLED + 200, 4, rollout_ack(4, &["A"], RequestState::Ended(Outcome::Installed)));
    assert_eq!(trace.census(SETTLED + 200), Census { done: 1, ..Census::default() });
    trace.controller.merge(at(SETTLED + 300), &entry("B")).unwrap();
    assert_eq!(trace.census(SETTLED + 300), Census { behind: 1, ..Census::default() });
    trace.hears(SETTLED + 400, 4, rollout_ack(4, &["A", "B"], RequestState::Ended(Outcome::Installed)));
    assert_eq!(trace.census(SETTLED + 400), Census { done: 1, ..Census::default() });
}

#[test]
fn a_host_that_says_it_installs_and_does_not_get_on_holds_its_place_for_a_bounded_time() {
    // Host 4 was asked; host 5 reports an install of which nobody knows.
    let mut trace = Trace::settled(&[4, 5, 6]);
    let nobodys = HelloAgentAck { state: AgentState::Installing, ..ack(&[]) };
    trace.hears(SETTLED, 5, nobodys.clone());
    trace.merges_rollout(SETTLED, &Rollout { stop_after: 0, ..running() });
    assert_eq!(trace.runs(SETTLED + 100), ["ask 4 with nonce 7"]);
    let (begins, stall) = (SETTLED + 200, STALL.as_millis());
    let mut asked = Vec::new();
    for now in (begins..begins + stall - 1_000).step_by(20_000) {
        trace.hears(now, 4, rollout_ack(4, &[], RequestState::Running));
        trace.hears(now, 5, nobodys.clone());
        trace.hears(now, 6, ack(&[]));
        asked.extend(trace.runs(now + 19_000).into_iter().filter(|did| did.starts_with("ask 6")));
    }
    assert_eq!(asked, [""; 0], "both have a place");
    let end = begins + stall + 2_000;
    for (host, ack) in [(4, rollout_ack(4, &[], RequestState::Running)), (5, nobodys), (6, ack(&[]))] {
        trace.hears(end - 2_500, host, ack);
    }
    assert!(trace.runs(end).contains(&String::from("ask 6 with nonce 7")));
    let counts = Census { no_answer: 2, at_work: 1, ..Census::default() };
    assert_eq!(trace.census(end), counts);
}

#[test]
fn a_host_counts_once_as_failed_however_often_it_says_so() {
    let mut trace = Trace::settled(&[4, 5, 6]);
    trace.merges_rollout(SETTLED, &running());
    trace.runs(SETTLED + 100);
    trace.hears(SETTLED + 110, 5, rollout_ack(5, &[], RequestState::Running));
    for (number, outcome) in
        [Outcome::RolledBack, Outcome::Broken, Outcome::Rejected].iter().cycle().take(30).enumerate()
    {
        let now = SETTLED + 200 + number as u64 * 50;
        trace.hears(now, 4, rollout_ack(4, &[], RequestState::Ended(*outcome)));
        let response = crate::wire::messages::AgentInstallResp {
            request_id: RequestId(ID ^ 4),
            status: false,
            outcome: Some(*outcome),
            reject_reason: crate::types::Reason::default(),
            reboot_required: false,
        };
        let message = Message::AgentInstallResp(response);
        trace.controller.on_message(at(now), NodeId(4), peer(4), &message, &mut trace.actions);
        while trace.actions.pop_front().is_some() {}
        assert_eq!(trace.census(now).failed, 1);
        let did = trace.runs(now + 40);
        assert!(!did.iter().any(|did| did.contains("Halted")), "{did:?}");
    }
}

#[test]
fn the_end_of_another_controllers_rollout_is_no_census_until_the_hosts_left_are_heard() {
    let mut trace = Trace::settled(&[4, 5]);
    let of_other = |counter, state| Rollout { carrier: OTHER, ..rollout(counter, state) };
    trace.merges_rollout(SETTLED, &of_other(9, RolloutState::Running));
    trace.hears(SETTLED + 100, 4, rollout_ack(4, &["A"], RequestState::Ended(Outcome::Installed)));
    let ended = of_other(10, RolloutState::Ended);
    let is_early = |trace: &Trace, now| trace.controller.is_census_early(at(now), &ended);
    assert!(!is_early(&trace, SETTLED + 100), "it runs");
    trace.merges_rollout(SETTLED + 200, &ended);
    assert_eq!(trace.census(SETTLED + 200).next, 1);
    assert!(is_early(&trace, SETTLED + 200), "what host 5 did was not heard");
    let own = rollout(10, RolloutState::Ended);
    assert!(!trace.controller.is_census_early(at(SETTLED + 200), &own), "a carrier has asked them itself");
    assert!(!is_early(&trace, SETTLED + 60_200), "it is not waited for without end");
    trace.hears(SETTLED + 300, 5, ack(&[]));
    assert!(!is_early(&trace, SETTLED + 300), "it was not asked");
}
