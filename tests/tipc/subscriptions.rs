//! Events of the topology service about services.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration as Span, Instant as Clock};

use thimble::tipc::address::{Destination, Scope, ServiceRange};
use thimble::tipc::event::{EventKind, TopologyEvent};
use thimble::tipc::socket::Socket;
use thimble::tipc::stream::Stream;
use thimble::tipc::subscription::{Filter, Subscription, Timeout};
use thimble::tipc::topology::SubscriberEvent;

use crate::net::Node;
use crate::two_nodes;
use crate::watched::{Told, Watched, all, wait_until};

const TYPE: u32 = 18_888;
const TEXTBOOK: Subscription = Subscription {
    range: ServiceRange { service_type: TYPE, lower: 0, upper: 100 },
    timeout: Timeout::Forever,
    filter: Filter::Ports,
    handle: *b"by ports",
};

fn bound(node: &Node, ranges: &[(u32, u32)]) -> Socket {
    let socket = node.namespace.enter(Socket::rdm).unwrap();
    for (lower, upper) in ranges {
        let range = ServiceRange { service_type: TYPE, lower: *lower, upper: *upper };
        socket.bind(&range, Scope::Cluster).unwrap();
    }
    socket
}

fn server(node: &Node) -> [Socket; 2] {
    [bound(node, &[(6, 53), (6, 53), (54, 55)]), bound(node, &[(54, 55)])]
}

fn of<'w>(words: &'w [SubscriberEvent], wanted: &Subscription) -> Vec<&'w SubscriberEvent> {
    words.iter().filter(|word| word.handle() == Some(wanted.handle)).collect()
}

#[test]
fn overlapping_servers_give_the_events_of_the_textbook() {
    let pair = two_nodes!();
    let service = Subscription { filter: Filter::Service, handle: *b"services", ..TEXTBOOK };
    let servers = [&pair.one, &pair.two].map(server);
    pair.one.namespace.enter(|| {
        let mut watched = Watched::subscribed(0, &[TEXTBOOK, service]);
        let mut words = Vec::new();
        wait_until("both nodes' sockets are seen", || {
            words.extend(watched.rest());
            (of(&words, &TEXTBOOK).iter().filter(|word| word.published().is_some()).count() == 8)
                .then_some(())
        });
        let ports = of(&words, &TEXTBOOK);
        for (node, [a, b]) in [&pair.one, &pair.two].into_iter().zip(&servers) {
            for (socket, count) in [(a, 3), (b, 1)] {
                let address = socket.address().unwrap();
                assert_eq!(address.node, node.address);
                let its = ports.iter().filter(|word| word.event().is_some_and(|event| event.port == address));
                assert_eq!(its.count(), count);
            }
        }
        let first: Vec<u32> = of(&words, &service).iter().filter_map(|word| word.published()).collect();
        assert_eq!(first, [6, 54], "each range once, however many sockets are bound to it");

        let [one, two] = servers;
        for (server, expected) in [(two, vec![]), (one, vec![6, 54])] {
            drop(server);
            let (mut ports, mut services) = (0, Vec::new());
            while ports < 4 || services.len() < expected.len() {
                for word in watched.rest() {
                    if word.handle() == Some(TEXTBOOK.handle) {
                        ports += usize::from(word.withdrawn().is_some());
                    } else {
                        services.extend(word.withdrawn());
                    }
                }
            }
            services.sort_unstable();
            assert_eq!((ports, services), (4, expected));
        }
        assert_eq!(watched.rest(), []);
    });
}

#[test]
fn a_subscription_of_300_ms_has_no_events_after_its_timeout() {
    let pair = two_nodes!();
    let short = Subscription { timeout: Timeout::Ms(300), ..TEXTBOOK };
    pair.one.namespace.enter(|| {
        let mut watched = Watched::subscribed(0, &[]);
        let started = Clock::now();
        watched.subscribe(short);
        let _socket = bound(&pair.one, &[(1, 1)]);
        let words = watched.until("it times out", |word| *word == SubscriberEvent::TimedOut(short.handle));
        let took = started.elapsed();
        assert!(took >= Span::from_millis(299), "after {took:?}");
        assert_eq!(words.iter().filter(|word| word.published() == Some(1)).count(), 1);
        let _late = bound(&pair.one, &[(2, 2)]);
        assert_eq!(watched.rest(), []);
        assert!(!watched.watcher.cancel(short.handle), "it has ended");
    });
}

