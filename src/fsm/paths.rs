//! By which links each node is heard, and at which address by each.
//!
//! A node with several links sends each message to a group once by each link, and each message to
//! one node to every address that it knows of it: so what one cut takes away still arrives by
//! another link, at once. The receiver takes the first and knows the others as copies: their number
//! was taken by another link, and not by this one yet. Where the codec has a window for the sender,
//! it refuses them (`Replay`). Messages with the group's key have none; of these the last number is
//! kept here, so that a copy is not answered again.
//!
//! A copy is authentic, so it tells an address too. A message with the group's key may be any
//! agent's: it tells an address where no other message did. An address is used as long as its node
//! is heard there.
//!
//! A stream session goes by one link: to the address whose last failed session is longest ago.
//!
//! A node with one link keeps nothing here.

use heapless::Vec;

use super::actions::Peer;
use crate::limits;
use crate::table::{Keyed, Table};
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::header::Header;

/// An address at which a node was not heard for this many hello intervals is not used.
const HEARD_WITHIN: u64 = 4;

/// Where a node is heard by one link.
#[derive(Clone, Copy, Debug)]
struct Path {
    peer: Peer,
    /// 0 if it is not heard.
    heard: Instant,
    /// When a session over it failed; 0 if none has.
    failed: Instant,
    /// No agent can have made the message that told it.
    is_proven: bool,
}

impl Path {
    /// The node is not heard.
    const NONE: Self = Self {
        peer: Peer::Tipc { node: 0, port: 0 },
        heard: Instant::from_millis(0),
        failed: Instant::from_millis(0),
        is_proven: false,
    };

    fn is_recent(&self, now: Instant, within: Duration) -> bool {
        self.heard != Self::NONE.heard && now.since(self.heard) < within
    }
}

/// One node: 296 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    node: NodeId,
    incarnation: u64,
    /// The highest number that was taken.
    highest: u64,
    /// By each link: bit `n`, number `highest - n` came by it.
    seen: [u64; limits::LINKS],
    /// The last message with the group's key: its number, mixed with its incarnation.
    group: u64,
    /// The links by which it came: a bit for each.
    group_links: u8,
    /// The link of the last session.
    tried: u8,
    paths: [Path; limits::LINKS],
}

const _: () = assert!(size_of::<Reach>() <= 296);

impl Keyed for Reach {
    fn node(&self) -> NodeId {
        self.node
    }
}

impl Reach {
    /// A node that is not heard, to fill a table's slots with.
    #[must_use]
    pub const fn of(node: NodeId) -> Self {
        Self {
            node,
            incarnation: 0,
            highest: 0,
            seen: [0; limits::LINKS],
            group: 0,
            group_links: 0,
            tried: 0,
            paths: [Path::NONE; limits::LINKS],
        }
    }

    /// Notes a number that is taken.
    fn mark(&mut self, header: &Header, link: usize) {
        if header.incarnation != self.incarnation {
            (self.incarnation, self.highest) = (header.incarnation, header.sequence);
            self.seen = [0; limits::LINKS];
        }
        if let Some(ahead) = header.sequence.checked_sub(self.highest) {
            let by = u32::try_from(ahead).unwrap_or(u32::MAX);
            self.seen.iter_mut().for_each(|seen| *seen = seen.checked_shl(by).unwrap_or(0));
            self.highest = header.sequence;
        }
        if let (Some(seen), Some(bit)) = (self.seen.get_mut(link), bit_of(self.highest, header.sequence)) {
            *seen |= bit;
        }
    }

    /// Whether a number that was taken comes by this link for the first time.
    fn is_copy(&mut self, header: &Header, link: usize) -> bool {
        let bit = bit_of(self.highest, header.sequence).filter(|_| header.incarnation == self.incarnation);
        let (Some(bit), all) = (bit, self.seen.iter().fold(0, |all, seen| all | seen)) else { return false };
        let Some(seen) = self.seen.get_mut(link).filter(|seen| all & bit != 0 && **seen & bit == 0) else {
            return false;
        };
        *seen |= bit;
        true
    }

