//! `status`: the daemon's state, troubles first.

use std::fmt::{self, Display, Write};

use super::client::Client;
use super::command::Invocation;
use super::controllers::{blob_text, neighbour_text};
use super::counts;
use super::exit::Failure;
use super::hosts;
use super::out::Out;
use super::rollout;
use super::status_report::StatusReport;
use super::term::Style;
use super::tipc;
use crate::control::{
    AwaitsRow, HOSTS_BY, HostClass, HostCounts, HostRow, InterfaceRow, WorkerRow, WorkerTask,
};
use crate::job::FloorFacts;
use crate::time::{Day, Span};
use crate::wire::refusal::Refusal;

/// `thimble status`
pub fn status(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let report = StatusReport::ask(&mut Client::connect(&invocation.socket()?)?)?;
    out.text(status_text(&report, out.style()))?;
    out.json(|| report.json())?;
    Ok(())
}

fn status_text(report: &StatusReport, style: Style) -> String {
    let status = &report.row;
    let mut text = String::new();
    for line in trouble_lines(report, style) {
        text.push_str(&line);
        text.push('\n');
    }
    row(
        &mut text,
        "node",
        format_args!("{} {} ({})", status.hostname, status.node, report.roles().join(", ")),
    );
    row(&mut text, "thimble", format_args!("{} over {}", status.version, status.transport));
    row(
        &mut text,
        "up",
        format_args!("{}, incarnation {}", Span::of_millis(status.uptime_ms), status.incarnation),
    );
    row(&mut text, "clock", format_args!("{} UTC{}", Utc(status.unix_ms), ClockStep(status.clock_step_ms)));
    for interface in &status.interfaces {
        row(&mut text, "interface", interface_text(interface));
    }
    if let Some(tipc) = status.tipc.as_ref().filter(|_| cfg!(feature = "tipc")) {
        tipc::text(&mut text, tipc);
    }
    if status.is_controller {
        controller_text(&mut text, report);
    }
    if status.is_agent {
        agent_text(&mut text, report);
    }
    for worker in &report.workers {
        row(&mut text, "worker", worker_text(worker));
    }
    if report.workers.is_empty() {
        row(&mut text, "workers", "0");
    }
    row(&mut text, "memory", memory(report));
    if let Some(allocations) = status.loop_allocations {
        row(&mut text, "allocations", format_args!("{allocations} in the loop since start"));
    }
    counts_text(&mut text, report);
    text
}

pub(super) fn row(text: &mut String, name: &str, value: impl Display) {
    let _ = writeln!(text, "{name:<13} {value}");
}

/// The troubles, the most severe first.
pub(super) fn trouble_lines(report: &StatusReport, style: Style) -> Vec<String> {
    let word = style.red("TROUBLE:");
    let mut lines = report.alerts();
    if report.row.alerts_more > 0 {
        lines.push(format!("and {} more, shown once these are resolved", report.row.alerts_more));
    }
    lines.iter_mut().for_each(|line| *line = [&word, " ", line].concat());
    lines
}

/// What the interface is, since when, and what it was before.
pub(super) fn interface_text(row: &InterfaceRow) -> String {
    let mut text = format!("{}: {}", row.name, row.state.words());
    if !row.address.is_empty() {
        let _ = write!(text, " with {}", row.address);
    }
    let _ = write!(text, ", for {}", Span::of_millis(row.age_ms));
    if let Some((state, lasted_ms)) = row.outage {
        let _ = write!(text, "; before, {} for {}", state.words(), Span::of_millis(lasted_ms));
    }
    match row.heard {
        Some(1) => text.push_str("; 1 node is heard by it"),
        Some(nodes) => drop(write!(text, "; {nodes} nodes are heard by it")),
        None => {}
    }
    if row.is_without_ipv6 {
        text.push_str("; without IPv6: the kernel has none, or the sandbox forbids AF_INET6");
    }
    text
}