#[test]
fn a_cancelled_subscription_has_no_events_and_others_on_its_connection_do() {
    let pair = two_nodes!();
    let other = Subscription { handle: *b"other   ", ..TEXTBOOK };
    let third = Subscription { handle: *b"third   ", ..TEXTBOOK };
    pair.one.namespace.enter(|| {
        let mut watched = Watched::subscribed(0, &[TEXTBOOK, other]);
        watched.settled(other.handle);
        let _first = bound(&pair.one, &[(1, 1)]);
        let words = watched.rest();
        for wanted in [&TEXTBOOK, &other] {
            let told = of(&words, wanted);
            assert!(matches!(told[..], [SubscriberEvent::Published(..)]), "one event each: {told:?}");
            assert_eq!(told[0].event().unwrap().subscription, *wanted, "the event contains the subscription");
        }

        assert!(watched.watcher.cancel(TEXTBOOK.handle));
        let second = bound(&pair.one, &[(2, 2)]);
        // One more subscription while events arrive.
        watched.subscribe(third);
        let socket = bound(&pair.two, &[(3, 3)]);
        let mut words = watched.until("the third has the event too", |word| {
            word.handle() == Some(third.handle) && word.published() == Some(3)
        });
        drop((second, socket));
        let mut withdrawn = 0;
        while withdrawn < 4 {
            let more = watched.rest();
            withdrawn += more.iter().filter(|word| word.withdrawn().is_some()).count();
            words.extend(more);
        }
        assert_eq!(of(&words, &TEXTBOOK), Vec::<&SubscriberEvent>::new(), "it is cancelled");
        for wanted in [&other, &third] {
            let told = of(&words, wanted);
            for instance in [2, 3] {
                assert_eq!(told.iter().filter(|word| word.published() == Some(instance)).count(), 1);
                assert_eq!(told.iter().filter(|word| word.withdrawn() == Some(instance)).count(), 1);
            }
        }
        // The kernel has removed it too: it can be made again.
        watched.subscribe(TEXTBOOK);
        let words = watched.settled(TEXTBOOK.handle);
        assert_eq!(of(&words, &TEXTBOOK).iter().filter(|word| word.published() == Some(1)).count(), 1);
    });
}

#[test]
fn the_service_answers_in_the_byte_order_of_the_subscription() {
    let pair = two_nodes!();
    let _socket = bound(&pair.one, &[(6, 53)]);
    let mut message = TEXTBOOK.encode();
    for number in message[..20].chunks_exact_mut(4) {
        number.reverse();
    }
    pair.one.namespace.enter(|| {
        let socket = Socket::seqpacket().unwrap();
        socket.connect(&Destination::Service { service_type: 1, instance: 1, domain: 0 }).unwrap();
        let mut connection = Stream::from(OwnedFd::from(socket));
        wait_until("it is connected", || connection.peer().ok());
        connection.write_all(&message).unwrap();
        let mut bytes = [0; 100];
        let len = wait_until("an event", || match connection.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            read => Some(read.unwrap()),
        });
        assert_eq!(bytes[..4], 1_u32.swap_bytes().to_ne_bytes());
        let event = TopologyEvent::decode(&bytes[..len]).unwrap();
        assert_eq!((event.kind, event.found_lower, event.found_upper), (EventKind::Published, 6, 53));
        assert_eq!((event.port.node, event.subscription), (pair.one.address, TEXTBOOK));
    });
}

#[test]
fn existing_bindings_are_reported_before_the_subscription_is_settled() {
    let pair = two_nodes!();
    let ranges: Vec<(u32, u32)> = (0..200).map(|instance| (instance, instance)).collect();
    let _socket = bound(&pair.one, &ranges);
    pair.one.namespace.enter(|| {
        let words = Watched::subscribed(0, &[all(TYPE, TEXTBOOK.handle)]).settled(TEXTBOOK.handle);
        let mut told: Vec<u32> = words.iter().filter_map(|word| word.published()).collect();
        told.sort_unstable();
        assert!(told.iter().copied().eq(0..200), "{} of 200", told.len());
    });
}
