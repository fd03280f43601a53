//! The values of `status` as OpenMetrics text.
//!
//! The names are stable. Each value is a whole number, in the base unit that its
//! name ends with. The text is also what Prometheus' older format allows, so that
//! node_exporter's textfile collector takes it: no type but counter and gauge.
//!
//! Why our own: the crates for it are registries, which count and collect inside the
//! program. Here the numbers are those of `status`, and what is left is to print lines.

use std::fmt::Write;

use super::counts;
use super::numbers::Scope;
use super::status_report::StatusReport;
use crate::control::{HOSTS_BY, NeighbourRow, PATCHES_BY, RolloutRow, SpreadRow, WorkerTask};
use crate::json::Value;
use crate::repo::rollout::RolloutState;
use crate::types::InterfaceState;

/// Collects the metrics, as text or as JSON.
#[derive(Default)]
pub struct MetricsWriter {
    is_json: bool,
    /// The metrics as text, without the end mark.
    pub text: String,
    /// The metrics as JSON.
    pub samples: Vec<Value>,
    /// The current metric's name, and the suffix of its samples.
    name: String,
    suffix: &'static str,
}

impl MetricsWriter {
    /// The metrics of a daemon, as text or as JSON. Without a report there is `up` alone, as 0.
    #[must_use]
    pub fn of(report: Option<&StatusReport>, is_json: bool) -> Self {
        let mut writer = Self { is_json, ..Self::default() };
        writer.family("up", false, "1 if the daemon answered");
        writer.sample(&[], report.is_some().into());
        if let Some(report) = report {
            of_all(report, &mut writer);
        }
        writer
    }

