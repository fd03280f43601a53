//! A record on the disk, read item by item ([`super::record_table`]).
//!
//! The items are in the order of [`super::order`], each a length, u32 LE, and as many bytes
//! as in [`super::record_item`].

use std::cmp::Ordering;
use std::fs::File;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use super::error::{ErrorContext, InstallError};
use super::frames::LEN_BYTES;
use super::order::order;
use super::record::{Installed, Item, ItemKind, Stack};
use super::record_item::{RawItem, undecodable};
use super::record_table::{Segment, Table, checksum, damaged, items_name, read_error};
use super::state_files::StateFile;
use super::sys;

/// A record that can be read.
#[derive(Default)]
pub(super) struct Record {
    table: Table,
    /// `.thimble`; `None` for a host on which nothing was ever installed.
    home: Option<OwnedFd>,
}

impl Deref for Record {
    type Target = Installed;

    fn deref(&self) -> &Installed {
        &self.table.installed
    }
}

impl Record {
    /// Opens a record; `None` if there is none.
    pub fn open(home: BorrowedFd<'_>, file: &StateFile) -> Result<Option<Self>, InstallError> {
        Self::of(home, file.read(home)?)
    }

    /// Opens the draft of a record; `None` if there is none.
    pub fn open_draft(home: BorrowedFd<'_>, file: &StateFile) -> Result<Option<Self>, InstallError> {
        Self::of(home, file.read_draft(home)?)
    }

    fn of(home: BorrowedFd<'_>, table: Option<Table>) -> Result<Option<Self>, InstallError> {
        let Some(table) = table else { return Ok(None) };
        let home = home.try_clone_to_owned().context("open", ".thimble")?;
        Ok(Some(Self { table, home: Some(home) }))
    }

    /// Its table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What is said of each path, in the order of the paths.
    pub fn items(&self) -> Items<'_> {
        Items { record: self, rest: &self.table.segments, file: None, bytes: Vec::new(), used: 0 }
    }

    /// The stack of one path.
    pub fn stack(&self, path: &str) -> Result<Option<Stack>, InstallError> {
        let mut items = self.items();
        while items.after().is_some_and(|after| order(after, path).is_le()) {
            items.skip();
        }
        while let Some(raw) = items.next_raw()? {
            match order(raw.path, path) {
                Ordering::Less => {}
                Ordering::Greater => break,
                Ordering::Equal => {
                    let ItemKind::Stack(stack) = raw.item(self)?.what else { break };
                    return Ok(Some(stack));
                }
            }
        }
        Ok(None)
    }
}

/// A walk through a record.
pub(super) struct Items<'r> {
    record: &'r Record,
    /// The segments that were not read yet.
    rest: &'r [Segment],
    /// The file that was read last.
    file: Option<(u64, File)>,
    /// The segment that is read, and what of it was returned already.
    bytes: Vec<u8>,
    used: usize,
}

impl<'r> Items<'r> {
    /// The segment that the walk is before; `None` if it is in one, or at the end.
    pub fn segment(&self) -> Option<&'r Segment> {
        self.rest.first().filter(|_| self.used == self.bytes.len())
    }

    /// The first path of the segment after that.
    pub fn after(&self) -> Option<&'r str> {
        self.rest.get(1).map(|segment| segment.summary.first.as_str())
    }

    /// Passes over the segment that the walk is before.
    pub fn skip(&mut self) {
        self.rest = self.rest.split_first().map_or(&[], |(_, rest)| rest);
    }

    /// The next item; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Item>, InstallError> {
        let record = self.record;
        self.next_raw()?.map(|raw| raw.item(record)).transpose()
    }

    /// The next item, as it is on the disk.
    pub fn next_raw(&mut self) -> Result<Option<RawItem<'_>>, InstallError> {
        if self.used == self.bytes.len() {
            let Some(segment) = self.segment() else { return Ok(None) };
            self.read(segment)?;
            self.skip();
        }
        let rest = self.bytes.get(self.used..).unwrap_or_default();
        let (len, item) = split_item(rest).ok_or_else(undecodable)?;
        self.used += len;
        Ok(Some(item))
    }

    fn read(&mut self, segment: &Segment) -> Result<(), InstallError> {
        let Segment { file: number, .. } = *segment;
        let home = self.record.home.as_ref().ok_or_else(|| damaged(number, "is gone"))?.as_fd();
        if self.file.as_ref().is_none_or(|(open, _)| *open != number) {
            let file =
                sys::open_read(home, &items_name(number)).map_err(|error| read_error(number, error))?;
            self.file = Some((number, file));
        }
        let Some((_, file)) = &self.file else { return Err(damaged(number, "is gone")) };
        self.used = 0;
        read_segment(file, segment, &mut self.bytes)
    }

    /// The next path that has a stack.
    pub fn next_stack(&mut self) -> Result<Option<(String, Stack)>, InstallError> {
        while let Some(item) = self.next()? {
            if let ItemKind::Stack(stack) = item.what {
                return Ok(Some((item.path, stack)));
            }
        }
        Ok(None)
    }
}

