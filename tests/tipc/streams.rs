//! Streams: opened, refused, ended, reset.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration as Span, Instant as Clock};

use mio::{Events, Interest, Poll, Token};
use thimble::tipc::address::{Destination, Scope, ServiceRange, SocketAddress};
use thimble::tipc::stream::{Listener, Stream};

use crate::net::Pair;
use crate::two_nodes;
use crate::watched::{LONG, Told, Watched, all, wait_until};

const TYPE: u32 = 18_889;

fn service(instance: u32) -> Destination {
    Destination::Service { service_type: TYPE, instance, domain: 0 }
}

/// Listens on `two`, and waits until `one` sees that.
fn listen(pair: &Pair) -> Listener {
    let listen = || Listener::bind(&ServiceRange::one(TYPE, 1), Scope::Cluster);
    let listener = pair.two.namespace.enter(listen).unwrap();
    pair.one.namespace.enter(|| {
        Watched::subscribed(0, &[all(TYPE, *b"listener")])
            .until("it is bound", |word| word.published() == Some(1));
    });
    listener
}

fn accept(listener: &Listener) -> Stream {
    wait_until("a stream to accept", || match listener.accept() {
        Ok(stream) => Some(stream),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            None
        }
    })
}

/// Both ends of a stream between the two nodes.
fn stream(pair: &Pair) -> (Stream, Stream) {
    let listener = listen(pair);
    let calling = pair.one.namespace.enter(|| Stream::connect(&service(1))).unwrap();
    let called = accept(&listener);
    wait_until("it is connected", || calling.peer().ok());
    (calling, called)
}

/// Reads until the end or an error. Returns the bytes and the error.
fn read_all(stream: &mut Stream) -> (Vec<u8>, Option<ErrorKind>) {
    let (mut all, mut some) = (Vec::new(), [0; 5_000]);
    let how = wait_until("the stream is over", || match stream.read(&mut some) {
        Ok(0) => Some(None),
        Ok(len) => {
            all.extend_from_slice(&some[..len]);
            None
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => Some(Some(error.kind())),
    });
    (all, how)
}

#[test]
fn a_poll_reports_a_stream_to_accept_a_connected_stream_and_bytes() {
    let pair = two_nodes!();
    let mut listener = listen(&pair);
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let mut ready = |poll: &mut Poll, token: Token, what: &str, is_so: fn(&mio::event::Event) -> bool| {
        let started = Clock::now();
        loop {
            poll.poll(&mut events, Some(LONG)).unwrap();
            if events.iter().any(|event| event.token() == token && is_so(event)) {
                return;
            }
            assert!(started.elapsed() < LONG, "{what}");
        }
    };
    poll.registry().register(&mut listener, Token(0), Interest::READABLE).unwrap();
    let mut calling = pair.one.namespace.enter(|| Stream::connect(&service(1))).unwrap();
    let both = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut calling, Token(1), both).unwrap();
    assert_eq!(calling.peer().unwrap_err().kind(), ErrorKind::NotConnected, "it is not accepted yet");
    ready(&mut poll, Token(0), "a stream to accept", |event| event.is_readable());
    let mut called = listener.accept().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    poll.registry().register(&mut called, Token(2), both).unwrap();
    ready(&mut poll, Token(1), "it is connected", |event| event.is_writable());
    assert!(calling.take_error().unwrap().is_none());
    assert_eq!(calling.peer().unwrap().node, pair.two.address);
    assert_eq!(called.peer().unwrap().node, pair.one.address);

    calling.write_all(b"there").unwrap();
    ready(&mut poll, Token(2), "bytes", |event| event.is_readable());
    let mut five = [0; 5];
    called.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"there");
    called.write_all(b"again").unwrap();
    ready(&mut poll, Token(1), "bytes", |event| event.is_readable());
    calling.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"again");
    drop(called);
    ready(&mut poll, Token(1), "an end", |event| event.is_readable());
    assert_eq!(calling.read(&mut five).unwrap(), 0);
}

#[test]
fn all_bytes_arrive_before_the_end_which_is_permanent() {
    let pair = two_nodes!();
    // Many small pieces, which a kernel may hold back and send together; in both
    // directions.
    let (mut from, mut called) = stream(&pair);
    for _ in 0..100 {
        assert_eq!(from.write(&[1; 40]).unwrap(), 40);
    }
    drop(from);
    assert_eq!(read_all(&mut called), (vec![1; 4_000], None));
    let (mut calling, mut from) = stream(&pair);
    for _ in 0..100 {
        assert_eq!(from.write(&[2; 40]).unwrap(), 40);
    }
    drop(from);
    assert_eq!(read_all(&mut calling), (vec![2; 4_000], None));
    assert_eq!(called.read(&mut [0; 10]).unwrap(), 0, "the end again");
    called.write_all(b"to whom?").unwrap_err();
}

