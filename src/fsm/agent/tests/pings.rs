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
