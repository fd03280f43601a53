//! GF(2^12): its elements, and the product of one with a packet.
//!
//! An element is a polynomial over GF(2) of degree below 12, its coefficients the low bits of a
//! `u16`; products are reduced by x^12 + x^6 + x^4 + x + 1, of which x is a primitive root. A sum
//! is an exclusive or, and so is a difference.
//!
//! A packet is a vector of elements in strips: its first twelfth has the lowest coefficient of
//! each, the next twelfth the next one. A factor then takes whole strips: it is a matrix of 12 x 12
//! bits, and a bit that is set adds one strip to another. So a product takes words, not bytes, and no
//! table.

use crate::limits::CODED_UNIT_BYTES;

/// Coefficients of an element, and so strips of a packet.
pub const BITS: usize = 12;
/// What products are reduced by, without its highest term.
const POLYNOMIAL: u16 = 0x053;
/// The bits of an element.
const MASK: u16 = 0xfff;

const _: () = assert!(CODED_UNIT_BYTES == BITS * size_of::<u64>());

/// `element` times x.
fn times_x(element: u16) -> u16 {
    let shifted = element << 1;
    if shifted & !MASK == 0 { shifted } else { shifted & MASK ^ POLYNOMIAL }
}

/// The product of two elements: each at most 0xfff.
#[must_use]
pub fn product(mut one: u16, mut other: u16) -> u16 {
    let mut sum = 0;
    while other != 0 {
        if other & 1 != 0 {
            sum ^= one;
        }
        one = times_x(one);
        other >>= 1;
    }
    sum
}

/// The element whose product with this one is 1; of 0, which has none, 0.
#[must_use]
pub fn inverse(element: u16) -> u16 {
    // The power 2^12 - 2: the product of the powers 2, 4, 8 to 2^11.
    let (mut square, mut power) = (element, 1);
    for _ in 1..BITS {
        square = product(square, square);
        power = product(power, square);
    }
    power
}

/// Adds `factor` times `packet` to `sum`. Of two lengths, the part that both have is taken,
/// in strips of a twelfth of it; the lengths should be the same and a multiple of
/// [`CODED_UNIT_BYTES`].
pub fn add_product(sum: &mut [u8], factor: u16, packet: &[u8]) {
    let strip_bytes = (sum.len() / BITS).max(1);
    let mut column = factor;
    for strip in packet.chunks_exact(strip_bytes) {
        let mut bits = column;
        while bits != 0 {
            // By the bits that are set: a branch for each of the 12 would be guessed wrong half the time.
            let start = strip_bytes.wrapping_mul(bits.trailing_zeros() as usize);
            if let Some(target) = sum.get_mut(start..start.wrapping_add(strip_bytes)) {
                add(target, strip);
            }
            bits &= bits.wrapping_sub(1);
        }
        column = times_x(column);
    }
}

/// Adds one strip to another, two words at a time; what is left is a word or nothing.
fn add(sum: &mut [u8], strip: &[u8]) {
    let (sum_pairs, sum_word) = sum.as_chunks_mut();
    let (pairs, word) = strip.as_chunks();
    for (sum, pair) in sum_pairs.iter_mut().zip(pairs) {
        *sum = (u128::from_ne_bytes(*sum) ^ u128::from_ne_bytes(*pair)).to_ne_bytes();
    }
    for (sum, word) in sum_word.as_chunks_mut().0.iter_mut().zip(word.as_chunks().0) {
        *sum = (u64::from_ne_bytes(*sum) ^ u64::from_ne_bytes(*word)).to_ne_bytes();
    }
}
