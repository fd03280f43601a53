//! Floors, and what patches supersede: what a maker has signed that a set of patches must
//! not go below. No I/O.
//!
//! A floor is a patch without files. Of the floors of a set those with the highest serial
//! are in force. Agents check each set that they are to install, against what they have
//! installed and what they remember; controllers check a change in the same way, to refuse
//! early what agents would refuse.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::time::Day;
use crate::types::{Hash, NodeType, PatchId, SwVersion};

/// What the metadata of a floor say. The order of the fields here and below is on the
/// disks of agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// `serial`: a floor replaces those with a lower one.
    pub serial: u32,
    /// `expires`: the last day before it counts as old. Nothing stops then.
    pub expires: Day,
    /// `[require.ID]`: patches that a set must have, or one that supersedes them. At most
    /// [`limits::FLOOR_REQUIRES`].
    pub require: Vec<Required>,
    /// `allows`: superseded patches that may be installed again, sorted. At most
    /// [`limits::SUPERSEDES`].
    pub allows: Vec<PatchId>,
}

/// A patch that a floor requires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Required {
    /// Its id.
    pub id: PatchId,
    /// BLAKE3 of its file.
    pub hash: Hash,
    /// The kinds of hosts that need it; none means all.
    pub nodetypes: Vec<NodeType>,
    /// Only hosts on which this release runs need it.
    pub release: Option<SwVersion>,
}

impl Required {
    /// Whether a host needs the patch.
    #[must_use]
    pub fn concerns(&self, nodetype: &NodeType, release: &SwVersion) -> bool {
        (self.nodetypes.is_empty() || self.nodetypes.contains(nodetype))
            && self.release.as_ref().is_none_or(|only| only == release)
    }
}

/// What one patch of a set says about others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Says {
    /// The patch.
    pub id: PatchId,
    /// The patches that it supersedes, sorted.
    pub supersedes: Vec<PatchId>,
    /// What it says as a floor.
    pub floor: Option<Floor>,
}

/// What is remembered of the sets that were in force so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The patches of the present set that say something.
    pub says: Vec<Says>,
    /// All patches that a patch of this set or of an earlier one supersedes, sorted. At most
    /// [`limits::SUPERSEDED`].
    pub superseded: Vec<PatchId>,
}

/// Why a set may not be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BelowFloor {
    /// It has neither the floor in force nor a higher one.
    Without {
        /// The floor.
        floor: PatchId,
        /// Its serial.
        serial: u32,
    },
    /// It lacks a patch that its floor requires.
    Lacks {
        /// The floor.
        floor: PatchId,
        /// The patch.
        id: PatchId,
        /// The hash of its file.
        hash: Hash,
    },
    /// It has a patch that was superseded, and none that supersedes it and lies above it.
    Superseded(PatchId),
    /// It supersedes more patches than can be remembered; this is one of them.
    TooMany(PatchId),
}

impl Says {
    /// What the maker of a floor should know before signing it: what leaves operators without
    /// a way on, or has no effect.
    #[cfg(feature = "tools")]
    #[must_use]
    pub fn doubts(&self, today: Day) -> Vec<String> {
        let mut doubts = Vec::new();
        let Some(floor) = &self.floor else { return doubts };
        if floor.serial == u32::MAX {
            doubts.push("no serial is higher than its own: no later floor can take its place".to_owned());
        }
        if floor.expires < today {
            doubts.push(format!("its last day, {}, has passed: status calls it old at once", floor.expires));
        }
        for Required { id, .. } in &floor.require {
            if *id == self.id {
                doubts.push("it requires another file of its own id: no host can install it".to_owned());
            } else if self.supersedes.contains(id) && !floor.allows.contains(id) {
                doubts.push(format!("it supersedes {id}, so that it requires it has no effect"));
            }
        }
        doubts
    }
}

