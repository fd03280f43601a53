//! Builds the rows of the control protocol from the daemon's state.

use super::alerts::alerts;
use super::counters::Counters;
use super::event_loop::Daemon;
use super::{log, proof, summary, transport};
use crate::clock::unix_ms;
use crate::control::{
    AwaitsRow, BlobRow, HostClass, HostCounts, HostRow, HostState, LastController, LossCause, NeighbourRow,
    PatchRow, StatusRow,
};
use crate::fsm::actions::Peer;
use crate::fsm::agent::Agent;
use crate::fsm::controller::Controller;
use crate::fsm::hosts::Host;
use crate::fsm::sync::neighbours::Neighbour;
use crate::limits;
use crate::repo::effective::blocked_by;
use crate::repo::map::Map;
use crate::repo::slots::SlotSet;
use crate::repo::state::patch_state;
use crate::time::Instant;
use crate::types::{Digest, PatchId, Reason, Text};
use crate::wire::install::Step;
use crate::wire::messages::AgentState;
use crate::wire::refusal::Refusal;

/// A peer's address, as text.
#[must_use]
pub fn address(peer: Peer) -> Text<48> {
    Text::format(format_args!("{peer}"))
}

/// The first patch after this id that is not deleted and, if `only` is given, is in it.
#[must_use]
pub fn next_patch(
    controller: &Controller<'_>,
    only: Option<&SlotSet>,
    after: Option<&PatchId>,
) -> Option<PatchRow> {
    let map = controller.map();
    let (slot, entry) = map.iter_by_id().find(|(slot, entry)| {
        !entry.state.is_deleted()
            && only.is_none_or(|only| only.contains(*slot))
            && after.is_none_or(|after| entry.id > *after)
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

/// The row of a host.
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
        current: controller.currency(host),
        reboot_required: ack.requires_reboot,
        sw_version: ack.sw_version.clone(),
        state,
        age_ms: now.since(host.last_heard).as_millis(),
        way: host.way,
        lost: is_lost.then(|| host.presence.loss_cause()),
        installed_digest: ack.installed_digest,
        install: host.request.status(),
        reason: Reason::truncated(controller.reason(host)),
        part: controller.map().rollout().map(|rollout| controller.part(now, rollout, host)),
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

/// The row of this node. `hosts_by` counts its hosts by state.
#[must_use]
pub fn status(now: Instant, daemon: &Daemon<'_>, hosts_by: HostCounts) -> StatusRow {
    let identity = daemon.codec.identity();
    let controller = daemon.node.controller.as_ref();
    let agent = daemon.node.agent.as_ref();
    let patches_by = controller.map(summary::patches).unwrap_or_default();
    let patches = patches_by.0.iter().sum();
    let map = controller.map(Controller::map);
    let entries = count(map.map_or(0, Map::len));
    let (state, step, percent) = agent.map_or(Default::default(), |agent| agent.progress());
    let last_reason = agent.and_then(|agent| agent.last()).map(|last| last.reason.clone());
    let unix_ms = unix_ms();
    let asked_by = daemon.counters.asked_by.as_ref().map(|contact| LastController {
        node: contact.node,
        address: address(contact.from),
        age_ms: now.since(contact.at).as_millis(),
        way: daemon.controllers.way(contact.node),
    });
    let (alerts, alerts_more) = alerts(now, unix_ms, daemon);
    StatusRow {
        node: identity.node,
        hostname: daemon.config.node.hostname.clone(),
        is_controller: identity.roles.is_controller,
        is_agent: identity.roles.is_agent,
        is_unauthenticated: daemon.config.security.is_unauthenticated,
        transport: Text::truncated(transport::NAME),
        tipc: daemon.tipc_row(now),
        interfaces: daemon.interface_rows(now),
        version: Text::truncated(env!("CARGO_PKG_VERSION")),
        uptime_ms: now.since(daemon.started).as_millis(),
        incarnation: identity.incarnation,
        patches,
        repo_digest: map.map_or(Digest::default(), Map::digest),
        op_counter: map.map_or(0, Map::highest_counter),
        is_started: controller.is_some_and(|controller| controller.sync().is_started()),
        is_incomplete: controller.is_some_and(|c| c.sync().blobs().first_wanted(c.map()).is_some()),
        blobs_missing: count(controller.map_or(0, |controller| controller.sync().blobs().missing().len())),
        entries,
        entries_most: count(if controller.is_some() { limits::ENTRIES } else { 0 }),
        tombstones: entries.saturating_sub(patches),
        purge_floor: map.map_or(0, Map::floor),
        hosts: count(controller.map_or(0, |controller| controller.hosts().len())),
        hosts_most: count(controller.map_or(0, |controller| controller.hosts().capacity())),
        hosts_lost: hosts_by.get(HostClass::Lost),
        installed: count(agent.map_or(0, |agent| agent.installed().patches().len())),
        installed_digest: agent.map_or(Digest::default(), Agent::installed_digest),
        agent_state: host_state(state, step, percent),
        agent_reason: last_reason.unwrap_or_default(),
        awaits: agent
            .and_then(|agent| agent.awaits(now))
            .map(|(waited, wait)| AwaitsRow { waited_ms: waited.as_millis(), wait_ms: wait.as_millis() }),
        workers: count(daemon.workers.count(|_| true)),
        alerts,
        memory_bytes: daemon.memory_bytes,
        loop_allocations: proof::loop_allocations(),
        alerts_more,
        hosts_by,
        patches_by,
        unix_ms,
        clock_step_ms: daemon.clock.step_ms(now, unix_ms),
        last_controller: asked_by,
        worker_peak_bytes: daemon.workers.peak_bytes,
        applied_floor: map.and_then(|map| daemon.floors.applied(map)).cloned(),
        installed_floor: daemon.floors.installed.clone(),
    }
}

/// The row of another controller.
#[must_use]
pub fn neighbour(now: Instant, controller: &Controller<'_>, neighbour: &Neighbour) -> NeighbourRow {
    let age_ms = neighbour.heard.map(|(_, at)| now.since(at).as_millis());
    let is_lost = !neighbour.is_present(now, controller.sync().neighbours().lost_after());
    let trouble = match age_ms {
        _ if !neighbour.pull_error.is_empty() => neighbour.pull_error.clone(),
        None => Reason::truncated("not heard since this controller started"),
        Some(age_ms) if is_lost => match neighbour.presence.loss_cause() {
            LossCause::Silent => Reason::format(format_args!("silent for {} s", age_ms / 1000)),
            cause => Reason::truncated(cause.words()),
        },
        Some(_) => Reason::default(),
    };
    NeighbourRow {
        node: neighbour.node,
        hostname: neighbour.hostname.clone(),
        address: neighbour.peer().map(address).unwrap_or_default(),
        age_ms,
        way: neighbour.way,
        is_lost,
        lost: is_lost.then(|| neighbour.presence.loss_cause()),
        is_synced: neighbour.is_known && neighbour.announced == Some(controller.map().digest()),
        op_counter: neighbour.op_counter,
        blobs_missing: neighbour.blobs_missing.into(),
        trouble,
    }
}

/// The patches whose files are missing here. Those that hosts need come first.
pub fn missing_blobs(controller: &Controller<'_>) -> impl Iterator<Item = BlobRow> {
    let (map, blobs) = (controller.map(), controller.sync().blobs());
    let entries = move || blobs.missing().iter().filter_map(move |slot| map.entry(slot));
    let (needed, others) = (entries().filter(|e| e.is_wanted()), entries().filter(|e| !e.is_wanted()));
    needed.chain(others).map(|entry| BlobRow {
        id: entry.id.clone(),
        hash: entry.hash,
        is_wanted: entry.is_wanted(),
        reason: Reason::truncated(blobs.reason(&entry.hash)),
    })
}

fn count(many: usize) -> u32 {
    u32::try_from(many).unwrap_or(u32::MAX)
}

/// The named counts of `status`.
pub type Counts = heapless::Vec<(&'static str, u64), { 60 + Refusal::ALL.len() }>;

/// Appends all counters.
pub fn counts(daemon: &Daemon<'_>, counts: &mut Counts) {
    let counters = &daemon.counters;
    let sessions = &daemon.sessions.counts;
    let Counters { received_from_controllers: received, sent_to_controllers: sent, pulls, blobs, .. } =
        counters;
    let named = [
        ("datagrams_received", counters.received),
        ("received_with_slot_0", counters.received_with[0]),
        ("received_with_slot_1", counters.received_with[1]),
        ("received_with_slot_2", counters.received_with[2]),
        ("received_with_slot_3", counters.received_with[3]),
        ("datagrams_doubled", counters.copies),
        ("datagrams_doubled_by_links", counters.link_copies),
        ("datagrams_sent", counters.sent + daemon.transport.sent_to_itself_alone()),
        ("sends_failed", counters.sends_failed + daemon.transport.unsent_to_peers()),
        ("receives_failed", counters.receive_failed),
        ("accepts_failed", counters.accepts_failed),
        ("interface_changes", daemon.network.changes()),
        ("commands_refused", daemon.control.refused),
        ("sessions_open", daemon.sessions.len() as u64),
        ("sessions_accepted", sessions.accepted),
        ("sessions_proven", sessions.proven),
        ("sessions_evicted", sessions.evicted),
        ("sessions_timed_out", sessions.timed_out),
        ("sessions_refused", sessions.refused),
        ("hello_received", received.hello),
        ("hello_ack_received", received.hello_ack),
        ("sync_req_received", received.sync_req),
        ("sync_complete_received", received.sync_complete),
        ("hello_sent", sent.hello),
        ("hello_ack_sent", sent.hello_ack),
        ("sync_req_sent", sent.sync_req),
        ("sync_complete_sent", sent.sync_complete),
        ("pulls_started", pulls.started),
        ("pulls_done", pulls.done),
        ("pulls_failed", pulls.failed),
        ("blob_sessions_started", blobs.started),
        ("blob_sessions_done", blobs.done),
        ("blob_sessions_failed", blobs.failed),
        ("workers_started", daemon.workers.started),
        ("log_lines_dropped", log::dropped()),
        ("asked_again", daemon.node.controller.as_ref().map_or(0, |c| c.asks_sent())),
        ("lost_unanswered", daemon.node.controller.as_ref().map_or(0, |c| c.unanswered())),
        ("controllers_refused", controllers_refused(daemon)),
        ("hosts_refused", daemon.node.controller.as_ref().map_or(0, |c| c.hosts_refused())),
        ("stale_nonces", daemon.node.agent.as_ref().map_or(0, |agent| agent.stale_nonces())),
    ];
    for (name, count) in named {
        let _ = counts.push((name, count));
    }
    let spreading = &daemon.spreading;
    let [source, repair, other] = spreading.sent_bytes();
    let [unauthenticated, foreign, known, malformed, false_proofs] = spreading.refused();
    let spread = [
        ("spread_files_sent", spreading.files_sent),
        ("spread_source_bytes", source),
        ("spread_repair_bytes", repair),
        ("spread_other_bytes", other),
        ("spread_packets_unauthenticated", unauthenticated),
        ("spread_packets_of_other", foreign),
        ("spread_packets_known", known),
        ("spread_packets_malformed", malformed),
        ("spread_proofs_false", false_proofs),
        ("spread_blocks_false", spreading.poisoned()),
        ("spread_offers_of_other", daemon.node.agent.as_ref().map_or(0, |agent| agent.offers_of_other())),
    ];
    for (name, count) in spread {
        let _ = counts.push((name, count));
    }
    // UDP does not report undelivered datagrams.
    for (name, count) in counters.undelivered.iter().filter(|_| cfg!(feature = "tipc")) {
        let _ = counts.push((name, count));
    }
    for (refusal, count) in counters.refusals.iter() {
        let _ = counts.push((refusal.counter(), count));
    }
}

/// Datagrams of controllers for which the table had no room.
fn controllers_refused(daemon: &Daemon<'_>) -> u64 {
    daemon.node.controller.as_ref().map_or(0, |controller| controller.sync().neighbours().refused())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::fixture::{at, controller, peer};
    use crate::repo::entry::EntryState;
    use crate::repo::fixture::entry;
    use crate::types::{Hostname, NodeId};

    #[test]
    fn missing_files_that_hosts_need_come_first() {
        let spare = |name: &str| entry(name).state(EntryState::Available);
        let mut controller = controller(&[spare("A"), entry("B"), spare("C"), entry("D")]);
        controller.blob_missing(&entry("C").hash, &Reason::truncated("why"));
        controller.blob_missing(&entry("D").hash, &Reason::default());
        let rows: Vec<_> = missing_blobs(&controller).collect();
        let shown: Vec<_> =
            rows.iter().map(|row| (row.id.as_str(), row.is_wanted, row.reason.raw())).collect();
        assert_eq!(shown, [("D", true, ""), ("C", false, "why")]);
    }

    #[test]
    fn another_controller_is_shown_with_its_age_and_its_trouble() {
        let mut controller = controller(&[]);
        let (node, name) = (NodeId(2), Hostname::new("controller-1").unwrap());
        let row = |controller: &Controller<'_>, now| {
            neighbour(now, controller, controller.sync().neighbours().get(node).unwrap())
        };
        let digest = controller.map().digest();
        let heard = controller.sync_mut().neighbours_mut().heard(at(0), node, peer()).unwrap();
        heard.announced = Some(digest);
        assert!(!row(&controller, at(1)).is_synced, "nothing would show that it is lost");
        controller.sync_mut().neighbours_mut().forget(node);

        controller.sync_mut().neighbours_mut().know(at(0), node, &name);
        let unheard = row(&controller, at(1));
        assert!(unheard.is_lost && !unheard.is_synced && unheard.age_ms.is_none());
        assert_eq!(unheard.trouble.raw(), "not heard since this controller started");

        let heard = controller.sync_mut().neighbours_mut().heard(at(10), node, peer()).unwrap();
        heard.announced = Some(digest);
        heard.blobs_missing = 3;
        let present = row(&controller, at(12));
        assert!(!present.is_lost && present.is_synced && present.trouble.is_empty());
        assert_eq!((present.hostname, present.age_ms, present.blobs_missing), (name, Some(2_000), 3));
        assert_eq!(present.address.raw(), "127.0.0.1");
        assert_eq!(row(&controller, at(130)).trouble.raw(), "silent for 120 s");

        let heard = controller.sync_mut().neighbours_mut().get_mut(node).unwrap();
        heard.pull_error = Reason::truncated("it has no place free");
        assert_eq!(row(&controller, at(12)).trouble.raw(), "it has no place free");
    }
}
