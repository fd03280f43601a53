//! The frames of the answers that the loop itself gives on a session: pages and maps.

use crate::fsm::node::Node;
use crate::limits;
use crate::repo::slots::Slot;
use crate::types::{Hostname, Reason};
use crate::wire::frame::Frame;

/// The reason why a map is not sent.
const MAP_INCOMPLETE: &str = "its repository is still being read, or merged with one that was purged";

/// An agent's answer to a detailed query: the page that starts at this patch, and where
/// the next starts.
pub fn page_frame(node: &Node<'_>, from: usize) -> Option<(Frame, usize)> {
    let page = node.agent.as_ref()?.detail_page(from)?;
    let next = from + page.installed.len().max(1);
    Some((Frame::QueryDetailedResp(page), next))
}

/// One frame of a controller's map, and the number of the next: the head has number 0,
/// the entry in slot N has N + 1, the rollout follows the last entry. Entries do not
/// move between slots, so a change during the answer hides no entry that was there
/// before. Without a `floor` to send the map is incomplete, and is refused.
#[inline(never)]
pub fn map_frame(
    node: &Node<'_>,
    floor: Option<u64>,
    hostname: &Hostname,
    from: usize,
) -> Option<(Frame, usize)> {
    let map = node.controller.as_ref()?.map();
    let Some(index) = from.checked_sub(1) else {
        return Some(match floor {
            Some(floor) => (Frame::MapHead { hostname: hostname.clone(), floor }, 1),
            None => (Frame::Refused { reason: Reason::truncated(MAP_INCOMPLETE) }, limits::ENTRIES + 2),
        });
    };
    let mut slots = (index..limits::ENTRIES).filter_map(Slot::new);
    if let Some((index, entry)) = slots.find_map(|slot| Some((slot.index(), map.entry(slot)?))) {
        return Some((Frame::MapEntry(entry.clone()), index + 2));
    }
    let rollout = map.rollout().filter(|_| index <= limits::ENTRIES)?;
    Some((Frame::MapRollout(*rollout), limits::ENTRIES + 2))
}
