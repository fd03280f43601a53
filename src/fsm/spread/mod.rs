//! One transmission of a patch file to all hosts that need it.
//!
//! ```text
//! controller                                     each agent
//! Offer, some times                          ->  gets ready, or ignores it
//! section 0: proof, source packets           ->  keeps what comes
//! Offer that asks for section 0              ->
//!                                            <-  Report at a random moment of the window: how many packets
//!                                                each block lacks
//! proof, repair packets: of each block as    ->  finds its missing packets, and believes a block once its
//!   many as the host needs that lacks most       hash agrees
//! ... until nobody lacks any; then section 1, and so on to the end of the file
//! ```
//!
//! The machines decide what is sent and what is kept; their drivers have the bytes. A packet may be forged by
//! any agent, so a block counts by its hash alone, and a file by its signature when it is whole. What a host
//! lacks in the end it fetches by a session, as it would have all of it.

pub mod pace;
mod probes;
pub mod receiver;
mod repairs;
pub mod sender;
mod told;

#[cfg(test)]
mod tests;

use crate::coding::proof::Cut;
use crate::time::Duration;
use crate::types::{Hash, PatchId};
pub use crate::wire::messages::{OVER, SpreadOffer as Offer, SpreadReport as Report};

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmission {
    /// Its number, random.
    pub id: u64,
    /// The patch whose file it is.
    pub patch: PatchId,
    /// The kinds of hosts that it concerns, as [`Offer::kinds`] has them.
    pub kinds: u64,
    /// The hash of the file.
    pub file: Hash,
    /// The file's size, and so its blocks and sections.
    pub cut: Cut,
    /// Bytes of each packet of a block, the last filled up with zeros; a multiple of `CODED_UNIT_BYTES`.
    pub packet_bytes: u16,
}

impl Transmission {
    /// Source packets of a block; 0 beyond the end of the file.
    #[must_use]
    pub fn packets(&self, block: u64) -> u16 {
        let packets = self.cut.block_bytes(block).div_ceil(u64::from(self.packet_bytes).max(1));
        u16::try_from(packets).unwrap_or(u16::MAX)
    }

    /// Source packets of a section.
    #[must_use]
    pub fn section_packets(&self, section: u64) -> u32 {
        let first = self.cut.first_block(section);
        let blocks = first..first.saturating_add(self.cut.section_blocks(section) as u64);
        blocks.map(|block| u32::from(self.packets(block))).fold(0, u32::saturating_add)
    }
}

/// A file that waits, or is being sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadFile {
    /// The patch.
    pub id: PatchId,
    /// BLAKE3 of its file.
    pub file: Hash,
    /// The file's size.
    pub size_bytes: u64,
    /// The kinds of hosts that it concerns, as an offer has them.
    pub kinds: u64,
    /// Bytes for a second; 0: as the configuration says.
    pub rate: u64,
    /// For this rollout.
    pub rollout: Option<u64>,
}

/// The window for the answers of so many hosts: as for acks, 1 ms for each.
#[must_use]
pub fn window(hosts: usize) -> Duration {
    /// Of few hosts: so long that a busy one is on time.
    const LEAST_MS: u64 = 20;
    /// What an agent accepts.
    const MOST_MS: u64 = 60_000;
    Duration::from_millis((hosts as u64).clamp(LEAST_MS, MOST_MS))
}
