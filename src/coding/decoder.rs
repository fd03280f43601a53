//! Finds the missing packets of one block.
//!
//! With `n` packets missing and `n` repair packets here, each repair packet less the source packets
//! that are here is the sum of the missing ones, each with its factor. These factors are a square
//! Cauchy matrix, and the inverse of such a matrix has a formula: its element of missing packet `m`
//! and repair packet `r` is `M(m) R(r) / (m + r)`, where `R(r)` is the product of `r + m` over all
//! missing `m`, by that of `r + r'` over all other repair packets `r'`; and `M(m)` the same with both
//! kinds changed. So the matrix takes no memory.

use super::cauchy::{Cauchy, CodeError};
use super::field::{add_product, inverse, product};
use crate::limits::{CODED_UNIT_BYTES, MISSING_PACKETS};

/// The missing packets of one block, and the repair packets that stand in for them.
///
/// Takes [`MISSING_PACKETS`] x 8 bytes, and works in the memory of the repair packets.
pub struct Decoder<'a> {
    code: &'a Cauchy,
    missing: heapless::Vec<Part, MISSING_PACKETS>,
    repair: heapless::Vec<Part, MISSING_PACKETS>,
    /// The repair packets one after the other, less the source packets so far.
    sums: &'a mut [u8],
    packet_bytes: usize,
}

/// A packet's number, and its part of the formula: `M` or `R` above.
#[derive(Clone, Copy)]
struct Part {
    number: u16,
    share: u16,
}

impl<'a> Decoder<'a> {
    /// A decoder of the packets `missing` of a block, by as many repair packets: their numbers,
    /// and in `packets` they themselves, one after the other, which are changed.
    ///
    /// # Errors
    ///
    /// [`CodeError::Count`] if the lists are empty, not of one length, or longer than
    /// [`MISSING_PACKETS`]; [`CodeError::Length`], [`CodeError::Source`], [`CodeError::Repair`],
    /// [`CodeError::Repeated`].
    pub fn new(
        code: &'a Cauchy,
        missing: &[u16],
        repair: &[u16],
        packets: &'a mut [u8],
    ) -> Result<Self, CodeError> {
        let packet_bytes = packets.len().checked_div(repair.len()).ok_or(CodeError::Count)?;
        if missing.len() != repair.len() {
            return Err(CodeError::Count);
        }
        if packet_bytes == 0
            || !packet_bytes.is_multiple_of(CODED_UNIT_BYTES)
            || !packets.len().is_multiple_of(packet_bytes)
        {
            return Err(CodeError::Length);
        }
        // First those of the repair packets: so an error names the right kind.
        let repair_parts = parts(code, repair, missing)?;
        Ok(Self {
            missing: parts(code, missing, repair)?,
            repair: repair_parts,
            code,
            sums: packets,
            packet_bytes,
        })
    }

    /// Subtracts source packet `number`, which is here, from the repair packets. Each that is here
    /// is to be subtracted once.
    ///
    /// # Errors
    ///
    /// [`CodeError::Source`], [`CodeError::Length`].
    pub fn subtract(&mut self, number: u16, packet: &[u8]) -> Result<(), CodeError> {
        if self.missing.iter().any(|part| part.number == number) {
            return Err(CodeError::Source);
        }
        if packet.len() != self.packet_bytes {
            return Err(CodeError::Length);
        }
        for (sum, part) in self.sums.chunks_exact_mut(self.packet_bytes).zip(&self.repair) {
            self.code.add(sum, part.number, number, packet)?;
        }
        Ok(())
    }

    /// Writes the missing packet `missing[at]` to `packet`, once all that are here were subtracted.
    ///
    /// # Errors
    ///
    /// [`CodeError::Count`] if no such packet is missing, [`CodeError::Length`].
    pub fn recover(&self, at: usize, packet: &mut [u8]) -> Result<(), CodeError> {
        let missing = self.missing.get(at).ok_or(CodeError::Count)?;
        if packet.len() != self.packet_bytes {
            return Err(CodeError::Length);
        }
        packet.fill(0);
        for (sum, part) in self.sums.chunks_exact(self.packet_bytes).zip(&self.repair) {
            let factor = self.code.factor(part.number, missing.number)?;
            add_product(packet, product(product(missing.share, part.share), factor), sum);
        }
        Ok(())
    }
}

/// The parts of these packets, where `others` are those of the other kind.
fn parts(
    code: &Cauchy,
    numbers: &[u16],
    others: &[u16],
) -> Result<heapless::Vec<Part, MISSING_PACKETS>, CodeError> {
    let mut parts = heapless::Vec::new();
    for (at, &number) in numbers.iter().enumerate() {
        let mut below = 1;
        for &other in others {
            below = product(below, code.factor(number, other)?);
        }
        for (other_at, &other) in numbers.iter().enumerate() {
            if other_at != at {
                below = product(below, number ^ other);
            }
        }
        if below == 0 {
            return Err(CodeError::Repeated);
        }
        parts.push(Part { number, share: inverse(below) }).map_err(|_| CodeError::Count)?;
    }
    Ok(parts)
}
