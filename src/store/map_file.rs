//! The map as a file: replica, counter, purge floor, every entry, and the rollout.
//!
//! Body of version 3 and 4: `replica u64 LE | counter u64 LE | floor u64 LE | count u16
//! LE`, then per entry `length u16 LE | postcard`, then the same of the rollout.
//! Version 4 may lack a rollout; a map is written in it while it has a [voided] entry, so that an
//! older thimble refuses it by its version. Version 2 has no rollout; a map is written in it until its first rollout. Version 1
//! has no floor either; a map is written in it until its first purge. The tests have
//! golden bytes of each.
//!
//! [voided]: crate::repo::entry::EntryState::Voided

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;
use super::sealed_file::SealedFile;
use crate::failpoint;
use crate::limits;
use crate::repo::entry::{Entry, EntryState};
use crate::repo::map::Map;
use crate::repo::rollout::Rollout;
use crate::sealed::SealedFormat;

/// An entry is shorter than this, as a report must carry one.
const ENTRY_BYTES: usize = limits::REPORT_BYTES;

/// The versions that a map may be written as.
const WITHOUT_FLOOR: u16 = 1;
const WITH_FLOOR: u16 = 2;
const WITH_ROLLOUT: u16 = 3;
const WITH_VOIDED: u16 = 4;

const FILE: SealedFile = SealedFile {
    format: SealedFormat { magic: b"THMB-MAP", version: WITH_VOIDED },
    most_bytes: 128 + (limits::ENTRIES * (2 + ENTRY_BYTES)) as u64,
};

/// The content of the map file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// The map's random name; see [`Stamp`](crate::repo::entry::Stamp).
    pub(super) replica: u64,
    /// The highest counter that this controller has given out or merged.
    pub(super) counter: u64,
    /// The map's purge floor; see [`Map::floor`].
    pub(super) floor: u64,
    /// All entries, tombstones included, in any order.
    pub(super) entries: Vec<Entry>,
    /// The last rollout.
    pub(super) rollout: Option<Rollout>,
}

/// The path of a repository's map.
pub(super) fn path(repo_dir: &Path) -> PathBuf {
    repo_dir.join("map")
}

impl Snapshot {
    /// An empty map.
    pub(super) fn new(replica: u64) -> Self {
        Self { replica, counter: 0, floor: 0, entries: Vec::new(), rollout: None }
    }

    /// Reads a repository's map; `None` if there is none.
    pub(super) fn read(repo_dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = path(repo_dir);
        let Some((version, body)) = FILE.read_versioned(&path)? else { return Ok(None) };
        // The checksum matched, so thimble did not write a body that does not decode.
        Self::decode(version, &body).map(Some).ok_or(StoreError::Damaged { path })
    }

    /// Replaces the repository's map, durably.
    pub(super) fn write(&self, repo_dir: &Path) -> Result<(), StoreError> {
        let path = path(repo_dir);
        failpoint::hit("committing the map");
        FILE.write_as(self.version(), &path, &self.encode())
    }

    /// The entries as a map, in memory that the caller lends.
    pub(super) fn map<'a>(&self, slots: &'a mut Vec<Entry>) -> Map<'a> {
        slots.reserve_exact(limits::ENTRIES);
        let mut map = Map::new(slots);
        map.raise_floor(self.floor);
        for entry in &self.entries {
            // `decode` has checked that all entries fit.
            let _ = map.merge(entry);
        }
        if let Some(rollout) = &self.rollout {
            map.merge_rollout(rollout);
        }
        map
    }

    fn version(&self) -> u16 {
        match self.rollout {
            _ if self.entries.iter().any(|entry| entry.state == EntryState::Voided) => WITH_VOIDED,
            Some(_) => WITH_ROLLOUT,
            None if self.floor > 0 => WITH_FLOOR,
            None => WITHOUT_FLOOR,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.replica.to_le_bytes());
        body.extend_from_slice(&self.counter.to_le_bytes());
        if self.version() >= WITH_FLOOR {
            body.extend_from_slice(&self.floor.to_le_bytes());
        }
        let count = u16::try_from(self.entries.len()).expect("a map has at most limits::ENTRIES");
        body.extend_from_slice(&count.to_le_bytes());
        for entry in &self.entries {
            put(&mut body, entry);
        }
        if let Some(rollout) = &self.rollout {
            put(&mut body, rollout);
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
            entries.push(take(&mut rest)?);
        }
        let has_rollout = match version {
            WITH_VOIDED => !rest.is_empty(),
            _ => version == WITH_ROLLOUT,
        };
        let rollout = if has_rollout { Some(take(&mut rest)?) } else { None };
        let [replica, counter, floor] = [replica, counter, floor].map(|bytes| u64::from_le_bytes(*bytes));
        rest.is_empty().then_some(Self { replica, counter, floor, entries, rollout })
    }
}

/// Appends `length u16 LE | postcard`.
fn put(body: &mut Vec<u8>, value: &impl Serialize) {
    let mut buffer = [0; ENTRY_BYTES];
    // Every field is bounded, and the tests write the greatest entry. If a bound is
    // raised too far, panic rather than write a broken map.
    let bytes = postcard::to_slice(value, &mut buffer).expect("it fits its buffer");
    let len = u16::try_from(bytes.len()).expect("the buffer is shorter than 64 KiB");
    body.extend_from_slice(&len.to_le_bytes());
    body.extend_from_slice(bytes);
}

