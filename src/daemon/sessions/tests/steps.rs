//! The time that each step of a session has until the session is authenticated.

use super::*;

/// Runs an end until its session's deadline is another than this.
fn deadline_after(end: &mut End, now: Instant, before: Instant) -> Instant {
    let began = Clock::now();
    loop {
        assert!(matches!(end.turn(now, &none), SessionEvent::Quiet));
        match end.sessions.poll_at() {
            Some(deadline) if deadline != before => return deadline,
            _ => assert!(began.elapsed() < Patience::from_secs(10)),
        }
    }
}

#[test]
fn a_connection_that_stands_late_has_the_whole_time_for_the_opening() {
    let mut ours = End::new(OURS);
    let (stream, peer) = pair();
    stream.set_nonblocking(true).unwrap();
    let stream = Stream::from(OwnedFd::from(stream));
    ours.sessions
        .initiate(
            at(0),
            ours.poll.registry(),
            stream,
            (THEIRS, crate::daemon::fixture::peer()),
            Purpose::Pull,
        )
        .unwrap();
    assert_eq!(ours.sessions.poll_at(), Some(at(0) + STEP), "to connect");
    assert_eq!(deadline_after(&mut ours, at(1_900), at(0) + STEP), at(1_900) + STEP);
    for now in [2_000, 3_000] {
        assert!(matches!(ours.turn(at(now), &none), SessionEvent::Quiet));
    }
    assert_eq!(ours.sessions.poll_at(), Some(at(1_900) + STEP), "waiting is no step");
    drop(peer);
}

#[test]
fn an_accepted_session_has_one_step_for_the_opening_and_one_for_the_proof() {
    let mut theirs = End::new(THEIRS);
    let (mut stream, accepted) = pair();
    theirs.accept(accepted);
    let ring = KeyRing::controller(&SECRET);
    let mine = Opening {
        key_slot: ring.send_slot(),
        role: Role::Controller,
        cluster: ClusterId(1),
        node: OURS,
        nonce: [3; 32],
    };
    let bytes = mine.emit();
    stream.write_all(&bytes[..10]).unwrap();
    assert!(matches!(theirs.turn(at(1_000), &none), SessionEvent::Quiet));
    assert_eq!(theirs.sessions.poll_at(), Some(at(0) + STEP), "a part of an opening is no step");
    stream.write_all(&bytes[10..]).unwrap();
    let deadline = deadline_after(&mut theirs, at(1_900), at(0) + STEP);
    assert_eq!(deadline, at(1_900) + STEP);
    assert!(theirs.sessions.on_timeout(at(3_899), theirs.poll.registry()).is_none());
    assert!(theirs.sessions.on_timeout(at(3_900), theirs.poll.registry()).is_some());
    assert_eq!(theirs.sessions.len(), 0, "a proof has its time once");
}
