mod share;
mod steps;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::{Duration as Patience, Instant as Clock};

use mio::Poll;

use super::*;
use crate::daemon::exchange::Exchange;
use crate::daemon::fixture::peer;
use crate::repo::entry::Entry;
use crate::repo::fixture;
use crate::types::Hostname;
use crate::wire::keys::Key;
use crate::wire::session::OPENING_BYTES;

const SECRET: Key = Key([7; 32]);
const IDLE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_secs(2);
/// The nodes of the two ends.
const OURS: NodeId = NodeId(1);
const THEIRS: NodeId = NodeId(2);

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn none(_: Purpose, _: usize) -> Option<(Frame, usize)> {
    None
}

/// The sessions of one controller.
struct End {
    sessions: Sessions,
    poll: Poll,
}

impl End {
    fn new(node: NodeId) -> Self {
        let (cluster, ring) = (ClusterId(1), KeyRing::controller(&SECRET));
        let (revoked, step) = (heapless::Vec::new(), STEP);
        let context = Context { cluster, node, ring, revoked, step, idle: IDLE };
        Self { sessions: Sessions::new(context, 0, &mut Pool::new()), poll: Poll::new().unwrap() }
    }

    fn accept(&mut self, stream: std::net::TcpStream) {
        stream.set_nonblocking(true).unwrap();
        self.sessions.accept(
            at(0),
            self.poll.registry(),
            Stream::from(OwnedFd::from(stream)),
            Role::Controller,
        );
    }

    fn turn(&mut self, now: Instant, answers: Answers<'_>) -> SessionEvent {
        self.sessions.turn(now, 0, self.poll.registry(), answers)
    }
}

/// Both ends of a TCP connection.
fn pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

/// Opens a session for a purpose from our end to theirs, and runs both ends until ours
/// has an event, or theirs wants a worker.
fn opened(purpose: Purpose) -> (End, End, SessionEvent, SessionEvent) {
    let (mut ours, mut theirs) = (End::new(OURS), End::new(THEIRS));
    let (stream, accepted) = pair();
    stream.set_nonblocking(true).unwrap();
    let stream = Stream::from(OwnedFd::from(stream));
    ours.sessions.initiate(at(0), ours.poll.registry(), stream, (THEIRS, peer()), purpose).unwrap();
    theirs.accept(accepted);
    let began = Clock::now();
    let (mut here, mut there) = (SessionEvent::Quiet, SessionEvent::Quiet);
    // If a worker is to send their Open, our end has no event yet.
    while matches!(here, SessionEvent::Quiet) && !matches!(there, SessionEvent::WantsWorker(..)) {
        here = ours.turn(at(0), &none);
        if let outcome @ (SessionEvent::WantsWorker(..) | SessionEvent::Failed(..)) =
            theirs.turn(at(0), &none)
        {
            there = outcome;
        }
        assert!(began.elapsed() < Patience::from_secs(10), "{here:?}, {there:?}");
    }
    (ours, theirs, here, there)
}

/// Our end of a session that is ready, as a worker has it.
fn taken(ours: &mut End, purpose: Purpose) -> Exchange {
    let (stream, keys) = ours.sessions.take(ours.poll.registry(), THEIRS, purpose).unwrap();
    Exchange::new(stream, keys, Patience::from_secs(10)).unwrap()
}

fn entry(number: usize) -> Entry {
    fixture::entry(&format!("THIMBLE-{number:04}")).requires(&["A", "B", "C"])
}

#[test]
fn the_loop_sends_the_whole_map_in_order() {
    let (mut ours, mut theirs, ready, _) = opened(Purpose::Pull);
    assert!(matches!(ready, SessionEvent::Ready(THEIRS, Purpose::Pull)), "{ready:?}");
    let mut exchange = taken(&mut ours, Purpose::Pull);
    let head = Frame::MapHead { hostname: Hostname::new("controller-1").unwrap(), floor: 9 };
    let answers = |purpose, from: usize| {
        assert_eq!(purpose, Purpose::Pull);
        match from {
            0 => Some((head.clone(), 1)),
            1..=limits::ENTRIES => Some((Frame::MapEntry(entry(from)), from + 1)),
            _ => None,
        }
    };
    let frames = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            exchange.send(Frame::MapReq).unwrap();
            let mut frames = Vec::new();
            while frames.last() != Some(&Frame::End) {
                frames
                    .push(exchange.receive().unwrap().expect("the answering end does not close the session"));
            }
            frames
        });
        while theirs.sessions.len() > 0 {
            assert!(matches!(theirs.turn(at(0), &answers), SessionEvent::Quiet));
            std::thread::yield_now();
        }
        reader.join().unwrap()
    });
    assert_eq!(frames.len(), limits::ENTRIES + 2, "head, entries and end");
    assert_eq!(frames[0], head);
    assert!((1..=limits::ENTRIES).all(|number| frames[number] == Frame::MapEntry(entry(number))));
    assert_eq!(frames.last(), Some(&Frame::End));
}

