//! Whether an install that a host reports moves.
//!
//! ```text
//! begins --a later step, or a higher percentage--> moved now
//!   |   `-- the controller had no worker for it --> moved now
//!   `-- neither for `stall` --> stands still
//! ```
//!
//! Only what was not reached before counts, so a host that reports an install cannot move
//! without end: it has nine steps and a hundred percent.

use crate::time::{Duration, Instant};
use crate::wire::install::Step;
use crate::wire::messages::HelloAgentAck;

/// How far an install has come, and since when.
#[derive(Clone, Copy, Debug)]
pub struct Movement {
    step: Step,
    percent: u8,
    moved: Instant,
}

impl Movement {
    /// An install that begins now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { step: Step::default(), percent: 0, moved: now }
    }

    /// Notes what an ack reports.
    pub fn note(&mut self, now: Instant, ack: &HelloAgentAck) {
        if ack.step > self.step || ack.progress > self.percent {
            self.moved = now;
        }
        (self.step, self.percent) = (self.step.max(ack.step), self.percent.max(ack.progress));
    }

    /// The host waits for this controller, which had no worker for it.
    pub fn excuse(&mut self, now: Instant) {
        self.moved = now;
    }

    /// When it stands still, unless it moves before.
    #[must_use]
    pub fn stalls_at(&self, stall: Duration) -> Instant {
        self.moved + stall
    }
}
