//! Files with holes, in the forms in which archives have them.
//!
//! An archive has the parts of such a file that are not holes, one after the other, and a
//! map of where they go. GNU tar wrote the map in four forms: in a header of its own and
//! blocks behind it, and in pax records as versions 0.0, 0.1 and 1.0. bsdtar and `make`
//! write 1.0.

use super::fault::MemberFault;
use super::packer::Packer;
use crate::limits;

/// A part of a file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The parts of a file that are in the archive, in the file's order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SparseMap {
    extents: Vec<Extent>,
    size_bytes: u64,
}

impl SparseMap {
    /// A map of a file of `size_bytes`, of which the archive has `stored_bytes`. `None` if
    /// it contradicts itself.
    pub(super) fn new(mut extents: Vec<Extent>, size_bytes: u64, stored_bytes: u64) -> Option<Self> {
        let (mut end, mut stored) = (0, 0u64);
        for extent in &extents {
            if extent.offset < end {
                return None;
            }
            end = extent.offset.checked_add(extent.size)?;
            stored = stored.checked_add(extent.size)?;
        }
        // The last one may be empty, and say where the file ends.
        extents.retain(|extent| extent.size > 0);
        (end <= size_bytes && stored == stored_bytes).then_some(Self { extents, size_bytes })
    }
}

/// How far a sparse file is read.
pub(super) struct SparseReader {
    extents: std::vec::IntoIter<Extent>,
    /// The part that is read, or the next one.
    current: Option<Extent>,
    at: u64,
    size_bytes: u64,
}

/// What comes next of a sparse file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many zeros.
    Hole(u64),
    /// So many bytes of the archive.
    Data(u64),
}

impl SparseReader {
    pub(super) fn new(map: SparseMap) -> Self {
        let mut extents = map.extents.into_iter();
        Self { current: extents.next(), extents, at: 0, size_bytes: map.size_bytes }
    }

    /// What comes next; `None` at the file's end.
    pub(super) fn next(&mut self) -> Option<Piece> {
        if let Some(extent) = self.current
            && self.at >= extent.offset + extent.size
        {
            self.current = self.extents.next();
        }
        match self.current {
            Some(extent) if self.at >= extent.offset => {
                Some(Piece::Data(extent.offset + extent.size - self.at))
            }
            next => {
                let end = next.map_or(self.size_bytes, |extent| extent.offset);
                (self.at < end).then(|| Piece::Hole(end - self.at))
            }
        }
    }

    /// So many bytes of the next piece have been read.
    pub(super) fn advance(&mut self, bytes: u64) {
        self.at += bytes;
    }
}

/// What the records of a pax header say about a sparse file.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    is_any: bool,
    major: u64,
    minor: u64,
    size_bytes: Option<u64>,
    count: Option<usize>,
    extents: Vec<Extent>,
    /// Of the next part, until its size comes.
    offset: Option<u64>,
}

/// Where the map of a member is.
pub(super) enum MapPlace {
    /// It has no holes.
    Nowhere,
    /// In its header.
    Header { extents: Vec<Extent>, size_bytes: u64 },
    /// At the start of its content.
    Content { size_bytes: u64 },
}

impl SparseRecords {
    /// Takes a record with this key behind `GNU.sparse.`.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), MemberFault> {
        self.is_any = true;
        self.try_take(key, value).ok_or(BAD)
    }

    fn try_take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            // Takes the place of the member's name: see `super::pax`.
            b"name" => {}
            b"major" => self.major = number(value)?,
            b"minor" => self.minor = number(value)?,
            b"size" | b"realsize" => self.size_bytes = Some(number(value)?),
            b"numblocks" => self.count = Some(usize::try_from(number(value)?).ok()?),
            b"offset" if self.offset.is_none() => self.offset = Some(number(value)?),
            b"numbytes" => {
                let (offset, size) = (self.offset.take()?, number(value)?);
                self.extents.push(Extent { offset, size });
            }
            b"map" if self.extents.is_empty() => self.extents = pairs(value)?,
            _ => return None,
        }
        Some(())
    }

    /// What they say together.
    pub(super) fn end(self, packer: Packer) -> Result<MapPlace, MemberFault> {
        if !self.is_any {
            return Ok(MapPlace::Nowhere);
        }
        let size_bytes = self.size_bytes.ok_or(BAD)?;
        match (self.major, self.minor) {
            (0, 0 | 1) => {
                let is_whole =
                    self.offset.is_none() && self.count.unwrap_or(self.extents.len()) == self.extents.len();
                if is_whole { Ok(MapPlace::Header { extents: self.extents, size_bytes }) } else { Err(BAD) }
            }
            (1, 0) if self.extents.is_empty() => Ok(MapPlace::Content { size_bytes }),
            _ => Err(packer.sparse()),
        }
    }
}