/// The floors in force in a set.
pub fn in_force(says: &[Says]) -> impl Iterator<Item = (&PatchId, &Floor)> {
    let floors = || says.iter().filter_map(|said| Some((&said.id, said.floor.as_ref()?)));
    let highest = floors().map(|(_, floor)| floor.serial).max();
    floors().filter(move |(_, floor)| Some(floor.serial) == highest)
}

impl Memory {
    /// Checks a set that is to follow. `says` are the patches of it that say something,
    /// `hash_of` is the hash of a patch of it, `concerns` whether a required patch must be in
    /// it, `requires` whether one patch of it requires another, so that it lies above it: a
    /// superseded patch that lay above would have its files in place.
    ///
    /// # Errors
    /// [`BelowFloor`], all but [`BelowFloor::TooMany`].
    pub fn check(
        &self,
        says: &[Says],
        hash_of: &dyn Fn(&PatchId) -> Option<Hash>,
        concerns: &dyn Fn(&Required) -> bool,
        requires: &dyn Fn(&PatchId, &PatchId) -> bool,
    ) -> Result<(), BelowFloor> {
        let serial = in_force(says).next().map(|(_, floor)| floor.serial);
        for (id, floor) in in_force(&self.says) {
            if hash_of(id).is_none() && serial <= Some(floor.serial) {
                return Err(BelowFloor::Without { floor: id.clone(), serial: floor.serial });
            }
        }
        let is_superseded = |id: &PatchId| says.iter().any(|said| said.supersedes.contains(id));
        for (floor, required) in
            in_force(says).flat_map(|(id, floor)| floor.require.iter().map(move |it| (id, it)))
        {
            let Required { id, hash, .. } = required;
            if concerns(required) && hash_of(id) != Some(*hash) && !is_superseded(id) {
                return Err(BelowFloor::Lacks { floor: floor.clone(), id: id.clone(), hash: *hash });
            }
        }
        let is_allowed = |id: &PatchId| in_force(says).any(|(_, floor)| floor.allows.contains(id));
        let is_covered =
            |id: &PatchId| says.iter().any(|said| said.supersedes.contains(id) && requires(&said.id, id));
        let comes_back = |id: &&PatchId| hash_of(id).is_some() && !is_covered(id) && !is_allowed(id);
        let now = says.iter().flat_map(|said| &said.supersedes);
        match self.superseded.iter().chain(now).find(comes_back) {
            Some(id) => Err(BelowFloor::Superseded(id.clone())),
            None => Ok(()),
        }
    }

    /// What is remembered once a set is installed.
    ///
    /// # Errors
    /// [`BelowFloor::TooMany`].
    pub fn after(&self, says: Vec<Says>) -> Result<Self, BelowFloor> {
        let mut superseded = self.superseded.clone();
        for id in says.iter().flat_map(|said| &said.supersedes) {
            if let Err(at) = superseded.binary_search(id) {
                if superseded.len() >= limits::SUPERSEDED {
                    return Err(BelowFloor::TooMany(id.clone()));
                }
                superseded.insert(at, id.clone());
            }
        }
        Ok(Self { says, superseded })
    }
}

impl fmt::Display for BelowFloor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Without { floor, serial } => write!(
                f,
                "{floor} is the floor in force (serial {serial}): apply it, or a floor with a higher serial"
            ),
            Self::Lacks { floor, id, hash } => write!(
                f,
                "the floor {floor} requires {id} (hash {hash:.12}): apply it, or a patch that supersedes it"
            ),
            Self::Superseded(id) => {
                write!(
                    f,
                    "{id} was superseded: remove it, or apply a patch that supersedes and requires it as well, or a \
                     floor that allows it"
                )
            }
            Self::TooMany(id) => write!(
                f,
                "{id} would be superseded, and {} patches are remembered already: remove the patch that supersedes it",
                limits::SUPERSEDED
            ),
        }
    }
}

impl std::error::Error for BelowFloor {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Reason;

