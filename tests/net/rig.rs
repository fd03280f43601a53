//! The rig's own tests: what the others rely on holds.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use thimble::types::{ClusterId, Digest, NodeId};
use thimble::wire::messages::{DropHostReq, Hello, Message};

use crate::filter::{Filter, Verdict, pass_all};
use crate::forge::Forger;
use crate::netns::{Hub, Namespace};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 84, 72);
const TO: SocketAddrV4 = SocketAddrV4::new(GROUP, 7488);

/// A socket in `node` that hears the group.
fn listen(node: &Namespace) -> UdpSocket {
    node.enter(|| {
        let socket = UdpSocket::bind(TO)?;
        socket.join_multicast_v4(&GROUP, &Ipv4Addr::UNSPECIFIED)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(socket)
    })
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let len = socket.recv(&mut buffer).expect("a datagram arrives");
    buffer[..len].to_vec()
}

#[test]
fn multicast_crosses_the_bridge() {
    need_root!();
    let hub = Hub::new("multicast");
    let (a, b) = (Namespace::new("multicast-a"), Namespace::new("multicast-b"));
    hub.join(&a, "to-a", "10.84.0.1");
    hub.join(&b, "to-b", "10.84.0.2");
    let (heard, said) = (listen(&b), a.enter(|| UdpSocket::bind("0.0.0.0:0")));
    said.send_to(b"to all", TO).unwrap();
    assert_eq!(receive(&heard), b"to all");
}

#[test]
fn the_filter_loses_doubles_and_reorders_as_it_is_told() {
    need_root!();
    let hub = Hub::new("filter");
    let (a, b) = (Namespace::new("filter-a"), Namespace::new("filter-b"));
    hub.join(&a, "to-a", "10.84.0.1");
    let mut verdicts = [Verdict::Lose, Verdict::Double, Verdict::Hold].into_iter();
    let to_b = move |_, _: &[u8]| verdicts.next().unwrap_or(Verdict::Pass);
    let _filter = Filter::join(&hub, &b, "to-b", "10.84.0.2", pass_all(), Box::new(to_b));
    let (heard, said) = (listen(&b), a.enter(|| UdpSocket::bind("0.0.0.0:0")));

    let mut forger = Forger::controller(ClusterId(1), NodeId(1), &[7; 32]);
    let mut datagrams = Vec::new();
    for counter in 0..4 {
        let hello = Message::Hello(Hello { op_counter: counter, digest: Digest([0; 32]) });
        datagrams.push(forger.encode(&hello, NodeId(0)));
        said.send_to(&datagrams[counter as usize], TO).unwrap();
    }
    // 0 is lost, 1 is doubled, 2 is held until 3 has passed.
    for expected in [1, 1, 3, 2] {
        assert_eq!(receive(&heard), datagrams[expected]);
    }

    // What is not thimble's passes: a whole TCP exchange, checksums and all.
    let listener = b.enter(|| std::net::TcpListener::bind("10.84.0.2:7489"));
    let mut stream = a.enter(|| std::net::TcpStream::connect("10.84.0.2:7489"));
    let (mut accepted, _) = listener.accept().unwrap();
    let sent = vec![0xA5; 300_000];
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stream, &sent));
    let mut received = Vec::new();
    std::io::Read::read_to_end(&mut accepted, &mut received).unwrap();
    writer.join().unwrap().unwrap();
    assert!(received.len() == 300_000 && received.iter().all(|byte| *byte == 0xA5));

    let last = forger.encode(&Message::DropHostReq(DropHostReq { host: NodeId(9) }), NodeId(0));
    said.send_to(&last, TO).unwrap();
    assert_eq!(receive(&heard), last);
}
