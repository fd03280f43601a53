//! Writes a record, item by item.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use super::error::{ErrorContext, InstallError, is_full};
use super::frames::LEN_BYTES;
use super::record::{Installed, Item, ItemKind, Object, Patch};
use super::record_file::{Record, read_segment, split_item};
use super::record_item::{
    BEFORE_CONTENT, BEFORE_FACTS, LAYER_BYTES, LOST, RawItem, encode, facts, undecodable,
};
use super::record_table::{
    CHECKSUM_BYTES, ITEMS, RecordBytes, SEGMENT_BYTES, SEGMENT_MOST_BYTES, Segment, Summary, Table, checksum,
    items_files, items_name, read_error,
};
use super::state_files::StateFile;
use super::{spare, sys};
use crate::failpoint;
use crate::sorted::{FlatMap, FlatSet};

/// A record that is being written. Its table comes last: until then it is no record.
pub(super) struct Draft<'h> {
    home: BorrowedFd<'h>,
    name: &'static StateFile,
    /// The slots of the patches, by rank.
    slots: Vec<u16>,
    file: Option<ItemsFile>,
    segments: Vec<Segment>,
    /// The files of segments that stay, with their lengths.
    kept_files: FlatMap<u64, u64>,
    buffer: Vec<u8>,
    /// Where the next segment can end in the buffer.
    cut: Option<usize>,
    /// Where the buffer belongs.
    at: u64,
}

/// The file of items that a draft writes.
struct ItemsFile {
    number: u64,
    file: File,
    /// It was written into the space set aside.
    is_spare: bool,
}

impl<'h> Draft<'h> {
    /// Begins a draft, in place of any other. The patches are those of the new set, in layer
    /// order.
    pub fn begin(
        home: BorrowedFd<'h>,
        name: &'static StateFile,
        patches: &[Patch],
    ) -> Result<Self, InstallError> {
        sys::remove_if_there(home, name.draft).own_context("remove", name.draft)?;
        Ok(Self {
            home,
            name,
            slots: patches.iter().map(|patch| patch.slot).collect(),
            file: None,
            segments: Vec::new(),
            kept_files: FlatMap::default(),
            buffer: Vec::new(),
            cut: None,
            at: 0,
        })
    }

    /// Adds a segment of another record, as it is.
    pub fn keep(&mut self, record: &Record, segment: &Segment) -> Result<(), InstallError> {
        self.flush()?;
        let len = record.table().files.get(&segment.file).copied().unwrap_or_default();
        self.kept_files.insert(segment.file, len);
        self.segments.push(segment.clone());
        Ok(())
    }

    /// Adds an item. They come in the order of their paths. Returns where the layers of a
    /// stack are, for [`Self::set_facts`].
    pub fn push(&mut self, item: &Item) -> Result<u64, InstallError> {
        let layers_at = encode(item, &self.slots, &mut self.buffer) as u64 + self.at;
        self.pushed(match &item.what {
            ItemKind::Stack(stack) => stack.has_file(),
            ItemKind::Directory(directory) => !directory.members_of.is_empty(),
        })?;
        Ok(layers_at)
    }

    /// Adds an item as it is in another record. Its patches all stay.
    pub fn push_raw(&mut self, item: &RawItem<'_>) -> Result<(), InstallError> {
        let len = u32::try_from(item.bytes.len()).unwrap_or(u32::MAX);
        self.buffer.extend(len.to_le_bytes());
        self.buffer.extend_from_slice(item.bytes);
        self.pushed(item.wants_directories())
    }

    /// An item was added, which may want the directories that it is in.
    fn pushed(&mut self, wants_directories: bool) -> Result<(), InstallError> {
        let len = self.buffer.len();
        if len >= SEGMENT_BYTES && (wants_directories || len >= SEGMENT_MOST_BYTES) {
            self.cut = self.cut.or(Some(len));
        }
        match self.cut.take_if(|_| len >= SEGMENT_MOST_BYTES) {
            Some(cut) => self.write_segment(cut),
            None => Ok(()),
        }
    }

    /// Sets what was not known of an object when its layer was written.
    pub fn set_facts(&mut self, layers_at: u64, layer: u16, object: &Object) -> io::Result<()> {
        let at = layers_at + u64::from(layer) * LAYER_BYTES as u64 + BEFORE_FACTS as u64;
        self.overwrite(at, &facts(object))
    }

