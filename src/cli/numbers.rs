//! The table of the numbers of a [`StatusReport`]: their keys in `status --json`, their
//! names in `metrics`, and their values.

use super::status_report::StatusReport;
use crate::control::HostState;

/// The nodes that have a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every node.
    Node,
    /// Controllers.
    Controller,
    /// Agents.
    Agent,
}

/// A number.
pub struct Number {
    /// The nodes that have it.
    pub scope: Scope,
    /// Its key in JSON; empty if JSON does not have it as a number.
    pub key: &'static str,
    /// Its name in metrics, after `thimble_`; empty if it is not a metric. The value of a
    /// name that ends with `seconds` is in milliseconds.
    pub metric: &'static str,
    /// Its help text.
    pub help: &'static str,
    /// Its value; `None` if unknown.
    pub value: fn(&StatusReport) -> Option<u64>,
}

macro_rules! numbers {
    ($($(#[$if:meta])? $scope:ident $key:literal $metric:literal $help:literal = |$all:ident| $value:expr;)+) => {
        /// All numbers, in order.
        pub const NUMBERS: &[Number] = &[$($(#[$if])? Number {
            scope: Scope::$scope,
            key: $key,
            metric: $metric,
            help: $help,
            value: |$all| $value,
        },)+];
    };
}

numbers! {
    Node "" "troubles" "lines that status shows as TROUBLE" =
        |all| Some(all.row.alerts.len() as u64 + u64::from(all.row.alerts_more));
    Node "" "authenticated" "0 if auth is none" = |all| Some((!all.row.is_unauthenticated).into());
    Node "uptime_ms" "uptime_seconds" "time since the daemon's start" = |all| Some(all.row.uptime_ms);
    Node "clock_ms" "clock_seconds" "the node's clock, since 1970" = |all| Some(all.row.unix_ms);
    Node "clock_set_forward_ms" "clock_set_forward_seconds" "how far the clock was set since the start" =
        |all| Some(u64::try_from(all.row.clock_step_ms).unwrap_or(0));
    Node "clock_set_back_ms" "clock_set_back_seconds" "how far the clock was set back since the start" =
        |all| Some(u64::try_from(all.row.clock_step_ms.saturating_neg()).unwrap_or(0));
    Node "incarnation" "incarnation" "the number of the daemon's start" = |all| Some(all.row.incarnation);
    Node "workers" "" "" = |all| Some(all.row.workers.into());
    Node "" "worker_silence_seconds" "the longest time without a report from a worker" =
        |all| Some(all.workers.iter().map(|row| row.silent_ms).max().unwrap_or(0));
    Node "" "workers_stalled" "workers that are silent for too long: is the disk stalled?" =
        |all| Some(all.workers.iter().filter(|row| row.is_stalled).count() as u64);
    Node "memory_bytes" "memory_budget_bytes" "tables and buffers, set aside at start" =
        |all| Some(all.row.memory_bytes);
    Node "resident_own_bytes" "memory_own_bytes" "private resident memory of the daemon" =
        |all| Some(all.resident?.own_bytes);
    Node "resident_bytes" "memory_resident_bytes" "resident memory with the program text" =
        |all| Some(all.resident?.all_bytes);
    Node "worker_peak_bytes" "worker_peak_bytes" "the most resident memory of a worker that has ended" =
        |all| Some(all.row.worker_peak_bytes).filter(|peak| *peak > 0);
    Node "loop_allocations" "" "" = |all| all.row.loop_allocations;
    Node "troubles_more" "" "" = |all| Some(all.row.alerts_more.into());
    #[cfg(feature = "tipc")]
    Node "" "tipc_watching" "1 while the topology service is connected" =
        |all| Some(all.row.tipc.as_ref()?.is_watching.into());
    #[cfg(feature = "tipc")]
    Node "" "tipc_gaps" "how often the topology service was lost" =
        |all| Some(all.row.tipc.as_ref()?.gaps.into());
    #[cfg(feature = "tipc")]
    Node "" "tipc_nodes_up" "reachable TIPC nodes, this one included" =
        |all| Some(all.row.tipc.as_ref()?.nodes_up.into());
    #[cfg(feature = "tipc")]
    Node "" "tipc_links_up" "TIPC links to other nodes" =
        |all| Some(all.row.tipc.as_ref()?.links_up.into());
    #[cfg(feature = "tipc")]
    Node "" "tipc_unheard" "controllers and agents that are bound but silent" = |all| {
        let row = all.row.tipc.as_ref()?;
        Some(row.unheard.len() as u64 + u64::from(row.unheard_more))
    };
    Controller "patches" "" "" = |all| Some(all.row.patches.into());
    Controller "hosts" "" "" = |all| Some(all.row.hosts.into());
    Controller "hosts_most" "hosts_most" "the most hosts that fit" = |all| Some(all.row.hosts_most.into());
    Controller "hosts_lost" "" "" = |all| Some(all.row.hosts_lost.into());
    Controller "op_counter" "repository_changes" "the number of the repository's latest change" =
        |all| Some(all.row.op_counter);
    Controller "entries" "repository_entries" "entries of the repository, deleted patches included" =
        |all| Some(all.row.entries.into());
    Controller "entries_most" "repository_entries_most" "the most entries that fit" =
        |all| Some(all.row.entries_most.into());
    Controller "tombstones" "repository_tombstones" "entries of deleted patches" =
        |all| Some(all.row.tombstones.into());
    Controller "purge_floor" "" "" = |all| Some(all.row.purge_floor);
    Controller "missing_count" "blobs_missing" "patches whose files are missing here" =
        |all| Some(all.row.blobs_missing.into());
    Controller "" "incomplete" "1 if a file that hosts need is missing here" =
        |all| Some(all.row.is_incomplete.into());
    Controller "" "started" "1 once the controller takes changes" = |all| Some(all.row.is_started.into());
    Controller "" "applied_floor_serial" "serial of the applied floor" =
        |all| Some(all.row.applied_floor.as_ref()?.serial.into());
    Controller "" "applied_floor_expires_seconds" "the end of its last day, since 1970" =
        |all| Some(all.row.applied_floor.as_ref()?.expires.end_unix_ms());
    Agent "" "floor_serial" "serial of the floor of this host" =
        |all| Some(all.row.installed_floor.as_ref()?.serial.into());
    Agent "" "floor_expires_seconds" "the end of its last day, since 1970" =
        |all| Some(all.row.installed_floor.as_ref()?.expires.end_unix_ms());
    Agent "installed" "installed_patches" "patches on this host" =
        |all| all.row.has_known_set().then_some(all.row.installed.into());
    Agent "" "install_percent" "progress of an install on this host" = |all| match all.row.agent_state {
        HostState::Installing { percent, .. } => Some(percent.into()),
        _ => None,
    };
    Agent "" "install_failed" "1 if this host's last install failed" =
        |all| Some((all.row.agent_state == HostState::InstallFailed).into());
    Agent "" "controller_age_seconds" "time since a controller was heard" =
        |all| Some(all.row.last_controller.as_ref()?.age_ms);
}

impl StatusReport {
    /// Whether this node has a role.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        match scope {
            Scope::Node => true,
            Scope::Controller => self.row.is_controller,
            Scope::Agent => self.row.is_agent,
        }
    }

    /// The numbers of a role, if this node has it.
    pub fn numbers(&self, scope: Scope) -> impl Iterator<Item = &'static Number> {
        let has = self.has(scope);
        NUMBERS.iter().filter(move |number| has && number.scope == scope)
    }
}
