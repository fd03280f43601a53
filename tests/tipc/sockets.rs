//! Bindings, and messages to them.

use std::io::ErrorKind;

use thimble::tipc::address::{Destination, Scope, ServiceRange, SocketAddress};
use thimble::tipc::socket::{MESSAGE_BYTES, Received, Socket};
use thimble::tipc::topology::SubscriberEvent;

use crate::net::new_namespace;
use crate::two_nodes;
use crate::watched::{Told, Watched, all, wait_until};

const TYPE: u32 = 18_888;
const WATCH: [u8; 8] = *b"watching";

pub fn range(lower: u32, upper: u32) -> ServiceRange {
    ServiceRange { service_type: TYPE, lower, upper }
}

fn service(instance: u32) -> Destination {
    Destination::Service { service_type: TYPE, instance, domain: 0 }
}

/// Waits for the next message.
fn receive(socket: &Socket, buffer: &mut [u8]) -> Received {
    wait_until("a message arrives", || match socket.recv_from(buffer) {
        Ok(received) => Some(received),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            None
        }
    })
}

fn found(words: &[SubscriberEvent]) -> Vec<(u32, u32)> {
    let found = words.iter().filter_map(Told::event).map(|event| (event.found_lower, event.found_upper));
    let mut found: Vec<_> = found.collect();
    found.sort_unstable();
    found
}

#[test]
fn a_socket_can_be_bound_to_several_ranges_and_twice_to_one() {
    let pair = two_nodes!();
    let socket = pair.one.namespace.enter(Socket::rdm).unwrap();
    pair.two.namespace.enter(|| {
        let mut watched = Watched::subscribed(0, &[all(TYPE, WATCH)]);
        assert_eq!(watched.settled(WATCH).len(), 1, "nobody is bound");
        for (lower, upper) in [(6, 53), (6, 53), (54, 55), (100, 100)] {
            socket.bind(&range(lower, upper), Scope::Cluster).unwrap();
        }
        let published = watched.until("all is published", |word| word.published() == Some(100));
        assert_eq!(found(&published), [(6, 53), (6, 53), (54, 55), (100, 100)]);
        let own = socket.address().unwrap();
        assert_eq!(own.node, pair.one.address);
        for event in published.iter().filter_map(Told::event) {
            assert_eq!(event.port, own);
        }

        socket.unbind(&range(54, 55), Scope::Cluster).unwrap();
        assert_eq!(found(&[watched.next("one is withdrawn")]), [(54, 55)]);
        // It was bound twice: the other binding stays.
        socket.unbind(&range(6, 53), Scope::Cluster).unwrap();
        assert_eq!(found(&[watched.next("one is withdrawn")]), [(6, 53)]);
        socket.unbind_all().unwrap();
        let words = [watched.next("the rest is withdrawn"), watched.next("the rest is withdrawn")];
        assert_eq!(found(&words), [(6, 53), (100, 100)]);
        assert!(words.iter().all(|word| word.withdrawn().is_some()));
        assert_eq!(watched.rest(), []);
    });
}

#[test]
fn a_binding_with_node_scope_is_not_seen_by_other_nodes() {
    let pair = two_nodes!();
    let socket = pair.one.namespace.enter(Socket::rdm).unwrap();
    socket.bind(&range(1, 1), Scope::Node).unwrap();
    socket.bind(&range(2, 2), Scope::Cluster).unwrap();
    pair.one.namespace.enter(|| {
        let words = Watched::subscribed(0, &[all(TYPE, WATCH)]).settled(WATCH);
        assert_eq!(found(&words), [(1, 1), (2, 2)]);
    });
    pair.two.namespace.enter(|| {
        let mut watched = Watched::subscribed(0, &[all(TYPE, WATCH)]);
        watched.until("it is seen", |word| word.published() == Some(2));
        assert!(watched.rest().iter().all(|word| word.published().is_none()));
        let mine = Socket::rdm().unwrap();
        assert_eq!(mine.send_to(b"?", &service(1)).unwrap_err().kind(), ErrorKind::HostUnreachable);
        assert_eq!(mine.send_to(b"?", &service(2)).unwrap(), 1);
    });
    // It was bound with the other scope.
    let error = socket.unbind(&range(1, 1), Scope::Cluster).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    socket.unbind(&range(1, 1), Scope::Node).unwrap();
}

