//! `metrics`: what `status` knows, as OpenMetrics text.
//!
//! The names are stable. Each value is a whole number, in the base unit that its
//! name ends with. The text is also what Prometheus' older format allows, so that
//! node_exporter's textfile collector takes it: no type but counter and gauge.

use std::fmt::Write;

use super::client::Client;
use super::counts;
use super::exit::Failure;
use super::json::Value;
use super::out::Out;
use super::parse::Invocation;
use super::standing::Standing;
use crate::daemon::protocol::{HostState, RolloutRow, StatusRow, Work};
use crate::repo::rollout::RolloutState;

/// Values of one name.
struct Family {
    name: String,
    kind: &'static str,
    help: String,
    samples: Vec<Sample>,
}

/// One value, with the labels that tell it from others of its name.
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: u64,
}

/// `thimble metrics`
pub fn metrics(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let standing = Standing::ask(&mut Client::connect(&invocation.socket()?)?)?;
    let families = families(&standing);
    out.text(open_metrics(&families))?;
    out.json(|| json(&families))?;
    Ok(())
}

fn families(standing: &Standing) -> Vec<Family> {
    let mut families = Vec::new();
    of_the_node(standing, &mut families);
    if standing.row.is_controller {
        of_a_controller(standing, &mut families);
    }
    if let Some(row) = &standing.rollout {
        of_the_rollout(row, &mut families);
    }
    if standing.row.is_agent {
        of_an_agent(&standing.row, &mut families);
    }
    of_counts(&standing.counters, &mut families);
    families
}

/// One value without labels: what it is called, what it is, how much.
type Plain = (&'static str, &'static str, u64);

fn plain(families: &mut Vec<Family>, all: &[Plain]) {
    for (name, help, value) in all {
        labelled(families, name, help, [(Vec::new(), *value)]);
    }
}

