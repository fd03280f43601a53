//! Fetches patch files, resumes them, and verifies them.
//!
//! A file is kept in `.thimble/fetch` under its hash, so that bytes fetched before a
//! session broke are not fetched twice. Its content is not read before its signature is
//! verified.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

use super::error::{ErrorContext, InstallError, InstallRefusal};
use super::kept::own_dir;
use super::olds::Olds;
use super::record_file::Record;
use super::sys;
use super::tree::RootTree;
use crate::failpoint;
use crate::job::{FetchError, Fetched, Source};
use crate::patch::signature::{TrustedKeys, verify};
use crate::sorted::FlatMap;
use crate::types::PatchId;
use crate::wire::frame::ManifestPatch;

/// The directory of patch files that are being fetched.
pub(super) struct FetchDir {
    dir: OwnedFd,
}

/// A patch file that was fetched and is not verified yet.
pub(super) struct FetchedFile {
    file: File,
    signature: Vec<u8>,
    /// Its first bytes came from an earlier session.
    was_resumed: bool,
}

impl FetchDir {
    /// Opens the directory, making it if it is missing.
    pub fn open(home: &OwnedFd) -> Result<Self, InstallError> {
        own_dir(home.as_fd(), "fetch", true).context("open", ".thimble/fetch").map(|dir| Self { dir })
    }

    /// The old contents of files on a host with this record, and what was unpacked here of them.
    pub fn olds<'h>(&'h self, tree: &'h RootTree, record: &'h Record) -> Olds<'h> {
        Olds { tree, record, dir: self.dir.as_fd() }
    }

    /// Removes every file but those of these patches.
    pub fn sweep(&self, wanted: &FlatMap<PatchId, ManifestPatch>) -> Result<(), InstallError> {
        let wanted: Vec<_> = wanted.values().map(|patch| patch.hash.to_string()).collect();
        for name in sys::names(self.dir.as_fd()).context("list", ".thimble/fetch")? {
            if !wanted.contains(&name) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Removes the file of a patch.
    pub fn forget(&self, patch: &ManifestPatch) -> Result<(), InstallError> {
        self.remove(&patch.hash.to_string())
    }

    fn remove(&self, name: &str) -> Result<(), InstallError> {
        failpoint::hit("removing a fetched file");
        sys::remove_if_there(self.dir.as_fd(), name).context("remove", ".thimble/fetch")
    }

    /// The number of bytes of a patch's file that are already here.
    pub fn present_bytes(&self, patch: &ManifestPatch) -> u64 {
        let stat = sys::stat_at(self.dir.as_fd(), &patch.hash.to_string());
        stat.map_or(0, |stat| stat.size_bytes)
    }

    /// Fetches the missing bytes of a patch's file, and calls `on_bytes` with the length
    /// of each piece.
    pub fn fetch(
        &self,
        source: &mut dyn Source,
        patch: &ManifestPatch,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<FetchedFile, InstallError> {
        let name = patch.hash.to_string();
        failpoint::hit("opening a fetched file");
        let mut file = match sys::open_read_write(self.dir.as_fd(), &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => sys::create_new(self.dir.as_fd(), &name),
            other => other,
        }
        .context("open", ".thimble/fetch")?;
        let mut offset = file.seek(SeekFrom::End(0)).context("read", ".thimble/fetch")?;
        if offset > patch.size_bytes {
            file.set_len(0).and_then(|()| file.rewind()).context("write", ".thimble/fetch")?;
            offset = 0;
        }
        let mut room = patch.size_bytes - offset;
        let Fetched { signature, .. } = source.blob(&patch.hash, offset, &mut |bytes| {
            let len = bytes.len() as u64;
            room = room
                .checked_sub(len)
                .ok_or_else(|| io::Error::other("more bytes were received than announced"))?;
            failpoint::hit("writing to a fetched file");
            file.write_all(bytes)?;
            on_bytes(len);
            Ok(())
        })?;
        if room > 0 {
            return Err(FetchError::Session(io::ErrorKind::UnexpectedEof.into()).into());
        }
        Ok(FetchedFile { file, signature, was_resumed: offset > 0 || source.has_kept(&patch.hash) })
    }

    /// Verifies a file. If it fails and was resumed, fetches it once more from its first
    /// byte. A file that fails is removed.
    pub fn verify(
        &self,
        source: &mut dyn Source,
        patch: &ManifestPatch,
        mut fetched: FetchedFile,
        keys: &TrustedKeys,
    ) -> Result<File, InstallError> {
        match check(patch, &mut fetched, keys) {
            Err(error) if fetched.was_resumed && !is_local_failure(&error) => {
                self.remove(&patch.hash.to_string())?;
                fetched = self.fetch(source, patch, &mut |_| {})?;
            }
            Err(error) => {
                self.remove(&patch.hash.to_string())?;
                return Err(error);
            }
            Ok(()) => return Ok(fetched.file),
        }
        match check(patch, &mut fetched, keys) {
            Ok(()) => Ok(fetched.file),
            Err(error) => {
                self.remove(&patch.hash.to_string())?;
                Err(error)
            }
        }
    }
}

/// Whether this machine is at fault and not the file.
fn is_local_failure(error: &InstallError) -> bool {
    matches!(error, InstallError::Patch(_, error) if !error.is_verification())
}

/// Checks signature and hash.
fn check(patch: &ManifestPatch, fetched: &mut FetchedFile, keys: &TrustedKeys) -> Result<(), InstallError> {
    let refuse = |error| InstallError::Patch(patch.id.clone(), Box::new(error));
    let verified = verify(&mut fetched.file, &fetched.signature, keys).map_err(refuse)?;
    if verified.hash != patch.hash {
        return Err(InstallRefusal::OtherContent(patch.id.clone()).into());
    }
    fetched.file.rewind().context("read", ".thimble/fetch")
}
