//! `host-install`: asks for installs, watches them to their ends, sums up.

use std::borrow::Borrow;
use std::thread;
use std::time::Duration;

use super::client::Client;
use super::exit::{Exit, Failure};
use super::hosts::{host_json, named};
use super::out::Out;
use super::parse::Invocation;
use super::term::{KeyedLine, Screen};
use super::{rollout, sys};
use crate::control::{HostNames, HostRow, HostState, Reply, Request, RequestStatus};
use crate::json::Value;
use crate::types::Hostname;
use crate::wire::install::Outcome;

/// How often the daemon is asked how the installs go.
const POLL: Duration = Duration::from_millis(300);

/// `thimble host-install HOST.. | --all | --stop | --resume`
pub fn host_install(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    match rollout::wanted(invocation)? {
        Some(request) => rollout::start_and_follow(invocation, &request, out),
        None => install_named(invocation, out),
    }
}

fn install_named(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let hosts: HostNames = invocation
        .texts()?
        .into_iter()
        .map(|text| named(invocation, "host", text))
        .collect::<Result<_, _>>()?;
    sys::note_interrupts();
    let mut client = Client::connect(&invocation.socket()?)?;
    let request = Request::HostInstall { hosts, force: invocation.has("force") };
    let (mut rows, mut lines, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    client.ask(&request, |reply| {
        match reply {
            Reply::NotAsked { node, is_busy, reason } => {
                out.line(&reason)?;
                lines.push(reason.to_string());
                // One that is busy is watched all the same.
                refused.extend(Some(node).filter(|_| !is_busy));
            }
            Reply::Host(row) => rows.push(row),
            _ => {}
        }
        Ok(())
    })?;
    // What these did for an earlier request is of no interest now.
    rows.retain(|row| !refused.contains(&row.node));
    // From here on by node id: a name may come to mean another host.
    let nodes = rows.iter().map(|row| row.node).filter_map(|node| Hostname::new(&node.to_string()).ok());
    let watch = Request::Hosts { hosts: nodes.collect() };
    let mut screen = Screen::new(out.is_live());
    loop {
        let block: Vec<KeyedLine> = rows.iter().map(|row| (row.node.0, line(row))).collect();
        if rows.iter().all(|row| is_over(row.install)) {
            out.text(screen.finish(&block))?;
            break;
        }
        out.text(screen.show(&block))?;
        if sys::is_interrupted() {
            let sentence = "left: the installs go on without being watched; \
                            see `thimble query-hosts` for how they end";
            return Err(Failure::new(Exit::TimedOut, sentence));
        }
        thread::sleep(POLL);
        let now = ask(&mut client, &watch).map_err(going_on)?;
        for row in &mut rows {
            match now.iter().find(|now| now.node == row.node) {
                Some(now) => row.clone_from(now),
                // Dropped while we watched: nothing more will be heard of it here.
                None => row.install = RequestStatus::NoAnswer,
            }
        }
    }
    let mut said = summary(&rows);
    if !refused.is_empty() {
        said.push_str(&format!(", {} not asked", refused.len()));
    }
    out.line(said)?;
    let hosts = Value::list(rows.iter().map(host_json));
    let not_asked = Value::list(lines.into_iter().map(Value::Text));
    out.json(|| Value::object([("hosts", hosts), ("lines", not_asked)]))?;
    match exit(&rows) {
        Exit::Done | Exit::TimedOut if !refused.is_empty() => Err(Failure::said(Exit::Refused)),
        Exit::Done => Ok(()),
        other => Err(Failure::said(other)),
    }
}

pub(super) fn ask(client: &mut Client, request: impl Borrow<Request>) -> Result<Vec<HostRow>, Failure> {
    let mut rows = Vec::new();
    client.ask(request, |reply| {
        if let Reply::Host(row) = reply {
            rows.push(row);
        }
        Ok(())
    })?;
    Ok(rows)
}

/// What it means that the daemon ended while installs were watched.
fn going_on(failure: Failure) -> Failure {
    if failure.exit != Exit::Unreachable {
        return failure;
    }
    let sentence = "the daemon has ended; installs that have begun go on without it: see `thimble query-hosts` on \
                    another controller, or here once the daemon runs again";
    Failure::new(Exit::Unreachable, sentence)
}

/// Whether nothing more will come of an install. `None` after a request means
/// that the daemon was started anew and has forgotten it.
const fn is_over(install: RequestStatus) -> bool {
    matches!(install, RequestStatus::Ended(_) | RequestStatus::NoAnswer | RequestStatus::None)
}

const fn is_unanswered(install: RequestStatus) -> bool {
    matches!(install, RequestStatus::NoAnswer | RequestStatus::None)
}

/// What is said of one host now.
pub(super) fn line(row: &HostRow) -> String {
    let because = if row.reason.is_empty() { String::new() } else { format!(": {}", row.reason) };
    let said = match row.install {
        RequestStatus::Waiting => "asked, no answer yet".to_owned(),
        RequestStatus::Running => match row.state {
            HostState::Installing { step, percent } => format!("{percent:>3}%  {}", step.as_str()),
            _ => "begun".to_owned(),
        },
        RequestStatus::Ended(Outcome::Installed) if row.reboot_required => {
            format!("installed; it must restart before all is in effect{because}")
        }
        RequestStatus::Ended(Outcome::Installed) => format!("installed{because}"),
        RequestStatus::Ended(Outcome::Rejected) => format!("rejected{because}"),
        RequestStatus::Ended(Outcome::RolledBack) => {
            format!("failed, the previous patches are back in place{because}")
        }
        RequestStatus::Ended(Outcome::Broken) => {
            format!("failed, and the previous patches could not be restored{because}")
        }
        RequestStatus::NoAnswer => format!("no answer: whether it installs is not known{because}"),
        RequestStatus::None => {
            "the daemon has no record of the request (was it restarted?); the outcome is not known".to_owned()
        }
    };
    format!("{}: {said}", row.hostname)
}

/// One line about all hosts.
fn summary(rows: &[HostRow]) -> String {
    let count = |wanted: fn(&HostRow) -> bool| rows.iter().filter(|row| wanted(row)).count();
    let installed = count(|row| row.install == RequestStatus::Ended(Outcome::Installed));
    let unanswered = count(|row| is_unanswered(row.install));
    let failed = rows.len() - installed - unanswered;
    let mut text = format!("{installed} of {} installed", rows.len());
    if failed > 0 {
        text.push_str(&format!(", {failed} failed"));
    }
    if unanswered > 0 {
        text.push_str(&format!(", {unanswered} without an answer"));
    }
    text
}

/// A failure weighs more than a missing answer.
fn exit(rows: &[HostRow]) -> Exit {
    let is_failed =
        |row: &HostRow| matches!(row.install, RequestStatus::Ended(outcome) if outcome != Outcome::Installed);
    if rows.iter().any(is_failed) {
        Exit::Refused
    } else if rows.iter().any(|row| is_unanswered(row.install)) {
        Exit::TimedOut
    } else {
        Exit::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::hosts::tests::row;
    use crate::types::{NodeId, Reason};
    use crate::wire::install::Step;

    fn host(name: &str, node: u64, install: RequestStatus) -> HostRow {
        HostRow { node: NodeId(node), install, ..row(name) }
    }

    #[test]
    fn each_outcome_is_told_with_its_reason() {
        let mut failed = host("w", 1, RequestStatus::Ended(Outcome::RolledBack));
        failed.reason = Reason::truncated("health: exit status 1");
        assert_eq!(line(&failed), "w: failed, the previous patches are back in place: health: exit status 1");
        let mut running = host("w", 1, RequestStatus::Running);
        running.state = HostState::Installing { step: Step::Switching, percent: 61 };
        assert_eq!(line(&running), "w:  61%  switching");
        let done = host("w", 1, RequestStatus::Ended(Outcome::Installed));
        assert_eq!(line(&done), "w: installed");
        let noted = HostRow { reason: Reason::truncated("/etc/a was changed by hand and stays"), ..done };
        assert_eq!(line(&noted), "w: installed: /etc/a was changed by hand and stays");
        let noted = HostRow { reboot_required: true, ..noted };
        assert!(line(&noted).ends_with("in effect: /etc/a was changed by hand and stays"));
    }

    #[test]
    fn the_exit_code_is_the_worst_of_all_hosts() {
        let installed = host("a", 1, RequestStatus::Ended(Outcome::Installed));
        let rejected = host("b", 2, RequestStatus::Ended(Outcome::Rejected));
        let silent = host("c", 3, RequestStatus::NoAnswer);
        assert_eq!(exit(std::slice::from_ref(&installed)), Exit::Done);
        assert_eq!(exit(&[installed.clone(), silent.clone()]), Exit::TimedOut);
        assert_eq!(exit(&[installed.clone(), silent.clone(), rejected.clone()]), Exit::Refused);
        let all = [installed, silent, rejected];
        assert_eq!(summary(&all), "1 of 3 installed, 1 failed, 1 without an answer");
        assert_eq!(summary(&all[..1]), "1 of 1 installed");
    }
}
