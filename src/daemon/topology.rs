//! Passes the events of TIPC's topology service on to the state machines.

use mio::Token;

use super::event_loop::Daemon;
use super::tokens::DATAGRAMS;
use super::transport::{Batch, ENDPOINTS};
use crate::control::TipcRow;
use crate::fsm::event::Event;
use crate::fsm::topology::PeerEvent;
#[cfg(feature = "tipc")]
use crate::fsm::{actions::Peer, controller::Controller};
use crate::limits;
use crate::time::Instant;
#[cfg(feature = "tipc")]
use crate::wire::frame::Role;

/// Events handled in one turn.
const EVENTS: usize = 16;
/// Batches of datagrams drained in one turn, at most.
pub(super) const BATCHES: usize = 64;

impl Daemon<'_> {
    /// Handles what the topology service reports.
    #[inline(never)]
    pub(super) fn take_topology(&mut self, now: Instant, token: Token, batch: &mut Batch) {
        let mut batches = BATCHES;
        for _ in 0..EVENTS {
            let Some(next) = self.transport.view.next(now) else { return };
            self.losses.is_wanted = true;
            let Some(event) = next else { continue };
            if matches!(event, PeerEvent::Withdrawn(..) | PeerEvent::NodeLost(_) | PeerEvent::Settled) {
                self.drain_datagrams(now, batch, &mut batches);
            }
            self.on_event(now, &Event::Topology(event));
        }
        self.ready.insert(token);
    }

    /// TIPC as this node sees it; `None` over UDP.
    #[cfg(not(feature = "tipc"))]
    pub(super) fn tipc_row(&self, _: Instant) -> Option<TipcRow> {
        None
    }

    /// TIPC as this node sees it; `None` over UDP.
    #[cfg(feature = "tipc")]
    pub(super) fn tipc_row(&self, now: Instant) -> Option<TipcRow> {
        use crate::control::{LinkEnds, LinkRow, UnheardRow};
        let view = &self.transport.view;
        let (links_up, links) = view.links();
        let age_ms = |since| now.since(since).as_millis();
        let mut row = TipcRow {
            address: view.own(),
            identity: view.identity(view.own()),
            is_watching: view.is_watching(),
            gaps: view.gaps(),
            set_aside: view.set_aside() as u32,
            nodes_up: view.nodes_up(),
            links_up,
            ..TipcRow::default()
        };
        for link in links {
            let (node, is_up, age_ms) = (link.node, link.is_up, age_ms(link.since));
            // One that is down and unknown to the kernel was taken down by an operator.
            let name = view.link_name(link);
            if name.is_none() && !is_up {
                continue;
            }
            let name = name.unwrap_or_default();
            if !row.links.iter().any(|of| of.node == node) {
                let identity = view.identity(node);
                let _ = row.links.push(LinkRow { node, identity, ends: heapless::Vec::new() });
            }
            if let Some(of) = row.links.iter_mut().find(|of| of.node == node) {
                let _ = of.ends.push(LinkEnds { name, is_up, age_ms });
            }
        }
        for one in self.node.controller.iter().flat_map(Controller::unheard_peers) {
            let Peer::Tipc { node, port } = one.peer else { continue };
            let (is_controller, age_ms) = (one.role == Role::Controller, age_ms(one.since));
            if row.unheard.push(UnheardRow { is_controller, node, port, age_ms }).is_err() {
                row.unheard_more += 1;
            }
        }
        Some(row)
    }

    /// Drains queued datagrams before a withdrawal is handled, or a message sent before
    /// the peer left would mark it as back; and before a message counts that shows that the
    /// network is there.
    pub(super) fn drain_datagrams(&mut self, now: Instant, batch: &mut Batch, batches: &mut usize) {
        for at in 0..ENDPOINTS {
            if self.transport.endpoint_at(at).is_none() {
                continue;
            }
            while let Some(left) = batches.checked_sub(1) {
                *batches = left;
                self.take_datagrams(now, Token(DATAGRAMS + at), batch);
                if batch.len() < limits::RECV_BATCH {
                    break;
                }
            }
        }
    }
}
