//! `status`: what the daemon knows of itself, troubles first.

use std::fmt::{Display, Write};

use super::client::Client;
use super::controllers::{blob_json, blob_text, neighbour_json, neighbour_text};
use super::exit::Failure;
use super::hosts;
use super::json::Value;
use super::out::Out;
use super::parse::Invocation;
use super::standing::Standing;
use crate::daemon::clock::Span;
use crate::daemon::protocol::StatusRow;

/// `thimble status`
pub fn status(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let standing = Standing::ask(&mut Client::connect(&invocation.socket()?)?)?;
    out.text(status_text(&standing))?;
    out.json(|| status_json(&standing))?;
    Ok(())
}

fn roles(status: &StatusRow) -> Vec<&'static str> {
    let roles = [(status.is_controller, "controller"), (status.is_agent, "agent")];
    roles.into_iter().filter_map(|(has, role)| has.then_some(role)).collect()
}

/// What the daemon calls a trouble, and one that its numbers tell.
fn troubles(status: &StatusRow) -> Vec<String> {
    let mut troubles: Vec<String> = status.troubles.iter().map(ToString::to_string).collect();
    let (entries, most, tombstones) = (status.entries, status.entries_most, status.tombstones);
    // An eighth is left.
    if status.is_controller && most - most / 8 <= entries {
        let make_room = if tombstones == 0 {
            "delete patches that no host needs, then `thimble purge`"
        } else {
            "make room with `thimble purge`, which drops those while every controller is present"
        };
        troubles.push(format!(
            "The repository is nearly full: {entries} of at most {most} entries, {tombstones} of them of deleted \
             patches. Before uploads are refused, {make_room}."
        ));
    }
    troubles
}

fn status_text(standing: &Standing) -> String {
    let status = &standing.row;
    let mut text = String::new();
    for trouble in troubles(status) {
        let _ = writeln!(text, "TROUBLE: {trouble}");
    }
    if status.is_unauthenticated {
        text.push_str("WARNING: auth = \"none\": whoever is on the network can command this node\n");
    }
    row(
        &mut text,
        "node",
        format_args!("{} {} ({})", status.hostname, status.node, roles(status).join(", ")),
    );
    row(&mut text, "thimble", format_args!("{} over {}", status.version, status.transport));
    row(
        &mut text,
        "up",
        format_args!("{}, incarnation {}", Span::of_millis(status.uptime_ms), status.incarnation),
    );
    if status.is_controller {
        controller_text(&mut text, standing);
    }
    if status.is_agent {
        let (installed, digest) = (status.installed, status.installed_digest);
        row(&mut text, "installed", format_args!("{installed}, digest {digest:.12}"));
        row(&mut text, "agent", hosts::state(status.agent_state));
        if !status.agent_reason.is_empty() {
            row(&mut text, "last install", &status.agent_reason);
        }
    }
    row(&mut text, "workers", status.workers);
    row(
        &mut text,
        "memory",
        format_args!("{} KiB of tables and buffers", status.memory_bytes.div_ceil(1024)),
    );
    if let Some(allocations) = status.loop_allocations {
        row(&mut text, "allocations", format_args!("{allocations} in the loop since start"));
    }
    for (name, count) in standing.counters.iter().filter(|(_, count)| *count > 0) {
        row(&mut text, "count", format_args!("{name} {count}"));
    }
    text
}

fn row(text: &mut String, name: &str, value: impl Display) {
    let _ = writeln!(text, "{name:<13} {value}");
}

fn controller_text(text: &mut String, standing: &Standing) {
    let status = &standing.row;
    for neighbour in &standing.neighbours {
        row(text, "controller", neighbour_text(neighbour));
    }
    let (patches, digest, counter) = (status.patches, status.repo_digest, status.op_counter);
    row(text, "patches", format_args!("{patches}, digest {digest:.12}, change {counter}"));
    let (entries, most, tombstones) = (status.entries, status.entries_most, status.tombstones);
    row(text, "entries", format_args!("{entries} of at most {most}, {tombstones} of deleted patches"));
    for blob in &standing.missing {
        row(text, "missing", blob_text(blob));
    }
    match (status.blobs_missing as usize).saturating_sub(standing.missing.len()) {
        0 => {}
        more => row(text, "missing", format_args!("the files of {more} more patches")),
    }
    for line in &standing.replaced {
        row(text, "replaced", line);
    }
    let (hosts, most, lost) = (status.hosts, status.hosts_most, status.hosts_lost);
    row(text, "hosts", format_args!("{hosts} of at most {most}, {lost} lost"));
}

fn status_json(standing: &Standing) -> Value {
    let status = &standing.row;
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
        ("controller", Value::or_null(status.is_controller.then(|| controller_json(standing)))),
        ("agent", Value::or_null(status.is_agent.then(agent))),
        ("troubles", Value::list(troubles(status).into_iter().map(Value::Text))),
        ("counters", Value::object(standing.counters.iter().map(|(name, count)| (name, (*count).into())))),
    ])
}

