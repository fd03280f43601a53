//! A patch's state as `sw-patch` (StarlingX) shows it.
//!
//! It is computed on demand from the entry and the known hosts. No state is stored that
//! a dropped or lost host could leave behind, so no patch is stuck in a Partial state.
//! If no host is known, every patch is `n/a`.

use serde::{Deserialize, Serialize};

use crate::repo::entry::EntryState;

/// A patch's state as `sw-patch` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PatchState {
    /// In the repository, and on no host.
    Available,
    /// Wanted, and on every host that it concerns.
    Applied,
    /// Wanted, and not on every host yet.
    PartialApply,
    /// Not wanted, and still on a host.
    PartialRemove,
    /// Committed, and on every host that it concerns.
    Committed,
    /// Not known: no host is known, or the hosts have not reported what they have.
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

/// How many hosts have a patch, as far as they have reported.
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
    /// The installed set of a host that it concerns is not known, or out of date.
    pub is_unknown: bool,
    /// It is wanted but blocked; see [`super::effective::blocked_by`].
    pub is_blocked: bool,
}

/// A patch's state, from its entry's state and its spread over the hosts.
///
/// A wanted patch that concerns no known host is Applied: nothing is left to do. A
/// committed patch that a host still lacks is Partial-Apply, because the operator must act
/// on that host. A blocked patch is Partial-Apply even if every host has it: the next
/// install removes it. A patch that is not wanted is not Available, which means "on no
/// host", until every host has reported.
#[must_use]
pub fn patch_state(entry: EntryState, spread: &Spread) -> PatchState {
    let everywhere =
        !spread.is_blocked && !spread.is_unknown && spread.concerned_with >= spread.hosts_concerned;
    match entry {
        _ if spread.hosts_known == 0 => PatchState::NotApplicable,
        EntryState::Applied if everywhere => PatchState::Applied,
        EntryState::Committed if everywhere => PatchState::Committed,
        EntryState::Applied | EntryState::Committed => PatchState::PartialApply,
        EntryState::Available | EntryState::Deleted | EntryState::Voided if spread.hosts_with > 0 => {
            PatchState::PartialRemove
        }
        EntryState::Available if !spread.is_unknown => PatchState::Available,
        EntryState::Available | EntryState::Deleted | EntryState::Voided => PatchState::NotApplicable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EntryState::{Applied, Available, Committed, Deleted, Voided};

    /// Three hosts are known and two of them concerned, of which this many have it.
    fn on(concerned_with: u32) -> Spread {
        Spread {
            hosts_known: 3,
            hosts_concerned: 2,
            concerned_with,
            hosts_with: concerned_with,
            ..Spread::default()
        }
    }

    #[test]
    fn with_no_host_known_every_patch_is_not_applicable() {
        for entry in [Deleted, Available, Applied, Committed, Voided] {
            assert_eq!(patch_state(entry, &Spread::default()), PatchState::NotApplicable);
        }
    }

    #[test]
    fn a_wanted_patch_is_partial_until_every_host_that_it_concerns_has_it() {
        for (entry, everywhere) in [(Applied, PatchState::Applied), (Committed, PatchState::Committed)] {
            assert_eq!(patch_state(entry, &on(0)), PatchState::PartialApply);
            assert_eq!(patch_state(entry, &on(1)), PatchState::PartialApply);
            assert_eq!(patch_state(entry, &on(2)), everywhere);
        }
    }

    #[test]
    fn a_removed_patch_is_partial_while_any_host_has_it() {
        assert_eq!(patch_state(Available, &on(2)), PatchState::PartialRemove);
        assert_eq!(patch_state(Available, &on(1)), PatchState::PartialRemove);
        assert_eq!(patch_state(Available, &on(0)), PatchState::Available);
        let on_another_kind = Spread { hosts_with: 1, ..on(0) };
        assert_eq!(patch_state(Available, &on_another_kind), PatchState::PartialRemove);
        assert_eq!(patch_state(Deleted, &on_another_kind), PatchState::PartialRemove);
        assert_eq!(patch_state(Deleted, &on(0)), PatchState::NotApplicable);
    }

    #[test]
    fn a_host_that_has_not_reported_may_have_any_patch() {
        let unknown = |concerned_with| Spread { is_unknown: true, ..on(concerned_with) };
        assert_eq!(patch_state(Applied, &unknown(2)), PatchState::PartialApply);
        assert_eq!(patch_state(Committed, &unknown(2)), PatchState::PartialApply);
        assert_eq!(patch_state(Available, &unknown(0)), PatchState::NotApplicable);
        assert_eq!(patch_state(Available, &unknown(1)), PatchState::PartialRemove);
    }

    #[test]
    fn a_dropped_host_leaves_no_patch_partial() {
        // The host that lacked it, or still had it, is gone from the counts.
        let one_left = Spread { hosts_known: 1, hosts_concerned: 1, ..on(1) };
        assert_eq!(patch_state(Applied, &one_left), PatchState::Applied);
        let none_has_it = Spread { concerned_with: 0, hosts_with: 0, ..one_left };
        assert_eq!(patch_state(Available, &none_has_it), PatchState::Available);
    }

    #[test]
    fn a_patch_that_concerns_no_known_host_leaves_nothing_to_do() {
        let elsewhere = Spread { hosts_concerned: 0, ..on(0) };
        assert_eq!(patch_state(Applied, &elsewhere), PatchState::Applied);
        assert_eq!(patch_state(Available, &elsewhere), PatchState::Available);
    }

    #[test]
    fn a_blocked_patch_is_not_called_applied() {
        let blocked = Spread { is_blocked: true, ..on(2) };
        assert_eq!(patch_state(Applied, &blocked), PatchState::PartialApply);
        assert_eq!(patch_state(Committed, &blocked), PatchState::PartialApply);
    }
}
