//! Digests of sets: of the whole map, which controllers compare, and of the patches of
//! a host, which an agent reports and an install request names.
//!
//! Each kind is BLAKE3 with a key derived from its own context string, so digests of
//! the two kinds never match. Both hash their set sorted by id, so equal sets have equal
//! digests.

use blake3::Hasher;
use postcard::ser_flavors::Flavor;

use crate::repo::entry::Entry;
use crate::repo::rollout::Rollout;
use crate::types::{Digest, Hash, PatchId};

const MAP_CONTEXT: &str = "thimble v1 digest of a repository map";
const SET_CONTEXT: &str = "thimble v1 digest of a host's patches";

/// The digest of a set of patches, **sorted by id**: the effective set at a controller,
/// the installed set at an agent. For each patch it covers the length of the id (one
/// byte), the id and the hash. The digest of the empty set is the hash of no bytes with
/// the same key.
#[must_use]
pub fn set_digest<'a>(sorted: impl IntoIterator<Item = (&'a PatchId, &'a Hash)>) -> Digest {
    let mut hasher = SetHasher::default();
    for (id, hash) in sorted {
        hasher.add(id, hash);
    }
    hasher.digest()
}

/// Computes a [`set_digest`] of patches added one by one, sorted by id.
#[derive(Clone, Debug)]
pub struct SetHasher(Hasher);

impl Default for SetHasher {
    fn default() -> Self {
        Self(Hasher::new_derive_key(SET_CONTEXT))
    }
}

impl SetHasher {
    /// Adds the next patch.
    pub fn add(&mut self, id: &PatchId, hash: &Hash) {
        let id = id.as_str().as_bytes();
        // An id has at most 64 bytes; see `limits::PATCH_ID_BYTES`.
        self.0.update(&[u8::try_from(id.len()).unwrap_or(u8::MAX)]);
        self.0.update(id);
        self.0.update(&hash.0);
    }

    /// The digest of the patches so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

/// The byte in front of a rollout in a map's digest.
const ROLLOUT: u8 = 0x7f;
// Below 128, postcard encodes an id's length in one byte, and no id is this long.
const _: () = assert!(crate::limits::PATCH_ID_BYTES < ROLLOUT as usize);

/// The digest of a map's entries, sorted by id. It covers the postcard bytes of each
/// entry, which are self-delimiting. The bytes of a rollout follow after [`ROLLOUT`], a
/// byte that no entry begins with, because an entry begins with the length of its id.
pub(super) fn map_digest<'a>(sorted: impl Iterator<Item = &'a Entry>, rollout: Option<&Rollout>) -> Digest {
    let mut hasher = Hasher::new_derive_key(MAP_CONTEXT);
    for entry in sorted {
        // This cannot fail: a hasher has no size limit, and postcard can encode
        // every field of an entry.
        let _ = postcard::serialize_with_flavor(entry, Hashing(&mut hasher));
    }
    if let Some(rollout) = rollout {
        hasher.update(&[ROLLOUT]);
        let _ = postcard::serialize_with_flavor(rollout, Hashing(&mut hasher));
    }
    Digest(*hasher.finalize().as_bytes())
}

/// Hashes postcard's output without a buffer.
struct Hashing<'a>(&'a mut Hasher);

impl Flavor for Hashing<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.update(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.try_extend(&[data])
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixture::{entry, id};

    #[test]
    fn the_digest_of_the_empty_set_is_frozen_and_not_that_of_an_empty_map() {
        // If this fails the code is wrong, not the test: agents and controllers
        // of different versions compare these.
        let empty = set_digest([]);
        assert_eq!(std::format!("{empty}"), EMPTY_SET);
        assert_ne!(empty, map_digest([].into_iter(), None));
    }

    #[test]
    fn the_digest_of_a_set_is_frozen() {
        let digest = set_digest([(&id("A"), &Hash([1; 32])), (&id("BC"), &Hash([2; 32]))]);
        assert_eq!(std::format!("{digest}"), TWO_PATCHES);
    }

    /// The hash of no bytes with the key of [`SET_CONTEXT`].
    const EMPTY_SET: &str = "54a78d0675bd2d2d2e30b16e8cbefc046441a8bcfbafa68ad9b5af237ca52e28";
    /// The hash of `01 "A" 01*32 02 "BC" 02*32` with the same key.
    const TWO_PATCHES: &str = "11b4d363bf50b17b0958a0959e42704ff076ede999c320a8b4f386535ee656ed";

    #[test]
    fn a_set_digest_depends_on_where_an_id_ends() {
        let (a, ab) = (id("A"), id("AB"));
        let mut shifted = [0; 32];
        shifted[0] = b'B';
        assert_ne!(set_digest([(&a, &Hash(shifted))]), set_digest([(&ab, &Hash([0; 32]))]));
        assert_ne!(set_digest([(&a, &Hash([0; 32]))]), set_digest([(&a, &Hash(shifted))]));
    }

    #[test]
    fn a_map_digest_covers_the_postcard_bytes() {
        let entries = [entry("A"), entry("B").requires(&["A"])];
        let mut bytes = std::vec::Vec::new();
        for entry in &entries {
            let mut buffer = [0; 2048];
            bytes.extend_from_slice(postcard::to_slice(entry, &mut buffer).unwrap());
        }
        let expected = blake3::derive_key(MAP_CONTEXT, &bytes);
        assert_eq!(map_digest(entries.iter(), None).0, expected);
    }
}
