//! What is not of the file, or makes no sense: it costs a host a block at most.

use super::*;

/// One forged packet costs a host its block; a host that was fooled often takes part no longer. What is not of the
/// file is never here.
#[test]
fn what_is_forged_is_never_here_and_ends_in_sessions() {
    for forged in [1, 40] {
        let mut play = Play::new(3 * MIB, 3, 0, true);
        let mut left = forged;
        while play.turn() {
            // Before the true packet comes, in each of the blocks.
            let block = (play.sender.sent().source / 911 + 1).min(2) as u32;
            if left > 0 && play.sender.sent().source > 0 {
                left -= 1;
                let part = Part::Source { block, number: 5 + (forged - left) as u16 };
                let packet = Packet { transmission: 77, part, content: &[9; PACKET_BYTES] };
                play.hosts[0].on_packet(play.now, &packet, &play.file);
            }
        }
        play.check_bytes();
        assert!(play.hosts[1].receiver.as_ref().unwrap().is_complete());
    }
}

#[test]
fn a_host_whose_blocks_are_forged_again_and_again_leaves() {
    let file = File::new(3 * MIB);
    let now = Instant::from_millis(5);
    let mut host = HostOf::new(0, &file, false);
    let Some(Step::Offer(offer)) = Sender::new(now, file.what.clone(), RATE).next(now, 1) else {
        panic!("an offer is first")
    };
    host.on_offer(now, &Offer { window_ms: 50, round: 1, ..offer });
    let receiver = host.receiver.as_mut().unwrap();
    let proof = file.content_of(Part::Proof { section: 0 });
    receiver.on_packet(now, &Packet { transmission: 77, part: Part::Proof { section: 0 }, content: &proof });
    for block in 0..3 {
        assert!(!receiver.has_left());
        for number in 0..file.what.packets(u64::from(block)) {
            let part = Part::Source { block, number };
            receiver.on_packet(now, &Packet { transmission: 77, part, content: &[9; PACKET_BYTES] });
        }
        assert_eq!(receiver.ready().map(|ready| ready.block), Some(u64::from(block)));
        receiver.on_block(u64::from(block), false);
    }
    assert!(receiver.has_left() && (0..3).all(|block| !receiver.is_here(block)));
    let report = receiver.report(now + Duration::from_millis(50)).unwrap();
    assert!(report.is_out && report.missing.len() == 3, "{report:?}");
}

#[test]
fn a_false_proof_is_refused_and_the_true_one_taken() {
    let file = File::new(2 * MIB);
    let mut host = HostOf::new(0, &file, false);
    let now = Instant::from_millis(5);
    let mut sender = Sender::new(now, file.what.clone(), RATE);
    let Some(Step::Offer(offer)) = sender.next(now, 1) else { panic!("an offer is first") };
    host.on_offer(now, &offer);
    let part = Part::Proof { section: 0 };
    let good = file.content_of(part);
    let mut bad = good.clone();
    bad[40] ^= 1;
    let mut take = |content: &[u8]| host.on_packet(now, &Packet { transmission: 77, part, content }, &file);
    assert_eq!(take(&bad), Some(Take::Drop(Dropped::FalseProof)));
    assert_eq!(take(&good[..31]), Some(Take::Drop(Dropped::Shape)));
    assert_eq!(take(&good), Some(Take::Proof));
    assert_eq!(take(&good), Some(Take::Drop(Dropped::Known)));
}

#[test]
fn an_offer_that_makes_no_sense_begins_nothing() {
    let file = File::new(2 * MIB);
    let now = Instant::from_millis(5);
    let Some(Step::Offer(good)) = Sender::new(now, file.what.clone(), RATE).next(now, 1) else {
        panic!("an offer is first")
    };
    assert!(Receiver::new(now, &good).is_some());
    for bad in [
        Offer { size_bytes: 0, ..good.clone() },
        Offer { size_bytes: u64::MAX, ..good.clone() },
        Offer { packet_bytes: 0, ..good.clone() },
        Offer { packet_bytes: 100, ..good.clone() },
        Offer { packet_bytes: 96, ..good.clone() },
        Offer { packet_bytes: u16::MAX, ..good.clone() },
        Offer { section: 1, ..good.clone() },
    ] {
        assert!(Receiver::new(now, &bad).is_none(), "{bad:?}");
    }
}
