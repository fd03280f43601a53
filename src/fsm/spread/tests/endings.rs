//! Why a transmission ends, where not all hosts have taken the file: nobody wants it, another sends, or none takes
//! part any more.

use super::*;

#[test]
fn nobody_listens_and_nothing_is_sent() {
    let mut play = Play::new(64 * MIB, 5, 1_000, false);
    assert_eq!(play.run(), Ending::Nobody);
    assert_eq!(play.sender.sent().source, 0);
}

#[test]
fn of_two_controllers_one_sends() {
    let mut play = Play::new(MIB, 1, 0, false);
    // A host that is with another's, with a lower number, and one whose number is higher.
    let answer = |play: &mut Play, other: u64| {
        let asked = loop {
            match play.sender.next(play.now, 1) {
                Some(Step::Offer(offer)) if offer.window_ms > 0 => break offer,
                Some(_) => {}
                None => play.now = play.sender.poll_at().unwrap(),
            }
        };
        let Offer { transmission, section, round, .. } = asked;
        let missing = heapless::Vec::new();
        let report = Report { transmission, section, round, is_out: true, other, missing };
        play.sender.on_report(NodeId(1), &report);
        play.now = play.now + Duration::from_secs(1);
    };
    for _ in 0..100 {
        answer(&mut play, 76);
        assert_eq!((play.sender.next(play.now, 1), play.sender.sent().source), (None, 0), "it waits");
        assert_eq!(play.sender.last_answers().busy, 1);
    }
    answer(&mut play, 78);
    play.sender.next(play.now, 1);
    assert_eq!(play.sender.last_answers().busy, 0);
    // One that holds on for ever is not waited for for ever.
    while play.sender.ending().is_none() {
        answer(&mut play, 76);
        play.sender.next(play.now, 1);
    }
    assert_eq!(play.sender.ending(), Some(Ending::Yielded));
    while play.sender.next(play.now, 1).is_some() {}
    assert_eq!(play.sender.poll_at(), None);
}

#[test]
fn a_host_without_room_says_so_and_is_not_waited_for() {
    let mut play = Play::new(2 * MIB, 2, 0, false);
    let mut turns = 0;
    while play.turn() {
        turns += 1;
        if turns == 3 {
            play.hosts[0].receiver.as_mut().expect("it has had an offer").leave();
        }
    }
    assert_eq!(play.sender.ending(), Some(Ending::Most));
    let answers = play.sender.last_answers();
    assert_eq!((answers.hosts, answers.complete, answers.out, play.complete()), (1, 1, 1, 1));
}

/// None of them is waited for, and none is said to lack nothing.
#[test]
fn where_no_host_takes_part_any_more_it_ends_at_once() {
    for (turns, rate) in [(3, RATE), (40, RATE), (200, 50_000)] {
        let mut play = Play::new(4 * MIB, 2, 0, false);
        play.sender = Sender::new(play.now, play.file.what.clone(), rate);
        let (mut turn, mut left) = (0, None);
        while play.turn() {
            turn += 1;
            if turn == turns {
                left = Some(play.now);
                play.hosts.iter_mut().for_each(|host| host.receiver.as_mut().expect("an offer came").leave());
            }
        }
        let answers = play.sender.last_answers();
        let told = (play.sender.ending(), answers.hosts, answers.out);
        assert_eq!(told, (Some(Ending::Most), 0, 2), "{turns}: {answers:?}");
        let late = play.now.since(left.unwrap());
        // The section is sent to its end.
        assert!(late < Duration::from_secs(5), "{turns}: {late:?}");
    }
}
