//! What a state machine asks its driver to do, and where.

use core::fmt;
use core::net::SocketAddr;

use heapless::Vec;

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
        /// The socket's port there. A daemon that starts again has another.
        port: u32,
    },
}

impl Peer {
    /// Whether this is the same place on the network, whichever start of a daemon
    /// is there: over UDP its port is the same each time, over TIPC never.
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
            Self::Ip(address) => write!(f, "{}", address.ip()),
            Self::Tipc { node, .. } => write!(f, "{node:08x}"),
        }
    }
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// All controllers.
    Controllers,
    /// All agents.
    Agents,
    /// One node.
    Node(NodeId, Peer),
    /// Whoever is bound there: who that is was not heard yet.
    Peer(Peer),
}

/// Why a datagram came back to its sender, as TIPC says it (linux/tipc.h, TIPC_ERR_*).
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
    /// For another reason.
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

/// What a transport has for the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival<'b> {
    /// A datagram, and where it is from.
    Datagram(&'b [u8], Peer),
    /// One that was sent from here came back.
    Undelivered(Undelivered),
}

/// One thing for the driver to do.
///
/// A driver carries actions out in order. `Send` may fail or be lost: deadlines
/// repeat what matters. The others end in an event, always: a session in
/// `SessionReady`, `SessionBusy` or `SessionFailed`; a worker in `WorkerEnded`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "bounded by ACTION_BYTES, and most are sends")]
#[must_use]
pub enum Action {
    /// Send a datagram.
    Send(To, Message),
    /// Open a stream session and prove it.
    Connect(NodeId, Peer, Purpose),
    /// End a session, if it is still there; no event follows.
    Disconnect(NodeId, Purpose),
    /// Start the worker that installs, over the session that is ready.
    StartInstall(InstallRequest),
    /// Start the worker that recovers what a crash cut short.
    StartRecovery,
    /// Start the worker that ends an install which replaced thimble itself: commits
    /// it where a controller was heard, else undoes it.
    StartProof {
        /// One was.
        is_heard: bool,
    },
    /// Start the worker that merges this controller's map, over the session that
    /// is ready. Ends in `PullEnded`.
    StartPull(NodeId),
    /// Start the worker that fetches missing blobs from this controller, over the
    /// session that is ready. Ends in `BlobsEnded`.
    StartBlobs(NodeId),
    /// Make this the rollout in place of the one with its stamp, durably, unless the
    /// repository is being changed: it is asked for again until the map says so.
    SettleRollout(Rollout),
}

/// The actions of one call.
///
/// A call pushes at most [`limits::ACTIONS`]; a push beyond that is dropped and
/// counted, and the machine's deadline asks again.
#[derive(Debug, Default)]
pub struct Actions {
    list: Vec<Action, { limits::ACTIONS }, u8>,
    dropped: u32,
}

impl Actions {
    /// Asks for one more action.
    pub fn push(&mut self, action: Action) {
        if self.list.push(action).is_err() {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Asks for a datagram to be sent.
    pub fn send(&mut self, to: To, message: Message) {
        self.push(Action::Send(to, message));
    }

    /// Takes the first action out.
    pub fn pop_front(&mut self) -> Option<Action> {
        if self.list.is_empty() { None } else { Some(self.list.remove(0)) }
    }

    /// How many more there is room for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.list.capacity().saturating_sub(self.list.len())
    }

    /// How many were dropped for lack of room, ever.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.dropped
    }
}

const _: () = assert!(size_of::<Action>() <= limits::ACTION_BYTES);
