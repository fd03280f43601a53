//! Datagrams made by the tests, with any key.

use thimble::config::keys::KeyFile;
use thimble::limits;
use thimble::list::reserved;
use thimble::repo::digest::set_digest;
use thimble::table::{Table, index_len};
use thimble::time::{Duration, Instant};
use thimble::types::{ClusterId, Hostname, NodeId, NodeType, SwVersion};
use thimble::wire::codec::{Codec, Identity, ReceivedDatagram, RefusedDatagram, Roles, tag_of};
use thimble::wire::frame::Role;
use thimble::wire::keys::{Key, KeyRing};
use thimble::wire::messages::{HelloAgentAck, Message};
use thimble::wire::replay::ReplayGuard;
use thimble::wire::session::Opening;

use crate::cluster::Node;
use crate::node::SW_VERSION;

/// Encodes and decodes datagrams as one node, with the daemon's codec.
pub struct Forger {
    codec: Codec<'static>,
}

impl Forger {
    /// A node of the given identity and keys; its incarnation is the current time.
    pub fn new(cluster: ClusterId, node: NodeId, roles: Roles, ring: KeyRing) -> Self {
        let since_1970 = std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
        Self::in_start(cluster, node, roles, ring, since_1970.as_millis() as u64)
    }

    /// The same, in the start with this number.
    fn in_start(cluster: ClusterId, node: NodeId, roles: Roles, ring: KeyRing, incarnation: u64) -> Self {
        const SENDERS: usize = 8;
        // Leaked: a few hundred bytes each.
        let index = Box::leak(vec![0; index_len(SENDERS)].into_boxed_slice());
        let replay = ReplayGuard::new(Table::new(reserved(SENDERS), index), Duration::from_secs(3_600));
        let identity = Identity { cluster, node, incarnation, roles, ring, revoked: heapless::Vec::new() };
        Self { codec: Codec::new(identity, replay) }
    }

    /// The same node, later: in the last start that there can be.
    pub fn in_last_start(&self) -> Self {
        let Identity { cluster, node, roles, ring, .. } = self.codec.identity().clone();
        Self::in_start(cluster, node, roles, ring, u64::MAX)
    }

    /// A controller that knows the cluster's secret.
    pub fn controller(cluster: ClusterId, node: NodeId, secret: &[u8; 32]) -> Self {
        let roles = Roles { is_controller: true, is_agent: false };
        Self::new(cluster, node, roles, KeyRing::controller(&Key(*secret)))
    }

    /// The next datagram of this node.
    pub fn encode(&mut self, message: &Message, to: NodeId) -> Vec<u8> {
        let mut out = [0; limits::DATAGRAM_BYTES];
        let len = self.codec.encode(message, to, &mut out);
        out[..len].to_vec()
    }

    /// As [`encode`](Self::encode) to a group, with `found` in the body replaced by a text of
    /// these bytes and their length, and the tag made anew: what no codec would encode.
    pub fn encode_with(&mut self, message: &Message, found: &[u8], text: &[u8]) -> Vec<u8> {
        let datagram = self.encode(message, NodeId(0));
        let at = datagram.windows(found.len()).position(|bytes| bytes == found).expect("it is in the body");
        let after = &datagram[at + found.len()..datagram.len() - limits::TAG_BYTES];
        let mut changed = [&datagram[..at], &[text.len() as u8], text, after].concat();
        let body_len = (changed.len() - limits::HEADER_BYTES) as u16;
        changed[40..42].copy_from_slice(&body_len.to_le_bytes());
        let Identity { ring, node, .. } = self.codec.identity();
        let key = ring.key(ring.send_slot(), message.msgtype().key_class(*node)).expect("its own key");
        let tag = tag_of(&key, &changed);
        [&changed[..], &tag].concat()
    }

    /// Decodes a datagram as this node.
    pub fn decode(&mut self, datagram: &[u8]) -> Result<ReceivedDatagram, RefusedDatagram> {
        self.codec.decode(Instant::from_millis(0), datagram)
    }
}

/// An agent with this number and the keys of `node` that exists in its datagrams alone: what
/// makes them, and its ack while it has what it should have.
pub fn invented_host(node: &Node, number: u64) -> (Forger, HelloAgentAck) {
    let ack = HelloAgentAck {
        query_id: 1,
        installed_digest: set_digest([]),
        hostname: Hostname::new(&format!("compute-{number:04}.rack-{:02}.example", number / 40)).unwrap(),
        nodetype: NodeType::new("worker").unwrap(),
        sw_version: SwVersion::new(SW_VERSION).unwrap(),
        ..HelloAgentAck::default()
    };
    (with_keys_of(node, Role::Agent, Some(NodeId(0xA6E7_0000 + number))), ack)
}

/// A forger with the key file of `node`, in any role.
pub fn with_keys_of(node: &Node, speaks_as: Role, id: Option<NodeId>) -> Forger {
    let keys = KeyFile::read(&node.key_file()).unwrap();
    let is_controller = speaks_as == Role::Controller;
    let roles = Roles { is_controller, is_agent: !is_controller };
    Forger::new(keys.cluster, id.unwrap_or(keys.node), roles, keys.ring())
}

/// An agent's opening of a session with the key file of `node`, and its key ring.
pub fn opening_of(node: &Node) -> (Opening, KeyRing) {
    let keys = KeyFile::read(&node.key_file()).unwrap();
    let (ring, nonce) = (keys.ring(), [9; 32]);
    let key_slot = ring.send_slot();
    (Opening { key_slot, role: Role::Agent, cluster: keys.cluster, node: keys.node, nonce }, ring)
}
