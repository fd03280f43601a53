//! Each cause, from what a controller tells of a host.

use super::*;
use crate::cli::hosts::tests::row;
use crate::control::{HostRow, MissingFile, OpenRow, SilentRow};
use crate::fsm::rollout::Census;
use crate::types::{Hostname, NodeId, Reason};
use crate::wire::install::Step;

pub fn host(row: HostRow) -> ExplainedHost {
    ExplainedHost {
        row,
        known: Known::Yes,
        lacks: Patches::default(),
        exceeds: Patches::default(),
        foreign: 0,
        is_of_no_kind: false,
        is_unrecovered: false,
        is_stalled: false,
        open: None,
        round_ms: 12_000,
        is_started: true,
        settles_ms: 0,
        is_cut: false,
        missing: None,
        rollout: None,
        silent: None,
        carrier: None,
    }
}

fn rollout(state: RolloutState) -> RolloutRow {
    RolloutRow {
        id: 1,
        state,
        carrier: NodeId(5),
        carrier_name: Hostname::new("controller-1").unwrap(),
        is_here: false,
        is_early: false,
        parallel: 2,
        stop_after: 3,
        force: false,
        hosts: Census { at_work: 2, ..Census::default() },
    }
}

fn codes(host: &ExplainedHost) -> Vec<&'static str> {
    causes(host).iter().map(|cause| cause.code).collect()
}

#[test]
fn a_current_host_has_no_cause() {
    let current = HostRow { current: Currency::Current, ..row("w") };
    assert_eq!(codes(&host(current.clone())), [""; 0]);
    let asking = ExplainedHost { known: Known::Asking, ..host(current.clone()) };
    assert_eq!(codes(&asking), [""; 0], "its digest says enough");
    assert_eq!(codes(&host(HostRow { reboot_required: true, ..current })), ["reboot-required"]);
}

#[test]
fn a_lost_host_says_since_when_and_what_is_tried_next() {
    let lost =
        |lost| host(HostRow { state: HostState::Lost, lost: Some(lost), age_ms: 180_000, ..row("w-1") });
    let silent = causes(&lost(LossCause::Silent)).remove(0);
    assert_eq!(silent.because, "it is lost: it does not answer, and was last heard 3 min 0 s ago");
    assert_eq!(silent.next, "all hosts are asked in 12 s; its answer brings it back");
    assert!(silent.hint.contains("thimble drop-host w-1"), "{}", silent.hint);
    assert!(causes(&lost(LossCause::Ended))[0].hint.starts_with("start thimble on it"));
    assert_eq!(codes(&lost(LossCause::Silent)), ["lost"], "it is no matter that nobody asked it");
    let cut = ExplainedHost { is_cut: true, ..lost(LossCause::Silent) };
    assert_eq!(codes(&cut), ["controller-network", "lost"]);
}

#[test]
fn each_state_of_an_install_has_its_cause() {
    let open = Some(OpenRow { again_ms: Some(4_000), gives_up_ms: 90_000 });
    let asked = HostRow { current: Currency::Pending, install: RequestStatus::Waiting, ..row("w") };
    let cause = causes(&ExplainedHost { open, ..host(asked) }).remove(0);
    assert_eq!(
        (cause.code, cause.next.as_str()),
        ("not-answered", "it is asked again in 4 s, and given up in 1 min 30 s")
    );
    let state = HostState::Installing { step: Step::Switching, percent: 61 };
    let at_work =
        host(HostRow { current: Currency::Pending, install: RequestStatus::Running, state, ..row("w") });
    assert_eq!(causes(&at_work)[0].because, "it installs: switching, 61%");
    assert_eq!(codes(&ExplainedHost { is_stalled: true, ..at_work }), ["stalled"]);
    for (outcome, words) in [
        (Outcome::Rejected, "it rejected its last install: no space"),
        (Outcome::RolledBack, "its last install failed, and the patches before it are back: no space"),
    ] {
        let install = RequestStatus::Ended(outcome);
        let reason = Reason::truncated("no space");
        let failed = host(HostRow { current: Currency::Failed, install, reason, ..row("w") });
        assert_eq!(causes(&failed)[0].because, words);
        assert_eq!(codes(&failed), ["failed"]);
    }
}

