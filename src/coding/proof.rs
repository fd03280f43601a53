//! A block of a file proves itself against the hash of the whole file.
//!
//! BLAKE3 is a tree: the hash of a file is made of the hashes of its parts. A *block* is
//! [`BLOCK_BYTES`] of a file, a *section* [`SECTION_BLOCKS`] blocks; the last of each may be shorter. The
//! hashes of the blocks of a section, with those of the subtrees beside the way from the section to the
//! root ([`SectionProof`]), give the hash of the file, or they are not what they claim to be. So a
//! receiver believes one packet of at most [`PROOF_BYTES`], whoever sent it, and then each block by
//! itself. Bao does the same for each chunk of 1 KiB.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use heapless::Vec;

use crate::limits::{FILE_BLOCKS, PACKET_BYTES, PATCH_FILE_BYTES, PROOF_HASHES, SECTION_BLOCKS};
use crate::types::Hash;

/// Bytes of a block: a power of two, and whole chunks of BLAKE3, so that each is a subtree.
pub const BLOCK_BYTES: u64 = 1 << 20;
/// The most bytes of a section's proof: those of its hashes.
pub const PROOF_BYTES: usize = 32 * (SECTION_BLOCKS + PROOF_HASHES);

const _: () = {
    assert!(BLOCK_BYTES.is_power_of_two() && BLOCK_BYTES.is_multiple_of(blake3::CHUNK_LEN as u64));
    assert!(SECTION_BLOCKS.is_power_of_two());
    assert!(PATCH_FILE_BYTES == BLOCK_BYTES * FILE_BLOCKS as u64 && PROOF_BYTES <= PACKET_BYTES);
    // Each level above the sections has one hash beside the way.
    assert!(PATCH_FILE_BYTES <= (BLOCK_BYTES * SECTION_BLOCKS as u64) << PROOF_HASHES);
};

/// The hash of a subtree; BLAKE3's paper calls it a chaining value.
pub type SubtreeHash = [u8; 32];

/// How a file of some size is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    size_bytes: u64,
}

impl Cut {
    /// A file of this size; `None` if it is empty, or larger than a patch file may be.
    #[must_use]
    pub const fn of(size_bytes: u64) -> Option<Self> {
        if size_bytes == 0 || size_bytes > PATCH_FILE_BYTES { None } else { Some(Self { size_bytes }) }
    }

    /// Bytes of the file.
    #[must_use]
    pub const fn size_bytes(self) -> u64 {
        self.size_bytes
    }

    /// Blocks of the file; at least 1.
    #[must_use]
    pub const fn blocks(self) -> u64 {
        self.size_bytes.div_ceil(BLOCK_BYTES)
    }

    /// Bytes of a block; 0 beyond the end of the file.
    #[must_use]
    pub fn block_bytes(self, block: u64) -> u64 {
        self.size_bytes.saturating_sub(block.saturating_mul(BLOCK_BYTES)).min(BLOCK_BYTES)
    }

    /// Sections of the file; at least 1.
    #[must_use]
    pub const fn sections(self) -> u64 {
        self.blocks().div_ceil(SECTION_BLOCKS as u64)
    }

    /// The section of a block.
    #[must_use]
    pub const fn section_of(block: u64) -> u64 {
        block >> SECTION_BLOCKS.trailing_zeros()
    }

    /// The first block of a section.
    #[must_use]
    pub const fn first_block(self, section: u64) -> u64 {
        section.saturating_mul(SECTION_BLOCKS as u64)
    }

    /// Blocks of a section; 0 beyond the end of the file.
    #[must_use]
    pub fn section_blocks(self, section: u64) -> usize {
        let blocks = self.blocks().saturating_sub(self.first_block(section));
        usize::try_from(blocks).map_or(SECTION_BLOCKS, |blocks| blocks.min(SECTION_BLOCKS))
    }
}

/// Hashes a block, whose bytes come in order.
#[derive(Debug)]
pub struct BlockHasher {
    hasher: blake3::Hasher,
    is_whole_file: bool,
}

impl BlockHasher {
    /// Of this block of a file that is cut so.
    #[must_use]
    pub fn new(cut: Cut, block: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(block.saturating_mul(BLOCK_BYTES));
        Self { hasher, is_whole_file: cut.blocks() == 1 }
    }

