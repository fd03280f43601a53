//! Entries and digests, which controllers compare and exchange.

use thimble::repo::digest::set_digest;
use thimble::repo::entry::{Entry, EntryMeta, EntryState, Stamp, Status};
use thimble::repo::map::Map;
use thimble::repo::rollout::{Rollout, RolloutState};
use thimble::types::{Hash, PatchId, Text};

use crate::{CONTROLLER, golden, golden_keys, hex, name};

pub fn entry() -> Entry {
    Entry {
        id: name("TZ-0001"),
        hash: Hash([0xa1; 32]),
        size_bytes: 400_000,
        state: EntryState::Applied,
        stamp: Stamp { counter: 41, replica: 0x8877_6655_4433_2211 },
        meta: EntryMeta {
            sw_version: name("24.09"),
            summary: Text::truncated("Time zones of 2026"),
            status: Status::Development,
            reboot_required: false,
            unremovable: true,
            apply_active_release_only: false,
            requires: [name("A-0001"), name("B-0002")].into_iter().collect(),
            nodetypes: [name("worker")].into_iter().collect(),
        },
    }
}

pub fn rollout() -> Rollout {
    Rollout {
        stamp: Stamp { counter: 42, replica: 0x8877_6655_4433_2211 },
        id: 0x0102_0304_0506_0708,
        carrier: CONTROLLER,
        state: RolloutState::Halted,
        parallel: 4,
        stop_after: 300,
        force: true,
    }
}

#[test]
fn an_entry_keeps_its_encoding() {
    let bytes = golden("entry");
    let mut out = [0; 1_024];
    assert_eq!(hex(postcard::to_slice(&entry(), &mut out).unwrap()), hex(&bytes));
    assert_eq!(postcard::take_from_bytes(&bytes), Ok((entry(), &[][..])));
}

#[test]
fn digests_of_sets_do_not_change() {
    let [no_entry, one_entry, no_patch, two_patches] = golden_keys("digests");
    let mut memory = Vec::with_capacity(1);
    let mut map = Map::new(&mut memory);
    assert_eq!(hex(&map.digest().0), hex(&no_entry));
    map.merge(&entry()).unwrap();
    assert_eq!(hex(&map.digest().0), hex(&one_entry));
    map.merge_rollout(&rollout());
    assert_eq!(hex(&map.digest().0), hex(&golden("digest_rollout")));
    assert_eq!(hex(&set_digest([]).0), hex(&no_patch));
    let (a, bc): (PatchId, PatchId) = (name("A"), name("BC"));
    let two = set_digest([(&a, &Hash([1; 32])), (&bc, &Hash([2; 32]))]);
    assert_eq!(hex(&two.0), hex(&two_patches));
}
