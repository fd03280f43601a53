//! Two patches that could be on one host and share a path must say by `requires`
//! which lies on top. Directories may be shared.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::JobFailure;
use super::index::LaidPath;
use crate::repo::effective::wanted;
use crate::repo::entry::Entry;
use crate::repo::map::Map;
use crate::repo::slots::{Slot, SlotSet};
use crate::types::PatchId;

/// Checks the patches that a command would apply against each other and against
/// all that are applied; `paths_of` gives a patch's paths.
///
/// # Errors
/// [`JobFailure`]: two of them collide, named with the path; or `paths_of` failed.
pub(super) fn check(
    map: &Map<'_>,
    to_apply: &SlotSet,
    mut paths_of: impl FnMut(&Entry) -> Result<Vec<LaidPath>, JobFailure>,
) -> Result<(), JobFailure> {
    let staying = wanted(map).iter().filter(|slot| !to_apply.contains(*slot)).collect::<Vec<_>>();
    let mut rule = Rule { map, owners: HashMap::new(), below: HashMap::new() };
    // Only the new patches' paths are held; the others pass by, one at a time.
    for slot in to_apply.iter().chain(staying) {
        let Some(entry) = map.entry(slot) else { continue };
        for laid in paths_of(entry)? {
            let above = laid.path.ancestors().skip(1).map(|path| (path, true));
            let itself = [(laid.path.as_path(), laid.is_directory)];
            for (path, is_directory) in above.chain(itself) {
                rule.meet(slot, path, is_directory)?;
                if to_apply.contains(slot) {
                    rule.own(slot, path, is_directory);
                }
            }
        }
    }
    Ok(())
}

struct Rule<'m, 's> {
    map: &'m Map<'s>,
    /// Who has a path, and whether as a directory.
    owners: HashMap<PathBuf, Vec<(Slot, bool)>>,
    /// All that a patch requires, at however many removes.
    below: HashMap<Slot, SlotSet>,
}

impl Rule<'_, '_> {
    fn own(&mut self, slot: Slot, path: &Path, is_directory: bool) {
        if let Some(owners) = self.owners.get_mut(path) {
            if !owners.contains(&(slot, is_directory)) {
                owners.push((slot, is_directory));
            }
        } else {
            self.owners.insert(path.to_path_buf(), vec![(slot, is_directory)]);
        }
    }

    fn meet(&mut self, slot: Slot, path: &Path, is_directory: bool) -> Result<(), JobFailure> {
        let Some(owners) = self.owners.get(path) else { return Ok(()) };
        let others: Vec<Slot> = owners
            .iter()
            .filter(|(other, also_directory)| *other != slot && !(is_directory && *also_directory))
            .map(|(other, _)| *other)
            .collect();
        for other in others {
            let (Some(one), Some(two)) = (self.map.entry(other), self.map.entry(slot)) else { continue };
            if can_meet(one, two) && !self.requires(slot, other) && !self.requires(other, slot) {
                return Err(refusal(&one.id, &two.id, path));
            }
        }
        Ok(())
    }

    /// Whether the patch in `slot` requires the other, at however many removes.
    fn requires(&mut self, slot: Slot, other: Slot) -> bool {
        self.below.entry(slot).or_insert_with(|| below(self.map, slot)).contains(other)
    }
}

/// Whether there can be a host that both concern.
fn can_meet(one: &Entry, two: &Entry) -> bool {
    let (one, two) = (&one.meta, &two.meta);
    one.nodetypes.is_empty()
        || two.nodetypes.is_empty()
        || one.nodetypes.iter().any(|kind| two.concerns(kind))
}

fn below(map: &Map<'_>, slot: Slot) -> SlotSet {
    let mut found = SlotSet::new();
    let mut next: SlotSet = [slot].into_iter().collect();
    while let Some(slot) = next.pop() {
        let Some(entry) = map.entry(slot) else { continue };
        for (required, _) in entry.meta.requires.iter().filter_map(|id| map.get(id)) {
            if found.insert(required) {
                next.insert(required);
            }
        }
    }
    found
}

fn refusal(one: &PatchId, two: &PatchId, path: &Path) -> JobFailure {
    let (first, second) = if one < two { (one, two) } else { (two, one) };
    JobFailure::refused(format_args!(
        "{first} and {second} share a path and neither requires the other, so none can lie on top: \
         apply only one of them. The path is /{}",
        path.display()
    ))
}