    fn id(text: &str) -> PatchId {
        PatchId::new(text).unwrap()
    }

    fn hash(text: &str) -> Hash {
        Hash(*blake3::hash(text.as_bytes()).as_bytes())
    }

    fn floor(name: &str, serial: u32, require: &[&str]) -> Says {
        let required = |of: &&str| Required { id: id(of), hash: hash(of), nodetypes: vec![], release: None };
        let require = require.iter().map(required).collect();
        let floor = Floor { serial, expires: Day::default(), require, allows: vec![] };
        Says { id: id(name), supersedes: vec![], floor: Some(floor) }
    }

    fn superseding(name: &str, supersedes: &[&str]) -> Says {
        Says { id: id(name), supersedes: supersedes.iter().map(|it| id(it)).collect(), floor: None }
    }

    /// Checks a set of these patches, each with its own hash, after `memory`.
    fn check(memory: &Memory, set: &[&str], says: &[Says]) -> Result<(), BelowFloor> {
        let hash_of = |it: &PatchId| set.contains(&it.as_str()).then(|| hash(it.as_str()));
        // All but those called BESIDE require what they supersede.
        memory.check(says, &hash_of, &|_| true, &|upper, _| !upper.as_str().starts_with("BESIDE"))
    }

    fn memory(says: &[Says]) -> Memory {
        Memory::default().after(says.to_vec()).unwrap()
    }

    #[test]
    fn a_floor_leaves_only_for_a_higher_one() {
        let f5 = floor("F5", 5, &[]);
        let now = memory(std::slice::from_ref(&f5));
        let without = BelowFloor::Without { floor: id("F5"), serial: 5 };
        assert_eq!(check(&now, &["F5"], std::slice::from_ref(&f5)), Ok(()));
        assert_eq!(check(&now, &["F5", "F6"], &[f5, floor("F6", 6, &[])]), Ok(()));
        assert_eq!(check(&now, &["F6"], &[floor("F6", 6, &[])]), Ok(()));
        for (other, serial) in [("F4", 4), ("G5", 5)] {
            assert_eq!(check(&now, &[other], &[floor(other, serial, &[])]), Err(without.clone()), "{other}");
        }
        assert_eq!(check(&now, &[], &[]), Err(without));
        // Only the highest of an earlier set counts.
        let both = memory(&[floor("F5", 5, &[]), floor("F6", 6, &[])]);
        assert_eq!(check(&both, &["F6"], &[floor("F6", 6, &[])]), Ok(()));
    }

    #[test]
    fn what_the_floor_in_force_requires_must_be_there_with_its_hash_or_superseded() {
        let none = Memory::default();
        let f1 = floor("F1", 1, &["P1"]);
        let lacks = BelowFloor::Lacks { floor: id("F1"), id: id("P1"), hash: hash("P1") };
        assert_eq!(check(&none, &["F1", "P1"], std::slice::from_ref(&f1)), Ok(()));
        assert_eq!(check(&none, &["F1"], std::slice::from_ref(&f1)), Err(lacks.clone()));
        assert_eq!(check(&none, &["F1", "P2"], &[f1.clone(), superseding("P2", &["P1"])]), Ok(()));
        let other = |_: &PatchId| Some(hash("other content"));
        let above = |_: &PatchId, _: &PatchId| true;
        assert_eq!(none.check(std::slice::from_ref(&f1), &other, &|_| true, &above), Err(lacks));
        assert_eq!(none.check(std::slice::from_ref(&f1), &other, &|_| false, &above), Ok(()));
        // A lower floor of the same set demands nothing.
        assert_eq!(check(&none, &["F1", "F2"], &[f1, floor("F2", 2, &[])]), Ok(()));
    }

