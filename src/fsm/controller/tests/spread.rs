//! Traces of what a controller sends to all hosts.

use super::rollout::running;
use super::*;
use crate::fsm::controller::spread::{SpreadConfig, SpreadRefusal};
use crate::repo::rollout::{Rollout, RolloutState};

/// By then the start is over.
const SETTLED: u64 = 70_000;
const CONFIG: SpreadConfig = SpreadConfig { rate: 7, least_bytes: 1, has_multicast: true };

/// A controller with patches A and B, and hosts that have none.
fn settled(hosts: &[u64], config: SpreadConfig) -> Trace {
    let mut trace = Trace::start(&[entry("A"), entry("B")], 4);
    trace.controller.set_spread(config);
    trace.settle(hosts)
}

impl Trace {
    fn sends(&mut self, name: &str, rate: u64) -> (Result<(), SpreadRefusal>, Vec<String>) {
        let slot = self.controller.map().get(&id(name)).unwrap().0;
        let sent = self.controller.send_to_all(slot, rate, &mut self.actions);
        (sent, self.did())
    }
}

/// Before it has heard its hosts in a round, all that fit may answer: else 1,000 of them would within 20 ms.
#[test]
fn one_that_has_just_started_gives_all_hosts_time_to_answer() {
    let mut trace = Trace::start(&[entry("A")], 1_000);
    trace.hears(5, 4, ack(&[]));
    assert_eq!(trace.controller.may_answer(at(999)), 1_000);
    assert_eq!(trace.controller.may_answer(at(1_000)), 1, "its first round has ended");
}

#[test]
fn files_are_sent_one_after_the_other() {
    let mut trace = settled(&[4], CONFIG);
    assert_eq!(trace.sends("A", 0), (Ok(()), vec!["send A to all, 7 for a second".to_string()]));
    assert_eq!(trace.sends("A", 0), (Ok(()), Vec::new()), "it is being sent");
    assert_eq!(trace.sends("B", 9), (Ok(()), Vec::new()));
    assert_eq!(trace.controller.spreading().1, 1);
    assert_eq!(trace.event(SETTLED, &Event::SpreadEnded), ["send B to all, 9 for a second"]);
    trace.controller.stop_spread(&mut trace.actions);
    assert_eq!(trace.did(), ["end sending"]);
    assert_eq!(trace.event(SETTLED, &Event::SpreadEnded), [""; 0]);
    let mut without = settled(&[4], SpreadConfig { has_multicast: false, ..CONFIG });
    assert_eq!(without.sends("A", 9), (Err(SpreadRefusal::NoMulticast), Vec::new()));
}

#[test]
fn a_patch_that_is_deleted_is_not_sent_any_more() {
    let mut trace = settled(&[4], CONFIG);
    trace.sends("A", 0).0.unwrap();
    trace.sends("B", 0).0.unwrap();
    for name in ["B", "A"] {
        let deleted = entry(name).state(EntryState::Deleted).stamp(50, 1);
        trace.controller.merge(at(SETTLED), &deleted).unwrap();
    }
    let did = trace.runs(SETTLED + 1_000);
    assert!(did.contains(&"end sending".to_string()), "{did:?}");
    assert_eq!(trace.event(SETTLED + 1_000, &Event::SpreadEnded), [""; 0], "B does not wait any more");
}

#[test]
fn a_rollout_asks_its_hosts_once_what_two_of_them_lack_is_sent() {
    let mut trace = settled(&[4, 5], CONFIG);
    trace.controller.merge_rollout(at(SETTLED), &running());
    assert_eq!(trace.runs(SETTLED + 5_000), ["send A to all, 7 for a second"]);
    assert_eq!(trace.event(SETTLED + 5_000, &Event::SpreadEnded), ["send B to all, 7 for a second"]);
    // It says that it goes on, well before another takes it for dead.
    let did = trace.runs(SETTLED + 80_000);
    assert!((2..=3).contains(&did.len()), "{did:?}");
    assert!(did.iter().all(|did| did == "the rollout is carried on here"), "{did:?}");
    assert_eq!(trace.event(SETTLED + 80_000, &Event::SpreadEnded), [""; 0]);
    assert_eq!(trace.runs(SETTLED + 81_000), ["ask 4 with nonce 7", "ask 5 with nonce 7"]);
}

#[test]
fn a_rollout_sends_nothing_that_is_small_or_that_one_host_lacks_or_if_the_rate_is_none() {
    let asks = ["ask 4 with nonce 7", "ask 5 with nonce 7"];
    for config in [
        SpreadConfig { least_bytes: 2, ..CONFIG },
        SpreadConfig { rate: 0, ..CONFIG },
        SpreadConfig { has_multicast: false, ..CONFIG },
    ] {
        let mut trace = settled(&[4, 5], config);
        trace.controller.merge_rollout(at(SETTLED), &running());
        assert_eq!(trace.runs(SETTLED + 1_500), asks, "{config:?}");
    }
    let mut trace = settled(&[4], CONFIG);
    trace.controller.merge_rollout(at(SETTLED), &running());
    assert_eq!(trace.runs(SETTLED + 1_500), ["ask 4 with nonce 7"]);
}

#[test]
fn what_is_sent_for_a_rollout_ends_with_it() {
    let mut trace = settled(&[4, 5], CONFIG);
    trace.controller.merge_rollout(at(SETTLED), &running());
    assert_eq!(trace.runs(SETTLED + 2_000), ["send A to all, 7 for a second"]);
    let stamp = crate::repo::entry::Stamp { counter: 90, replica: 1 };
    let stopped = Rollout { state: RolloutState::Stopped, stamp, ..running() };
    trace.controller.merge_rollout(at(SETTLED + 2_000), &stopped);
    assert_eq!(trace.runs(SETTLED + 40_000), ["end sending"]);
    assert_eq!(trace.event(SETTLED + 40_000, &Event::SpreadEnded), [""; 0]);
    assert_eq!(trace.controller.spreading(), (None, 0));
}
