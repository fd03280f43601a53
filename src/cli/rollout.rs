//! `host-install --all`, `--stop`, `--resume`: starts and follows the rollout that the
//! controllers run.

use std::thread;

use super::client::Client;
use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::hosts::host_json;
use super::out::Out;
use super::progress::{POLL, ask, line as host_line};
use super::sys;
use super::term::{KeyedLine, Screen, Style, bar};
use crate::control::{HostFilter, HostRow, Reply, Request, RolloutRow};
use crate::fsm::rollout::RolloutPart;
use crate::json::Value;
use crate::repo::rollout::RolloutState;

/// Polls that must agree that a rollout of another controller is over: this controller
/// hears of the hosts' states a moment later than the one that asks them.
const LOOKS: u32 = 4;
/// Default of `--parallel`: as many hosts as a controller serves at once.
const PARALLEL: u16 = 4;
/// Default of `--stop-after-failures`.
const STOP_AFTER: u16 = 3;
/// Options allowed only with `--all`.
const OF_ALL: [&str; 2] = ["parallel", "stop-after-failures"];

/// The request for a rollout; `None` if the command line names hosts.
///
/// # Errors
/// [`Exit::Usage`]: the options exclude each other.
pub fn wanted(invocation: &Invocation) -> Result<Option<Request>, Failure> {
    let given = ["all", "stop", "resume"].map(|option| invocation.has(option));
    let is_named = !invocation.arguments.is_empty();
    if usize::from(is_named) + given.iter().filter(|is_given| **is_given).count() != 1 {
        return Err(invocation.usage("host-install wants HOST.., or one of --all, --stop and --resume"));
    }
    let [is_all, is_stop, is_resume] = given;
    if let Some(option) = OF_ALL.iter().find(|option| !is_all && invocation.has(option)) {
        return Err(invocation.usage(&format!("--{option} is allowed only with --all")));
    }
    if (is_stop || is_resume) && invocation.has("force") {
        return Err(invocation.usage(
            "--force is allowed only with HOST.. and --all: a rollout keeps the value it began with",
        ));
    }
    Ok(match given {
        [true, ..] => Some(Request::StartRollout {
            parallel: number(invocation, "parallel", 1, PARALLEL)?,
            stop_after: number(invocation, "stop-after-failures", 0, STOP_AFTER)?,
            force: invocation.has("force"),
        }),
        _ if is_stop => Some(Request::StopRollout),
        _ if is_resume => Some(Request::ResumeRollout),
        _ => None,
    })
}

/// The number given by an option; at least `least`, `or` without the option.
pub(super) fn number(invocation: &Invocation, option: &str, least: u16, or: u16) -> Result<u16, Failure> {
    let Some(text) = invocation.value(option) else { return Ok(or) };
    let number = text.to_str().and_then(|text| text.parse().ok()).filter(|number| *number >= least);
    number.ok_or_else(|| {
        let shown = text.display();
        invocation.usage(&format!("--{option} wants a number from {least} to {}, not {shown}", u16::MAX))
    })
}

/// Starts, stops or resumes the rollout, and follows it to its end.
///
/// # Errors
/// The request was refused, or the rollout did not end well.
pub fn start_and_follow(invocation: &Invocation, request: &Request, out: &mut Out) -> Result<(), Failure> {
    sys::note_interrupts();
    let is_stop = matches!(request, Request::StopRollout);
    let mut client = Client::connect(&invocation.socket()?)?;
    client.ask(request, |reply| {
        if let Reply::Line(line) = reply {
            out.line(line)?;
        }
        Ok(())
    })?;
    match follow(&mut client, out) {
        // The rollout has stopped as requested, whatever the hosts' outcomes.
        Err(failure) if is_stop && failure.message.is_empty() => Ok(()),
        followed => followed,
    }
}

