//! Tests of the test rig itself: the bridge and the filter that other tests rely on.

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
    said.send(b"to all", TO);
    assert_eq!(heard.recv().0, b"to all");
}

#[test]
fn the_filter_loses_doubles_and_reorders_datagrams() {
    need_root!();
    need_udp!("a TIPC link repairs what a wire does to it");
    let hub = Hub::new();
    let (a, b) = (Namespace::new(), Namespace::new());
    hub.join(&a, "to-a", Address::of(1));
    let mut verdicts = [Verdict::Lose, Verdict::Double, Verdict::Hold].into_iter();
    let to_b = move |_, _: &[u8]| verdicts.next().unwrap_or(Verdict::Pass);
    let _filter = Filter::join(&hub, &b, "to-b", Address::of(2), pass_all(), Box::new(to_b));
    let (heard, said) = (Datagrams::receiving(&b, Role::Controller), Datagrams::new(&a));

    let mut forger = Forger::controller(ClusterId(1), NodeId(1), &[7; 32]);
    let mut datagrams = Vec::new();
    for counter in 0..4 {
        let hello = Message::Hello(Hello { op_counter: counter, digest: Digest([0; 32]) });
        datagrams.push(forger.encode(&hello, NodeId(0)));
        said.send(&datagrams[counter as usize], TO);
    }
    // 0 is lost, 1 is doubled, 2 is held until 3 has passed.
    for expected in [1, 1, 3, 2] {
        assert_eq!(heard.recv().0, datagrams[expected]);
    }

    // Other traffic passes unchanged: a whole TCP exchange, checksums included.
    let listener = b.enter(|| std::net::TcpListener::bind("10.84.0.2:7489")).unwrap();
    let mut stream = a.enter(|| std::net::TcpStream::connect("10.84.0.2:7489")).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let sent = vec![0xA5; 300_000];
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stream, &sent));
    let mut received = Vec::new();
    std::io::Read::read_to_end(&mut accepted, &mut received).unwrap();
    writer.join().unwrap().unwrap();
    assert!(received.len() == 300_000 && received.iter().all(|byte| *byte == 0xA5));

    let last = forger.encode(&Message::DropHostReq(DropHostReq { host: NodeId(9) }), NodeId(0));
    said.send(&last, TO);
    assert_eq!(heard.recv().0, last);
}
