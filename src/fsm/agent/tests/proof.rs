//! Traces of a new thimble that has just replaced the old one.

use super::*;
use crate::fsm::event::PendingProof;

const UNHEARD: u64 = 3_600_000;
const PENDING: PendingProof = PendingProof {
    request_id: RequestId(7),
    controller: CONTROLLER,
    wait: Duration::from_millis(UNHEARD),
    asks_every: None,
    except: None,
};

/// At 500 ms recovery has found that the proof of request 7 is pending, on a host with
/// nothing installed.
fn proving() -> Trace {
    let mut trace = Trace::start(3);
    assert_eq!(trace.waits(0), ["recover"]);
    assert_eq!(trace.snapshot(500, &[], Some(&journal(6, Outcome::Installed))), [""; 0]);
    let did = trace.event(500, &Event::ProofPending(PENDING));
    assert_eq!(did, ["ack installing health 95 %, 7 running"]);
    trace
}

#[test]
fn the_request_runs_until_a_controller_was_heard_and_the_install_is_committed() {
    let mut trace = proving();
    assert_eq!(trace.ends(900, WorkerEnd::Done), [""; 0]);
    assert_eq!(trace.agent.poll_at(), Some(at(900 + UNHEARD)));
    assert_eq!(trace.own_hello(1_000, OTHER), ["prove true"], "any controller will do");
    assert_eq!(trace.own_hello(1_001, CONTROLLER), [""; 0], "once");
    assert_eq!(trace.waits(5_000), [""; 0], "the end of the proof is the answer");
    let asked = trace.asked(5_000, CONTROLLER, 7, Nonce(99));
    assert_eq!(asked, ["ack installing health 95 %, 7 running"], "it is not accepted twice");
    assert_eq!(
        trace.agent.ack().installed_digest,
        digest_of(&[]),
        "the installed set changes with the commit"
    );
    trace.snapshot(6_010, &["A"], Some(&journal(7, Outcome::Installed)));
    assert_eq!(trace.ends(6_010, WorkerEnd::Done), ["ack idle, 7 installed"]);
    assert_eq!(trace.agent.ack().installed_digest, digest_of(&["A"]));
    trace.says_again(6_010, "ack idle, 7 installed");
    assert_eq!(trace.asked(9_000, CONTROLLER, 7, Nonce(99)), ["tell 1: 7 installed"]);
}

#[test]
fn a_controller_that_is_heard_before_the_scripts_have_passed_counts() {
    let mut trace = proving();
    assert_eq!(trace.own_hello(600, CONTROLLER), [""; 0]);
    assert_eq!(trace.ends(900, WorkerEnd::Done), ["prove true"]);
}

#[test]
fn a_controller_that_asks_while_the_scripts_run_is_answered_and_heard() {
    let mut trace = proving();
    let ack = "ack installing health 95 %, 7 running";
    assert_eq!(trace.is_probed(600, CONTROLLER), [ack, "tell 1: ack, 7 running"], "the host is not lost");
    assert_eq!(trace.own_hello(601, CONTROLLER), [""; 0], "what greets this ack is not answered");
    assert_eq!(trace.ends(900, WorkerEnd::Done), ["prove true"]);
}

#[test]
fn a_hello_that_every_agent_can_make_proves_nothing() {
    let mut trace = proving();
    assert_eq!(trace.hello(600, CONTROLLER, 20), [""; 0]);
    assert_eq!(trace.waits(700), ["ack installing health 95 %, 7 running"], "it is answered");
    assert_eq!(trace.ends(900, WorkerEnd::Done), [""; 0]);
    assert_eq!(trace.hello(1_000, CONTROLLER, 20), [""; 0]);
    trace.waits(1_100);
    assert_eq!(trace.agent.poll_at(), Some(at(900 + UNHEARD)));
    // A request is made with the agent's own key.
    let asked = trace.asked(1_200, CONTROLLER, 7, Nonce(99));
    assert_eq!(asked[0], "prove true");
}

#[test]
fn another_install_is_refused_while_the_proof_is_pending() {
    let mut trace = proving();
    let refused = trace.asked(900, OTHER, 8, trace.agent.nonce);
    assert!(refused[0].starts_with("tell 2: 8 refused The host is at work on request"), "{refused:?}");
}

#[test]
fn a_new_thimble_that_hears_no_controller_is_undone() {
    let mut trace = proving();
    trace.ends(900, WorkerEnd::Done);
    assert_eq!(trace.waits(900 + UNHEARD - 1), [""; 0]);
    assert_eq!(trace.waits(900 + UNHEARD), ["prove false"]);
    assert_eq!(trace.agent.poll_at(), None);
}

#[test]
fn if_recovery_rolled_back_the_request_has_ended() {
    let mut trace = proving();
    trace.snapshot(900, &[], Some(&journal(7, Outcome::RolledBack)));
    assert_eq!(trace.ends(900, WorkerEnd::Done), ["ack install-failed, 7 rolled back"]);
}