    /// The same of a message with the group's key.
    fn is_group_copy(&mut self, header: &Header, link: usize) -> bool {
        let (message, bit) = (header.incarnation.rotate_left(32) ^ header.sequence, bit_of_link(link));
        if self.group != message {
            (self.group, self.group_links) = (message, bit);
            return false;
        }
        let is_first = self.group_links & bit == 0;
        self.group_links |= bit;
        is_first
    }

    /// The node is heard at this address by a link.
    fn learn(&mut self, now: Instant, link: usize, peer: Peer, is_proven: bool, within: Duration) {
        let Some(path) = self.paths.get_mut(link) else { return };
        if path.peer == peer {
            (path.heard, path.is_proven) = (now, path.is_proven || is_proven);
        } else if is_proven || !path.is_proven || !path.is_recent(now, within) {
            *path = Path { peer, heard: now, is_proven, ..Path::NONE };
        }
    }
}

/// The bit of a number in a window; `None` if it is not in it.
fn bit_of(highest: u64, sequence: u64) -> Option<u64> {
    1u64.checked_shl(u32::try_from(highest.checked_sub(sequence)?).ok()?)
}

/// The bit of a link in a set of links.
fn bit_of_link(link: usize) -> u8 {
    u32::try_from(link).ok().and_then(|link| 1u8.checked_shl(link)).unwrap_or(0)
}

/// All nodes that are heard.
#[derive(Debug)]
pub struct Paths<'a> {
    /// This node, which hears itself by loopback.
    own: NodeId,
    table: Table<'a, Reach>,
    within: Duration,
}

impl<'a> Paths<'a> {
    /// No node is heard. A table without room is that of a node with one link.
    #[must_use]
    pub fn new(own: NodeId, table: Table<'a, Reach>, hello_interval: Duration) -> Self {
        Self { own, table, within: hello_interval.times(HEARD_WITHIN) }
    }

    /// Changes the interval of hellos.
    pub fn set_hello_interval(&mut self, hello_interval: Duration) {
        self.within = hello_interval.times(HEARD_WITHIN);
    }

