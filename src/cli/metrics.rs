//! `metrics`: the values of `status` as OpenMetrics text.
//!
//! The names are stable. Each value is a whole number, in the base unit that its
//! name ends with. The text is also what Prometheus' older format allows, so that
//! node_exporter's textfile collector takes it: no type but counter and gauge.
//!
//! Why our own: the crates for it are registries, which count and collect inside the
//! program. Here the numbers are those of `status`, and what is left is to print lines.

use std::fmt::Write;

use super::client::Client;
use super::command::Invocation;
use super::counts;
use super::exit::Failure;
use super::numbers::Scope;
use super::out::Out;
use super::status_report::StatusReport;
use crate::control::{HOSTS_BY, NeighbourRow, PATCHES_BY, RolloutRow, WorkerTask};
use crate::json::Value;
use crate::repo::rollout::RolloutState;
use crate::types::InterfaceState;

/// `thimble metrics`
pub fn metrics(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let report = StatusReport::ask(&mut Client::connect(&invocation.socket()?)?)?;
    let mut writer = MetricsWriter { is_json: out.is_json(), ..MetricsWriter::default() };
    of_all(&report, &mut writer);
    out.text(writer.text + "# EOF\n")?;
    out.json(|| Value::object([("metrics", Value::List(writer.samples))]))?;
    Ok(())
}

/// Collects the metrics, as text or as JSON.
#[derive(Default)]
struct MetricsWriter {
    is_json: bool,
    text: String,
    samples: Vec<Value>,
    /// The current metric's name, and the suffix of its samples.
    name: String,
    suffix: &'static str,
}

impl MetricsWriter {
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
