//! What a transmission takes in all, by count: the code finds as many missing packets as repair packets
//! arrive, which the other tests show, so only losses need be played.
//!
//! `cargo test --lib coding::tests::overhead -- --nocapture` prints the table of docs/spread.md.

use std::vec::Vec;

use super::Random;
use crate::limits::{CODED_UNIT_BYTES, SOURCE_PACKETS};

/// What is sent to all, in bytes: the blocks of a larger file are like these.
const FILE_BYTES: usize = 4 << 20;
/// Of a packet: what is coded.
const PACKET_BYTES: usize = 12 * CODED_UNIT_BYTES;
/// Of a datagram: what is in front of a packet and after it. docs/spread.md says what these bytes are.
const ENVELOPE_BYTES: usize = 28;
/// A block of 1 MiB.
const BLOCK_PACKETS: usize = (1_usize << 20).div_ceil(PACKET_BYTES);

const _: () = assert!(BLOCK_PACKETS <= SOURCE_PACKETS);

/// Loses each packet for each receiver, independent of all else.
struct Losses {
    random: Random,
    per_mille: usize,
}

impl Losses {
    /// How many of `packets` one receiver loses.
    fn of(&mut self, packets: usize) -> usize {
        (0..packets).filter(|_| self.random.below(1000) < self.per_mille).count()
    }
}

/// Packets sent until each of the receivers has the block, and the rounds of repair that it took: in each, as many
/// repair packets as the receiver that lacks most needs.
fn send(block: usize, receivers: usize, losses: &mut Losses) -> (usize, usize) {
    let mut lacking: Vec<_> = (0..receivers).map(|_| losses.of(block)).collect();
    let (mut sent, mut rounds) = (block, 0);
    while let Some(&most) = lacking.iter().max().filter(|most| **most > 0) {
        for lacks in &mut lacking {
            // Of those that come when nothing is lacking, none counts.
            *lacks = lacks.saturating_sub(most - losses.of(most));
        }
        sent += most;
        rounds += 1;
    }
    (sent, rounds)
}

/// Packets sent by those of the file, and the most rounds of a block.
fn total(block: usize, receivers: usize, per_mille: usize) -> (f64, usize) {
    let mut losses = Losses { random: Random::new(7), per_mille };
    let blocks = FILE_BYTES.div_ceil(PACKET_BYTES).div_ceil(block);
    let sent: Vec<_> = (0..blocks).map(|_| send(block, receivers, &mut losses)).collect();
    let packets: usize = sent.iter().map(|(packets, _)| packets).sum();
    (packets as f64 / (blocks * block) as f64, sent.iter().map(|(_, rounds)| *rounds).max().unwrap())
}

/// Bytes of datagrams by bytes of payload.
fn with_envelopes(packets: f64) -> f64 {
    packets * (PACKET_BYTES + ENVELOPE_BYTES) as f64 / PACKET_BYTES as f64
}

#[test]
fn a_thousand_receivers_take_little_more_than_one() {
    for (receivers, per_mille, most) in [(64, 10, 1.10), (1000, 10, 1.05), (1000, 50, 1.15)] {
        let (packets, rounds) = total(BLOCK_PACKETS, receivers, per_mille);
        let bytes = with_envelopes(packets);
        assert!(bytes <= most, "{receivers} receivers, {per_mille} per mille: {bytes:.4}");
        assert!(rounds <= 6, "{receivers} receivers, {per_mille} per mille: {rounds} rounds");
    }
}

#[test]
fn a_larger_block_takes_less() {
    let cases = [(8, 10), (8, 50), (64, 10), (64, 50), (1000, 10), (1000, 50)];
    let mut before = [f64::MAX; 6];
    for block in [64, 128, 224, 437, BLOCK_PACKETS] {
        let packets = cases.map(|(receivers, per_mille)| total(block, receivers, per_mille).0);
        assert!(packets.iter().zip(&before).all(|(now, before)| now < before), "{block}: {packets:.4?}");
        println!("{block:4} packets {packets:.4?}, as bytes {:.4?}", packets.map(with_envelopes));
        before = packets;
    }
}
