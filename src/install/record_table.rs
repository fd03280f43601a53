//! The part of a record that is in memory: the installed set, and where its items are.
//!
//! The items are in files of their own, `.thimble/items.N`, cut into segments of some
//! thousand bytes. A file of items never changes once a record names it: an install writes
//! the segments that change into a new one, and the next table names these beside those
//! that stay. So a small install reads and writes little, however much is installed. The
//! table is replaced by a rename, which is the commit.

use std::io;
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::error::{ErrorContext, InstallError};
use super::record::Installed;
use super::state_files::{StateFile, Stored};
use super::sys;
use crate::patch::floor::Memory;
use crate::sealed::SealedFormat;
use crate::sorted::{FlatMap, FlatSet};

/// Version 1 had all in one body, version 2 all in one file. Version 3 remembers nothing of
/// floors and superseded patches; a record is written in it as long as there is nothing to
/// remember, so that an older thimble can read it. One that cannot must not install, since
/// it would forget.
const FORMAT: SealedFormat = SealedFormat { magic: b"THMI", version: WITH_MEMORY };
const WITHOUT_MEMORY: u16 = 3;
const WITH_MEMORY: u16 = 4;

/// The record of what is installed. Renaming its draft commits an install.
pub(super) const INSTALLED: StateFile =
    StateFile { name: "installed", draft: "installed.next", format: FORMAT, has_spare: true };

/// The record before a committed set that waits for a restart of the host.
pub(super) const BEFORE: StateFile =
    StateFile { name: "before", draft: "before.next", format: FORMAT, has_spare: true };

/// The record of the same set with fewer objects, written while the one of the next set
/// has the name of the draft.
pub(super) const REDUCED: StateFile =
    StateFile { name: "installed", draft: "installed.room", format: FORMAT, has_spare: false };

/// What the names of files of items begin with, and the name of their spare file.
pub(super) const ITEMS: &str = "items";

/// The length from which a segment is cut, in bytes; and up to which it is not, if what is
/// beside it stays. A build that is killed at each step has few files, and still some
/// segments.
pub(super) const SEGMENT_BYTES: usize = if cfg!(feature = "proof") { 512 } else { 24 * 1024 };
pub(super) const SEGMENT_MOST_BYTES: usize = 2 * SEGMENT_BYTES;

/// The bytes of a segment's checksum.
pub(super) const CHECKSUM_BYTES: usize = 16;

/// A record's table. The order of the fields here and below is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    pub installed: Installed,
    /// In the order of the paths.
    pub segments: Vec<Segment>,
    /// The files that these are in, each with its length in bytes.
    pub files: FlatMap<u64, u64>,
}

/// Some items after one another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    /// The number of the file.
    pub file: u64,
    /// Where they are in it, in bytes.
    pub at: u64,
    pub len: u32,
    /// The beginning of their BLAKE3.
    pub checksum: [u8; CHECKSUM_BYTES],
    /// What they have.
    pub summary: Summary,
}

/// What the items of a segment have, to tell whether it need be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    /// The first path.
    pub first: String,
    /// The slots of the patches.
    pub slots: FlatSet<u16>,
    pub mounts: FlatSet<String>,
    /// The lowest and the highest number of a kept object.
    pub kept: Option<(u64, u64)>,
    /// The last item wants each directory that it is in.
    pub is_closed: bool,
}

impl Stored for Table {
    const EARLIEST: u16 = WITHOUT_MEMORY;

    fn encode(&self) -> postcard::Result<(u16, Vec<u8>)> {
        let body = postcard::to_extend(self, Vec::new())?;
        match &self.installed.memory {
            memory if *memory == Memory::default() => Ok((WITHOUT_MEMORY, body)),
            memory => Ok((WITH_MEMORY, postcard::to_extend(memory, body)?)),
        }
    }

    fn decode(version: u16, body: &[u8]) -> postcard::Result<Self> {
        let (mut table, rest): (Self, _) = postcard::take_from_bytes(body)?;
        if version >= WITH_MEMORY {
            table.installed.memory = postcard::from_bytes(rest)?;
        }
        Ok(table)
    }
}