    /// Begins a metric; its samples follow.
    fn family(&mut self, name: &str, is_counter: bool, help: &str) {
        self.name = ["thimble_", name].concat();
        self.suffix = if is_counter { "_total" } else { "" };
        let (kind, name) = (if is_counter { "counter" } else { "gauge" }, &self.name);
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        if let Some(unit) = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit)) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {name} {}.", escaped(help));
    }

    /// Adds a sample with its labels.
    fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        if self.is_json {
            let labels = Value::map(labels.iter().map(|(label, of)| (*label, Value::text(of))));
            let name = Value::text(&self.name);
            let sample = [("name", name), ("labels", labels), ("value", value.into())];
            return self.samples.push(Value::object(sample));
        }
        self.text.push_str(&self.name);
        self.text.push_str(self.suffix);
        for (place, (label, of)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", escaped(of));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }

    /// Adds a metric whose samples differ in one label.
    fn by(&mut self, name: &str, help: &str, label: &str, values: &mut dyn Iterator<Item = (&str, u32)>) {
        self.family(name, false, help);
        for (of, value) in values {
            self.sample(&[(label, of)], value.into());
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A metric of each other controller: name, help and value.
type OfNeighbour = (&'static str, &'static str, fn(&NeighbourRow) -> Option<u64>);

const OF_NEIGHBOURS: [OfNeighbour; 4] = [
    ("neighbour_up", "1 if the other controller is heard", |row| Some((!row.is_lost).into())),
    ("neighbour_synced", "1 if it has the same repository", |row| Some(row.is_synced.into())),
    ("neighbour_age_seconds", "time since it was heard", |row| Some(row.age_ms? / 1000)),
    ("neighbour_blobs_missing", "patch files that it lacks", |row| Some(row.blobs_missing.into())),
];

fn of_all(report: &StatusReport, writer: &mut MetricsWriter) {
    let row = &report.row;
    writer.family("build_info", false, "thimble's version and transport");
    writer.sample(&[("version", &row.version.to_string()), ("transport", &row.transport.to_string())], 1);
    writer.family("node_info", false, "this node's id and name");
    writer.sample(&[("node", &row.node.to_string()), ("hostname", row.hostname.as_str())], 1);
    let roles = [("controller", row.is_controller.into()), ("agent", row.is_agent.into())];
    writer.by("role", "1 if this node has the role", "role", &mut roles.into_iter());
    for number in
        [Scope::Node, Scope::Controller, Scope::Agent].into_iter().flat_map(|scope| report.numbers(scope))
    {
        if let Some(value) = (number.value)(report).filter(|_| !number.metric.is_empty()) {
            writer.family(number.metric, false, number.help);
            writer.sample(&[], if number.metric.ends_with("seconds") { value / 1000 } else { value });
        }
    }
    if !row.interfaces.is_empty() {
        let up = row.interfaces.iter().map(|of| (of.name.raw(), (of.state == InterfaceState::Up).into()));
        writer.by("interface_up", "1 if the interface is up", "interface", &mut { up });
        let heard = row.interfaces.iter().filter_map(|of| Some((of.name.raw(), of.heard?)));
        let help = "other nodes that are heard by it, where there are several";
        writer.by("interface_nodes", help, "interface", &mut { heard });
    }
    let at_work = |work| report.workers.iter().filter(|row| row.work == work).count() as u32;
    let mut workers = WorkerTask::ALL.iter().map(|work| (work.as_str(), at_work(*work)));
    writer.by("workers", "worker processes by task", "work", &mut workers);
    if row.is_controller {
        let mut hosts = HOSTS_BY.into_iter().zip(row.hosts_by.0);
        writer.by("hosts", "hosts by state, each once", "state", &mut hosts.by_ref().take(6));
        let helps =
            ["of these hosts, those that answer no ask yet", "of these hosts, those that must restart"];
        for ((of, count), help) in hosts.zip(helps) {
            writer.family(&["hosts_", of].concat(), false, help);
            writer.sample(&[], count.into());
        }
        let mut patches = PATCHES_BY.into_iter().zip(row.patches_by.0);
        writer.by("patches", "patches by their state in the repository", "state", &mut patches);
        of_neighbours(report, writer);
    }
    if let Some(row) = &report.rollout {
        of_the_rollout(row, writer);
    }
    if let Some(row) = report.spread.as_deref() {
        of_the_spread(row, writer);
    }
    of_counts(&report.counters, writer);
}

fn of_neighbours(report: &StatusReport, writer: &mut MetricsWriter) {
    for (name, help, value) in OF_NEIGHBOURS {
        writer.family(name, false, help);
        for row in &report.neighbours {
            if let Some(value) = value(row) {
                writer.sample(&[("node", &row.node.to_string()), ("hostname", row.hostname.as_str())], value);
            }
        }
    }
}

fn of_the_rollout(row: &RolloutRow, writer: &mut MetricsWriter) {
    let states = [
        ("running", RolloutState::Running),
        ("stopped", RolloutState::Stopped),
        ("halted", RolloutState::Halted),
        ("ended", RolloutState::Ended),
    ];
    let mut states = states.into_iter().map(|(name, state)| (name, (row.state == state).into()));
    writer.by("rollout", "1 for the state of the last rollout", "state", &mut states);
    let hosts = &row.hosts;
    let parts = [
        ("installed", hosts.done),
        ("behind", hosts.behind),
        ("current", hosts.current),
        ("failed", hosts.failed),
        ("no_answer", hosts.no_answer),
        ("at_work", hosts.at_work),
        ("next", hosts.next),
        ("lost", hosts.lost),
    ];
    writer.by("rollout_hosts", "hosts by their part in the last rollout", "part", &mut parts.into_iter());
}

/// What is sent to all hosts at once, or was last.
fn of_the_spread(row: &SpreadRow, writer: &mut MetricsWriter) {
    let number = |of: Option<u64>| of.unwrap_or(0);
    let sent = row.sent.as_ref().map(|(_, state)| state);
    let received = row.received.as_ref().map(|(_, state)| state.blocks);
    let values = [
        ("spread_sending", "1 while a file is sent to all hosts from here", row.sending.is_some().into()),
        ("spread_waiting", "files that wait to be sent to all hosts", row.waiting.into()),
        (
            "spread_size_bytes",
            "of the last file that is or was sent to all hosts",
            number(sent.map(|s| s.size_bytes)),
        ),
        ("spread_done_bytes", "of it, bytes that are sent and repaired", number(sent.map(|s| s.done_bytes))),
        ("spread_rate_bytes", "bytes for a second of that", number(sent.map(|s| s.rate))),
        ("spread_hosts", "hosts that take part in it", number(sent.map(|s| s.hosts.into()))),
        (
            "spread_hosts_complete",
            "of these, those that have all so far",
            number(sent.map(|s| s.complete.into())),
        ),
        ("spread_receiving", "1 while a file is received here", row.is_receiving.into()),
        (
            "spread_blocks",
            "blocks of the last file that is or was received here",
            number(received.map(|b| b.0.into())),
        ),
        ("spread_blocks_here", "of these, those that are here", number(received.map(|b| b.1.into()))),
    ];
    for (name, help, value) in values {
        writer.family(name, false, help);
        writer.sample(&[], value);
    }
}

/// Counters: refusals share one metric with a label, others have one each.
fn of_counts(counters: &[(String, u64)], writer: &mut MetricsWriter) {
    for (name, value) in counters.iter().filter(|(name, _)| counts::reason(name).is_none()) {
        writer.family(name, name != "sessions_open", &counts::words(name));
        writer.sample(&[], *value);
    }
    writer.family("datagrams_refused", true, "datagrams refused, by reason");
    for (name, value) in counters {
        if let Some(reason) = counts::reason(name) {
            writer.sample(&[("reason", reason.as_str())], *value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::cli::numbers::NUMBERS;
    use crate::cli::rollout::tests as rollouts;
    use crate::cli::status::tests::{agent, floor, report};
    use crate::control::{InterfaceRow, StatusRow};
    use crate::fsm::rollout::Census;
    use crate::types::Text;
    use crate::wire::refusal::Refusal;

    /// The metrics of a controller and of an agent that have all there is but TIPC.
    fn all() -> String {
        let floor = || Some(floor("F1", "2030-01-01"));
        let counters = Refusal::ALL.iter().map(|refusal| (refusal.counter().to_owned(), 0)).collect();
        let rollout = Some(rollouts::row(RolloutState::Running, Census::default()));
        let mut controller = StatusReport { rollout, counters, ..report() };
        controller.row.applied_floor = floor();
        let interface = InterfaceRow {
            name: Text::truncated("eth0"),
            state: InterfaceState::Up,
            address: Text::default(),
            age_ms: 0,
            outage: None,
            heard: None,
            is_without_ipv6: false,
        };
        controller.row.interfaces.push(interface).unwrap();
        let row = StatusRow { installed_floor: floor(), ..agent() };
        let agent = StatusReport { row, ..StatusReport::default() };
        [controller, agent].map(|report| MetricsWriter::of(Some(&report), false).text).concat()
    }

    /// What PromQL selects of thimble's: names, and what is in the braces behind them.
    fn selectors<'r>(rules: &'r str) -> Vec<(&'r str, &'r str)> {
        let is_expression = |line: &&str| !line.starts_with('#') && !line.contains(": \"");
        let lines = rules.lines().map(str::trim_start).filter(is_expression);
        let starts = lines.flat_map(|line| line.match_indices("thimble_").map(|(at, _)| &line[at..]));
        let cut = |text: &'r str| {
            let end = text.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            let labels = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
            (name, labels.unwrap_or_default())
        };
        starts.map(cut).collect()
    }

    #[test]
    fn each_metric_of_the_alert_rules_is_there_with_its_labels() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/thimble.rules.yml");
        let (rules, text) = (fs::read_to_string(path).unwrap(), all());
        let selectors = selectors(&rules);
        assert!(selectors.len() > 40, "{selectors:?}");
        for (name, labels) in selectors {
            if let Some(tipcs) = name.strip_prefix("thimble_").filter(|name| name.starts_with("tipc_")) {
                assert!(!cfg!(feature = "tipc") || NUMBERS.iter().any(|of| of.metric == tipcs), "{name}");
                continue;
            }
            let is_of =
                |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            assert!(text.lines().any(|line| is_of(&line)), "there is no {name}");
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (label, values) = label.split_once('=').unwrap();
                for value in values.trim_matches(['~', '"']).split('|') {
                    let wanted = format!("{label}=\"{value}\"");
                    let has_it = text.lines().filter(is_of).any(|line| line.contains(&wanted));
                    assert!(has_it, "no {name} has {wanted}");
                }
            }
        }
    }

    #[test]
    fn stalled_workers_are_counted_and_each_direction_of_the_clock_has_its_metric() {
        let mut report = report();
        report.workers[1].is_stalled = true;
        report.row.clock_step_ms = -3_600_500;
        let text = MetricsWriter::of(Some(&report), false).text;
        for line in ["workers_stalled 1", "clock_set_back_seconds 3600", "clock_set_forward_seconds 0"] {
            assert!(text.contains(&format!("\nthimble_{line}\n")), "{line}");
        }
    }

    #[test]
    fn without_a_report_there_is_nothing_but_that_it_is_down() {
        let writer = MetricsWriter::of(None, false);
        let help = "# HELP thimble_up 1 if the daemon answered.";
        assert_eq!(writer.text, format!("# TYPE thimble_up gauge\n{help}\nthimble_up 0\n"));
        assert!(all().contains("\nthimble_up 1\n"));
    }
}
