//! `status`: what the daemon knows of itself, troubles first.

use std::fmt::Write;

use super::client::Client;
use super::exit::{Exit, Failure};
use super::hosts;
use super::json::Value;
use super::out::Out;
use super::parse::Invocation;
use crate::daemon::protocol::{Reply, Request, StatusRow};

/// `thimble status`
pub fn status(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let mut status = None;
    let mut counters = Vec::new();
    Client::connect(&invocation.socket()?)?.ask(&Request::Status, |reply| {
        match reply {
            Reply::Status(row) => status = Some(row),
            Reply::Counter { name, count } => counters.push((name.to_string(), count)),
            _ => {}
        }
        Ok(())
    })?;
    let Some(status) = status else {
        return Err(Failure::new(Exit::Refused, "the daemon said nothing of itself; see its log"));
    };
    out.text(status_text(&status, &counters))?;
    out.json(|| status_json(&status, counters))?;
    Ok(())
}

fn roles(status: &StatusRow) -> Vec<&'static str> {
    let roles = [(status.is_controller, "controller"), (status.is_agent, "agent")];
    roles.into_iter().filter_map(|(has, role)| has.then_some(role)).collect()
}

fn status_text(status: &StatusRow, counters: &[(String, u64)]) -> String {
    let mut text = String::new();
    for trouble in &status.troubles {
        let _ = writeln!(text, "TROUBLE: {trouble}");
    }
    if status.is_unauthenticated {
        text.push_str("WARNING: auth = \"none\": whoever is on the network can command this node\n");
    }
    let mut row = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name:<13} {value}");
    };
    row("node", &format_args!("{} {} ({})", status.hostname, status.node, roles(status).join(", ")));
    row("thimble", &format_args!("{} over {}", status.version, status.transport));
    row("up", &format_args!("{}, incarnation {}", span(status.uptime_ms), status.incarnation));
    if status.is_controller {
        row("patches", &format_args!("{}, digest {:.12}", status.patches, status.repo_digest));
        let (hosts, most, lost) = (status.hosts, status.hosts_most, status.hosts_lost);
        row("hosts", &format_args!("{hosts} of at most {most}, {lost} lost"));
    }
    if status.is_agent {
        let (installed, digest) = (status.installed, status.installed_digest);
        row("installed", &format_args!("{installed}, digest {digest:.12}"));
        row("agent", &hosts::state(status.agent_state));
        if !status.agent_reason.is_empty() {
            row("last install", &status.agent_reason);
        }
    }
    row("workers", &status.workers);
    row("memory", &format_args!("{} KiB of tables and buffers", status.memory_bytes.div_ceil(1024)));
    if let Some(allocations) = status.loop_allocations {
        row("allocations", &format_args!("{allocations} in the loop since start"));
    }
    for (name, count) in counters.iter().filter(|(_, count)| *count > 0) {
        row("count", &format_args!("{name} {count}"));
    }
    text
}

/// A span of time in the two largest units that it has.
fn span(ms: u64) -> String {
    let (days, hours, minutes) = (ms / 86_400_000, ms / 3_600_000 % 24, ms / 60_000 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{} s", ms / 1000),
        (0, 0, minutes) => format!("{minutes} min {} s", ms / 1000 % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn status_json(status: &StatusRow, counters: Vec<(String, u64)>) -> Value {
    let controller = || {
        Value::object([
            ("patches", status.patches.into()),
            ("repo_digest", Value::text(status.repo_digest)),
            ("hosts", status.hosts.into()),
            ("hosts_most", status.hosts_most.into()),
            ("hosts_lost", status.hosts_lost.into()),
        ])
    };
    let agent = || {
        Value::object([
            ("installed", status.installed.into()),
            ("installed_digest", Value::text(status.installed_digest)),
            ("state", Value::text(hosts::state(status.agent_state))),
            ("reason", Value::text(&status.agent_reason)),
        ])
    };
    Value::object([
        ("node", Value::text(status.node)),
        ("hostname", Value::text(&status.hostname)),
        ("roles", Value::list(roles(status).into_iter().map(Value::text))),
        ("authenticated", (!status.is_unauthenticated).into()),
        ("transport", Value::text(&status.transport)),
        ("version", Value::text(&status.version)),
        ("uptime_ms", status.uptime_ms.into()),
        ("incarnation", status.incarnation.into()),
        ("workers", status.workers.into()),
        ("memory_bytes", status.memory_bytes.into()),
        ("loop_allocations", Value::or_null(status.loop_allocations.map(Value::from))),
        ("controller", Value::or_null(status.is_controller.then(controller))),
        ("agent", Value::or_null(status.is_agent.then(agent))),
        ("troubles", Value::list(status.troubles.iter().map(Value::text))),
        ("counters", Value::object(counters.into_iter().map(|(name, count)| (name, Value::from(count))))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::protocol::HostState;
    use crate::types::{Digest, Hostname, NodeId, Reason, Text};

    fn agent() -> StatusRow {
        StatusRow {
            node: NodeId(5),
            hostname: Hostname::new("w0").unwrap(),
            is_controller: false,
            is_agent: true,
            is_unauthenticated: true,
            transport: Text::new("udp"),
            version: Text::new("0.1.0"),
            uptime_ms: 61_000,
            incarnation: 9,
            patches: 0,
            repo_digest: Digest::default(),
            op_counter: 0,
            is_started: false,
            is_incomplete: false,
            blobs_missing: 0,
            entries: 0,
            entries_most: 0,
            tombstones: 0,
            purge_floor: 0,
            hosts: 0,
            hosts_most: 0,
            hosts_lost: 0,
            installed: 2,
            installed_digest: Digest([0xCD; 32]),
            agent_state: HostState::Idle,
            agent_reason: Reason::default(),
            workers: 0,
            troubles: [Reason::new("disk stalled: look at it")].into_iter().collect(),
            memory_bytes: 4097,
            loop_allocations: None,
        }
    }

    #[test]
    fn troubles_come_first_and_counters_that_count_last() {
        let text = status_text(&agent(), &[("magic".to_owned(), 3), ("tag".to_owned(), 0)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "TROUBLE: disk stalled: look at it");
        assert!(lines[1].starts_with("WARNING: auth = \"none\""));
        assert!(lines.contains(&"node          w0 0000000000000005 (agent)"), "{text}");
        assert!(lines.contains(&"installed     2, digest cdcdcdcdcdcd"), "{text}");
        assert!(lines.contains(&"memory        5 KiB of tables and buffers"), "{text}");
        assert_eq!(*lines.last().unwrap(), "count         magic 3");
        assert!(!text.contains("tag") && !text.contains("hosts"));
    }

    #[test]
    fn the_json_has_all_counters_and_null_for_a_role_that_is_not() {
        let json = status_json(&agent(), vec![("tag".to_owned(), 0)]).to_string();
        assert!(json.contains(r#""roles":["agent"],"authenticated":false"#), "{json}");
        assert!(json.contains(r#""controller":null,"agent":{"installed":2"#), "{json}");
        assert!(json.ends_with(r#""counters":{"tag":0}}"#), "{json}");
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        for (ms, shown) in [
            (900, "0 s"),
            (59_999, "59 s"),
            (61_000, "1 min 1 s"),
            (3_660_000, "1 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(span(ms), shown);
        }
    }
}
