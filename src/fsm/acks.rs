//! When an agent sends HelloAgentAck: in answer to HelloAgent, and after a change.
//! A hello with the agent's own key and no window is answered at once.
//!
//! ```text
//! Silent --HelloAgent--> Due (at a random moment in its window)
//!   |                      | more HelloAgents: one answer serves all
//!   `---- a change --------'---- sent ----> Silent
//! ```
//!
//! The end of an install is said again twice. An ack is a datagram, so it may be lost, and the
//! next one may be a hello interval away: for so long every other controller would show an
//! install that is over.
//!
//! Every agent can send HelloAgent in any controller's name, and one reaches all agents. So
//! answers are rare enough that hellos without end overload nobody: at most
//! `ANSWERS_TO_ONE` to one controller and `ANSWERS` to all, in each interval between two honest
//! hellos. A hello that comes sooner is answered later, never dropped.

use heapless::Vec;

use super::random::Random;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::NodeId;

/// The shortest time between two acks that report a change: an install's progress
/// changes often.
const CHANGES_APART: Duration = Duration::from_millis(200);
/// The pauses after which the end of an install is said again.
const END_AGAIN: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(1_600)];
/// The widest window that an agent accepts.
const WINDOW_MOST: Duration = Duration::from_secs(60);

/// Answers to one controller in a hello interval: it sends one hello, and some more if it
/// restarts.
const ANSWERS_TO_ONE: u64 = 8;
/// The longest time that an agent waits after an answer before it answers the next hello of the
/// same controller.
#[must_use]
pub fn answers_apart(hello_interval: Duration) -> Duration {
    Duration::from_millis(hello_interval.as_millis() / ANSWERS_TO_ONE)
}

/// Answers to all controllers in a hello interval: twice as many as there are controllers.
const ANSWERS: u64 = 2 * limits::CONTROLLERS as u64;

/// A controller that has asked.
#[derive(Clone, Copy, Debug)]
struct Asker {
    node: NodeId,
    /// Its last hello is not answered yet.
    is_waiting: bool,
    /// When one was last answered.
    answered: Option<Instant>,
}

/// When to send HelloAgentAck.
#[derive(Debug)]
pub struct Acks {
    due: Option<Instant>,
    last_sent: Option<Instant>,
    /// How many of [`END_AGAIN`] are over.
    end_said_again: usize,
    /// The interval of a controller's hellos.
    hello_interval: Duration,
    /// When a hello of any controller was last answered.
    last_answer: Option<Instant>,
    askers: Vec<Asker, { limits::CONTROLLERS }, u8>,
}

impl Acks {
    /// No ack is due. Controllers send a hello in each `hello_interval`.
    #[must_use]
    pub fn new(hello_interval: Duration) -> Self {
        let end_said_again = END_AGAIN.len();
        Self {
            due: None,
            last_sent: None,
            end_said_again,
            hello_interval,
            last_answer: None,
            askers: Vec::new(),
        }
    }

    /// Changes the interval of a controller's hellos.
    pub fn set_hello_interval(&mut self, hello_interval: Duration) {
        self.hello_interval = hello_interval;
    }

    /// A controller has sent HelloAgent with this window.
    pub fn on_hello(&mut self, now: Instant, from: NodeId, window_ms: u32, random: &mut Random) {
        let window = Duration::from_millis(u64::from(window_ms)).min(WINDOW_MOST);
        let share = |answers: u64| {
            Duration::from_millis(self.hello_interval.as_millis().checked_div(answers).unwrap_or(0))
        };
        let (apart, apart_to_one) = (share(ANSWERS), share(ANSWERS_TO_ONE));
        let answered = self.note_asker(from);
        let not_before = |last: Option<Instant>, apart: Duration| last.map_or(now, |last| last + apart);
        let at = (now + random.below(window))
            .max(not_before(self.last_answer, apart))
            .max(not_before(answered, apart_to_one));
        self.due = Instant::earliest([self.due, Some(at)]);
    }

    /// Notes that a controller waits for an answer; returns when it last got one. A new one
    /// takes the place of the one whose last answer is oldest.
    fn note_asker(&mut self, node: NodeId) -> Option<Instant> {
        if let Some(asker) = self.askers.iter_mut().find(|asker| asker.node == node) {
            asker.is_waiting = true;
            return asker.answered;
        }
        if self.askers.is_full() {
            let oldest = self.askers.iter().enumerate().min_by_key(|(_, asker)| asker.answered);
            let at = oldest.map(|(at, _)| at)?;
            self.askers.swap_remove(at);
        }
        let _ = self.askers.push(Asker { node, is_waiting: true, answered: None });
        None
    }

    /// A value that the ack carries has changed.
    pub fn on_change(&mut self, now: Instant) {
        let at = self.last_sent.map_or(now, |said| now.max(said + CHANGES_APART));
        self.due = Instant::earliest([self.due, Some(at)]);
    }

