//! Serves agents: the effective set by its digest, and patch files by their hash. Reads
//! only, without the lock.

use std::path::Path;

use super::blobs::{Blob, BlobStore};
use super::disk;
use super::map_file::Snapshot;
use crate::repo::effective::{Layers, effective, effective_digest};
use crate::repo::entry::{Entry, EntryState};
use crate::types::{Digest, Hash, NodeType};
use crate::wire::frame::ManifestPatch;

/// The effective set for a node type, bottom layer first, if it has this digest.
///
/// # Errors
/// The reason, for the operator, if there is no such set.
pub fn manifest(
    state_dir: &Path,
    digest: &Digest,
    nodetype: &NodeType,
) -> Result<Vec<ManifestPatch>, String> {
    let snapshot = Snapshot::read(&disk::dir(state_dir)).map_err(|error| error.to_string())?;
    let snapshot = snapshot.ok_or("the controller has no repository yet: upload a patch first")?;
    let mut slots = Vec::new();
    let map = snapshot.map(&mut slots);
    if effective_digest(&map, nodetype) != *digest {
        return Err("the repository has changed since the install was requested: request it again".into());
    }
    let mut layers = Layers::new();
    effective(&map, nodetype, &mut layers).map_err(|error| error.to_string())?;
    let patch = |entry: &Entry| ManifestPatch {
        id: entry.id.clone(),
        hash: entry.hash,
        size_bytes: entry.size_bytes,
        committed: entry.state == EntryState::Committed,
    };
    Ok(layers.iter().map(|entry| patch(entry)).collect())
}

/// Opens the patch file with this hash and reads its signature.
///
/// # Errors
/// The reason, for the operator, if it is not here.
pub fn blob(state_dir: &Path, hash: &Hash) -> Result<Blob, String> {
    match BlobStore::of(&disk::dir(state_dir)).open(hash) {
        Ok(Some(blob)) => Ok(blob),
        Ok(None) => Err(format!(
            "the controller does not have the patch file {hash:.16} (thimble status there tells why)"
        )),
        Err(error) => Err(error.to_string()),
    }
}
