//! The rule on shared paths: of two patches that can be on one host and share a path,
//! one must require the other, which decides their order. Directories may be shared.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::JobFailure;
use super::index::PatchPath;
use crate::repo::effective::wanted;
use crate::repo::entry::Entry;
use crate::repo::map::Map;
use crate::repo::slots::{Slot, SlotSet};
use crate::types::PatchId;

/// Checks the patches that a command would apply against each other and against all
/// applied ones. `paths_of` returns a patch's paths.
///
/// # Errors
/// [`JobFailure`]: two of them collide (it names them and the path), or `paths_of` failed.
pub(super) fn check(
    map: &Map<'_>,
    to_apply: &SlotSet,
    mut paths_of: impl FnMut(&Entry) -> Result<Vec<PatchPath>, JobFailure>,
) -> Result<(), JobFailure> {
    let staying = wanted(map).iter().filter(|slot| !to_apply.contains(*slot)).collect::<Vec<_>>();
    let mut rule = Rule { map, owners: HashMap::new(), required: HashMap::new() };
    // Only the paths of the new patches are kept in memory.
    for slot in to_apply.iter().chain(staying) {
        let Some(entry) = map.entry(slot) else { continue };
        for member in paths_of(entry)? {
            let above = member.path.ancestors().skip(1).map(|path| (path, true));
            let itself = [(member.path.as_path(), member.is_directory)];
            for (path, is_directory) in above.chain(itself) {
                rule.check_path(slot, path, is_directory)?;
                if to_apply.contains(slot) {
                    rule.add_owner(slot, path, is_directory);
                }
            }
        }
    }
    Ok(())
}

struct Rule<'m, 's> {
    map: &'m Map<'s>,
    /// The patches that have a path, and whether as a directory.
    owners: HashMap<PathBuf, Vec<(Slot, bool)>>,
    /// All patches that a patch requires, directly or indirectly.
    required: HashMap<Slot, SlotSet>,
}

impl Rule<'_, '_> {
    fn add_owner(&mut self, slot: Slot, path: &Path, is_directory: bool) {
        if let Some(owners) = self.owners.get_mut(path) {
            if !owners.contains(&(slot, is_directory)) {
                owners.push((slot, is_directory));
            }
        } else {
            self.owners.insert(path.to_path_buf(), vec![(slot, is_directory)]);
        }
    }

    fn check_path(&mut self, slot: Slot, path: &Path, is_directory: bool) -> Result<(), JobFailure> {
        let Some(owners) = self.owners.get(path) else { return Ok(()) };
        let others: Vec<Slot> = owners
            .iter()
            .filter(|(other, also_directory)| *other != slot && !(is_directory && *also_directory))
            .map(|(other, _)| *other)
            .collect();
        for other in others {
            let (Some(one), Some(two)) = (self.map.entry(other), self.map.entry(slot)) else { continue };
            if can_share_host(one, two) && !self.requires(slot, other) && !self.requires(other, slot) {
                return Err(refusal(&one.id, &two.id, path));
            }
        }
        Ok(())
    }

    /// Whether the patch in `slot` requires the other, directly or indirectly.
    fn requires(&mut self, slot: Slot, other: Slot) -> bool {
        self.required.entry(slot).or_insert_with(|| required_by(self.map, slot)).contains(other)
    }
}

/// Whether both patches can be on the same host.
fn can_share_host(one: &Entry, two: &Entry) -> bool {
    let (one, two) = (&one.meta, &two.meta);
    one.nodetypes.is_empty()
        || two.nodetypes.is_empty()
        || one.nodetypes.iter().any(|kind| two.concerns(kind))
}

fn required_by(map: &Map<'_>, slot: Slot) -> SlotSet {
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
