//! The map as a file: replica, counter, purge floor, and every entry.
//!
//! Body of version 2: `replica u64 LE | counter u64 LE | floor u64 LE | count u16
//! LE`, then per entry `length u16 LE | postcard`. Version 1 has no floor, and is
//! what a map is written as until its first purge. The tests have golden bytes of
//! both.

use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::{durable, sealed};
use crate::failpoint;
use crate::limits;
use crate::repo::entry::Entry;
use crate::repo::map::Map;

/// An entry is shorter than this, as a report must carry one.
const ENTRY_BYTES: usize = limits::REPORT_BYTES;

/// The versions that a map may be written as.
const WITHOUT_FLOOR: u16 = 1;
const WITH_FLOOR: u16 = 2;

const FILE: sealed::Kind = sealed::Kind {
    magic: *b"THMB-MAP",
    version: WITH_FLOOR,
    most_bytes: 64 + (limits::ENTRIES * (2 + ENTRY_BYTES)) as u64,
};

/// What the map file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// This controller's random name.
    pub(super) replica: u64,
    /// The highest counter that this controller has given out or merged.
    pub(super) counter: u64,
    /// The map's purge floor; see [`Map::floor`].
    pub(super) floor: u64,
    /// All entries, tombstones included, in no order that matters.
    pub(super) entries: Vec<Entry>,
}

/// Where the map of a repository is.
pub(super) fn path(repo_dir: &Path) -> PathBuf {
    repo_dir.join("map")
}

impl Snapshot {
    /// Reads a repository's map; nothing where there is none yet.
    pub(super) fn read(repo_dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = path(repo_dir);
        let Some((version, body)) = FILE.read_versioned(&path)? else { return Ok(None) };
        // The seal held, so what does not decode was never written by thimble.
        Self::decode(version, &body).map(Some).ok_or(StoreError::Damaged { path })
    }

    /// Makes this the repository's map, durably.
    pub(super) fn write(&self, repo_dir: &Path) -> Result<(), StoreError> {
        let path = path(repo_dir);
        failpoint::hit("committing the map");
        durable::replace(&path, &FILE.seal_as(self.version(), &self.encode())).map_err(StoreError::at(&path))
    }