fn labelled(
    families: &mut Vec<Family>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Vec<(&'static str, String)>, u64)>,
) {
    let samples = values.into_iter().map(|(labels, value)| Sample { labels, value }).collect();
    let (name, help) = (format!("thimble_{name}"), help.to_owned());
    families.push(Family { name, kind: "gauge", help, samples });
}

/// Values that differ in one label.
fn by(families: &mut Vec<Family>, name: &str, help: &str, label: &'static str, values: &[(&str, u64)]) {
    let values = values.iter().map(|(of, value)| (vec![(label, (*of).to_owned())], *value));
    labelled(families, name, help, values);
}

fn of_the_node(standing: &Standing, families: &mut Vec<Family>) {
    let row = &standing.row;
    let build = vec![("version", row.version.to_string()), ("transport", row.transport.to_string())];
    labelled(families, "build_info", "thimble's version and transport", [(build, 1)]);
    let node = vec![("node", row.node.to_string()), ("hostname", row.hostname.to_string())];
    labelled(families, "node_info", "this node's id and name", [(node, 1)]);
    let roles = [("controller", row.is_controller.into()), ("agent", row.is_agent.into())];
    by(families, "role", "1 where this node has the role", "role", &roles);
    let troubles = row.troubles.len() as u64 + u64::from(row.troubles_more);
    plain(
        families,
        &[
            ("troubles", "what status shows as TROUBLE", troubles),
            ("authenticated", "0 where auth is none", (!row.is_unauthenticated).into()),
            ("uptime_seconds", "time since the daemon's start", row.uptime_ms / 1000),
            ("clock_seconds", "what the node's clock says, since 1970", row.unix_ms / 1000),
            ("incarnation", "the number of the daemon's start", row.incarnation),
            ("memory_budget_bytes", "tables and buffers, set aside at start", row.memory_bytes),
        ],
    );
    if let Some(resident) = standing.resident {
        plain(
            families,
            &[
                ("memory_own_bytes", "resident memory that is the daemon's alone", resident.own_bytes),
                ("memory_resident_bytes", "resident memory with the program itself", resident.all_bytes),
            ],
        );
    }
    let at_work = |work| standing.workers.iter().filter(|row| row.work == work).count() as u64;
    let workers = Work::ALL.map(|work| (work.as_str(), at_work(work)));
    by(families, "workers", "worker processes by what they do", "work", &workers);
    let silence = standing.workers.iter().map(|row| row.silent_ms).max().unwrap_or(0);
    let help = "for how long a worker has said nothing, the longest: high where a disk is stalled";
    plain(families, &[("worker_silence_seconds", help, silence / 1000)]);
}

fn of_a_controller(standing: &Standing, families: &mut Vec<Family>) {
    let (row, by_state, patches) = (&standing.row, &standing.row.hosts_by, &standing.row.patches_by);
    let hosts = [
        ("current", by_state.current),
        ("out_of_date", by_state.out_of_date),
        ("installing", by_state.installing),
        ("failed", by_state.failed),
        ("lost", by_state.lost),
        ("unknown", by_state.unknown),
    ];
    by(families, "hosts", "hosts by how they stand, each once", "state", &hosts.map(|(s, n)| (s, n.into())));
    let patches =
        [("available", patches.available), ("applied", patches.applied), ("committed", patches.committed)];
    let help = "patches by what the cluster wants of them";
    by(families, "patches", help, "state", &patches.map(|(s, n)| (s, n.into())));
    plain(
        families,
        &[
            ("hosts_silent", "hosts not heard for long, though not lost yet", by_state.silent.into()),
            ("hosts_reboot_required", "hosts that must restart", by_state.reboot_required.into()),
            ("hosts_most", "hosts for which there is room", row.hosts_most.into()),
            ("repository_entries", "entries of the repository, deleted patches included", row.entries.into()),
            ("repository_entries_most", "entries for which there is room", row.entries_most.into()),
            ("repository_tombstones", "entries of deleted patches", row.tombstones.into()),
            ("repository_changes", "the number of the repository's latest change", row.op_counter),
            ("blobs_missing", "patches whose files are not here", row.blobs_missing.into()),
            ("incomplete", "1 where a file that hosts need is not here", row.is_incomplete.into()),
            ("started", "1 once the controller takes changes", row.is_started.into()),
        ],
    );
    let neighbours = |value: fn(&crate::daemon::protocol::NeighbourRow) -> Option<u64>| {
        standing.neighbours.iter().filter_map(move |row| {
            let labels = vec![("node", row.node.to_string()), ("hostname", row.hostname.to_string())];
            Some((labels, value(row)?))
        })
    };
    let up = neighbours(|row| Some((!row.is_lost).into()));
    labelled(families, "neighbour_up", "1 where another controller is heard", up);
    let synced = neighbours(|row| Some(row.is_synced.into()));
    labelled(families, "neighbour_synced", "1 where another controller has the same repository", synced);
    let age = neighbours(|row| Some(row.age_ms? / 1000));
    labelled(families, "neighbour_age_seconds", "time since another controller was heard", age);
    let missing = neighbours(|row| Some(row.blobs_missing.into()));
    labelled(families, "neighbour_blobs_missing", "patch files that another controller lacks", missing);
}

fn of_the_rollout(row: &RolloutRow, families: &mut Vec<Family>) {
    let states = [
        ("running", RolloutState::Running),
        ("stopped", RolloutState::Stopped),
        ("halted", RolloutState::Halted),
        ("ended", RolloutState::Ended),
    ];
    let help = "1 where the last rollout stands like this";
    by(families, "rollout", help, "state", &states.map(|(name, state)| (name, (row.state == state).into())));
    let hosts = &row.hosts;
    let parts = [
        ("installed", hosts.done),
        ("current", hosts.current),
        ("failed", hosts.failed),
        ("no_answer", hosts.no_answer),
        ("at_work", hosts.at_work),
        ("next", hosts.next),
        ("lost", hosts.lost),
    ];
    let help = "hosts by their part in the last rollout";
    by(families, "rollout_hosts", help, "part", &parts.map(|(name, count)| (name, count.into())));
}

fn of_an_agent(row: &StatusRow, families: &mut Vec<Family>) {
    let (is_installing, percent) = match row.agent_state {
        HostState::Installing { percent, .. } => (true, percent),
        _ => (false, 0),
    };
    let is_failed = row.agent_state == HostState::InstallFailed;
    plain(
        families,
        &[
            ("installed_patches", "patches on this host", row.installed.into()),
            ("installing", "1 while this host installs", is_installing.into()),
            ("install_percent", "how far the install is", percent.into()),
            ("install_failed", "1 where this host's last install failed", is_failed.into()),
        ],
    );
    if let Some(asker) = &row.asked_by {
        let help = "time since a controller was heard";
        plain(families, &[("controller_age_seconds", help, asker.age_ms / 1000)]);
    }
}

/// All counts but the refusals have a name of their own; those share one.
fn of_counts(counters: &[(String, u64)], families: &mut Vec<Family>) {
    let mut refused = Vec::new();
    for (name, value) in counters {
        if let Some(reason) = counts::reason(name) {
            let labels = vec![("reason", reason.as_str().to_owned())];
            refused.push(Sample { labels, value: *value });
            continue;
        }
        let kind = if name == "sessions_open" { "gauge" } else { "counter" };
        let (name, help) = (format!("thimble_{name}"), counts::words(name).to_owned());
        families.push(Family {
            name,
            kind,
            help,
            samples: vec![Sample { labels: Vec::new(), value: *value }],
        });
    }
    let (name, help) = ("thimble_datagrams_refused".to_owned(), "datagrams refused, by reason".to_owned());
    families.push(Family { name, kind: "counter", help, samples: refused });
}

/// The unit that a name ends with.
fn unit(name: &str) -> Option<&'static str> {
    ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit))
}

fn open_metrics(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families {
        let Family { name, kind, help, samples } = family;
        let _ = writeln!(text, "# TYPE {name} {kind}");
        if let Some(unit) = unit(name) {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(text, "# HELP {name} {}.", escaped(help));
        for sample in samples {
            let _ = write!(text, "{name}{}", if *kind == "counter" { "_total" } else { "" });
            for (place, (label, value)) in sample.labels.iter().enumerate() {
                let before = if place == 0 { '{' } else { ',' };
                let _ = write!(text, "{before}{label}=\"{}\"", escaped(value));
            }
            let after = if sample.labels.is_empty() { "" } else { "}" };
            let _ = writeln!(text, "{after} {}", sample.value);
        }
    }
    text.push_str("# EOF\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn json(families: &[Family]) -> Value {
    let sample = |family: &Family, sample: &Sample| {
        let labels = sample.labels.iter().map(|(label, value)| (*label, Value::text(value)));
        Value::object([
            ("name", Value::text(&family.name)),
            ("labels", Value::map(labels)),
            ("value", sample.value.into()),
        ])
    };
    let all = families.iter().flat_map(|family| family.samples.iter().map(move |one| sample(family, one)));
    Value::object([("metrics", Value::list(all))])
}