/// Shows the rollout until it is over.
///
/// # Errors
/// The rollout did not end well, or the user interrupted.
pub fn follow(client: &mut Client, out: &mut Out) -> Result<(), Failure> {
    let mut screen = Screen::new(out.is_live());
    let (mut looks, mut begun) = (0, None);
    loop {
        let Some(row) = look(client).map_err(explain_disconnect)? else {
            return Err(Failure::new(Exit::Refused, "there was no rollout yet"));
        };
        let hosts =
            ask(client, Request::QueryHosts { filter: HostFilter::Rollout }).map_err(explain_disconnect)?;
        let mut lines = lines(&row, &hosts, out.style(), screen.is_live());
        if *begun.get_or_insert(row.id) != row.id {
            // Two rollouts started at once, or this one was stopped and resumed. One
            // remains.
            lines.push((u64::MAX, format!("this is another rollout, started on {}", row.carrier_name)));
        }
        looks = if is_over(&row) { looks + 1 } else { 0 };
        if looks >= if row.is_here { 1 } else { LOOKS } {
            out.block(&mut screen, &lines, true)?;
            return end(&row, &hosts, out);
        }
        out.block(&mut screen, &lines, false)?;
        if sys::is_interrupted() {
            let sentence = "interrupted: the rollout continues; `thimble watch` follows it, and \
                            `thimble host-install --stop` stops it";
            return Err(Failure::new(Exit::TimedOut, sentence));
        }
        thread::sleep(POLL);
    }
}

