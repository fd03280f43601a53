//! The TIPC service types of a cluster.
//!
//! | service type | who is bound to it, at which instance |
//! |---|---|
//! | `service_type` | controllers, for datagrams: their node's address |
//! | `service_type` + 1 | agents, for datagrams: the same |
//! | `service_type` + 2, + 3 | controllers, agents, for sessions: the same |

use crate::wire::frame::Role;

/// The service types of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Services(u32);

impl Services {
    /// Those from this one on.
    #[must_use]
    pub fn from(service_type: u32) -> Self {
        Self(service_type)
    }

    /// A role's type for datagrams.
    #[must_use]
    pub fn datagrams(self, role: Role) -> u32 {
        self.0 + role as u32
    }

    /// A role's type for sessions.
    #[must_use]
    pub fn sessions(self, role: Role) -> u32 {
        self.0 + 2 + role as u32
    }
}
