//! Traces of a new thimble that has just replaced the old one.

use super::*;

const UNHEARD: u64 = 3_600_000;

/// At 500 ms recovery has found that the proof of request 7 is pending, on a host with
/// nothing installed.
fn proving() -> Trace {
    let mut trace = Trace::start(3);
    assert_eq!(trace.waits(0), ["recover"]);
    assert_eq!(trace.snapshot(500, &[], Some(&journal(6, Outcome::Installed))), [""; 0]);
    let did = trace.event(500, &Event::ProofPending(RequestId(7), CONTROLLER));
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
