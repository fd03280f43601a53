//! What the kernel reports of interfaces and addresses, over rtnetlink.
//!
//! A report only says that it is time to look: what is so is asked of the kernel then, so a
//! report that is lost, doubled or not understood does no harm. One thing is read of it: which
//! interface was removed, since one that is made anew at once may have the same index.

mod sys;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::config::interface::Interface;

/// Reports read in one turn.
const REPORTS: usize = 32;
/// What is read of a report: the headers of a message about an interface.
const HEAD_BYTES: usize = 32;

/// A socket on which the kernel reports changes.
pub struct Reports(OwnedFd);

/// What was read of the reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// Something has changed.
    pub is_news: bool,
    /// The links whose interface was removed: a bit for each.
    pub removed: u8,
    /// Reports were lost, and with them perhaps that.
    pub is_lossy: bool,
    /// There may be more.
    pub has_more: bool,
}

impl Reports {
    /// Subscribes to interfaces and addresses.
    ///
    /// # Errors
    /// As `socket(2)` and `bind(2)`.
    pub fn open() -> io::Result<Self> {
        sys::open().map(Self)
    }

    /// The socket, to poll.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Reads the reports that have come, a bounded number, without waiting. `links` are the
    /// interfaces in use.
    pub fn take(&self, links: &[Interface]) -> Reported {
        let mut reported = Reported { has_more: true, ..Reported::default() };
        let mut head = [0; HEAD_BYTES];
        for _ in 0..REPORTS {
            match sys::next(self.0.as_fd(), &mut head) {
                Ok(Some(len)) => {
                    reported.is_news = true;
                    let removed = removed_interface(head.get(..len).unwrap_or(&head));
                    for (link, _) in links.iter().enumerate().filter(|(_, of)| Some(of.index) == removed) {
                        reported.removed |= 1 << link;
                    }
                }
                // Not of the kernel's.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    reported.has_more = false;
                    break;
                }
                // ENOBUFS: the kernel had to drop some. Whatever it was, look.
                Err(_) => (reported.is_news, reported.is_lossy) = (true, true),
            }
        }
        reported
    }
}

/// The index of the interface that a message says was removed.
fn removed_interface(head: &[u8]) -> Option<u32> {
    // <linux/netlink.h>: length, type, flags, sequence, port. <linux/rtnetlink.h>: family,
    // padding, device type, index, flags, mask. A bridge's port that leaves it is a message of
    // the bridge's family.
    let kind = u16::from_ne_bytes(*head.get(4..)?.first_chunk()?);
    let family = *head.get(16)?;
    let index = u32::from_ne_bytes(*head.get(20..)?.first_chunk()?);
    (kind == libc::RTM_DELLINK && family == libc::AF_UNSPEC as u8).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a message.
    fn head(kind: u16, family: u8, index: u32) -> [u8; HEAD_BYTES] {
        let mut head = [0xA5; HEAD_BYTES];
        head[4..6].copy_from_slice(&kind.to_ne_bytes());
        head[16] = family;
        head[20..24].copy_from_slice(&index.to_ne_bytes());
        head
    }

    #[test]
    fn only_a_removed_interface_is_read_of_a_report() {
        assert_eq!(removed_interface(&head(libc::RTM_DELLINK, 0, 7)), Some(7));
        assert_eq!(removed_interface(&head(libc::RTM_NEWLINK, 0, 7)), None);
        let from_a_bridge = head(libc::RTM_DELLINK, libc::AF_BRIDGE as u8, 7);
        assert_eq!(removed_interface(&from_a_bridge), None);
        for len in 0..24 {
            assert_eq!(removed_interface(&head(libc::RTM_DELLINK, 0, 7)[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn reports_are_read_without_waiting_and_lost_ones_are_no_end() {
        let reports = Reports::open().unwrap();
        let taken = (0..1_000).map(|_| reports.take(&[])).find(|reported| !reported.has_more);
        assert!(taken.is_some());
    }
}
