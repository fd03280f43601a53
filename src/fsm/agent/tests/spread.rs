//! Traces of offers: which transmission an agent takes part in.

use super::*;
use crate::fsm::spread::{OVER, Offer, Report};
use crate::wire::messages::kind_bit;

fn offer(transmission: u64) -> Offer {
    Offer {
        transmission,
        id: crate::types::Name::new("P-1").unwrap(),
        file: Hash([9; 32]),
        size_bytes: 5_000,
        kinds: 0,
        packet_bytes: 1_152,
        section: 0,
        round: 0,
        window_ms: 0,
    }
}

/// A question of this transmission.
fn asks(transmission: u64, round: u16) -> Offer {
    Offer { round, window_ms: 20, ..offer(transmission) }
}

impl Trace {
    /// An agent that takes part.
    fn listening() -> Self {
        let mut trace = Self::idle();
        trace.agent.set_takes_part(true);
        trace
    }

    fn offered(&mut self, now: u64, from: NodeId, offer: &Offer) -> Vec<String> {
        self.message(now, from, Message::SpreadOffer(offer.clone()), true)
    }
}

#[test]
fn an_offer_of_what_it_lacks_is_received_and_its_answers_go_to_the_sender() {
    let mut trace = Trace::listening();
    assert_eq!(trace.offered(1_000, CONTROLLER, &offer(50)), ["receive 50"]);
    assert_eq!(trace.offered(1_100, CONTROLLER, &asks(50, 1)), ["pass 50.1"]);
    let missing = heapless::Vec::new();
    let report = Report { transmission: 50, section: 0, round: 1, is_out: false, other: 0, missing };
    assert_eq!(trace.event(1_110, &Event::Lacks(&report)), ["lacks of 50 to 1, with 0"]);
    assert_eq!(trace.event(1_110, &Event::Lacks(&Report { transmission: 51, ..report })), [""; 0]);
    assert_eq!(trace.offered(1_200, CONTROLLER, &Offer { section: OVER, ..offer(50) }), ["pass 50.0"]);
    assert_eq!(trace.event(1_300, &Event::ReceivingEnded(false)), [""; 0]);
    assert_eq!(trace.agent.receives(), None);
    assert_eq!(
        trace.offered(1_400, CONTROLLER, &Offer { section: OVER, ..offer(50) }),
        [""; 0],
        "it is over"
    );
}

/// Each agent has the key that offers are made with, and can read a number.
#[test]
fn what_another_node_says_of_a_transmission_changes_nothing() {
    let mut trace = Trace::listening();
    assert_eq!(trace.offered(1_000, CONTROLLER, &offer(50)), ["receive 50"]);
    assert_eq!(trace.offered(1_100, NodeId(7), &asks(50, 1)), [""; 0]);
    assert_eq!(trace.offered(1_200, NodeId(7), &Offer { section: OVER, ..offer(50) }), [""; 0]);
    assert_eq!(trace.agent.offers_of_other(), 2);
    let missing = heapless::Vec::new();
    let report = Report { transmission: 50, section: 0, round: 1, is_out: false, other: 0, missing };
    assert_eq!(trace.event(1_210, &Event::Lacks(&report)), ["lacks of 50 to 1, with 0"]);
}

#[test]
fn what_does_not_concern_it_begins_nothing() {
    let mut trace = Trace::idle();
    assert_eq!(trace.offered(1_000, CONTROLLER, &offer(50)), [""; 0], "its configuration gives no room");
    trace.agent.set_takes_part(true);
    let others = Offer { kinds: !kind_bit(&NodeType::new("worker").unwrap()), ..offer(50) };
    assert_eq!(trace.offered(1_000, CONTROLLER, &others), [""; 0], "it is for other kinds");
    assert_eq!(trace.offered(1_000, NodeId(0xA), &offer(50)), [""; 0], "its own controller has the file");
    let mut has = Trace::start(3);
    assert_eq!(has.waits(0), ["recover"]);
    has.agent.set_takes_part(true);
    assert_eq!(has.offered(400, CONTROLLER, &offer(50)), [""; 0], "what it has is not known yet");
    has.snapshot(500, &["A"], None);
    has.ends(500, WorkerEnd::Done);
    let installed = Offer { file: patches(&["A"])[0].hash, ..offer(50) };
    assert_eq!(has.offered(1_000, CONTROLLER, &installed), [""; 0], "it is installed");
    assert_eq!(has.offered(1_000, CONTROLLER, &offer(50)), ["receive 50"]);
}

#[test]
fn of_two_the_lower_number_counts_and_the_other_is_told() {
    let mut trace = Trace::listening();
    assert_eq!(trace.offered(1_000, CONTROLLER, &offer(50)), ["receive 50"]);
    assert_eq!(trace.offered(1_010, OTHER, &offer(60)), [""; 0]);
    assert_eq!(trace.offered(1_010, OTHER, &asks(60, 1)), [""; 0]);
    let answers = trace.agent.poll_at().unwrap();
    assert!(answers < at(1_030), "within the window");
    assert_eq!(trace.waits(answers.as_millis()), ["lacks of 60 to 2, with 50"]);
    // One with a lower number takes its place, once; the worker's end begins it.
    assert_eq!(trace.offered(1_100, OTHER, &offer(40)), ["stop receiving"]);
    assert_eq!(trace.offered(1_100, OTHER, &offer(40)), [""; 0]);
    assert_eq!(trace.event(1_150, &Event::ReceivingEnded(true)), ["receive 40"]);
    assert_eq!(trace.offered(1_200, OTHER, &asks(40, 1)), ["pass 40.1"]);
}

#[test]
fn one_whose_sender_is_silent_makes_room_for_any_other() {
    let mut trace = Trace::listening();
    assert_eq!(trace.offered(1_000, CONTROLLER, &asks(50, 1)), ["receive 50"]);
    assert_eq!(trace.event(3_000, &Event::Receiving(Duration::from_millis(500))), [""; 0]);
    assert_eq!(trace.offered(5_400, OTHER, &offer(60)), [""; 0], "packets were heard at 2,500");
    assert_eq!(trace.offered(5_520, OTHER, &offer(60)), ["stop receiving"]);
    assert_eq!(trace.event(5_600, &Event::ReceivingEnded(false)), ["receive 60"]);
}

#[test]
fn one_that_its_worker_could_not_take_is_not_begun_again_and_is_said_to_be_out() {
    let mut trace = Trace::listening();
    assert_eq!(trace.offered(1_000, CONTROLLER, &offer(50)), ["receive 50"]);
    assert_eq!(trace.event(1_010, &Event::ReceivingEnded(true)), [""; 0]);
    assert_eq!(trace.offered(1_020, CONTROLLER, &asks(50, 1)), [""; 0]);
    let answers = trace.agent.poll_at().unwrap();
    assert_eq!(trace.waits(answers.as_millis()), ["lacks of 50 to 1, with 0"]);
    assert_eq!(trace.offered(1_100, CONTROLLER, &offer(51)), ["receive 51"]);
}
