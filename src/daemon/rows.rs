//! What the daemon knows, as rows for commands.

use super::event_loop::Daemon;
use super::protocol::{Currency as RowCurrency, HostRow, HostState, InstallStatus, PatchRow, StatusRow};
use super::workers::Kind;
use super::{log, proof, transport};
use crate::fsm::actions::Peer;
use crate::fsm::controller::{Controller, Currency};
use crate::fsm::hosts::Host;
use crate::fsm::requests::Standing;
use crate::limits;
use crate::repo::effective::blocked_by;
use crate::repo::entry::EntryState;
use crate::repo::map::Map;
use crate::repo::state::patch_state;
use crate::time::{Duration, Instant};
use crate::types::{Digest, PatchId, Reason, Text};
use crate::wire::install::Step;
use crate::wire::messages::AgentState;
use crate::wire::refusal::Refusal;

/// A worker that says nothing for so long is shown; one that may run a script,
/// for twice a script's time.
const WORKER_PATIENCE: Duration = Duration::from_secs(60);
/// The same of one that says nothing before it is done.
const SERVER_PATIENCE: Duration = Duration::from_secs(600);

/// A peer's address, as shown.
#[must_use]
pub fn address(peer: Peer) -> Text<48> {
    Text::format(format_args!("{peer}"))
}

/// The first patch after this id that is not deleted.
#[must_use]
pub fn next_patch(controller: &Controller<'_>, after: Option<&PatchId>) -> Option<PatchRow> {
    let map = controller.map();
    let (slot, entry) = map.iter_by_id().find(|(_, entry)| {
        entry.state != EntryState::Deleted && after.is_none_or(|after| entry.id > *after)
    })?;
    let spread = controller.spread(slot);
    let blocked_by = if entry.is_wanted() { blocked_by(map, slot).cloned() } else { None };
    Some(PatchRow {
        id: entry.id.clone(),
        reboot_required: entry.meta.reboot_required,
        sw_version: entry.meta.sw_version.clone(),
        repo_state: entry.state,
        patch_state: patch_state(entry.state, &spread),
        hash: entry.hash,
        size_bytes: entry.size_bytes,
        summary: entry.meta.summary.clone(),
        blocked_by,
        hosts_with: spread.hosts_with,
        hosts_concerned: spread.hosts_concerned,
    })
}

/// One host.
#[must_use]
pub fn host(now: Instant, controller: &Controller<'_>, host: &Host) -> HostRow {
    let ack = &host.ack;
    let is_lost = host.is_lost(now, controller.timers().host_lost);
    let state = if is_lost { HostState::Lost } else { host_state(ack.state, ack.step, ack.progress) };
    HostRow {
        node: host.node,
        hostname: ack.hostname.clone(),
        address: address(host.peer),
        nodetype: ack.nodetype.clone(),
        current: match controller.currency(host) {
            Currency::Current => RowCurrency::Current,
            Currency::OutOfDate => RowCurrency::OutOfDate,
            Currency::Pending => RowCurrency::Pending,
            Currency::Failed => RowCurrency::Failed,
            Currency::Unknown => RowCurrency::Unknown,
        },
        reboot_required: ack.requires_reboot,
        sw_version: ack.sw_version.clone(),
        state,
        age_ms: now.since(host.last_heard).as_millis(),
        installed_digest: ack.installed_digest,
        install: match host.request.standing() {
            Standing::None => InstallStatus::None,
            Standing::Waiting => InstallStatus::Waiting,
            Standing::Running => InstallStatus::Running,
            Standing::Ended(outcome) => InstallStatus::Ended(outcome),
            Standing::NoAnswer => InstallStatus::NoAnswer,
        },
        reason: Reason::new(controller.reason(host)),
    }
}

fn host_state(state: AgentState, step: Step, percent: u8) -> HostState {
    match state {
        AgentState::Idle => HostState::Idle,
        AgentState::Installing => HostState::Installing { step, percent },
        AgentState::InstallFailed => HostState::InstallFailed,
        AgentState::InstallRejected => HostState::InstallRejected,
    }
}

