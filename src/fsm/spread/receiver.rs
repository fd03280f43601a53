//! The receiver of a transmission, on an agent.
//!
//! It says what to do with each packet ([`Take`]); the driver has the file. A block whose packets are enough is
//! found and hashed by the driver, which says how that went ([`Receiver::on_block`]). Nothing is believed but
//! what has the hash that the section's proof names, and the proof has that of the file.
//!
//! It follows the section that the sender sends. What a section lacks when the next one begins stays missing:
//! [`Receiver::is_here`] tells it, and a session brings it.

use heapless::Vec;

use super::{OVER, Offer, Report, Transmission};
use crate::coding::proof::{Cut, SectionProof, SubtreeHash};
use crate::fsm::random::Random;
use crate::limits::{
    CODED_UNIT_BYTES, FILE_BLOCKS, MISSING_PACKETS, PACKET_BYTES, PROOF_HASHES, SECTION_BLOCKS,
    SOURCE_PACKETS,
};
use crate::time::{Duration, Instant};
use crate::wire::packet::{Packet, Part};

/// Blocks whose hash did not agree, after which the host goes over to sessions: somebody sends what is not
/// of the file.
pub const POISONED: u8 = 3;
/// The widest window that is accepted.
const WINDOW_MOST: Duration = Duration::from_secs(60);
/// Words of a bit for each source packet of a block.
const WORDS: usize = SOURCE_PACKETS / 64;

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Write its content as this packet of this block.
    Source {
        /// The block of the file.
        block: u64,
        /// The source packet.
        number: u16,
    },
    /// Keep its content as the repair packet in this place of the block's.
    Repair {
        /// The block of the file.
        block: u64,
        /// The place: below `MISSING_PACKETS`.
        place: u16,
    },
    /// It was a proof, and is kept here.
    Proof,
    /// Nothing.
    Drop(Dropped),
}

/// Why a packet is of no use. Each is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Of no transmission that is received, or of another section.
    Other,
    /// It is here already, or is not needed.
    Known,
    /// Its length or number is none of this file.
    Shape,
    /// A proof that is not of this file.
    FalseProof,
}

/// The section of a packet.
#[must_use]
pub const fn section_of(part: Part) -> u64 {
    match part {
        Part::Proof { section } => section as u64,
        Part::Source { block, .. } | Part::Repair { block, .. } => Cut::section_of(block as u64),
    }
}

/// What a block has so far.
#[derive(Clone, Debug)]
struct Block {
    /// A bit for each source packet that is here.
    here: [u64; WORDS],
    /// The numbers of the repair packets that are here, in their places.
    repair: Vec<u16, MISSING_PACKETS>,
    state: BlockState,
}

const _: () = assert!(size_of::<Receiver>() <= 12 * 1_024);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockState {
    /// Packets are missing.
    Open,
    /// The driver finds and hashes it.
    Checked,
    /// Its hash agreed.
    Here,
}

impl Block {
    const fn empty() -> Self {
        Self { here: [0; WORDS], repair: Vec::new(), state: BlockState::Open }
    }

    fn source_packets(&self) -> u16 {
        let ones = self.here.iter().map(|word| word.count_ones()).fold(0, u32::saturating_add);
        u16::try_from(ones).unwrap_or(u16::MAX)
    }

    fn repair_packets(&self) -> u16 {
        u16::try_from(self.repair.len()).unwrap_or(u16::MAX)
    }
}

/// Receives one file. 12 KB, most of it what the blocks of a section have.
#[derive(Clone, Debug)]
pub struct Receiver {
    what: Transmission,
    section: u32,
    proof: Option<SectionProof>,
    blocks: [Block; SECTION_BLOCKS],
    /// A bit for each block of the file whose hash agreed.
    done: [u64; FILE_BLOCKS / 64],
    poisoned: u8,
    is_out: bool,
    /// The question that was answered last, and the one that is to be answered.
    answered: Option<(u32, u16)>,
    asked: Option<(u32, u16, Instant)>,
    heard: Instant,
    is_over: bool,
}