    /// Whether this node has several links.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.table.capacity() > 0
    }

    /// Notes a datagram that the codec has accepted. Whether it is the copy, by another link, of a
    /// message with the group's key that was handled.
    pub fn on_received(
        &mut self,
        now: Instant,
        header: &Header,
        link: usize,
        peer: Peer,
        is_forgeable: bool,
    ) -> bool {
        let within = self.within;
        if self.table.find(header.sender).is_none() {
            self.make_room(now, is_forgeable);
            // Where there is no room its copies are taken for replays.
            let _ = self.table.insert(Reach::of(header.sender));
        }
        let Some(reach) = self.table.get_mut(header.sender) else { return false };
        reach.learn(now, link, peer, !is_forgeable, within);
        if is_forgeable {
            return reach.is_group_copy(header, link);
        }
        reach.mark(header, link);
        false
    }

    /// Whether a datagram that the codec has refused as seen before is the copy of it by another
    /// link; if so, it tells where its sender is.
    pub fn on_replay(&mut self, now: Instant, header: &Header, link: usize, peer: Peer) -> bool {
        let within = self.within;
        let Some(reach) = self.table.get_mut(header.sender) else { return false };
        let is_copy = reach.is_copy(header, link);
        if is_copy {
            reach.learn(now, link, peer, true, within);
        }
        is_copy
    }

    /// Forgets a node that is not heard any more, if there is no room for another; for one that
    /// cannot be forged also one that only such messages told of.
    fn make_room(&mut self, now: Instant, is_forgeable: bool) {
        if self.table.len() < self.table.capacity() {
            return;
        }
        let within = self.within;
        let is_dead = |reach: &Reach| {
            reach.paths.iter().all(|path| !path.is_recent(now, within) || !(is_forgeable || path.is_proven))
        };
        let dead = self.table.iter().position(is_dead);
        if let Some(dead) = dead {
            self.table.remove(dead);
        }
    }

    /// The addresses of a node by these links: a bit for each.
    #[must_use]
    pub fn by_links(&self, now: Instant, node: NodeId, links: u8) -> Vec<Peer, { limits::LINKS }, u8> {
        let mut peers = Vec::new();
        for (link, path) in self.table.get(node).into_iter().flat_map(|reach| reach.paths.iter().enumerate())
        {
            if links & bit_of_link(link) != 0 && path.is_recent(now, self.within) {
                // There is room for each.
                let _ = peers.push(path.peer);
            }
        }
        peers
    }

    /// The addresses of a node besides this one.
    #[must_use]
    pub fn others(&self, now: Instant, node: NodeId, peer: Peer) -> Vec<Peer, { limits::LINKS }, u8> {
        let mut peers = self.by_links(now, node, u8::MAX);
        peers.retain(|other| *other != peer);
        peers
    }

    /// Where a node that was last heard at `peer` was heard last by one of these links, for a look at
    /// it. Pings are heard there as well.
    #[must_use]
    pub fn latest(&self, now: Instant, node: NodeId, peer: Peer, links: u8) -> Peer {
        let paths = self.table.get(node).into_iter().flat_map(|reach| reach.paths.iter().enumerate());
        let fit =
            paths.filter(|(link, path)| links & bit_of_link(*link) != 0 && path.is_recent(now, self.within));
        fit.max_by_key(|(_, path)| path.heard).map_or(peer, |(_, path)| path.peer)
    }

    /// The links by which a node is heard: a bit for each.
    #[must_use]
    pub fn links_of(&self, now: Instant, node: NodeId) -> u8 {
        let hears = |link: &usize| !self.by_links(now, node, bit_of_link(*link)).is_empty();
        (0..limits::LINKS).filter(hears).fold(0, |links, link| links | bit_of_link(link))
    }

    /// The address for a session to a node that was last heard at `peer`: by one of the links that
    /// are `up` (a bit for each).
    pub fn choose(&mut self, now: Instant, node: NodeId, peer: Peer, up: u8) -> Peer {
        let Some(reach) = self.table.get_mut(node) else { return peer };
        let mut best: Option<(usize, Path)> = None;
        for (link, path) in reach.paths.iter().enumerate() {
            let is_fit = up & bit_of_link(link) != 0 && path.is_recent(now, self.within);
            let rank = |path: &Path| (path.failed, path.peer != peer);
            if is_fit && best.is_none_or(|(_, best)| rank(path) < rank(&best)) {
                best = Some((link, *path));
            }
        }
        let Some((link, path)) = best else { return peer };
        reach.tried = u8::try_from(link).unwrap_or(0);
        path.peer
    }

    /// The last session to a node has failed.
    pub fn on_session_failed(&mut self, now: Instant, node: NodeId) {
        let Some(reach) = self.table.get_mut(node) else { return };
        if let Some(path) = reach.paths.get_mut(usize::from(reach.tried)) {
            path.failed = now;
        }
    }

    /// Whether a node was heard at this address.
    #[must_use]
    pub fn knows(&self, node: NodeId, peer: Peer) -> bool {
        self.table.get(node).is_some_and(|reach| reach.paths.iter().any(|path| path.peer == peer))
    }

    /// How many other nodes are heard by a link; `None` where it is the only one.
    #[must_use]
    pub fn heard_by(&self, now: Instant, link: usize) -> Option<u32> {
        let hears = |reach: &&Reach| {
            let path = reach.paths.get(link);
            reach.node != self.own && path.is_some_and(|path| path.is_recent(now, self.within))
        };
        self.is_used().then(|| u32::try_from(self.table.iter().filter(hears).count()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::index_len;
    use crate::types::ClusterId;

    /// A path is used for 40 s.
    const INTERVAL: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1 + seconds * 1_000)
    }

    fn peer(net: u8, last: u8) -> Peer {
        Peer::Ip(([10, net, 0, last], 7489).into())
    }

    fn header(sender: u64, sequence: u64) -> Header {
        let sender = NodeId(sender);
        let (cluster, incarnation) = (ClusterId(1), 5);
        Header {
            msgtype: 6,
            key_slot: 0,
            minor: 0,
            cluster,
            sender,
            incarnation,
            sequence,
            body_len_bytes: 0,
        }
    }

    fn with_paths(capacity: usize, test: impl FnOnce(&mut Paths<'_>)) {
        let (mut slots, mut index) =
            (std::vec::Vec::with_capacity(capacity), std::vec![0; index_len(capacity)]);
        test(&mut Paths::new(NodeId(99), Table::new(&mut slots, &mut index), INTERVAL));
    }

    fn others(paths: &Paths<'_>, now: u64, besides: Peer) -> std::vec::Vec<Peer> {
        paths.others(at(now), NodeId(1), besides).into_iter().collect()
    }

    #[test]
    fn each_number_has_one_copy_by_each_other_link() {
        with_paths(4, |paths| {
            for number in [5, 3, 70, 69] {
                assert!(!paths.on_received(at(0), &header(1, number), 0, peer(0, 1), false));
            }
            for number in [5, 70, 69] {
                let header = header(1, number);
                assert!(!paths.on_replay(at(0), &header, 0, peer(0, 1)), "the same link");
                assert_eq!(paths.on_replay(at(0), &header, 1, peer(1, 1)), number != 5, "{number}");
                assert!(!paths.on_replay(at(0), &header, 1, peer(1, 1)), "twice");
                assert_eq!(paths.on_replay(at(0), &header, 2, peer(2, 1)), number != 5);
            }
            assert!(!paths.on_replay(at(0), &header(1, 68), 1, peer(1, 1)), "it was not taken");
            assert!(!paths.on_replay(at(0), &header(1, 71), 1, peer(1, 1)));
            assert!(!paths.on_replay(at(0), &header(2, 70), 1, peer(1, 1)), "another node");
            let before = Header { incarnation: 4, ..header(1, 70) };
            assert!(!paths.on_replay(at(0), &before, 3, peer(3, 1)), "an earlier start");
            let after = Header { incarnation: 6, ..header(1, 1) };
            assert!(!paths.on_received(at(0), &after, 1, peer(1, 1), false));
            assert!(paths.on_replay(at(0), &after, 0, peer(0, 1)));
        });
    }

    #[test]
    fn a_message_with_the_groups_key_is_handled_once_and_by_each_link_again() {
        with_paths(4, |paths| {
            let mut comes =
                |number, link| paths.on_received(at(0), &header(1, number), link, peer(0, 1), true);
            assert_eq!([comes(7, 0), comes(7, 1), comes(7, 0), comes(7, 1)], [false, true, false, false]);
            assert_eq!([comes(8, 1), comes(8, 0)], [false, true]);
            assert!(!comes(3, 0), "an agent that counts ahead shuts nobody out");
        });
    }

    #[test]
    fn a_node_is_sent_to_at_each_address_where_it_is_heard() {
        with_paths(4, |paths| {
            paths.on_received(at(0), &header(1, 1), 0, peer(0, 1), false);
            assert_eq!(others(paths, 0, peer(0, 1)), []);
            paths.on_replay(at(0), &header(1, 1), 1, peer(1, 1));
            assert_eq!(others(paths, 0, peer(0, 1)), [peer(1, 1)]);
            assert_eq!(others(paths, 0, peer(1, 1)), [peer(0, 1)]);
            assert!(paths.knows(NodeId(1), peer(1, 1)) && !paths.knows(NodeId(1), peer(1, 2)));
            assert_eq!((paths.heard_by(at(0), 1), paths.heard_by(at(0), 2)), (Some(1), Some(0)));
            assert_eq!((paths.links_of(at(0), NodeId(1)), paths.links_of(at(40), NodeId(1))), (3, 0));
            assert_eq!(paths.by_links(at(0), NodeId(1), 2).as_slice(), [peer(1, 1)]);
            // Another address on the same link takes the place of the first.
            paths.on_received(at(30), &header(1, 2), 1, peer(1, 9), false);
            assert_eq!(others(paths, 39, peer(0, 1)), [peer(1, 9)]);
            assert_eq!(others(paths, 40, peer(1, 9)), [], "not heard there for four intervals");
            assert_eq!((paths.heard_by(at(40), 0), paths.heard_by(at(40), 1)), (Some(0), Some(1)));
        });
    }

    #[test]
    fn the_groups_key_turns_nobody_away_from_an_address_that_is_proven() {
        with_paths(4, |paths| {
            paths.on_received(at(0), &header(1, 1), 0, peer(0, 1), true);
            paths.on_received(at(1), &header(1, 2), 0, peer(0, 2), true);
            assert_eq!(others(paths, 1, peer(9, 9)), [peer(0, 2)]);
            paths.on_received(at(2), &header(1, 3), 0, peer(0, 1), false);
            paths.on_received(at(3), &header(1, 4), 0, peer(0, 2), true);
            assert_eq!(others(paths, 3, peer(9, 9)), [peer(0, 1)]);
            paths.on_received(at(50), &header(1, 5), 0, peer(0, 2), true);
            assert_eq!(others(paths, 50, peer(9, 9)), [peer(0, 2)], "it is heard no more");
        });
        with_paths(2, |paths| {
            for node in 1..9 {
                paths.on_received(at(0), &header(node, 1), 0, peer(0, node as u8), true);
            }
            paths.on_received(at(0), &header(20, 1), 0, peer(0, 20), false);
            assert!(paths.knows(NodeId(20), peer(0, 20)), "forged names make room");
            for node in 30..39 {
                paths.on_received(at(1), &header(node, 1), 0, peer(0, node as u8), true);
            }
            assert!(paths.knows(NodeId(20), peer(0, 20)), "and take none");
        });
    }

    #[test]
    fn a_session_that_failed_is_tried_over_another_link_next() {
        with_paths(4, |paths| {
            let (first, second) = (peer(0, 1), peer(1, 1));
            assert_eq!(paths.choose(at(0), NodeId(1), first, 3), first, "not heard yet");
            paths.on_received(at(0), &header(1, 1), 0, first, false);
            paths.on_replay(at(0), &header(1, 1), 1, second);
            assert_eq!(paths.choose(at(0), NodeId(1), second, 3), second, "where it was heard last");
            assert_eq!(paths.choose(at(0), NodeId(1), first, 3), first);
            paths.on_session_failed(at(1), NodeId(1));
            assert_eq!(paths.choose(at(1), NodeId(1), first, 3), second);
            assert_eq!(paths.choose(at(2), NodeId(1), first, 3), second, "and stays there");
            assert_eq!(paths.choose(at(2), NodeId(1), first, 1), first, "its link is down");
            assert_eq!(paths.choose(at(2), NodeId(1), first, 3), second);
            paths.on_session_failed(at(3), NodeId(1));
            assert_eq!(paths.choose(at(3), NodeId(1), second, 3), first);
            assert_eq!(paths.choose(at(99), NodeId(1), second, 3), second, "nothing is known any more");
        });
    }

    #[test]
    fn a_node_with_one_link_keeps_nothing() {
        with_paths(0, |paths| {
            assert!(!paths.is_used());
            assert!(!paths.on_received(at(0), &header(1, 1), 0, peer(0, 1), false));
            assert!(!paths.on_replay(at(0), &header(1, 1), 1, peer(1, 1)));
            assert_eq!(others(paths, 0, peer(9, 9)), []);
            assert_eq!(paths.heard_by(at(0), 0), None);
            assert_eq!(paths.choose(at(0), NodeId(1), peer(0, 1), 1), peer(0, 1));
        });
    }
}
