//! Makes the steps of a difference ([`super::difference`]).

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use bidiff::{DiffParams, Match};
use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::difference::{Difference, old_hash};
use super::old_tree::Old;

/// Old and new content of a larger file travel whole, in bytes: sorting takes five times the old
/// one's size of memory.
const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// So many equal bytes are worth a step, not zeros to be added.
const COPIED_BYTES: usize = 8;
/// What the header of a difference takes in the compressed archive, about, in bytes.
const HEADER_BYTES: u64 = 64;

/// The content of a member that has the difference of a file to its old content; `None` if that is not
/// smaller than the file.
pub(super) fn differ(old: &Old, new: &mut File, new_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    if old.size_bytes.max(new_bytes) > MOST_BYTES {
        return Ok(None);
    }
    let mut content = Vec::new();
    // Looking for holes has moved the file's own place.
    new.rewind()?;
    new.read_to_end(&mut content)?;
    let new_hash = blake3::hash(&content);
    let difference = Difference {
        of: old.of.clone(),
        old_path: old.path.clone(),
        old_bytes: old.size_bytes,
        old_hash: old_hash(&old.hash),
        new_bytes: content.len() as u64,
        new_hash,
    };
    let steps = if new_hash == old.hash {
        let mut steps = Steps::default();
        steps.push(0, content.len() as u64);
        steps.bytes
    } else {
        let old_content = std::fs::read(&old.file)?;
        steps(&old_content, &content)
    };
    if compressed_bytes(&steps)? + HEADER_BYTES >= compressed_bytes(&content)? {
        return Ok(None);
    }
    // What would not apply on a host travels whole.
    let mut made = Vec::new();
    let applied = difference.apply(&mut &steps[..], &File::open(&old.file)?).read_to_end(&mut made);
    let is_right = applied.is_ok() && made == content;
    Ok(is_right.then(|| [difference.encode(), steps].concat()))
}

/// What bytes take in an archive, about.
fn compressed_bytes(bytes: &[u8]) -> io::Result<u64> {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
    deflate.write_all(bytes)?;
    Ok(deflate.finish()?.len() as u64)
}

/// The steps that make `new` of `old`.
fn steps(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut steps = Steps::default();
    // There is nothing to be sorted.
    if old.is_empty() {
        steps.insert(new);
        return steps.bytes;
    }
    // In one part, so that all machines make the same.
    let Ok(params) = DiffParams::new(1, None) else { return steps.bytes };
    let each = |Match { add_old_start, add_new_start, add_length, copy_end }| {
        let old = old.get(add_old_start..).and_then(|old| old.get(..add_length)).unwrap_or_default();
        let new_part = |from: usize, to: usize| new.get(from..to).unwrap_or_default();
        let add_end = add_new_start + add_length;
        if add_length > 0 {
            steps.seek(add_old_start as u64);
            steps.add(old, new_part(add_new_start, add_end));
        }
        steps.insert(new_part(add_end, copy_end));
        Ok::<_, std::convert::Infallible>(())
    };
    let Ok(()) = bidiff::diff(old, new, &params, each);
    steps.bytes
}

/// Steps as they are written.
#[derive(Default)]
struct Steps {
    bytes: Vec<u8>,
    /// The place in the old content.
    at: u64,
}