    /// The ack is due at once: a controller asks this agent alone.
    pub fn at_once(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// An install has ended: the ack is due at once, so that controllers do not show
    /// old progress. Two more follow.
    pub fn on_end(&mut self, now: Instant) {
        self.due = Some(now);
        self.end_said_again = 0;
    }

    /// Whether an ack is due; if so, it counts as sent.
    pub fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| now >= due);
        if is_due {
            self.due = END_AGAIN.get(self.end_said_again).map(|pause| now + *pause);
            self.end_said_again = self.end_said_again.saturating_add(1);
            self.last_sent = Some(now);
            for asker in self.askers.iter_mut().filter(|asker| asker.is_waiting) {
                (asker.is_waiting, asker.answered) = (false, Some(now));
                self.last_answer = Some(now);
            }
        }
        is_due
    }

    /// When the next ack is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    const INTERVAL: Duration = Duration::from_millis(16_000);

    fn acks() -> Acks {
        Acks::new(INTERVAL)
    }

    /// How many acks answer hellos that come in each millisecond of an interval, each of
    /// the next of these controllers.
    fn answers_to(controllers: u64) -> usize {
        let (mut acks, mut random) = (acks(), Random::new([1; 32]));
        let begins = INTERVAL.as_millis();
        let answers = (0..2 * begins).filter(|now| {
            acks.on_hello(at(*now), NodeId(now % controllers), 1, &mut random);
            acks.take_due(at(*now)) && *now >= begins
        });
        answers.count()
    }

    #[test]
    fn hellos_without_end_get_a_bounded_number_of_answers() {
        assert_eq!(answers_to(1), ANSWERS_TO_ONE as usize);
        assert_eq!(answers_to(2), ANSWERS_TO_ONE as usize, "one answer serves both");
        assert_eq!(answers_to(5_000), ANSWERS as usize, "under ever new names");
    }

    #[test]
    fn a_hello_that_comes_soon_after_an_answer_is_answered_later() {
        let (mut acks, mut random) = (acks(), Random::new([1; 32]));
        acks.on_hello(at(0), NodeId(1), 1, &mut random);
        assert!(acks.take_due(at(0)));
        acks.on_hello(at(10), NodeId(2), 1, &mut random);
        assert_eq!(acks.poll_at(), Some(at(1_000)), "16 in an interval");
        assert!(acks.take_due(at(1_000)));
        acks.on_hello(at(1_010), NodeId(1), 1, &mut random);
        assert_eq!(acks.poll_at(), Some(at(2_000)), "8 to one, of which the last was at 0");
        acks.on_change(at(1_200));
        assert!(acks.take_due(at(1_200)), "a change is reported at once");
        assert_eq!(acks.poll_at(), None, "which answered the hello too");
    }

    #[test]
    fn one_answer_serves_all_controllers_that_asked_before_it() {
        let (mut acks, mut random) = (acks(), Random::new([1; 32]));
        for now in 0..8 {
            acks.on_hello(at(now), NodeId(now), 1000, &mut random);
        }
        let due = acks.poll_at().unwrap();
        assert!(due < at(1000 + 8));
        assert!(!acks.take_due(due - Duration::from_millis(1)));
        assert!(acks.take_due(due));
        assert!(!acks.take_due(due));
        assert_eq!(acks.poll_at(), None);
    }

    #[test]
    fn answers_are_spread_over_the_window() {
        let mut random = Random::new([2; 32]);
        let dues: std::vec::Vec<u64> = (0..100)
            .map(|_| {
                let mut acks = acks();
                acks.on_hello(at(0), NodeId(1), 1000, &mut random);
                acks.poll_at().unwrap().as_millis()
            })
            .collect();
        let early = dues.iter().filter(|due| **due < 500).count();
        assert!((25..=75).contains(&early), "{early} of 100 in the first half");
    }

    #[test]
    fn changes_are_sent_at_once_but_not_in_a_flood() {
        let mut acks = acks();
        acks.on_change(at(10));
        assert!(acks.take_due(at(10)));
        acks.on_change(at(20));
        assert!(!acks.take_due(at(209)));
        assert!(acks.take_due(at(210)));
        acks.at_once(at(211));
        assert!(acks.take_due(at(211)), "the end of an install waits for nothing");
    }

    #[test]
    fn the_end_of_an_install_is_said_again_twice() {
        let mut acks = acks();
        acks.on_end(at(1_000));
        let sent: std::vec::Vec<u64> = (0..60_000).filter(|now| acks.take_due(at(*now))).collect();
        assert_eq!(sent, [1_000, 1_400, 3_000]);
        assert_eq!(acks.poll_at(), None);
    }
}
