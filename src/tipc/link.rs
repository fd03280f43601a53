//! The names of nodes and links.

use std::io;
use std::os::fd::AsFd;

use super::socket::Socket;
use super::sys::{self, NODE_ID_BYTES};
use crate::types::Text;

/// A node's identity as text: sixteen characters, or as many bytes in hexadecimal.
pub const IDENTITY_BYTES: usize = 2 * NODE_ID_BYTES;

/// The identity of a node that is or was reachable, as the `tipc` tool shows it. Address
/// 0 stands for this node. Any TIPC socket serves for the query.
///
/// # Errors
/// As `ioctl(2)`: `AddrNotAvailable` if the node was never known, or is this node and
/// has no address yet.
pub fn identity(socket: &Socket, node: u32) -> io::Result<Text<IDENTITY_BYTES>> {
    // The kernel does not accept 0 for this node.
    let node = if node == 0 { socket.address()?.node } else { node };
    sys::node_id(socket.as_fd(), node).map(|id| identity_text(&id))
}

/// The name of the link to a node by one of our bearers, which are numbered from 0:
/// the identities and interfaces of both ends.
///
/// # Errors
/// As `ioctl(2)`: `AddrNotAvailable` where there is no such link.
pub fn name(socket: &Socket, node: u32, bearer: u32) -> io::Result<Text<{ sys::LINK_NAME_BYTES }>> {
    let name = sys::link_name(socket.as_fd(), node, bearer)?;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Ok(Text::truncated(&String::from_utf8_lossy(&name[..end])))
}

/// The bearers of a link's two ends by its name, which is `IDENTITY:eth0-IDENTITY:eth1`: ours
/// and theirs, as `eth0-eth1`. The whole name where it is made otherwise.
#[must_use]
pub fn ends<const N: usize>(name: &str, own: &str, peer: &str) -> Text<N> {
    let ends = || {
        let rest = name.strip_prefix(own)?.strip_prefix(':')?;
        let (ours, theirs) = rest.match_indices('-').find_map(|(at, _)| {
            let (ours, theirs) = rest.split_at_checked(at)?;
            Some((ours, theirs.strip_prefix('-')?.strip_prefix(peer)?.strip_prefix(':')?))
        })?;
        Some(Text::format(format_args!("{ours}-{theirs}")))
    };
    ends().unwrap_or_else(|| Text::truncated(name))
}

/// The identity as text if all its characters are those that the kernel takes as text,
/// else in hexadecimal, without trailing zeros.
fn identity_text(id: &[u8; NODE_ID_BYTES]) -> Text<IDENTITY_BYTES> {
    let end = id.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let id = &id[..end];
    match std::str::from_utf8(id) {
        Ok(text) if text.chars().all(|c| c.is_ascii_alphanumeric() || ".:_-@".contains(c)) => {
            Text::truncated(text)
        }
        _ => {
            let mut digits = [0; IDENTITY_BYTES];
            for (two, byte) in digits.chunks_exact_mut(2).zip(id) {
                let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
                two.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            let digits = std::str::from_utf8(&digits[..2 * end]).unwrap_or_default();
            Text::truncated(digits.trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(bytes: &[u8]) -> [u8; NODE_ID_BYTES] {
        let mut id = [0; NODE_ID_BYTES];
        id[..bytes.len()].copy_from_slice(bytes);
        id
    }

    #[test]
    fn the_ends_of_a_link_are_its_bearers() {
        for (name, ends) in [
            ("n-1:eth0-n-2:eth1", "eth0-eth1"),
            ("n-1:eth-0-n-2:wan", "eth-0-wan"),
            ("n-3:eth0-n-2:eth1", "n-3:eth0-n-2:eth1"),
            ("n-1:eth0-n-2", "n-1:eth0-n-2"),
        ] {
            assert_eq!(super::ends::<32>(name, "n-1", "n-2").raw(), ends);
        }
    }

    #[test]
    fn an_identity_is_text_or_hexadecimal() {
        for (id, text) in [
            (padded(b"node1"), "node1"),
            (padded(b"rack-7:slot_2@a.b"[..16].as_ref()), "rack-7:slot_2@a."),
            (padded(&[]), ""),
            (padded(&[0xde, 0xad, 0, 0x10]), "dead001"),
            (padded(b"no spaces"), "6e6f20737061636573"),
            (padded(b"a\0b"), "610062"),
            ([0xff; NODE_ID_BYTES], "ffffffffffffffffffffffffffffffff"),
        ] {
            assert_eq!(identity_text(&id).raw(), text);
        }
    }
}