    #[test]
    fn a_superseded_patch_does_not_come_back_without_one_that_supersedes_it() {
        let p2 = superseding("P2", &["P1"]);
        let now = memory(std::slice::from_ref(&p2));
        let later = now.after(vec![]).unwrap();
        for memory in [&now, &later] {
            assert_eq!(check(memory, &["P1"], &[]), Err(BelowFloor::Superseded(id("P1"))));
            assert_eq!(check(memory, &[], &[]), Ok(()));
            assert_eq!(check(memory, &["P1", "P2"], std::slice::from_ref(&p2)), Ok(()));
            assert_eq!(check(memory, &["P1", "P3"], &[superseding("P3", &["P1"])]), Ok(()));
            let beside = superseding("BESIDE", &["P1"]);
            assert_eq!(
                check(memory, &["P1", "BESIDE"], std::slice::from_ref(&beside)),
                Err(BelowFloor::Superseded(id("P1"))),
                "it may lie above"
            );
            assert_eq!(check(memory, &["P1", "P2", "BESIDE"], &[p2.clone(), beside]), Ok(()));
            let mut allows = floor("F1", 1, &[]);
            allows.floor.as_mut().unwrap().allows.push(id("P1"));
            assert_eq!(check(memory, &["P1", "F1"], &[allows]), Ok(()));
        }
    }

    #[test]
    fn what_is_remembered_has_a_bound_and_nothing_is_forgotten_for_it() {
        let many: Vec<_> = (0..limits::SUPERSEDED).map(|at| format!("P{at:04}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let full = memory(&[superseding("N", &many)]);
        assert!(full.superseded.is_sorted());
        assert_eq!(full.after(vec![superseding("N", &many)]).unwrap().superseded.len(), limits::SUPERSEDED);
        let more = full.after(vec![superseding("N", &["Q"])]);
        assert_eq!(more, Err(BelowFloor::TooMany(id("Q"))));
    }

    #[cfg(feature = "tools")]
    #[test]
    fn a_maker_is_warned_of_a_floor_that_leaves_no_way_on() {
        let today = Day::of_unix_ms(86_400_000);
        let doubts = |says: &Says| says.doubts(today).join("; ");
        let mut fine = floor("F1", u32::MAX - 1, &["P1"]);
        fine.supersedes = vec![id("P0")];
        fine.floor.as_mut().unwrap().expires = today;
        assert_eq!(doubts(&fine), "");
        assert_eq!(doubts(&superseding("P2", &["P1"])), "");
        let of = |change: &dyn Fn(&mut Says, &mut Floor)| {
            let mut says = fine.clone();
            let mut floor = says.floor.take().unwrap();
            change(&mut says, &mut floor);
            says.floor = Some(floor);
            doubts(&says)
        };
        assert!(of(&|_, floor| floor.serial = u32::MAX).starts_with("no serial is higher than its own"));
        assert_eq!(
            of(&|_, floor| floor.expires = Day::default()),
            "its last day, 1970-01-01, has passed: status calls it old at once"
        );
        assert!(
            of(&|_, floor| floor.require[0].id = id("F1")).starts_with("it requires another file of its own")
        );
        assert!(of(&|says, _| says.supersedes = vec![id("P1")]).starts_with("it supersedes P1, so that it"));
        let allowed = of(&|says, floor| {
            says.supersedes = vec![id("P1")];
            floor.allows = vec![id("P1")];
        });
        assert_eq!(allowed, "");
    }

    #[test]
    fn every_refusal_fits_the_reason_that_reaches_the_operator() {
        let longest = || id(&"P".repeat(limits::PATCH_ID_BYTES));
        for refusal in [
            BelowFloor::Without { floor: longest(), serial: u32::MAX },
            BelowFloor::Lacks { floor: longest(), id: longest(), hash: hash("x") },
            BelowFloor::Superseded(longest()),
            BelowFloor::TooMany(longest()),
        ] {
            let said = refusal.to_string();
            assert_eq!(Reason::format(format_args!("{refusal}")).raw(), said, "{} bytes", said.len());
        }
    }
}