fn controller_text(text: &mut String, report: &StatusReport) {
    let status = &report.row;
    for neighbour in &report.neighbours {
        row(text, "controller", neighbour_text(neighbour));
    }
    let (digest, counter) = (status.repo_digest, status.op_counter);
    let [available, applied, committed] = status.patches_by.0;
    let patches = format_args!(
        "{} ({available} available, {applied} applied, {committed} committed), digest {digest:.12}, change {counter}",
        status.patches
    );
    row(text, "patches", patches);
    floor_text(text, "applied", status.applied_floor.as_ref());
    let (entries, most, tombstones) = (status.entries, status.entries_most, status.tombstones);
    row(text, "entries", format_args!("{entries} of at most {most}, {tombstones} of deleted patches"));
    for blob in &report.missing {
        row(text, "missing", blob_text(blob));
    }
    match (status.blobs_missing as usize).saturating_sub(report.missing.len()) {
        0 => {}
        more => row(text, "missing", format_args!("the files of {more} more patches")),
    }
    for line in &report.replaced {
        row(text, "replaced", line);
    }
    let (hosts, most) = (status.hosts, status.hosts_most);
    row(text, "hosts", format_args!("{hosts} of at most {most}{}", by_state(&status.hosts_by)));
    for host in &report.hosts {
        row(text, "host", host_text(host));
    }
    if let Some(rollout) = &report.rollout {
        for (_, line) in rollout::lines(rollout, &[], Style::default(), false) {
            row(text, "rollout", line.trim_start_matches("rollout").trim_start_matches(':').trim_start());
        }
    }
    let by = &status.hosts_by;
    let to_see_to = [HostClass::Failed, HostClass::Lost, HostClass::Silent].map(|how| by.get(how));
    match to_see_to.iter().sum::<u32>().saturating_sub(report.hosts.len() as u32) {
        0 => {}
        more => row(text, "host", format_args!("and {more} more to see to: thimble query-hosts lists them")),
    }
}

/// The number of hosts in each state, without empty states.
pub(super) fn by_state(by: &HostCounts) -> String {
    let mut text = String::new();
    for (how, count) in HOSTS_BY.iter().zip(by.0).filter(|(_, count)| *count > 0) {
        text.push_str(if text.is_empty() { ": " } else { ", " });
        let _ = write!(text, "{count} {}", how.replace('_', " "));
    }
    text
}

/// A host that needs attention, and why.
pub(super) fn host_text(host: &HostRow) -> String {
    let (state, age) = (hosts::state(host.state), Span::of_millis(host.age_ms));
    let because = match hosts::because(host) {
        none if none.is_empty() => none,
        reason => format!(": {reason}"),
    };
    format!("{} {}: {state}, heard {age} ago{because}", host.hostname, host.node)
}

/// The floor in force, where there is one.
fn floor_text(text: &mut String, at: &str, floor: Option<&FloorFacts>) {
    if let Some(FloorFacts { id, serial, expires }) = floor {
        row(text, "floor", format_args!("{id} {at}, serial {serial}, good until {expires}"));
    }
}

fn agent_text(text: &mut String, report: &StatusReport) {
    let status = &report.row;
    if let Some(asker) = &status.last_controller {
        let age = Span::of_millis(asker.age_ms);
        row(
            text,
            "asked by",
            format_args!("{} at {}, {age} ago{}", asker.node, asker.address, hosts::by(asker.way)),
        );
    }
    let (installed, digest) = (status.installed, status.installed_digest);
    match status.has_known_set() {
        true => row(text, "installed", format_args!("{installed}, digest {digest:.12}")),
        false => row(text, "installed", "not known"),
    }
    floor_text(text, "on this host", status.installed_floor.as_ref());
    match status.awaits {
        Some(AwaitsRow { waited_ms, wait_ms }) => row(
            text,
            "agent",
            format_args!(
                "installed, waits to hear a controller, {} of {}",
                Span::of_millis(waited_ms),
                Span::of_millis(wait_ms)
            ),
        ),
        None => row(text, "agent", hosts::state(status.agent_state)),
    }
    if !status.agent_reason.is_empty() {
        row(text, "last install", &status.agent_reason);
    }
}

/// A worker's task, for which host, and for how long.
pub(super) fn worker_text(row: &WorkerRow) -> String {
    let who = match row.node {
        None => String::new(),
        Some(node) if row.hostname.is_empty() => format!(" ({node})"),
        Some(_) => format!(" ({})", row.hostname),
    };
    let (age, silence) = (Span::of_millis(row.age_ms), Span::of_millis(row.silent_ms));
    let silence = match row.work {
        // Workers with other tasks report only at their end.
        WorkerTask::Install | WorkerTask::Change if row.silent_ms >= 10_000 => {
            format!(", silent for {silence}")
        }
        _ => String::new(),
    };
    format!("{}{who}, for {age}{silence}", row.work.words())
}

fn memory(report: &StatusReport) -> String {
    let kib = |bytes: u64| bytes.div_ceil(1024);
    let mut text = format!("{} KiB set aside for tables and buffers", kib(report.row.memory_bytes));
    if let Some(resident) = report.resident {
        let (all, own) = (kib(resident.all_bytes), kib(resident.own_bytes));
        text.push_str(&format!("; {all} KiB resident, {own} KiB of it private"));
    }
    if report.row.worker_peak_bytes > 0 {
        text.push_str(&format!("; at most {} KiB in a worker", kib(report.row.worker_peak_bytes)));
    }
    text
}