    fn overwrite(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match (at.checked_sub(self.at).map(|at| at as usize), &self.file) {
            (Some(at), _) => {
                let place = self.buffer.get_mut(at..).unwrap_or_default();
                place.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                Ok(())
            }
            (None, Some(file)) => file.file.write_all_at(bytes, at),
            (None, None) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Gives up objects of layers that were written.
    pub fn forget(&mut self, is_given_up: impl Fn(u64) -> bool) -> Result<(), InstallError> {
        self.flush()?;
        let mut bytes = Vec::new();
        for place in 0..self.segments.len() {
            let Some(segment) = self.segments.get(place).cloned() else { break };
            self.read(&segment, &mut bytes)?;
            if !forget(&mut bytes, &is_given_up)? {
                continue;
            }
            if let Some(file) = self.file.as_ref().filter(|file| file.number == segment.file) {
                // In place: facts are still to be set in it.
                let written = file.file.write_all_at(&bytes, segment.at);
                written.own_context("write", &items_name(file.number))?;
            } else {
                self.buffer.clone_from(&bytes);
                self.flush()?;
                if let Some(rewritten) = self.segments.pop() {
                    self.segments.get_mut(place).into_iter().for_each(|segment| *segment = rewritten.clone());
                }
            }
        }
        Ok(())
    }

    /// Reads a segment: of another record, or one whose checksum is not known yet.
    fn read(&self, segment: &Segment, into: &mut Vec<u8>) -> Result<(), InstallError> {
        let number = segment.file;
        match &self.file {
            Some(own) if own.number == number => {
                into.clear();
                into.resize(segment.len as usize, 0);
                own.file.read_exact_at(into, segment.at).map_err(|error| read_error(number, error))
            }
            _ => {
                let file = sys::open_read(self.home, &items_name(number));
                read_segment(&file.map_err(|error| read_error(number, error))?, segment, into)
            }
        }
    }

    /// The mount points of what was written.
    pub fn mounts(&mut self) -> Result<Vec<String>, InstallError> {
        self.flush()?;
        let mounts = self.segments.iter().flat_map(|segment| segment.summary.mounts.iter());
        Ok(mounts.collect::<FlatSet<_>>().into_iter().cloned().collect())
    }

    /// The bytes that the record will take.
    pub fn bytes_with(&self, installed: &Installed) -> Result<RecordBytes, InstallError> {
        let mut bytes = RecordBytes::of(&self.table(installed))?;
        bytes.items += self.buffer.len() as u64;
        Ok(bytes)
    }

    fn table(&self, installed: &Installed) -> Table {
        let used: FlatSet<_> = self.segments.iter().map(|segment| segment.file).collect();
        let own = self.file.as_ref().map(|file| (file.number, self.at));
        let files = self.kept_files.iter().copied().chain(own).filter(|(number, _)| used.contains(number));
        Table { installed: installed.clone(), segments: self.segments.clone(), files: files.collect() }
    }

    /// Ends the draft, durably. Its place in `.thimble` is not yet that of the record.
    pub fn finish(mut self, installed: &Installed) -> Result<(), InstallError> {
        self.flush()?;
        let mut bytes = Vec::new();
        for place in 0..self.segments.len() {
            let own = self.segments.get(place).filter(|segment| self.is_own(segment)).cloned();
            let Some(segment) = own else { continue };
            self.read(&segment, &mut bytes)?;
            let checksum = checksum(&bytes);
            self.segments.get_mut(place).into_iter().for_each(|segment| segment.checksum = checksum);
        }
        if let Some(ItemsFile { number, file, .. }) = &self.file {
            failpoint::hit("syncing items");
            let synced = file.set_len(self.at).and_then(|()| file.sync_all());
            synced.own_context("write", &items_name(*number))?;
        }
        self.name.write_draft(self.home, &self.table(installed))
    }

    fn is_own(&self, segment: &Segment) -> bool {
        self.file.as_ref().is_some_and(|file| file.number == segment.file)
    }

    /// Ends the segment that is in memory.
    fn flush(&mut self) -> Result<(), InstallError> {
        self.cut = None;
        self.write_segment(self.buffer.len())
    }

    /// Writes a segment of the first bytes that are in memory; where the disk is full, into
    /// the space set aside.
    fn write_segment(&mut self, len: usize) -> Result<(), InstallError> {
        if len == 0 {
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(self.new_file()?);
        }
        let bytes = self.buffer.get(..len).unwrap_or_default();
        let summary = summary(bytes)?;
        failpoint::hit("writing items");
        let Some(ItemsFile { number, file, is_spare }) = &self.file else { return Ok(()) };
        let number = *number;
        match file.write_all_at(bytes, self.at) {
            Err(error) if is_full(&error) && self.name.has_spare && !is_spare => {
                let spare = self.move_to_spare(number, file, error);
                let file = spare.own_context("write", &items_name(number))?;
                self.file = Some(ItemsFile { number, file, is_spare: true });
            }
            other => other.own_context("write", &items_name(number))?,
        }
        let len_u32 = u32::try_from(len).unwrap_or(u32::MAX);
        let segment =
            Segment { file: number, at: self.at, len: len_u32, checksum: [0; CHECKSUM_BYTES], summary };
        self.segments.push(segment);
        self.at += len as u64;
        self.buffer.drain(..len);
        Ok(())
    }

    fn new_file(&self) -> Result<ItemsFile, InstallError> {
        let number = items_files(self.home)?.into_iter().max().unwrap_or(0) + 1;
        let name = items_name(number);
        failpoint::hit("making a file of items");
        let (file, is_spare) = match sys::create_new(self.home, &name) {
            Err(error) if is_full(&error) && self.name.has_spare => {
                let spare = spare::take(self.home, ITEMS, &name);
                (spare.and_then(|spare| spare.ok_or(error)).own_context("make", &name)?, true)
            }
            other => (other.own_context("make", &name)?, false),
        };
        Ok(ItemsFile { number, file, is_spare })
    }

    /// Copies what was written so far to the space set aside, and what is in memory.
    fn move_to_spare(&self, number: u64, file: &File, full: io::Error) -> io::Result<File> {
        let name = items_name(number);
        sys::remove_if_there(self.home, &name)?;
        let spare = spare::take(self.home, ITEMS, &name)?.ok_or(full)?;
        let mut at = 0;
        let mut buffer = vec![0; SEGMENT_BYTES];
        while at < self.at {
            let most = usize::try_from(self.at - at).unwrap_or(usize::MAX).min(SEGMENT_BYTES);
            let piece = buffer.get_mut(..most).unwrap_or_default();
            file.read_exact_at(piece, at)?;
            spare.write_all_at(piece, at)?;
            at += most as u64;
        }
        spare.write_all_at(&self.buffer, self.at)?;
        Ok(spare)
    }
}

/// What the items of a segment have.
fn summary(mut bytes: &[u8]) -> Result<Summary, InstallError> {
    let mut summary = Summary::default();
    let mut is_first = true;
    while !bytes.is_empty() {
        let (len, item) = split_item(bytes).ok_or_else(undecodable)?;
        if std::mem::take(&mut is_first) {
            item.path.clone_into(&mut summary.first);
        }
        for slot in item.slots() {
            summary.slots.insert(slot);
        }
        if let Some(stack) = item.stack() {
            if !summary.mounts.contains(stack.mount) {
                summary.mounts.insert(stack.mount.to_owned());
            }
            for number in stack.kept() {
                let (low, high) = summary.kept.unwrap_or((number, number));
                summary.kept = Some((low.min(number), high.max(number)));
            }
        }
        summary.is_closed = item.wants_directories();
        bytes = bytes.get(len..).unwrap_or_default();
    }
    Ok(summary)
}

/// Gives up objects of the layers in a segment. Returns whether it had one of them.
fn forget(segment: &mut [u8], is_given_up: impl Fn(u64) -> bool) -> Result<bool, InstallError> {
    let mut places = Vec::new();
    let mut at = 0;
    while at < segment.len() {
        let (len, item) = split_item(segment.get(at..).unwrap_or_default()).ok_or_else(undecodable)?;
        let layers = item.stack().into_iter().flat_map(|stack| stack.objects());
        let layers_at = at + LEN_BYTES + item.layers_at();
        let given_up = layers.zip(0..).filter(|(object, _)| object.is_some_and(&is_given_up));
        places.extend(given_up.map(|(_, layer)| layers_at + layer * LAYER_BYTES + BEFORE_CONTENT));
        at += len;
    }
    for place in &places {
        segment.get_mut(*place).into_iter().for_each(|content| *content = LOST);
    }
    Ok(!places.is_empty())
}