impl Table {
    /// The bytes of all items.
    pub fn items_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.len)).sum()
    }

    /// Whether so much of the files is not used any more, or so many segments are short, that
    /// all is to be written anew.
    pub fn is_worn(&self) -> bool {
        let used = self.items_bytes();
        let takes: u64 = self.files.iter().map(|(_, len)| *len).sum();
        let short = used / SEGMENT_BYTES as u64 * 2 + 16;
        takes > used + used / 4 + 2 * SEGMENT_MOST_BYTES as u64 || self.segments.len() as u64 > short
    }
}

/// The name of a file of items.
pub(super) fn items_name(number: u64) -> String {
    format!("{ITEMS}.{number}")
}

/// The numbers of the files of items that are there.
pub(super) fn items_files(home: BorrowedFd<'_>) -> Result<Vec<u64>, InstallError> {
    let mut numbers = Vec::new();
    sys::each_name(home, |name| {
        let number = name.strip_prefix(ITEMS).and_then(|rest| rest.strip_prefix('.')?.parse().ok());
        numbers.extend(number.filter(|number| items_name(*number) == name));
    })
    .context("list", ".thimble")?;
    Ok(numbers)
}

/// The checksum of a segment.
pub(super) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.iter_mut().zip(blake3::hash(bytes).as_bytes()).for_each(|(to, from)| *to = *from);
    checksum
}

/// The bytes that a record takes on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RecordBytes {
    pub items: u64,
    pub table: u64,
}

impl RecordBytes {
    /// Those of a record with this table.
    pub fn of(table: &Table) -> Result<Self, InstallError> {
        Ok(Self { items: table.items_bytes(), table: INSTALLED.sealed(table)?.len() as u64 })
    }
}

/// The error for items that are not those of the record.
pub(super) fn damaged(number: u64, what: &'static str) -> InstallError {
    InstallError::Damaged { path: format!(".thimble/{}", items_name(number)), what }
}

/// The error for items that cannot be read.
pub(super) fn read_error(number: u64, error: io::Error) -> InstallError {
    match error.kind() {
        io::ErrorKind::NotFound => damaged(number, "is gone"),
        io::ErrorKind::UnexpectedEof => damaged(number, "is damaged: it is too short"),
        _ => InstallError::Io { verb: "read", path: format!(".thimble/{}", items_name(number)), error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::floor::{Floor, Required, Says};
    use crate::time::Day;
    use crate::types::{Hash, Name};

    fn table(memory: Memory) -> Table {
        let installed =
            Installed { serial: 3, next_number: 9, patches: vec![], mounts: vec!["etc".into()], memory };
        Table { installed, segments: vec![], files: FlatMap::default() }
    }

    /// If this fails, the code is wrong, not the test: such records are on disks.
    #[test]
    fn versions_3_and_4_are_read_and_written_as_they_were() {
        let golden_3 = b"\x03\x09\x00\x01\x03etc\x00\x00".to_vec();
        let without = table(Memory::default());
        assert_eq!(without.encode().unwrap(), (3, golden_3.clone()));
        assert!(Table::decode(3, &golden_3).unwrap() == without);

        let (nodetypes, release) = (vec![Name::new("w").unwrap()], Some(Name::new("1.0").unwrap()));
        let id = |text: &str| Name::new(text).unwrap();
        let require = vec![Required { id: id("P"), hash: Hash([7; 32]), nodetypes, release }];
        let expires = Day::parse("2027-06-30").unwrap();
        let floor = Some(Floor { serial: 300, expires, require, allows: vec![id("Q")] });
        let says = vec![Says { id: id("F"), supersedes: vec![id("A")], floor }];
        let with = table(Memory { says, superseded: vec![id("A"), id("B")] });
        let mut golden_4 = golden_3;
        golden_4.extend(b"\x01\x01F\x01\x01A\x01\xac\x02\x87\xa4\x01\x01\x01P");
        golden_4.extend([7; 32]);
        golden_4.extend(b"\x01\x01w\x01\x031.0\x01\x01Q\x02\x01A\x01B");
        assert_eq!(with.encode().unwrap(), (4, golden_4.clone()));
        assert!(Table::decode(4, &golden_4).unwrap() == with);
        for len in 0..golden_4.len() {
            assert!(Table::decode(4, &golden_4[..len]).is_err(), "cut at {len}");
        }
    }
}
