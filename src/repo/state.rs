//! A patch's state as an operator of sw-patch knows it.
//!
//! It is computed from what is known each time it is asked for. Nothing is kept
//! that a dropped or lost host could leave behind, so no patch is stuck in a
//! Partial state, and with no host known every patch says so.

use serde::{Deserialize, Serialize};

use crate::repo::entry::EntryState;

/// A patch's state as an operator of sw-patch knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PatchState {
    /// In the repository and on no host.
    Available,
    /// Wanted, and on every host that it concerns.
    Applied,
    /// Wanted, and not on every host yet.
    PartialApply,
    /// Not wanted, and still on a host.
    PartialRemove,
    /// On every host that it concerns, for good.
    Committed,
    /// No host known, or not yet what the hosts have: nothing can be said.
    NotApplicable,
}

impl PatchState {
    /// As sw-patch shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Applied => "Applied",
            Self::PartialApply => "Partial-Apply",
            Self::PartialRemove => "Partial-Remove",
            Self::Committed => "Committed",
            Self::NotApplicable => "n/a",
        }
    }
}

/// How a patch is spread over the hosts, as far as they have told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Hosts known, of any kind.
    pub hosts_known: u32,
    /// Hosts known that the patch concerns.
    pub hosts_concerned: u32,
    /// Hosts that it concerns and that have it.
    pub concerned_with: u32,
    /// Hosts that have it, of any kind.
    pub hosts_with: u32,
    /// What a host that it concerns has is not known, or no longer.
    pub is_unknown: bool,
    /// It is wanted, but does not stand: see [`super::effective::blocked_by`].
    pub is_blocked: bool,
}

/// A patch's state, from its entry's and from its spread over the hosts.
///
/// A wanted patch that concerns no host known is Applied: nothing is left to
/// do. A committed one that a host still lacks is Partial-Apply, since it is
/// that host which the operator must see to. A blocked one is Partial-Apply
/// even where every host has it: the next install takes it away. One that is
/// not wanted is not called Available, which would say that it is on no host,
/// while a host's answer is outstanding.
#[must_use]
pub fn patch_state(entry: EntryState, spread: &Spread) -> PatchState {
    let everywhere =
        !spread.is_blocked && !spread.is_unknown && spread.concerned_with >= spread.hosts_concerned;
    match entry {
        _ if spread.hosts_known == 0 => PatchState::NotApplicable,
        EntryState::Applied if everywhere => PatchState::Applied,
        EntryState::Committed if everywhere => PatchState::Committed,
        EntryState::Applied | EntryState::Committed => PatchState::PartialApply,
        EntryState::Available | EntryState::Deleted if spread.hosts_with > 0 => PatchState::PartialRemove,
        EntryState::Available if !spread.is_unknown => PatchState::Available,
        EntryState::Available | EntryState::Deleted => PatchState::NotApplicable,
    }
}
