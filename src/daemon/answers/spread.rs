//! Sends files to all hosts for an operator, and says how far they are.

use super::super::event_loop::Daemon;
use super::super::summary;
use super::{Answered, RequestRefused, known, refused};
use crate::control::{ErrorKind, Reply, SpreadRow};
use crate::fsm::controller::spread::SpreadRefusal;
use crate::job::PatchIds;
use crate::time::Instant;
use crate::types::Reason;

impl Daemon<'_> {
    /// Sends the files of these patches to all hosts, one after the other.
    pub(super) fn spread(
        &mut self,
        now: Instant,
        slot: usize,
        ids: &PatchIds,
        rate: u64,
    ) -> Result<Answered, RequestRefused> {
        let controller = self.controller()?;
        let slots = known(controller, ids)?;
        if rate == 0 && self.config.controller.spread_rate == 0 {
            return Err(refused("controller.spread_kbit_s is 0: name a rate with --rate."));
        }
        if let Some(entry) = slots.iter().find_map(|slot| {
            let entry = controller.map().entry(slot)?;
            controller.sync().blobs().missing().contains(slot).then_some(entry)
        }) {
            let reason = format_args!("The file of {} is not here: see thimble status.", entry.id);
            return Err((ErrorKind::Refused, Reason::format(reason)));
        }
        self.can_ask(|_| true)?;
        const FULL: &str = "17 files are sent or wait at most: try again when some are sent.";
        if !controller.has_room_to_send(slots.iter().count()) {
            return Err(refused(FULL));
        }
        let Self { node, actions, .. } = self;
        if let Some(controller) = &mut node.controller {
            for patch in slots.iter() {
                controller.send_to_all(patch, rate, actions).map_err(|refusal| match refusal {
                    SpreadRefusal::NoMulticast => refused(
                        "This network has no multicast (network.multicast = false), and nothing can be sent to all \
                         hosts at once: each fetches for itself.",
                    ),
                    SpreadRefusal::Full => refused(FULL),
                })?;
            }
        }
        self.dispatch(now);
        let row = self.spread_row();
        self.control.reply(slot, &Reply::Spreading(row));
        Ok(Answered::Done)
    }

    /// Ends what is sent to all hosts, and what waits.
    pub(super) fn end_spread(&mut self, now: Instant, slot: usize) -> Result<Answered, RequestRefused> {
        self.controller()?;
        let Self { node, actions, .. } = self;
        if let Some(controller) = &mut node.controller {
            if controller.spreading().0.is_none() {
                return Err(refused("Nothing is sent to all hosts: there is nothing to stop."));
            }
            controller.stop_spread(actions);
        }
        self.dispatch(now);
        let row = self.spread_row();
        self.control.reply(slot, &Reply::Spreading(row));
        Ok(Answered::Done)
    }

    /// What is sent to all hosts from here, and received.
    #[inline(never)]
    pub(super) fn spread_row(&self) -> SpreadRow {
        let controller = self.node.controller.as_ref();
        let (sending, waiting) = controller.map_or((None, 0), |controller| controller.spreading());
        let spreading = &self.spreading;
        let slowest = spreading.sent.as_ref().and_then(|(_, state)| state.slowest);
        SpreadRow {
            sending: sending.map(|file| file.id.clone()),
            waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
            files_sent: spreading.files_sent,
            sent: spreading.sent.clone(),
            slowest: slowest.map_or_else(Default::default, |(node, _)| summary::hostname(controller, node)),
            ended: spreading.ended.clone(),
            is_receiving: self.node.agent.as_ref().is_some_and(|agent| agent.receives().is_some()),
            received: spreading.received.clone(),
        }
    }
}
