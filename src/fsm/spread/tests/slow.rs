//! Hosts that work on what they have while the sender asks, or goes on.

use super::*;

/// The processor finds lost packets, or the disk stalls: for so long a host says nothing.
#[test]
fn hosts_that_took_part_are_waited_for() {
    for seconds in [2, 10] {
        let mut play = Play::new(4 * MIB, 3, 0, false);
        let mut is_busy = false;
        while play.turn() {
            if play.sender.sent().source >= 3_000 && !is_busy {
                is_busy = true;
                let until = play.now + Duration::from_secs(seconds);
                play.hosts.iter_mut().for_each(|host| host.busy_until = until);
            }
        }
        assert_eq!((play.complete(), play.sender.ending()), (3, Some(Ending::All)), "{seconds} s");
    }
}

#[test]
fn hosts_that_took_part_and_are_gone_are_not_waited_for_for_ever() {
    let mut play = Play::new(4 * MIB, 3, 0, false);
    let mut gone = None;
    while play.turn() {
        if play.sender.sent().source >= 3_000 {
            gone.get_or_insert(play.now);
            play.hosts.iter_mut().for_each(|host| host.is_up = false);
        }
    }
    assert_eq!(play.sender.ending(), Some(Ending::Silent));
    let waited = play.now.since(gone.unwrap());
    assert!((Duration::from_secs(15)..Duration::from_secs(40)).contains(&waited), "{waited:?}");
}

/// A block is found and hashed while packets of the next section come.
#[test]
fn a_block_that_is_found_after_its_section_is_here() {
    let file = File::new(20 * MIB);
    let mut host = HostOf::new(0, &file, false);
    let now = Instant::from_millis(5);
    let Some(Step::Offer(offer)) = Sender::new(now, file.what.clone(), RATE).next(now, 1) else {
        panic!("an offer is first")
    };
    host.on_offer(now, &offer);
    let receiver = host.receiver.as_mut().unwrap();
    let take = |receiver: &mut Receiver, part| {
        let content = match part {
            Part::Proof { .. } => file.content_of(part),
            _ => vec![0; PACKET_BYTES],
        };
        receiver.on_packet(now, &Packet { transmission: 77, part, content: &content })
    };
    take(receiver, Part::Proof { section: 0 });
    for block in 0..2 {
        (0..file.what.packets(block.into())).for_each(|number| {
            take(receiver, Part::Source { block, number });
        });
    }
    assert_eq!(receiver.ready().map(|ready| ready.block), Some(0));
    assert_eq!(receiver.ready().map(|ready| ready.block), Some(1));
    take(receiver, Part::Proof { section: 1 });
    assert_eq!(take(receiver, Part::Source { block: 16, number: 0 }), Take::Source { block: 16, number: 0 });
    receiver.on_block(0, true);
    receiver.on_block(1, false);
    assert_eq!([0, 1, 16].map(|block| receiver.is_here(block)), [true, false, false]);
    // What is here of the section that is sent now is not touched.
    assert_eq!(take(receiver, Part::Source { block: 16, number: 0 }), Take::Drop(Dropped::Known));
}

/// A host has all packets, and takes four seconds to find the blocks: it is said to have the file after that.
#[test]
fn a_host_that_still_works_on_the_last_section_is_waited_for() {
    let mut play = Play::new(4 * MIB, 2, 0, false);
    play.hosts[1].finds_late = Some(Duration::from_secs(4));
    while play.turn() {}
    assert_eq!((play.complete(), play.sender.ending()), (2, Some(Ending::All)));
    assert!(play.ratio() < 1.05, "no packet is sent twice for it: {}", play.ratio());
    assert_eq!(play.sender.last_answers().complete, 2);
}

/// One of three took part, and is gone at the end: two have it, and the ending says that not all have.
#[test]
fn a_host_that_is_gone_at_the_end_is_not_said_to_have_it() {
    let mut play = Play::new(4 * MIB, 3, 0, false);
    while play.turn() {
        play.hosts[0].is_up &= play.sender.sent().source < 3_000;
    }
    let answers = play.sender.last_answers();
    assert_eq!(
        (play.sender.ending(), answers.hosts, answers.complete),
        (Some(Ending::Most), 3, 2),
        "{answers:?}"
    );
}

/// The same where another has no room: it is not counted in place of the one that is gone.
#[test]
fn a_host_without_room_stands_in_for_no_other() {
    let mut play = Play::new(4 * MIB, 4, 0, false);
    while play.turn() {
        play.hosts[0].is_up &= play.sender.sent().source < 3_000;
        play.hosts[1].receiver.iter_mut().for_each(Receiver::leave);
    }
    let answers = play.sender.last_answers();
    let told = (answers.hosts, answers.complete, answers.out);
    assert_eq!((play.sender.ending(), told), (Some(Ending::Most), (3, 2, 1)), "{answers:?}");
}
