//! Tests of the test rig itself: the bridge and the filter that other tests rely on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use thimble::types::{ClusterId, Digest, NodeId};
use thimble::wire::frame::Role;
use thimble::wire::messages::{DropHostReq, Hello, Message};

use crate::filter::{Filter, Verdict, pass_all};
use crate::forge::Forger;
use crate::netns::{Hub, Namespace};
use crate::over::{Address, Datagrams, To};

const TO: To = To::All(Role::Controller);

#[test]
fn multicast_crosses_the_bridge() {
    need_root!();
    let hub = Hub::new();
    let (a, b) = (Namespace::new(), Namespace::new());
    hub.join(&a, "to-a", Address::of(1));
    hub.join(&b, "to-b", Address::of(2));
    let (heard, said) = (Datagrams::receiving(&b, Role::Controller), Datagrams::new(&a));
    wait_for_the_way(&said, &heard);
    said.send(b"to all", TO);
    assert_eq!(next(&heard), b"to all");
}

/// What is sent until something arrives.
const PROBE: &[u8] = b"is the way open?";

/// A port of a bridge forwards only some time after its link is up, and what comes before that
/// is lost.
fn wait_for_the_way(said: &Datagrams, heard: &Datagrams) {
    let is_open = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Bounded, should nothing ever arrive.
            for _ in 0..6_000 {
                if is_open.load(Ordering::SeqCst) {
                    return;
                }
                said.send(PROBE, TO);
                thread::sleep(Duration::from_millis(20));
            }
        });
        heard.recv();
        is_open.store(true, Ordering::SeqCst);
    });
}

/// The next datagram that is no probe.
fn next(heard: &Datagrams) -> Vec<u8> {
    loop {
        let datagram = heard.recv().0;
        if datagram != PROBE {
            return datagram;
        }
    }
}

#[test]
fn the_filter_loses_doubles_and_reorders_datagrams() {
    need_root!();
    need_udp!("a TIPC link repairs what a wire does to it");
    let hub = Hub::new();
    let (a, b) = (Namespace::new(), Namespace::new());
    hub.join(&a, "to-a", Address::of(1));
    let mut verdicts = [Verdict::Lose, Verdict::Double, Verdict::Hold].into_iter();
    let is_open = Arc::new(AtomicBool::new(false));
    let judges = Arc::clone(&is_open);
    let to_b = move |_, _: &[u8]| {
        let verdict = judges.load(Ordering::SeqCst).then(|| verdicts.next()).flatten();
        verdict.unwrap_or(Verdict::Pass)
    };
    let _filter = Filter::join(&hub, &b, "to-b", Address::of(2), pass_all(), Box::new(to_b));
    let (heard, said) = (Datagrams::receiving(&b, Role::Controller), Datagrams::new(&a));

    let mut forger = Forger::controller(ClusterId(1), NodeId(1), &[7; 32]);
    wait_for_the_way(&said, &heard);
    is_open.store(true, Ordering::SeqCst);
    let mut datagrams = Vec::new();
    for counter in 0..4 {
        let hello = Message::Hello(Hello { op_counter: counter, digest: Digest([0; 32]) });
        datagrams.push(forger.encode(&hello, NodeId(0)));
        said.send(&datagrams[counter as usize], TO);
    }
    // 0 is lost, 1 is doubled, 2 is held until 3 has passed.
    for expected in [1, 1, 3, 2] {
        assert_eq!(next(&heard), datagrams[expected]);
    }

    // Other traffic passes unchanged: a whole TCP exchange, checksums included.
    let at = (Address::of(2).to_string(), 7489);
    let at = (at.0.as_str(), at.1);
    let listener = b.enter(|| std::net::TcpListener::bind(at)).unwrap();
    let mut stream = a.enter(|| std::net::TcpStream::connect(at)).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let sent = vec![0xA5; 300_000];
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stream, &sent));
    let mut received = Vec::new();
    std::io::Read::read_to_end(&mut accepted, &mut received).unwrap();
    writer.join().unwrap().unwrap();
    assert!(received.len() == 300_000 && received.iter().all(|byte| *byte == 0xA5));

    let last = forger.encode(&Message::DropHostReq(DropHostReq { host: NodeId(9) }), NodeId(0));
    said.send(&last, TO);
    assert_eq!(next(&heard), last);
}
