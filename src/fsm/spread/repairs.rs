//! What the blocks of a section still need, as hosts said in one round.

use crate::limits::{MISSING_PACKETS, REPAIR_PACKETS, SECTION_BLOCKS};

/// What a block needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// This repair packet of this block of the section.
    Repair(u8, u16),
    /// Its source packets once more: some hosts lack more than repair packets find.
    Source(u8),
}

/// What the blocks of a section need.
#[derive(Clone, Debug)]
pub struct Repairs {
    /// Repair packets.
    needs: [u16; SECTION_BLOCKS],
    /// Hosts that lack more of each block than repair packets find.
    bare: [u16; SECTION_BLOCKS],
    /// The source packets of these blocks are sent again.
    again: [bool; SECTION_BLOCKS],
    /// The number of the next repair packet of each block.
    next: [u16; SECTION_BLOCKS],
    /// Packets that this section may still have. Hosts that lack more came too late, or lie.
    left: u32,
    /// So many of them may only be repair packets, which serve all hosts.
    reserve: u32,
}

impl Repairs {
    /// Of a section with so many source packets, and so many in its largest block.
    #[must_use]
    pub fn new(packets: u32, of_block: u16) -> Self {
        let none = [0; SECTION_BLOCKS];
        let (left, reserve) = bounds(packets, of_block.into());
        Self { needs: none, bare: none, again: [false; SECTION_BLOCKS], next: none, left, reserve }
    }

    /// Hosts are asked anew.
    pub fn begin_round(&mut self) {
        (self.needs, self.bare) = ([0; SECTION_BLOCKS], [0; SECTION_BLOCKS]);
        self.again = [false; SECTION_BLOCKS];
    }

    /// Notes what a host lacks of each block, and gives the sum.
    pub fn on_missing(&mut self, missing: &[u16]) -> u32 {
        let mut sum: u32 = 0;
        for ((need, bare), of_host) in self.needs.iter_mut().zip(&mut self.bare).zip(missing) {
            sum = sum.saturating_add(u32::from(*of_host));
            match usize::from(*of_host) <= MISSING_PACKETS {
                true => *need = (*need).max(*of_host),
                false => *bare = bare.saturating_add(1),
            }
        }
        sum
    }

    /// All have answered. Source packets are sent again where so many hosts need them; where fewer do, sessions serve
    /// those. Returns whether anything is to be sent.
    pub fn settle(&mut self, hosts: u32) -> bool {
        for (again, bare) in self.again.iter_mut().zip(&self.bare) {
            *again = u32::from(*bare) >= hosts;
        }
        self.need().is_some()
    }

    /// What is sent next: repair packets first. A few hosts that lack much must not take from many what those lack.
    #[must_use]
    pub fn need(&self) -> Option<Need> {
        let blocks = || (0..).zip(self.needs.iter().zip(&self.again).zip(&self.next));
        let repair = blocks().find_map(|(block, ((need, _), next))| {
            (*need > 0 && self.left > 0).then_some(Need::Repair(block, *next))
        });
        let source = || blocks().find_map(|(block, ((_, again), _))| again.then_some(Need::Source(block)));
        repair.or_else(|| source().filter(|_| self.left > self.reserve))
    }

    /// The repair packet was sent.
    pub fn note_repair(&mut self, block: u8) {
        let block = usize::from(block);
        self.left = self.left.saturating_sub(1);
        self.needs.iter_mut().skip(block).take(1).for_each(|need| *need = need.saturating_sub(1));
        // Those of the first rounds are rarely needed twice.
        let after = |next: u16| next.saturating_add(1).checked_rem(REPAIR_PACKETS as u16).unwrap_or(0);
        self.next.iter_mut().skip(block).take(1).for_each(|next| *next = after(*next));
    }

    /// A source packet was sent again; false if there may be no more.
    pub fn note_source(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > self.reserve
    }

    /// All source packets of the block were sent again.
    pub fn end_source(&mut self, block: u8) {
        self.again.iter_mut().skip(usize::from(block)).take(1).for_each(|again| *again = false);
    }
}

/// As many packets as a section may have after its source packets, and how many of them may only be repair packets: an
/// eighth of the source packets. All of it is half as many as those, or one block if that is more, as a block that
/// somebody poisons is needed as a whole.
fn bounds(packets: u32, of_block: u32) -> (u32, u32) {
    let reserve = (packets / 8).saturating_add(16);
    let again = (packets / 8).saturating_mul(3).max(of_block.min(packets));
    (again.saturating_add(reserve), reserve)
}
