//! A transfer from another controller: a session, then a worker that uses it. There
//! is one at a time.
//!
//! ```text
//! Idle --begin--> Opening --session--> AtWork --> Idle
//!                    `--- no session, busy ---------^
//! ```
//!
//! A driver ends each transfer with an event. An event of another transfer than the
//! current one is late, and is ignored.

use crate::types::NodeId;

/// The state of the transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// There is no transfer.
    #[default]
    Idle,
    /// A session to this controller is being opened.
    Opening(NodeId),
    /// A worker uses the session.
    AtWork(NodeId),
}

impl Transfer {
    /// Whether a transfer can begin.
    #[must_use]
    pub fn is_idle(self) -> bool {
        self == Self::Idle
    }

    /// The session is open. True if this transfer waited for it: the caller starts the
    /// worker.
    pub fn on_session(&mut self, node: NodeId) -> bool {
        let is_awaited = *self == Self::Opening(node);
        if is_awaited {
            *self = Self::AtWork(node);
        }
        is_awaited
    }

    /// The transfer with this node has ended; true if it is the current one.
    pub fn end(&mut self, node: NodeId) -> bool {
        let is_this = self.node() == Some(node);
        if is_this {
            *self = Self::Idle;
        }
        is_this
    }

    /// The other controller.
    #[must_use]
    pub fn node(self) -> Option<NodeId> {
        match self {
            Self::Idle => None,
            Self::Opening(node) | Self::AtWork(node) => Some(node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_late_or_of_another_transfer_is_ignored() {
        let (one, other) = (NodeId(1), NodeId(2));
        let mut transfer = Transfer::Opening(one);
        assert!(!transfer.on_session(other) && !transfer.end(other));
        assert!(transfer.on_session(one) && !transfer.on_session(one));
        assert_eq!(transfer.node(), Some(one));
        assert!(transfer.end(one) && !transfer.end(one));
        assert!(transfer.is_idle());
    }
}