#[test]
fn an_answer_times_out_only_if_the_peer_stops_reading() {
    let (mut ours, mut theirs, _, _) = opened(Purpose::Pull);
    let mut exchange = taken(&mut ours, Purpose::Pull);
    exchange.send(Frame::MapReq).unwrap();
    let endless = |_, from: usize| Some((Frame::MapEntry(entry(from % 1000)), from + 1));
    // Until the socket's buffers are full.
    while theirs.sessions.slots[0].to_send_len == 0 {
        assert!(matches!(theirs.turn(at(0), &endless), SessionEvent::Quiet));
    }
    assert!(theirs.sessions.slots[0].to_send_len > limits::FRAME_BYTES / 2, "several frames at once");
    assert_eq!(theirs.sessions.poll_at(), Some(at(0) + IDLE));
    // The peer reads until there is room for more.
    let began = Clock::now();
    let mut taken = vec![0; 64 * 1024];
    while theirs.sessions.poll_at() == Some(at(0) + IDLE) {
        assert!(began.elapsed() < Patience::from_secs(10));
        assert!(exchange.read(&mut taken).unwrap() > 0);
        assert!(matches!(theirs.turn(at(9_000), &endless), SessionEvent::Quiet));
    }
    assert_eq!(theirs.sessions.poll_at(), Some(at(9_000) + IDLE), "the deadline started again");
    assert!(theirs.sessions.on_timeout(at(18_999), theirs.poll.registry()).is_none());
    let outcome = theirs.sessions.on_timeout(at(19_000), theirs.poll.registry());
    assert!(
        matches!(outcome, Some(SessionEvent::Quiet)),
        "a session that they initiated is no failure of ours"
    );
    assert_eq!(theirs.sessions.len(), 0);
}

#[test]
fn a_session_for_blobs_wants_a_worker_or_is_busy() {
    let (mut ours, mut theirs, _, there) = opened(Purpose::Blobs);
    assert!(matches!(there, SessionEvent::WantsWorker(OURS, Purpose::Blobs)), "{there:?}");
    theirs.sessions.send_busy(at(0), 0, Duration::from_millis(500), theirs.poll.registry());
    let began = Clock::now();
    let busy = loop {
        match ours.turn(at(0), &none) {
            SessionEvent::Quiet => assert!(began.elapsed() < Patience::from_secs(10)),
            other => break other,
        }
    };
    let SessionEvent::Busy(THEIRS, Purpose::Blobs, pause) = busy else { panic!("{busy:?}") };
    assert_eq!(pause, Duration::from_millis(500));
    assert_eq!((ours.sessions.len(), theirs.sessions.len()), (0, 1));
    while theirs.sessions.len() > 0 {
        assert!(matches!(theirs.turn(at(0), &none), SessionEvent::Quiet));
        assert!(began.elapsed() < Patience::from_secs(10), "it closes once we have closed it");
    }
}

#[test]
fn a_worker_continues_the_session_that_the_loop_hands_over() {
    let (mut ours, mut theirs, _, _) = opened(Purpose::Blobs);
    let mut served = None;
    let registry = theirs.poll.registry();
    theirs
        .sessions
        .hand_over(0, registry, |stream, keys| {
            served = Some(Exchange::new(stream.try_clone_to_owned()?, keys, Patience::from_secs(10))?);
            Ok(())
        })
        .unwrap();
    let began = Clock::now();
    while !matches!(ours.turn(at(0), &none), SessionEvent::Ready(THEIRS, Purpose::Blobs)) {
        assert!(began.elapsed() < Patience::from_secs(10));
    }
    let (mut served, mut fetching) = (served.unwrap(), taken(&mut ours, Purpose::Blobs));
    let request = Frame::BlobReq { hash: entry(1).hash, offset: 5 };
    fetching.send(request.clone()).unwrap();
    assert_eq!(served.receive().unwrap(), Some(request));
    served.send(Frame::End).unwrap();
    assert_eq!(fetching.receive().unwrap(), Some(Frame::End));
}

/// Whether a peer with the key for `role` is accepted when it then claims in its Open to
/// be a controller with this purpose.
fn is_accepted(ring: &KeyRing, role: Role, purpose: Purpose) -> bool {
    is_accepted_by(End::new(THEIRS), ring, role, purpose)
}

/// As [`is_accepted`], by this end.
fn is_accepted_by(mut theirs: End, ring: &KeyRing, role: Role, purpose: Purpose) -> bool {
    let (mut stream, accepted) = pair();
    theirs.accept(accepted);
    let cluster = ClusterId(1);
    let mine = Opening { key_slot: ring.send_slot(), role, cluster, node: OURS, nonce: [3; 32] };
    stream.write_all(&mine.emit()).unwrap();
    assert!(matches!(theirs.turn(at(0), &none), SessionEvent::Quiet));
    let mut opening = [0; OPENING_BYTES];
    stream.read_exact(&mut opening).unwrap();
    let mut keys = SessionKeys::derive(ring, &mine, &Opening::parse(&opening).unwrap(), true).unwrap();
    let open = Frame::Open { role: Role::Controller, node: OURS, peer: THEIRS, purpose };
    let mut bytes = [0; limits::FRAME_BYTES];
    let len = keys.seal(&open, &mut bytes);
    stream.write_all(&bytes[..len]).unwrap();
    let began = Clock::now();
    while theirs.sessions.len() > 0 && theirs.sessions.counts.proven == 0 {
        let _ = theirs.turn(at(0), &none);
        assert!(began.elapsed() < Patience::from_secs(10));
    }
    theirs.sessions.counts.proven == 1
}

#[test]
fn an_agents_key_opens_no_session_for_maps_or_blobs() {
    for purpose in [Purpose::Pull, Purpose::Blobs] {
        assert!(!is_accepted(&KeyRing::agent(&SECRET, OURS), Role::Agent, purpose), "{purpose:?}");
        assert!(is_accepted(&KeyRing::controller(&SECRET), Role::Controller, purpose), "{purpose:?}");
    }
}

#[test]
fn a_revoked_node_opens_no_session_even_with_a_valid_key() {
    let ring = KeyRing::controller(&SECRET);
    let of = |revoked: &[NodeId]| {
        let mut end = End::new(THEIRS);
        let revoked = revoked.iter().copied().collect();
        end.sessions.reconfigure(None, &revoked, Duration::from_secs(2), IDLE);
        is_accepted_by(end, &ring, Role::Controller, Purpose::Pull)
    };
    assert!(!of(&[OURS]));
    assert!(of(&[NodeId(9)]));
}
