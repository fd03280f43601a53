//! The state of a daemon, queried at once, for `status`, `watch` and `metrics`.

use std::fs;

use super::client::Client;
use super::exit::{Exit, Failure};
use crate::control::{
    BlobRow, HostRow, NeighbourRow, Reply, Request, RolloutRow, SpreadRow, StatusRow, WorkerRow,
};
use crate::types::Reason;

/// The state of a daemon.
#[derive(Debug, Default)]
pub struct StatusReport {
    /// The node itself.
    pub row: StatusRow,
    /// Other controllers, by name.
    pub neighbours: Vec<NeighbourRow>,
    /// Patches whose files are missing here.
    pub missing: Vec<BlobRow>,
    /// Changes made here that another controller's change replaced.
    pub replaced: Vec<Reason>,
    /// Hosts that need attention.
    pub hosts: Vec<HostRow>,
    /// Running workers.
    pub workers: Vec<WorkerRow>,
    /// The last rollout, if any.
    pub rollout: Option<RolloutRow>,
    /// What is sent to all hosts at once and received, if anything was.
    pub spread: Option<Box<SpreadRow>>,
    /// Counters by name.
    pub counters: Vec<(String, u64)>,
    /// The daemon's resident memory; `None` if /proc does not show it.
    pub resident: Option<Resident>,
}

/// The resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Private memory: tables, buffers, stack.
    pub own_bytes: u64,
    /// All, with the program text, which may be shared.
    pub all_bytes: u64,
}

impl StatusReport {
    /// Queries a daemon.
    ///
    /// # Errors
    /// As [`Client::ask`], or the answer has no status.
    pub fn ask(client: &mut Client) -> Result<Self, Failure> {
        let mut all = Self::default();
        let mut has_status = false;
        client.ask(Request::Status, |reply| {
            match reply {
                Reply::Status(row) => (all.row, has_status) = (row, true),
                Reply::Neighbour(row) => all.neighbours.push(row),
                Reply::Blob(row) => all.missing.push(row),
                Reply::Replaced(line) => all.replaced.push(line),
                Reply::Host(row) => all.hosts.push(row),
                Reply::Worker(row) => all.workers.push(row),
                Reply::Rollout(row) => all.rollout = Some(row),
                Reply::Spreading(row) => all.spread = Some(Box::new(row)),
                Reply::Counter { name, count } => all.counters.push((name.to_string(), count)),
                _ => {}
            }
            Ok(())
        })?;
        if !has_status {
            return Err(Failure::new(Exit::Refused, "the daemon sent no status; see its log"));
        }
        all.neighbours.sort_unstable_by(|a, b| (&a.hostname, a.node).cmp(&(&b.hostname, b.node)));
        all.resident = client.daemon_pid().and_then(resident);
        Ok(all)
    }

    /// The names of the node's roles.
    #[must_use]
    pub fn roles(&self) -> &'static [&'static str] {
        match (self.row.is_controller, self.row.is_agent) {
            (true, true) => &["controller", "agent"],
            (true, false) => &["controller"],
            (false, _) => &["agent"],
        }
    }

    /// The daemon's alerts, and one for a repository that is nearly full.
    #[must_use]
    pub fn alerts(&self) -> Vec<String> {
        let row = &self.row;
        let mut alerts: Vec<String> = row.alerts.iter().map(ToString::to_string).collect();
        let (entries, most, tombstones) = (row.entries, row.entries_most, row.tombstones);
        // An eighth or less is free.
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
}

/// The resident memory of a process. The command reads `/proc`, so that the daemon's loop
/// need not.
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
    use crate::cli::status::tests::{agent, controller};

    #[test]
    fn only_a_process_that_exists_has_memory() {
        let own = resident(std::process::id()).unwrap();
        assert!(own.own_bytes > 4096 && own.all_bytes >= own.own_bytes, "{own:?}");
        assert_eq!(resident(u32::MAX), None);
    }

    #[test]
    fn a_repository_that_is_nearly_full_is_a_trouble_with_advice() {
        let alerts = |entries, tombstones| {
            let row = StatusRow { entries, tombstones, alerts: heapless::Vec::new(), ..controller() };
            StatusReport { row, ..StatusReport::default() }.alerts().concat()
        };
        assert_eq!(alerts(895, 0), "");
        assert!(alerts(896, 0).contains("896 of at most 1024 entries"), "{}", alerts(896, 0));
        assert!(alerts(896, 0).ends_with("delete patches that no host needs, then `thimble purge`."));
        assert!(alerts(1024, 9).contains("9 of them of deleted patches"));
        assert!(alerts(1024, 9).ends_with("drops those while every controller is present."));
        let row = StatusRow { alerts: heapless::Vec::new(), ..agent() };
        assert!(StatusReport { row, ..StatusReport::default() }.alerts().is_empty());
    }
}
