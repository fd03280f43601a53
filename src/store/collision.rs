//! The rule on shared paths: of two patches that can be on one host and share a path,
//! one must require the other, which decides their order. Directories may be shared.

use std::collections::HashMap;

use super::blobs::BlobStore;
use super::error::JobFailure;
use super::index::{self, PatchPaths};
use crate::limits;
use crate::repo::effective::wanted;
use crate::repo::entry::Entry;
use crate::repo::map::Map;
use crate::repo::slots::{Slot, SlotSet};

/// New patches are compared with all others in groups, whose paths are in memory together:
/// a group takes patches until it has as many paths as one patch may have.
const GROUP_PATHS: usize = limits::PATCH_MEMBERS;

/// Checks the patches that a command would apply against each other and against all
/// applied ones.
///
/// # Errors
/// [`JobFailure`]: two of them collide (it names them and the path), or the paths of one
/// cannot be read.
pub(super) fn check(map: &Map<'_>, to_apply: &SlotSet, blobs: &BlobStore) -> Result<(), JobFailure> {
    let mut rule = Rule { map, blobs, group: Vec::new(), required: HashMap::new() };
    let mut rest = *to_apply;
    loop {
        rule.group.clear();
        let mut paths = 0;
        while paths < GROUP_PATHS
            && let Some(slot) = rest.pop()
        {
            let these = rule.compare(slot)?;
            paths += these.len();
            rule.group.push((slot, these));
        }
        if rule.group.is_empty() {
            return Ok(());
        }
        let staying = wanted(map);
        for slot in rest.iter().chain(staying.iter().filter(|slot| !to_apply.contains(*slot))) {
            rule.compare(slot)?;
        }
    }
}

struct Rule<'m, 's> {
    map: &'m Map<'s>,
    blobs: &'m BlobStore,
    /// The paths of some new patches.
    group: Vec<(Slot, PatchPaths)>,
    /// All patches that a patch requires, directly or indirectly.
    required: HashMap<Slot, SlotSet>,
}

impl Rule<'_, '_> {
    /// Compares a patch with those of the group. Returns its paths.
    fn compare(&mut self, slot: Slot) -> Result<PatchPaths, JobFailure> {
        let Some(entry) = self.map.entry(slot) else { return Ok(PatchPaths::default()) };
        let paths = index::read(self.blobs, entry)?;
        let Self { map, group, required, .. } = self;
        let mut requires =
            |one, other| required.entry(one).or_insert_with(|| required_by(map, one)).contains(other);
        for (other, other_paths) in group {
            let Some(other_entry) = map.entry(*other) else { continue };
            if can_share_host(entry, other_entry)
                && paths.collide(other_paths)
                && !requires(slot, *other)
                && !requires(*other, slot)
            {
                return Err(self.refusal(entry, &paths, other_entry));
            }
        }
        Ok(paths)
    }

    /// The refusal of two patches. The path that they share is read from one of them.
    fn refusal(&self, one: &Entry, paths: &PatchPaths, two: &Entry) -> JobFailure {
        let in_one = || index::shared(self.blobs, one, &index::read(self.blobs, two).ok()?).ok()?;
        let path = index::shared(self.blobs, two, paths).ok().flatten().or_else(in_one);
        let (first, second) = if one.id < two.id { (one, two) } else { (two, one) };
        let path = match path {
            Some(path) => format!(". The path is /{}", path.display()),
            None => String::new(),
        };
        JobFailure::refused(format_args!(
            "{} and {} share a path and neither requires the other, so none can lie on top: \
             apply only one of them{path}",
            first.id, second.id
        ))
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
