//! Whether a program on this node is bound already where thimble binds its sockets.
//!
//! Of two sockets that are bound to one service each gets a part of the sessions: the kernel
//! takes them in turn. So a start asks the topology service first, for datagrams and for
//! sessions alike. thimble binds one instance of a type, the node's address. A socket with
//! another range that has this instance in it is no thimble's.

use std::fmt;
use std::io;
use std::thread;
use std::time::Duration as Wait;

use super::address::{NodeAddress, ServiceRange, SocketAddress};
use super::link::{self, IDENTITY_BYTES};
use super::socket::Socket;
use super::subscription::{Filter, Subscription, Timeout};
use super::topology::SubscriberEvent;
use super::watcher::Watcher;
use crate::time::Instant;
use crate::types::Text;
use crate::wire::frame::Role;

/// Polls, and the time between two, for the answer whether a service is bound already.
const PROBES: u32 = 1_000;
const PROBE_PAUSE: Wait = Wait::from_millis(2);

/// What a service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The role that is served.
    pub role: Role,
    /// By stream sessions, not by datagrams.
    pub is_sessions: bool,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.role == Role::Controller { "controller" } else { "agent" };
        write!(f, "the {role}'s {}", if self.is_sessions { "sessions" } else { "datagrams" })
    }
}

/// A socket of this node that is bound where thimble would bind one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What thimble's own socket would be for.
    pub wanted_for: Use,
    /// What thimble would bind.
    pub wanted: ServiceRange,
    /// What the socket is bound to.
    pub bound: ServiceRange,
    /// The socket.
    pub at: SocketAddress,
    /// Its node's identity; empty where the kernel knows none.
    pub identity: Text<IDENTITY_BYTES>,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted_for, wanted, bound, at, identity } = self;
        let SocketAddress { port, node } = *at;
        write!(f, "a program on this TIPC node ({identity} {}) is bound to ", NodeAddress(node))?;
        if bound == wanted {
            write!(f, "{bound} already, where thimble binds for {wanted_for}: it may be another thimble")?;
        } else {
            write!(
                f,
                "{bound}, which covers {wanted}, where thimble binds for {wanted_for}: it is no thimble"
            )?;
        }
        write!(
            f,
            ". Its socket has the port {port} (ss --tipc --processes shows whose it is). Stop it first, or give \
             thimble another network.service_type"
        )
    }
}

/// The first socket of this node that is bound to `wanted`, or to a range with it, if any.
///
/// # Errors
/// TIPC is not available.
pub fn find(wanted_for: Use, wanted: ServiceRange, own: u32) -> io::Result<Option<Taken>> {
    let mut watcher = Watcher::open(0).map_err(|error| io::Error::other(error.to_string()))?;
    let handle = *b"taken   ";
    let asked = Subscription { range: wanted, timeout: Timeout::Forever, filter: Filter::Ports, handle };
    watcher.subscribe(Instant::default(), asked).map_err(|refused| io::Error::other(refused.to_string()))?;
    for _ in 0..PROBES {
        match watcher.turn(Instant::default()) {
            Some(SubscriberEvent::Published(_, event)) if event.port.node == own => {
                let identity = link::identity(&Socket::rdm()?, own).unwrap_or_default();
                let bound = ServiceRange { lower: event.found_lower, upper: event.found_upper, ..wanted };
                return Ok(Some(Taken { wanted_for, wanted, bound, at: event.port, identity }));
            }
            Some(SubscriberEvent::Settled(_)) => return Ok(None),
            Some(_) => {}
            None => thread::sleep(PROBE_PAUSE),
        }
    }
    // Without an answer the daemon starts all the same.
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_as_a_thimble_is_and_what_is_not_are_told_apart() {
        let wanted = ServiceRange::one(7_488, 0x5c6f_6465);
        let taken = Taken {
            wanted_for: Use { role: Role::Controller, is_sessions: false },
            wanted,
            bound: wanted,
            at: SocketAddress { port: 826_418_512, node: 0x5c6f_6465 },
            identity: Text::truncated("node-2"),
        };
        let end = ". Its socket has the port 826418512 (ss --tipc --processes shows whose it is). Stop it first, or \
                   give thimble another network.service_type";
        assert_eq!(
            taken.to_string(),
            format!(
                "a program on this TIPC node (node-2 5c6f6465) is bound to 7488:1550804069 already, where thimble \
                 binds for the controller's datagrams: it may be another thimble{end}"
            )
        );
        let wanted_for = Use { role: Role::Agent, is_sessions: true };
        let of_other = Taken { wanted_for, bound: ServiceRange::all(7_488), ..taken };
        assert_eq!(
            of_other.to_string(),
            format!(
                "a program on this TIPC node (node-2 5c6f6465) is bound to 7488:0-4294967295, which covers \
                 7488:1550804069, where thimble binds for the agent's sessions: it is no thimble{end}"
            )
        );
    }
}
