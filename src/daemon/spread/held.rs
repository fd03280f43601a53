//! The repair packets that a receiving worker has in memory: of the blocks of a section, and of blocks that wait
//! to be found.

use std::collections::VecDeque;

use crate::fsm::spread::receiver::Ready;
use crate::limits::{MISSING_PACKETS, PACKET_BYTES, SECTION_BLOCKS};

/// Blocks that wait to be found: those of two sections. A host that is further behind takes no packets.
const WORK_BLOCKS: usize = 2 * SECTION_BLOCKS;
/// While blocks wait, no packets are taken that would make it more. A section alone never has so many.
const HELD_BYTES: usize = 5 << 20;
/// Room is made for so many packets of a block at once.
const ROOM_PACKETS: usize = 16;

const _: () = assert!(SECTION_BLOCKS * (MISSING_PACKETS + ROOM_PACKETS) * PACKET_BYTES < HELD_BYTES);

/// Source packets of a block, by number.
pub type Numbers = heapless::Vec<u16, MISSING_PACKETS>;

/// A block whose packets are enough. What finds it is kept here, for the sender may go on to the next section.
pub struct Work {
    pub ready: Ready,
    /// The source packets to find.
    pub missing: Numbers,
    /// The numbers of the repair packets, and the packets one after the other.
    pub numbers: Numbers,
    pub packets: Vec<u8>,
}

/// What is held.
pub struct Held {
    /// The repair packets of each block of the section, in their places.
    section: [Vec<u8>; SECTION_BLOCKS],
    work: VecDeque<Work>,
}

impl Held {
    pub const fn new() -> Self {
        Self { section: [const { Vec::new() }; SECTION_BLOCKS], work: VecDeque::new() }
    }

    /// Whether another packet may be taken.
    pub fn has_room(&self) -> bool {
        self.work.is_empty() || self.work.len() < WORK_BLOCKS && self.bytes() < HELD_BYTES
    }

    fn bytes(&self) -> usize {
        let waiting = self.work.iter().map(|work| &work.packets);
        self.section.iter().chain(waiting).map(Vec::capacity).sum()
    }

    /// Puts a repair packet of a block of the section into its place.
    pub fn put(&mut self, block: u64, place: u16, packet: &[u8]) {
        let packets = self.of(block);
        let at = usize::from(place) * packet.len();
        let end = at + packet.len();
        if packets.capacity() < end {
            packets.reserve_exact(end + (ROOM_PACKETS - 1) * packet.len() - packets.len());
        }
        if packets.len() < end {
            packets.resize(end, 0);
        }
        packets[at..end].copy_from_slice(packet);
    }

    /// The next section begins.
    pub fn begin_section(&mut self) {
        self.section.iter_mut().for_each(|packets| *packets = Vec::new());
    }

    /// A block of the section waits to be found from its repair packets.
    pub fn add_work(&mut self, ready: Ready, missing: Numbers, numbers: Numbers) {
        let packets = std::mem::take(self.of(ready.block));
        self.work.push_back(Work { ready, missing, numbers, packets });
    }

    /// The block to find next.
    pub fn next_work(&mut self) -> Option<Work> {
        self.work.pop_front()
    }

    fn of(&mut self, block: u64) -> &mut Vec<u8> {
        &mut self.section[(block % SECTION_BLOCKS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that comes of a section while there is room: as many repair packets of each block as the code takes.
    /// Returns its blocks that have them.
    fn fill(held: &mut Held, section: u64) -> Vec<u64> {
        let packet = [1; PACKET_BYTES];
        let first = section * SECTION_BLOCKS as u64;
        let is_filled = |block: &u64| {
            let mut places = 0..MISSING_PACKETS as u16;
            places.all(|place| held.has_room().then(|| held.put(*block, place, &packet)).is_some())
        };
        (first..first + SECTION_BLOCKS as u64).filter(is_filled).collect()
    }

    #[test]
    fn a_section_has_room_and_a_processor_that_is_too_slow_bounds_what_is_taken() {
        let mut held = Held::new();
        let mut filled = fill(&mut held, 0);
        assert!(held.has_room());
        assert_eq!(filled.len(), SECTION_BLOCKS);
        for section in 1..10 {
            for block in filled {
                held.add_work(Ready { block, hash: [0; 32] }, Numbers::new(), Numbers::new());
            }
            held.begin_section();
            filled = fill(&mut held, section);
            assert!(held.bytes() < HELD_BYTES + ROOM_PACKETS * PACKET_BYTES, "{section}");
            assert!(held.work.len() < WORK_BLOCKS + SECTION_BLOCKS);
        }
        assert!(!held.has_room());
        // It catches up.
        while held.next_work().is_some() {}
        assert!(held.has_room());
    }

    #[test]
    fn packets_are_in_their_places_whatever_their_order() {
        let mut held = Held::new();
        held.put(17, 2, &[2; 4]);
        held.put(17, 0, &[9; 4]);
        held.add_work(Ready { block: 17, hash: [0; 32] }, Numbers::new(), Numbers::new());
        let work = held.next_work().unwrap();
        assert_eq!(work.packets, [9, 9, 9, 9, 0, 0, 0, 0, 2, 2, 2, 2]);
        assert!(held.next_work().is_none());
    }
}