    /// Takes the next bytes; no more than the block has.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The hash of the block. Of the only block of a file that is the file's.
    #[must_use]
    pub fn finish(&self) -> SubtreeHash {
        if self.is_whole_file { *self.hasher.finalize().as_bytes() } else { self.hasher.finalize_non_root() }
    }
}

/// What proves the blocks of a section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SectionProof {
    /// The hash of each of its blocks.
    pub blocks: Vec<SubtreeHash, SECTION_BLOCKS>,
    /// The hashes beside the way to the root, the lowest first.
    pub beside: Vec<SubtreeHash, PROOF_HASHES>,
}

impl SectionProof {
    /// The proof of a section, of the hashes of all blocks of the file. `None` if they are not as many as
    /// the file has, or it has no such section.
    #[must_use]
    pub fn new(cut: Cut, section: u64, hashes: &[SubtreeHash]) -> Option<Self> {
        let blocks = usize::try_from(cut.blocks()).ok().filter(|blocks| *blocks == hashes.len())?;
        let from = usize::try_from(cut.first_block(section)).ok()?;
        let to = from.checked_add(cut.section_blocks(section))?;
        let mut proof = Self { blocks: Vec::from_slice(hashes.get(from..to)?).ok()?, beside: Vec::new() };
        if proof.blocks.is_empty() {
            return None;
        }
        // From the root down, so the highest comes first.
        let (mut low, mut high) = (0, blocks);
        while high.saturating_sub(low) > SECTION_BLOCKS {
            let middle = low.saturating_add(left_of(high.saturating_sub(low)));
            let beside = if from < middle { middle..high } else { low..middle };
            (low, high) = if from < middle { (low, middle) } else { (middle, high) };
            proof.beside.push(subtree(hashes.get(beside)?)).ok()?;
        }
        proof.beside.reverse();
        Some(proof)
    }

    /// Whether the hashes of the blocks are those of the file with this hash.
    #[must_use]
    pub fn is_of(&self, file: &Hash, cut: Cut, section: u64) -> bool {
        self.blocks.len() == cut.section_blocks(section) && self.root(cut, section) == Some(file.0)
    }

    fn root(&self, cut: Cut, section: u64) -> Option<SubtreeHash> {
        // Whether the way to the section turns left, from the root down.
        let mut turns: Vec<bool, PROOF_HASHES> = Vec::new();
        let (from, mut low, mut high) = (cut.first_block(section), 0, cut.blocks());
        while high.saturating_sub(low) > SECTION_BLOCKS as u64 {
            let length = usize::try_from(high.saturating_sub(low)).ok()?;
            let middle = low.saturating_add(left_of(length) as u64);
            turns.push(from < middle).ok()?;
            (low, high) = if from < middle { (low, middle) } else { (middle, high) };
        }
        if turns.len() != self.beside.len() {
            return None;
        }
        let Some((highest, lower)) = self.beside.split_last() else {
            // One section is the whole file.
            return match self.blocks.as_slice() {
                [] => None,
                [only] => Some(*only),
                blocks => {
                    let (left, right) = blocks.split_at_checked(left_of(blocks.len()))?;
                    Some(*merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes())
                }
            };
        };
        let mut hash = subtree(&self.blocks);
        for (beside, is_left) in lower.iter().zip(turns.iter().skip(1).rev()) {
            hash = match is_left {
                true => merge_subtrees_non_root(&hash, beside, Mode::Hash),
                false => merge_subtrees_non_root(beside, &hash, Mode::Hash),
            };
        }
        let root = match turns.first()? {
            true => merge_subtrees_root(&hash, highest, Mode::Hash),
            false => merge_subtrees_root(highest, &hash, Mode::Hash),
        };
        Some(*root.as_bytes())
    }
}

/// Of `blocks` blocks, two or more, those in the left subtree: the largest power of two that leaves some.
fn left_of(blocks: usize) -> usize {
    blocks.div_ceil(2).next_power_of_two()
}

