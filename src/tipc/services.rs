//! The TIPC service types of a cluster.
//!
//! | service type | bound sockets, and their instance |
//! |---|---|
//! | `service_type` | controllers, for datagrams: their node's address |
//! | `service_type` + 1 | agents, for datagrams: the same |
//! | `service_type` + 2, + 3 | controllers, agents, for sessions: the same |
//! | `service_type` + 4 | agents, while a file is sent to all of them: 0 |

use crate::wire::frame::Role;

/// The service types of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Services(u32);

impl Services {
    /// The five service types from this one on.
    #[must_use]
    pub fn from(service_type: u32) -> Self {
        Self(service_type)
    }

    /// The service type of a role's datagrams.
    #[must_use]
    pub fn datagrams(self, role: Role) -> u32 {
        self.0 + role as u32
    }

    /// The service type of files that are sent to all agents.
    #[must_use]
    pub fn spread(self) -> u32 {
        self.0 + 4
    }

    /// The service type of a role's sessions.
    #[must_use]
    pub fn sessions(self, role: Role) -> u32 {
        self.0 + 2 + role as u32
    }
}
