//! Traces of `thimble ping`.

use super::*;
use crate::wire::messages::{Ping, Pong};

impl Trace {
    /// This agent, or another, is asked: with its own key, or with that of all agents.
    fn pinged(&mut self, now: u64, host: u64, number: u64, is_to_all: bool) -> Vec<String> {
        let ping = Message::Ping(Ping { host: NodeId(host), number });
        self.message(now, CONTROLLER, ping, is_to_all)
    }
}

#[test]
fn one_that_is_asked_alone_answers_alone_and_to_all() {
    let mut trace = Trace::idle();
    assert_eq!(trace.pinged(1_000, 10, 5, false), ["pong 5, heard 0", "pong 5, heard 0 to 1"]);
    assert_eq!(trace.pinged(1_000, 10, 6, false), ["pong 6, heard 0", "pong 6, heard 0 to 1"]);
    assert_eq!(trace.pinged(1_000, 11, 7, false), [""; 0], "it is for another");
    assert_eq!(trace.agent.poll_at(), None, "nothing follows");
}

#[test]
fn asks_that_any_agent_can_send_get_few_answers_and_the_last_is_remembered() {
    let mut trace = Trace::idle();
    assert_eq!(trace.pinged(1_000, 10, 5, true), ["pong 5, heard 5"]);
    assert_eq!(trace.pinged(1_000, 11, 9, true), [""; 0]);
    assert_eq!(trace.pinged(1_199, 10, 6, true), [""; 0]);
    assert_eq!(trace.pinged(1_199, 10, 7, false), ["pong 7, heard 6", "pong 7, heard 6 to 1"]);
    assert_eq!(trace.pinged(1_200, 10, 8, true), ["pong 8, heard 8"]);
}

#[test]
fn each_controller_is_answered_and_told_what_was_heard_of_it() {
    let mut trace = Trace::idle();
    let mut asked = |now, by, number, is_to_all| {
        let ping = Message::Ping(Ping { host: NodeId(10), number });
        trace.message(now, NodeId(by), ping, is_to_all)
    };
    assert_eq!(asked(1_000, 1, 5, true), ["pong 5, heard 5"]);
    assert_eq!(asked(1_010, 2, 90, true), ["pong 90, heard 90"]);
    assert_eq!(asked(1_020, 1, 6, false), ["pong 6, heard 5", "pong 6, heard 5 to 1"]);
    // Whoever sends in many names gets no more answers than eight controllers.
    let many = (0..1_000).map(|by| asked(1_100 + by / 10, 100 + by, 7, true).len()).sum::<usize>();
    assert_eq!(many, limits::CONTROLLERS - 2);
    assert_eq!(asked(1_300, 1, 8, true), ["pong 8, heard 8"]);
}

#[test]
fn it_answers_before_it_has_recovered_and_while_it_installs() {
    let mut trace = Trace::start(3);
    assert_eq!(trace.waits(0), ["recover"]);
    assert_eq!(trace.pinged(1, 10, 5, true), ["pong 5, heard 5"]);
    let mut trace = Trace::installing();
    assert_eq!(trace.pinged(1_000, 10, 5, false), ["pong 5, heard 0", "pong 5, heard 0 to 1"]);
}

/// An answer, as text.
pub fn pong(pong: &Pong) -> String {
    format!("pong {}, heard {}", pong.number, pong.heard)
}
