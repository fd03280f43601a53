//! All that a daemon tells of itself, asked for at once: what `status`, `watch`
//! and `metrics` show.

use std::fs;

use super::client::Client;
use super::controllers::{blob_json, neighbour_json};
use super::exit::{Exit, Failure};
use super::hosts;
use super::json::Value;
use super::rollout;
use crate::daemon::protocol::{
    Asker, BlobRow, HostRow, NeighbourRow, Reply, Request, RolloutRow, StatusRow, WorkerRow,
};
use crate::types::Reason;

/// All that a daemon tells of itself.
#[derive(Debug, Default)]
pub struct Standing {
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

impl Standing {
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
        all.neighbours.sort_by(|a, b| (&a.hostname, a.node).cmp(&(&b.hostname, b.node)));
        all.resident = client.daemon_pid().and_then(resident);
        Ok(all)
    }

    /// The node's roles, in words.
    #[must_use]
    pub fn roles(&self) -> Vec<&'static str> {
        let roles = [(self.row.is_controller, "controller"), (self.row.is_agent, "agent")];
        roles.into_iter().filter_map(|(has, role)| has.then_some(role)).collect()
    }

    /// What the daemon calls a trouble, and one that its numbers tell.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let row = &self.row;
        let mut troubles: Vec<String> = row.troubles.iter().map(ToString::to_string).collect();
        let (entries, most, tombstones) = (row.entries, row.entries_most, row.tombstones);
        // An eighth is left.
        if row.is_controller && most - most / 8 <= entries {
            let make_room = if tombstones == 0 {
                "delete patches that no host needs, then `thimble purge`"
            } else {
                "make room with `thimble purge`, which drops those while every controller is present"
            };
            troubles.push(format!(
                "The repository is nearly full: {entries} of at most {most} entries, {tombstones} of them of \
                 deleted patches. Before uploads are refused, {make_room}."
            ));
        }
        troubles
    }

    /// As `--json` shows it.
    #[must_use]
    pub fn json(&self) -> Value {
        let row = &self.row;
        let resident =
            |bytes: fn(&Resident) -> u64| Value::or_null(self.resident.as_ref().map(bytes).map(Value::from));
        Value::object([
            ("node", Value::text(row.node)),
            ("hostname", Value::text(&row.hostname)),
            ("roles", Value::list(self.roles().into_iter().map(Value::text))),
            ("authenticated", (!row.is_unauthenticated).into()),
            ("transport", Value::text(&row.transport)),
            ("version", Value::text(&row.version)),
            ("uptime_ms", row.uptime_ms.into()),
            ("incarnation", row.incarnation.into()),
            ("workers", row.workers.into()),
            ("memory_bytes", row.memory_bytes.into()),
            ("loop_allocations", Value::or_null(row.loop_allocations.map(Value::from))),
            ("controller", Value::or_null(row.is_controller.then(|| self.controller_json()))),
            ("agent", Value::or_null(row.is_agent.then(|| agent_json(row)))),
            ("clock_ms", row.unix_ms.into()),
            ("clock_set_forward_ms", u64::try_from(row.clock_step_ms).unwrap_or(0).into()),
            ("clock_set_back_ms", u64::try_from(row.clock_step_ms.saturating_neg()).unwrap_or(0).into()),
            ("resident_bytes", resident(|resident| resident.all_bytes)),
            ("resident_own_bytes", resident(|resident| resident.own_bytes)),
            ("at_work", Value::list(self.workers.iter().map(worker_json))),
            ("troubles", Value::list(self.troubles().into_iter().map(Value::Text))),
            ("troubles_more", row.troubles_more.into()),
            ("counters", Value::map(self.counters.iter().map(|(name, count)| (name, (*count).into())))),
        ])
    }

    fn controller_json(&self) -> Value {
        let row = &self.row;
        let patches = &row.patches_by;
        let patches_by = [
            ("available", patches.available),
            ("applied", patches.applied),
            ("committed", patches.committed),
        ];
        Value::object([
            ("patches", row.patches.into()),
            ("repo_digest", Value::text(row.repo_digest)),
            ("hosts", row.hosts.into()),
            ("hosts_most", row.hosts_most.into()),
            ("hosts_lost", row.hosts_lost.into()),
            ("op_counter", row.op_counter.into()),
            ("started", row.is_started.into()),
            ("incomplete", row.is_incomplete.into()),
            ("entries", row.entries.into()),
            ("entries_most", row.entries_most.into()),
            ("tombstones", row.tombstones.into()),
            ("purge_floor", row.purge_floor.into()),
            ("missing_count", row.blobs_missing.into()),
            ("missing", Value::list(self.missing.iter().map(blob_json))),
            ("neighbours", Value::list(self.neighbours.iter().map(neighbour_json))),
            ("replaced", Value::list(self.replaced.iter().map(Value::text))),
            ("hosts_by", hosts_by_json(row)),
            ("patches_by", counts(&patches_by)),
            ("hosts_to_see_to", Value::list(self.hosts.iter().map(host_json))),
            ("rollout", Value::or_null(self.rollout.as_ref().map(rollout::rollout_json))),
        ])
    }
}

