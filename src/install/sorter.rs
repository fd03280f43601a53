//! Sorts more than fits into memory: what comes is sorted a window at a time, each sorted
//! window is written to a file without a name, and reading merges them. What fits into one
//! window never reaches the disk.

use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frames::Frames;
use super::sys;
use crate::failpoint;

/// The file's name in `.thimble`, for the instant that it has one.
pub(super) const NAME: &str = "sort";
/// How much of what comes is held in memory, in bytes. A test has little to sort.
const WINDOW_BYTES: usize = if cfg!(test) { 4 * 1024 } else { 768 * 1024 };
/// How many sorted windows are merged at once. Each is read through a buffer.
const RUNS: usize = 48;
/// The size of such a buffer, in bytes.
const STEP_BYTES: usize = 8 * 1024;

/// What can be sorted.
pub(super) trait Sorted: Clone + Serialize + DeserializeOwned {
    /// Where it belongs.
    fn order(&self, other: &Self) -> Ordering;

    /// The bytes that it has on the heap, about.
    fn heap_bytes(&self) -> usize;
}

/// Takes items in any order.
pub(super) struct Sorter<'h, T> {
    home: BorrowedFd<'h>,
    window: Vec<T>,
    window_bytes: usize,
    disk: Disk<T>,
}

/// Items in their order, which can be read any number of times.
pub(super) struct SortedItems<T> {
    /// All of them, if they fit.
    window: Vec<T>,
    disk: Disk<T>,
}

/// Sorted windows on the disk.
struct Disk<T> {
    file: Option<File>,
    end: u64,
    runs: Vec<(u64, u64)>,
    of: PhantomData<T>,
}

impl<'h, T: Sorted> Sorter<'h, T> {
    /// Nothing yet. `home` is the directory for the file.
    pub fn new(home: BorrowedFd<'h>) -> Self {
        let disk = Disk { file: None, end: 0, runs: Vec::new(), of: PhantomData };
        Self { home, window: Vec::new(), window_bytes: 0, disk }
    }

    /// Adds an item.
    pub fn push(&mut self, item: T) -> io::Result<()> {
        let bytes = size_of::<T>() + item.heap_bytes();
        if self.window_bytes + bytes > WINDOW_BYTES {
            self.spill()?;
        }
        self.window_bytes += bytes;
        self.window.push(item);
        Ok(())
    }

    /// All that was added.
    pub fn sorted(mut self) -> io::Result<SortedItems<T>> {
        if self.disk.runs.is_empty() {
            self.window.sort_unstable_by(T::order);
        } else {
            self.spill()?;
            self.window = Vec::new();
        }
        Ok(SortedItems { window: self.window, disk: self.disk })
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.window.is_empty() {
            return Ok(());
        }
        self.window.sort_unstable_by(T::order);
        if self.disk.file.is_none() {
            failpoint::hit("making a file to sort in");
            sys::remove_if_there(self.home, NAME)?;
            self.disk.file = Some(sys::create_new(self.home, NAME)?);
            sys::remove_if_there(self.home, NAME)?;
        }
        if self.disk.runs.len() == RUNS {
            let Disk { file, end, runs, .. } = &mut self.disk;
            let Some(file) = file else { return Ok(()) };
            let start = *end;
            let mut writer = Writer::new(file, end);
            let mut merge = Merge::<T>::new(file, runs)?;
            while let Some(item) = merge.next()? {
                writer.push(&item)?;
            }
            writer.flush()?;
            *runs = vec![(start, *end)];
        }
        let Disk { file: Some(file), end, runs, .. } = &mut self.disk else { return Ok(()) };
        let start = *end;
        let mut writer = Writer::new(file, end);
        for item in self.window.drain(..) {
            writer.push(&item)?;
        }
        writer.flush()?;
        runs.push((start, *end));
        self.window_bytes = 0;
        Ok(())
    }
}

impl<T: Sorted> SortedItems<T> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.window.is_empty() && self.disk.runs.is_empty()
    }

    /// The items in their order.
    pub fn iter(&self) -> io::Result<SortedIter<'_, T>> {
        Ok(match &self.disk.file {
            Some(file) => SortedIter::Disk(Merge::new(file, &self.disk.runs)?),
            None => SortedIter::Memory(self.window.iter()),
        })
    }
}