/// The node itself.
#[must_use]
pub fn status(now: Instant, daemon: &Daemon<'_>) -> StatusRow {
    let identity = daemon.codec.identity();
    let controller = daemon.node.controller.as_ref();
    let agent = daemon.node.agent.as_ref();
    let lost_after = controller.map(|controller| controller.timers().host_lost);
    let hosts = || controller.into_iter().flat_map(|controller| controller.hosts().iter());
    let hosts_lost = hosts().filter(|host| lost_after.is_some_and(|after| host.is_lost(now, after))).count();
    let patches = controller.map_or(0, |controller| {
        controller.map().iter().filter(|(_, entry)| entry.state != EntryState::Deleted).count()
    });
    let map = controller.map(Controller::map);
    let entries = map.map_or(0, Map::len);
    let (state, step, percent) = agent.map_or(Default::default(), |agent| agent.shown());
    let last_reason = agent.and_then(|agent| agent.last()).map(|last| last.reason.clone());
    StatusRow {
        node: identity.node,
        hostname: daemon.config.node.hostname.clone(),
        is_controller: identity.roles.is_controller,
        is_agent: identity.roles.is_agent,
        is_unauthenticated: daemon.config.security.is_unauthenticated,
        transport: Text::new(transport::NAME),
        version: Text::new(env!("CARGO_PKG_VERSION")),
        uptime_ms: now.since(daemon.started).as_millis(),
        incarnation: identity.incarnation,
        patches: count(patches),
        repo_digest: map.map_or(Digest::default(), Map::digest),
        op_counter: map.map_or(0, Map::highest_counter),
        is_started: daemon.is_loaded,
        is_incomplete: !daemon.blobs_missing.is_empty(),
        blobs_missing: count(daemon.blobs_missing.len()),
        entries: count(entries),
        entries_most: count(if controller.is_some() { limits::ENTRIES } else { 0 }),
        tombstones: count(entries - patches),
        purge_floor: 0,
        hosts: count(hosts().count()),
        hosts_most: count(controller.map_or(0, |controller| controller.hosts().capacity())),
        hosts_lost: count(hosts_lost),
        installed: count(agent.map_or(0, |agent| agent.installed().patches().len())),
        installed_digest: agent.map_or(Digest::default(), |agent| agent.installed().digest()),
        agent_state: host_state(state, step, percent),
        agent_reason: last_reason.unwrap_or_default(),
        workers: count(daemon.workers.count(|_| true)),
        troubles: troubles(now, daemon),
        memory_bytes: daemon.memory_bytes,
        loop_allocations: proof::loop_allocations(),
    }
}

fn count(many: usize) -> u32 {
    u32::try_from(many).unwrap_or(u32::MAX)
}

/// What an operator should know first, each with what to do.
fn troubles(now: Instant, daemon: &Daemon<'_>) -> heapless::Vec<Reason, 8, u8> {
    let mut troubles = heapless::Vec::new();
    let mut say = |reason: Reason| {
        // The eighth and last is worth more than the ninth.
        let _ = troubles.push(reason);
    };
    if daemon.config.security.is_unauthenticated {
        say(Reason::new(
            "No keys: anybody on the network can command this node. Set security.auth = \"keys\" outside a lab.",
        ));
    }
    if let Some(node) = daemon.counters.duplicate {
        say(Reason::format(format_args!(
            "Two nodes use the id {node} (a cloned image?): give one of them a key file of its own with thimble \
             keygen."
        )));
    }
    if daemon.counters.refusals.get(Refusal::Cluster) > 0 {
        say(Reason::new(
            "Nodes of another cluster are heard: if one of them belongs here, its key file is of another ring.",
        ));
    }
    let bad_tags = daemon
        .counters
        .refusals
        .get(Refusal::Tag)
        .saturating_add(daemon.counters.refusals.get(Refusal::NoKey));
    if bad_tags > 0 {
        say(Reason::format(format_args!(
            "{bad_tags} datagrams were refused for their key: somebody forges them, or a node has an old key file."
        )));
    }
    if let Some(controller) = &daemon.node.controller {
        if !daemon.is_loaded {
            say(Reason::new("The repository is still being read."));
        }
        if controller.hosts_refused() > 0 {
            say(Reason::new(
                "There is no room for all hosts: raise controller.max_hosts, or drop lost hosts.",
            ));
        }
    }
    for hash in &daemon.blobs_missing {
        say(Reason::format(format_args!("The file of patch {hash:.12} is missing: upload the patch again.")));
    }
    let script_timeout = Duration::from_millis(daemon.config.agent.script_timeout_ms);
    for (kind, silence) in daemon.workers.silent(now) {
        if let Some(trouble) = stalled(kind, silence, script_timeout) {
            say(trouble);
        }
    }
    if let Some(agent) = daemon.node.agent.as_ref().filter(|agent| !agent.trouble().is_empty()) {
        say(Reason::format(format_args!("This host could not be recovered: {}", agent.trouble())));
    }
    troubles
}

