//! A record on the disk: read item by item, and written item by item.
//!
//! ```text
//! magic | version u16 LE | items | installed | its length u32 LE | BLAKE3 of all before
//! ```
//!
//! The items are in the order of [`super::order`], each a frame ([`super::frames`]) as in
//! [`super::record_item`].

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::error::{ErrorContext, InstallError};
use super::frames::{Frames, LEN_BYTES};
use super::record::{Installed, Item, ItemKind, Stack};
use super::record_draft::{Draft, FORMAT, INSTALLED, RecordName, WINDOW_BYTES, hash_of};
use super::record_item::{RawItem, undecodable};
use super::state_files::unreadable;
use super::sys;
use crate::sealed::{CHECKSUM_BYTES, SealedError};

/// A record that can be read.
#[derive(Default)]
pub(super) struct Record {
    installed: Installed,
    /// `None` for a host on which nothing was ever installed.
    file: Option<File>,
    items_end: u64,
}

impl Deref for Record {
    type Target = Installed;

    fn deref(&self) -> &Installed {
        &self.installed
    }
}

impl Record {
    /// Opens a record and checks its checksum; `None` if there is none.
    pub fn open(home: BorrowedFd<'_>, name: &str) -> Result<Option<Self>, InstallError> {
        Self::open_again(home, name, &Cell::default())
    }

    /// The same, for one that is opened again and again: the checksum of the file that was
    /// opened last is not checked again.
    pub fn open_again(
        home: BorrowedFd<'_>,
        name: &str,
        checked: &Cell<Option<FileVersion>>,
    ) -> Result<Option<Self>, InstallError> {
        let file = match sys::open_read(home, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.context("read", name)?,
        };
        let version = FileVersion::of(&file).context("read", name)?;
        let is_checked = checked.get() == Some(version);
        let read = read_tail(&file, is_checked).context("read", name)?;
        let (tail_at, tail) = read.map_err(|error| unreadable(name, Some(error)))?;
        let installed = postcard::from_bytes(&tail).map_err(|_| unreadable(name, None))?;
        checked.set(Some(version));
        Ok(Some(Self { installed, file: Some(file), items_end: tail_at }))
    }

    /// What is said of each path, in the order of the paths.
    pub fn items(&self) -> Items<'_> {
        let start = FORMAT.head_bytes() as u64;
        Items(self.file.as_ref().map(|file| Frames::new(file, start, self.items_end, WINDOW_BYTES)))
    }

    /// The stack of one path. Reads all items before it.
    pub fn stack(&self, path: &str) -> Result<Option<Stack>, InstallError> {
        let mut items = self.items();
        while let Some(item) = items.next()? {
            if let (ItemKind::Stack(stack), true) = (item.what, item.path == path) {
                return Ok(Some(stack));
            }
        }
        Ok(None)
    }

    /// Writes a copy of it, durably.
    pub fn copy(&self, home: BorrowedFd<'_>, name: &'static RecordName) -> Result<(), InstallError> {
        match &self.file {
            Some(file) => Draft::copy(home, name, file),
            None => Draft::begin(home, name)?.finish(&self.installed),
        }
    }
}

/// Tells a file from what it was before a change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FileVersion {
    inode: u64,
    len: u64,
    ctime: (i64, i64),
}

impl FileVersion {
    fn of(file: &File) -> io::Result<Self> {
        let stat = file.metadata()?;
        Ok(Self { inode: stat.ino(), len: stat.len(), ctime: (stat.ctime(), stat.ctime_nsec()) })
    }
}

/// Checks a file, unless that was done, and returns its tail and where that begins.
fn read_tail(file: &File, is_checked: bool) -> io::Result<Result<(u64, Vec<u8>), SealedError>> {
    const ENDING: u64 = (LEN_BYTES + CHECKSUM_BYTES) as u64;
    let len = file.metadata()?.len();
    let mut head = vec![0; FORMAT.head_bytes().min(usize::try_from(len).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut head, 0)?;
    match FORMAT.version_of(&head) {
        Err(error) => return Ok(Err(error)),
        // Version 1 was read as a whole.
        Ok(version) if version != FORMAT.version => return Ok(Err(SealedError::OtherVersion(version))),
        Ok(_) => {}
    }
    let Some(end) = len.checked_sub(ENDING).filter(|end| *end >= head.len() as u64) else {
        return Ok(Err(SealedError::Damaged));
    };
    let (mut tail_len, mut checksum) = ([0; LEN_BYTES], [0; CHECKSUM_BYTES]);
    file.read_exact_at(&mut tail_len, end)?;
    file.read_exact_at(&mut checksum, end + LEN_BYTES as u64)?;
    let tail_len = u32::from_le_bytes(tail_len);
    let tail_at = end.checked_sub(tail_len.into()).filter(|at| *at >= head.len() as u64);
    let is_whole = is_checked || *hash_of(file, len - CHECKSUM_BYTES as u64)?.as_bytes() == checksum;
    let Some(tail_at) = tail_at.filter(|_| is_whole) else {
        return Ok(Err(SealedError::Damaged));
    };
    let mut tail = vec![0; tail_len as usize];
    file.read_exact_at(&mut tail, tail_at)?;
    Ok(Ok((tail_at, tail)))
}

/// A walk through a record.
pub(super) struct Items<'r>(Option<Frames<'r>>);

