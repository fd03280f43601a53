//! Hosts that all controllers are to forget: said more than once, as nobody
//! answers `DropHostReq`. A host that is there returns with its next ack, however
//! often it was dropped.

use heapless::Vec;

use super::actions::{Action, Actions, To};
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::messages::{DropHostReq, Message};

/// Times that a drop is said.
const SEND_LIMIT: u8 = 3;
/// Drops that are said at once; one more ends the oldest.
const DROPS: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Drop {
    host: NodeId,
    left: u8,
    next: Instant,
}

/// The drops of one controller.
#[derive(Debug)]
pub struct Drops {
    retry: Duration,
    drops: Vec<Drop, DROPS, u8>,
}

impl Drops {
    /// None. `retry`: from one saying to the next.
    #[must_use]
    pub fn new(retry: Duration) -> Self {
        Self { retry, drops: Vec::new() }
    }

    /// From one saying to the next, from now on.
    pub fn set_retry(&mut self, retry: Duration) {
        self.retry = retry;
    }

    /// A host is to be forgotten everywhere.
    pub fn add(&mut self, now: Instant, host: NodeId) {
        self.drops.retain(|drop| drop.host != host);
        if self.drops.is_full() {
            self.drops.remove(0);
        }
        // There is room now.
        let _ = self.drops.push(Drop { host, left: SEND_LIMIT, next: now });
    }

    /// Says what is due. Early: does nothing.
    pub fn on_timeout(&mut self, now: Instant, actions: &mut Actions) {
        let retry = self.retry;
        self.drops.retain_mut(|drop| {
            if now >= drop.next && actions.room() > 0 {
                let request = Message::DropHostReq(DropHostReq { host: drop.host });
                actions.push(Action::Send(To::Controllers, request));
                drop.left = drop.left.saturating_sub(1);
                drop.next = now + retry;
            }
            drop.left > 0
        });
    }

    /// When something is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.drops.iter().map(|drop| drop.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn said(drops: &mut Drops, now: u64) -> std::vec::Vec<u64> {
        let mut actions = Actions::default();
        drops.on_timeout(at(now), &mut actions);
        let host = |action| match action {
            Action::Send(To::Controllers, Message::DropHostReq(drop)) => drop.host.0,
            other => panic!("no drop does this: {other:?}"),
        };
        core::iter::from_fn(|| actions.pop_front()).map(host).collect()
    }

    #[test]
    fn a_drop_is_said_three_times_and_the_oldest_of_too_many_ends() {
        let mut drops = Drops::new(Duration::from_millis(100));
        drops.add(at(0), NodeId(5));
        for now in [0, 100, 200] {
            assert_eq!(drops.poll_at(), Some(at(now)));
            assert_eq!((said(&mut drops, now), said(&mut drops, now)), (std::vec![5], std::vec![]));
        }
        assert_eq!(drops.poll_at(), None);
        for host in 1..=9 {
            drops.add(at(300), NodeId(host));
        }
        assert_eq!(said(&mut drops, 300), [2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