/// The hash of a subtree, not the root, of its blocks; there is one at least.
fn subtree(blocks: &[SubtreeHash]) -> SubtreeHash {
    match blocks {
        [] => [0; 32],
        [only] => *only,
        _ => match blocks.split_at_checked(left_of(blocks.len())) {
            Some((left, right)) => merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash),
            None => [0; 32],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION_BYTES: u64 = BLOCK_BYTES * SECTION_BLOCKS as u64;

    /// A file without a byte twice in a row, and its hash.
    fn file(size_bytes: u64) -> (std::vec::Vec<u8>, Hash) {
        let mut content = vec![0; usize::try_from(size_bytes).unwrap()];
        blake3::Hasher::new().update(&size_bytes.to_le_bytes()).finalize_xof().fill(&mut content);
        let hash = Hash(*blake3::hash(&content).as_bytes());
        (content, hash)
    }

    fn hashes(cut: Cut, content: &[u8]) -> std::vec::Vec<SubtreeHash> {
        let blocks = content.chunks(BLOCK_BYTES as usize).enumerate();
        let hash = |(block, bytes): (usize, &[u8])| {
            let mut hasher = BlockHasher::new(cut, block as u64);
            // In parts, as packets come.
            bytes.chunks(40_000).for_each(|part| hasher.update(part));
            assert_eq!(bytes.len() as u64, cut.block_bytes(block as u64));
            hasher.finish()
        };
        blocks.map(hash).collect()
    }

    #[test]
    fn each_section_of_files_of_all_shapes_proves_itself() {
        for size_bytes in [
            1,
            1_024,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            3 * BLOCK_BYTES,
            SECTION_BYTES,
            SECTION_BYTES + 1,
            2 * SECTION_BYTES + 5 * BLOCK_BYTES + 17,
            5 * SECTION_BYTES,
        ] {
            let (content, hash) = file(size_bytes);
            let cut = Cut::of(size_bytes).unwrap();
            let hashes = hashes(cut, &content);
            assert_eq!(hashes.len() as u64, cut.blocks());
            for section in 0..cut.sections() {
                let proof = SectionProof::new(cut, section, &hashes).unwrap();
                assert!(proof.is_of(&hash, cut, section), "section {section} of {size_bytes} bytes");
                // As another section it proves nothing.
                for other in (0..=cut.sections()).filter(|other| *other != section) {
                    assert!(!proof.is_of(&hash, cut, other), "{section} as {other} of {size_bytes} bytes");
                }
            }
            assert_eq!(SectionProof::new(cut, cut.sections(), &hashes), None);
            assert_eq!(SectionProof::new(cut, 0, &hashes[1..]), None);
        }
    }

    #[test]
    fn a_proof_that_was_changed_anywhere_proves_nothing() {
        let size_bytes = 2 * SECTION_BYTES + 3 * BLOCK_BYTES;
        let (content, hash) = file(size_bytes);
        let cut = Cut::of(size_bytes).unwrap();
        let hashes = hashes(cut, &content);
        let of = |proof: &SectionProof| proof.is_of(&hash, cut, 1);
        let proof = SectionProof::new(cut, 1, &hashes).unwrap();
        assert!(of(&proof));
        for block in 0..SECTION_BLOCKS {
            let mut other = proof.clone();
            other.blocks[block][block % 32] ^= 1;
            assert!(!of(&other), "block {block}");
        }
        for beside in 0..proof.beside.len() {
            let mut other = proof.clone();
            other.beside[beside][0] ^= 1;
            assert!(!of(&other), "beside {beside}");
        }
        let mut short = proof.clone();
        short.blocks.pop();
        assert!(!of(&short));
        let mut lower = proof.clone();
        lower.beside.pop();
        assert!(!of(&lower));
        let mut swapped = proof.clone();
        swapped.blocks.swap(3, 4);
        assert!(!of(&swapped));
        assert!(!proof.is_of(&Hash([7; 32]), cut, 1));
    }

    #[test]
    fn a_file_that_no_patch_can_be_is_not_cut() {
        assert_eq!(Cut::of(0), None);
        assert_eq!(Cut::of(PATCH_FILE_BYTES + 1), None);
        let largest = Cut::of(PATCH_FILE_BYTES).unwrap();
        assert_eq!(largest.sections() * SECTION_BLOCKS as u64, largest.blocks());
        assert_eq!(largest.block_bytes(largest.blocks()), 0);
        assert_eq!(largest.section_blocks(largest.sections()), 0);
    }
}
