//! How an alert names nodes that it did not expect.

use std::fmt;

use crate::fsm::actions::Peer;
use crate::types::{Hostname, NodeId};

/// Where the other of two nodes with one id is.
pub enum OtherNode {
    /// It is the node that tells.
    ThisNode,
    /// At this address.
    At(Peer),
    /// Not known.
    Somewhere,
}

/// The alert for two nodes with one id: the id, its hostname, and both addresses.
pub struct DuplicateId<'n>(pub NodeId, pub &'n Hostname, pub Peer, pub OtherNode);

impl fmt::Display for DuplicateId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Two nodes use the id {}", self.0)?;
        if !self.1.is_empty() {
            write!(f, " ({})", self.1)?;
        }
        match self.3 {
            OtherNode::ThisNode => write!(f, ", this one and one at {}", self.2)?,
            OtherNode::At(other) => write!(f, ", at {} and at {other}", self.2)?,
            OtherNode::Somewhere => write!(f, ", one of them at {}", self.2)?,
        }
        f.write_str(
            ": a cloned image? Give one of them a key file of its own (thimble keygen), and restart it.",
        )
    }
}

/// The sender of a refused datagram: the node id that it claims, the hostname known
/// for that id, and the source address.
pub struct Sender<'n>(pub NodeId, pub &'n Hostname, pub Peer);

impl fmt::Display for Sender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "as {}", self.0)?;
        if !self.1.is_empty() {
            write!(f, " ({})", self.1)?;
        }
        write!(f, " from {}", self.2)
    }
}
