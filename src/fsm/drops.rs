//! Hosts that all controllers are to forget. `DropHostReq` is sent more than once,
//! because it is not answered. A host that is still up returns with its next ack.

use heapless::Vec;

use super::actions::{Action, Actions, To};
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::messages::{DropHostReq, Message};

/// How many times each DropHostReq is sent.
const SEND_LIMIT: u8 = 3;
/// Drops that are repeated at the same time; one more ends the oldest.
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
    /// No drop. `retry` is the time between two sends of one drop.
    #[must_use]
    pub fn new(retry: Duration) -> Self {
        Self { retry, drops: Vec::new() }
    }

    /// Changes the time between two sends.
    pub fn set_retry(&mut self, retry: Duration) {
        self.retry = retry;
    }

    /// Adds a host that all controllers are to forget.
    pub fn add(&mut self, now: Instant, host: NodeId) {
        self.drops.retain(|drop| drop.host != host);
        if self.drops.is_full() {
            self.drops.remove(0);
        }
        // There is room now.
        let _ = self.drops.push(Drop { host, left: SEND_LIMIT, next: now });
    }

    /// Sends what is due; before that, nothing.
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

    /// When the next send is due.
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

    fn sent(drops: &mut Drops, now: u64) -> std::vec::Vec<u64> {
        let mut actions = Actions::default();
        drops.on_timeout(at(now), &mut actions);
        let host = |action| match action {
            Action::Send(To::Controllers, Message::DropHostReq(drop)) => drop.host.0,
            other => panic!("no drop does this: {other:?}"),
        };
        core::iter::from_fn(|| actions.pop_front()).map(host).collect()
    }

    #[test]
    fn a_drop_is_sent_three_times_and_the_oldest_of_too_many_ends() {
        let mut drops = Drops::new(Duration::from_millis(100));
        drops.add(at(0), NodeId(5));
        for now in [0, 100, 200] {
            assert_eq!(drops.poll_at(), Some(at(now)));
            assert_eq!((sent(&mut drops, now), sent(&mut drops, now)), (std::vec![5], std::vec![]));
        }
        assert_eq!(drops.poll_at(), None);
        for host in 1..=9 {
            drops.add(at(300), NodeId(host));
        }
        assert_eq!(sent(&mut drops, 300), [2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
