//! Patch files and their signatures, each under its hash.

use std::collections::HashSet;
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

/// A patch file that is whole and durable, as is its signature, each under the path that it
/// has until it gets its name ([`BlobStore::beside`]).
#[derive(Debug)]
pub(super) struct Written {
    pub(super) hash: Hash,
    pub(super) path: PathBuf,
    /// There is an index, which need not be durable: it is sealed, and follows from the patch.
    pub(super) has_index: bool,
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

    /// The paths of a signature and an index until they get their names, beside `written`, the
    /// path of their patch file until then. They are that process's own, as this is.
    pub(super) fn beside(written: &Path) -> [PathBuf; 2] {
        ["signature", "paths"].map(|kind| durable::unfinished(&written.with_added_extension(kind)))
    }

    /// Removes what is beside a patch file that gets no name.
    pub(super) fn remove_beside(written: &Path) {
        Self::beside(written).iter().for_each(|path| durable::try_remove(path));
    }

    /// Gives patch files their names, each after its signature has its own: a patch file
    /// with its name therefore has its signature. Durable when it returns. The lock must be
    /// held. A file that fails has no name and does not keep the others from theirs; where
    /// the directory cannot be synced, all fail.
    pub(super) fn publish(&self, files: &[Written]) -> Vec<Result<(), StoreError>> {
        let mut results: Vec<_> = files.iter().map(|_| Ok(())).collect();
        self.rename_all(files, &mut results, |file| {
            let [signature, index] = Self::beside(&file.path);
            // Without an index, the patch is read.
            if file.has_index && durable::rename(&index, &self.index(&file.hash)).is_err() {
                durable::try_remove(&index);
            }
            (signature, self.signature(&file.hash))
        });
        self.rename_all(files, &mut results, |file| (file.path.clone(), self.patch(&file.hash)));
        results
    }

    /// Renames one file of each that has not failed, and makes that durable.
    fn rename_all(
        &self,
        files: &[Written],
        results: &mut [Result<(), StoreError>],
        names: impl Fn(&Written) -> (PathBuf, PathBuf),
    ) {
        for (file, result) in files.iter().zip(&mut *results).filter(|(_, result)| result.is_ok()) {
            let (from, to) = names(file);
            *result = durable::rename(&from, &to).map_err(StoreError::at(&to));
        }
        if results.iter().all(Result::is_err) {
            return;
        }
        if let Err(error) = durable::sync_dir(&self.dir) {
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(StoreError::at(&self.dir)(durable::same(&error)));
            }
        }
    }

    /// Removes a patch file and the files that belong to it.
    pub(super) fn remove(&self, hash: &Hash) -> Result<(), StoreError> {
        for path in [self.patch(hash), self.signature(hash), self.index(hash), self.fetched(hash)] {
            durable::remove(&path).map_err(StoreError::at(&path))?;
        }
        durable::sync_dir(&self.dir).map_err(StoreError::at(&self.dir))
    }

    /// Removes unfinished files, and blobs that are not among `named`. Files of `named`
    /// that are being fetched stay.
    pub(super) fn keep_only(&self, named: &HashSet<Hash>) -> Result<(), StoreError> {
        let at = || StoreError::at(&self.dir);
        durable::remove_unfinished(&self.dir).map_err(at())?;
        let named: HashSet<String> = named.iter().map(Hash::to_string).collect();
        for entry in fs::read_dir(&self.dir).map_err(at())? {
            let path = entry.map_err(at())?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if !stem.is_some_and(|stem| named.contains(stem)) {
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
