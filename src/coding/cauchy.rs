//! The code: which factor each source packet has in each repair packet.
//!
//! Source packet `s` has the element `s`, repair packet `r` the element `1024 + r`, and the factor
//! of one in the other is the inverse of their sum: a Cauchy matrix, each square part of which
//! has an inverse. With both below 1,024 a sum is among 1,024 elements, so a table of 2 KiB has
//! all factors.

use super::field::{add_product, inverse};
use crate::limits::{CODED_UNIT_BYTES, REPAIR_PACKETS, SOURCE_PACKETS};

/// The sum of the elements of a source packet and of a repair packet has this bit, and the
/// exclusive or of their numbers.
const REPAIR: u16 = 1 << 10;

const _: () = assert!(SOURCE_PACKETS == REPAIR as usize && REPAIR_PACKETS == REPAIR as usize);

/// Why nothing was computed. What was lent is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeError {
    /// A packet's length is 0, no multiple of [`CODED_UNIT_BYTES`], or another than was said.
    Length,
    /// A source packet's number is not below [`SOURCE_PACKETS`], or the packet is one of the missing.
    Source,
    /// A repair packet's number is not below [`REPAIR_PACKETS`].
    Repair,
    /// There is not one repair packet for each missing packet, or there are too many of both.
    Count,
    /// A number is there twice.
    Repeated,
}

/// The factors of the code.
pub struct Cauchy {
    /// Of the element `1024 + n`.
    inverses: [u16; REPAIR_PACKETS],
}

impl Default for Cauchy {
    fn default() -> Self {
        Self::new()
    }
}

impl Cauchy {
    /// Computes the factors: some 200,000 steps.
    #[must_use]
    pub fn new() -> Self {
        let mut inverses = [0; REPAIR_PACKETS];
        for (slot, element) in inverses.iter_mut().zip(REPAIR..) {
            *slot = inverse(element);
        }
        Self { inverses }
    }

    /// The factor of source packet `source` in repair packet `repair`.
    ///
    /// # Errors
    ///
    /// [`CodeError::Source`], [`CodeError::Repair`].
    pub fn factor(&self, repair: u16, source: u16) -> Result<u16, CodeError> {
        if usize::from(source) >= SOURCE_PACKETS {
            return Err(CodeError::Source);
        }
        let factor = self.inverses.get(usize::from(repair ^ source));
        factor.copied().ok_or(CodeError::Repair)
    }

    /// Adds source packet `source` to `repair`, which is repair packet `number` once all source
    /// packets of its block were added, in any order, to zeros. Packets that a short block lacks
    /// count as zeros: they are not added.
    ///
    /// # Errors
    ///
    /// [`CodeError::Source`], [`CodeError::Repair`], [`CodeError::Length`].
    pub fn add(&self, repair: &mut [u8], number: u16, source: u16, packet: &[u8]) -> Result<(), CodeError> {
        let factor = self.factor(number, source)?;
        if packet.is_empty() || packet.len() != repair.len() || !packet.len().is_multiple_of(CODED_UNIT_BYTES)
        {
            return Err(CodeError::Length);
        }
        add_product(repair, factor, packet);
        Ok(())
    }
}
