//! Traces of hosts that miss a window.

use super::*;

/// The longest time from one round to the next, with its window and the first ask after it.
const ROUND: u64 = TIMERS.hello_interval.as_millis() * 106 / 100 + 20 + 125;
/// When two rounds have passed, so that the window is short.
const LATE: u64 = 2 * ROUND;

impl Trace {
    /// Runs until then, and returns the times of all asks. Hosts other than dead ones answer.
    fn asks_until(&mut self, until: u64) -> Vec<(u64, u64)> {
        let mut asks = Vec::new();
        while let Some(due) = self.controller.poll_at().filter(|due| *due <= at(until)) {
            for did in self.waits(due.as_millis()) {
                let Some(host) = did.strip_prefix("probe ").map(|host| host.parse().unwrap()) else {
                    continue;
                };
                asks.push((due.as_millis(), host));
                if !self.dead.contains(&host) {
                    self.hears(due.as_millis() + 1, host, ack(&[]));
                }
            }
        }
        asks
    }

    fn lost(&self) -> usize {
        self.controller.hosts().iter().filter(|host| host.presence.is_unanswered()).count()
    }
}

#[test]
fn a_host_that_misses_its_window_is_asked_alone_and_then_lost_until_it_is_heard() {
    let mut trace = Trace::start(&[], 4);
    trace.hears(100, 5, ack(&[]));
    trace.hears(100, 6, ack(&[]));
    trace.asks_until(LATE);
    assert_eq!(trace.lost(), 0, "they answer");
    trace.hears(LATE, 5, ack(&[]));
    trace.dead.push(5);
    let asks = trace.asks_until(LATE + ROUND + 3_000);
    let of = |host| asks.iter().filter(|(_, asked)| *asked == host).map(|(now, _)| *now).collect::<Vec<_>>();
    assert_eq!((of(5).len(), of(6).len()), (24, 1), "6 answers the first");
    let first = of(5)[0];
    assert!(of(5).iter().zip(0..).all(|(now, number)| *now == first + 125 * number), "{:?}", of(5));
    assert_eq!((trace.lost(), trace.controller.unanswered()), (1, 1));
    assert!(trace.host(5).is_lost(at(LATE + ROUND + 3_000), TIMERS.host_lost));
    let more = trace.asks_until(LATE + 2 * ROUND + 3_000);
    assert_eq!(more.iter().filter(|(_, host)| *host == 5).count(), 1, "a lost host: once in a round");
    trace.hears(LATE + 2 * ROUND + 3_001, 5, ack(&[]));
    assert_eq!(trace.lost(), 0);
}

#[test]
fn an_answer_to_a_request_counts_as_heard() {
    let mut trace = Trace::start(&[], 4);
    trace.hears(100, 5, ack(&[]));
    trace.dead.push(5);
    trace.asks_until(LATE);
    assert_eq!(trace.lost(), 1);
    let response = AgentInstallResp {
        request_id: RequestId(1),
        status: false,
        outcome: None,
        reject_reason: Reason::default(),
        reboot_required: false,
    };
    let message = Message::AgentInstallResp(response);
    trace.controller.on_message(at(LATE + 1), NodeId(5), peer(5), &message, &mut trace.actions);
    assert_eq!((trace.lost(), trace.host(5).last_heard), (0, at(LATE + 1)));
}

#[test]
fn a_host_that_answered_another_controller_just_before_the_round_has_time_to_answer() {
    let mut trace = Trace::start(&[], 4);
    trace.hears(100, 5, ack(&[]));
    trace.asks_until(LATE);
    // The next round begins within this time.
    let mut heard = LATE;
    while trace.controller.asks.round_began < at(LATE) {
        heard = trace.controller.poll_at().unwrap().as_millis() - 1;
        trace.hears(heard, 5, ack(&[]));
        trace.waits(heard + 1);
    }
    trace.dead.push(5);
    let asks = trace.asks_until(heard + ROUND);
    assert_eq!(asks[0], (heard + 30_000 / 8 + 125, 5), "an agent answers one controller each 3.75 s");
}

#[test]
fn this_nodes_own_agent_is_never_asked_nor_lost() {
    const OWN: u64 = 100;
    let mut trace = Trace::start(&[entry("A")], 4);
    trace.hears(100, OWN, ack(&[]));
    trace.answers(100, OWN, &[]);
    assert!(trace.asks(200, OWN).0.is_ok());
    trace.dead.push(OWN);
    assert_eq!(trace.asks_until(LATE), []);
    assert_eq!(trace.lost(), 0);
}