#[test]
fn a_host_that_waits_for_its_turn_says_whose_turn_it_is() {
    let next = HostRow { part: Some(RolloutPart::Next), ..row("w") };
    let of = |state| ExplainedHost { rollout: Some(rollout(state)), ..host(next.clone()) };
    let running = causes(&of(RolloutState::Running)).remove(0);
    assert_eq!(running.because, "its turn in the rollout has not come: 2 of 2 at work");
    assert_eq!(running.next, "controller-1 asks it once a host has ended");
    let away = |is_silent, takes_over_ms| {
        let carrier = Some(CarrierRow { heard_ms: Some(12_000), is_silent, takes_over_ms });
        causes(&ExplainedHost { carrier, ..of(RolloutState::Running) }).remove(0)
    };
    assert_eq!(away(false, None).next, "controller-1 (heard 12 s ago) asks it once a host has ended");
    let silent = away(true, Some(4_000));
    assert_eq!(silent.code, "rollout-carrier-silent");
    assert_eq!(
        silent.because,
        "controller-1, which carries the rollout, does not answer: it was heard 12 s ago"
    );
    assert_eq!(silent.next, "this controller takes the rollout over in 4 s, unless it answers");
    assert!(away(true, None).next.ends_with("once it has all files"));
    let early = ExplainedHost { settles_ms: 9_000, ..of(RolloutState::Running) };
    assert_eq!(codes(&early), ["controller-early", "rollout-turn"], "what blocks it comes first");
    assert_eq!(codes(&of(RolloutState::Halted)), ["rollout-stopped"]);
    assert_eq!(codes(&of(RolloutState::Ended)), ["not-asked"]);
    assert_eq!(codes(&host(next)), ["not-asked"]);
}

#[test]
fn a_silent_host_says_when_it_is_asked_again_and_lost() {
    let silent = Some(SilentRow { again_ms: 100, lost_ms: 2_500 });
    let host = ExplainedHost { silent, ..host(HostRow { age_ms: 33_000, ..row("w") }) };
    let said = causes(&host).remove(0);
    assert_eq!(said.because, "it does not answer: it was last heard 33 s ago");
    assert!(
        said.next.starts_with("it is asked again in ") && said.next.contains("is lost in 2 s"),
        "{said:?}"
    );
}

#[test]
fn an_install_of_before_the_rollout_is_no_cause_of_its_own() {
    let install = RequestStatus::Ended(Outcome::RolledBack);
    let part = Some(RolloutPart::Next);
    let failed = HostRow { current: Currency::Failed, install, part, ..row("w") };
    let waits = ExplainedHost { rollout: Some(rollout(RolloutState::Running)), ..host(failed) };
    let all = causes(&waits);
    assert_eq!((all[0].code, all[1].code), ("rollout-turn", "failed"));
    assert!(all[1].because.starts_with("its install before this rollout failed"), "{:?}", all[1]);
    assert_eq!((all[1].next.as_str(), all[1].hint.as_str()), ("it is asked again in this rollout", ""));
    let stopped = ExplainedHost { rollout: Some(rollout(RolloutState::Stopped)), ..waits };
    assert_eq!(codes(&stopped), ["failed"]);
}

#[test]
fn a_controllers_youth_is_told_where_it_matters() {
    let early = |row| ExplainedHost { settles_ms: 9_000, ..host(row) };
    let current = HostRow { current: Currency::Current, ..row("w") };
    assert_eq!(codes(&early(current.clone())), [""; 0], "nothing is wrong");
    let lost = HostRow { state: HostState::Lost, ..current };
    assert_eq!(codes(&early(lost)), ["lost", "controller-early"]);
}

#[test]
fn what_the_controller_lacks_comes_first() {
    let missing =
        Some(MissingFile { id: PatchId::new("A-1").unwrap(), reason: Reason::truncated("no route") });
    let early = ExplainedHost {
        is_started: false,
        settles_ms: 9_000,
        missing,
        is_of_no_kind: true,
        known: Known::Failed { times: 3, again_ms: 8_000 },
        ..host(HostRow { current: Currency::Unknown, ..row("w") })
    };
    assert_eq!(
        codes(&early),
        ["controller-starting", "file-missing", "too-many-kinds", "patches-not-known", "controller-early"]
    );
    assert_eq!(causes(&early)[1].because, "this controller lacks the file of A-1: no route");
}

#[test]
fn patches_are_named_and_the_rest_are_counted() {
    let mut patches = Patches::default();
    let mut names = Vec::new();
    for number in 1..=10 {
        patches.add(&PatchId::new(&format!("P-{number}")).unwrap());
        names.push(named(&patches));
    }
    assert_eq!(names[..3], ["P-1", "P-1 and P-2", "P-1, P-2 and P-3"]);
    assert!(names[9].ends_with("P-8 and 2 more"), "{}", names[9]);
}
