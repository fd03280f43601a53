//! What people do to a transmission to 1,000 hosts: an operator who wants another rate, and somebody who sends what
//! is not of the file.

use super::plays::{HOSTS, ID, MIB, crowd};
use super::*;

impl Crowd {
    /// Source packets of a controller in any second from then on, as bytes.
    fn fastest_since(&self, controller: usize, since: Instant) -> u64 {
        let sent: Vec<u64> = self.controllers[controller].sent_at.clone();
        let sent: Vec<u64> = sent.into_iter().filter(|at| *at > since.as_millis()).collect();
        let in_a_second = |(first, at): (usize, &u64)| {
            let rest = &sent[first..];
            rest.partition_point(|other| *other < at + 1_000)
        };
        let most = sent.iter().enumerate().map(in_a_second).max().unwrap_or(0);
        (most * (PACKET_BYTES + ENVELOPE_BYTES)) as u64
    }
}

/// The limit is changed while packets are sent.
#[test]
fn a_changed_rate_counts_at_once() {
    const SLOW: u64 = 400_000;
    let mut crowd = crowd(MIB, 10);
    crowd.play_until(|crowd| crowd.source(0) >= 300);
    let changed = crowd.now;
    crowd.controllers[0].sender.as_mut().expect("it sends").set_most(SLOW);
    crowd.play_to_the_end(0);
    assert_eq!(crowd.complete(), HOSTS);
    let fastest = crowd.fastest_since(0, changed);
    // With what may be sent at once.
    assert!((SLOW / 2..SLOW + 20_000).contains(&fastest), "{fastest}");
    crowd.check_over();
}

/// An operator stops it and sends it again at another rate: what hosts have stays.
#[test]
fn one_that_is_stopped_and_sent_again_at_another_rate_goes_on() {
    const SLOW: u64 = 1_000_000;
    let mut crowd = crowd(2 * MIB, 10);
    crowd.play_until(|crowd| crowd.source(0) >= 1_400);
    crowd.controllers[0].sender.as_mut().expect("it sends").stop();
    assert_eq!(crowd.play_to_the_end(0), Ending::Stopped);
    assert!(crowd.receiving() <= 2, "few miss both farewells");
    let changed = crowd.now;
    crowd.send(0, ID + 1, SLOW);
    crowd.play_to_the_end(0);
    assert_eq!(crowd.complete(), HOSTS);
    assert!(crowd.fastest_since(0, changed) < SLOW + 20_000);
    assert!(crowd.ratio() < 2.0, "{}", crowd.ratio());
    crowd.check_over();
}

/// One false packet with the number of a true one, before that: each host that hears it loses that block and no
/// other, and gets it again.
#[test]
fn a_false_packet_costs_its_block() {
    for part in [Part::Source { block: 1, number: 500 }, Part::Repair { block: 1, number: 3 }] {
        let mut crowd = crowd(2 * MIB, 10);
        crowd.play_until(|crowd| crowd.source(0) >= 1_200);
        crowd.inject(ID, part);
        let ending = crowd.play_to_the_end(0);
        assert!(crowd.hosts.iter().all(|host| host.poisoned <= 1 && !host.has_left()));
        let poisoned = crowd.hosts.iter().filter(|host| host.poisoned > 0).count();
        assert!(poisoned * 100 >= HOSTS * 95, "{poisoned}");
        assert_eq!(crowd.complete(), HOSTS, "{ending:?}");
        // The block once more, and no more than that.
        assert!(crowd.ratio() < 1.65, "{}", crowd.ratio());
        crowd.check_over();
    }
}

/// A false proof costs nothing, and a packet of another transmission's number neither.
#[test]
fn what_hosts_refuse_costs_nothing() {
    let mut crowd = crowd(MIB, 10);
    crowd.play_until(|crowd| !crowd.hosts.iter().any(|host| host.receives().is_none()));
    for number in 0..100 {
        crowd.inject(ID, Part::Proof { section: 0 });
        crowd.inject(ID - 1, Part::Source { block: 0, number });
    }
    crowd.play_to_the_end(0);
    assert_eq!(crowd.complete(), HOSTS);
    assert!(crowd.hosts.iter().all(|host| host.poisoned == 0));
    assert!(crowd.ratio() < 1.06, "{}", crowd.ratio());
    crowd.check_over();
}

/// Half of the hosts hear somebody who poisons whatever is sent, for ever: they go over to sessions after a few
/// blocks, and the others have the file.
#[test]
fn those_that_are_poisoned_again_and_again_go_over_to_sessions() {
    let mut crowd = crowd(2 * MIB, 0);
    let (mut at, mut seen) = (Instant::default(), 0);
    while crowd.ending(0).is_none() {
        crowd.play_until(|crowd| crowd.now > at || crowd.ending(0).is_some());
        at = crowd.now;
        // Only those hear it.
        crowd.cut_off = HOSTS / 2..HOSTS;
        for block in 0..2 {
            crowd.inject(ID, Part::Source { block, number: (seen % 911) as u16 });
            seen += 7;
        }
        crowd.cut_off = 0..0;
        let left = crowd.hosts.iter().filter(|host| host.has_left()).count();
        assert!(left <= HOSTS / 2, "others leave");
    }
    let most = usize::from(thimble::fsm::spread::receiver::POISONED);
    for (number, host) in crowd.hosts.iter().enumerate() {
        assert!(host.poisoned <= most, "{number}: {}", host.poisoned);
        assert!(number < HOSTS / 2 || host.has_all(&crowd.file.hash, crowd.file.cut), "{number}");
        assert!(number >= HOSTS / 2 || host.poisoned > 0, "{number} was not reached");
    }
    assert!(crowd.ratio() < 1.6, "{}", crowd.ratio());
    crowd.check_over();
}

/// Two hosts say that they lack all, whatever is sent: that costs bytes, and no other host its file.
#[test]
fn hosts_that_lie_cost_no_other_its_file() {
    // Where much is lost, most of what may be sent is for the others.
    for loss in [50, 120] {
        let mut crowd = crowd(2 * MIB, loss);
        crowd.liars = 0..2;
        crowd.play_to_the_end(0);
        assert_eq!(crowd.complete(), HOSTS, "{loss}");
        assert!(crowd.ratio() < 1.7, "{}", crowd.ratio());
        crowd.check_over();
    }
}