#[test]
fn a_host_that_is_new_is_asked_soon_and_once() {
    let mut trace = Trace::start(&[], 4);
    trace.asks_until(1_000);
    let heard = |trace: &mut Trace, now, host, nonce| {
        trace.hears(now, host, HelloAgentAck { nonce: Nonce(nonce), ..ack(&[]) });
    };
    heard(&mut trace, 1_000, 5, 7);
    trace.hears(1_100, 6, HelloAgentAck { request_id: RequestId(9), ..ack(&[]) });
    heard(&mut trace, 1_200, 5, 7);
    assert_eq!(
        trace.asks_until(ROUND - 2_000),
        [(1_255, 5), (1_356, 6)],
        "what it says meanwhile is no matter"
    );
    heard(&mut trace, ROUND - 2_000, 5, 8);
    heard(&mut trace, ROUND - 2_000, 5, 8);
    assert_eq!(trace.asks_until(ROUND - 1_500), [(ROUND - 2_000 + 255, 5)], "it has restarted");
    // A round asks it too.
    let begins = trace.controller.pacing().poll_at().unwrap().as_millis();
    heard(&mut trace, begins - 10, 5, 9);
    trace.asks_until(begins);
    heard(&mut trace, begins + 5, 5, 9);
    heard(&mut trace, begins + 5, 6, 7);
    assert_eq!(trace.asks_until(begins + 10_000), []);
}

/// It may have announced itself, as it began after the round was sent, or not get what is sent to a
/// group. Over TIPC, which tells no way, it was bound and got the round.
#[test]
fn one_that_is_new_in_a_window_is_asked_after_it() {
    for (way, asks) in [(None, 0), (Some(Way::Multicast), 1), (Some(Way::Unicast), 1)] {
        let mut trace = Trace::start(&[], 4);
        trace.hears(4, 5, ack(&[]));
        *trace.controller.host_way(NodeId(5)).unwrap() = way;
        let asked = trace.asks_until(20_000);
        assert_eq!(asked.len(), asks, "{way:?}: {asked:?}");
        assert!(asked.iter().all(|(at, _)| *at < 1_000), "{asked:?}");
    }
}

#[test]
fn one_that_was_lost_and_one_that_does_not_answer_are_asked_soon() {
    let mut trace = Trace::start(&[], 4);
    trace.asks_until(1_000);
    trace.dead.push(5);
    trace.hears(1_000, 5, ack(&[]));
    assert_eq!(trace.asks_until(9_000).len(), 24);
    assert_eq!(trace.lost(), 1);
    trace.dead.clear();
    trace.hears(9_000, 5, ack(&[]));
    assert_eq!(trace.asks_until(20_000), [(9_255, 5)]);
}

#[test]
fn a_thousand_hosts_that_start_at_once_are_asked_within_a_second_and_not_at_once() {
    const HOSTS: u64 = 1_000;
    let mut trace = Trace::start(&[], HOSTS as usize);
    while trace.actions.pop_front().is_some() {}
    let mut asks = Vec::new();
    for now in 2_000..4_000 {
        if now == 2_500 {
            for host in 0..HOSTS {
                let one = Peer::Ip(([10, 0, (host / 250) as u8, (host % 250) as u8], 7489).into());
                let message = Message::HelloAgentAck(ack(&[]));
                let from = NodeId(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(host + 1));
                trace.controller.on_message(at(now), from, one, &message, &mut trace.actions);
                while trace.actions.pop_front().is_some() {}
            }
        }
        trace.controller.on_timeout(at(now), &mut trace.random, &mut trace.actions);
        let mut heard = Vec::new();
        while let Some(action) = trace.actions.pop_front() {
            if let Action::Send(To::Node(node, one), Message::HelloAgent(_)) = action {
                heard.push((node, one));
            }
        }
        for (node, one) in heard {
            asks.push(now);
            trace.controller.on_message(
                at(now),
                node,
                one,
                &Message::HelloAgentAck(ack(&[])),
                &mut trace.actions,
            );
        }
        while trace.actions.pop_front().is_some() {}
    }
    assert_eq!(asks.len() as u64, HOSTS);
    let span = asks.last().unwrap() - asks[0];
    assert!((400..1_000).contains(&span) && *asks.last().unwrap() < 3_600, "{span} ms");
}

