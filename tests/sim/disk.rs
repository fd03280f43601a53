//! A disk: a process sees its writes at once, and a power cut undoes those that were not
//! synced.
//!
//! A power cut keeps, tears or drops each write that was not synced, and keeps
//! the first few of the renames and removals that were not: what Linux file
//! systems do at their worst. A renamed file whose bytes were never synced may
//! so be found empty.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Serialize, de::DeserializeOwned};
use thimble::types::Hash;

use crate::dice::Dice;

#[derive(Clone)]
enum Change {
    Write(String, Bytes),
    Rename(String, String),
    Remove(String),
}

/// The bytes of a file, shared by all that have it.
pub type Bytes = Rc<[u8]>;

/// The content of a disk: names and bytes.
pub type Files = BTreeMap<String, Bytes>;

/// The disk of one machine.
#[derive(Default)]
pub struct Disk {
    /// The files that survive a power cut.
    durable: Files,
    /// The files that a process sees: the durable ones with all changes.
    live: Files,
    /// Changes that are not durable, in order.
    pending: Vec<Change>,
    /// The hashes of large files, which are asked for often.
    hashed: RefCell<Vec<(Bytes, Hash)>>,
}

/// Larger files are hashed once.
const LARGE_BYTES: usize = 64 * 1024;

impl From<Files> for Disk {
    /// A disk restored from a backup, or an empty one.
    fn from(files: Files) -> Self {
        Self { durable: files.clone(), live: files, ..Self::default() }
    }
}

impl Disk {
    pub fn write(&mut self, file: &str, bytes: impl Into<Bytes>) {
        self.change(Change::Write(file.to_string(), bytes.into()));
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        self.change(Change::Rename(from.to_string(), to.to_string()));
    }

    pub fn remove(&mut self, file: &str) {
        self.change(Change::Remove(file.to_string()));
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.live, &change);
        self.pending.push(change);
    }

    /// Makes a file's bytes durable (fsync of the file).
    pub fn sync(&mut self, file: &str) {
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let is_meant = matches!(change, Change::Write(name, _) if name == file);
            if is_meant {
                apply(durable, change);
            }
            !is_meant
        });
    }

    /// Makes all changes durable (fsync of the folder, after that of the files).
    pub fn sync_all(&mut self) {
        self.pending.clear();
        self.durable = self.live.clone();
    }

    /// The power fails and comes back.
    pub fn cut_power(&mut self, dice: &mut Dice) {
        let mut moves_left = dice.between(0, self.pending.len() as u64);
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write(file, bytes) => match dice.between(0, 2) {
                    0 => {}
                    1 => {
                        let torn = &bytes[..dice.index(bytes.len() + 1)];
                        apply(&mut self.durable, &Change::Write(file, torn.into()));
                    }
                    _ => apply(&mut self.durable, &Change::Write(file, bytes)),
                },
                _ if moves_left == 0 => {}
                change => {
                    moves_left -= 1;
                    apply(&mut self.durable, &change);
                }
            }
        }
        self.live = self.durable.clone();
    }

    /// The content of a backup made now.
    pub fn image(&self) -> Files {
        self.durable.clone()
    }

    pub fn has(&self, file: &str) -> bool {
        self.live.contains_key(file)
    }

    pub fn read(&self, file: &str) -> Option<&[u8]> {
        self.live.get(file).map(AsRef::as_ref)
    }

    /// Files below a folder: their names in it, and their bytes.
    pub fn folder<'d>(&'d self, folder: &'d str) -> impl Iterator<Item = (&'d str, &'d [u8])> {
        let files = self.live.iter();
        files.filter_map(move |(file, bytes)| Some((file.strip_prefix(folder)?, bytes.as_ref())))
    }

    /// Files below a folder: their names in it, and their hashes.
    pub fn hashes<'d>(&'d self, folder: &'d str) -> impl Iterator<Item = (&'d str, Hash)> {
        let files = self.live.iter();
        files.filter_map(move |(file, bytes)| Some((file.strip_prefix(folder)?, self.hash(bytes))))
    }

    fn hash(&self, bytes: &Bytes) -> Hash {
        let mut hashed = self.hashed.borrow_mut();
        if let Some((_, hash)) = hashed.iter().find(|(known, _)| Rc::ptr_eq(known, bytes)) {
            return *hash;
        }
        let hash = Hash(*blake3::hash(bytes).as_bytes());
        if bytes.len() >= LARGE_BYTES {
            hashed.push((Rc::clone(bytes), hash));
        }
        hash
    }

    /// Reads what [`encode`] wrote; `None` where there is no such file.
    #[track_caller]
    pub fn decode<T: DeserializeOwned>(&self, file: &str) -> Option<T> {
        Some(decode(file, self.read(file)?))
    }

    /// As [`decode`](Self::decode), of the file that would survive a power cut.
    #[track_caller]
    pub fn decode_durable<T: DeserializeOwned>(&self, file: &str) -> Option<T> {
        Some(decode(file, self.durable.get(file)?))
    }
}

#[track_caller]
fn decode<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> T {
    postcard::from_bytes(bytes).unwrap_or_else(|error| panic!("the file {file} is torn: {error}"))
}

/// A value as a file's bytes.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; 64 * 1024];
    let len = postcard::to_slice(value, &mut bytes).expect("a file of the simulation fits").len();
    bytes.truncate(len);
    bytes
}

fn apply(files: &mut Files, change: &Change) {
    match change {
        Change::Write(file, bytes) => {
            files.insert(file.clone(), bytes.clone());
        }
        Change::Rename(from, to) => {
            // Its name is there, its bytes are not: an empty file.
            let bytes = files.remove(from).unwrap_or_else(|| [].into());
            files.insert(to.clone(), bytes);
        }
        Change::Remove(file) => {
            files.remove(file);
        }
    }
}

#[test]
fn synced_writes_survive_and_others_may_be_lost_or_torn() {
    let mut found = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut disk = Disk::default();
        disk.write("safe", vec![1, 2, 3]);
        disk.sync("safe");
        disk.write("risky", vec![4, 5, 6]);
        disk.cut_power(&mut Dice::new(seed));
        assert_eq!(disk.read("safe"), Some(&[1, 2, 3][..]));
        found.insert(disk.read("risky").map(<[u8]>::len));
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [None, Some(0), Some(1), Some(2), Some(3)]);
}

#[test]
fn a_synced_file_replaces_another_whole_or_not_at_all() {
    let mut found = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut disk = Disk::default();
        disk.write("map", vec![1]);
        disk.sync_all();
        disk.write("map.new", vec![2]);
        disk.sync("map.new");
        disk.rename("map.new", "map");
        disk.cut_power(&mut Dice::new(seed));
        found.insert(disk.read("map").map(<[u8]>::to_vec));
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [Some(vec![1]), Some(vec![2])]);
}
