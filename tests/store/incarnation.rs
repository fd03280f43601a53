//! The number of a node's start, which is never used twice.

use std::fs;

use thimble::store::StoreError;
use thimble::store::incarnation::next;

use crate::support::Scratch;

#[test]
fn it_rises_at_every_start_whatever_the_clock_does() {
    let scratch = Scratch::new("incarnation");
    let state = scratch.join("state/deeper");
    let starts = [5_000, 5_000, 4_000, 0, 9_000, u64::MAX - 1, 0];
    let numbers = starts.map(|now| next(&state, now).unwrap());
    assert_eq!(numbers, [5_000, 5_001, 5_002, 5_003, 9_000, u64::MAX - 1, u64::MAX]);
    assert!(next(&state, 0).unwrap_err().to_string().contains("no number is left above it"));
}

#[test]
fn a_damaged_or_later_file_is_never_replaced() {
    let scratch = Scratch::new("incarnation-damaged");
    next(&scratch, 7).unwrap();
    let path = scratch.join("incarnation");
    let good = fs::read(&path).unwrap();
    let mut bad = vec![Vec::new(), b"8".to_vec(), good[..good.len() - 1].to_vec(), vec![0; good.len()]];
    for at in 0..good.len() {
        bad.push(good.clone());
        bad.last_mut().unwrap()[at] ^= 0x40;
    }
    for bytes in bad {
        fs::write(&path, &bytes).unwrap();
        let error = next(&scratch, 100).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. } | StoreError::Newer { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::write(&path, good).unwrap();
    assert_eq!(next(&scratch, 0).unwrap(), 8);
}