/// The refusals with their meanings, then the other counters.
fn counts_text(text: &mut String, report: &StatusReport) {
    // Our own multicast comes back, which is normal.
    let refusal = |name: &str| counts::reason(name).filter(|refusal| *refusal != Refusal::OwnEcho);
    let counted = || report.counters.iter().filter(|(_, count)| *count > 0);
    for (name, count) in counted().filter(|(name, _)| refusal(name).is_some()) {
        row(text, "refused", format_args!("{count} {name}: {}", counts::words(name)));
    }
    for (name, count) in counted().filter(|(name, _)| refusal(name).is_none()) {
        row(text, "count", format_args!("{name} {count}"));
    }
}

/// A time in UTC: `2026-11-22 07:00:15`.
pub(super) struct Utc(pub u64);

impl Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{} {hour:02}:{minute:02}:{second:02}", Day::of_unix_ms(self.0))
    }
}

/// How far the clock was set since the start; empty for small corrections.
struct ClockStep(i64);

impl Display for ClockStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = Span::of_millis(self.0.unsigned_abs());
        match self.0 {
            // Ordinary corrections by a time service.
            -1_999..2_000 => Ok(()),
            i64::MIN..=-2_000 => write!(f, ", set back by {span} since the start"),
            2_000.. => write!(f, ", set forward by {span} since the start"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::controllers::tests as controllers;
    use crate::cli::hosts::tests as host;
    use crate::cli::status_report::Resident;
    use crate::control::{HostState, LastController, PatchCounts, StatusRow};
    use crate::types::{Digest, Hostname, NodeId, Reason, Text};

    pub fn agent() -> StatusRow {
        StatusRow {
            node: NodeId(5),
            hostname: Hostname::new("w0").unwrap(),
            is_agent: true,
            is_unauthenticated: true,
            transport: Text::truncated("udp"),
            version: Text::truncated("0.1.0"),
            uptime_ms: 61_000,
            incarnation: 9,
            installed: 2,
            installed_digest: Digest([0xCD; 32]),
            alerts: [Reason::truncated("disk stalled: look at it")].into_iter().collect(),
            memory_bytes: 4097,
            worker_peak_bytes: 1_500 * 1024,
            unix_ms: 1_795_330_815_000,
            last_controller: Some(LastController {
                node: NodeId(7),
                address: Text::truncated("10.84.0.7"),
                way: None,
                age_ms: 2_000,
            }),
            ..StatusRow::default()
        }
    }

    pub fn controller() -> StatusRow {
        StatusRow {
            is_controller: true,
            is_agent: false,
            is_unauthenticated: false,
            is_started: true,
            is_incomplete: true,
            patches: 3,
            op_counter: 12,
            blobs_missing: 3,
            entries: 5,
            entries_most: 1024,
            tombstones: 2,
            patches_by: PatchCounts([1, 2, 0]),
            hosts: 40,
            hosts_most: 64,
            hosts_lost: 1,
            hosts_by: HostCounts([29, 0, 0, 10, 1, 0, 2, 0]),
            ..agent()
        }
    }

    pub fn report() -> StatusReport {
        StatusReport {
            row: controller(),
            neighbours: vec![controllers::row()],
            missing: vec![controllers::blob()],
            replaced: vec![Reason::truncated("P2: your change (Applied, no. 7) was replaced")],
            hosts: vec![ill()],
            workers: vec![
                worker(WorkerTask::ServeAgent),
                WorkerRow { node: None, ..worker(WorkerTask::Install) },
            ],
            ..StatusReport::default()
        }
    }

    fn ill() -> HostRow {
        HostRow {
            state: HostState::InstallFailed,
            reason: Reason::truncated("no space"),
            ..host::row("worker-3")
        }
    }

    fn worker(work: WorkerTask) -> WorkerRow {
        let hostname = Hostname::new("worker-3").unwrap();
        WorkerRow {
            work,
            node: Some(NodeId(3)),
            hostname,
            age_ms: 12_000,
            silent_ms: 11_000,
            is_stalled: false,
        }
    }

    #[test]
    fn troubles_come_first_and_counters_above_zero_last() {
        let counters =
            [("datagrams_sent", 5), ("refused_own_echo", 2), ("refused_tag", 3), ("refused_body", 0)];
        let counters = counters.map(|(name, count)| (name.to_owned(), count)).into();
        let mut report = StatusReport { row: agent(), counters, ..StatusReport::default() };
        report.resident = Some(Resident { own_bytes: 100 * 1024, all_bytes: 300 * 1024 });
        report.row.alerts_more = 2;
        let expected = "\
TROUBLE: disk stalled: look at it
TROUBLE: and 2 more, shown once these are resolved
node          w0 0000000000000005 (agent)
thimble       0.1.0 over udp
up            1 min 1 s, incarnation 9
clock         2026-11-22 07:00:15 UTC
asked by      0000000000000007 at 10.84.0.7, 2 s ago
installed     2, digest cdcdcdcdcdcd
agent         idle
workers       0
memory        5 KiB set aside for tables and buffers; 300 KiB resident, 100 KiB of it private; at most 1500 KiB in a worker
refused       3 refused_tag: The tag does not hold: altered, or made without the key.
count         datagrams_sent 5
count         refused_own_echo 2
";
        assert_eq!(status_text(&report, Style::default()), expected);
    }

    #[test]
    fn an_install_that_waits_for_a_controller_shows_for_how_long() {
        let awaits = Some(AwaitsRow { waited_ms: 12_000, wait_ms: 240_000 });
        let report = StatusReport { row: StatusRow { awaits, ..agent() }, ..StatusReport::default() };
        let text = status_text(&report, Style::default());
        let line = "\nagent         installed, waits to hear a controller, 12 s of 4 min 0 s\n";
        assert!(text.contains(line), "{text}");
        let json = report.json().to_string();
        assert!(json.contains(r#""awaits":{"waited_ms":12000,"wait_ms":240000}"#), "{json}");
    }

    #[test]
    fn an_installed_set_that_is_not_known_has_no_digest() {
        let row = StatusRow { installed_digest: Digest::default(), ..agent() };
        let report = StatusReport { row, ..StatusReport::default() };
        let text = status_text(&report, Style::default());
        assert!(text.contains("\ninstalled     not known\n"), "{text}");
        let json = report.json().to_string();
        assert!(
            json.contains(r#""installed_digest":null"#) && json.contains(r#""installed":null"#),
            "{json}"
        );
    }

    #[test]
    fn a_controller_shows_neighbours_hosts_missing_files_and_replaced_changes() {
        let text = status_text(&report(), Style::default());
        let expected = "\
TROUBLE: disk stalled: look at it
node          w0 0000000000000005 (controller)
thimble       0.1.0 over udp
up            1 min 1 s, incarnation 9
clock         2026-11-22 07:00:15 UTC
controller    controller-1 000000000000001f at 10.84.0.11: synced, heard 2 s ago by multicast
patches       3 (1 available, 2 applied, 0 committed), digest 000000000000, change 12
entries       5 of at most 1024, 2 of deleted patches
missing       the file of P1, which hosts need: no controller has it
missing       the files of 2 more patches
replaced      P2: your change (Applied, no. 7) was replaced
hosts         40 of at most 64: 29 current, 10 failed, 1 lost, 2 silent
host          worker-3 000000000000001f: install-failed, heard 0 s ago: no space
host          and 12 more to see to: thimble query-hosts lists them
worker        serves an agent (worker-3), for 12 s
worker        installs (worker-3), for 12 s, silent for 11 s
memory        5 KiB set aside for tables and buffers; at most 1500 KiB in a worker
";
        assert_eq!(text, expected.replace("installs (worker-3)", "installs"));
    }

    pub fn floor(id: &str, expires: &str) -> FloorFacts {
        let id = crate::types::PatchId::new(id).unwrap();
        FloorFacts { id, serial: 7, expires: Day::parse(expires).unwrap() }
    }

    #[test]
    fn the_floor_in_force_is_shown_whether_it_is_old_or_not() {
        let of = |row| status_text(&StatusReport { row, ..StatusReport::default() }, Style::default());
        for expires in ["2020-02-29", "9999-12-31"] {
            let floor = Some(floor("FLOOR-7", expires));
            let text = of(StatusRow { installed_floor: floor.clone(), ..agent() });
            let line = format!("\nfloor         FLOOR-7 on this host, serial 7, good until {expires}\n");
            assert!(text.contains(&line), "{text}");
            let text = of(StatusRow { applied_floor: floor, ..controller() });
            let line = format!("\nfloor         FLOOR-7 applied, serial 7, good until {expires}\n");
            assert!(text.contains(&line), "{text}");
        }
    }

    #[test]
    fn times_are_shown_as_calendar_dates() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_799, "2000-02-29 23:59:59"),
            (1_735_689_599, "2024-12-31 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(Utc(seconds * 1000).to_string(), shown);
        }
    }

    #[test]
    fn a_clock_that_was_set_is_shown_and_a_correction_is_not() {
        assert_eq!(ClockStep(1_999).to_string() + &ClockStep(-1_999).to_string(), "");
        assert_eq!(ClockStep(-3_600_000).to_string(), ", set back by 1 h 0 min since the start");
        assert_eq!(ClockStep(5_000).to_string(), ", set forward by 5 s since the start");
    }
}