#[test]
fn nothing_else_that_is_received_starts_an_ask() {
    let mut trace = Trace::start(&[], 4);
    trace.hears(5, 5, ack(&[]));
    trace.asks_until(1_000);
    for now in 1_000..20_000 {
        let did = trace.hears(now, 5, HelloAgentAck { query_id: now, ..ack(&[]) });
        assert!(did.iter().all(|did| !did.starts_with("probe")), "{did:?}");
        assert_eq!(trace.asks_until(now), []);
    }
}

#[test]
fn a_thousand_hosts_behind_a_dead_switch_are_asked_in_the_pace_of_a_round() {
    const HOSTS: u64 = 1_000;
    let mut trace = Trace::start(&[], HOSTS as usize);
    let one = |host: u64| Peer::Ip(([10, 0, (host / 250) as u8, (host % 250) as u8], 7489).into());
    let answer = |trace: &mut Trace, now: u64| {
        for host in 0..HOSTS {
            let message = Message::HelloAgentAck(ack(&[]));
            trace.controller.on_message(
                at(now),
                NodeId(1_000 + host),
                one(host),
                &message,
                &mut trace.actions,
            );
        }
        assert!(trace.actions.pop_front().is_none());
    };
    // They answer at the end of two rounds, and never again.
    let mut now = 0;
    for _ in 0..2 {
        now += 1_000;
        answer(&mut trace, now);
        now = trace.controller.poll_at().unwrap().as_millis();
        while trace.controller.asks.round_began < at(now) {
            now = trace.controller.poll_at().unwrap().as_millis();
            trace.controller.on_timeout(at(now), &mut trace.random, &mut trace.actions);
            while trace.actions.pop_front().is_some() {}
        }
    }
    answer(&mut trace, now + 1_000);
    let mut asks = Vec::new();
    let mut lost_at = 0;
    let end = now + 2 * ROUND;
    while let Some(due) = trace.controller.poll_at().filter(|due| *due <= at(end)) {
        trace.controller.on_timeout(due, &mut trace.random, &mut trace.actions);
        while let Some(action) = trace.actions.pop_front() {
            if matches!(action, Action::Send(To::Node(..), Message::HelloAgent(_))) {
                asks.push(due.as_millis());
            }
        }
        if lost_at == 0 && trace.lost() == HOSTS as usize {
            lost_at = due.as_millis();
        }
    }
    assert!(asks.windows(9).all(|few| few[8] >= few[0] + 4), "more than two in a millisecond");
    // Asked once its window of 1.25 s has passed, each is lost as soon as one of few hosts.
    let round = asks[0] - 1_250 - 125;
    assert!((round + 3_145..round + 3_160).contains(&lost_at), "{} ms", lost_at - round);
    let until_lost = asks.iter().filter(|ask| **ask <= lost_at).count() as u64;
    assert!((3 * HOSTS..=4 * HOSTS).contains(&until_lost), "{until_lost}");
}

#[test]
fn asks_that_are_due_at_all_times_keep_the_budget() {
    const HOSTS: u64 = 400;
    let mut trace = Trace::start(&[], HOSTS as usize);
    for host in 0..HOSTS {
        let message = Message::HelloAgentAck(ack(&[]));
        let from = Peer::Ip(([10, 1, (host / 250) as u8, (host % 250) as u8], 7489).into());
        trace.controller.on_message(at(100), NodeId(1_000 + host), from, &message, &mut trace.actions);
    }
    // Three in each millisecond.
    for (number, host) in trace.controller.hosts.iter_mut().enumerate() {
        host.probe.plan(at(1_000 + number as u64 / 3), at(9_000));
    }
    trace.controller.asks.due = Some(at(1_000));
    let mut asks = 0;
    for now in 1_000..1_100 {
        trace.controller.on_timeout(at(now), &mut trace.random, &mut trace.actions);
        asks += core::iter::from_fn(|| trace.actions.pop_front()).count();
    }
    assert!((180..=2 * 100 + 4).contains(&asks), "{asks} in 100 ms");
}

#[test]
fn rounds_that_follow_each_other_too_soon_for_an_ask_put_no_look_off() {
    let mut trace = Trace::start(&[], 4);
    trace.hears(100, 5, ack(&[]));
    trace.dead.push(5);
    let hello_interval = Duration::from_millis(100);
    trace.controller.set_timers(at(100), ControllerTimers { hello_interval, ..TIMERS });
    assert_eq!(trace.asks_until(4_000).first().map(|(_, host)| *host), Some(5));
    assert_eq!(trace.lost(), 1);
}
