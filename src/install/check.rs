//! The rules that are checked before anything changes. No I/O.

use std::cmp::Ordering;

use super::error::{InstallError, InstallRefusal};
use super::record::{Installed, Patch};
use crate::config::{Config, NodeConfig};
use crate::failpoint;
use crate::job::Space;
use crate::limits;
use crate::patch::floor::{Memory, Required, Says};
use crate::patch::metadata::Metadata;
use crate::repo::digest::set_digest;
use crate::sorted::FlatMap;
use crate::types::{Digest, PatchId};
use crate::wire::frame::ManifestPatch;

/// Checks that a manifest is the requested set and agrees with what is installed.
/// Returns it by patch id.
pub(super) fn manifest(
    record: &Installed,
    patches: Vec<ManifestPatch>,
    asked: Digest,
) -> Result<FlatMap<PatchId, ManifestPatch>, Box<InstallRefusal>> {
    if patches.len() > limits::EFFECTIVE {
        return Err(Box::new(InstallRefusal::TooManyPatches(patches.len())));
    }
    let wanted: FlatMap<_, _> = patches.into_iter().map(|patch| (patch.id.clone(), patch)).collect();
    let received = set_digest(wanted.values().map(|patch| (&patch.id, &patch.hash)));
    if received != asked {
        return Err(Box::new(InstallRefusal::OtherSet { received, asked }));
    }
    for patch in &record.patches {
        let id = patch.id.clone();
        match wanted.get(&id) {
            Some(asked) if asked.hash != patch.hash => {
                return Err(Box::new(InstallRefusal::SameId {
                    id,
                    installed: patch.hash,
                    asked: asked.hash,
                }));
            }
            Some(_) => {}
            None if patch.committed => return Err(Box::new(InstallRefusal::Committed(id))),
            None if patch.unremovable => return Err(Box::new(InstallRefusal::Unremovable(id))),
            None => {}
        }
    }
    Ok(wanted)
}

/// Checks that a patch may be added to this host.
pub(super) fn added(config: &Config, id: &PatchId, metadata: &Metadata) -> Result<(), Box<InstallRefusal>> {
    let node = &config.node;
    if metadata.id != *id {
        return Err(Box::new(InstallRefusal::OtherId(id.clone(), metadata.id.clone())));
    }
    if let Some(least) = &config.security.min_sw_version
        && compare_releases(metadata.sw_version.as_str(), least.as_str()) == Ordering::Less
    {
        return Err(Box::new(InstallRefusal::TooOld(id.clone(), metadata.sw_version.clone(), least.clone())));
    }
    if metadata.apply_active_release_only && metadata.sw_version != node.sw_version {
        return Err(Box::new(InstallRefusal::OtherRelease(
            id.clone(),
            metadata.sw_version.clone(),
            node.sw_version.clone(),
        )));
    }
    if !metadata.nodetypes.is_empty() && !metadata.nodetypes.contains(&node.nodetype) {
        return Err(Box::new(InstallRefusal::OtherNodetype(id.clone(), node.nodetype.clone())));
    }
    Ok(())
}

/// Checks that a set has what its patches require on this host. `new` are all its patches. What
/// the installed set lacks is not held against the host, so that it can be brought in order in
/// steps.
pub(super) fn requires(
    record: &Installed,
    wanted: &FlatMap<PatchId, ManifestPatch>,
    new: &[Patch],
) -> Result<(), Box<InstallRefusal>> {
    for patch in new.iter().filter(|_| !failpoint::takes_any_set()) {
        let is_added = record.patch(&patch.id).is_none();
        let lacks = |id: &&PatchId| !wanted.contains_key(id) && (is_added || record.patch(id).is_some());
        if let Some(id) = patch.requires.iter().find(lacks) {
            return Err(Box::new(InstallRefusal::Requires(patch.id.clone(), id.clone())));
        }
    }
    Ok(())
}

/// Checks that a set is not below the floor, and returns what is remembered once it is
/// installed. `new` are its patches that are not installed yet, `added` is what they say.
pub(super) fn floor(
    config: &Config,
    record: &Installed,
    wanted: &FlatMap<PatchId, ManifestPatch>,
    added: Vec<Says>,
    new: &[Patch],
    ignores_floor: bool,
) -> Result<Memory, Box<InstallRefusal>> {
    let NodeConfig { nodetype, sw_version, .. } = &config.node;
    let staying = record.memory.says.iter().filter(|said| wanted.contains_key(&said.id));
    let says: Vec<_> = staying.cloned().chain(added).collect();
    let hash_of = |id: &PatchId| wanted.get(id).map(|patch| patch.hash);
    let concerns = |required: &Required| required.concerns(nodetype, sw_version);
    let requires = |upper: &PatchId, lower: &PatchId| {
        let mut patches = new.iter().chain(&record.patches);
        patches.find(|patch| patch.id == *upper).is_some_and(|patch| patch.requires.contains(lower))
    };
    let next = if ignores_floor {
        Memory::default().after(says)
    } else {
        record.memory.check(&says, &hash_of, &concerns, &requires).and_then(|()| record.memory.after(says))
    };
    next.map_err(|below| Box::new(InstallRefusal::BelowFloor(below)))
}

/// Checks the lock file, if a patch requires a restart of the host.
pub(super) fn lock(config: &Config, force: bool, reboot_required: bool) -> Result<(), Box<InstallRefusal>> {
    match &config.agent.lock_file {
        Some(file) if reboot_required && !force && !file.exists() => Err(Box::new(InstallRefusal::NotLocked)),
        _ => Ok(()),
    }
}

/// What an install takes on one filesystem.
#[derive(Clone, Copy, Default)]
pub(super) struct Needed {
    /// The space, in bytes.
    pub bytes: u64,
    /// The files that it makes.
    pub inodes: u64,
}

/// Checks that a filesystem has what an install takes there.
pub(super) fn space(at: &str, needed: Needed, space: Space) -> Result<(), InstallError> {
    let at = || at.to_owned();
    match space {
        Space { free_bytes: Some(free), .. } if needed.bytes > free => {
            Err(InstallRefusal::NoSpace { at: at(), needed: needed.bytes, free }.into())
        }
        Space { free_inodes: Some(free), .. } if needed.inodes > free => {
            Err(InstallRefusal::NoInodes { at: at(), needed: needed.inodes, free }.into())
        }
        _ => Ok(()),
    }
}

/// Compares two releases: runs of digits as numbers, everything else as text. If one is
/// a prefix of the other, the longer one is newer.
fn compare_releases(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<String> {
        let mut parts: Vec<String> = Vec::new();
        for c in text.chars() {
            match parts
                .last_mut()
                .filter(|part| part.ends_with(|d: char| d.is_ascii_digit()) == c.is_ascii_digit())
            {
                Some(part) => part.push(c),
                None => parts.push(c.to_string()),
            }
        }
        parts
    };
    for (a, b) in parts(a).iter().zip(&parts(b)) {
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => a.cmp(b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    parts(a).len().cmp(&parts(b).len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        for (older, newer) in
            [("22.06", "22.12"), ("9.10", "22.06"), ("24.09", "24.09.1"), ("24.9", "24.10"), ("1.0a", "1.0b")]
        {
            assert_eq!(compare_releases(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(compare_releases(newer, older), Ordering::Greater, "{newer} {older}");
        }
        assert_eq!(compare_releases("24.09", "24.9"), Ordering::Equal);
    }
}