/// The fault of a map that contradicts itself.
pub(super) const BAD: MemberFault = MemberFault::BadHeader("map of holes");

/// The fault of a map that is too long.
pub(super) const TOO_LONG: MemberFault = MemberFault::TooManyHoles;

/// The map at the start of a member's content, version 1.0: numbers in lines, first how
/// many parts there are, then the offset and the size of each.
#[derive(Default)]
pub(super) struct MapReader {
    /// The number that is read, if it has begun.
    current: Option<u64>,
    /// How many parts there are.
    count: Option<usize>,
    /// Of the next part, until its size comes.
    offset: Option<u64>,
    extents: Vec<Extent>,
}

impl MapReader {
    /// Takes the next block. Returns the map when it is whole; what follows in its last
    /// block has no meaning.
    pub(super) fn take(&mut self, block: &[u8]) -> Result<Option<Vec<Extent>>, MemberFault> {
        for byte in block {
            if *byte != b'\n' {
                self.current = Some(with_digit(self.current, *byte).ok_or(BAD)?);
                continue;
            }
            let next = self.current.take().ok_or(BAD)?;
            if self.count.is_none() {
                let count = usize::try_from(next).ok().filter(|count| *count <= limits::PATCH_EXTENTS);
                self.count = Some(count.ok_or(TOO_LONG)?);
            } else if let Some(offset) = self.offset.take() {
                self.extents.push(Extent { offset, size: next });
            } else {
                self.offset = Some(next);
            }
            if self.count == Some(self.extents.len()) {
                return Ok(Some(std::mem::take(&mut self.extents)));
            }
        }
        Ok(None)
    }
}

/// Version 0.1: offsets and sizes in turn, with commas between them.
fn pairs(text: &[u8]) -> Option<Vec<Extent>> {
    let mut numbers = text.split(|byte| *byte == b',').map(number);
    let mut extents = Vec::new();
    while let Some(offset) = numbers.next() {
        extents.push(Extent { offset: offset?, size: numbers.next()?? });
    }
    Some(extents)
}

/// A decimal number of digits alone.
fn number(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(None, |number, digit| with_digit(number, *digit).map(Some))?
}

