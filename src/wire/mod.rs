//! Bytes to messages and back. No I/O, no clock, no heap.
//!
//! The contract of a datagram: [`codec::Codec::decode`] gives a message only if
//! every check of its order held, else a [`refusal::Refusal`] that has a
//! counter. What comes out is typed and bounded; nothing after it looks at bytes
//! again. Streams have frames of their own ([`frame::Frame`], sealed and opened
//! by [`session`]), because what travels there is larger and in order.
//!
//! Message types are separate from their encoding, so that a second codec can be added.

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

pub mod codec;
pub mod frame;
pub mod header;
pub mod install;
pub mod keys;
pub mod messages;
pub mod packet;
pub mod refusal;
pub mod replay;
pub mod session;
