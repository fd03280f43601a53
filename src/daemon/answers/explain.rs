//! Why a host or a patch is as it is.

use super::super::control_socket::Pending;
use super::super::event_loop::Daemon;
use super::super::rows;
use super::{Answered, RequestRefused, hosts, known, rollouts};
use crate::control::{
    BlobRow, CarrierRow, ExplainedHost, Known, MissingFile, OpenRow, Patches, Reply, SilentRow,
};
use crate::fsm::controller::Controller;
use crate::fsm::hosts::{Host, Knowledge};
use crate::job::PatchIds;
use crate::repo::effective::{blocked_by, effective_set};
use crate::repo::rollout::Rollout;
use crate::repo::slots::Slot;
use crate::time::Instant;
use crate::types::{Hostname, PatchId, Reason};

impl Daemon<'_> {
    pub(super) fn explain_host(
        &mut self,
        now: Instant,
        slot: usize,
        name: &Hostname,
    ) -> Result<Answered, RequestRefused> {
        let is_cut = !self.network.are_up();
        let controller = self.controller()?;
        let node = hosts::find(controller, name)?;
        if let Some(host) = controller.hosts().get(node) {
            let explained = explained(now, controller, &self.config.node.hostname, host);
            let explained = ExplainedHost { is_cut, ..explained };
            self.control.reply(slot, &Reply::Explained(explained));
        }
        Ok(Answered::Done)
    }

    pub(super) fn hosts_without(&mut self, slot: usize, id: &PatchId) -> Result<Answered, RequestRefused> {
        let controller = self.controller()?;
        known(controller, &PatchIds::from_iter([id.clone()]))?;
        let left = controller.hosts().len();
        if let Some(blob) = missing_file(controller, id) {
            self.control.reply(slot, &Reply::Blob(blob));
        }
        Ok(Answered::Continues(Pending::HostsWithout { id: id.clone(), left }))
    }
}

fn missing_file(controller: &Controller<'_>, id: &PatchId) -> Option<BlobRow> {
    rows::missing_blobs(controller).find(|row| row.id == *id)
}

/// Whether a host lacks the patch in a slot, or has it and should not; false while it is not
/// known what the host has.
pub(super) fn differs(controller: &Controller<'_>, slot: Slot, host: &Host) -> bool {
    let Some(entry) = controller.map().entry(slot) else { return false };
    let is_wanted = entry.is_wanted() && blocked_by(controller.map(), slot).is_none();
    let should_have = is_wanted && entry.meta.concerns(&host.ack.nodetype);
    if host.is_known() { host.installed.contains(slot) != should_have } else { should_have }
}

#[inline(never)]
fn explained(now: Instant, controller: &Controller<'_>, own: &Hostname, host: &Host) -> ExplainedHost {
    let map = controller.map();
    let known = match host.knowledge {
        Knowledge::Known if host.is_known() => Known::Yes,
        Knowledge::Backoff { until, failures } => {
            Known::Failed { times: failures, again_ms: until.since(now).as_millis() }
        }
        Knowledge::Known | Knowledge::Wanted | Knowledge::Asking => Known::Asking,
    };
    let (mut lacks, mut exceeds) = (Patches::default(), Patches::default());
    if known == Known::Yes {
        let wanted = effective_set(map, &host.ack.nodetype);
        for (slot, entry) in map.iter_by_id() {
            match (wanted.contains(slot), host.installed.contains(slot)) {
                (true, false) => lacks.add(&entry.id),
                (false, true) => exceeds.add(&entry.id),
                _ => {}
            }
        }
    }
    let missing = rows::missing_blobs(controller).find(|row| row.is_wanted);
    ExplainedHost {
        row: rows::host(now, controller, host),
        known,
        lacks,
        exceeds,
        foreign: host.foreign,
        is_of_no_kind: controller.wanted_digest(host).is_none(),
        is_unrecovered: host.is_unrecovered(),
        is_stalled: host.is_stalled(now, controller.timers().request.stall),
        open: host.request.open_until().map(|(again, gives_up)| OpenRow {
            again_ms: again.map(|again| again.since(now).as_millis()),
            gives_up_ms: gives_up.since(now).as_millis(),
        }),
        silent: host.probe.silence().map(|(again, lost)| SilentRow {
            again_ms: again.since(now).as_millis(),
            lost_ms: lost.since(now).as_millis(),
        }),
        round_ms: controller.pacing().poll_at().map_or(0, |next| next.since(now).as_millis()),
        is_started: controller.sync().is_started(),
        settles_ms: controller.pacing().settles_in(now).as_millis(),
        is_cut: false,
        missing: missing.map(|row| MissingFile { id: row.id, reason: Reason::truncated(row.reason.raw()) }),
        rollout: map.rollout().map(|rollout| rollouts::row(now, controller, own, rollout)),
        carrier: map.rollout().and_then(|rollout| carrier(now, controller, rollout)),
    }
}

/// Another controller that carries a running rollout.
fn carrier(now: Instant, controller: &Controller<'_>, rollout: &Rollout) -> Option<CarrierRow> {
    if !rollout.is_running() || rollout.carrier == controller.node() {
        return None;
    }
    let one = controller.sync().neighbours().get(rollout.carrier);
    let is_present = controller.sync().neighbours().present(now).any(|one| one.node == rollout.carrier);
    let lost = one.and_then(|one| one.probe.silence()).map(|(_, lost)| lost).filter(|_| is_present);
    let is_silent = !is_present || lost.is_some();
    let takes_over = controller.takes_over_at(now, rollout, lost).filter(|_| is_silent);
    Some(CarrierRow {
        heard_ms: one.and_then(|one| one.heard).map(|(_, at)| now.since(at).as_millis()),
        is_silent,
        takes_over_ms: takes_over.map(|at| at.since(now).as_millis()),
    })
}
