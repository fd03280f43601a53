//! What comes by a second link is a copy ([`paths`](crate::fsm::paths)).

use super::event_loop::Daemon;
use super::links::IS_USED;
use crate::fsm::actions::Peer;
use crate::time::Instant;
use crate::wire::codec::{ReceivedDatagram, RefusedDatagram};
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
