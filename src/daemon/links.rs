//! Several links in the loop: a message to one node goes to every address that it is heard at, what
//! comes by a second link is a copy, and a session goes by a link that works
//! ([`paths`](crate::fsm::paths)).

use std::io;

use super::event_loop::Daemon;
use crate::fsm::actions::{Peer, To, Undelivered};
use crate::time::Instant;
use crate::types::NodeId;
use crate::wire::codec::{ReceivedDatagram, RefusedDatagram};
use crate::wire::frame::Role;
use crate::wire::header::Header;
use crate::wire::refusal::Refusal;

impl Daemon<'_> {
    /// Whether a datagram, as the codec has decoded it, is the copy by another link of one that was
    /// handled; if so, it is counted.
    pub(super) fn is_link_copy(
        &mut self,
        now: Instant,
        datagram: &[u8],
        decoded: &Result<ReceivedDatagram, RefusedDatagram>,
        peer: Peer,
        link: usize,
    ) -> bool {
        if !self.paths.is_used() {
            return false;
        }
        let Ok(header) = Header::parse(datagram).map(|raw| raw.header) else { return false };
        let is_copy = match decoded {
            Ok(received) => self.paths.on_received(now, &header, link, peer, received.is_forgeable),
            Err(RefusedDatagram { refusal: Refusal::Replay, .. }) => {
                self.paths.on_replay(now, &header, link, peer)
            }
            Err(_) => false,
        };
        self.counters.link_copies += u64::from(is_copy);
        is_copy
    }

    /// Sends a datagram of this length, which was sent to a node at `peer`, to the other addresses
    /// at which the node is heard. One is enough.
    pub(super) fn send_by_links(
        &mut self,
        now: Instant,
        as_role: Role,
        (node, peer): (NodeId, Peer),
        len: usize,
        mut sent: io::Result<Option<Undelivered>>,
    ) -> io::Result<Option<Undelivered>> {
        for other in self.paths.others(now, node, peer) {
            let one = self.transport.send(as_role, &To::Peer(other), &self.transmit[..len]);
            self.counters.sent += u64::from(one.is_ok() && sent.is_ok());
            sent = sent.or(one);
        }
        sent
    }
}
