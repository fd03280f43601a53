//! Which hosts and controllers have been lost or are back since the last look, for the log. Lost
//! is computed from the time, so nothing happens when a node becomes it: somebody has to look.

use super::Controller;
use crate::fsm::presence::LossCause;
use crate::time::{Duration, Instant};
use crate::types::{Hostname, NodeId};
use crate::wire::frame::Role;

/// A host or controller that was lost, or is back.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'c> {
    /// A host is an agent.
    pub role: Role,
    /// Its node id.
    pub node: NodeId,
    /// Its hostname; empty if it is not known.
    pub hostname: &'c Hostname,
    /// Why it is lost; `None` if it is back.
    pub lost: Option<LossCause>,
    /// How long ago it was heard.
    pub silence: Duration,
}

impl Controller<'_> {
    /// Calls `tell` for each host and controller that is lost and was not at the last look, and
    /// for each that is back.
    pub fn note_turns(&mut self, now: Instant, mut tell: impl FnMut(Turn<'_>)) {
        let (own, lost_after) = (self.node, self.timers.host_lost);
        for host in self.hosts.iter_mut().filter(|host| host.node != own) {
            let is_lost = host.is_lost(now, lost_after);
            if core::mem::replace(&mut host.is_noted_lost, is_lost) != is_lost {
                tell(Turn {
                    role: Role::Agent,
                    node: host.node,
                    hostname: &host.ack.hostname,
                    lost: is_lost.then(|| host.presence.loss_cause()),
                    silence: now.since(host.last_heard),
                });
            }
        }
        let lost_after = self.sync.neighbours().lost_after();
        for one in self.sync.neighbours_mut().iter_mut() {
            // One that was not heard since the start is not lost now.
            let Some((_, heard_at)) = one.heard else { continue };
            let is_lost = !one.is_present(now, lost_after);
            if core::mem::replace(&mut one.is_noted_lost, is_lost) != is_lost {
                tell(Turn {
                    role: Role::Controller,
                    node: one.node,
                    hostname: &one.hostname,
                    lost: is_lost.then(|| one.presence.loss_cause()),
                    silence: now.since(heard_at),
                });
            }
        }
    }
}
