//! Whose session gives up its place, and when a session ends that its peer keeps alive.

use super::*;

/// A connection to an end by which a test speaks as a controller: its stream, its keys and
/// the slot of the end's session, which is authenticated and has had its first event.
struct Proven {
    stream: std::net::TcpStream,
    keys: SessionKeys,
    slot: usize,
}

/// Connects to an end and sends an opening as the controller `node`; the slot that it has.
fn connect(theirs: &mut End, node: NodeId) -> (std::net::TcpStream, Opening, usize) {
    let was_open: Vec<_> = theirs.sessions.slots.iter().map(|slot| slot.session.is_some()).collect();
    let (mut stream, accepted) = pair();
    stream.set_read_timeout(Some(Patience::from_secs(10))).unwrap();
    theirs.accept(accepted);
    let (role, cluster, ring) = (Role::Controller, ClusterId(1), KeyRing::controller(&SECRET));
    let mine = Opening { key_slot: ring.send_slot(), role, cluster, node, nonce: [3; 32] };
    stream.write_all(&mine.emit()).unwrap();
    let mut slots = theirs.sessions.slots.iter().zip(was_open);
    let slot = slots.position(|(slot, was_open)| slot.session.is_some() && !was_open);
    (stream, mine, slot.unwrap_or(0))
}

/// Opens a session with an end as the controller `node`, up to the proof.
fn prove(theirs: &mut End, now: u64, node: NodeId, purpose: Purpose) -> Proven {
    let (mut stream, mine, slot) = connect(theirs, node);
    let turn = |theirs: &mut End| theirs.sessions.turn(at(now), slot, theirs.poll.registry(), &none);
    let mut opening = [0; OPENING_BYTES];
    let began = Clock::now();
    let proven = theirs.sessions.counts.proven;
    assert!(matches!(turn(theirs), SessionEvent::Quiet));
    stream.read_exact(&mut opening).unwrap();
    let ring = KeyRing::controller(&SECRET);
    let mut keys = SessionKeys::derive(&ring, &mine, &Opening::parse(&opening).unwrap(), true).unwrap();
    let open = Frame::Open { role: Role::Controller, node, peer: THEIRS, purpose };
    let mut bytes = [0; limits::FRAME_BYTES];
    let len = keys.seal(&open, &mut bytes);
    stream.write_all(&bytes[..len]).unwrap();
    while theirs.sessions.counts.proven == proven {
        let _ = turn(theirs);
        assert!(began.elapsed() < Patience::from_secs(10));
    }
    Proven { stream, keys, slot }
}

/// Whether the end has closed the connection.
fn is_closed(stream: &mut std::net::TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn a_second_session_of_a_node_and_purpose_replaces_the_first() {
    let mut theirs = End::new(THEIRS);
    let mut first = prove(&mut theirs, 0, OURS, Purpose::Pull);
    let mut other = prove(&mut theirs, 0, NodeId(3), Purpose::Pull);
    let mut blobs = prove(&mut theirs, 0, OURS, Purpose::Blobs);
    assert_eq!((theirs.sessions.len(), theirs.sessions.counts.evicted), (3, 0));
    for _ in 0..100 {
        let mut second = prove(&mut theirs, 0, OURS, Purpose::Pull);
        assert!(is_closed(&mut first.stream));
        assert!(
            !is_closed(&mut second.stream) && !is_closed(&mut other.stream) && !is_closed(&mut blobs.stream)
        );
        first = second;
    }
    assert_eq!((theirs.sessions.len(), theirs.sessions.counts.evicted), (3, 100));
}

#[test]
fn sessions_that_were_turned_away_give_up_their_places_first_and_soon() {
    let mut theirs = End::new(THEIRS);
    let mut busy = Vec::new();
    for node in 10..10 + ACCEPTED_MAX as u64 - 1 {
        let one = prove(&mut theirs, 0, NodeId(node), Purpose::Blobs);
        theirs.sessions.send_busy(at(0), one.slot, Duration::from_millis(500), theirs.poll.registry());
        busy.push(one);
    }
    let (mut opening, _, _) = connect(&mut theirs, OURS);
    assert_eq!((theirs.sessions.len(), theirs.sessions.counts.evicted), (ACCEPTED_MAX, 0));
    let mut pulling = prove(&mut theirs, 0, NodeId(3), Purpose::Pull);
    assert_eq!((theirs.sessions.len(), theirs.sessions.counts.evicted), (ACCEPTED_MAX, 1));
    assert!(!is_closed(&mut opening) && !is_closed(&mut pulling.stream), "there were others to close");
    let mut bytes = [0; limits::FRAME_BYTES];
    let len = busy[1].stream.read(&mut bytes).unwrap();
    let told = busy[1].keys.open(&bytes[..len]).unwrap().unwrap().0;
    assert_eq!(told, Frame::Busy { retry_after_ms: 500 });
    // Their peers do not close them: the rest is closed after the time for a proof.
    while theirs.sessions.on_timeout(at(0) + STEP, theirs.poll.registry()).is_some() {}
    assert_eq!(theirs.sessions.len(), 1, "the one that pulls is left");
    assert!(!is_closed(&mut pulling.stream) && busy.iter_mut().all(|one| is_closed(&mut one.stream)));
}

#[test]
fn an_address_that_connects_without_end_evicts_its_own_connections() {
    let mut theirs = End::new(THEIRS);
    let (mut honest, _, slot) = connect(&mut theirs, OURS);
    // Every connection here comes from the loopback, which TIPC has no address for.
    let elsewhere = std::net::Ipv4Addr::new(192, 0, 2, 1);
    theirs.sessions.slots[slot].session.as_mut().unwrap().origin = Some(elsewhere.into());
    let flood: Vec<_> = (0..100).map(|_| connect(&mut theirs, NodeId(9)).0).collect();
    assert!(!is_closed(&mut honest));
    let open = flood.into_iter().filter_map(|mut stream| (!is_closed(&mut stream)).then_some(())).count();
    assert_eq!(open, ACCEPTED_MAX - 1);
}

#[test]
fn a_session_ends_even_if_its_peer_makes_progress_before_each_deadline() {
    let mut theirs = End::new(THEIRS);
    let mut pulling = prove(&mut theirs, 5_000, OURS, Purpose::Pull);
    let (mut now, ends) = (at(5_000), at(5_000) + IDLE.times(30));
    while now < ends {
        assert!(theirs.sessions.on_timeout(now, theirs.poll.registry()).is_none(), "{now:?}");
        assert_eq!(theirs.sessions.poll_at(), Some(ends.min(now + IDLE)));
        now = ends.min(now + Duration::from_millis(IDLE.as_millis() - 1));
        theirs.sessions.slots[pulling.slot].session.as_mut().unwrap().on_progress(now, IDLE);
    }
    assert!(theirs.sessions.on_timeout(now, theirs.poll.registry()).is_some());
    assert!(is_closed(&mut pulling.stream));
}