    /// The entries as a map, in memory that the caller lends.
    pub(super) fn map<'a>(&self, slots: &'a mut Vec<Entry>) -> Map<'a> {
        slots.reserve_exact(limits::ENTRIES);
        let mut map = Map::new(slots);
        map.raise_floor(self.floor);
        for entry in &self.entries {
            // There are at most as many as there is room for: `decode` saw to it.
            let _ = map.merge(entry);
        }
        map
    }

    fn version(&self) -> u16 {
        if self.floor == 0 { WITHOUT_FLOOR } else { WITH_FLOOR }
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.replica.to_le_bytes());
        body.extend_from_slice(&self.counter.to_le_bytes());
        if self.version() == WITH_FLOOR {
            body.extend_from_slice(&self.floor.to_le_bytes());
        }
        let count = u16::try_from(self.entries.len()).expect("a map has at most limits::ENTRIES");
        body.extend_from_slice(&count.to_le_bytes());
        let mut buffer = [0; ENTRY_BYTES];
        for entry in &self.entries {
            // Every field is bounded, and the tests write the greatest entry.
            // Whoever raises a bound past it must not find a torn map instead.
            let bytes = postcard::to_slice(entry, &mut buffer).expect("an entry fits its buffer");
            let len = u16::try_from(bytes.len()).expect("the buffer is shorter than 64 KiB");
            body.extend_from_slice(&len.to_le_bytes());
            body.extend_from_slice(bytes);
        }
        body
    }

    fn decode(version: u16, body: &[u8]) -> Option<Self> {
        let (replica, rest) = body.split_first_chunk()?;
        let (counter, rest) = rest.split_first_chunk()?;
        let (floor, rest) =
            if version == WITHOUT_FLOOR { (&[0; 8], rest) } else { rest.split_first_chunk()? };
        let (count, mut rest) = rest.split_first_chunk()?;
        let count = usize::from(u16::from_le_bytes(*count));
        if count > limits::ENTRIES {
            return None;
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let (len, behind) = rest.split_first_chunk()?;
            let (bytes, behind) = behind.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            let (entry, left) = postcard::take_from_bytes(bytes).ok()?;
            if !left.is_empty() {
                return None;
            }
            entries.push(entry);
            rest = behind;
        }
        let [replica, counter, floor] = [replica, counter, floor].map(|bytes| u64::from_le_bytes(*bytes));
        rest.is_empty().then_some(Self { replica, counter, floor, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::entry::{EntryMeta, EntryState, Stamp, Status};
    use crate::types::{Hash, Name, Text};

    /// An entry with every field as long as it can be.
    fn greatest() -> Entry {
        let long = |byte: u8, len| String::from_utf8(vec![byte; len]).unwrap();
        let ids = (b'a'..).take(limits::REQUIRES).map(|byte| Name::new(&long(byte, 64)).unwrap());
        let types = (b'a'..).take(limits::PATCH_NODETYPES).map(|byte| Name::new(&long(byte, 32)).unwrap());
        Entry {
            id: Name::new(&long(b'x', 64)).unwrap(),
            hash: Hash([0xff; 32]),
            size_bytes: u64::MAX,
            state: EntryState::Committed,
            stamp: Stamp { counter: u64::MAX, replica: u64::MAX },
            meta: EntryMeta {
                sw_version: Name::new(&long(b'v', 32)).unwrap(),
                summary: Text::new(&long(b's', 128)),
                status: Status::Obsolete,
                reboot_required: true,
                unremovable: true,
                apply_active_release_only: true,
                requires: ids.collect(),
                nodetypes: types.collect(),
            },
        }
    }

    #[test]
    fn a_full_map_of_the_greatest_entries_comes_back() {
        let most = u64::MAX;
        for floor in [0, most] {
            let entries = vec![greatest(); limits::ENTRIES];
            let snapshot = Snapshot { replica: most, counter: most, floor, entries };
            let body = snapshot.encode();
            assert!(FILE.seal(&body).len() as u64 <= FILE.most_bytes);
            assert_eq!(Snapshot::decode(snapshot.version(), &body).unwrap(), snapshot);
        }
    }

    #[test]
    fn what_does_not_add_up_is_not_decoded() {
        for floor in [0, 2] {
            let snapshot = Snapshot { replica: 1, counter: 2, floor, entries: vec![greatest()] };
            let (version, body) = (snapshot.version(), snapshot.encode());
            for len in 0..body.len() {
                assert_eq!(Snapshot::decode(version, &body[..len]), None, "cut at {len}");
            }
            assert_eq!(Snapshot::decode(version, &[&body[..], &[0]].concat()), None, "one byte more");
        }
    }

    fn entry() -> Entry {
        Entry {
            id: Name::new("A-1").unwrap(),
            hash: Hash([7; 32]),
            size_bytes: 300,
            state: EntryState::Applied,
            stamp: Stamp { counter: 5, replica: 9 },
            meta: EntryMeta {
                sw_version: Name::new("1.0").unwrap(),
                summary: Text::new("one"),
                status: Status::Development,
                reboot_required: true,
                unremovable: false,
                apply_active_release_only: true,
                requires: [Name::new("B").unwrap()].into_iter().collect(),
                nodetypes: [Name::new("w").unwrap()].into_iter().collect(),
            },
        }
    }

    /// That entry as it has always been written.
    fn golden_entry() -> Vec<u8> {
        let mut golden = b"\x03A-1".to_vec();
        golden.extend_from_slice(&[7; 32]);
        golden.extend_from_slice(&[0xac, 0x02, 2, 5, 9]);
        golden.extend_from_slice(b"\x031.0\x03one\x01\x01\x00\x01\x01\x01B\x01\x01w");
        golden
    }

    /// If this fails, the code is wrong, not the test: such maps are on disks.
    #[test]
    fn version_1_is_read_and_written_as_it_was() {
        let entries = vec![entry()];
        let snapshot = Snapshot { replica: 0x0102_0304_0506_0708, counter: 5, floor: 0, entries };
        let mut golden = vec![8, 7, 6, 5, 4, 3, 2, 1, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 59, 0];
        golden.extend(golden_entry());
        assert_eq!((snapshot.version(), snapshot.encode()), (1, golden.clone()));
        assert_eq!(Snapshot::decode(1, &golden).unwrap(), snapshot);
    }

    /// If this fails, the code is wrong, not the test: such maps are on disks.
    #[test]
    fn version_2_is_read_and_written_as_it_was() {
        let entries = vec![entry()];
        let snapshot = Snapshot { replica: 0x0102_0304_0506_0708, counter: 5, floor: 0x0304, entries };
        let mut golden = vec![8, 7, 6, 5, 4, 3, 2, 1, 5, 0, 0, 0, 0, 0, 0, 0];
        golden.extend([4, 3, 0, 0, 0, 0, 0, 0, 1, 0, 59, 0]);
        golden.extend(golden_entry());
        assert_eq!((snapshot.version(), snapshot.encode()), (2, golden.clone()));
        assert_eq!(Snapshot::decode(2, &golden).unwrap(), snapshot);
    }
}
