//! A [`StatusReport`] as `status --json` writes it.

use super::controllers::{blob_json, neighbour_json};
use super::hosts::{self, known_digest};
use super::numbers::Scope;
use super::status_report::StatusReport;
use super::{rollout, spread, tipc};
use crate::control::{AwaitsRow, HOSTS_BY, HostRow, InterfaceRow, LastController, PATCHES_BY, WorkerRow};
use crate::job::FloorFacts;
use crate::json::Value;

impl StatusReport {
    /// The report as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        self.part(Scope::Node)
    }

    /// The members of a role: the other values, then the numbers. Null if this node does
    /// not have the role.
    fn part(&self, scope: Scope) -> Value {
        let mut members = Vec::new();
        if !self.has(scope) {
            return Value::Null;
        }
        for (_, key, value) in PARTS.iter().filter(|part| part.0 == scope) {
            members.push((*key, value(self)));
        }
        for number in self.numbers(scope).filter(|number| !number.key.is_empty()) {
            let value = Value::or_null((number.value)(self).map(Value::from));
            members.push((number.key, value));
        }
        Value::Object(members)
    }
}

/// A member that is not a number: its scope, key and value.
type JsonPart = (Scope, &'static str, fn(&StatusReport) -> Value);

const PARTS: &[JsonPart] = &[
    (Scope::Node, "node", |all| Value::text(all.row.node)),
    (Scope::Node, "hostname", |all| Value::text(&all.row.hostname)),
    (Scope::Node, "roles", |all| Value::list(all.roles().iter().map(Value::text))),
    (Scope::Node, "authenticated", |all| (!all.row.is_unauthenticated).into()),
    (Scope::Node, "transport", |all| Value::text(&all.row.transport)),
    (Scope::Node, "version", |all| Value::text(&all.row.version)),
    (Scope::Node, "tipc", |all| {
        Value::or_null(all.row.tipc.as_ref().filter(|_| cfg!(feature = "tipc")).map(tipc::json))
    }),
    (Scope::Node, "interface", |all| Value::or_null(all.row.interfaces.first().map(interface_json))),
    (Scope::Node, "interfaces", |all| Value::list(all.row.interfaces.iter().map(interface_json))),
    (Scope::Node, "spread", |all| Value::or_null(all.spread.as_deref().map(spread::json))),
    (Scope::Node, "controller", |all| all.part(Scope::Controller)),
    (Scope::Node, "agent", |all| all.part(Scope::Agent)),
    (Scope::Node, "at_work", |all| Value::list(all.workers.iter().map(worker_json))),
    (Scope::Node, "troubles", |all| Value::list(all.alerts().into_iter().map(Value::Text))),
    (Scope::Node, "counters", |all| {
        Value::map(all.counters.iter().map(|(name, count)| (name, (*count).into())))
    }),
    (Scope::Controller, "repo_digest", |all| Value::text(all.row.repo_digest)),
    (Scope::Controller, "started", |all| all.row.is_started.into()),
    (Scope::Controller, "incomplete", |all| all.row.is_incomplete.into()),
    (Scope::Controller, "missing", |all| Value::list(all.missing.iter().map(blob_json))),
    (Scope::Controller, "neighbours", |all| Value::list(all.neighbours.iter().map(neighbour_json))),
    (Scope::Controller, "replaced", |all| Value::list(all.replaced.iter().map(Value::text))),
    (Scope::Controller, "hosts_by", |all| counts(&HOSTS_BY, &all.row.hosts_by.0)),
    (Scope::Controller, "patches_by", |all| counts(&PATCHES_BY, &all.row.patches_by.0)),
    (Scope::Controller, "hosts_to_see_to", |all| Value::list(all.hosts.iter().map(host_json))),
    (Scope::Controller, "rollout", |all| Value::or_null(all.rollout.as_ref().map(rollout::rollout_json))),
    (Scope::Controller, "floor", |all| floor_json(all.row.applied_floor.as_ref())),
    (Scope::Agent, "installed_digest", |all| known_digest(all.row.installed_digest)),
    (Scope::Agent, "state", |all| Value::text(hosts::state(all.row.agent_state))),
    (Scope::Agent, "reason", |all| Value::text(&all.row.agent_reason)),
    (Scope::Agent, "awaits", |all| Value::or_null(all.row.awaits.map(awaits_json))),
    (Scope::Agent, "asked_by", |all| Value::or_null(all.row.last_controller.as_ref().map(asker_json))),
    (Scope::Agent, "floor", |all| floor_json(all.row.installed_floor.as_ref())),
];

fn floor_json(floor: Option<&FloorFacts>) -> Value {
    Value::or_null(floor.map(|FloorFacts { id, serial, expires }| {
        Value::object([
            ("id", Value::text(id)),
            ("serial", u64::from(*serial).into()),
            ("expires", Value::text(expires)),
        ])
    }))
}

fn interface_json(row: &InterfaceRow) -> Value {
    let outage = row.outage.map(|(state, lasted_ms)| {
        Value::object([("state", Value::text(state.as_str())), ("lasted_ms", lasted_ms.into())])
    });
    Value::object([
        ("name", Value::text(&row.name)),
        ("state", Value::text(row.state.as_str())),
        ("address", Value::or_null((!row.address.is_empty()).then(|| Value::text(&row.address)))),
        ("age_ms", row.age_ms.into()),
        ("last_outage", Value::or_null(outage)),
        ("without_ipv6", row.is_without_ipv6.into()),
        ("heard", Value::or_null(row.heard.map(|nodes| u64::from(nodes).into()))),
    ])
}

fn awaits_json(AwaitsRow { waited_ms, wait_ms }: AwaitsRow) -> Value {
    Value::object([("waited_ms", waited_ms.into()), ("wait_ms", wait_ms.into())])
}

fn asker_json(asker: &LastController) -> Value {
    Value::object([
        ("node", Value::text(asker.node)),
        ("address", Value::text(&asker.address)),
        ("age_ms", asker.age_ms.into()),
        ("heard_by", hosts::way_json(asker.way)),
    ])
}

/// Counts by name.
pub(super) fn counts(names: &[&'static str], counts: &[u32]) -> Value {
    let counts: Vec<_> = names.iter().zip(counts).map(|(name, count)| (*name, (*count).into())).collect();
    Value::object(counts)
}

fn worker_json(row: &WorkerRow) -> Value {
    Value::object([
        ("work", Value::text(row.work.as_str())),
        ("node", Value::or_null(row.node.map(Value::text))),
        ("hostname", Value::text(&row.hostname)),
        ("age_ms", row.age_ms.into()),
        ("silent_ms", row.silent_ms.into()),
        ("stalled", row.is_stalled.into()),
    ])
}

/// A host that needs attention, in short. `query-hosts` has all of it.
fn host_json(row: &HostRow) -> Value {
    Value::object([
        ("node", Value::text(row.node)),
        ("hostname", Value::text(&row.hostname)),
        ("state", Value::text(hosts::state(row.state))),
        ("age_ms", row.age_ms.into()),
        ("reason", Value::text(&row.reason)),
        ("lost_because", hosts::lost_json(row.lost)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::tests::{agent, floor, report};
    use crate::control::StatusRow;

    #[test]
    fn the_json_has_all_counters_and_null_for_a_role_that_is_not() {
        let counters = vec![("tag".to_owned(), 0)];
        let json = StatusReport { row: agent(), counters, ..StatusReport::default() }.json().to_string();
        assert!(json.contains(r#""roles":["agent"],"authenticated":false"#), "{json}");
        assert!(json.contains(r#""controller":null,"agent":{"installed_digest":"cd"#), "{json}");
        assert!(json.contains(r#""installed":2},"at_work":[]"#), "{json}");
        assert!(json.contains(r#""counters":{"tag":0},"uptime_ms":61000"#), "{json}");
        assert!(json.contains(r#""worker_peak_bytes":1536000"#), "{json}");
    }

    #[test]
    fn the_floor_is_there_with_its_serial_and_last_day() {
        let row = StatusRow { installed_floor: Some(floor("F", "2027-06-30")), ..agent() };
        let json = StatusReport { row, ..StatusReport::default() }.json().to_string();
        let expected = r#""floor":{"id":"F","serial":7,"expires":"2027-06-30"}"#;
        assert!(json.contains(expected), "{json}");
        let json = StatusReport { row: agent(), ..StatusReport::default() }.json().to_string();
        assert!(json.contains(r#""floor":null"#), "{json}");
    }

    #[test]
    fn no_worker_has_a_peak_before_one_has_ended() {
        let row = StatusRow { worker_peak_bytes: 0, ..agent() };
        let json = StatusReport { row, ..StatusReport::default() }.json().to_string();
        assert!(json.contains(r#""worker_peak_bytes":null"#), "{json}");
    }

    #[test]
    fn the_json_of_a_controller_has_the_documented_keys() {
        let json = report().json().to_string();
        let (zeros, abs) = ("0".repeat(64), "ab".repeat(32));
        let expected = format!(
            r#""controller":{{"repo_digest":"{zeros}","started":true,"incomplete":true,"missing":[{{"id":"P1","hash":"{abs}","wanted":true,"reason":"no controller has it"}}],"neighbours":[{{"node":"000000000000001f","hostname":"controller-1","address":"10.84.0.11","age_ms":2100,"lost":false,"synced":true,"op_counter":9,"missing_count":0,"trouble":"","lost_because":null,"heard_by":"multicast"}}],"replaced":["P2: your change (Applied, no. 7) was replaced"],"hosts_by":{{"current":29,"out_of_date":0,"installing":0,"failed":10,"lost":1,"unknown":0,"silent":2,"reboot_required":0}},"patches_by":{{"available":1,"applied":2,"committed":0}},"hosts_to_see_to":[{{"node":"000000000000001f","hostname":"worker-3","state":"install-failed","age_ms":12,"reason":"no space","lost_because":null}}],"rollout":null,"floor":null,"patches":3,"hosts":40,"hosts_most":64,"hosts_lost":1,"op_counter":12,"entries":5,"entries_most":1024,"tombstones":2,"purge_floor":0,"missing_count":3}},"agent":null"#
        );
        assert!(json.contains(&expected), "{json}");
    }
}