fn controller_json(standing: &Standing) -> Value {
    let status = &standing.row;
    Value::object([
        ("patches", status.patches.into()),
        ("repo_digest", Value::text(status.repo_digest)),
        ("hosts", status.hosts.into()),
        ("hosts_most", status.hosts_most.into()),
        ("hosts_lost", status.hosts_lost.into()),
        ("op_counter", status.op_counter.into()),
        ("started", status.is_started.into()),
        ("incomplete", status.is_incomplete.into()),
        ("entries", status.entries.into()),
        ("entries_most", status.entries_most.into()),
        ("tombstones", status.tombstones.into()),
        ("purge_floor", status.purge_floor.into()),
        ("missing_count", status.blobs_missing.into()),
        ("missing", Value::list(standing.missing.iter().map(blob_json))),
        ("neighbours", Value::list(standing.neighbours.iter().map(neighbour_json))),
        ("replaced", Value::list(standing.replaced.iter().map(Value::text))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::controllers::tests as controllers;
    use crate::types::{Digest, Hostname, NodeId, Reason, Text};

    fn agent() -> StatusRow {
        StatusRow {
            node: NodeId(5),
            hostname: Hostname::new("w0").unwrap(),
            is_agent: true,
            is_unauthenticated: true,
            transport: Text::new("udp"),
            version: Text::new("0.1.0"),
            uptime_ms: 61_000,
            incarnation: 9,
            installed: 2,
            installed_digest: Digest([0xCD; 32]),
            troubles: [Reason::new("disk stalled: look at it")].into_iter().collect(),
            memory_bytes: 4097,
            ..StatusRow::default()
        }
    }

    fn controller() -> StatusRow {
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
            hosts_most: 64,
            ..agent()
        }
    }

    fn standing() -> Standing {
        Standing {
            row: controller(),
            neighbours: vec![controllers::row()],
            missing: vec![controllers::blob()],
            replaced: vec![Reason::new("P2: your change (Applied, no. 7) was replaced")],
            ..Standing::default()
        }
    }

    #[test]
    fn troubles_come_first_and_counters_that_count_last() {
        let counters = vec![("magic".to_owned(), 3), ("tag".to_owned(), 0)];
        let text = status_text(&Standing { row: agent(), counters, ..Standing::default() });
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
    fn a_controller_shows_the_others_what_it_lacks_and_what_was_replaced() {
        let text = status_text(&standing());
        let expected = "\
TROUBLE: disk stalled: look at it
node          w0 0000000000000005 (controller)
thimble       0.1.0 over udp
up            1 min 1 s, incarnation 9
controller    controller-1 000000000000001f at 10.84.0.11: synced, heard 2 s ago
patches       3, digest 000000000000, change 12
entries       5 of at most 1024, 2 of deleted patches
missing       the file of P1, which hosts need: no controller has it
missing       the files of 2 more patches
replaced      P2: your change (Applied, no. 7) was replaced
hosts         0 of at most 64, 0 lost
workers       0
memory        5 KiB of tables and buffers
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_repository_that_is_nearly_full_is_a_trouble_with_a_way_out() {
        let told = |entries, tombstones| {
            let row = StatusRow { entries, tombstones, troubles: heapless::Vec::new(), ..controller() };
            troubles(&row).concat()
        };
        assert_eq!(told(895, 0), "");
        assert!(told(896, 0).contains("896 of at most 1024 entries"), "{}", told(896, 0));
        assert!(told(896, 0).ends_with("delete patches that no host needs, then `thimble purge`."));
        assert!(told(1024, 9).contains("9 of them of deleted patches"));
        assert!(told(1024, 9).ends_with("drops those while every controller is present."));
        assert!(troubles(&StatusRow { troubles: heapless::Vec::new(), ..agent() }).is_empty());
    }

    #[test]
    fn the_json_has_all_counters_and_null_for_a_role_that_is_not() {
        let counters = vec![("tag".to_owned(), 0)];
        let json = status_json(&Standing { row: agent(), counters, ..Standing::default() }).to_string();
        assert!(json.contains(r#""roles":["agent"],"authenticated":false"#), "{json}");
        assert!(json.contains(r#""controller":null,"agent":{"installed":2"#), "{json}");
        assert!(json.ends_with(r#""counters":{"tag":0}}"#), "{json}");
    }

    #[test]
    fn the_json_of_a_controller_has_the_documented_keys() {
        let json = status_json(&standing()).to_string();
        let (zeros, abs) = ("0".repeat(64), "ab".repeat(32));
        let expected = format!(
            r#""controller":{{"patches":3,"repo_digest":"{zeros}","hosts":0,"hosts_most":64,"hosts_lost":0,"op_counter":12,"started":true,"incomplete":true,"entries":5,"entries_most":1024,"tombstones":2,"purge_floor":0,"missing_count":3,"missing":[{{"id":"P1","hash":"{abs}","wanted":true,"reason":"no controller has it"}}],"neighbours":[{{"node":"000000000000001f","hostname":"controller-1","address":"10.84.0.11","age_ms":2100,"lost":false,"synced":true,"op_counter":9,"missing_count":0,"trouble":""}}],"replaced":["P2: your change (Applied, no. 7) was replaced"]}},"agent":null"#
        );
        assert!(json.contains(&expected), "{json}");
    }
}
