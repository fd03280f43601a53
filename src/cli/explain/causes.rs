//! The causes of a host's state, each with what happens next and what an operator can do.

use crate::cli::hosts::because;
use crate::control::{
    Currency, ExplainedHost, HostState, Known, LossCause, Patches, RequestStatus, RolloutRow,
};
use crate::fsm::rollout::RolloutPart;
use crate::repo::rollout::RolloutState;
use crate::time::Span;
use crate::types::PatchId;
use crate::wire::install::Outcome;

/// Why a host or a patch is not as it should be.
#[derive(Debug, Default)]
pub struct Cause {
    /// Which, in a word for scripts.
    pub code: &'static str,
    /// The cause.
    pub because: String,
    /// What happens without anybody's doing, and when; empty if nothing does.
    pub next: String,
    /// What an operator can do; empty if nothing is to be done.
    pub hint: String,
}

impl Cause {
    pub(in crate::cli) fn new(code: &'static str, because: impl Into<String>) -> Self {
        Self { code, because: because.into(), ..Self::default() }
    }

    pub(in crate::cli) fn next(self, next: impl Into<String>) -> Self {
        Self { next: next.into(), ..self }
    }

    pub(in crate::cli) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }
}

fn span(ms: u64) -> Span {
    Span::of_millis(ms)
}

/// Names of patches: the named ones, and how many more there are.
pub fn named(patches: &Patches) -> String {
    let names: Vec<&str> = patches.named.iter().map(PatchId::as_str).collect();
    let more = patches.count as usize - names.len();
    match (&names[..], more) {
        ([], _) => String::new(),
        ([only], 0) => (*only).to_owned(),
        ([all @ .., last], 0) => format!("{} and {last}", all.join(", ")),
        (all, more) => format!("{} and {more} more", all.join(", ")),
    }
}

/// All causes, the controller's own first, since the rest may only seem so without them.
#[must_use]
pub fn causes(host: &ExplainedHost) -> Vec<Cause> {
    let mut causes = of_controller(host);
    let row = &host.row;
    let name = &row.hostname;
    if row.state == HostState::Lost {
        causes.push(lost(host));
    }
    if host.is_unrecovered {
        causes.push(
            Cause::new("unrecovered", "the host could not restore its files: they may be of two sets")
                .next("the host tries again every 30 s")
                .hint(format!("see what is in the way: `thimble status` on {name}")),
        );
    }
    causes.extend(of_request(host));
    if row.current == Currency::OutOfDate && host.open.is_none() && row.state != HostState::Lost {
        causes.push(of_turn(host));
    }
    causes.extend(of_knowledge(host));
    if row.reboot_required {
        causes.push(
            Cause::new("reboot-required", "the host must restart before all of its patches are in effect")
                .hint(format!("restart {name} when its work allows it")),
        );
    }
    causes
}

/// What this controller lacks.
fn of_controller(host: &ExplainedHost) -> Vec<Cause> {
    let mut causes = Vec::new();
    if host.is_cut {
        causes.push(
            Cause::new("controller-network", "this controller's own interface is not up, so it hears nobody")
                .hint("see `thimble status` here, before anything is done about hosts"),
        );
    }
    if !host.is_started {
        causes.push(
            Cause::new(
                "controller-starting",
                "this controller has just started and has not compared its repository with the others'",
            )
            .next("it does so as soon as they answer, or is sure that there are none"),
        );
    }
    if host.settles_ms > 0 {
        causes.push(
            Cause::new(
                "controller-early",
                "this controller has just started and has not asked all hosts twice",
            )
            .next(format!("it has in {}", span(host.settles_ms))),
        );
    }
    if let Some(missing) = &host.missing {
        let why = if missing.reason.is_empty() { String::new() } else { format!(": {}", missing.reason) };
        causes.push(
            Cause::new("file-missing", format!("this controller lacks the file of {}{why}", missing.id))
                .next("it is fetched from another controller as soon as one that has it is heard")
                .hint("see `thimble status`; if no controller has the file, upload it again"),
        );
    }
    if host.is_of_no_kind {
        let nodetype = &host.row.nodetype;
        causes.push(
            Cause::new(
                "too-many-kinds",
                format!("there are more kinds of hosts than thimble tells apart, and {nodetype} is one of the rest"),
            )
            .hint("give hosts with equal patches one nodetype"),
        );
    }
    causes
}

fn lost(host: &ExplainedHost) -> Cause {
    let row = &host.row;
    let cause = row.lost.unwrap_or(LossCause::Silent);
    let hint = match cause {
        LossCause::Ended => "start thimble on it, and see why it ended in its log".to_owned(),
        LossCause::Silent | LossCause::OutOfReach => format!(
            "see which ways to it work, `thimble ping {}`, and what its own `thimble status` says of the network",
            row.hostname
        ),
    };
    Cause::new("lost", format!("it is lost: {}, and was last heard {} ago", cause.words(), span(row.age_ms)))
        .next(format!("all hosts are asked in {}; its answer brings it back", span(host.round_ms)))
        .hint(format!("{hint}; if it is gone for good, `thimble drop-host {}`", row.hostname))
}

