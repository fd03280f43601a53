//! Announces a change made here to other controllers until they confirm it.
//!
//! ```text
//! Quiet --change--> Announcing: SyncReq --> all present confirmed --> Quiet
//!                    ^  `-- retry --'  `--> SEND_LIMIT reached ----------^
//! ```
//!
//! Each change gets a number. A neighbour confirms a digest, by `SyncComplete` or by
//! announcing it as its own; the digest stands for the highest change number that the
//! map contained then. A change that is not confirmed in time is found with the next
//! Hello.

use heapless::Vec;

use super::neighbours::Neighbours;
use crate::time::{Duration, Instant};
use crate::types::Digest;

/// How many times one SyncReq is sent.
const SEND_LIMIT: u8 = 4;
/// Announced digests that are remembered: one may be confirmed after the next one was
/// announced.
const REMEMBERED: usize = 8;

/// The announcements of one controller.
#[derive(Debug)]
pub struct Announce {
    retry: Duration,
    /// The number of the latest change; 0 if there was none since the start.
    latest: u32,
    /// Announced digests, the oldest first, each with its latest change.
    announced: Vec<(Digest, u32), REMEMBERED, u8>,
    sends_left: u8,
    next: Option<Instant>,
}

impl Announce {
    /// Nothing to announce. `retry` is the time between two sends.
    #[must_use]
    pub fn new(retry: Duration) -> Self {
        Self { retry, latest: 0, announced: Vec::new(), sends_left: 0, next: None }
    }

    /// Changes the time between two sends.
    pub fn set_retry(&mut self, retry: Duration) {
        self.retry = retry;
    }

    /// A change made here is durable: announces it at once, and returns its number.
    pub fn on_changed(&mut self, now: Instant) -> u32 {
        self.latest = self.latest.saturating_add(1);
        self.sends_left = SEND_LIMIT;
        self.next = Some(now);
        self.latest
    }

    /// The number of the latest change.
    #[must_use]
    pub fn latest(&self) -> u32 {
        self.latest
    }

    /// Whether a SyncReq with the map's digest is due; if so, it counts as sent. False
    /// if all present controllers have confirmed the change.
    pub fn take_due(&mut self, now: Instant, own: Digest, neighbours: &Neighbours<'_>) -> bool {
        if self.next.is_none_or(|next| now < next) {
            return false;
        }
        let is_first = self.sends_left == SEND_LIMIT;
        self.sends_left = self.sends_left.saturating_sub(1);
        self.next = Some(now + self.retry).filter(|_| self.sends_left > 0);
        // The first one also reaches controllers that were not heard yet.
        if !is_first && self.is_confirmed(now, self.latest, neighbours) {
            self.next = None;
            return false;
        }
        let last = self.announced.last().copied();
        if last != Some((own, self.latest)) {
            if self.announced.is_full() {
                self.announced.remove(0);
            }
            // There is room now.
            let _ = self.announced.push((own, self.latest));
        }
        true
    }

    /// The latest change that our map contained when it had this digest. `own` is the
    /// map's current digest.
    #[must_use]
    pub fn number_of(&self, digest: Digest, own: Digest) -> Option<u32> {
        if digest == own {
            return Some(self.latest);
        }
        self.announced.iter().rev().find(|(announced, _)| *announced == digest).map(|(_, number)| *number)
    }

    /// Whether all present controllers have this change.
    #[must_use]
    pub fn is_confirmed(&self, now: Instant, number: u32, neighbours: &Neighbours<'_>) -> bool {
        neighbours.present(now).all(|neighbour| neighbour.confirmed >= number)
    }

    /// When the next SyncReq is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::actions::Peer;
    use crate::types::NodeId;

    const RETRY: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    #[test]
    fn a_change_is_announced_until_all_present_confirm_it_at_most_four_times() {
        let mut slots = [None, None];
        let mut neighbours = Neighbours::new(&mut slots, Duration::from_millis(10_000));
        let mut announce = Announce::new(RETRY);
        assert!(!announce.take_due(at(0), digest(0), &neighbours));
        assert_eq!(announce.on_changed(at(0)), 1);
        assert!(announce.take_due(at(0), digest(1), &neighbours), "a controller may be up and unheard");
        assert!(!announce.take_due(at(100), digest(1), &neighbours), "no controller is present");

        neighbours.heard(at(200), NodeId(1), Peer::Ip(([127, 0, 0, 1], 1).into()));
        assert_eq!(announce.on_changed(at(200)), 2);
        for sent in [200, 300, 400, 500] {
            assert_eq!(announce.poll_at(), Some(at(sent)));
            assert!(announce.take_due(at(sent), digest(2), &neighbours));
        }
        assert_eq!(announce.poll_at(), None);
        assert!(!announce.is_confirmed(at(600), 2, &neighbours));
        neighbours.get_mut(NodeId(1)).unwrap().confirmed = 2;
        assert!(announce.is_confirmed(at(600), 2, &neighbours));
    }

    #[test]
    fn a_digest_stands_for_the_latest_change_that_was_in_it() {
        let mut slots = [None];
        let neighbours = Neighbours::new(&mut slots, RETRY);
        let mut announce = Announce::new(RETRY);
        for number in 1..=10u8 {
            assert_eq!(announce.on_changed(at(0)), u32::from(number));
            assert!(announce.take_due(at(0), digest(number), &neighbours));
        }
        assert_eq!(announce.number_of(digest(10), digest(99)), Some(10));
        assert_eq!(announce.number_of(digest(3), digest(99)), Some(3));
        assert_eq!(announce.number_of(digest(2), digest(99)), None, "no longer remembered");
        assert_eq!(announce.number_of(digest(99), digest(99)), Some(10));
    }
}
