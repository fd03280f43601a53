//! Small files that are whole or not there.
//!
//! `magic 4 | version u16 LE | postcard | BLAKE3 of all before it, 32`. Written
//! beside its place, synced, renamed, and the directory synced: a power cut
//! leaves the old file or the new one.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{ErrorContext, InstallError};
use super::sys;
use crate::failpoint;

const VERSION: u16 = 1;
const SEAL_BYTES: usize = 32;

/// One kind of sealed file.
pub(super) struct Sealed {
    /// Its name in `.thimble`.
    pub name: &'static str,
    /// Its name until it is whole.
    pub draft: &'static str,
    /// Its first four bytes.
    pub magic: [u8; 4],
}

impl Sealed {
    /// Writes the draft and waits until it is durable.
    pub fn draft<T: Serialize>(&self, home: BorrowedFd<'_>, value: &T) -> Result<(), InstallError> {
        let mut bytes = Vec::from(self.magic);
        bytes.extend(VERSION.to_le_bytes());
        let mut bytes = encode(value, bytes).context("encode", self.draft)?;
        bytes.extend(blake3::hash(&bytes).as_bytes());
        failpoint::hit("writing a draft");
        remove_if_there(home, self.draft).context("remove", self.draft)?;
        sys::create_new(home, self.draft)
            .and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            })
            .context("write", self.draft)
    }

    /// Puts the draft in place and waits until that is durable.
    pub fn publish(&self, home: BorrowedFd<'_>) -> Result<(), InstallError> {
        failpoint::hit("publishing a draft");
        sys::rename_at(home, self.draft, home, self.name).context("rename", self.draft)?;
        failpoint::hit("syncing .thimble");
        sys::sync_filesystem(home).context("sync", self.name)
    }

    /// Draft and publish in one.
    pub fn write<T: Serialize>(&self, home: BorrowedFd<'_>, value: &T) -> Result<(), InstallError> {
        self.draft(home, value)?;
        self.publish(home)
    }

    /// Reads the file; `None` where there is none.
    pub fn read<T: DeserializeOwned>(&self, home: BorrowedFd<'_>) -> Result<Option<T>, InstallError> {
        let mut bytes = Vec::new();
        match sys::open_read(home, self.name).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.context("read", self.name)?,
        };
        let damaged = |what| InstallError::Damaged { path: format!(".thimble/{}", self.name), what };
        let (body, seal) = bytes
            .split_last_chunk::<SEAL_BYTES>()
            .filter(|(body, seal)| blake3::hash(body).as_bytes() == *seal)
            .ok_or_else(|| damaged("is damaged: its checksum is wrong"))?;
        let _: &[u8; SEAL_BYTES] = seal;
        let body = body.strip_prefix(&self.magic).ok_or_else(|| damaged("is another kind of file"))?;
        let (version, body) = body.split_first_chunk().ok_or_else(|| damaged("is too short"))?;
        if u16::from_le_bytes(*version) != VERSION {
            return Err(damaged("was written by another version of thimble: it is left as it is"));
        }
        postcard::from_bytes(body).map(Some).map_err(|_| damaged("does not say what it should"))
    }

    /// Reads the draft, which must be there.
    pub fn read_draft<T: DeserializeOwned>(&self, home: BorrowedFd<'_>) -> Result<T, InstallError> {
        let missing = || InstallError::Damaged { path: format!(".thimble/{}", self.draft), what: "is gone" };
        Self { name: self.draft, ..*self }.read(home)?.ok_or_else(missing)
    }
}

/// Appends a value's postcard form.
pub(super) fn encode<T: Serialize>(value: &T, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    postcard::to_extend(value, bytes).map_err(|error| io::Error::other(error.to_string()))
}

/// Removes a file that may be there.
pub(super) fn remove_if_there(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match sys::unlink_at(dir.as_fd(), name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