impl Receiver {
    /// Begins with this offer. `None` if it makes no sense: a size that no patch has, packets of a length that
    /// no code takes.
    #[must_use]
    pub fn new(now: Instant, offer: &Offer) -> Option<Self> {
        let cut = Cut::of(offer.size_bytes)?;
        let length = usize::from(offer.packet_bytes);
        let what = Transmission {
            id: offer.transmission,
            patch: offer.id.clone(),
            kinds: offer.kinds,
            file: offer.file,
            cut,
            packet_bytes: offer.packet_bytes,
        };
        let is_sound = length > 0
            && length <= PACKET_BYTES
            && length.is_multiple_of(CODED_UNIT_BYTES)
            && usize::from(what.packets(0)) <= SOURCE_PACKETS
            && u64::from(offer.section) < cut.sections();
        if !is_sound {
            return None;
        }
        let mut receiver = Self {
            what,
            section: 0,
            proof: None,
            // One by one: as a constant they would lie in the binary.
            blocks: core::array::from_fn(|_| Block::empty()),
            done: [0; FILE_BLOCKS / 64],
            poisoned: 0,
            is_out: false,
            answered: None,
            asked: None,
            heard: now,
            is_over: false,
        };
        receiver.begin_section(offer.section);
        Some(receiver)
    }

    /// These blocks are here from before, a bit for each: they were checked, and have been on the disk since.
    pub fn resume(&mut self, done: &[u64; FILE_BLOCKS / 64]) {
        self.done = *done;
        self.begin_section(self.section);
    }

    /// A bit for each block that is here.
    #[must_use]
    pub const fn done(&self) -> &[u64; FILE_BLOCKS / 64] {
        &self.done
    }

    /// The sender has said that nothing more comes.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// What is received.
    #[must_use]
    pub const fn what(&self) -> &Transmission {
        &self.what
    }

    /// When anything of it was heard last.
    #[must_use]
    pub const fn heard(&self) -> Instant {
        self.heard
    }

    /// The section that it follows.
    #[must_use]
    pub const fn section(&self) -> u32 {
        self.section
    }

