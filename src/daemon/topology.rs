//! The topology service's words on their way to the state machines.

use mio::Token;

use super::event_loop::{DATAGRAMS, Daemon};
use super::transport::Batch;
use crate::control::TipcRow;
use crate::fsm::event::Event;
use crate::fsm::topology::PeerEvent;
#[cfg(feature = "tipc")]
use crate::fsm::{actions::Peer, controller::Controller};
use crate::limits;
use crate::time::Instant;
use crate::wire::frame::Role;

/// What is told that is acted on in one turn.
const EVENTS: usize = 16;
/// Batches of datagrams taken before the words of one turn, at most.
const BATCHES: usize = 64;

impl Daemon<'_> {
    /// Takes what the topology service tells.
    #[inline(never)]
    pub(super) fn take_topology(&mut self, now: Instant, token: Token, batch: &mut Batch) {
        let mut batches = BATCHES;
        for _ in 0..EVENTS {
            let Some(told) = self.transport.view.next(now) else { return };
            let Some(word) = told else { continue };
            if matches!(word, PeerEvent::Withdrawn(..) | PeerEvent::NodeLost(_) | PeerEvent::Settled) {
                self.drain_datagrams(now, batch, &mut batches);
            }
            self.tell(now, &Event::Topology(word));
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
        use crate::control::{LinkRow, UnheardRow};
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
            let (node, age_ms) = (link.node, age_ms(link.since));
            let _ = row.links.push(LinkRow { node, identity: view.identity(node), age_ms });
        }
        for one in self.node.controller.iter().flat_map(Controller::strangers) {
            let Peer::Tipc { node, port } = one.peer else { continue };
            let (is_controller, age_ms) = (one.role == Role::Controller, age_ms(one.since));
            if row.unheard.push(UnheardRow { is_controller, node, port, age_ms }).is_err() {
                row.unheard_more += 1;
            }
        }
        Some(row)
    }

    /// What somebody said before he went is heard before that he went, or that he is
    /// told of no more: else he would count as having come back.
    fn drain_datagrams(&mut self, now: Instant, batch: &mut Batch, batches: &mut usize) {
        for role in [Role::Controller, Role::Agent] {
            while let Some(left) = batches.checked_sub(1) {
                *batches = left;
                self.take_datagrams(now, Token(DATAGRAMS + role as usize), batch);
                if batch.len() < limits::RECV_BATCH {
                    break;
                }
            }
        }
    }
}
