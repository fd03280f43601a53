//! What a state machine asks its driver to do, and the addresses of peers.

use core::fmt;
use core::net::SocketAddr;

use heapless::Vec;

use super::spread::{Offer, SpreadFile};
use crate::limits;
use crate::repo::rollout::Rollout;
use crate::types::NodeId;
use crate::wire::frame::Purpose;
use crate::wire::install::InstallRequest;
use crate::wire::messages::Message;

/// Where a node was heard: datagrams and stream sessions go back there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over IP: its address and port.
    Ip(SocketAddr),
    /// Over TIPC: the socket's address.
    Tipc {
        /// The node's address in its TIPC cluster.
        node: u32,
        /// The socket's port there. A restarted daemon has another one.
        port: u32,
    },
}

impl Peer {
    /// Whether both are the same node on the network, before and after a restart of
    /// its daemon: a restart keeps the port over UDP and changes it over TIPC.
    #[must_use]
    pub fn is_at(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tipc { node, .. }, Self::Tipc { node: other, .. }) => node == other,
            _ => self == other,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // One of the link says by which interface: its index.
            Self::Ip(SocketAddr::V6(of_link)) if of_link.scope_id() != 0 => {
                write!(f, "{}%{}", of_link.ip(), of_link.scope_id())
            }
            Self::Ip(address) => write!(f, "{}", address.ip()),
            Self::Tipc { node, .. } => write!(f, "{node:08x}"),
        }
    }
}

/// The receiver of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// All controllers.
    Controllers,
    /// All agents.
    Agents,
    /// One node.
    Node(NodeId, Peer),
    /// The socket bound at this address, whose node id is not known yet.
    Peer(Peer),
}

/// Why TIPC returned a datagram to its sender (linux/tipc.h, TIPC_ERR_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// No socket is bound to the service address.
    NoName,
    /// The socket is gone.
    NoPort,
    /// The node is out of reach.
    NoNode,
    /// The socket's receive queue is full.
    Overload,
    /// Another reason.
    Other,
}

impl Undelivered {
    /// All of them, and the name of each one's counter.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::NoName, "undelivered_no_name"),
        (Self::NoPort, "undelivered_no_port"),
        (Self::NoNode, "undelivered_no_node"),
        (Self::Overload, "undelivered_overload"),
        (Self::Other, "undelivered_other"),
    ];
}

/// What a transport received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival<'b> {
    /// A datagram and its sender's address.
    Datagram(&'b [u8], Peer),
    /// A datagram that came in by another network interface than the configured one, and
    /// its sender's address: refused unread.
    OtherInterface(&'b [u8], Peer),
    /// A datagram that this node sent was returned.
    Undelivered(Undelivered),
}

/// One thing for the driver to do.
///
/// A driver executes actions in order. `Send` may fail or be lost; deadlines
/// repeat what matters. `Connect` and the starts of workers always end in an event:
/// a session in `SessionReady`, `SessionBusy` or `SessionFailed`, a worker in
/// `WorkerEnded` unless its variant names another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "bounded by ACTION_BYTES, and most are sends")]
#[must_use]
pub enum Action {
    /// Send a datagram.
    Send(To, Message),
    /// Open a stream session in which both ends prove their key.
    Connect(NodeId, Peer, Purpose),
    /// Close a session if it still exists; no event follows.
    Disconnect(NodeId, Purpose),
    /// Start the worker that installs, over the session that is ready.
    StartInstall(InstallRequest),
    /// Start the worker that recovers from an interrupted install.
    StartRecovery,
    /// Start the worker that ends an install which waits for a controller. It commits the
    /// install if one was heard, and undoes it otherwise.
    StartProof {
        /// A controller was heard.
        is_heard: bool,
    },
    /// Start the worker that merges this controller's map, over the session that
    /// is ready. Ends in `PullEnded`.
    StartPull(NodeId),
    /// Start the worker that fetches missing blobs from this controller, over the
    /// session that is ready. Ends in `BlobsEnded`.
    StartBlobs(NodeId),
    /// Replace the rollout that has the same stamp by this one, durably. The driver
    /// may ignore it while the repository is being changed: the controller repeats
    /// it until the map shows the change.
    SettleRollout(Rollout),
    /// Send this file to all hosts at once. Ends in `SpreadEnded`.
    StartSpread(SpreadFile),
    /// End that.
    StopSpread,
    /// Start the worker that receives the file of this offer. Ends in `ReceivingEnded`.
    StartReceiving(Offer),
    /// Pass an offer on to that worker.
    PassOffer(Offer),
    /// End that worker.
    StopReceiving,
}

/// The actions of one call.
///
/// A call pushes at most [`limits::ACTIONS`]. A push beyond that is dropped; the machine
/// repeats it at its next deadline. The count of dropped actions is for tests.
#[derive(Debug, Default)]
pub struct Actions {
    list: Vec<Action, { limits::ACTIONS }, u8>,
    dropped: u32,
}

impl Actions {
    /// Adds an action.
    pub fn push(&mut self, action: Action) {
        if self.list.push(action).is_err() {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Adds the sending of a datagram.
    pub fn send(&mut self, to: To, message: Message) {
        self.push(Action::Send(to, message));
    }

    /// Takes the first action out.
    pub fn pop_front(&mut self) -> Option<Action> {
        if self.list.is_empty() { None } else { Some(self.list.remove(0)) }
    }

    /// How many more actions fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.list.capacity().saturating_sub(self.list.len())
    }

    /// How many actions were dropped for lack of room since the start.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.dropped
    }
}

const _: () = assert!(size_of::<Action>() <= limits::ACTION_BYTES);
