//! The state of the daemon from one query, and the block of lines that shows it, the most
//! important first, because a terminal may have room for few.

use super::super::client::Client;
use super::super::controllers::neighbour_text;
use super::super::exit::{Exit, Failure};
use super::super::progress;
use super::super::status::{Utc, by_state, host_text, trouble_lines, worker_text};
use super::super::status_report::StatusReport;
use super::super::term::{KeyedLine, Style, bar};
use super::super::{rollout, spread};
use crate::control::{HostClass, HostFilter, HostRow, HostState, Reply, Request, RequestStatus};
use crate::limits;
use crate::time::Span;
use crate::types::{Hostname, NodeId};

/// The most hosts at work that are kept and shown.
const AT_WORK: usize = 256;
/// The number of latest outcomes shown.
const ENDED: usize = 8;

/// The state from one query.
#[derive(Debug, Default)]
pub struct WatchState {
    /// The daemon's state.
    pub report: StatusReport,
    /// Hosts at work.
    pub at_work: Vec<HostRow>,
    /// Hosts that were at work at the previous query and have ended.
    pub ended: Vec<HostRow>,
    /// The latest outcomes, the newest first.
    pub latest: Vec<(NodeId, String)>,
}

impl WatchState {
    /// Queries the daemon; `before` is the previous state.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn ask(client: &mut Client, before: &Self) -> Result<Self, Failure> {
        let report = StatusReport::ask(client)?;
        let is_busy = report.row.hosts_by.get(HostClass::Installing) > 0;
        let at_work = if is_busy { at_work(client)? } else { Vec::new() };
        let is_over = |row: &&HostRow| at_work.iter().all(|now| now.node != row.node);
        let over: Vec<NodeId> = before.at_work.iter().filter(is_over).map(|row| row.node).collect();
        let ended = named(client, &over)?;
        let mut latest: Vec<_> = ended.iter().map(|row| (row.node, progress::line(row))).collect();
        let is_older = |(node, _): &&(NodeId, String)| ended.iter().all(|row| row.node != *node);
        latest.extend(before.latest.iter().filter(is_older).cloned());
        latest.truncate(ENDED);
        Ok(Self { report, at_work, ended, latest })
    }

    /// The block of lines. `gone` is a sentence about a daemon that does not answer.
    #[must_use]
    pub fn lines(&self, style: Style, gone: Option<&str>) -> Vec<KeyedLine> {
        let row = &self.report.row;
        let mut lines = vec![format!(
            "{} ({}), up {}, {} UTC",
            style.bold(&row.hostname.to_string()),
            self.report.roles().join(", "),
            Span::of_millis(row.uptime_ms),
            Utc(row.unix_ms)
        )];
        lines.extend(gone.map(|gone| format!("{} {gone}", style.red("TROUBLE:"))));
        lines.extend(trouble_lines(&self.report, style));
        if let Some(row) = &self.report.rollout {
            lines.extend(rollout::lines(row, &[], style, true).into_iter().map(|(_, line)| line));
        }
        lines.extend(self.report.spread.as_deref().into_iter().flat_map(spread::lines));
        if row.is_controller {
            lines.push(format!("{} hosts{}", row.hosts, by_state(&row.hosts_by)));
        }
        if row.is_agent {
            lines.extend(own_install(row.agent_state));
        }
        for host in &self.at_work {
            lines.push(["  ", &host_at_work(host)].concat());
        }
        for (_, line) in &self.latest {
            lines.push(["  ", line].concat());
        }
        for host in &self.report.hosts {
            let is_at_work = self.at_work.iter().any(|row| row.node == host.node);
            if !is_at_work && self.latest.iter().all(|(node, _)| *node != host.node) {
                lines.push(["  ", &style.yellow(&host_text(host))].concat());
            }
        }
        for one in &self.report.neighbours {
            lines.push(["controller ", &neighbour_text(one)].concat());
        }
        for one in &self.report.workers {
            lines.push(["worker ", &worker_text(one)].concat());
        }
        lines.into_iter().enumerate().map(|(place, line)| (place as u64, line)).collect()
    }
}

/// The progress of this host's own install.
fn own_install(state: HostState) -> Option<String> {
    match state {
        HostState::Installing { step, percent } => {
            Some(format!("installs: {} {percent:>3}%  {}", bar(percent, 22), step.as_str()))
        }
        _ => None,
    }
}

/// The progress of a host.
fn host_at_work(host: &HostRow) -> String {
    match (host.install, host.state) {
        (RequestStatus::Waiting, _) | (_, HostState::Idle) => progress::line(host),
        (_, HostState::Installing { step, percent }) => {
            format!("{:<16} {} {percent:>3}%  {}", host.hostname, bar(percent, 22), step.as_str())
        }
        _ => progress::line(host),
    }
}

/// The hosts at work, at most [`AT_WORK`].
fn at_work(client: &mut Client) -> Result<Vec<HostRow>, Failure> {
    let mut rows = Vec::new();
    client.ask(Request::QueryHosts { filter: HostFilter::AtWork }, |reply| {
        match reply {
            Reply::Host(row) if rows.len() < AT_WORK => rows.push(row),
            _ => {}
        }
        Ok(())
    })?;
    Ok(rows)
}

/// The rows of these hosts. A chunk with a host that is no longer known yields none.
fn named(client: &mut Client, nodes: &[NodeId]) -> Result<Vec<HostRow>, Failure> {
    let mut rows = Vec::new();
    for some in nodes.chunks(limits::COMMAND_NAMES) {
        let hosts = some.iter().filter_map(|node| Hostname::new(&node.to_string()).ok()).collect();
        match progress::ask(client, Request::Hosts { hosts }) {
            Ok(hosts) => rows.extend(hosts),
            Err(failure) if failure.exit == Exit::Refused => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::hosts::tests::row as host;
    use crate::cli::status::tests::report;
    use crate::wire::install::Step;

    #[test]
    fn the_most_important_lines_come_first_and_no_host_twice() {
        let state = HostState::Installing { step: Step::Fetching, percent: 50 };
        let busy = HostRow { node: NodeId(3), state, install: RequestStatus::Running, ..host("w-3") };
        let ended = HostRow { node: NodeId(4), ..host("w-4") };
        let mut view = WatchState { report: report(), at_work: vec![busy], ..WatchState::default() };
        view.report.hosts.push(HostRow { node: NodeId(3), ..host("w-3") });
        view.report.hosts.push(HostRow { node: NodeId(4), ..host("w-4") });
        view.latest = vec![(ended.node, "w-4: installed".to_owned())];
        let lines: Vec<String> =
            view.lines(Style::default(), Some("gone")).into_iter().map(|(_, line)| line).collect();
        let expected = [
            "w0 (controller), up 1 min 1 s, 2026-11-22 07:00:15 UTC",
            "TROUBLE: gone",
            "TROUBLE: disk stalled: look at it",
            "40 hosts: 29 current, 10 failed, 1 lost, 2 silent",
            "  w-3              [##########..........]  50%  fetching",
            "  w-4: installed",
            "  worker-3 000000000000001f: install-failed, heard 0 s ago: no space",
            "controller controller-1 000000000000001f at 10.84.0.11: synced, heard 2 s ago by multicast",
            "worker serves an agent (worker-3), for 12 s",
            "worker installs (worker-3), for 12 s, silent for 11 s",
        ];
        assert_eq!(lines[..9], expected[..9]);
        assert_eq!(lines.len(), expected.len());
    }
}
