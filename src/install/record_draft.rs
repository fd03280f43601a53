//! Writes a record, item by item.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use super::error::{ErrorContext, InstallError, is_full};
use super::frames::{Frames, LEN_BYTES};
use super::record::{Installed, Item, ItemKind, Object};
use super::record_item::{BEFORE_CONTENT, BEFORE_FACTS, LAYER_BYTES, LOST, RawItem, decode, encode, facts};
use super::state_files::publish;
use super::{spare, sys};
use crate::failpoint;
use crate::sealed::{CHECKSUM_BYTES, SealedFormat};
use crate::sorted::FlatSet;

/// The format of a record.
pub(super) const FORMAT: SealedFormat = SealedFormat { magic: b"THMI", version: 2 };

/// How much of a record is in memory at once, in bytes.
pub(super) const WINDOW_BYTES: usize = 32 * 1024;

/// A record's name in `.thimble`, and that of its draft.
pub(super) struct RecordName {
    pub name: &'static str,
    pub draft: &'static str,
    /// Whether space is set aside for it ([`super::spare`]).
    has_spare: bool,
}

/// The record of what is installed. Renaming its draft commits an install.
pub(super) const INSTALLED: RecordName =
    RecordName { name: "installed", draft: "installed.next", has_spare: true };

/// The record before a committed set that waits for a restart of the host.
pub(super) const BEFORE: RecordName = RecordName { name: "before", draft: "before.next", has_spare: true };

/// The record of the same set with fewer objects, written while the one of the next set
/// has the name of the draft.
pub(super) const REDUCED: RecordName =
    RecordName { name: "installed", draft: "installed.room", has_spare: false };

impl RecordName {
    /// Replaces the record by its draft, durably.
    pub fn publish(&self, home: BorrowedFd<'_>) -> Result<(), InstallError> {
        publish(home, self.draft, self.name)
    }
}

/// A record that is being written. Its checksum comes last: until then it is no record.
pub(super) struct Draft<'h> {
    home: BorrowedFd<'h>,
    name: &'static RecordName,
    file: File,
    /// It was written into the space set aside.
    is_spare: bool,
    buffer: Vec<u8>,
    /// Where the buffer belongs.
    at: u64,
    mounts: FlatSet<String>,
}

impl<'h> Draft<'h> {
    /// Begins a draft, in place of any other.
    pub fn begin(home: BorrowedFd<'h>, name: &'static RecordName) -> Result<Self, InstallError> {
        let mut draft = Self::open(home, name)?;
        draft.buffer = FORMAT.head();
        Ok(draft)
    }

    fn open(home: BorrowedFd<'h>, name: &'static RecordName) -> Result<Self, InstallError> {
        failpoint::hit("writing a draft");
        sys::remove_if_there(home, name.draft).context("remove", name.draft)?;
        let (file, is_spare) = match sys::create_new(home, name.draft) {
            Err(error) if is_full(&error) && name.has_spare => {
                let spare = spare::take(home, name.name, name.draft);
                (spare.and_then(|spare| spare.ok_or(error)).context("make", name.draft)?, true)
            }
            other => (other.context("make", name.draft)?, false),
        };
        Ok(Self { home, name, file, is_spare, buffer: Vec::new(), at: 0, mounts: FlatSet::default() })
    }

    /// Writes a copy of a whole record, durably.
    pub fn copy(home: BorrowedFd<'h>, name: &'static RecordName, file: &File) -> Result<(), InstallError> {
        let mut copy = Self::open(home, name)?;
        let mut buffer = vec![0; WINDOW_BYTES];
        loop {
            let len = file.read_at(&mut buffer, copy.at).context("read", INSTALLED.name)?;
            if len == 0 {
                return copy.sync();
            }
            copy.buffer.extend_from_slice(buffer.get(..len).unwrap_or_default());
            copy.flush()?;
        }
    }

    /// Adds an item. They come in the order of their paths. Returns where the layers of a
    /// stack are, for [`Self::set_facts`].
    pub fn push(&mut self, item: &Item) -> Result<u64, InstallError> {
        if let ItemKind::Stack(stack) = &item.what
            && !self.mounts.contains(&*stack.mount)
        {
            self.mounts.insert(stack.mount.clone());
        }
        let layers_at = encode(item, &mut self.buffer) as u64 + self.at;
        if self.buffer.len() >= WINDOW_BYTES {
            self.flush()?;
        }
        Ok(layers_at)
    }

    /// Adds an item as it is in another record. It is one with a stack.
    pub fn push_raw(&mut self, item: &RawItem<'_>) -> Result<(), InstallError> {
        if let Some(stack) = item.stack()
            && !self.mounts.contains(stack.mount)
        {
            self.mounts.insert(stack.mount.to_owned());
        }
        let len = u32::try_from(item.bytes.len()).unwrap_or(u32::MAX);
        self.buffer.extend(len.to_le_bytes());
        self.buffer.extend_from_slice(item.bytes);
        if self.buffer.len() >= WINDOW_BYTES { self.flush() } else { Ok(()) }
    }

