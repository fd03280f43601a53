//! Events about nodes and links, and lost connections to the service.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;

use thimble::tipc::address::{Destination, LINK_STATE, NODE_STATE, ServiceRange};
use thimble::tipc::event::{self, TopologyEvent};
use thimble::tipc::socket::Socket;
use thimble::tipc::stream::Stream;
use thimble::tipc::subscription::{Filter, Handle, Subscription, Timeout};
use thimble::tipc::topology::SubscriberEvent;

use crate::net::new_namespace;
use crate::two_nodes;
use crate::watched::{LONG, Told, Watched, all};

const NODES: Handle = *b"nodes   ";
const LINKS: Handle = *b"links   ";
const A: Handle = *b"handle A";
const B: Handle = *b"handle B";

/// `TIPC_MAX_SUBSCR` of net/tipc/subscr.h: the most that all connections of a namespace
/// may have.
pub const SUBSCRIPTIONS: u32 = 65_535;

fn is_of(word: &SubscriberEvent, handle: Handle) -> bool {
    word.handle() == Some(handle)
}

#[test]
fn nodes_and_links_are_reported_as_they_come_and_go() {
    let pair = two_nodes!();
    let two = pair.two.address;
    pair.one.namespace.enter(|| {
        let mut watched = Watched::subscribed(0, &[all(NODE_STATE, NODES), all(LINK_STATE, LINKS)]);
        let words = watched.settled(LINKS);
        let told = |handle| words.iter().filter(move |word| is_of(word, handle)).filter_map(Told::published);
        assert!(told(NODES).any(|node| node == two));
        assert_eq!(told(LINKS).collect::<Vec<_>>(), [two]);

        pair.cut();
        let (mut node, mut link) = (false, false);
        watched.until("both are gone", |word| {
            node |= is_of(word, NODES) && word.withdrawn() == Some(two);
            link |= is_of(word, LINKS) && word.withdrawn() == Some(two);
            node && link
        });
        pair.mend();
        let (mut node, mut link) = (false, false);
        watched.until("both are back", |word| {
            node |= is_of(word, NODES) && word.published() == Some(two);
            link |= is_of(word, LINKS) && word.published() == Some(two);
            node && link
        });
    });
}

#[test]
fn another_node_s_service_reports_its_links_and_is_subscribed_to_again_after_a_gap() {
    let pair = two_nodes!();
    pair.one.namespace.enter(|| {
        let mut watched = Watched::subscribed(pair.two.address, &[all(LINK_STATE, LINKS)]);
        let linked: Vec<u32> = watched.settled(LINKS).iter().filter_map(Told::published).collect();
        assert_eq!(linked, [pair.one.address], "seen from the other end");

        pair.cut();
        assert_eq!(watched.next("the connection is lost"), SubscriberEvent::Gap);
        assert!(!watched.watcher.subscriber().is_settled());
        // Meanwhile each attempt to connect fails, and the reason is known.
        let mut error = None;
        while error.is_none() {
            assert_eq!(watched.watcher.turn(crate::watched::now()), None);
            error = watched.watcher.last_error().filter(|error| error.kind() == ErrorKind::HostUnreachable);
            std::thread::yield_now();
        }
        pair.mend();
        let linked: Vec<u32> = watched.settled(LINKS).iter().filter_map(Told::published).collect();
        assert_eq!(linked, [pair.one.address]);
        assert_eq!((watched.watcher.subscriber().gaps(), watched.watcher.refused()), (1, 0));
        assert!(watched.watcher.subscriber().is_settled());
    });
}

/// Makes that many subscriptions, which last until the stream is dropped.
pub fn hog(subscriptions: u32) -> Stream {
    let socket = Socket::seqpacket().unwrap();
    socket.connect(&Destination::Service { service_type: 1, instance: 1, domain: 0 }).unwrap();
    let mut connection = Stream::from(OwnedFd::from(socket));
    crate::watched::wait_until("it is connected", || connection.peer().ok());
    connection.set_blocking(LONG).unwrap();
    let one = Subscription {
        range: ServiceRange::one(64, 0),
        timeout: Timeout::Forever,
        filter: Filter::Ports,
        handle: *b"hog     ",
    };
    for _ in 0..subscriptions {
        connection.write_all(&one.encode()).unwrap();
    }
    // Its timeout shows that the service has accepted all before it.
    let last = Subscription { timeout: Timeout::Ms(1), ..one };
    connection.write_all(&last.encode()).unwrap();
    let mut bytes = [0; event::BYTES];
    let len = connection.read(&mut bytes).unwrap();
    assert_eq!(TopologyEvent::decode(&bytes[..len]).unwrap().subscription, last);
    connection
}

#[test]
fn a_subscription_upon_which_the_service_closes_the_connection_is_set_aside() {
    let lonely = match new_namespace() {
        Ok(namespace) => namespace,
        Err(reason) => return crate::skip(module_path!(), &reason),
    };
    lonely.enter(|| {
        let mut watched = Watched::subscribed(0, &[all(NODE_STATE, A)]);
        watched.settled(A);
        // There is room for one more, but not for a marker after it.
        let hog = hog(SUBSCRIPTIONS - 2);
        watched.subscribe(all(LINK_STATE, B));
        assert_eq!(watched.next("it is closed upon B"), SubscriberEvent::Gap);
        let words =
            watched.until("it is closed upon B again", |word| matches!(word, SubscriberEvent::SetAside(_)));
        assert_eq!(
            words.iter().filter(|word| **word == SubscriberEvent::Settled(A)).count(),
            1,
            "A first: {words:?}"
        );
        assert_eq!(words[words.len() - 2..], [SubscriberEvent::Gap, SubscriberEvent::SetAside(B)]);
        // A continues without it.
        watched.settled(A);
        let subscriber = watched.watcher.subscriber();
        assert_eq!((subscriber.set_aside(), subscriber.gaps()), (1, 2));
        assert!(subscriber.is_settled());
        // Once there is room, B can be subscribed to anew.
        drop(hog);
        assert!(watched.watcher.cancel(B));
        watched.subscribe(all(LINK_STATE, B));
        watched.settled(B);
        assert_eq!(watched.watcher.subscriber().gaps(), 2);
    });
}