/// Takes a value that [`put`] has appended.
fn take<T: DeserializeOwned>(rest: &mut &[u8]) -> Option<T> {
    let (len, behind) = rest.split_first_chunk()?;
    let (bytes, behind) = behind.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    let (value, left) = postcard::take_from_bytes(bytes).ok()?;
    *rest = behind;
    left.is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::entry::{EntryMeta, Stamp, Status};
    use crate::repo::rollout::RolloutState;
    use crate::types::{Hash, Name, NodeId, Text};

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
                summary: Text::truncated(&long(b's', 128)),
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
        for (floor, rollout) in [(0, None), (most, None), (0, Some(rollout())), (most, Some(rollout()))] {
            let entries = vec![greatest(); limits::ENTRIES];
            let snapshot = Snapshot { replica: most, counter: most, floor, entries, rollout };
            let body = snapshot.encode();
            assert!(FILE.format.seal(&body).len() as u64 <= FILE.most_bytes);
            assert_eq!(Snapshot::decode(snapshot.version(), &body).unwrap(), snapshot);
        }
    }

    #[test]
    fn a_body_with_too_few_or_too_many_bytes_is_not_decoded() {
        for (floor, rollout) in [(0, None), (2, None), (0, Some(rollout()))] {
            let snapshot = Snapshot { replica: 1, counter: 2, floor, entries: vec![greatest()], rollout };
            let (version, body) = (snapshot.version(), snapshot.encode());
            for len in 0..body.len() {
                assert_eq!(Snapshot::decode(version, &body[..len]), None, "cut at {len}");
            }
            assert_eq!(Snapshot::decode(version, &[&body[..], &[0]].concat()), None, "one byte more");
        }
    }

    fn rollout() -> Rollout {
        Rollout {
            stamp: Stamp { counter: 6, replica: 9 },
            id: 0x0102_0304_0506_0708,
            carrier: NodeId(3),
            state: RolloutState::Halted,
            parallel: 4,
            stop_after: 300,
            force: true,
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
                summary: Text::truncated("one"),
                status: Status::Development,
                reboot_required: true,
                unremovable: false,
                apply_active_release_only: true,
                requires: [Name::new("B").unwrap()].into_iter().collect(),
                nodetypes: [Name::new("w").unwrap()].into_iter().collect(),
            },
        }
    }

    /// [`rollout`] as it has always been written.
    const ROLLOUT: &[u8] = b"\x11\x00\x06\x09\x88\x8e\x98\xa8\xc0\xe0\x80\x81\x01\x03\x02\x04\xac\x02\x01";

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
        let snapshot =
            Snapshot { replica: 0x0102_0304_0506_0708, counter: 5, floor: 0, entries, rollout: None };
        let mut golden = vec![8, 7, 6, 5, 4, 3, 2, 1, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 59, 0];
        golden.extend(golden_entry());
        assert_eq!((snapshot.version(), snapshot.encode()), (1, golden.clone()));
        assert_eq!(Snapshot::decode(1, &golden).unwrap(), snapshot);
    }

    /// If this fails, the code is wrong, not the test: such maps are on disks.
    #[test]
    fn version_2_is_read_and_written_as_it_was() {
        let entries = vec![entry()];
        let snapshot =
            Snapshot { replica: 0x0102_0304_0506_0708, counter: 5, floor: 0x0304, entries, rollout: None };
        let mut golden = vec![8, 7, 6, 5, 4, 3, 2, 1, 5, 0, 0, 0, 0, 0, 0, 0];
        golden.extend([4, 3, 0, 0, 0, 0, 0, 0, 1, 0, 59, 0]);
        golden.extend(golden_entry());
        assert_eq!((snapshot.version(), snapshot.encode()), (2, golden.clone()));
        assert_eq!(Snapshot::decode(2, &golden).unwrap(), snapshot);
    }

    /// If this fails, the code is wrong, not the test: such maps are on disks.
    #[test]
    fn version_3_is_read_and_written_as_it_was() {
        let (entries, rollout) = (vec![entry()], Some(rollout()));
        let snapshot = Snapshot { replica: 0x0102_0304_0506_0708, counter: 6, floor: 0, entries, rollout };
        let mut golden = vec![8, 7, 6, 5, 4, 3, 2, 1, 6, 0, 0, 0, 0, 0, 0, 0];
        golden.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 59, 0]);
        golden.extend(golden_entry());
        golden.extend(ROLLOUT);
        assert_eq!((snapshot.version(), snapshot.encode()), (3, golden.clone()));
        assert_eq!(Snapshot::decode(3, &golden).unwrap(), snapshot);
    }

    /// If this fails, the code is wrong, not the test: such maps are on disks.
    #[test]
    fn version_4_is_read_and_written_as_it_was() {
        for (rollout, golden_rollout) in [(None, &[][..]), (Some(rollout()), ROLLOUT)] {
            let entries = vec![Entry { state: EntryState::Voided, ..entry() }];
            let snapshot =
                Snapshot { replica: 0x0102_0304_0506_0708, counter: 6, floor: 0, entries, rollout };
            let mut golden = vec![8, 7, 6, 5, 4, 3, 2, 1, 6, 0, 0, 0, 0, 0, 0, 0];
            golden.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 59, 0]);
            let mut voided = golden_entry();
            voided[38] = 4;
            golden.extend(voided);
            golden.extend(golden_rollout);
            assert_eq!((snapshot.version(), snapshot.encode()), (4, golden.clone()));
            assert_eq!(Snapshot::decode(4, &golden).unwrap(), snapshot);
            assert_eq!(Snapshot::decode(4, &golden[..golden.len() - 1]), None);
        }
    }
}