/// A walk through sorted items.
pub(super) enum SortedIter<'s, T> {
    Memory(std::slice::Iter<'s, T>),
    Disk(Merge<'s, T>),
}

impl<T: Sorted> SortedIter<'_, T> {
    /// The next item; `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<T>> {
        match self {
            Self::Memory(items) => Ok(items.next().cloned()),
            Self::Disk(merge) => merge.next(),
        }
    }
}

/// Merges sorted runs: the first of each is decoded, the smallest is next.
pub(super) struct Merge<'f, T> {
    runs: Vec<(T, Frames<'f>)>,
}

impl<'f, T: Sorted> Merge<'f, T> {
    fn new(file: &'f File, runs: &[(u64, u64)]) -> io::Result<Self> {
        let mut first = Vec::with_capacity(runs.len());
        for (start, end) in runs {
            let mut frames = Frames::new(file, *start, *end, STEP_BYTES);
            if let Some(item) = decoded(&mut frames)? {
                first.push((item, frames));
            }
        }
        Ok(Self { runs: first })
    }

    fn next(&mut self) -> io::Result<Option<T>> {
        let least = self.runs.iter().enumerate().min_by(|(_, (a, _)), (_, (b, _))| a.order(b));
        let Some(at) = least.map(|(at, _)| at) else { return Ok(None) };
        let Some((item, frames)) = self.runs.get_mut(at) else { return Ok(None) };
        match decoded(frames)? {
            Some(next) => Ok(Some(std::mem::replace(item, next))),
            None => Ok(Some(self.runs.swap_remove(at).0)),
        }
    }
}

fn decoded<T: DeserializeOwned>(frames: &mut Frames<'_>) -> io::Result<Option<T>> {
    let Some(bytes) = frames.next()? else { return Ok(None) };
    postcard::from_bytes(bytes).map(Some).map_err(io::Error::other)
}

/// Appends frames to a file.
struct Writer<'f> {
    file: &'f File,
    end: &'f mut u64,
    buffer: Vec<u8>,
}

impl<'f> Writer<'f> {
    fn new(file: &'f File, end: &'f mut u64) -> Self {
        Self { file, end, buffer: Vec::new() }
    }

    fn push(&mut self, item: &impl Serialize) -> io::Result<()> {
        let at = self.buffer.len();
        self.buffer.extend([0; super::frames::LEN_BYTES]);
        let buffer = postcard::to_extend(item, std::mem::take(&mut self.buffer)).map_err(io::Error::other)?;
        self.buffer = buffer;
        let body = self.buffer.len() - at - super::frames::LEN_BYTES;
        let len = u32::try_from(body).map_err(io::Error::other)?.to_le_bytes();
        self.buffer.get_mut(at..).unwrap_or_default().iter_mut().zip(len).for_each(|(to, from)| *to = from);
        if self.buffer.len() >= 2 * STEP_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        failpoint::hit("sorting on the disk");
        self.file.write_all_at(&self.buffer, *self.end)?;
        *self.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    impl Sorted for (u32, String) {
        fn order(&self, other: &Self) -> Ordering {
            self.cmp(other)
        }
        fn heap_bytes(&self) -> usize {
            self.1.len()
        }
    }

    #[test]
    fn items_come_sorted_whether_or_not_they_fit() {
        let scratch = std::env::temp_dir().join(format!("thimble-sorter-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        let home = File::open(&scratch).unwrap();
        // About 8 fit into a window. More than RUNS windows are merged in between.
        for count in [0u32, 1, 8, 9, 100, 1_000] {
            let mut sorter = Sorter::new(home.as_fd());
            for at in 0..count {
                let number = at.wrapping_mul(7_919) % count;
                sorter.push((number, "x".repeat(450))).unwrap();
            }
            let sorted = sorter.sorted().unwrap();
            assert_eq!(sorted.disk.runs.is_empty(), count <= 8, "{count}");
            for _ in 0..2 {
                let mut items = sorted.iter().unwrap();
                for number in 0..count {
                    assert_eq!(items.next().unwrap().unwrap().0, number);
                }
                assert!(items.next().unwrap().is_none());
            }
            assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
        }
        std::fs::remove_dir_all(&scratch).unwrap();
    }
}