    /// Sets what was not known of an object when its layer was written.
    pub fn set_facts(&mut self, layers_at: u64, layer: u16, object: &Object) -> io::Result<()> {
        let at = layers_at + u64::from(layer) * LAYER_BYTES as u64 + BEFORE_FACTS as u64;
        self.overwrite(at, &facts(object))
    }

    /// Gives up objects of layers that were written.
    pub fn forget(&mut self, is_given_up: impl Fn(u64) -> bool) -> Result<(), InstallError> {
        self.flush()?;
        let file = self.file.try_clone().context("read", self.name.draft)?;
        let mut at = FORMAT.head_bytes() as u64;
        let mut frames = Frames::new(&file, at, self.at, WINDOW_BYTES);
        while let Some(bytes) = frames.next().context("read", self.name.draft)? {
            if let Some(Item { what: ItemKind::Stack(stack), .. }) = decode(bytes) {
                let layers_at = bytes.len().saturating_sub(stack.layers.len() * LAYER_BYTES);
                for (number, layer) in stack.layers.iter().enumerate() {
                    if layer.content.object().is_some_and(|object| is_given_up(object.number)) {
                        let content = LEN_BYTES + layers_at + number * LAYER_BYTES + BEFORE_CONTENT;
                        self.overwrite(at + content as u64, &[LOST]).context("write", self.name.draft)?;
                    }
                }
            }
            at += (LEN_BYTES + bytes.len()) as u64;
        }
        Ok(())
    }

    fn overwrite(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match at.checked_sub(self.at).map(|at| at as usize) {
            Some(at) => {
                let place = self.buffer.get_mut(at..).unwrap_or_default();
                place.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                Ok(())
            }
            None => self.file.write_all_at(bytes, at),
        }
    }

    /// The mount points of what was written.
    pub fn mounts(&self) -> Vec<String> {
        self.mounts.to_vec()
    }

    /// How long the file will be, in bytes.
    pub fn bytes_with(&self, installed: &Installed) -> Result<u64, InstallError> {
        let tail = postcard::to_extend(installed, Vec::new()).map_err(io::Error::other);
        let tail = tail.context("encode", self.name.draft)?.len() + LEN_BYTES + CHECKSUM_BYTES;
        Ok(self.at + (self.buffer.len() + tail) as u64)
    }

    /// Ends the draft, durably.
    pub fn finish(mut self, installed: &Installed) -> Result<(), InstallError> {
        let tail = postcard::to_extend(installed, Vec::new()).map_err(io::Error::other);
        let tail = tail.context("encode", self.name.draft)?;
        let len = u32::try_from(tail.len()).map_err(io::Error::other).context("encode", self.name.draft)?;
        self.buffer.extend_from_slice(&tail);
        self.buffer.extend_from_slice(&len.to_le_bytes());
        self.flush()?;
        let checksum = hash_of(&self.file, self.at).context("read", self.name.draft)?;
        self.buffer.extend_from_slice(checksum.as_bytes());
        self.flush()?;
        self.sync()
    }

    fn sync(self) -> Result<(), InstallError> {
        failpoint::hit("syncing a draft");
        let synced = self.file.set_len(self.at).and_then(|()| self.file.sync_all());
        synced.context("write", self.name.draft)
    }

    /// Writes what is in memory; where the disk is full, into the space set aside.
    fn flush(&mut self) -> Result<(), InstallError> {
        failpoint::hit("writing to a draft");
        match self.file.write_all_at(&self.buffer, self.at) {
            Err(error) if is_full(&error) && self.name.has_spare && !self.is_spare => {
                self.move_to_spare(error).context("write", self.name.draft)?;
            }
            other => other.context("write", self.name.draft)?,
        }
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn move_to_spare(&mut self, full: io::Error) -> io::Result<()> {
        let (home, RecordName { name, draft, .. }) = (self.home, self.name);
        sys::remove_if_there(home, draft)?;
        let spare = spare::take(home, name, draft)?.ok_or(full)?;
        let mut at = 0;
        let mut buffer = vec![0; WINDOW_BYTES];
        while at < self.at {
            let most = usize::try_from(self.at - at).unwrap_or(usize::MAX).min(WINDOW_BYTES);
            let piece = buffer.get_mut(..most).unwrap_or_default();
            self.file.read_exact_at(piece, at)?;
            spare.write_all_at(piece, at)?;
            at += most as u64;
        }
        spare.write_all_at(&self.buffer, self.at)?;
        (self.file, self.is_spare) = (spare, true);
        Ok(())
    }
}

/// The hash of the first bytes of a file.
pub(super) fn hash_of(file: &File, len: u64) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; WINDOW_BYTES];
    let mut at = 0;
    while at < len {
        let most = usize::try_from(len - at).unwrap_or(usize::MAX).min(WINDOW_BYTES);
        let piece = buffer.get_mut(..most).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        hasher.update(piece);
        at += most as u64;
    }
    Ok(hasher.finalize())
}
