//! An install that is in place and waits for a controller: whose message counts, for how long
//! it waits, and from when on.

use super::event_loop::Daemon;
use super::topology::BATCHES;
use super::transport::Batch;
use crate::fsm::event::{Event, PendingProof};
use crate::job::Witness;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, RequestId};

/// From one ack that asks for a message to the next.
const ASKS_EVERY: Duration = Duration::from_secs(1);

impl Daemon<'_> {
    /// Whose message commits an install that begins now. The controller of this node hears it
    /// without a network, so it counts only where no other is present.
    pub(super) fn witness(&self, now: Instant) -> Witness {
        let neighbours = self.node.controller.as_ref().map(|controller| controller.sync().neighbours());
        let is_other_there = neighbours.is_some_and(|all| {
            let mut heard = all.iter();
            heard.any(|neighbour| neighbour.is_present(now, all.lost_after()))
        });
        if is_other_there { Witness::Other } else { Witness::Any }
    }

    /// A worker reports an install that waits. What is queued already was sent before, and is
    /// handled before.
    #[inline(never)]
    pub(super) fn on_awaited(
        &mut self,
        now: Instant,
        request_id: RequestId,
        controller: NodeId,
        witness: Witness,
        batch: &mut Batch,
    ) {
        self.drain_datagrams(now, batch, &mut { BATCHES });
        let timers = &self.config.timers;
        let (wait_ms, asks_every) = match witness {
            Witness::ToNewThimble => (timers.host_lost_ms, None),
            Witness::Any | Witness::Other => (timers.install_give_up_ms, Some(ASKS_EVERY)),
        };
        let except = (witness == Witness::Other).then_some(self.codec.identity().node);
        let wait = Duration::from_millis(wait_ms);
        let pending = PendingProof { request_id, controller, wait, asks_every, except };
        self.on_event(now, &Event::ProofPending(pending));
    }
}