    /// Whether the whole file is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        (0..self.what.cut.blocks()).all(|block| self.is_here(block))
    }

    /// Whether this block is here, with the right hash.
    #[must_use]
    pub fn is_here(&self, block: u64) -> bool {
        let word = usize::try_from(block / 64).ok().and_then(|word| self.done.get(word));
        word.is_some_and(|word| word >> (block % 64) & 1 != 0)
    }

    /// Takes part no longer: there is no room, or too many blocks were poisoned. It says so when it is asked.
    pub fn leave(&mut self) {
        self.is_out = true;
    }

    /// Whether it takes part no longer.
    #[must_use]
    pub const fn has_left(&self) -> bool {
        self.is_out
    }

    /// Takes an offer of this transmission; another's is for the caller. A question is answered at a random
    /// moment of its window, once.
    pub fn on_offer(&mut self, now: Instant, offer: &Offer, random: &mut Random) {
        if offer.transmission != self.what.id {
            return;
        }
        self.heard = now;
        self.is_over = offer.section == OVER;
        if offer.section > self.section && u64::from(offer.section) < self.what.cut.sections() {
            self.begin_section(offer.section);
        }
        let question = (offer.section, offer.round);
        let is_new = self.answered != Some(question) && self.asked.is_none_or(|(s, r, _)| (s, r) != question);
        if offer.window_ms > 0 && offer.section == self.section && is_new {
            let window = Duration::from_millis(u64::from(offer.window_ms)).min(WINDOW_MOST);
            self.asked = Some((offer.section, offer.round, now + random.below(window)));
        }
    }

    /// When [`report`](Self::report) is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.asked.map(|(_, _, at)| at)
    }

    /// The answer that is due.
    pub fn report(&mut self, now: Instant) -> Option<Report> {
        let (section, round, _) = self.asked.take_if(|(_, _, at)| now >= *at)?;
        self.answered = Some((section, round));
        let mut missing: Vec<u16, SECTION_BLOCKS, u8> = Vec::new();
        let blocks = self.what.cut.section_blocks(u64::from(section));
        if self.blocks.iter().take(blocks).any(|here| here.state != BlockState::Here) {
            for at in 0..blocks {
                // As many as the section has blocks.
                let _ = missing.push(self.missing(at));
            }
        }
        // After the last section, what is missing of an earlier one comes by a session.
        let is_last = u64::from(section).saturating_add(1) >= self.what.cut.sections();
        let is_out = self.is_out || (is_last && missing.is_empty() && !self.is_complete());
        Some(Report { transmission: self.what.id, section, round, is_out, other: 0, missing })
    }

    /// How many packets more this block of the section needs.
    fn missing(&self, at: usize) -> u16 {
        let block = self.block(at);
        match self.blocks.get(at) {
            Some(here) if here.state == BlockState::Open => {
                let lacks = self.what.packets(block).saturating_sub(here.source_packets());
                // What repair packets do not find is not repaired, however many are here.
                let repair = if usize::from(lacks) > MISSING_PACKETS { 0 } else { here.repair_packets() };
                // Without the proof no block is checked; it comes before the next packets.
                lacks.saturating_sub(repair).max(u16::from(self.proof.is_none()))
            }
            _ => 0,
        }
    }

    /// Says what to do with a packet.
    pub fn on_packet(&mut self, now: Instant, packet: &Packet<'_>) -> Take {
        if packet.transmission != self.what.id || self.is_out {
            return Take::Drop(Dropped::Other);
        }
        self.heard = now;
        // A packet of a later section says that the sender is there.
        if let Ok(section) = u32::try_from(section_of(packet.part))
            && section > self.section
            && u64::from(section) < self.what.cut.sections()
        {
            self.begin_section(section);
        }
        match packet.part {
            Part::Proof { section } => self.on_proof(section, packet.content),
            Part::Source { block, number } => self.on_source(u64::from(block), number, packet.content),
            Part::Repair { block, number } => self.on_repair(u64::from(block), number, packet.content),
        }
    }

    fn on_proof(&mut self, section: u32, content: &[u8]) -> Take {
        let blocks = self.what.cut.section_blocks(u64::from(section));
        let (hashes, rest) = content.as_chunks::<32>();
        let Some((of_blocks, beside)) = hashes.split_at_checked(blocks) else {
            return Take::Drop(Dropped::Shape);
        };
        if !rest.is_empty() || blocks == 0 || beside.len() > PROOF_HASHES {
            return Take::Drop(Dropped::Shape);
        }
        if section != self.section {
            return Take::Drop(Dropped::Other);
        }
        if self.proof.is_some() {
            return Take::Drop(Dropped::Known);
        }
        let (Ok(blocks), Ok(beside)) = (Vec::from_slice(of_blocks), Vec::from_slice(beside)) else {
            return Take::Drop(Dropped::Shape);
        };
        let proof = SectionProof { blocks, beside };
        if !proof.is_of(&self.what.file, self.what.cut, u64::from(section)) {
            return Take::Drop(Dropped::FalseProof);
        }
        self.proof = Some(proof);
        Take::Proof
    }

    fn on_source(&mut self, block: u64, number: u16, content: &[u8]) -> Take {
        let (packets, length) = (self.what.packets(block), usize::from(self.what.packet_bytes));
        let Some(here) = self.open(block) else { return Take::Drop(Dropped::Other) };
        if number >= packets || content.len() != length {
            return Take::Drop(Dropped::Shape);
        }
        let Some(word) = here.here.get_mut(usize::from(number) / 64) else {
            return Take::Drop(Dropped::Shape);
        };
        let bit = 1 << (number % 64);
        if here.state != BlockState::Open || *word & bit != 0 {
            return Take::Drop(Dropped::Known);
        }
        *word |= bit;
        Take::Source { block, number }
    }

    fn on_repair(&mut self, block: u64, number: u16, content: &[u8]) -> Take {
        let (packets, length) = (self.what.packets(block), usize::from(self.what.packet_bytes));
        let Some(here) = self.open(block) else { return Take::Drop(Dropped::Other) };
        if content.len() != length {
            return Take::Drop(Dropped::Shape);
        }
        let needed = packets.saturating_sub(here.source_packets());
        if here.state != BlockState::Open || here.repair_packets() >= needed || here.repair.contains(&number)
        {
            return Take::Drop(Dropped::Known);
        }
        let place = here.repair_packets();
        match here.repair.push(number) {
            Ok(()) => Take::Repair { block, place },
            // More is missing than the code finds.
            Err(_) => Take::Drop(Dropped::Known),
        }
    }

    /// A block whose packets are enough: the driver finds what is missing, hashes it and tells
    /// [`on_block`](Self::on_block). Call it after what [`on_packet`](Self::on_packet) said is done.
    pub fn ready(&mut self) -> Option<Ready> {
        let proof = self.proof.as_ref()?;
        for (at, (here, hash)) in self.blocks.iter_mut().zip(&proof.blocks).enumerate() {
            let block = self.what.cut.first_block(u64::from(self.section)).saturating_add(at as u64);
            let packets = self.what.packets(block);
            let enough = here.source_packets().saturating_add(here.repair_packets()) >= packets;
            if here.state == BlockState::Open && enough {
                here.state = BlockState::Checked;
                return Some(Ready { block, hash: *hash });
            }
        }
        None
    }

    /// The source packets of a block of the section that are missing, into `missing`, and the repair packets that
    /// stand in for them, in their places.
    #[must_use]
    pub fn missing_of(&self, block: u64, missing: &mut Vec<u16, MISSING_PACKETS>) -> Option<&[u16]> {
        let here = self.blocks.get(self.at(block)?)?;
        missing.clear();
        for number in 0..self.what.packets(block) {
            let word = here.here.get(usize::from(number) / 64)?;
            if word >> (number % 64) & 1 == 0 {
                missing.push(number).ok()?;
            }
        }
        // A repair packet may have come before the source packet that it would stand in for.
        here.repair.get(..missing.len())
    }

    /// The hash of a block that was [`ready`](Self::ready) agrees, or not. If not, all of its packets are
    /// forgotten, since which of them is false cannot be told. The sender may be at a later section by now.
    pub fn on_block(&mut self, block: u64, agrees: bool) {
        let here = self.at(block).and_then(|at| self.blocks.get_mut(at));
        if agrees {
            here.into_iter().for_each(|here| here.state = BlockState::Here);
            let word = usize::try_from(block / 64).ok().and_then(|word| self.done.get_mut(word));
            if let Some(word) = word {
                *word |= 1 << (block % 64);
            }
            return;
        }
        here.into_iter().for_each(|here| *here = Block::empty());
        self.poisoned = self.poisoned.saturating_add(1);
        if self.poisoned >= POISONED {
            self.leave();
        }
    }

    fn begin_section(&mut self, section: u32) {
        self.section = section;
        self.proof = None;
        self.asked = None;
        for at in 0..SECTION_BLOCKS {
            let is_here = self.is_here(self.block(at));
            if let Some(here) = self.blocks.get_mut(at) {
                *here = Block::empty();
                if is_here {
                    here.state = BlockState::Here;
                }
            }
        }
    }

    /// The block of the file at this place of the section.
    fn block(&self, at: usize) -> u64 {
        self.what.cut.first_block(u64::from(self.section)).saturating_add(at as u64)
    }

    /// The place in the section of a block of the file.
    fn at(&self, block: u64) -> Option<usize> {
        let at = block.checked_sub(self.what.cut.first_block(u64::from(self.section)))?;
        usize::try_from(at).ok().filter(|at| *at < self.what.cut.section_blocks(u64::from(self.section)))
    }

    fn open(&mut self, block: u64) -> Option<&mut Block> {
        let at = self.at(block)?;
        self.blocks.get_mut(at)
    }
}

/// A block to find and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The block of the file.
    pub block: u64,
    /// The hash that it must have.
    pub hash: SubtreeHash,
}
