//! One transfer at a time to another controller: a session, then a worker over it.
//!
//! ```text
//! Idle --begin--> Opening --session--> AtWork --> Idle
//!                    `--- no session, busy ---------^
//! ```
//!
//! A driver ends each transfer with an event. One that comes for another transfer than
//! the one at hand is late, and of no interest.

use crate::types::NodeId;

/// Where an transfer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// There is none.
    #[default]
    Idle,
    /// A session to this controller was asked for.
    Opening(NodeId),
    /// A worker is at it.
    AtWork(NodeId),
}

impl Transfer {
    /// Whether another can begin.
    #[must_use]
    pub fn is_idle(self) -> bool {
        self == Self::Idle
    }

    /// The session is open: true where it was waited for, and the worker is to start.
    pub fn on_session(&mut self, node: NodeId) -> bool {
        let is_awaited = *self == Self::Opening(node);
        if is_awaited {
            *self = Self::AtWork(node);
        }
        is_awaited
    }

    /// It is over; true where it was this one.
    pub fn end(&mut self, node: NodeId) -> bool {
        let is_this = self.node() == Some(node);
        if is_this {
            *self = Self::Idle;
        }
        is_this
    }

    /// Whom it is to.
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
    fn what_comes_late_or_for_another_is_of_no_interest() {
        let (one, other) = (NodeId(1), NodeId(2));
        let mut transfer = Transfer::Opening(one);
        assert!(!transfer.on_session(other) && !transfer.end(other));
        assert!(transfer.on_session(one) && !transfer.on_session(one));
        assert_eq!(transfer.node(), Some(one));
        assert!(transfer.end(one) && !transfer.end(one));
        assert!(transfer.is_idle());
    }
}
