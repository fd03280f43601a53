//! A wire that loses packets, each by itself: a program of XDP drops them as they arrive.

mod sys;

use std::io;
use std::os::fd::OwnedFd;

use crate::netns::Namespace;

/// Has an interface of a namespace lose so many of a thousand packets that it receives, until this is dropped.
///
/// # Errors
/// As `bpf(2)`: the kernel has no XDP, or does not allow it.
pub fn lose(namespace: &Namespace, permille: u32) -> io::Result<OwnedFd> {
    let threshold = (u64::from(permille) << 32) / 1_000;
    namespace.enter(|| sys::drop_at_random(c"net0", threshold as u32))
}
