//! The repository as a map that merges, and what follows from it. No I/O.
//!
//! [`map::Map`] holds one [`entry::Entry`] per patch, in memory that the caller
//! lends, and at most one [`rollout`]; [`join`] merges another controller's into
//! it. All else is computed from it: its digest, the sets that hosts should have
//! ([`effective`]), in which order they lie on each other ([`layers`]), who
//! requires whom ([`relations`]), what a change may do ([`rules`]) and what an
//! operator sees ([`state`]). Nothing here depends on the order in which a
//! controller learned of entries, so all controllers with the same entries come
//! to the same answers.

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

pub mod digest;
pub mod effective;
pub mod entry;
pub mod join;
pub mod layers;
pub mod map;
pub mod refusal;
pub mod relations;
pub mod rollout;
pub mod rules;
pub mod slots;
pub mod state;

#[cfg(test)]
pub(crate) mod fixture;
