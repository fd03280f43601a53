//! `host-install`: asks hosts to install, follows the installs to their ends and prints
//! a summary.

use std::thread;

use super::client::Client;
use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::hosts::{host_json, named};
use super::out::Out;
use super::progress::{POLL, ask, line};
use super::term::{KeyedLine, Screen};
use super::{rollout, sys};
use crate::control::{HostNames, HostRow, Reply, Request, RequestStatus};
use crate::json::Value;
use crate::types::Hostname;
use crate::wire::install::Outcome;

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
                // A busy host is followed all the same.
                refused.extend(Some(node).filter(|_| !is_busy));
            }
            Reply::Host(row) => rows.push(row),
            _ => {}
        }
        Ok(())
    })?;
    // The rows of refused hosts are about earlier requests.
    rows.retain(|row| !refused.contains(&row.node));
    // From here on by node id: a name may move to another host.
    let nodes = rows.iter().map(|row| row.node).filter_map(|node| Hostname::new(&node.to_string()).ok());
    let watch = Request::Hosts { hosts: nodes.collect() };
    let mut screen = Screen::new(out.is_live());
    loop {
        let block: Vec<KeyedLine> = rows.iter().map(|row| (row.node.0, line(row))).collect();
        if rows.iter().all(|row| is_over(row.install)) {
            out.block(&mut screen, &block, true)?;
            break;
        }
        out.block(&mut screen, &block, false)?;
        if sys::is_interrupted() {
            let sentence = "interrupted: the installs continue; \
                            `thimble query-hosts` shows how they end";
            return Err(Failure::new(Exit::TimedOut, sentence));
        }
        thread::sleep(POLL);
        let now = ask(&mut client, &watch).map_err(explain_disconnect)?;
        for row in &mut rows {
            match now.iter().find(|now| now.node == row.node) {
                Some(now) => row.clone_from(now),
                // The host was dropped meanwhile: its outcome stays unknown here.
                None => row.install = RequestStatus::NoAnswer,
            }
        }
    }
    let mut line = summary(&rows);
    if !refused.is_empty() {
        line.push_str(&format!(", {} not asked", refused.len()));
    }
    out.line(line)?;
    let hosts = Value::list(rows.iter().map(host_json));
    let not_asked = Value::list(lines.into_iter().map(Value::Text));
    out.json(|| Value::object([("hosts", hosts), ("lines", not_asked)]))?;
    match exit(&rows) {
        Exit::Done | Exit::TimedOut if !refused.is_empty() => Err(Failure::silent(Exit::Refused)),
        Exit::Done => Ok(()),
        other => Err(Failure::silent(other)),
    }
}

/// Explains a daemon that ended while installs were followed.
fn explain_disconnect(failure: Failure) -> Failure {
    if failure.exit != Exit::Unreachable {
        return failure;
    }
    let sentence = "the daemon has ended; installs that have begun continue without it: see `thimble query-hosts` on \
                    another controller, or here once the daemon runs again";
    Failure::new(Exit::Unreachable, sentence)
}

/// Whether an install has reached its final status. `None` after a request means that
/// the daemon was restarted and has no record of it.
const fn is_over(install: RequestStatus) -> bool {
    matches!(install, RequestStatus::Ended(_) | RequestStatus::NoAnswer | RequestStatus::None)
}

const fn is_unanswered(install: RequestStatus) -> bool {
    matches!(install, RequestStatus::NoAnswer | RequestStatus::None)
}

/// The summary of all hosts, in one line.
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

/// The exit code: a failure takes precedence over a missing answer.
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
    use crate::types::NodeId;

    fn host(name: &str, node: u64, install: RequestStatus) -> HostRow {
        HostRow { node: NodeId(node), install, ..row(name) }
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
