//! Patch files and their signatures, each under its hash.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::durable;
use super::error::StoreError;
use crate::limits;
use crate::repo::entry::Entry;
use crate::types::Hash;

/// An open patch file and its signature.
#[derive(Debug)]
pub struct Blob {
    /// The patch file, positioned at its first byte.
    pub file: File,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// The whole `.minisig` file.
    pub signature: Vec<u8>,
}

/// The directory of blobs.
#[derive(Clone, Debug)]
pub(super) struct BlobStore {
    dir: PathBuf,
}

impl BlobStore {
    pub(super) fn of(repo_dir: &Path) -> Self {
        Self { dir: repo_dir.join("blobs") }
    }

    pub(super) fn make_dir(&self) -> Result<(), StoreError> {
        durable::make_dir(&self.dir).map_err(StoreError::at(&self.dir))
    }

    pub(super) fn patch(&self, hash: &Hash) -> PathBuf {
        self.dir.join(format!("{hash}.patch"))
    }

    pub(super) fn signature(&self, hash: &Hash) -> PathBuf {
        self.dir.join(format!("{hash}.minisig"))
    }

    pub(super) fn index(&self, hash: &Hash) -> PathBuf {
        self.dir.join(format!("{hash}.index"))
    }

    /// The path of a patch file that is being fetched from another controller.
    pub(super) fn fetched(&self, hash: &Hash) -> PathBuf {
        self.dir.join(format!("{hash}.fetch"))
    }

    /// The path of an upload until its hash is known. Each process has one of its own,
    /// since the lock is not held meanwhile.
    pub(super) fn upload(&self) -> PathBuf {
        durable::unfinished(&self.dir.join(format!("upload-{}", std::process::id())))
    }

    /// Whether the directory has any file.
    pub(super) fn any(&self) -> Result<bool, StoreError> {
        match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::at(&self.dir)(error)),
            Ok(mut entries) => Ok(entries.next().is_some()),
        }
    }

    /// Whether the entry's signature and patch file are here, and the file has the size
    /// that the entry says.
    pub(super) fn has(&self, entry: &Entry) -> bool {
        let len = |path| fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map(|file| file.len());
        len(self.patch(&entry.hash)) == Some(entry.size_bytes)
            && len(self.signature(&entry.hash)).is_some_and(|len| len > 0)
    }

    /// The path of a signature until it gets its name, beside `written`, that of its patch file
    /// until then. It is that process's own, as this is.
    pub(super) fn beside(written: &Path) -> PathBuf {
        durable::unfinished(written)
    }

    /// Writes the index of a patch file, in its place. Not durable, since it is sealed and follows
    /// from the patch: if it is missing or damaged, the patch is read, and if this fails, too.
    pub(super) fn write_index(&self, hash: &Hash, index: &[u8]) {
        let _ = durable::write(&self.index(hash), index);
    }

    /// Gives a durable signature its name, from beside `written`. Durable after [`sync`](Self::sync).
    pub(super) fn name_signature(&self, written: &Path, hash: &Hash) -> Result<(), StoreError> {
        Self::rename(&Self::beside(written), &self.signature(hash))
    }

    /// Gives a durable patch file its name. Its signature must have its own, durably: so a patch
    /// file with its name has its signature. Durable after [`sync`](Self::sync).
    pub(super) fn name_patch(&self, written: &Path, hash: &Hash) -> Result<(), StoreError> {
        Self::rename(written, &self.patch(hash))
    }

    fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
        durable::rename(from, to).map_err(StoreError::at(to))
    }

    /// Makes the names durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        durable::sync_dir(&self.dir).map_err(StoreError::at(&self.dir))
    }

    /// Removes a patch file and the files that belong to it.
    pub(super) fn remove(&self, hash: &Hash) -> Result<(), StoreError> {
        for path in [self.patch(hash), self.signature(hash), self.index(hash), self.fetched(hash)] {
            durable::remove(&path).map_err(StoreError::at(&path))?;
        }
        self.sync()
    }

    /// Removes unfinished files, and blobs that are not among `named`. Files of `named`
    /// that are being fetched stay.
    pub(super) fn keep_only(&self, named: &[Hash]) -> Result<(), StoreError> {
        let at = || StoreError::at(&self.dir);
        durable::remove_unfinished(&self.dir).map_err(at())?;
        for entry in fs::read_dir(&self.dir).map_err(at())? {
            let path = entry.map_err(at())?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if !stem.and_then(Hash::from_hex).is_some_and(|hash| named.contains(&hash)) {
                durable::remove(&path).map_err(StoreError::at(&path))?;
            }
        }
        Ok(())
    }

    /// Opens a patch file to serve or read it; `None` if it is not here.
    pub(super) fn open(&self, hash: &Hash) -> Result<Option<Blob>, StoreError> {
        let read = || -> io::Result<Blob> {
            let file = File::open(self.patch(hash))?;
            let size_bytes = file.metadata()?.len();
            let mut signature = Vec::new();
            let most = limits::SIGNATURE_BYTES as u64;
            File::open(self.signature(hash))?.take(most).read_to_end(&mut signature)?;
            Ok(Blob { file, size_bytes, signature })
        };
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            blob => blob.map(Some).map_err(StoreError::at(&self.patch(hash))),
        }
    }
}
