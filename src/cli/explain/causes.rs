//! The causes of a host's state, each with what happens next and what an operator can do.

#[cfg(test)]
mod tests;

use crate::cli::hosts::because;
use crate::control::{
    CarrierRow, Currency, ExplainedHost, HostState, Known, LossCause, Patches, RequestStatus, RolloutRow,
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

/// Whether a rollout runs in which the host is still to be asked: what it did last is of before.
#[must_use]
pub fn waits_for_turn(host: &ExplainedHost) -> bool {
    let runs = host.rollout.as_ref().is_some_and(|rollout| rollout.state == RolloutState::Running);
    runs && host.row.part == Some(RolloutPart::Next)
}

/// All causes, the one that blocks the host first. What this controller lacks comes before the rest
/// where the rest may only seem so without it.
#[must_use]
pub fn causes(host: &ExplainedHost) -> Vec<Cause> {
    let row = &host.row;
    let name = &row.hostname;
    let mut causes = of_controller(host);
    let is_early = host.settles_ms > 0;
    // Until then it asks no host of a rollout.
    let waits = waits_for_turn(host);
    let waits_here = waits && host.carrier.is_none();
    if is_early && waits_here {
        causes.push(early(host));
    }
    if row.state == HostState::Lost {
        causes.push(lost(host));
    } else if let Some(silent) = host.silent {
        causes.push(
            Cause::new("silent", format!("it does not answer: it was last heard {} ago", span(row.age_ms)))
                .next(format!(
                    "it is asked again in {}, and is lost in {}",
                    span(silent.again_ms),
                    span(silent.lost_ms)
                )),
        );
    }
    if host.is_unrecovered {
        causes.push(
            Cause::new("unrecovered", "the host could not restore its files: they may be of two sets")
                .next("the host tries again every 30 s")
                .hint(format!("see what is in the way: `thimble status` on {name}")),
        );
    }
    let is_free = host.open.is_none() && row.state != HostState::Lost;
    if is_free && (row.current == Currency::OutOfDate || (row.current == Currency::Failed && waits)) {
        causes.push(of_turn(host));
    }
    causes.extend(of_request(host, waits));
    causes.extend(of_knowledge(host));
    if row.reboot_required {
        causes.push(
            Cause::new("reboot-required", "the host must restart before all of its patches are in effect")
                .hint(format!("restart {name} when its work allows it")),
        );
    }
    let is_well = row.current == Currency::Current && row.state != HostState::Lost;
    if is_early && !waits_here && !is_well {
        causes.push(early(host));
    }
    causes
}

/// This controller does not know all hosts yet.
fn early(host: &ExplainedHost) -> Cause {
    let because = "this controller has just started and has not asked all hosts twice";
    Cause::new("controller-early", because).next(format!("it has in {}", span(host.settles_ms)))
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

/// What its install, or the last one, says: one of before this rollout if `is_earlier`.
fn of_request(host: &ExplainedHost, is_earlier: bool) -> Option<Cause> {
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
            Some(_) => {
                format!("it counts as not answered if it does not get on for {}, or is lost", span(gives_up))
            }
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
    let which = if is_earlier { "install before this rollout" } else { "last install" };
    let failed = match row.install {
        RequestStatus::Ended(Outcome::RolledBack) => "failed, and the patches before it are back",
        RequestStatus::Ended(Outcome::Broken) => "failed, and the patches before it could not be restored",
        RequestStatus::NoAnswer => "had no answer",
        _ => "failed",
    };
    let why = because(row);
    let colon = if why.is_empty() { "" } else { ": " };
    let cause = Cause::new(
        "failed",
        match row.install {
            RequestStatus::Ended(Outcome::Rejected) => format!("it rejected its {which}{colon}{why}"),
            _ => format!("its {which} {failed}{colon}{why}"),
        },
    );
    Some(match is_earlier {
        true => cause.next("it is asked again in this rollout"),
        false => {
            cause.hint(format!("mend the cause, or remove the patch, then `thimble host-install {name}`"))
        }
    })
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
        (RolloutState::Running, Some(RolloutPart::Next)) => turn(rollout, host.carrier),
        (RolloutState::Stopped | RolloutState::Halted, Some(RolloutPart::Next)) => {
            let why = if rollout.state == RolloutState::Halted { " after failures" } else { "" };
            Cause::new("rollout-stopped", format!("the rollout was stopped{why} before its turn"))
                .hint("`thimble host-install --resume`")
        }
        _ => unasked(),
    }
}

/// Why a running rollout has not asked it.
fn turn(rollout: &RolloutRow, elsewhere: Option<CarrierRow>) -> Cause {
    let carrier = match rollout.is_here {
        true => "this controller".to_owned(),
        false if rollout.carrier_name.is_empty() => format!("controller {}", rollout.carrier),
        false => rollout.carrier_name.to_string(),
    };
    let heard = elsewhere.map(|one| match one.heard_ms {
        Some(ms) => format!("heard {} ago", span(ms)),
        None => "not heard since this controller's start".to_owned(),
    });
    if let (Some(CarrierRow { is_silent: true, takes_over_ms, .. }), Some(heard)) = (elsewhere, &heard) {
        let because = format!("{carrier}, which carries the rollout, does not answer: it was {heard}");
        return Cause::new("rollout-carrier-silent", because).next(match takes_over_ms {
            Some(ms) => format!("this controller takes the rollout over in {}, unless it answers", span(ms)),
            None => "this controller takes the rollout over once it has all files".to_owned(),
        });
    }
    if rollout.is_early && rollout.is_here {
        return Cause::new("rollout-early", format!("the rollout waits until {carrier} knows all hosts"));
    }
    Cause::new(
        "rollout-turn",
        format!(
            "its turn in the rollout has not come: {} of {} at work",
            rollout.hosts.at_work, rollout.parallel
        ),
    )
    .next({
        let when =
            if rollout.hosts.at_work == 0 { "next, or the one before it" } else { "once a host has ended" };
        match heard {
            Some(heard) => format!("{carrier} ({heard}) asks it {when}"),
            None => format!("{carrier} asks it {when}"),
        }
    })
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