#[test]
fn many_streams_that_end_at_once_lose_nothing_over_a_lossy_wire() {
    let pair = two_nodes!();
    pair.spoil();
    let listener = listen(&pair);
    for piece in [&[4; 70][..], &[4; 4_000]] {
        let streams: Vec<(Stream, Stream)> = (0..8)
            .map(|_| {
                let calling = pair.one.namespace.enter(|| Stream::connect(&service(1))).unwrap();
                let called = accept(&listener);
                wait_until("it is connected", || calling.peer().ok());
                (calling, called)
            })
            .collect();
        let fill = |(mut calling, called): (Stream, Stream)| {
            let mut sent = 0;
            while let Ok(len) = calling.write(piece) {
                sent += len;
            }
            (calling, called, sent)
        };
        let full: Vec<_> = streams.into_iter().map(fill).collect();
        let ended: Vec<_> = full.into_iter().map(|(_, called, sent)| (called, sent)).collect();
        for (mut called, sent) in ended {
            let (read, how) = read_all(&mut called);
            assert_eq!((read.len(), how), (sent, None));
        }
    }
}

#[test]
fn a_stream_that_is_only_closed_is_reset() {
    let pair = two_nodes!();
    let (mut calling, mut called) = stream(&pair);
    called.write_all(b"last words").unwrap();
    drop(OwnedFd::from(called));
    assert_eq!(read_all(&mut calling), (b"last words".to_vec(), Some(ErrorKind::ConnectionReset)));
}

#[test]
fn a_duplicate_of_a_stream_stays_open_when_the_original_is_closed() {
    let pair = two_nodes!();
    let (calling, mut called) = stream(&pair);
    let mut worker = Stream::from(calling.as_fd().try_clone_to_owned().unwrap());
    drop(OwnedFd::from(calling));
    worker.set_blocking(LONG).unwrap();
    worker.write_all(b"from a worker").unwrap();
    drop(worker);
    assert_eq!(read_all(&mut called), (b"from a worker".to_vec(), None));
}

#[test]
fn a_missing_service_is_unreachable_and_a_closed_one_refuses() {
    let pair = two_nodes!();
    let listener = listen(&pair);
    pair.one.namespace.enter(|| {
        assert_eq!(Stream::connect(&service(2)).unwrap_err().kind(), ErrorKind::HostUnreachable);
        let calling = Stream::connect(&service(1)).unwrap();
        drop(listener);
        let error = wait_until("it is refused", || calling.take_error().unwrap());
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let gone = Destination::Socket(SocketAddress { port: 1, node: pair.two.address });
        let calling = Stream::connect(&gone).unwrap();
        let error = wait_until("it is refused", || calling.take_error().unwrap());
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn ending_a_stream_whose_peer_does_not_read_is_quick_and_loses_nothing() {
    let pair = two_nodes!();
    for piece in [&[3; 40][..], &[3; 4_000]] {
        let (mut calling, mut called) = stream(&pair);
        let mut sent = 0;
        let started = Clock::now();
        // So long that the stream is full, and not only the link busy.
        while started.elapsed() < Span::from_millis(500) {
            match calling.write(piece) {
                Ok(len) => sent += len,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        let started = Clock::now();
        drop(calling);
        let took = started.elapsed();
        // The kernel would wait for eight seconds.
        assert!(took < Span::from_secs(6), "it took {took:?}");
        let (read, how) = read_all(&mut called);
        assert_eq!((read.len(), how), (sent, None));
    }
}

#[test]
fn a_blocking_stream_waits_for_its_timeout() {
    let pair = two_nodes!();
    let (_calling, mut called) = stream(&pair);
    let patience = Span::from_millis(200);
    called.set_blocking(patience).unwrap();
    let started = Clock::now();
    assert_eq!(called.read(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(started.elapsed() >= patience);
    let error = loop {
        if let Err(error) = called.write(&[0; 10_000]) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "nobody reads");
}

#[test]
fn a_stream_to_a_node_that_is_lost_is_reset() {
    let pair = two_nodes!();
    let (mut calling, _called) = stream(&pair);
    pair.cut();
    assert_eq!(read_all(&mut calling), (vec![], Some(ErrorKind::ConnectionReset)));
}
