//! The small files in `.thimble` that are replaced as a whole.
//!
//! The format is [`crate::sealed`], the body postcard. A file is written as a draft
//! beside its name, synced, renamed, and the filesystem synced: a power cut leaves
//! either the old file or the new one. The files are reached through the descriptor
//! of `.thimble`, so that no symbolic link is followed.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use super::error::{ErrorContext, InstallError, is_full};
use super::{spare, sys};
use crate::failpoint;
use crate::sealed::{SealedError, SealedFormat};

/// The last request and its outcome.
pub(super) const LAST: StateFile = StateFile {
    name: "last",
    draft: "last.next",
    format: SealedFormat { magic: b"THML", version: 1 },
    has_spare: true,
};

/// The content of such a file.
pub(super) trait Stored: Sized {
    /// The earliest version that is read.
    const EARLIEST: u16;
    /// The version to write it as, and the body.
    fn encode(&self) -> postcard::Result<(u16, Vec<u8>)>;
    /// Reads a body.
    fn decode(version: u16, body: &[u8]) -> postcard::Result<Self>;
}

/// One such file.
pub(super) struct StateFile {
    /// Its name in `.thimble`.
    pub name: &'static str,
    /// The name of its draft.
    pub draft: &'static str,
    pub format: SealedFormat,
    /// Whether space is set aside for it ([`super::spare`]).
    pub has_spare: bool,
}

impl StateFile {
    /// Writes the draft, durably.
    pub fn write_draft<T: Stored>(&self, home: BorrowedFd<'_>, value: &T) -> Result<(), InstallError> {
        let bytes = self.sealed(value)?;
        failpoint::hit("writing a draft");
        sys::remove_if_there(home, self.draft).own_context("remove", self.draft)?;
        let written = sys::create_new(home, self.draft).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        match written {
            Err(error) if is_full(&error) && self.has_spare => self.draft_in_spare(home, &bytes, error),
            other => other,
        }
        .own_context("write", self.draft)
    }

    /// Writes the draft into the space that was set aside for it.
    fn draft_in_spare(&self, home: BorrowedFd<'_>, bytes: &[u8], full: io::Error) -> io::Result<()> {
        sys::remove_if_there(home, self.draft)?;
        let mut file = spare::take(home, self.name, self.draft)?.ok_or(full)?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        file.sync_all()
    }

    /// The bytes of a file with this value.
    pub fn sealed<T: Stored>(&self, value: &T) -> Result<Vec<u8>, InstallError> {
        let encoded = value.encode().map_err(|error| io::Error::other(error.to_string()));
        let (version, body) = encoded.own_context("encode", self.draft)?;
        Ok(self.format.seal_as(version, &body))
    }

    /// Replaces the file by one with this value, durably.
    pub fn write<T: Stored>(&self, home: BorrowedFd<'_>, value: &T) -> Result<(), InstallError> {
        self.write_draft(home, value)?;
        self.publish(home)
    }

    /// Replaces the file by its draft, durably.
    pub fn publish(&self, home: BorrowedFd<'_>) -> Result<(), InstallError> {
        failpoint::hit("publishing a draft");
        sys::rename_at(home, self.draft, home, self.name).own_context("rename", self.draft)?;
        failpoint::hit("syncing .thimble");
        sys::sync_filesystem(home).own_context("sync", self.name)
    }

    /// Reads the file; `None` if there is none.
    pub fn read<T: Stored>(&self, home: BorrowedFd<'_>) -> Result<Option<T>, InstallError> {
        self.read_as(home, self.name)
    }

    /// Reads its draft; `None` if there is none.
    pub fn read_draft<T: Stored>(&self, home: BorrowedFd<'_>) -> Result<Option<T>, InstallError> {
        self.read_as(home, self.draft)
    }

    fn read_as<T: Stored>(&self, home: BorrowedFd<'_>, name: &str) -> Result<Option<T>, InstallError> {
        let mut bytes = Vec::new();
        match sys::open_read(home, name).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.own_context("read", name)?,
        };
        let version = self.format.version_of(&bytes).map_err(|error| unreadable(name, Some(error)))?;
        if version < T::EARLIEST {
            return Err(unreadable(name, Some(SealedError::OtherVersion(version))));
        }
        let (_, body) = self.format.open(bytes).map_err(|error| unreadable(name, Some(error)))?;
        T::decode(version, &body).map(Some).map_err(|_| unreadable(name, None))
    }
}

/// The error for a file in `.thimble` that cannot be read for this reason; `None`: its
/// checksum is right, and it cannot be decoded.
pub(super) fn unreadable(name: &str, error: Option<SealedError>) -> InstallError {
    let what = match error {
        Some(SealedError::OtherKind) => "is another kind of file",
        Some(SealedError::OtherVersion(_)) => {
            "was written by another version of thimble: it is left as it is"
        }
        Some(SealedError::Damaged) => "is damaged: its checksum is wrong",
        None => "is damaged: it cannot be decoded",
    };
    InstallError::Damaged { path: format!(".thimble/{name}"), what }
}
