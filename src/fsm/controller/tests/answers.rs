//! A host's answer to an install request, while the ack that says the same is lost.

use super::*;

/// A host that installs at the controller's request.
fn at_work() -> (Trace, RequestId) {
    let mut trace = Trace::start(&[entry("A")], 4);
    trace.hears(100, 5, ack(&[]));
    trace.answers(150, 5, &[]);
    assert!(trace.asks(200, 5).0.is_ok());
    let request_id = trace.host(5).request.request_id().unwrap();
    let running = RequestState::Running;
    let works = HelloAgentAck {
        state: AgentState::Installing,
        request_id,
        request: running,
        progress: 40,
        ..ack(&[])
    };
    trace.hears(300, 5, works);
    assert_eq!(trace.currency(5), Currency::Pending);
    (trace, request_id)
}

fn answer(request_id: RequestId, outcome: Option<Outcome>) -> Message {
    Message::AgentInstallResp(AgentInstallResp {
        request_id,
        status: outcome == Some(Outcome::Installed),
        outcome,
        reject_reason: Reason::truncated("why"),
        reboot_required: true,
    })
}

impl Trace {
    fn hears_answer(&mut self, now: u64, outcome: Option<Outcome>, request_id: RequestId) -> Vec<String> {
        let message = answer(request_id, outcome);
        self.controller.on_message(at(now), NodeId(5), peer(5), &message, &mut self.actions);
        self.did()
    }
}

#[test]
fn what_was_asked_for_is_installed_before_any_ack_says_so() {
    let (mut trace, request_id) = at_work();
    assert_eq!(trace.hears_answer(400, Some(Outcome::Installed), request_id), [""; 0]);
    assert_eq!(trace.currency(5), Currency::Current);
    assert_eq!(trace.state("A"), PatchState::Applied);
    assert!(trace.host(5).ack.requires_reboot && !trace.host(5).is_installing());
}

#[test]
fn a_set_that_has_changed_since_it_was_asked_for_is_queried() {
    let (mut trace, request_id) = at_work();
    trace.merges(350, &entry("B").stamp(2, 1));
    assert_eq!(trace.hears_answer(400, Some(Outcome::Installed), request_id), ["query 5"]);
    assert_eq!(trace.currency(5), Currency::OutOfDate);
    trace.answers(500, 5, &["A"]);
    assert_eq!((trace.state("A"), trace.state("B")), (PatchState::Applied, PatchState::PartialApply));
}

#[test]
fn a_host_whose_install_ended_otherwise_is_not_at_work_any_more() {
    for (outcome, state) in [
        (Outcome::Rejected, AgentState::InstallRejected),
        (Outcome::RolledBack, AgentState::InstallFailed),
        (Outcome::Broken, AgentState::InstallFailed),
    ] {
        let (mut trace, request_id) = at_work();
        trace.hears_answer(400, Some(outcome), request_id);
        assert_eq!((trace.currency(5), trace.host(5).ack.state), (Currency::Failed, state));
        assert_eq!(trace.host(5).is_unrecovered(), outcome == Outcome::Broken);
        assert_eq!(trace.host(5).ack.patch_failed, outcome != Outcome::Rejected);
    }
}

#[test]
fn an_answer_to_no_open_request_says_nothing_of_the_host() {
    let (mut trace, request_id) = at_work();
    trace.hears_answer(400, Some(Outcome::Installed), RequestId(request_id.0 ^ 1));
    assert_eq!(trace.currency(5), Currency::Pending);
    // The host is at work on another controller's request.
    trace.hears_answer(500, None, request_id);
    assert!(trace.host(5).is_installing());
    assert!(!trace.host(5).request.is_open());
}