/// What to say of a worker that has said nothing for so long, if that is long.
fn stalled(kind: Kind, silence: Duration, script_timeout: Duration) -> Option<Reason> {
    let (what, patience) = match kind {
        // It is silent while a script runs.
        Kind::Agent => ("installs", script_timeout.max(WORKER_PATIENCE).times(2)),
        Kind::Load => ("reads the repository", WORKER_PATIENCE),
        Kind::Change { .. } => ("changes the repository", WORKER_PATIENCE),
        // These speak only when they are done.
        Kind::Serve(_) => ("serves an agent", SERVER_PATIENCE),
        Kind::Show => ("shows patches", WORKER_PATIENCE),
    };
    (silence >= patience).then(|| {
        let seconds = silence.as_millis() / 1000;
        Reason::format(format_args!(
            "The worker that {what} has said nothing for {seconds} s: a large file is in its hands, or the disk is \
             stalled; the kernel's log tells."
        ))
    })
}

/// The named counts of `status`.
pub type Counts = heapless::Vec<(&'static str, u64), { 16 + Refusal::ALL.len() }>;

/// Fills in what happened how often.
pub fn counts(daemon: &Daemon<'_>, counts: &mut Counts) {
    let counters = &daemon.counters;
    let sessions = &daemon.sessions.counts;
    let named = [
        ("datagrams_received", counters.received),
        ("datagrams_sent", counters.sent),
        ("sends_failed", counters.sends_failed),
        ("receives_failed", counters.receive_failed),
        ("accepts_failed", counters.accepts_failed),
        ("sessions_open", daemon.sessions.len() as u64),
        ("sessions_accepted", sessions.accepted),
        ("sessions_proven", sessions.proven),
        ("sessions_evicted", sessions.evicted),
        ("sessions_timed_out", sessions.timed_out),
        ("sessions_refused", sessions.refused),
        ("workers_started", daemon.workers.started),
        ("log_lines_dropped", log::dropped()),
        ("hosts_refused", daemon.node.controller.as_ref().map_or(0, |c| c.hosts_refused())),
        ("stale_nonces", daemon.node.agent.as_ref().map_or(0, |agent| agent.stale_nonces())),
    ];
    for (name, count) in named {
        let _ = counts.push((name, count));
    }
    for (refusal, count) in counters.refusals.iter() {
        let _ = counts.push((refusal.counter(), count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_named_as_stalled_once_its_patience_is_over() {
        let seconds = Duration::from_secs;
        let said = |kind, silence| stalled(kind, seconds(silence), seconds(300));
        assert_eq!(said(Kind::Load, 59), None);
        assert!(
            said(Kind::Load, 60).unwrap().as_str().contains("reads the repository has said nothing for 60 s")
        );
        assert_eq!(said(Kind::Agent, 599), None, "a script may be at work");
        assert!(said(Kind::Agent, 600).unwrap().as_str().contains("stalled; the kernel's log tells."));
    }
}
