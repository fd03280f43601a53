//! Which patches may be applied together, by their paths, if they can be on one host:
//!
//! - Where one has a file, a link or a removal, the other may not need a directory,
//!   whatever they require: hosts reject an install of both (`FileAndDirectory` and
//!   `ThroughPatchedLink` of the installer). They still reject what depends on their own links
//!   and directories, and what two controllers applied apart and then merged.
//! - Where both have a file, one must require the other, directly or through others that their
//!   hosts have as well, which decides their order. Hosts check that again.
//! - Directories may be shared.
//!
//! Costs: a new patch is compared with each applied one, which reads the index of that one and
//! walks through the paths of both. With 256 patches of 65,536 paths each, applying one reads
//! 128 MiB and takes 0.3 s on a shared x86-64 core; applying all at once reads each index once
//! for each patch before it, 16 GiB nearly always from the page cache, and takes 36 s. In memory
//! are the paths of one group of new patches and those of one other patch.

use super::blobs::BlobStore;
use super::error::JobFailure;
use super::index::{self, Held, PatchPaths, PathKey};
use crate::limits;
use crate::repo::effective::wanted;
use crate::repo::entry::Entry;
use crate::repo::layers::Unordered;
use crate::repo::map::Map;
use crate::repo::relations::closure;
use crate::repo::slots::{Slot, SlotSet};
use crate::types::NodeType;

/// New patches are compared with all others in groups, whose paths are in memory together:
/// a group takes patches until it has as many paths as one patch may have.
const GROUP_PATHS: usize = limits::PATCH_MEMBERS;

/// What to do about two patches that no host can have together.
const ONLY_ONE: &str = "apply only one of them, and if the other is applied, remove it and install first";

/// Checks the patches that a command would apply against each other and against all
/// applied ones.
///
/// # Errors
/// [`JobFailure`]: two of them conflict (it names them and the path), or the paths of one
/// cannot be read.
pub(super) fn check(map: &Map<'_>, to_apply: &SlotSet, blobs: &BlobStore) -> Result<(), JobFailure> {
    let mut rule = Rule { map, blobs, group: Vec::new(), required: Vec::new() };
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

/// One of two patches that meet at a path.
#[derive(Clone, Copy)]
struct Side<'m> {
    entry: &'m Entry,
    /// The path, as this patch has it.
    key: PathKey,
}

struct Rule<'m, 's> {
    map: &'m Map<'s>,
    blobs: &'m BlobStore,
    /// The paths of some new patches.
    group: Vec<(Slot, PatchPaths)>,
    /// A patch and all that it requires, directly or through others that all hosts of these
    /// kinds have. At most [`limits::ENTRIES`].
    required: Vec<(Slot, Kinds, SlotSet)>,
}

/// Kinds of hosts; none means all.
type Kinds = heapless::Vec<NodeType, { limits::PATCH_NODETYPES }, u8>;

impl Rule<'_, '_> {
    /// Compares a patch with those of the group. Returns its paths.
    fn compare(&mut self, slot: Slot) -> Result<PatchPaths, JobFailure> {
        let Some(entry) = self.map.entry(slot) else { return Ok(PatchPaths::default()) };
        let paths = index::read(self.blobs, entry)?;
        let Self { map, group, required, .. } = self;
        let mut requires = |one, other, kinds: &Kinds| {
            if let Some((.., all)) = required.iter().find(|(slot, of, _)| *slot == one && of == kinds) {
                return all.contains(other);
            }
            if required.len() >= limits::ENTRIES {
                required.clear();
            }
            let all = required_by(map, one, kinds);
            required.push((one, kinds.clone(), all));
            all.contains(other)
        };
        for (other, other_paths) in group {
            let Some(other_entry) = map.entry(*other) else { continue };
            let Some(kinds) = common_kinds(entry, other_entry) else { continue };
            let may_cover = requires(slot, *other, &kinds) || requires(*other, slot, &kinds);
            if let Some((key, other_key)) = paths.conflict(other_paths, may_cover) {
                let (one, two) = (Side { entry, key }, Side { entry: other_entry, key: other_key });
                return Err(self.refusal(one, two));
            }
        }
        Ok(paths)
    }

    fn refusal(&self, one: Side<'_>, two: Side<'_>) -> JobFailure {
        if one.key.is_directory() {
            return self.file_and_directory(two, one);
        }
        if two.key.is_directory() {
            return self.file_and_directory(one, two);
        }
        self.two_files(one, two)
    }

    /// The refusal of two patches with a file each.
    fn two_files(&self, one: Side<'_>, two: Side<'_>) -> JobFailure {
        let (first, second) = if one.entry.id < two.entry.id { (one, two) } else { (two, one) };
        let (path, _) = self.find(first, second);
        JobFailure::refused(format_args!("{}{path}", Unordered(&first.entry.id, &second.entry.id)))
    }

    /// The refusal of two patches of which one needs a directory where the other has a file.
    /// What to do comes before the path: a long one is cut.
    fn file_and_directory(&self, file: Side<'_>, directory: Side<'_>) -> JobFailure {
        let (path, held) = self.find(file, directory);
        let (file_of, directory_of) = (&file.entry.id, &directory.entry.id);
        match held {
            Held::File | Held::Directory => JobFailure::refused(format_args!(
                "{file_of} has a file where {directory_of} needs a directory: {ONLY_ONE}{path}"
            )),
            Held::Removed => JobFailure::refused(format_args!(
                "{file_of} removes a file where {directory_of} needs a directory: {ONLY_ONE}{path}"
            )),
            Held::Link => JobFailure::refused(format_args!(
                "{directory_of} needs a directory where {file_of} has a link, which is not followed: \
                 apply only one of them, or name the directory that it leads to{path}"
            )),
        }
    }

    /// The path at which two patches meet, for the end of a message, and what the first one
    /// has there. It is read from the first patch, or from the second if that cannot be read:
    /// then what the first has there is not known, and counts as a file.
    fn find(&self, first: Side<'_>, second: Side<'_>) -> (String, Held) {
        let find = |side: Side<'_>| index::find(self.blobs, side.entry, side.key).ok().flatten();
        let found = find(first).or_else(|| Some((find(second)?.0, Held::File)));
        match found {
            Some((path, held)) => (format!(". The path is /{}", path.display()), held),
            None => (String::new(), Held::File),
        }
    }
}

/// The kinds of hosts that can have both patches; `None` if there are none.
fn common_kinds(one: &Entry, two: &Entry) -> Option<Kinds> {
    let (one, two) = (&one.meta, &two.meta);
    if one.nodetypes.is_empty() {
        return Some(two.nodetypes.clone());
    }
    let kinds: Kinds = one.nodetypes.iter().filter(|kind| two.concerns(kind)).cloned().collect();
    (!kinds.is_empty()).then_some(kinds)
}

/// A patch and all that it requires, directly or through others that hosts of these kinds have.
fn required_by(map: &Map<'_>, slot: Slot, kinds: &Kinds) -> SlotSet {
    closure([slot].into_iter().collect(), |slot| {
        let requires = map.entry(slot).into_iter().flat_map(|entry| &entry.meta.requires);
        requires
            .filter_map(|id| map.get(id))
            .filter(|(_, entry)| entry.meta.concerns_all(kinds))
            .map(|(slot, _)| slot)
    })
}
