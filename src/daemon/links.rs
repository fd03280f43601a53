//! A message to one node goes to every address at which it is heard ([`paths`](crate::fsm::paths)).

use std::io;

use super::transport::Transport;
use crate::fsm::actions::{To, Undelivered};
use crate::fsm::paths::Paths;
use crate::time::Instant;
use crate::wire::frame::Role;

/// Over TIPC a multicast reaches all nodes that are up, and the kernel keeps several bearers: nothing
/// of links or of unicast beside multicast is used.
pub(super) const IS_USED: bool = !cfg!(feature = "tipc");

/// Sends a datagram; one to a node to every address at which it is heard, of which one is enough.
#[inline(never)]
pub(super) fn send_by_links(
    now: Instant,
    (transport, paths): (&mut Transport, &Paths<'_>),
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
