//! The frozen bytes of version 1.
//!
//! If a test here fails, the code is wrong, not the bytes: deployed nodes use them. The
//! files in `v1` are never edited. They were
//! made by a program that shares no code with thimble, from the tables in
//! docs/architecture.md, "A datagram".
//!
//! A file holds hexadecimal bytes; what follows a `#` on a line says what they
//! are. Each test builds a value, and encoding it gives exactly the file's
//! bytes; decoding those gives exactly the value.

mod datagrams;
mod files;
mod numbers;
mod repository;
mod sessions;

use thimble::types::{ClusterId, Name, NodeId};
use thimble::wire::keys::Key;

const SECRET: Key = Key({
    let mut secret = [0; 32];
    let mut at = 0;
    while at < 32 {
        secret[at] = at as u8;
        at += 1;
    }
    secret
});
const CLUSTER: ClusterId = ClusterId(0x1122_3344_5566_7788);
const CONTROLLER: NodeId = NodeId(0x0102_0304_0506_0708);
const AGENT: NodeId = NodeId(0xa1a2_a3a4_a5a6_a7a8);

/// The bytes of a file in `v1`.
fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/v1/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let digits: Vec<u8> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::bytes)
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    assert!(digits.len().is_multiple_of(2), "{path}: half a byte");
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
    digits.chunks(2).map(|pair| byte(pair).unwrap_or_else(|error| panic!("{path}: {error}"))).collect()
}

/// The keys, nonces or digests of 32 bytes in a file.
fn golden_keys<const N: usize>(name: &str) -> [[u8; 32]; N] {
    let bytes = golden(name);
    assert_eq!(bytes.len(), 32 * N, "{name}");
    std::array::from_fn(|at| bytes[32 * at..][..32].try_into().unwrap())
}

/// A name.
fn name<const N: usize>(text: &str) -> Name<N> {
    Name::new(text).unwrap()
}

/// Bytes in the format of the files, for a readable difference.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
