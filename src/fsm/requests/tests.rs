//! Traces of one request: acks, answers and time in; sent requests and its status out.

use super::*;
use crate::fsm::actions::Action;
use crate::types::Reason;
use crate::wire::install::Step;

const TIMERS: RequestTimers = RequestTimers {
    retry: Duration::from_millis(100),
    give_up: Duration::from_millis(1000),
    stall: Duration::from_millis(5000),
};
const ID: RequestId = RequestId(77);

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn target(nonce: u64) -> RequestTarget {
    let peer = Peer::Ip(([127, 0, 0, 1], 7489).into());
    RequestTarget { node: NodeId(5), peer, nonce: Nonce(nonce) }
}

fn ack(nonce: u64, request_id: RequestId, request: RequestState) -> HelloAgentAck {
    HelloAgentAck { nonce: Nonce(nonce), request_id, request, ..HelloAgentAck::default() }
}

fn asked() -> HostRequest {
    let (mut request, mut actions) = (HostRequest::default(), Actions::default());
    let ask = Ask { request_id: ID, digest: Digest::default(), force: false };
    assert!(request.ask(at(0), &TIMERS, target(1), ask, &mut actions));
    assert_eq!(sent(&mut actions), [1]);
    assert!(!request.ask(at(0), &TIMERS, target(1), ask, &mut actions), "one at a time");
    request
}

