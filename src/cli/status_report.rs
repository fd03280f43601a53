//! All that a daemon tells of itself, asked for at once: what `status`, `watch`
//! and `metrics` show.

use std::fs;

use super::client::Client;
use super::controllers::{blob_json, neighbour_json};
use super::exit::{Exit, Failure};
use super::hosts;
use super::numbers::Of;
use super::{rollout, tipc};
use crate::control::{
    Asker, BlobRow, HOSTS_BY, HostRow, NeighbourRow, PATCHES_BY, Reply, Request, RolloutRow, StatusRow,
    WorkerRow,
};
use crate::json::Value;
use crate::types::Reason;

/// All that a daemon tells of itself.
#[derive(Debug, Default)]
pub struct StatusReport {
    /// The node itself.
    pub row: StatusRow,
    /// Other controllers, by name.
    pub neighbours: Vec<NeighbourRow>,
    /// Patches whose files are not here.
    pub missing: Vec<BlobRow>,
    /// Changes made here that were replaced.
    pub replaced: Vec<Reason>,
    /// Hosts to see to.
    pub hosts: Vec<HostRow>,
    /// Workers at work.
    pub workers: Vec<WorkerRow>,
    /// The last rollout, where there was one.
    pub rollout: Option<RolloutRow>,
    /// Counts by their names.
    pub counters: Vec<(String, u64)>,
    /// What the daemon has in memory now; `None` where it cannot be looked at.
    pub resident: Option<Resident>,
}

/// What a process has in memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Its own alone: tables, buffers, stack.
    pub own_bytes: u64,
    /// With the program itself, which others may share.
    pub all_bytes: u64,
}

impl StatusReport {
    /// Asks a daemon.
    ///
    /// # Errors
    /// It does not answer, or says nothing of itself.
    pub fn ask(client: &mut Client) -> Result<Self, Failure> {
        let mut all = Self::default();
        let mut is_told = false;
        client.ask(Request::Status, |reply| {
            match reply {
                Reply::Status(row) => (all.row, is_told) = (row, true),
                Reply::Neighbour(row) => all.neighbours.push(row),
                Reply::Blob(row) => all.missing.push(row),
                Reply::Replaced(line) => all.replaced.push(line),
                Reply::Host(row) => all.hosts.push(row),
                Reply::Worker(row) => all.workers.push(row),
                Reply::Rollout(row) => all.rollout = Some(row),
                Reply::Counter { name, count } => all.counters.push((name.to_string(), count)),
                _ => {}
            }
            Ok(())
        })?;
        if !is_told {
            return Err(Failure::new(Exit::Refused, "the daemon said nothing of itself; see its log"));
        }
        all.neighbours.sort_unstable_by(|a, b| (&a.hostname, a.node).cmp(&(&b.hostname, b.node)));
        all.resident = client.daemon_pid().and_then(resident);
        Ok(all)
    }

    /// The node's roles, in words.
    #[must_use]
    pub fn roles(&self) -> &'static [&'static str] {
        match (self.row.is_controller, self.row.is_agent) {
            (true, true) => &["controller", "agent"],
            (true, false) => &["controller"],
            (false, _) => &["agent"],
        }
    }

    /// What the daemon calls a trouble, and one that its numbers tell.
    #[must_use]
    pub fn alerts(&self) -> Vec<String> {
        let row = &self.row;
        let mut alerts: Vec<String> = row.alerts.iter().map(ToString::to_string).collect();
        let (entries, most, tombstones) = (row.entries, row.entries_most, row.tombstones);
        // An eighth is left.
        if row.is_controller && most - most / 8 <= entries {
            let make_room = if tombstones == 0 {
                "delete patches that no host needs, then `thimble purge`"
            } else {
                "make room with `thimble purge`, which drops those while every controller is present"
            };
            alerts.push(format!(
                "The repository is nearly full: {entries} of at most {most} entries, {tombstones} of them of \
                 deleted patches. Before uploads are refused, {make_room}."
            ));
        }
        alerts
    }

    /// As `--json` shows it.
    #[must_use]
    pub fn json(&self) -> Value {
        self.part(Of::Node)
    }

    /// What a role has to tell: what is no number, then the numbers. Null where this
    /// node has it not.
    fn part(&self, of: Of) -> Value {
        let mut members = Vec::new();
        if !self.has(of) {
            return Value::Null;
        }
        for (_, key, value) in PARTS.iter().filter(|part| part.0 == of) {
            members.push((*key, value(self)));
        }
        for number in self.numbers(of).filter(|number| !number.key.is_empty()) {
            let value = Value::or_null((number.value)(self).map(Value::from));
            members.push((number.key, value));
        }
        Value::Object(members)
    }
}

