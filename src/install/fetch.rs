//! Patch files on their way in: fetched, resumed, verified, indexed.
//!
//! A file is kept in `.thimble/fetch` under its hash, so that what a broken
//! session brought is not fetched twice. Nothing in it is looked at before its
//! signature holds.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

use super::error::{ErrorContext, InstallError, InstallRefusal};
use super::kept::own_dir;
use super::sys;
use crate::failpoint;
use crate::job::{FetchError, Fetched, Source};
use crate::patch::archive::{self, Index};
use crate::patch::signature::{TrustedKeys, verify};
use crate::sorted::FlatMap;
use crate::types::PatchId;
use crate::wire::frame::ManifestPatch;

/// The directory of patch files on their way in.
pub(super) struct Inbox {
    dir: OwnedFd,
}

/// A patch file that came, believed or not.
pub(super) struct Arrived {
    file: File,
    signature: Vec<u8>,
    /// The first bytes were here before.
    was_resumed: bool,
}

impl Inbox {
    /// Opens it, making it where it is not there.
    pub fn open(home: &OwnedFd) -> Result<Self, InstallError> {
        own_dir(home.as_fd(), "fetch", true).context("open", ".thimble/fetch").map(|dir| Self { dir })
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

    fn remove(&self, name: &str) -> Result<(), InstallError> {
        failpoint::hit("removing a fetched file");
        sys::remove_if_there(self.dir.as_fd(), name).context("remove", ".thimble/fetch")
    }

    /// Bytes of a patch's file that are here.
    pub fn present_bytes(&self, patch: &ManifestPatch) -> u64 {
        let stat = sys::stat_at(self.dir.as_fd(), &patch.hash.to_string());
        stat.map_or(0, |stat| stat.size_bytes)
    }

    /// Fetches what of a patch's file is not here yet, telling how many bytes come.
    pub fn fetch(
        &self,
        source: &mut dyn Source,
        patch: &ManifestPatch,
        arrived: &mut dyn FnMut(u64),
    ) -> Result<Arrived, InstallError> {
        let name = patch.hash.to_string();
        failpoint::hit("opening a fetched file");
        let mut file = match sys::open_append(self.dir.as_fd(), &name) {
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
            room = room.checked_sub(len).ok_or_else(|| io::Error::other("more came than was announced"))?;
            failpoint::hit("writing to a fetched file");
            file.write_all(bytes)?;
            arrived(len);
            Ok(())
        })?;
        if room > 0 {
            return Err(FetchError::Session(io::ErrorKind::UnexpectedEof.into()).into());
        }
        Ok(Arrived { file, signature, was_resumed: offset > 0 })
    }

    /// Believes a file, or fetches it once more from its first byte where some
    /// of it was here before. A file that is not believed is removed.
    pub fn verify(
        &self,
        source: &mut dyn Source,
        patch: &ManifestPatch,
        mut arrived: Arrived,
        keys: &TrustedKeys,
    ) -> Result<(File, Index), InstallError> {
        match check(patch, &mut arrived, keys) {
            Err(error) if arrived.was_resumed && !is_ours(&error) => {
                self.remove(&patch.hash.to_string())?;
                arrived = self.fetch(source, patch, &mut |_| {})?;
            }
            Err(error) => {
                self.remove(&patch.hash.to_string())?;
                return Err(error);
            }
            Ok(index) => return Ok((arrived.file, index)),
        }
        match check(patch, &mut arrived, keys) {
            Ok(index) => Ok((arrived.file, index)),
            Err(error) => {
                self.remove(&patch.hash.to_string())?;
                Err(error)
            }
        }
    }
}

/// Whether it is this machine that failed and not the file.
fn is_ours(error: &InstallError) -> bool {
    matches!(error, InstallError::Patch(_, error) if !error.is_verification())
}

fn check(patch: &ManifestPatch, arrived: &mut Arrived, keys: &TrustedKeys) -> Result<Index, InstallError> {
    let refuse = |error| InstallError::Patch(patch.id.clone(), Box::new(error));
    let verified = verify(&mut arrived.file, &arrived.signature, keys).map_err(refuse)?;
    if verified.hash != patch.hash {
        return Err(InstallRefusal::OtherContent(patch.id.clone()).into());
    }
    let index = archive::index(&mut arrived.file).map_err(refuse)?;
    arrived.file.rewind().context("read", ".thimble/fetch")?;
    Ok(index)
}
