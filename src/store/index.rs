//! The paths of a patch, stored beside its file so that the rule on shared paths does not
//! unpack it again.
//!
//! Body: per path `1 for a directory, else 0 | length u16 LE | path`. All
//! of it follows from the patch: if the index cannot be read, the patch is read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::blobs::BlobStore;
use super::durable;
use super::error::JobFailure;
use super::sealed_file::SealedFile;
use crate::limits;
use crate::patch::archive::{self, ArchiveSection, MemberKind};
use crate::repo::entry::Entry;
use crate::sealed::SealedFormat;

const FILE: SealedFile = SealedFile {
    format: SealedFormat { magic: b"THMBINDX", version: 1 },
    most_bytes: 64 + (limits::PATCH_NAMES_BYTES + 3 * limits::PATCH_MEMBERS) as u64,
};

/// A path below the root, and whether the patch has it as a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PatchPath {
    pub(super) path: PathBuf,
    pub(super) is_directory: bool,
}

/// The paths of a patch, from its archive's index.
pub(super) fn of(index: &archive::Index) -> Vec<PatchPath> {
    let files = index.members.iter().filter(|member| member.section == ArchiveSection::Files);
    let files = files
        .map(|file| PatchPath { path: file.path.clone(), is_directory: file.kind == MemberKind::Directory });
    let removed = index.metadata.remove.iter();
    files.chain(removed.map(|path| PatchPath { path: path.clone(), is_directory: false })).collect()
}

/// The index file of these paths.
pub(super) fn seal(paths: &[PatchPath]) -> Vec<u8> {
    let mut body = Vec::new();
    for entry in paths {
        let bytes = entry.path.as_os_str().as_bytes();
        body.push(u8::from(entry.is_directory));
        let len = u16::try_from(bytes.len()).expect("a path has at most limits::PATH_BYTES");
        body.extend_from_slice(&len.to_le_bytes());
        body.extend_from_slice(bytes);
    }
    FILE.format.seal(&body)
}

/// The paths of a patch in the store.
///
/// # Errors
/// [`JobFailure`]: the patch file is missing or cannot be read.
pub(super) fn read(blobs: &BlobStore, entry: &Entry) -> Result<Vec<PatchPath>, JobFailure> {
    if let Ok(Some(body)) = FILE.read(&blobs.index(&entry.hash))
        && let Some(paths) = decode(&body)
    {
        return Ok(paths);
    }
    let Some(blob) = blobs.open(&entry.hash)? else {
        return Err(JobFailure::refused(format_args!(
            "{} cannot be compared with other patches, its file is not in this controller's store: \
             wait for it where another controller has it (thimble status tells), or upload it again",
            entry.id
        )));
    };
    let index = archive::index(blob.file).map_err(|error| JobFailure::of_patch(entry.id.as_str(), &error))?;
    Ok(of(&index))
}

/// Makes the index of a patch in the store if it has none. If that fails, the patch is
/// read again when its paths are needed, and the error is reported then.
pub(super) fn make(blobs: &BlobStore, entry: &Entry) {
    let path = blobs.index(&entry.hash);
    if !path.exists()
        && let Ok(Some(blob)) = blobs.open(&entry.hash)
        && let Ok(index) = archive::index(blob.file)
    {
        let _ = durable::replace(&path, &seal(&of(&index)));
    }
}

fn decode(mut body: &[u8]) -> Option<Vec<PatchPath>> {
    let mut paths = Vec::new();
    while let Some(([is_directory, low, high], rest)) = body.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([*low, *high]));
        let (bytes, rest) = rest.split_at_checked(len)?;
        let path = Path::new(OsStr::from_bytes(bytes)).to_path_buf();
        paths.push(PatchPath { path, is_directory: *is_directory != 0 });
        body = rest;
    }
    body.is_empty().then_some(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back_in_their_order() {
        let path = |path: &str, is_directory| PatchPath { path: path.into(), is_directory };
        let paths = [path("b", true), path("b/a", false), path("a", false)];
        let sealed = seal(&paths);
        let body = &sealed[10..sealed.len() - 32];
        assert_eq!(decode(body).unwrap(), paths);
        assert_eq!(decode(&body[..body.len() - 1]), None);
        assert_eq!(decode(&[]).unwrap(), []);
    }
}