/// What is told beside the numbers: whose, its key, and what it is.
type JsonPart = (Of, &'static str, fn(&StatusReport) -> Value);

const PARTS: &[JsonPart] = &[
    (Of::Node, "node", |all| Value::text(all.row.node)),
    (Of::Node, "hostname", |all| Value::text(&all.row.hostname)),
    (Of::Node, "roles", |all| Value::list(all.roles().iter().map(Value::text))),
    (Of::Node, "authenticated", |all| (!all.row.is_unauthenticated).into()),
    (Of::Node, "transport", |all| Value::text(all.row.transport.as_str())),
    (Of::Node, "version", |all| Value::text(all.row.version.as_str())),
    (Of::Node, "tipc", |all| {
        Value::or_null(all.row.tipc.as_ref().filter(|_| cfg!(feature = "tipc")).map(tipc::json))
    }),
    (Of::Node, "controller", |all| all.part(Of::Controller)),
    (Of::Node, "agent", |all| all.part(Of::Agent)),
    (Of::Node, "at_work", |all| Value::list(all.workers.iter().map(worker_json))),
    (Of::Node, "troubles", |all| Value::list(all.alerts().into_iter().map(Value::Text))),
    (Of::Node, "counters", |all| {
        Value::map(all.counters.iter().map(|(name, count)| (name, (*count).into())))
    }),
    (Of::Controller, "repo_digest", |all| Value::text(all.row.repo_digest)),
    (Of::Controller, "started", |all| all.row.is_started.into()),
    (Of::Controller, "incomplete", |all| all.row.is_incomplete.into()),
    (Of::Controller, "missing", |all| Value::list(all.missing.iter().map(blob_json))),
    (Of::Controller, "neighbours", |all| Value::list(all.neighbours.iter().map(neighbour_json))),
    (Of::Controller, "replaced", |all| Value::list(all.replaced.iter().map(Value::text))),
    (Of::Controller, "hosts_by", |all| counts(&HOSTS_BY, &all.row.hosts_by.0)),
    (Of::Controller, "patches_by", |all| counts(&PATCHES_BY, &all.row.patches_by.0)),
    (Of::Controller, "hosts_to_see_to", |all| Value::list(all.hosts.iter().map(host_json))),
    (Of::Controller, "rollout", |all| Value::or_null(all.rollout.as_ref().map(rollout::rollout_json))),
    (Of::Agent, "installed_digest", |all| Value::text(all.row.installed_digest)),
    (Of::Agent, "state", |all| Value::text(hosts::state(all.row.agent_state))),
    (Of::Agent, "reason", |all| Value::text(&all.row.agent_reason)),
    (Of::Agent, "asked_by", |all| Value::or_null(all.row.asked_by.as_ref().map(asker_json))),
];

fn asker_json(asker: &Asker) -> Value {
    Value::object([
        ("node", Value::text(asker.node)),
        ("address", Value::text(&asker.address)),
        ("age_ms", asker.age_ms.into()),
    ])
}

/// Counts by their names.
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
    ])
}

/// A host to see to: `query-hosts` has all of it.
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

/// What a process has in memory. `/proc` is read by the command, so that the
/// daemon's loop need not.
fn resident(pid: u32) -> Option<Resident> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bytes = |key: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(key))?;
        Some(value.strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    };
    Some(Resident { own_bytes: bytes("RssAnon:")?, all_bytes: bytes("VmRSS:")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::tests::{agent, controller, standing};

    #[test]
    fn a_process_that_is_there_has_memory_and_one_that_is_not_has_none() {
        let own = resident(std::process::id()).unwrap();
        assert!(own.own_bytes > 4096 && own.all_bytes >= own.own_bytes, "{own:?}");
        assert_eq!(resident(u32::MAX), None);
    }

    #[test]
    fn a_repository_that_is_nearly_full_is_a_trouble_with_a_way_out() {
        let told = |entries, tombstones| {
            let row = StatusRow { entries, tombstones, alerts: heapless::Vec::new(), ..controller() };
            StatusReport { row, ..StatusReport::default() }.alerts().concat()
        };
        assert_eq!(told(895, 0), "");
        assert!(told(896, 0).contains("896 of at most 1024 entries"), "{}", told(896, 0));
        assert!(told(896, 0).ends_with("delete patches that no host needs, then `thimble purge`."));
        assert!(told(1024, 9).contains("9 of them of deleted patches"));
        assert!(told(1024, 9).ends_with("drops those while every controller is present."));
        let row = StatusRow { alerts: heapless::Vec::new(), ..agent() };
        assert!(StatusReport { row, ..StatusReport::default() }.alerts().is_empty());
    }

    #[test]
    fn the_json_has_all_counters_and_null_for_a_role_that_is_not() {
        let counters = vec![("tag".to_owned(), 0)];
        let json = StatusReport { row: agent(), counters, ..StatusReport::default() }.json().to_string();
        assert!(json.contains(r#""roles":["agent"],"authenticated":false"#), "{json}");
        assert!(json.contains(r#""controller":null,"agent":{"installed_digest":"cd"#), "{json}");
        assert!(json.contains(r#""installed":2},"at_work":[]"#), "{json}");
        assert!(json.contains(r#""counters":{"tag":0},"uptime_ms":61000"#), "{json}");
    }

    #[test]
    fn the_json_of_a_controller_has_the_documented_keys() {
        let json = standing().json().to_string();
        let (zeros, abs) = ("0".repeat(64), "ab".repeat(32));
        let expected = format!(
            r#""controller":{{"repo_digest":"{zeros}","started":true,"incomplete":true,"missing":[{{"id":"P1","hash":"{abs}","wanted":true,"reason":"no controller has it"}}],"neighbours":[{{"node":"000000000000001f","hostname":"controller-1","address":"10.84.0.11","age_ms":2100,"lost":false,"synced":true,"op_counter":9,"missing_count":0,"trouble":"","lost_because":null}}],"replaced":["P2: your change (Applied, no. 7) was replaced"],"hosts_by":{{"current":29,"out_of_date":0,"installing":0,"failed":10,"lost":1,"unknown":0,"silent":2,"reboot_required":0}},"patches_by":{{"available":1,"applied":2,"committed":0}},"hosts_to_see_to":[{{"node":"000000000000001f","hostname":"worker-3","state":"install-failed","age_ms":12,"reason":"no space","lost_because":null}}],"rollout":null,"patches":3,"hosts":40,"hosts_most":64,"hosts_lost":1,"op_counter":12,"entries":5,"entries_most":1024,"tombstones":2,"purge_floor":0,"missing_count":3}},"agent":null"#
        );
        assert!(json.contains(&expected), "{json}");
    }
}
