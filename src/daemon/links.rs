//! Several links in the loop: a message to one node goes to every address that it is heard at, what
//! comes by a second link is a copy, and a session goes by a link that works
//! ([`paths`](crate::fsm::paths)).

use std::io;

use super::event_loop::Daemon;
use super::transport::Transport;
use super::unicast::IS_USED;
use crate::fsm::actions::{Peer, To, Undelivered};
use crate::fsm::paths::Paths;
use crate::time::Instant;
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
        if !IS_USED || !self.paths.is_used() {
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
}

/// Sends a datagram; one to a node to every address at which it is heard, of which one is enough.
#[inline(never)]
pub(super) fn send_by_links(
    now: Instant,
    (transport, paths): (&Transport, &Paths<'_>),
    as_role: Role,
    to: &To,
    datagram: &[u8],
) -> io::Result<Option<Undelivered>> {
    let mut sent = transport.send(as_role, to, datagram);
    if let (To::Node(node, peer), true) = (to, IS_USED) {
        for other in paths.others(now, *node, *peer) {
            let one = transport.send(as_role, &To::Peer(other), datagram);
            if sent.is_err() {
                sent = one;
            }
        }
    }
    sent
}
