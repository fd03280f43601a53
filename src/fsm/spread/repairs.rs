//! What the blocks of a section still need, as hosts said in one round.

use super::repair_of;
use crate::limits::{MISSING_PACKETS, REPAIR_PACKETS, SECTION_BLOCKS};

/// A block whose source packets are needed again, instead of a number of repair packets.
const RESEND: u16 = u16::MAX;

/// What a block needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// This repair packet.
    Repair(u16),
    /// Its source packets once more: some hosts lack more than repair packets find.
    Source,
    /// Nothing.
    Nothing,
}

/// What the blocks of a section need.
#[derive(Clone, Debug)]
pub struct Repairs {
    /// Repair packets, or [`RESEND`].
    needs: [u16; SECTION_BLOCKS],
    /// Hosts that lack more of each block than repair packets find.
    bare: [u16; SECTION_BLOCKS],
    /// The number of the next repair packet of each block.
    next: [u16; SECTION_BLOCKS],
    /// Packets that this section may still have. Hosts that lack more came too late, or lie.
    left: u32,
}

impl Repairs {
    /// Of a section with so many source packets.
    #[must_use]
    pub fn new(packets: u32) -> Self {
        let none = [0; SECTION_BLOCKS];
        Self { needs: none, bare: none, next: none, left: repair_of(packets) }
    }

    /// Hosts are asked anew.
    pub fn begin_round(&mut self) {
        (self.needs, self.bare) = ([0; SECTION_BLOCKS], [0; SECTION_BLOCKS]);
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
        for (need, bare) in self.needs.iter_mut().zip(&self.bare) {
            *need = if u32::from(*bare) >= hosts { RESEND } else { *need };
        }
        self.left > 0 && self.needs.iter().any(|need| *need > 0)
    }

    /// What a block needs; `None` if the section has no such block.
    #[must_use]
    pub fn of(&self, block: u8) -> Option<Need> {
        let (need, next) = (self.needs.get(usize::from(block))?, self.next.get(usize::from(block))?);
        Some(match *need {
            _ if self.left == 0 => Need::Nothing,
            0 => Need::Nothing,
            RESEND => Need::Source,
            _ => Need::Repair(*next),
        })
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
        self.left > 0
    }

    /// All source packets of the block were sent again.
    pub fn end_source(&mut self, block: u8) {
        self.needs.iter_mut().skip(usize::from(block)).take(1).for_each(|need| *need = 0);
    }
}
