//! What the code promises, for all sizes.

mod overhead;

use std::vec::Vec;

use crate::coding::cauchy::{Cauchy, CodeError};
use crate::coding::decoder::Decoder;
use crate::coding::field::{BITS, add_product, inverse, product};
use crate::limits::{CODED_UNIT_BYTES, MISSING_PACKETS, REPAIR_PACKETS, SOURCE_PACKETS};

/// A sequence of numbers determined by a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(high).unwrap() % bound
    }

    /// Puts a slice in a random order.
    fn shuffle(&mut self, items: &mut [u16]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// A block: its packets are all of one length.
struct Block {
    packets: Vec<Vec<u8>>,
}

impl Block {
    /// Of `count` packets of `bytes` bytes.
    fn random(random: &mut Random, count: usize, bytes: usize) -> Self {
        let packet = |_| (0..bytes).map(|_| random.below(256) as u8).collect();
        Self { packets: (0..count).map(packet).collect() }
    }

    /// A block that has been read from a file: the end of its last packet is zeros.
    fn of_file(file: &[u8], bytes: usize) -> Self {
        let packet = |part: &[u8]| {
            let mut packet = part.to_vec();
            packet.resize(bytes, 0);
            packet
        };
        Self { packets: file.chunks(bytes).map(packet).collect() }
    }

    /// Its repair packet of this number.
    fn repair(&self, code: &Cauchy, number: u16) -> Vec<u8> {
        let mut repair = vec![0; self.packets[0].len()];
        for (source, packet) in (0..).zip(&self.packets) {
            code.add(&mut repair, number, source, packet).unwrap();
        }
        repair
    }

    /// The packets `missing`, found with these repair packets and the source packets that are not
    /// missing, in a random order.
    fn recovered(&self, code: &Cauchy, missing: &[u16], repair: &[u16], order: &mut Random) -> Vec<Vec<u8>> {
        let mut packets: Vec<u8> = repair.iter().flat_map(|&number| self.repair(code, number)).collect();
        let mut decoder = Decoder::new(code, missing, repair, &mut packets).unwrap();
        let mut here: Vec<u16> = (0..self.packets.len() as u16).filter(|n| !missing.contains(n)).collect();
        order.shuffle(&mut here);
        for number in here {
            decoder.subtract(number, &self.packets[usize::from(number)]).unwrap();
        }
        let found = (0..missing.len()).map(|at| {
            // What was in the memory before does not count.
            let mut packet = vec![0xa5; self.packets[0].len()];
            decoder.recover(at, &mut packet).unwrap();
            packet
        });
        found.collect()
    }

    fn check(&self, code: &Cauchy, missing: &[u16], repair: &[u16], order: &mut Random) {
        let wanted: Vec<_> =
            missing.iter().map(|&number| self.packets[usize::from(number)].clone()).collect();
        assert!(self.recovered(code, missing, repair, order) == wanted, "{missing:?} by {repair:?}");
    }
}

/// `count` of the numbers below `bound`, in a random order.
fn some(random: &mut Random, count: usize, bound: usize) -> Vec<u16> {
    let mut numbers: Vec<u16> = (0..bound as u16).collect();
    random.shuffle(&mut numbers);
    numbers.truncate(count);
    numbers
}

/// The numbers whose bits are set.
fn set(bits: u32) -> Vec<u16> {
    (0..32).filter(|bit| bits >> bit & 1 != 0).collect()
}

#[test]
fn a_product_is_that_of_polynomials() {
    // Without reducing on the way: multiplied, then divided by the polynomial in full.
    let slowly = |one: u16, other: u16| {
        let mut sum =
            (0..12).fold(0u32, |sum, bit| sum ^ ((u32::from(one) << bit) * u32::from(other >> bit & 1)));
        for bit in (12..24).rev() {
            if sum >> bit & 1 != 0 {
                sum ^= 0b1_0000_0101_0011 << (bit - 12);
            }
        }
        sum as u16
    };
    for one in (0..1 << BITS).step_by(7).chain([4095]) {
        for other in (0..1 << BITS).step_by(5).chain([4095]) {
            assert_eq!(product(one, other), slowly(one, other), "{one} {other}");
        }
    }
}

#[test]
fn each_element_but_zero_has_an_inverse() {
    assert_eq!(inverse(0), 0);
    for element in 1..1 << BITS {
        assert_eq!(product(element, inverse(element)), 1, "{element}");
    }
    // Which also says that the polynomial does not factor. And x is a primitive root.
    let mut power = 2;
    let order = 1
        + (1..)
            .take_while(|_| {
                power != 1 && {
                    power = product(power, 2);
                    true
                }
            })
            .count();
    assert_eq!(order, 4095);
}

#[test]
fn the_product_with_a_packet_is_that_with_each_of_its_elements() {
    // Element `at` of a packet: one bit of each strip.
    fn element(packet: &[u8], at: usize) -> u16 {
        let strips = packet.chunks_exact(packet.len() / BITS);
        strips.zip(0..).map(|(strip, bit)| u16::from(strip[at / 8] >> (at % 8) & 1) << bit).sum()
    }
    let mut random = Random::new(1);
    for units in [1, 2, 3, 12, 15] {
        let block = Block::random(&mut random, 2, units * CODED_UNIT_BYTES);
        let factor = random.below(1 << BITS) as u16;
        let mut sum = block.packets[0].clone();
        add_product(&mut sum, factor, &block.packets[1]);
        for at in 0..units * CODED_UNIT_BYTES / BITS * 8 {
            let [before, added] = [0, 1].map(|packet| element(&block.packets[packet], at));
            assert_eq!(element(&sum, at), before ^ product(factor, added), "{units} units, element {at}");
        }
    }
}

/// Hosts of other versions make the same packets. The hash is of another program, which shares no code with
/// this one: elements as numbers, and products by a table of logarithms.
#[test]
fn repair_packets_are_those_of_another_program() {
    let code = Cauchy::new();
    let byte = |packet: usize, at: usize| ((packet * 31 + at * 7 + at / 96) % 251) as u8;
    let packets = (0..1000).map(|packet| (0..192).map(|at| byte(packet, at)).collect()).collect();
    let block = Block { packets };
    let mut hasher = blake3::Hasher::new();
    for number in [0, 1, 2, 511, 1023] {
        hasher.update(&block.repair(&code, number));
    }
    assert_eq!(
        hasher.finalize().to_hex().as_str(),
        "6031963a51721e10e8837d8e33c02e01857cf9a6ee86870df85ccb5a9cf09043"
    );
}

#[test]
fn of_a_small_block_any_loss_is_made_good_by_any_repair_packets() {
    let (code, mut random) = (Cauchy::new(), Random::new(2));
    let block = Block::random(&mut random, 6, CODED_UNIT_BYTES);
    let mut tried = 0;
    for missing in 1..1 << 6 {
        for repair in (1u32..1 << 6).filter(|repair: &u32| repair.count_ones() == u32::count_ones(missing)) {
            block.check(&code, &set(missing), &set(repair), &mut random);
            tried += 1;
        }
    }
    // Ways to choose n of 6 twice, for n from 1 to 6.
    assert_eq!(tried, 36 + 225 + 400 + 225 + 36 + 1);
}

#[test]
fn of_any_block_any_loss_is_made_good_by_any_repair_packets() {
    let (code, mut random) = (Cauchy::new(), Random::new(3));
    for round in 0..24 {
        let (count, units) = [(1, 12), (2, 15), (3, 2), (57, 1), (128, 3), (SOURCE_PACKETS, 1)][round % 6];
        let block = Block::random(&mut random, count, units * CODED_UNIT_BYTES);
        let lost = 1 + random.below(count.min(9));
        let missing = some(&mut random, lost, count);
        let repair = some(&mut random, lost, REPAIR_PACKETS);
        block.check(&code, &missing, &repair, &mut random);
    }
}

#[test]
fn as_many_packets_as_may_be_missing_are_found() {
    let (code, mut random) = (Cauchy::new(), Random::new(4));
    // The last of both, which have the largest numbers; all packets before are zeros.
    let packets = Block::random(&mut random, MISSING_PACKETS, CODED_UNIT_BYTES).packets;
    let [missing, repair] = [SOURCE_PACKETS, REPAIR_PACKETS].map(|end| end - MISSING_PACKETS..end);
    let [missing, repair]: [Vec<u16>; 2] = [missing, repair].map(|range| range.map(|n| n as u16).collect());
    let mut sums = Vec::new();
    for &number in &repair {
        let mut sum = [0; CODED_UNIT_BYTES];
        for (packet, &source) in packets.iter().zip(&missing) {
            code.add(&mut sum, number, source, packet).unwrap();
        }
        sums.extend(sum);
    }
    let decoder = Decoder::new(&code, &missing, &repair, &mut sums).unwrap();
    for (at, packet) in packets.iter().enumerate().step_by(5) {
        let mut found = [0; CODED_UNIT_BYTES];
        decoder.recover(at, &mut found).unwrap();
        assert_eq!(found[..], packet[..], "{at}");
    }
}

#[test]
fn a_short_last_block_and_a_short_last_packet_are_found() {
    let (code, mut random) = (Cauchy::new(), Random::new(5));
    for file_bytes in [1, 95, 96, 97, 1151, 1152, 1153, 5_000] {
        let file: Vec<u8> = (0..file_bytes).map(|_| 1 + random.below(255) as u8).collect();
        let block = Block::of_file(&file, 12 * CODED_UNIT_BYTES);
        let last = block.packets.len() as u16 - 1;
        let found = block.recovered(&code, &[last], &[REPAIR_PACKETS as u16 - 1], &mut random);
        let rest = &file[usize::from(last) * 12 * CODED_UNIT_BYTES..];
        assert_eq!(found[0][..rest.len()], *rest);
        assert!(found[0][rest.len()..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn without_loss_there_is_nothing_to_decode() {
    assert_eq!(Decoder::new(&Cauchy::new(), &[], &[], &mut []).err(), Some(CodeError::Count));
}

#[test]
fn what_was_forged_is_in_each_packet_that_is_found() {
    let (code, mut random) = (Cauchy::new(), Random::new(6));
    let block = Block::random(&mut random, 20, CODED_UNIT_BYTES);
    let mut packets: Vec<u8> = [3, 4].iter().flat_map(|&number| block.repair(&code, number)).collect();
    packets[0] ^= 1;
    let mut decoder = Decoder::new(&code, &[7, 8], &[3, 4], &mut packets).unwrap();
    for number in (0..20).filter(|number| ![7, 8].contains(number)) {
        decoder.subtract(number, &block.packets[usize::from(number)]).unwrap();
    }
    for (at, missing) in [7, 8].into_iter().enumerate() {
        let mut found = vec![0; CODED_UNIT_BYTES];
        decoder.recover(at, &mut found).unwrap();
        assert_ne!(found, block.packets[missing]);
    }
}

#[test]
fn what_cannot_be_computed_is_refused_and_changes_nothing() {
    let code = Cauchy::new();
    let unit = [1; CODED_UNIT_BYTES];
    let add = |length: usize, number, source, packet: &[u8]| {
        let mut repair = vec![7; length];
        let added = code.add(&mut repair, number, source, packet);
        assert_eq!(added.is_err(), repair == vec![7; length] || length == 0, "{length} {number} {source}");
        added
    };
    assert_eq!(add(CODED_UNIT_BYTES, 0, 0, &unit), Ok(()));
    assert_eq!(add(CODED_UNIT_BYTES, 0, 1024, &unit), Err(CodeError::Source));
    assert_eq!(add(CODED_UNIT_BYTES, 0, u16::MAX, &unit), Err(CodeError::Source));
    assert_eq!(add(CODED_UNIT_BYTES, 1024, 0, &unit), Err(CodeError::Repair));
    assert_eq!(add(CODED_UNIT_BYTES, u16::MAX, 1023, &unit), Err(CodeError::Repair));
    assert_eq!(add(2 * CODED_UNIT_BYTES, 0, 0, &unit), Err(CodeError::Length));
    assert_eq!(add(12, 0, 0, &unit[..12]), Err(CodeError::Length));
    assert_eq!(add(0, 0, 0, &[]), Err(CodeError::Length));

    let new = |missing: &[u16], repair: &[u16], bytes: usize| {
        let mut packets = vec![7; bytes];
        let refused = Decoder::new(&code, missing, repair, &mut packets).err();
        assert_eq!(packets, vec![7; bytes]);
        refused
    };
    let two = 2 * CODED_UNIT_BYTES;
    assert_eq!(new(&[1, 2], &[3, 4], two), None);
    assert_eq!(new(&[1], &[3, 4], two), Some(CodeError::Count));
    assert_eq!(new(&[1, 2], &[3], two), Some(CodeError::Count));
    assert_eq!(new(&[1, 2], &[3, 4], 0), Some(CodeError::Length));
    assert_eq!(new(&[1, 2], &[3, 4], two + 1), Some(CodeError::Length));
    assert_eq!(new(&[1, 2], &[3, 4], CODED_UNIT_BYTES), Some(CodeError::Length));
    assert_eq!(new(&[1, 1], &[3, 4], two), Some(CodeError::Repeated));
    assert_eq!(new(&[1, 2], &[3, 3], two), Some(CodeError::Repeated));
    assert_eq!(new(&[1, 1024], &[3, 4], two), Some(CodeError::Source));
    assert_eq!(new(&[1, 2], &[3, 1024], two), Some(CodeError::Repair));
    let most: Vec<u16> = (0..=MISSING_PACKETS as u16).collect();
    assert_eq!(new(&most[1..], &most[1..], MISSING_PACKETS * CODED_UNIT_BYTES), None);
    assert_eq!(new(&most, &most, most.len() * CODED_UNIT_BYTES), Some(CodeError::Count));

    let (mut packets, mut found) = ([7; CODED_UNIT_BYTES], unit);
    let mut decoder = Decoder::new(&code, &[5], &[0], &mut packets).unwrap();
    assert_eq!(decoder.subtract(5, &unit), Err(CodeError::Source), "it is missing");
    assert_eq!(decoder.subtract(1024, &unit), Err(CodeError::Source));
    assert_eq!(decoder.subtract(4, &unit[1..]), Err(CodeError::Length));
    assert_eq!(decoder.recover(1, &mut found), Err(CodeError::Count));
    assert_eq!(decoder.recover(0, &mut found[1..]), Err(CodeError::Length));
    assert_eq!(packets, [7; CODED_UNIT_BYTES]);
}