/// The hosts by how they stand.
pub(super) fn hosts_by_json(row: &StatusRow) -> Value {
    let hosts = &row.hosts_by;
    counts(&[
        ("current", hosts.current),
        ("out_of_date", hosts.out_of_date),
        ("installing", hosts.installing),
        ("failed", hosts.failed),
        ("lost", hosts.lost),
        ("unknown", hosts.unknown),
        ("silent", hosts.silent),
        ("reboot_required", hosts.reboot_required),
    ])
}

fn counts(all: &[(&'static str, u32)]) -> Value {
    Value::map(all.iter().map(|(name, count)| (*name, (*count).into())))
}

fn agent_json(row: &StatusRow) -> Value {
    let asker = |asker: &Asker| {
        Value::object([
            ("node", Value::text(asker.node)),
            ("address", Value::text(&asker.address)),
            ("age_ms", asker.age_ms.into()),
        ])
    };
    Value::object([
        ("installed", row.installed.into()),
        ("installed_digest", Value::text(row.installed_digest)),
        ("state", Value::text(hosts::state(row.agent_state))),
        ("reason", Value::text(&row.agent_reason)),
        ("asked_by", Value::or_null(row.asked_by.as_ref().map(asker))),
    ])
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
            let row = StatusRow { entries, tombstones, troubles: heapless::Vec::new(), ..controller() };
            Standing { row, ..Standing::default() }.troubles().concat()
        };
        assert_eq!(told(895, 0), "");
        assert!(told(896, 0).contains("896 of at most 1024 entries"), "{}", told(896, 0));
        assert!(told(896, 0).ends_with("delete patches that no host needs, then `thimble purge`."));
        assert!(told(1024, 9).contains("9 of them of deleted patches"));
        assert!(told(1024, 9).ends_with("drops those while every controller is present."));
        let row = StatusRow { troubles: heapless::Vec::new(), ..agent() };
        assert!(Standing { row, ..Standing::default() }.troubles().is_empty());
    }

    #[test]
    fn the_json_has_all_counters_and_null_for_a_role_that_is_not() {
        let counters = vec![("tag".to_owned(), 0)];
        let json = Standing { row: agent(), counters, ..Standing::default() }.json().to_string();
        assert!(json.contains(r#""roles":["agent"],"authenticated":false"#), "{json}");
        assert!(json.contains(r#""controller":null,"agent":{"installed":2"#), "{json}");
        assert!(json.ends_with(r#""counters":{"tag":0}}"#), "{json}");
    }

    #[test]
    fn the_json_of_a_controller_has_the_documented_keys() {
        let json = standing().json().to_string();
        let (zeros, abs) = ("0".repeat(64), "ab".repeat(32));
        let expected = format!(
            r#""controller":{{"patches":3,"repo_digest":"{zeros}","hosts":40,"hosts_most":64,"hosts_lost":1,"op_counter":12,"started":true,"incomplete":true,"entries":5,"entries_most":1024,"tombstones":2,"purge_floor":0,"missing_count":3,"missing":[{{"id":"P1","hash":"{abs}","wanted":true,"reason":"no controller has it"}}],"neighbours":[{{"node":"000000000000001f","hostname":"controller-1","address":"10.84.0.11","age_ms":2100,"lost":false,"synced":true,"op_counter":9,"missing_count":0,"trouble":""}}],"replaced":["P2: your change (Applied, no. 7) was replaced"],"hosts_by":{{"current":29,"out_of_date":0,"installing":0,"failed":10,"lost":1,"unknown":0,"silent":2,"reboot_required":0}},"patches_by":{{"available":1,"applied":2,"committed":0}},"hosts_to_see_to":[{{"node":"000000000000001f","hostname":"worker-3","state":"install-failed","age_ms":12,"reason":"no space"}}],"rollout":null}},"agent":null"#
        );
        assert!(json.contains(&expected), "{json}");
    }
}
