//! Valid values of thimble's types, chosen by the fuzzer's bytes. Lengths are
//! drawn over their whole range, so that the longest of everything is reached.

use heapless::{LenType, Vec};
use libfuzzer_sys::arbitrary::{Error, Result, Unstructured};
use thimble::types::{Digest, Hash, Name, NodeId, Text};

pub fn node(input: &mut Unstructured<'_>) -> Result<NodeId> {
    input.arbitrary().map(NodeId)
}

pub fn hash(input: &mut Unstructured<'_>) -> Result<Hash> {
    input.arbitrary().map(Hash)
}

pub fn digest(input: &mut Unstructured<'_>) -> Result<Digest> {
    input.arbitrary().map(Digest)
}

/// A name of 0 to `N` bytes; none stands for "not known".
pub fn name<const N: usize>(input: &mut Unstructured<'_>) -> Result<Name<N>> {
    const LETTERS: &[u8] = b"aZ09_+~:.-";
    let len = input.int_in_range(0..=N)?;
    let mut letters = String::new();
    for at in 0..len {
        let allowed = if at == 0 { &LETTERS[..8] } else { LETTERS };
        letters.push(char::from(*input.choose(allowed)?));
    }
    if letters.is_empty() {
        Ok(Name::default())
    } else {
        Name::new(&letters).map_err(|_| Error::IncorrectFormat)
    }
}

/// A line of 0 to `N` bytes, of characters of one to four bytes.
pub fn text<const N: usize>(input: &mut Unstructured<'_>) -> Result<Text<N>> {
    let len = input.int_in_range(0..=N)?;
    let mut line = String::new();
    while line.len() < len {
        line.push(*input.choose(&[' ', 'x', '"', 'é', '→', '😀'])?);
    }
    Ok(Text::truncated(&line))
}

/// A list of 0 to `N` things.
pub fn list<T, L: LenType, const N: usize>(
    input: &mut Unstructured<'_>,
    mut make: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T, N, L>> {
    let len = input.int_in_range(0..=N)?;
    let mut things = Vec::new();
    for _ in 0..len {
        things.push(make(input)?).map_err(|_| Error::IncorrectFormat)?;
    }
    Ok(things)
}