/// What its install, or the last one, says.
fn of_request(host: &ExplainedHost) -> Option<Cause> {
    let row = &host.row;
    let name = &row.hostname;
    let again =
        host.open.and_then(|open| open.again_ms).map(|ms| format!("it is asked again in {}", span(ms)));
    let gives_up = host.open.map_or(0, |open| open.gives_up_ms);
    if row.install == RequestStatus::Waiting {
        let next = again.unwrap_or_else(|| "it is listened for".to_owned());
        return Some(
            Cause::new("not-answered", "it was asked to install and has not answered")
                .next(format!("{next}, and given up in {}", span(gives_up)))
                .hint(format!(
                    "see whether it hears this controller: `thimble ping {name}`, and `asked by` in `thimble status` there"
                )),
        );
    }
    if let HostState::Installing { step, percent } = row.state {
        let how = format!("it installs: {}, {percent}%", step.as_str());
        let next = match host.open {
            Some(_) => format!(
                "it counts as not answered if it does not get on, or is unheard for {}",
                span(gives_up)
            ),
            None => "its end is shown when it is reported".to_owned(),
        };
        return Some(match host.is_stalled {
            true => Cause::new("stalled", format!("{how}, and has not got on for long"))
                .hint(format!("see its log, and `thimble status` on {name}")),
            false => Cause::new("installing", how).next(next),
        });
    }
    if row.install == RequestStatus::Running {
        return Some(
            Cause::new("reason-asked", "its install has failed, and it is asked for the reason")
                .next(again.unwrap_or_default()),
        );
    }
    if row.current != Currency::Failed && row.state != HostState::InstallRejected {
        return None;
    }
    let how = match row.install {
        RequestStatus::Ended(Outcome::Rejected) => "it rejected its last install",
        RequestStatus::Ended(Outcome::RolledBack) => {
            "its last install failed, and the patches before it are back"
        }
        RequestStatus::Ended(Outcome::Broken) => {
            "its last install failed, and the patches before it could not be restored"
        }
        RequestStatus::NoAnswer => "its last install had no answer",
        _ => "its last install failed",
    };
    let why = because(row);
    let how = if why.is_empty() { how.to_owned() } else { format!("{how}: {why}") };
    Some(
        Cause::new("failed", how)
            .hint(format!("mend the cause, or remove the patch, then `thimble host-install {name}`")),
    )
}

/// Why nobody has asked it to install.
fn of_turn(host: &ExplainedHost) -> Cause {
    let name = &host.row.hostname;
    let unasked = || {
        Cause::new("not-asked", "nobody has asked it to install")
            .hint(format!("`thimble host-install {name}`, or `thimble host-install --all` for all hosts"))
    };
    let Some(rollout) = &host.rollout else { return unasked() };
    match (rollout.state, host.row.part) {
        (RolloutState::Running, Some(RolloutPart::Next)) => turn(rollout),
        (RolloutState::Stopped | RolloutState::Halted, Some(RolloutPart::Next)) => {
            let why = if rollout.state == RolloutState::Halted { " after failures" } else { "" };
            Cause::new("rollout-stopped", format!("the rollout was stopped{why} before its turn"))
                .hint("`thimble host-install --resume`")
        }
        _ => unasked(),
    }
}

/// Why a running rollout has not asked it.
fn turn(rollout: &RolloutRow) -> Cause {
    let carrier = match rollout.is_here {
        true => "this controller".to_owned(),
        false if rollout.carrier_name.is_empty() => format!("controller {}", rollout.carrier),
        false => rollout.carrier_name.to_string(),
    };
    if rollout.is_early {
        return Cause::new("rollout-early", format!("the rollout waits until {carrier} knows all hosts"));
    }
    Cause::new(
        "rollout-turn",
        format!(
            "its turn in the rollout has not come: {} of {} at work",
            rollout.hosts.at_work, rollout.parallel
        ),
    )
    .next(format!("{carrier} asks it once a host has ended"))
}

fn of_knowledge(host: &ExplainedHost) -> Option<Cause> {
    match host.known {
        Known::Yes if host.foreign > 0 => Some(
            Cause::new(
                "unknown-patches",
                format!("it has {} patches that the repository does not know", host.foreign),
            )
            .hint("upload them, or install on it: what is not in the repository is removed"),
        ),
        Known::Yes => None,
        Known::Asking if host.row.current == Currency::Current => None,
        Known::Asking => Some(
            Cause::new("patches-not-known", "this controller does not know yet which patches it has")
                .next("it is asked as soon as a place is free"),
        ),
        Known::Failed { times, again_ms } => Some(
            Cause::new(
                "patches-not-known",
                format!("it could not be asked which patches it has, {times} times in a row"),
            )
            .next(format!("it is asked again in {}", span(again_ms)))
            .hint(
                "a session, over the same port as datagrams, must be let through by every firewall between",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::hosts::tests::row;
    use crate::control::{HostRow, MissingFile, OpenRow};
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
        assert_eq!(codes(&of(RolloutState::Halted)), ["rollout-stopped"]);
        assert_eq!(codes(&of(RolloutState::Ended)), ["not-asked"]);
        assert_eq!(codes(&host(next)), ["not-asked"]);
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
            [
                "controller-starting",
                "controller-early",
                "file-missing",
                "too-many-kinds",
                "patches-not-known"
            ]
        );
        assert_eq!(causes(&early)[2].because, "this controller lacks the file of A-1: no route");
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
}