impl Items<'_> {
    /// The next item; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Item>, InstallError> {
        self.next_raw()?.map(|raw| raw.item()).transpose()
    }

    /// The next item, as it is on the disk.
    pub fn next_raw(&mut self) -> Result<Option<RawItem<'_>>, InstallError> {
        let Some(frames) = &mut self.0 else { return Ok(None) };
        let Some(bytes) = frames.next().context("read", INSTALLED.name)? else { return Ok(None) };
        RawItem::new(bytes).map(Some).ok_or_else(undecodable)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::path::PathBuf;

    use super::*;
    use crate::install::record::{Base, Content, Directory, Layer, Object};
    use crate::install::record_draft::BEFORE;
    use crate::install::tree::Print;

    /// A directory of its own for each test.
    fn scratch(name: &str) -> (PathBuf, File) {
        let path = std::env::temp_dir().join(format!("thimble-record-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let dir = File::open(&path).unwrap();
        (path, dir)
    }

    fn object(number: u64) -> Content {
        Content::Object(Object { number, mode: 0o4755, size_bytes: 1 << 40, print: Print::default() })
    }

    fn layer(rank: u16, content: Content) -> Layer {
        Layer { rank, content, is_config: rank == 2 }
    }

    fn items() -> Vec<Item> {
        let item = |path: &str, what| Item { path: path.to_owned(), what };
        let stack =
            |mount: &str, base, layers| ItemKind::Stack(Stack { mount: mount.to_owned(), base, layers });
        let mut items = vec![
            item("etc", ItemKind::Directory(Directory { is_made: true, members_of: vec![0, 258] })),
            item(
                "etc/a",
                stack(
                    "",
                    Some(Base { number: 0, mode: 0o755 }),
                    vec![layer(0, Content::Lost), layer(2, object(7))],
                ),
            ),
            item("etc/b", stack("etc", None, vec![layer(1, object(8)), layer(2, Content::Nothing)])),
            item("ä", stack("", None, vec![layer(0, object(u64::MAX))])),
        ];
        // More than a window.
        items.extend(
            (0..3_000).map(|at| item(&format!("ö{at:05}"), stack("", None, vec![layer(1, object(at))]))),
        );
        items
    }

    fn read(home: &File, name: &str) -> (Installed, Vec<Item>) {
        let record = Record::open(home.as_fd(), name).unwrap().unwrap();
        let mut items = record.items();
        let read = std::iter::from_fn(|| items.next().unwrap()).collect();
        (record.installed.clone(), read)
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_changed() {
        let (path, home) = scratch("same");
        let mut draft = Draft::begin(home.as_fd(), &INSTALLED).unwrap();
        let mut expected = items();
        let places: Vec<_> = expected.iter().map(|item| draft.push(item).unwrap()).collect();
        let installed =
            Installed { serial: 3, next_number: 9, mounts: draft.mounts(), ..Installed::default() };
        let print = Print::of_content(&blake3::hash(b"content"));
        let last = expected.len() - 1;
        for (at, layer) in [(1, 1), (last, 0)] {
            let changed = Object { number: 0, mode: 0o644, size_bytes: 7, print };
            draft.set_facts(places[at], layer, &changed).unwrap();
            let ItemKind::Stack(stack) = &mut expected[at].what else { panic!() };
            let Content::Object(object) = &mut stack.layers[usize::from(layer)].content else { panic!() };
            *object = Object { number: object.number, ..changed };
        }
        let given_up = |number| [8, 2_998].contains(&number);
        draft.forget(given_up).unwrap();
        for item in &mut expected {
            if let ItemKind::Stack(stack) = &mut item.what {
                stack.forget(given_up);
            }
        }
        let len = draft.bytes_with(&installed).unwrap();
        draft.finish(&installed).unwrap();
        assert_eq!(fs::metadata(path.join(INSTALLED.draft)).unwrap().len(), len);
        assert!(read(&home, INSTALLED.draft) == (installed, expected));
        let record = Record::open(home.as_fd(), INSTALLED.draft).unwrap().unwrap();
        assert_eq!(record.mounts, ["", "etc"]);
        assert_eq!(record.stack("etc/b").unwrap().unwrap().layers.len(), 2);
        assert!(record.stack("etc").unwrap().is_none());

        record.copy(home.as_fd(), &BEFORE).unwrap();
        BEFORE.publish(home.as_fd()).unwrap();
        assert_eq!(fs::read(path.join("before")).unwrap(), fs::read(path.join(INSTALLED.draft)).unwrap());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_record_of_an_earlier_version_is_not_called_damaged() {
        let (path, home) = scratch("version");
        fs::write(path.join("installed"), FORMAT.seal_as(1, &[0; 64])).unwrap();
        let error = Record::open(home.as_fd(), "installed").err().unwrap();
        assert!(error.to_string().contains("another version of thimble"), "{error}");
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_damaged_record_is_refused_whatever_byte_it_is() {
        let (path, home) = scratch("damaged");
        let mut draft = Draft::begin(home.as_fd(), &INSTALLED).unwrap();
        for item in items().iter().take(3) {
            draft.push(item).unwrap();
        }
        draft.finish(&Installed::default()).unwrap();
        let file = path.join(INSTALLED.draft);
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&file, bytes).unwrap();
            assert!(Record::open(home.as_fd(), INSTALLED.draft).is_err(), "byte {at}");
            fs::write(&file, &whole[..at]).unwrap();
            assert!(Record::open(home.as_fd(), INSTALLED.draft).is_err(), "{at} bytes");
        }
        fs::remove_dir_all(&path).unwrap();
    }
}