/// Asks the daemon for the last rollout.
///
/// # Errors
/// As [`Client::ask`].
pub fn look(client: &mut Client) -> Result<Option<RolloutRow>, Failure> {
    let mut found = None;
    client.ask(Request::Rollout, |reply| {
        if let Reply::Rollout(row) = reply {
            found = Some(row);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Explains a daemon that ended while the rollout was followed.
fn explain_disconnect(failure: Failure) -> Failure {
    if failure.exit != Exit::Unreachable {
        return failure;
    }
    let sentence = "the daemon has ended; another controller continues the rollout, or this one once \
                    its daemon runs again: follow it with `thimble watch` there";
    Failure::new(Exit::Unreachable, sentence)
}

/// Whether the rollout is over and every host that was at work has ended.
#[must_use]
pub fn is_over(row: &RolloutRow) -> bool {
    row.state != RolloutState::Running && row.hosts.at_work == 0 && !row.is_early
}

/// The lines that show a rollout: one for all hosts, one for each failed host and, on a
/// terminal, one for each host at work.
#[must_use]
pub fn lines(row: &RolloutRow, hosts: &[HostRow], style: Style, is_live: bool) -> Vec<KeyedLine> {
    let mut lines = vec![(0, headline(row, style, is_live))];
    let is_shown = |host: &&HostRow| is_live || host.part != Some(RolloutPart::AtWork);
    lines.extend(hosts.iter().filter(is_shown).map(|host| {
        let line = host_line(host);
        let line = if host.part == Some(RolloutPart::AtWork) { line } else { style.red(&line) };
        (host.node.0, format!("  {line}"))
    }));
    lines
}

/// The line for all hosts.
fn headline(row: &RolloutRow, style: Style, is_live: bool) -> String {
    let hosts = &row.hosts;
    let over = hosts.done + hosts.behind + hosts.current + hosts.failed + hosts.no_answer;
    // Lost hosts are not asked, so the rollout does not wait for them.
    let all = over + hosts.at_work + hosts.next;
    let state = match row.state {
        RolloutState::Running if row.is_early => {
            style.yellow("rollout waits until all hosts have been queried")
        }
        RolloutState::Running => style.bold("rollout"),
        RolloutState::Stopped => style.yellow("rollout stopped"),
        RolloutState::Halted => style.red("rollout stopped after failures"),
        RolloutState::Ended => style.bold("rollout ended"),
    };
    let drawn = if is_live { bar(percent(over, all), 22) + " " } else { String::new() };
    let mut text = format!("{state}: {drawn}{over} of {all} hosts");
    let parts = [
        (hosts.done, "installed"),
        (hosts.behind, "installed an earlier set"),
        (hosts.current, "had nothing to do"),
        (hosts.at_work, "at work"),
        (hosts.failed, "failed"),
        (hosts.no_answer, "without an answer"),
        (hosts.lost, "lost and not asked"),
    ];
    for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {what}"));
    }
    text
}

/// The percentage of hosts that are done; 100 only if all are.
fn percent(over: u32, all: u32) -> u8 {
    let percent = u64::from(over) * 100 / u64::from(all.max(1));
    if all == 0 { 100 } else { percent as u8 }
}

/// Prints advice and the document, and returns the exit code.
fn end(row: &RolloutRow, hosts: &[HostRow], out: &mut Out) -> Result<(), Failure> {
    if let Some(line) = advice(row) {
        out.line(line)?;
    }
    out.json(|| json(row, hosts))?;
    match exit(row) {
        Exit::Done => Ok(()),
        other => Err(Failure::silent(other)),
    }
}

fn advice(row: &RolloutRow) -> Option<&'static str> {
    let hosts = &row.hosts;
    match row.state {
        RolloutState::Stopped | RolloutState::Halted => Some(
            "No further host is asked. Continue with `thimble host-install --resume`: failed hosts are asked again.",
        ),
        _ if hosts.failed + hosts.no_answer > 0 => {
            Some("`thimble host-install --all` asks only the hosts again that have failed or not answered.")
        }
        _ if hosts.behind > 0 => Some(
            "The applied patches have changed since some hosts were asked: `thimble host-install --all` asks them again.",
        ),
        _ if hosts.lost > 0 => {
            Some("Lost hosts are not asked. Run `thimble host-install --all` once they are heard again.")
        }
        _ => None,
    }
}

/// The exit code: a failure takes precedence over a missing answer. A host that was not
/// asked counts as a missing answer.
#[must_use]
pub fn exit(row: &RolloutRow) -> Exit {
    let hosts = &row.hosts;
    if hosts.failed + hosts.behind > 0 || row.state != RolloutState::Ended {
        Exit::Refused
    } else if hosts.no_answer + hosts.lost > 0 {
        Exit::TimedOut
    } else {
        Exit::Done
    }
}

/// The rollout as JSON, with the hosts that are at work or have failed.
#[must_use]
pub fn json(row: &RolloutRow, hosts: &[HostRow]) -> Value {
    Value::object([("rollout", rollout_json(row)), ("hosts", Value::list(hosts.iter().map(host_json)))])
}

/// The rollout alone, as JSON.
#[must_use]
pub fn rollout_json(row: &RolloutRow) -> Value {
    let hosts = &row.hosts;
    let state = match row.state {
        RolloutState::Running => "running",
        RolloutState::Stopped => "stopped",
        RolloutState::Halted => "halted",
        RolloutState::Ended => "ended",
    };
    Value::object([
        ("id", Value::text(format_args!("{:016x}", row.id))),
        ("state", Value::text(state)),
        ("carrier", Value::text(row.carrier)),
        ("carrier_name", Value::text(&row.carrier_name)),
        ("here", row.is_here.into()),
        ("early", row.is_early.into()),
        ("parallel", u32::from(row.parallel).into()),
        ("stop_after", u32::from(row.stop_after).into()),
        ("force", row.force.into()),
        ("hosts", hosts.hosts().into()),
        ("installed", hosts.done.into()),
        ("behind", hosts.behind.into()),
        ("current", hosts.current.into()),
        ("failed", hosts.failed.into()),
        ("no_answer", hosts.no_answer.into()),
        ("at_work", hosts.at_work.into()),
        ("next", hosts.next.into()),
        ("lost", hosts.lost.into()),
    ])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::hosts::tests::row as host;
    use crate::cli::parse;
    use crate::control::RequestStatus;
    use crate::fsm::rollout::Census;
    use crate::types::{Hostname, NodeId, Reason};
    use crate::wire::install::Outcome;

    pub fn row(state: RolloutState, hosts: Census) -> RolloutRow {
        RolloutRow {
            id: 0x1f,
            state,
            carrier: NodeId(1),
            carrier_name: Hostname::new("controller-0").unwrap(),
            is_here: true,
            is_early: false,
            parallel: 4,
            stop_after: 3,
            force: false,
            hosts,
        }
    }

    fn asked(line: &str) -> Result<Option<Request>, Failure> {
        wanted(&parse::parse(line.split_whitespace().map(Into::into))?)
    }

    #[test]
    fn hosts_are_named_or_all_and_conflicting_options_are_refused() {
        assert!(asked("host-install w").unwrap().is_none());
        let request = asked("host-install --all --parallel 9").unwrap();
        assert!(matches!(request, Some(Request::StartRollout { parallel: 9, stop_after: 3, force: false })));
        let request = asked("host-install --all --stop-after-failures 0 --force").unwrap();
        assert!(matches!(request, Some(Request::StartRollout { parallel: 4, stop_after: 0, force: true })));
        assert!(matches!(asked("host-install --stop").unwrap(), Some(Request::StopRollout)));
        assert!(matches!(asked("host-install --resume").unwrap(), Some(Request::ResumeRollout)));
        for line in [
            "host-install",
            "host-install w --all",
            "host-install --stop --resume",
            "host-install w --parallel 2",
            "host-install --resume --parallel 2",
            "host-install --all --parallel 0",
            "host-install --all --parallel many",
            "host-install --all --stop-after-failures 65536",
            "host-install --stop --force",
        ] {
            assert_eq!(asked(line).unwrap_err().exit, Exit::Usage, "{line}");
        }
    }

    #[test]
    fn the_headline_shows_counts_above_zero_only() {
        let census =
            Census { done: 3, current: 1, failed: 1, at_work: 2, next: 3, lost: 1, ..Census::default() };
        assert_eq!(
            headline(&row(RolloutState::Running, census), Style::default(), true),
            "rollout: [##########..........] 5 of 10 hosts, 3 installed, 1 had nothing to do, 2 at work, 1 failed, 1 \
             lost and not asked"
        );
        let none = Census::default();
        assert_eq!(
            headline(&row(RolloutState::Ended, none), Style::default(), false),
            "rollout ended: 0 of 0 hosts"
        );
    }

    #[test]
    fn the_exit_code_is_zero_only_if_every_host_has_the_applied_set() {
        let of = |state, hosts| exit(&row(state, hosts));
        let done = Census { done: 3, current: 1, ..Census::default() };
        assert_eq!(of(RolloutState::Ended, done), Exit::Done);
        assert_eq!(of(RolloutState::Ended, Census { lost: 1, ..done }), Exit::TimedOut);
        assert_eq!(of(RolloutState::Ended, Census { no_answer: 1, ..done }), Exit::TimedOut);
        assert_eq!(of(RolloutState::Ended, Census { failed: 1, no_answer: 1, ..done }), Exit::Refused);
        assert_eq!(of(RolloutState::Ended, Census { behind: 1, ..done }), Exit::Refused);
        assert_eq!(of(RolloutState::Stopped, done), Exit::Refused);
        assert_eq!(of(RolloutState::Halted, done), Exit::Refused);
    }

    #[test]
    fn a_pipe_gets_failures_and_counts_but_not_every_step() {
        let mut at_work = host("w-1");
        at_work.part = Some(RolloutPart::AtWork);
        at_work.install = RequestStatus::Waiting;
        let mut failed = host("w-2");
        failed.part = Some(RolloutPart::Failed);
        failed.install = RequestStatus::Ended(Outcome::Rejected);
        failed.reason = Reason::truncated("Node must be locked.");
        let row = row(RolloutState::Running, Census { at_work: 1, failed: 1, ..Census::default() });
        let hosts = [at_work, failed];
        let texts = |is_live| -> Vec<String> {
            lines(&row, &hosts, Style::default(), is_live).into_iter().map(|(_, line)| line).collect()
        };
        assert_eq!(
            texts(false),
            ["rollout: 1 of 2 hosts, 1 at work, 1 failed", "  w-2: rejected: Node must be locked."]
        );
        assert_eq!(texts(true)[1], "  w-1: asked, no answer yet");
    }
}