#[test]
fn reserved_types_and_backward_ranges_cannot_be_bound() {
    let pair = two_nodes!();
    let socket = pair.one.namespace.enter(Socket::rdm).unwrap();
    let reserved = socket.bind(&ServiceRange::one(63, 1), Scope::Cluster).unwrap_err();
    assert_eq!(reserved.kind(), ErrorKind::PermissionDenied);
    assert_eq!(socket.bind(&range(2, 1), Scope::Cluster).unwrap_err().kind(), ErrorKind::InvalidInput);
    socket.bind(&ServiceRange::one(64, 1), Scope::Cluster).unwrap();
}

#[test]
fn messages_reach_a_service_a_socket_and_all_sockets_of_a_range() {
    let pair = two_nodes!();
    let [one, two] = [&pair.one, &pair.two].map(|node| node.namespace.enter(Socket::rdm).unwrap());
    one.bind(&range(1, 10), Scope::Cluster).unwrap();
    two.bind(&range(5, 20), Scope::Cluster).unwrap();
    pair.one.namespace.enter(|| {
        Watched::subscribed(0, &[all(TYPE, WATCH)])
            .until("both are bound", |word| word.published() == Some(5));
    });
    let mut buffer = [0; 100];

    assert_eq!(one.send_to(b"a service", &service(15)).unwrap(), 9);
    let heard = receive(&two, &mut buffer);
    assert_eq!(&buffer[..heard.len], b"a service");
    assert_eq!(heard.from, Some(one.address().unwrap()));
    assert_eq!(heard.destination, Some(range(15, 15)));
    assert_eq!((heard.undelivered, heard.is_cut), (None, false));

    let back = Destination::Socket(heard.from.unwrap());
    assert_eq!(two.send_to(b"and back", &back).unwrap(), 8);
    let heard = receive(&one, &mut buffer);
    assert_eq!(&buffer[..heard.len], b"and back");
    assert_eq!((heard.from, heard.destination), (Some(two.address().unwrap()), None));

    assert_eq!(one.send_to(b"everyone", &Destination::Range(range(10, 10))).unwrap(), 8);
    for socket in [&one, &two] {
        let heard = receive(socket, &mut buffer);
        assert_eq!(&buffer[..heard.len], b"everyone");
        assert_eq!(heard.from, Some(one.address().unwrap()));
    }
    let there = Destination::Service { service_type: TYPE, instance: 7, domain: pair.two.address };
    for _ in 0..4 {
        one.send_to(b"to two", &there).unwrap();
        assert_eq!(receive(&two, &mut buffer).len, 6);
    }
    assert_eq!(one.recv_from(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_message_has_a_maximum_length_and_a_truncated_one_is_marked() {
    let pair = two_nodes!();
    let [one, two] = [&pair.one, &pair.two].map(|node| node.namespace.enter(Socket::rdm).unwrap());
    let to = Destination::Socket(two.address().unwrap());
    let mut message = vec![7; MESSAGE_BYTES];
    assert_eq!(one.send_to(&message, &to).unwrap(), MESSAGE_BYTES);
    let mut buffer = vec![0; MESSAGE_BYTES + 1];
    let heard = receive(&two, &mut buffer);
    assert_eq!((heard.len, heard.is_cut), (MESSAGE_BYTES, false));
    assert_eq!(buffer[..heard.len], message);

    message.push(7);
    assert_eq!(one.send_to(&message, &to).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));

    one.send_to(&message[..101], &to).unwrap();
    let heard = receive(&two, &mut buffer[..100]);
    assert_eq!((heard.len, heard.is_cut), (100, true));
}

#[test]
fn without_a_bearer_a_node_has_no_address() {
    let lonely = match new_namespace() {
        Ok(namespace) => namespace,
        Err(reason) => return crate::skip(module_path!(), &reason),
    };
    let socket = lonely.enter(Socket::rdm).unwrap();
    assert_eq!(socket.address().unwrap().node, 0);
    // It can still send to itself.
    let me = Destination::Socket(SocketAddress { port: socket.address().unwrap().port, node: 0 });
    socket.send_to(b"me", &me).unwrap();
    assert_eq!(receive(&socket, &mut [0; 2]).len, 2);
}
