//! The repository as a mergeable map, and everything computed from it. No I/O.
//!
//! [`map::Map`] holds one [`entry::Entry`] per patch, in memory that the caller
//! lends, and at most one [`rollout`]; [`join`] merges another controller's map into
//! it. The rest is computed from the map: its digest, the sets that hosts should have
//! ([`effective`]) and their layer order ([`layers`]), which patches require which
//! ([`relations`]), whether a change is allowed ([`rules`]), and the state that an
//! operator sees ([`state`]). No result depends on the order in which a controller
//! received the entries, so controllers with the same entries get the same results.

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