/// The nonces of the requests that were sent.
fn sent(actions: &mut Actions) -> std::vec::Vec<u64> {
    core::iter::from_fn(|| actions.pop_front())
        .map(|action| match action {
            Action::Send(To::Node(NodeId(5), _), Message::AgentInstallReq(request)) => {
                assert_eq!(request.request_id, ID);
                request.nonce.0
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

fn fixed_reason(request: &HostRequest) -> &'static str {
    match request.reason_source() {
        ReasonSource::Fixed(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn hear(request: &mut HostRequest, now: u64, ack: &HelloAgentAck) -> std::vec::Vec<u64> {
    let mut actions = Actions::default();
    let before = (RequestId::default(), RequestState::None);
    request.on_ack(at(now), &TIMERS, target(ack.nonce.0), before, ack, &mut actions);
    sent(&mut actions)
}

fn wait(request: &mut HostRequest, now: u64) -> std::vec::Vec<u64> {
    let mut actions = Actions::default();
    request.on_timeout(at(now), &TIMERS, target(1), &mut actions);
    sent(&mut actions)
}

fn response(outcome: Outcome) -> AgentInstallResp {
    AgentInstallResp {
        request_id: ID,
        status: outcome == Outcome::Installed,
        outcome: Some(outcome),
        reject_reason: Reason::truncated("because"),
        reboot_required: false,
    }
}

#[test]
fn a_lost_request_is_sent_again_and_a_lost_answer_is_seen_in_the_ack() {
    let mut request = asked();
    assert_eq!(wait(&mut request, 99), [0; 0]);
    assert_eq!(wait(&mut request, 100), [1]);
    assert_eq!(hear(&mut request, 110, &ack(2, ID, RequestState::Running)), [0; 0]);
    assert_eq!(request.status(), RequestStatus::Running);
    hear(&mut request, 500, &ack(2, ID, RequestState::Ended(Outcome::Installed)));
    assert_eq!(request.status(), RequestStatus::Ended(Outcome::Installed));
    assert_eq!(request.poll_at(), None);
}

#[test]
fn a_host_that_answers_nothing_is_given_up_at_once_and_followed_again_if_it_returns() {
    let mut request = asked();
    hear_step(&mut request, 10, Step::Fetching, 7);
    request.on_silent(at(400));
    assert_eq!(request.poll_at(), Some(at(100)), "it is sent again as long as it is open");
    assert_eq!(wait(&mut request, 400), [0; 0]);
    assert_eq!(request.status(), RequestStatus::NoAnswer);
    assert!(!request.is_open() && fixed_reason(&request).contains("fell silent"));
    hear_step(&mut request, 700, Step::Fetching, 7);
    assert_eq!((request.status(), request.reason_source()), (RequestStatus::Running, ReasonSource::Nothing));
    wait(&mut request, 1_699);
    assert_eq!(request.status(), RequestStatus::Running, "it has the full time again");
    hear(&mut request, 1_699, &ack(2, ID, RequestState::Ended(Outcome::Installed)));
    assert_eq!(request.status(), RequestStatus::Ended(Outcome::Installed));

    // One that had not accepted the request is not asked again.
    let mut request = asked();
    request.on_silent(at(50));
    wait(&mut request, 50);
    assert_eq!(hear(&mut request, 60, &ack(2, RequestId(0), RequestState::None)), [0; 0]);
    assert_eq!(request.status(), RequestStatus::NoAnswer);
}

#[test]
fn a_new_nonce_sends_at_once_and_only_once() {
    let mut request = asked();
    assert_eq!(hear(&mut request, 10, &ack(2, RequestId(0), RequestState::None)), [2]);
    assert_eq!(hear(&mut request, 20, &ack(2, RequestId(0), RequestState::None)), [0; 0]);
}

#[test]
fn a_failure_seen_in_an_ack_is_asked_for_its_reason_and_not_for_the_install() {
    let mut request = asked();
    let failed = ack(2, ID, RequestState::Ended(Outcome::RolledBack));
    assert_eq!(hear(&mut request, 10, &failed), [0], "no nonce");
    assert_eq!(hear(&mut request, 20, &ack(3, RequestId(1), RequestState::None)), [0; 0]);
    assert_eq!(hear(&mut request, 30, &ack(2, ID, RequestState::Running)), [0; 0], "a late ack");
    assert_eq!(wait(&mut request, 110), [0], "still without");
    assert_eq!(request.status(), RequestStatus::Running);
    request.on_response(&AgentInstallResp { request_id: RequestId(1), ..response(Outcome::Broken) });
    assert_eq!(request.status(), RequestStatus::Running, "another request's answer");
    request.on_response(&response(Outcome::RolledBack));
    assert_eq!(request.status(), RequestStatus::Ended(Outcome::RolledBack));
    assert_eq!(request.reason_source(), ReasonSource::FromHost(ID));
    request.on_response(&response(Outcome::Installed));
    assert_eq!(request.status(), RequestStatus::Ended(Outcome::RolledBack), "a doubled answer");
    assert_eq!(hear(&mut request, 200, &failed), [0; 0], "nothing new");
}

#[test]
fn the_reason_of_a_successful_install_stays_whether_ack_or_answer_comes_first() {
    let installed = ack(1, ID, RequestState::Ended(Outcome::Installed));
    let response = response(Outcome::Installed);
    for is_ack_first in [false, true] {
        let mut request = asked();
        if is_ack_first {
            assert!(hear(&mut request, 10, &installed).is_empty());
        }
        assert!(request.on_response(&response));
        assert!(hear(&mut request, 20, &installed).is_empty());
        assert_eq!(request.status(), RequestStatus::Ended(Outcome::Installed));
        assert_eq!(request.reason_source(), ReasonSource::FromHost(ID));
        assert!(!request.on_response(&response), "a second answer");
    }
}

#[test]
fn a_failure_whose_reason_never_comes_ends_when_it_is_given_up() {
    let mut request = asked();
    hear(&mut request, 10, &ack(2, ID, RequestState::Ended(Outcome::RolledBack)));
    wait(&mut request, 1010);
    assert_eq!(request.status(), RequestStatus::Ended(Outcome::RolledBack));
    assert!(fixed_reason(&request).contains("before it sent the reason"));
}

#[test]
fn a_result_from_the_journal_overrides_an_earlier_refusal() {
    // One copy of the request was refused, a later one was accepted.
    let mut request = asked();
    request.on_response(&AgentInstallResp { outcome: None, ..response(Outcome::Rejected) });
    assert_eq!(request.status(), RequestStatus::Ended(Outcome::Rejected));
    hear(&mut request, 10, &ack(3, ID, RequestState::Ended(Outcome::Installed)));
    assert_eq!(request.status(), RequestStatus::Ended(Outcome::Installed));
    assert_eq!(request.reason_source(), ReasonSource::Nothing);
}

#[test]
fn a_silent_host_is_given_up_with_the_missing_answer_named() {
    let mut request = asked();
    wait(&mut request, 1000);
    assert_eq!(request.status(), RequestStatus::NoAnswer);
    assert!(fixed_reason(&request).contains("did not answer"));

    let mut request = asked();
    hear(&mut request, 900, &ack(2, ID, RequestState::Running));
    wait(&mut request, 1000);
    assert_eq!(request.status(), RequestStatus::Running, "an ack extends the time");
    wait(&mut request, 1900);
    assert_eq!(request.status(), RequestStatus::NoAnswer);
    assert!(fixed_reason(&request).contains("fell silent"));
    hear(&mut request, 5000, &ack(2, ID, RequestState::Ended(Outcome::Installed)));
    assert_eq!(request.status(), RequestStatus::Ended(Outcome::Installed), "heard after all");

    let mut request = asked();
    wait(&mut request, 1000);
    assert_eq!(hear(&mut request, 2000, &ack(3, RequestId(9), RequestState::None)), [0; 0], "given up");
    assert_eq!(hear(&mut request, 3000, &ack(3, ID, RequestState::Ended(Outcome::Broken))), [0]);
    request.on_response(&response(Outcome::Broken));
    assert_eq!(request.status(), RequestStatus::Ended(Outcome::Broken), "and why");
    assert_eq!(request.reason_source(), ReasonSource::FromHost(ID));
}

#[test]
fn a_request_of_another_controller_is_adopted_and_its_reason_asked_for() {
    let theirs = ID;
    let mut request = HostRequest::default();
    assert_eq!(hear(&mut request, 0, &ack(1, theirs, RequestState::Running)), [0; 0]);
    assert_eq!(request.status(), RequestStatus::Running);
    let mut actions = Actions::default();
    let ask = Ask { request_id: RequestId(5), digest: Digest::default(), force: false };
    assert!(!request.ask(at(10), &TIMERS, target(1), ask, &mut actions), "one at a time");
    request.on_timeout(at(999), &TIMERS, target(1), &mut actions);
    assert_eq!(sent(&mut actions), [0; 0], "it is never asked for");
    let failed = RequestState::Ended(Outcome::RolledBack);
    assert_eq!(hear(&mut request, 1_000, &ack(2, theirs, failed)), [0], "only asked about");
    let answer = AgentInstallResp {
        request_id: theirs,
        status: false,
        outcome: Some(Outcome::RolledBack),
        reject_reason: Reason::truncated("health failed"),
        reboot_required: false,
    };
    assert!(request.on_response(&answer));
    assert_eq!(
        (request.status(), request.reason_source()),
        (RequestStatus::Ended(Outcome::RolledBack), ReasonSource::FromHost(theirs))
    );
}

#[test]
fn the_outcome_of_an_adopted_request_is_known_without_its_progress() {
    let mut request = HostRequest::default();
    let installed = RequestState::Ended(Outcome::Installed);
    assert_eq!(hear(&mut request, 0, &ack(1, RequestId(5), installed)), [0; 0]);
    assert_eq!(request.status(), RequestStatus::Ended(Outcome::Installed));
    // A controller that missed the end of one request adopts the next.
    assert_eq!(hear(&mut request, 10, &ack(2, RequestId(6), RequestState::Running)), [0; 0]);
    assert_eq!(hear(&mut request, 20, &ack(3, RequestId(7), RequestState::Running)), [0; 0]);
    assert_eq!(hear(&mut request, 30, &ack(3, RequestId(7), installed)), [0; 0]);
    assert_eq!(request.status(), RequestStatus::Ended(Outcome::Installed));
}

#[test]
fn an_open_request_is_not_replaced_by_one_of_another_controller() {
    let mut request = asked();
    assert_eq!(hear(&mut request, 10, &ack(1, RequestId(5), RequestState::Running)), [0; 0]);
    assert_eq!(request.status(), RequestStatus::Waiting);
}

/// The host says at this time that it is at this step of our request.
fn hear_step(request: &mut HostRequest, now: u64, step: Step, progress: u8) {
    let ack = HelloAgentAck { step, progress, ..ack(2, ID, RequestState::Running) };
    assert_eq!(hear(request, now, &ack), [0; 0]);
}

#[test]
fn an_install_that_does_not_move_is_given_up_whatever_the_host_says() {
    let mut request = asked();
    for now in (10..5_010).step_by(500) {
        hear_step(&mut request, now, Step::Fetching, 7);
        wait(&mut request, now);
    }
    // It moved once, when it was first heard.
    wait(&mut request, 5_009);
    assert_eq!(request.status(), RequestStatus::Running);
    wait(&mut request, 5_010);
    assert_eq!(request.status(), RequestStatus::NoAnswer);
    assert!(fixed_reason(&request).contains("does not get on"));
    hear_step(&mut request, 5_020, Step::Fetching, 8);
    assert_eq!(request.status(), RequestStatus::NoAnswer, "its place is free");
    hear(&mut request, 6_000, &ack(2, ID, RequestState::Ended(Outcome::Installed)));
    assert_eq!(request.status(), RequestStatus::Ended(Outcome::Installed), "it has ended after all");
}

#[test]
fn an_install_moves_by_what_it_had_not_reached_before() {
    let running_at = |steps: &[(u64, Step, u8)], now| {
        let mut request = asked();
        for (at, step, percent) in steps {
            wait(&mut request, *at);
            hear_step(&mut request, *at, *step, *percent);
        }
        for heard in (5_000..now).step_by(500) {
            wait(&mut request, heard);
            if request.status() == RequestStatus::Running {
                hear(&mut request, heard, &ack(2, ID, RequestState::Running));
            }
        }
        wait(&mut request, now);
        request.status() == RequestStatus::Running
    };
    let early: std::vec::Vec<_> = (1..9).map(|second| (second * 500, Step::Fetching, 10)).collect();
    let then = |step, percent| [&early[..], &[(4_500, step, percent)]].concat();
    assert!(running_at(&then(Step::Fetching, 11), 9_499) && !running_at(&then(Step::Fetching, 11), 9_500));
    assert!(running_at(&then(Step::Verifying, 10), 9_499) && !running_at(&then(Step::Verifying, 10), 9_500));
    // Back and forth is no movement: the last was at 500.
    for (step, percent) in [(Step::Checking, 9), (Step::Fetching, 10), (Step::Checking, 10)] {
        assert!(!running_at(&then(step, percent), 5_500), "{step:?} {percent}");
    }
}

#[test]
fn a_host_that_is_told_to_wait_does_not_stand_still() {
    let mut request = asked();
    for now in (500..20_000).step_by(500) {
        wait(&mut request, now);
        hear_step(&mut request, now, Step::Checking, 0);
        request.on_turned_away(at(now), &TIMERS);
        assert_eq!(request.status(), RequestStatus::Running, "{now}");
    }
    for now in (20_000..24_500).step_by(500) {
        wait(&mut request, now);
        hear_step(&mut request, now, Step::Checking, 0);
    }
    wait(&mut request, 24_500);
    assert_eq!(request.status(), RequestStatus::NoAnswer, "it no longer comes");
}
