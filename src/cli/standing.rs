//! All that a daemon tells of itself, asked for at once: what `status`, `watch`
//! and `metrics` show.

use std::fs;

use super::client::Client;
use super::exit::{Exit, Failure};
use crate::daemon::protocol::{BlobRow, HostRow, NeighbourRow, Reply, Request, StatusRow, WorkerRow};
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
        client.ask(&Request::Status, |reply| {
            match reply {
                Reply::Status(row) => (all.row, is_told) = (row, true),
                Reply::Neighbour(row) => all.neighbours.push(row),
                Reply::Blob(row) => all.missing.push(row),
                Reply::Replaced(line) => all.replaced.push(line),
                Reply::Host(row) => all.hosts.push(row),
                Reply::Worker(row) => all.workers.push(row),
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

    #[test]
    fn a_process_that_is_there_has_memory_and_one_that_is_not_has_none() {
        let own = resident(std::process::id()).unwrap();
        assert!(own.own_bytes > 4096 && own.all_bytes >= own.own_bytes, "{own:?}");
        assert_eq!(resident(u32::MAX), None);
    }
}
