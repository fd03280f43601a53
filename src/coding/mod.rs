//! Codes a block against loss: repair packets that stand in for any source packets.
//!
//! A file that is sent to many hosts at once is cut into blocks, and a block into at most
//! [`SOURCE_PACKETS`](crate::limits::SOURCE_PACKETS) packets of one length. They are sent as they are. A repair packet is a
//! combination of all packets of its block, so one repair packet serves each host, whichever
//! packet that one lost: of the source packets and the repair packets of a block, any as many as
//! the block has source packets give it back. That is a systematic Cauchy Reed-Solomon code over
//! GF(2^12) ([`field`]); docs/spread.md says why this one.
//!
//! Nothing here needs a block in memory. [`cauchy::Cauchy::add`] takes one source packet at a time,
//! in any order: the sender adds each to the repair packets that it makes, the receiver subtracts
//! ([`decoder::Decoder::subtract`]) each that it has, read from where it keeps them, from the repair packets that
//! came. What is left of these tells of the missing packets alone, and
//! [`decoder::Decoder::recover`] finds each of them.
//!
//! The result is a guess until a hash agrees: one forged packet makes a block wrong.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod cauchy;
pub mod decoder;
pub mod field;
pub mod proof;

#[cfg(test)]
mod tests;