impl Steps {
    fn push(&mut self, kind: u64, n: u64) {
        let mut number = n << 2 | kind;
        while number > 0x7f {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn seek(&mut self, to: u64) {
        if let Some(forward) = to.checked_sub(self.at).filter(|forward| *forward > 0) {
            self.push(3, forward * 2);
        } else if to < self.at {
            self.push(3, (self.at - to) * 2 - 1);
        }
        self.at = to;
    }

    fn insert(&mut self, new: &[u8]) {
        if !new.is_empty() {
            self.push(2, new.len() as u64);
            self.bytes.extend_from_slice(new);
        }
    }

    /// Bytes that differ little from those at the same place in the old content, as many.
    fn add(&mut self, old: &[u8], new: &[u8]) {
        let added: Vec<u8> = new.iter().zip(old).map(|(new, old)| new.wrapping_sub(*old)).collect();
        self.at += added.len() as u64;
        let mut rest = &added[..];
        while !rest.is_empty() {
            let equal = rest.iter().take_while(|byte| **byte == 0).count();
            if equal >= COPIED_BYTES || equal == rest.len() {
                self.push(0, equal as u64);
                rest = rest.split_at(equal).1;
                continue;
            }
            // Up to the next bytes that are copied.
            let (mut len, mut zeros) = (0, 0);
            while zeros < COPIED_BYTES && len + zeros < rest.len() {
                match rest.get(len + zeros) {
                    Some(0) => zeros += 1,
                    _ => (len, zeros) = (len + zeros + 1, 0),
                }
            }
            let (adds, behind) = rest.split_at(len);
            self.push(1, len as u64);
            self.bytes.extend_from_slice(adds);
            rest = behind;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::patch::difference::Difference;

    /// A file of this content that has no name.
    fn unnamed(content: &[u8], name: &str) -> File {
        let path = std::env::temp_dir().join(format!("thimble-differ-{name}-{}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file
    }

    fn difference(old: &[u8], new: &[u8]) -> Difference {
        Difference {
            of: None,
            old_path: None,
            old_bytes: old.len() as u64,
            old_hash: old_hash(&blake3::hash(old)),
            new_bytes: new.len() as u64,
            new_hash: blake3::hash(new),
        }
    }

    /// Numbers that a seed gives.
    struct Seeded(u64);

    impl Seeded {
        fn next(&mut self, below: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % below
        }

        fn bytes(&mut self, len: usize) -> Vec<u8> {
            (0..len).map(|_| self.next(256) as u8).collect()
        }
    }

    /// A second implementation: all in memory, and as the format is described.
    fn apply(steps: &[u8], old: &[u8]) -> Option<Vec<u8>> {
        let (mut new, mut at, mut rest) = (Vec::new(), 0usize, steps);
        while !rest.is_empty() {
            let len = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
            let digits = rest[..len].iter().rev();
            let number = digits.fold(0u128, |number, byte| number << 7 | u128::from(byte & 0x7f));
            rest = &rest[len..];
            let n = usize::try_from(number >> 2).ok()?;
            match number & 3 {
                0 => new.extend(old.get(at..at.checked_add(n)?)?),
                1 => {
                    let added = rest.get(..n)?.iter().zip(old.get(at..at.checked_add(n)?)?);
                    new.extend(added.map(|(add, old)| add.wrapping_add(*old)));
                }
                2 => new.extend(rest.get(..n)?),
                _ if n % 2 == 0 => at = at.checked_add(n / 2)?,
                _ => at = at.checked_sub(n.div_ceil(2))?,
            }
            if number & 3 < 2 {
                at += n;
            }
            if matches!(number & 3, 1 | 2) {
                rest = &rest[n..];
            }
        }
        Some(new)
    }

    /// What is read in pieces of this length.
    fn read(difference: &Difference, steps: &[u8], old: &File, piece: usize) -> io::Result<Vec<u8>> {
        let (mut new, mut steps) = (Vec::new(), steps);
        let mut content = difference.apply(&mut steps, old);
        let mut buffer = vec![0; piece];
        loop {
            match content.read(&mut buffer)? {
                0 => return Ok(new),
                len => new.extend(&buffer[..len]),
            }
        }
    }

    /// Pairs of contents of all shapes.
    fn pairs() -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut seeded = Seeded(11);
        let base = seeded.bytes(20_000);
        let mut pairs = vec![
            (vec![], vec![]),
            (vec![], b"new".to_vec()),
            (b"old".to_vec(), vec![]),
            (b"a".to_vec(), b"b".to_vec()),
            (vec![0; 9_000], vec![0; 20_000]),
            (base.clone(), base.clone()),
            (base.clone(), [&base[9_000..], &base[..9_000]].concat()),
            (base.clone(), [&base[..], &base[..]].concat()),
            (base.clone(), base[5_000..6_000].to_vec()),
            (base.clone(), seeded.bytes(20_000)),
        ];
        for _ in 0..20 {
            let mut new = base.clone();
            for _ in 0..seeded.next(60) {
                let at = seeded.next(new.len());
                let len = seeded.next(40);
                let some = seeded.bytes(len);
                match seeded.next(3) {
                    0 => new[at] = new[at].wrapping_add(1),
                    1 => drop(new.splice(at..at, some)),
                    _ => drop(new.drain(at..(at + len).min(new.len()))),
                }
            }
            pairs.push((base.clone(), new));
        }
        pairs
    }

    #[test]
    fn differences_of_all_shapes_give_the_new_content() {
        for (at, (old, new)) in pairs().into_iter().enumerate() {
            let steps = steps(&old, &new);
            assert_eq!(apply(&steps, &old).as_ref(), Some(&new), "pair {at}");
            let file = unnamed(&old, &format!("shapes-{at}"));
            let difference = difference(&old, &new);
            for piece in [1, 7, 4_096, 65_536] {
                assert!(read(&difference, &steps, &file, piece).unwrap() == new, "pair {at} by {piece}");
            }
        }
    }

    /// Whatever the steps are, what is read to its end is the new content.
    #[test]
    fn damaged_steps_fail_and_give_nothing_else() {
        let mut seeded = Seeded(5);
        let (mut failed, mut harmless) = (0, 0);
        for (at, (old, new)) in pairs().into_iter().enumerate().skip(1) {
            let steps = steps(&old, &new);
            let file = unnamed(&old, &format!("damaged-{at}"));
            let difference = difference(&old, &new);
            for _ in 0..200 {
                let mut damaged = steps.clone();
                if damaged.is_empty() {
                    damaged.push(0);
                }
                let place = seeded.next(damaged.len());
                match seeded.next(4) {
                    0 => damaged.truncate(place),
                    1 => damaged.insert(place, seeded.next(256) as u8),
                    _ => damaged[place] ^= 1 << seeded.next(8),
                }
                match read(&difference, &damaged, &file, 4_096) {
                    Ok(read) => {
                        assert!(read == new, "pair {at}");
                        harmless += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "pair {at}");
                        failed += 1;
                    }
                }
            }
        }
        assert!(failed > 20 * harmless, "{failed} of {harmless}");
    }

    #[test]
    fn an_old_file_that_is_another_or_becomes_shorter_gives_nothing() {
        let mut seeded = Seeded(3);
        let old = seeded.bytes(50_000);
        let mut new = old.clone();
        new[40_000] ^= 1;
        let (steps, difference) = (steps(&old, &new), difference(&old, &new));
        let mut other = old.clone();
        other[100] ^= 1;
        for wrong in [&other[..], &old[..45_000], &[]] {
            assert!(read(&difference, &steps, &unnamed(wrong, "other"), 4_096).is_err());
        }
        assert!(read(&difference, &steps, &unnamed(&old, "right"), 4_096).unwrap() == new);
    }

    #[test]
    fn numbers_that_are_too_great_are_refused() {
        let difference = difference(b"old", b"new");
        let file = unnamed(b"old", "numbers");
        for steps in [
            &[0xff; 9][..],
            &[0xff; 12],
            // Back before the beginning, and far behind the end.
            &[0b111, 0b1100],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0b1100],
            // A number that ends in the middle.
            &[0x80],
            // What comes behind the end.
            &[0b1110, b'n', b'e', b'w', 0b110, b'!'],
        ] {
            let error = read(&difference, steps, &file, 64).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{steps:?}");
        }
        assert_eq!(read(&difference, &[0b1110, b'n', b'e', b'w'], &file, 64).unwrap(), b"new");
    }

    #[test]
    fn what_is_not_smaller_travels_whole() {
        let mut seeded = Seeded(2);
        let content = seeded.bytes(5_000);
        let path = std::env::temp_dir().join(format!("thimble-differ-whole-{}", std::process::id()));
        std::fs::write(&path, &content).unwrap();
        let old = |path: &PathBuf| Old {
            of: None,
            path: None,
            file: path.clone(),
            size_bytes: content.len() as u64,
            hash: blake3::hash(&content),
        };
        let other = seeded.bytes(5_000);
        let same = differ(&old(&path), &mut unnamed(&content, "same"), 5_000).unwrap();
        let whole = differ(&old(&path), &mut unnamed(&other, "other-whole"), 5_000).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(same.unwrap().len() < 80);
        assert_eq!(whole, None);
    }
}