#[test]
fn recovery_completes_a_commit_whose_worker_crashed() {
    let mut trace = proving();
    trace.ends(900, WorkerEnd::Done);
    trace.own_hello(1_000, CONTROLLER);
    trace.crashes(1_200);
    assert_eq!(trace.agent.ack().state, AgentState::InstallFailed);
    assert_eq!(trace.agent.ack().installed_digest, Digest::default(), "the installed set is not known");
    trace.waits(2_000);
    assert_eq!(trace.waits(31_200), ["recover"]);
    trace.snapshot(31_300, &["A"], Some(&journal(7, Outcome::Installed)));
    assert_eq!(trace.ends(31_300, WorkerEnd::Done), ["ack idle, 7 installed"]);
}

/// As [`PENDING`], for an install that did not replace thimble itself.
const WATCHED: PendingProof = PendingProof {
    wait: Duration::from_millis(60_000),
    asks_every: Some(Duration::from_millis(1_000)),
    ..PENDING
};

/// Since 2,000 ms request 7 is in place and waits for a controller.
fn watched(pending: PendingProof) -> Trace {
    let mut trace = Trace::installing();
    trace.waits(1_200);
    assert_eq!(trace.snapshot(2_000, &[], Some(&journal(6, Outcome::Installed))), [""; 0]);
    let did = trace.event(2_000, &Event::ProofPending(pending));
    assert_eq!(did, ASKS, "both the one that asked and all");
    assert_eq!(trace.agent.awaits(at(2_000)), None, "its worker has not ended");
    assert_eq!(trace.ends(2_000, WorkerEnd::Done), [""; 0]);
    trace
}

const ASKS: [&str; 2] = ["tell 1: ack, 7 running", "ack installing health 95 %, 7 running"];

#[test]
fn an_install_in_place_is_committed_once_a_controller_is_heard() {
    for from in [CONTROLLER, OTHER] {
        let mut trace = watched(WATCHED);
        assert_eq!(trace.hello(2_001, from, 1), [ASKS[1]], "every agent can make that");
        assert_eq!(trace.own_hello(2_010, from), ["prove true"]);
        assert_eq!(trace.agent.awaits(at(2_010)), None, "it waits no longer");
        trace.snapshot(2_020, &["A"], Some(&journal(7, Outcome::Installed)));
        let done = trace.ends(2_020, WorkerEnd::Done);
        assert_eq!(
            done,
            ["tell 1: 7 installed", "ack idle, 7 installed"],
            "the answer goes where it was asked"
        );
    }
}

#[test]
fn controllers_are_asked_again_until_one_is_heard() {
    let mut trace = watched(WATCHED);
    for second in 3..62 {
        assert_eq!(trace.waits(second * 1_000 - 1), [""; 0]);
        assert_eq!(trace.agent.poll_at(), Some(at(second * 1_000)));
        assert_eq!(trace.waits(second * 1_000), ASKS);
    }
    let waited = trace.agent.awaits(at(32_000));
    assert_eq!(waited, Some((Duration::from_millis(30_000), Duration::from_millis(60_000))));
    assert_eq!(trace.waits(62_000), ["prove false"], "nobody was heard");
    assert_eq!(trace.agent.poll_at(), None);
    assert_eq!(trace.own_hello(62_001, CONTROLLER), [""; 0], "too late");
    trace.snapshot(63_000, &[], Some(&journal(7, Outcome::RolledBack)));
    let back = trace.ends(63_000, WorkerEnd::Done);
    assert_eq!(back, ["tell 1: 7 rolled back a script failed", "ack install-failed, 7 rolled back"]);
}

#[test]
fn the_own_controller_of_a_node_does_not_count_beside_others() {
    let mut trace = watched(PendingProof { except: Some(CONTROLLER), ..WATCHED });
    assert_eq!(trace.own_hello(2_010, CONTROLLER), [""; 0]);
    assert_eq!(trace.own_hello(2_020, OTHER), ["prove true"]);
}

#[test]
fn a_host_that_was_down_goes_on_waiting() {
    let mut trace = Trace::start(3);
    trace.waits(0);
    trace.snapshot(500, &[], None);
    let asks = ["ack installing health 95 %, 7 running"];
    assert_eq!(trace.event(500, &Event::ProofPending(WATCHED)), asks, "it was not asked since the start");
    assert_eq!(trace.ends(500, WorkerEnd::Done), [""; 0]);
    assert_eq!(trace.waits(1_500), asks);
    assert_eq!(trace.own_hello(1_600, OTHER), ["prove true"]);
    trace.snapshot(1_700, &["A"], Some(&journal(7, Outcome::Installed)));
    assert_eq!(trace.ends(1_700, WorkerEnd::Done), ["ack idle, 7 installed"]);
}

#[test]
fn a_worker_that_dies_once_its_set_is_in_place_is_recovered_and_the_set_waits() {
    let mut trace = Trace::installing();
    trace.crashes(2_000);
    trace.snapshot(2_500, &[], None);
    let asks = trace.event(2_500, &Event::ProofPending(WATCHED));
    assert_eq!(asks, ASKS);
    trace.ends(2_500, WorkerEnd::Done);
    assert_eq!(trace.own_hello(2_600, CONTROLLER), ["prove true"]);
    trace.snapshot(2_700, &["A"], Some(&journal(7, Outcome::Installed)));
    assert_eq!(trace.ends(2_700, WorkerEnd::Done)[0], "tell 1: 7 installed");
}
