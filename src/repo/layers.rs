//! The layer order of patches: a required patch lies below the one that requires it,
//! and otherwise the lower id lies below.
//!
//! The controller sorts a manifest this way and the agent its installed patches. Each
//! uses its own data, so the order depends only on the ids and on `requires` within the
//! set. A required patch outside the set has no effect.

use core::fmt;

use crate::types::PatchId;

/// Two patches with a file or link at the same path, of which none requires the other,
/// directly or through others: which one is in place would depend on their ids. Controllers
/// refuse to apply them, and hosts to install them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unordered<'m>(pub &'m PatchId, pub &'m PatchId);

/// What to do comes before the path, which the caller appends: a long one is cut.
impl fmt::Display for Unordered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(first, second) = self;
        write!(
            f,
            "{first} and {second} share a path and neither requires the other, so none can lie on top: \
             apply only one of them"
        )
    }
}

/// Sorts patches into layer order, bottom first. `facts` gives a patch's id, which must
/// be unique in the set, and the ids that it requires. Each position gets the lowest id
/// whose requirements are already placed. A cycle of requirements is broken at the same
/// patch on every node; patches outside the cycle still lie above what they require.
///
/// Takes `n log n` steps if ids rise with `requires`, as release numbers do, and at most
/// `n^2`, each times the requirements of one patch.
pub fn layer_order<'m, T: Copy>(patches: &mut [T], facts: impl Fn(T) -> (&'m PatchId, &'m [PatchId])) {
    patches.sort_unstable_by(|a, b| facts(*a).0.cmp(facts(*b).0));
    let mut rest = patches;
    while !rest.is_empty() {
        let ready = (0..rest.len()).find(|at| waits_for(rest, *at, &facts).next().is_none());
        let next = ready.unwrap_or_else(|| in_cycle(rest, &facts));
        // Moves it to the front; the others stay sorted by id.
        if let Some(front) = rest.get_mut(..=next) {
            front.rotate_right(1);
        }
        rest = rest.split_first_mut().map_or(&mut [], |(_, behind)| behind);
    }
}

/// The patches in `rest`, which is sorted by id, that the one at `at` requires. A patch
/// that requires itself does not wait for itself.
fn waits_for<'m, T: Copy>(
    rest: &[T],
    at: usize,
    facts: &impl Fn(T) -> (&'m PatchId, &'m [PatchId]),
) -> impl Iterator<Item = usize> {
    let requires = rest.get(at).map_or(&[][..], |patch| facts(*patch).1);
    let find = |id: &PatchId| rest.binary_search_by(|other| facts(*other).0.cmp(id)).ok();
    requires.iter().filter_map(find).filter(move |other| *other != at)
}

/// A patch in a cycle, if every patch in `rest` waits for another. A walk from each patch
/// to the lowest that it waits for is inside a cycle after as many steps as there are
/// patches.
fn in_cycle<'m, T: Copy>(rest: &[T], facts: &impl Fn(T) -> (&'m PatchId, &'m [PatchId])) -> usize {
    (0..rest.len()).fold(0, |at, _| waits_for(rest, at, facts).min().unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::repo::entry::Entry;
    use crate::repo::fixture::{SplitMix, entry};

    /// The ids in layer order, whatever order the patches came in.
    fn ordered(patches: &[Entry]) -> Vec<&str> {
        let mut random = SplitMix::new(7);
        let mut order: Vec<&Entry> = patches.iter().collect();
        let mut each_time = (0..8).map(|_| {
            random.shuffle(&mut order);
            layer_order(&mut order, |entry: &Entry| (&entry.id, &entry.meta.requires));
            order.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>()
        });
        let first = each_time.next().unwrap();
        assert!(each_time.all(|other| other == first), "the order depends on how the patches came");
        first
    }

    #[test]
    fn unrelated_patches_lie_in_the_order_of_their_ids() {
        assert_eq!(ordered(&[entry("B"), entry("A"), entry("C")]), ["A", "B", "C"]);
        assert!(ordered(&[]).is_empty());
    }

    #[test]
    fn a_patch_lies_above_what_it_requires_and_as_low_as_its_id_allows() {
        let chain = [entry("A").requires(&["C"]), entry("B"), entry("C").requires(&["D"]), entry("D")];
        assert_eq!(ordered(&chain), ["B", "D", "C", "A"]);
        let diamond = [entry("A").requires(&["B", "C"]), entry("B").requires(&["D"]), entry("C"), entry("D")];
        assert_eq!(ordered(&diamond), ["C", "D", "B", "A"]);
    }

    #[test]
    fn a_required_patch_outside_the_set_has_no_effect() {
        assert_eq!(ordered(&[entry("A").requires(&["X"]), entry("B")]), ["A", "B"]);
    }

    #[test]
    fn a_cycle_is_broken_at_the_same_patch_and_patches_that_require_it_lie_above() {
        let circle = [
            entry("A").requires(&["C"]),
            entry("B").requires(&["D"]),
            entry("C").requires(&["B"]),
            entry("D").requires(&["C", "D"]),
            entry("E"),
        ];
        assert_eq!(ordered(&circle), ["E", "C", "A", "D", "B"]);
        assert_eq!(ordered(&[entry("B").requires(&["B"]), entry("A").requires(&["B"])]), ["B", "A"]);
    }

    #[test]
    fn the_order_in_which_requirements_are_listed_does_not_matter() {
        let listed = |requires: &[&str]| {
            let patches =
                [entry("A").requires(requires), entry("B").requires(&["A"]), entry("C").requires(&["A"])];
            ordered(&patches).join(" ")
        };
        assert_eq!(listed(&["B", "C"]), listed(&["C", "B"]));
    }

    #[test]
    fn in_any_set_without_circles_every_patch_lies_above_all_that_it_requires() {
        for seed in 0..50 {
            let mut random = SplitMix::new(seed);
            let mut names: Vec<_> = (0..64).map(|number| std::format!("P-{number}")).collect();
            random.shuffle(&mut names);
            // Each requires some of those before it, whose ids are lower or higher.
            let requires = |random: &mut SplitMix, at: usize| -> Vec<&str> {
                (0..random.below(4)).filter(|_| at > 0).map(|_| names[random.below(at)].as_str()).collect()
            };
            let patches: Vec<Entry> =
                (0..64).map(|at| entry(&names[at]).requires(&requires(&mut random, at))).collect();
            let order = ordered(&patches);
            let place = |id: &str| order.iter().position(|other| *other == id).unwrap();
            for patch in &patches {
                for below in &patch.meta.requires {
                    assert!(place(below.as_str()) < place(patch.id.as_str()), "seed {seed}");
                }
            }
        }
    }
}