/// Reads a segment in place of what is in a buffer.
pub(super) fn read_segment(file: &File, segment: &Segment, into: &mut Vec<u8>) -> Result<(), InstallError> {
    let Segment { file: number, at, len, .. } = *segment;
    into.clear();
    into.resize(len as usize, 0);
    file.read_exact_at(into, at).map_err(|error| read_error(number, error))?;
    if checksum(into) == segment.checksum {
        Ok(())
    } else {
        Err(damaged(number, "is damaged: its checksum is wrong"))
    }
}

/// The first item of a segment, and the bytes that it takes; `None` if there is none.
pub(super) fn split_item(bytes: &[u8]) -> Option<(usize, RawItem<'_>)> {
    let (len, rest) = bytes.split_first_chunk::<LEN_BYTES>()?;
    let item = rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    Some((LEN_BYTES + item.len(), RawItem::new(item)?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::install::record::{Access, Base, Content, Directory, Layer, Listed, Object, Patch};
    use crate::install::record_draft::Draft;
    use crate::install::record_table::{INSTALLED, RecordBytes, SEGMENT_BYTES, SEGMENT_MOST_BYTES};
    use crate::install::tree::Print;
    use crate::patch::floor::Memory;
    use crate::sealed::SealedFormat;
    use crate::types::PatchId;

    /// A directory of its own for each test.
    fn scratch(name: &str) -> (PathBuf, File) {
        let path = std::env::temp_dir().join(format!("thimble-record-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let dir = File::open(&path).unwrap();
        (path, dir)
    }

    /// Patches with these slots, bottom first.
    fn patches(slots: &[u16]) -> Vec<Patch> {
        let patch = |slot: &u16| Patch {
            id: PatchId::new(&format!("P{slot}")).unwrap(),
            slot: *slot,
            hash: Default::default(),
            requires: vec![],
            unremovable: false,
            committed: false,
            reboot_required: false,
            scripts: vec![],
        };
        slots.iter().map(patch).collect()
    }

    fn object(number: u64) -> Content {
        Content::Object(Object { number, mode: 0o4755, size_bytes: 1 << 40, print: Print::default() })
    }

    fn layer(rank: u16, content: Content) -> Layer {
        Layer { rank, content, is_config: rank == 2 }
    }

    fn stack(mount: &str, base: Option<Base>, layers: Vec<Layer>) -> ItemKind {
        ItemKind::Stack(Stack { mount: mount.to_owned(), base, layers })
    }

    fn items() -> Vec<Item> {
        let item = |path: &str, what| Item { path: path.to_owned(), what };
        let base = Some(Base { number: 0, mode: 0o755 });
        let access = |mode, uid, gid| Access { mode, uid, gid };
        let listed = Listed {
            mount: "etc".to_owned(),
            before: access(0o755, 0, 0),
            layers: vec![(1, access(0o2770, u32::MAX, 33)), (2, access(0o700, 7, 0))],
        };
        let listed = Directory { is_made: false, members_of: vec![0, 1, 2], listed: Some(listed) };
        let made = Directory { is_made: true, members_of: vec![0, 2], listed: None };
        let mut items = vec![
            item("etc", ItemKind::Directory(made)),
            item("etc/a", stack("", base, vec![layer(0, Content::Lost), layer(2, object(7))])),
            item("etc/app", ItemKind::Directory(listed)),
            item("etc/b", stack("etc", None, vec![layer(1, object(8)), layer(2, Content::Nothing)])),
            item("ä", stack("", None, vec![layer(0, object(u64::MAX))])),
        ];
        // Some segments.
        items.extend(
            (0..3_000).map(|at| item(&format!("ö{at:05}"), stack("", None, vec![layer(1, object(at))]))),
        );
        items
    }

    fn write(home: &File, items: &[Item], slots: &[u16]) -> Record {
        let mut draft = Draft::begin(home.as_fd(), &INSTALLED, &patches(slots)).unwrap();
        for item in items {
            draft.push(item).unwrap();
        }
        let mounts = draft.mounts().unwrap();
        draft.finish(&Installed { patches: patches(slots), mounts, ..Installed::default() }).unwrap();
        INSTALLED.publish(home.as_fd()).unwrap();
        Record::open(home.as_fd(), &INSTALLED).unwrap().unwrap()
    }

    fn read(record: &Record) -> Vec<Item> {
        let mut items = record.items();
        std::iter::from_fn(|| items.next().unwrap()).collect()
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_changed() {
        let (path, home) = scratch("same");
        let patches = patches(&[4, 300, 1]);
        let mut draft = Draft::begin(home.as_fd(), &INSTALLED, &patches).unwrap();
        let mut expected = items();
        let places: Vec<_> = expected.iter().map(|item| draft.push(item).unwrap()).collect();
        let mounts = draft.mounts().unwrap();
        let installed = Installed { serial: 3, next_number: 9, patches, mounts, memory: Memory::default() };
        let print = Print::of_content(&blake3::hash(b"content"));
        let last = expected.len() - 1;
        let given_up = |number| [8, 2_998].contains(&number);
        draft.forget(given_up).unwrap();
        for (at, layer) in [(1, 1), (last, 0)] {
            let changed = Object { number: 0, mode: 0o644, size_bytes: 7, print };
            draft.set_facts(places[at], layer, &changed).unwrap();
            let ItemKind::Stack(stack) = &mut expected[at].what else { panic!() };
            let Content::Object(object) = &mut stack.layers[usize::from(layer)].content else { panic!() };
            *object = Object { number: object.number, ..changed };
        }
        for item in &mut expected {
            if let ItemKind::Stack(stack) = &mut item.what {
                stack.forget(given_up);
            }
        }
        let bytes = draft.bytes_with(&installed).unwrap();
        draft.finish(&installed).unwrap();
        assert_eq!(fs::metadata(path.join(INSTALLED.draft)).unwrap().len(), bytes.table);
        assert_eq!(fs::metadata(path.join("items.1")).unwrap().len(), bytes.items);
        assert!(Record::open(home.as_fd(), &INSTALLED).unwrap().is_none());
        let record = Record::open_draft(home.as_fd(), &INSTALLED).unwrap().unwrap();
        assert!(*record == installed && read(&record) == expected);
        assert_eq!(RecordBytes::of(record.table()).unwrap(), bytes);
        assert_eq!(record.mounts, ["", "etc"]);
        assert_eq!(record.stack("etc/b").unwrap().unwrap().layers.len(), 2);
        assert!(record.stack("etc").unwrap().is_none() && record.stack("etc/c").unwrap().is_none());
        for item in &expected {
            let ItemKind::Stack(stack) = &item.what else { continue };
            assert_eq!(record.stack(&item.path).unwrap().as_ref(), Some(stack));
        }
        let lens = record.table().segments.iter().map(|segment| segment.len as usize);
        assert!(lens.rev().skip(1).all(|len| (SEGMENT_BYTES..SEGMENT_MOST_BYTES).contains(&len)));
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn segments_stay_where_they_are_beside_others_and_patches_get_other_ranks() {
        let (path, home) = scratch("segments");
        let old = write(&home, &items(), &[4, 300, 1]);
        let segments = old.table().segments.len();
        assert!(segments > 4);
        // The lowest patch goes, and all ranks with it; the first segment has items of it.
        let mut draft = Draft::begin(home.as_fd(), &INSTALLED, &patches(&[300, 1])).unwrap();
        let mut walk = old.items();
        let mut expected = vec![];
        for at in 0..segments {
            let segment = walk.segment().unwrap();
            if at == 0 || at == 3 {
                while walk.segment() != old.table().segments.get(at + 1) {
                    let item = walk.next().unwrap().unwrap();
                    if let ItemKind::Stack(stack) = &item.what
                        && stack.layers.iter().all(|layer| layer.rank == 1)
                    {
                        let item = Item {
                            what: ItemKind::Stack(Stack {
                                layers: vec![Layer { rank: 0, ..stack.layers[0] }],
                                ..stack.clone()
                            }),
                            ..item
                        };
                        draft.push(&item).unwrap();
                        expected.push(item.path);
                    }
                }
            } else {
                draft.keep(&old, segment).unwrap();
                let next = old.table().segments.get(at + 1).map(|segment| &segment.summary.first);
                let (from, to) = (&segment.summary.first, next);
                let inside = |item: &&Item| {
                    order(&item.path, from).is_ge() && to.is_none_or(|to| order(&item.path, to).is_lt())
                };
                expected.extend(items().iter().filter(inside).map(|item| item.path.clone()));
                walk.skip();
            }
        }
        draft.forget(|number| number == 2_999).unwrap();
        let installed = Installed { patches: patches(&[300, 1]), ..Installed::default() };
        draft.finish(&installed).unwrap();
        let new = Record::open_draft(home.as_fd(), &INSTALLED).unwrap().unwrap();
        let read = read(&new);
        assert_eq!(
            read.iter().map(|item| &item.path).collect::<Vec<_>>(),
            expected.iter().collect::<Vec<_>>()
        );
        for item in &read {
            let ItemKind::Stack(stack) = &item.what else { panic!() };
            let is_forgotten = item.path == "ö02999";
            assert_eq!((stack.layers[0].rank, stack.layers[0].content == Content::Lost), (0, is_forgotten));
        }
        let table = new.table();
        assert_eq!(table.files.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
        let kept = table.segments.iter().filter(|segment| segment.file == 1).count();
        // The last one was copied, since it had the object that was given up.
        assert_eq!(kept, segments - 3);
        assert!(!table.is_worn());
        let short = Segment { len: 100, ..table.segments[0].clone() };
        assert!(Table { segments: vec![short; 40], ..Table::default() }.is_worn());
        let long = old.table().items_bytes() * 2;
        assert!(Table { files: [(1, long)].into_iter().collect(), ..old.table().clone() }.is_worn());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_record_of_an_earlier_version_is_not_called_damaged() {
        let (path, home) = scratch("version");
        let format = SealedFormat { magic: b"THMI", version: 2 };
        fs::write(path.join("installed"), format.seal(&[0; 64])).unwrap();
        let error = Record::open(home.as_fd(), &INSTALLED).err().unwrap();
        assert!(error.to_string().contains("another version of thimble"), "{error}");
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn damage_is_found_whatever_byte_it_is_in() {
        let (path, home) = scratch("damaged");
        write(&home, &items()[..3], &[4, 300, 1]);
        let is_refused = || {
            let Ok(record) = Record::open(home.as_fd(), &INSTALLED) else { return true };
            let record = record.unwrap();
            let mut items = record.items();
            std::iter::from_fn(|| items.next().transpose()).any(|item| item.is_err())
        };
        assert!(!is_refused());
        for name in ["installed", "items.1"] {
            let file = path.join(name);
            let whole = fs::read(&file).unwrap();
            for at in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x10;
                fs::write(&file, bytes).unwrap();
                assert!(is_refused(), "{name}, byte {at}");
                fs::write(&file, &whole[..at]).unwrap();
                assert!(is_refused(), "{name}, {at} bytes");
            }
            fs::remove_file(&file).unwrap();
            assert_eq!(
                name != "installed",
                Record::open(home.as_fd(), &INSTALLED).is_ok_and(|it| it.is_some()) && is_refused()
            );
            fs::write(&file, whole).unwrap();
        }
        fs::remove_dir_all(&path).unwrap();
    }
}