/// A decimal number with one digit more.
fn with_digit(number: Option<u64>, digit: u8) -> Option<u64> {
    let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
    number.unwrap_or(0).checked_mul(10)?.checked_add(digit.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(pairs: &[(u64, u64)]) -> Vec<Extent> {
        pairs.iter().map(|(offset, size)| Extent { offset: *offset, size: *size }).collect()
    }

    #[test]
    fn a_map_agrees_with_the_file_and_with_what_is_stored() {
        assert!(SparseMap::new(extents(&[(0, 5), (5, 5), (20, 10), (40, 0)]), 40, 20).is_some());
        assert!(SparseMap::new(Vec::new(), 40, 0).is_some());
        for (bad, size, stored) in [
            (&[(5, 5), (0, 5)][..], 40, 10),
            (&[(0, 5), (4, 5)], 40, 10),
            (&[(0, 5)], 4, 5),
            (&[(0, 5)], 40, 6),
            (&[(u64::MAX, 5)], u64::MAX, 5),
            (&[(0, u64::MAX), (u64::MAX, u64::MAX)], u64::MAX, u64::MAX),
            (&[(41, 0)], 40, 0),
        ] {
            assert_eq!(SparseMap::new(extents(bad), size, stored), None, "{bad:?}");
        }
    }

    #[test]
    fn pieces_come_in_the_order_of_the_file() {
        let pieces = |map: &[(u64, u64)], size, stored, step: u64| {
            let mut reader = SparseReader::new(SparseMap::new(extents(map), size, stored).unwrap());
            let mut text = String::new();
            while let Some(piece) = reader.next() {
                let (letter, Piece::Hole(len) | Piece::Data(len)) =
                    (if matches!(piece, Piece::Hole(_)) { "." } else { "x" }, piece);
                let len = len.min(step);
                text += &letter.repeat(len.try_into().unwrap());
                reader.advance(len);
            }
            text
        };
        for step in [1, 2, 3, 100] {
            assert_eq!(pieces(&[(0, 2), (4, 1), (5, 1), (9, 0)], 9, 4, step), "xx..xx...");
            assert_eq!(pieces(&[(3, 3)], 6, 3, step), "...xxx");
            assert_eq!(pieces(&[], 4, 0, step), "....");
            assert_eq!(pieces(&[], 0, 0, step), "");
        }
    }

    fn records(records: &[(&str, &str)]) -> Result<MapPlace, MemberFault> {
        let mut all = SparseRecords::default();
        for (key, value) in records {
            all.take(key.as_bytes(), value.as_bytes())?;
        }
        all.end(Packer::Tar)
    }

    #[test]
    fn three_versions_of_records_are_read() {
        let zero = [
            ("size", "9"),
            ("numblocks", "2"),
            ("offset", "0"),
            ("numbytes", "2"),
            ("offset", "5"),
            ("numbytes", "1"),
        ];
        let one = [("size", "9"), ("numblocks", "2"), ("map", "0,2,5,1"), ("name", "x")];
        for form in [&zero[..], &one] {
            let Ok(MapPlace::Header { extents: read, size_bytes: 9 }) = records(form) else {
                panic!("{form:?}")
            };
            assert_eq!(read, extents(&[(0, 2), (5, 1)]));
        }
        let content = [("major", "1"), ("minor", "0"), ("realsize", "7")];
        assert!(matches!(records(&content), Ok(MapPlace::Content { size_bytes: 7 })));
        assert!(matches!(records(&[]), Ok(MapPlace::Nowhere)));
    }

    #[test]
    fn other_records_are_refused() {
        for bad in [
            &[("numblocks", "1")][..],
            &[("size", "9"), ("numblocks", "1")],
            &[("size", "9"), ("offset", "1")],
            &[("size", "9"), ("numbytes", "1")],
            &[("size", "9"), ("offset", "1"), ("offset", "1")],
            &[("size", "9"), ("map", "1,2,3")],
            &[("size", "9"), ("map", "1,+2")],
            &[("size", "9"), ("map", "")],
            &[("size", "9"), ("map", "1,2"), ("map", "1,2")],
            &[("size", "-9")],
            &[("size", "9"), ("major", "1"), ("map", "1,2")],
            &[("size", "9"), ("major", "1"), ("minor", "1")],
            &[("size", "9"), ("major", "2")],
            &[("size", "9"), ("unknown", "2")],
        ] {
            assert!(records(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_map_in_the_content_may_begin_and_end_anywhere_in_a_block() {
        let text = b"2\n0\n512\n4096\n7\nrest";
        for piece in [1, 3, 512] {
            let mut reader = MapReader::default();
            let found = text.chunks(piece).find_map(|block| reader.take(block).unwrap());
            assert_eq!(found.unwrap(), extents(&[(0, 512), (4096, 7)]), "{piece}");
        }
        assert_eq!(MapReader::default().take(b"0\n").unwrap(), Some(Vec::new()));
        assert_eq!(MapReader::default().take(b"1\n5\n").unwrap(), None);
        for bad in [&b"x\n"[..], b"\n", b"1\n-1\n", b"111111111111111111111", b"99999999999999999999\n"] {
            assert!(MapReader::default().take(bad).is_err());
        }
        let many = format!("{}\n", limits::PATCH_EXTENTS + 1);
        assert_eq!(MapReader::default().take(many.as_bytes()), Err(TOO_LONG));
    }
}
