//! What the configured interface is, since when, and what it was before.

use std::net::Ipv4Addr;

use crate::time::{Duration, Instant};
use crate::types::InterfaceState;

/// A time in which the interface was not up.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "tipc", expect(dead_code, reason = "TIPC has bearers instead"))]
pub struct Outage {
    /// What it was.
    pub state: InterfaceState,
    /// For how long.
    pub lasted: Duration,
}

/// What the interface is, since when, and what it was before.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "tipc", expect(dead_code, reason = "TIPC has bearers instead"))]
pub struct Network {
    /// What it is fit for.
    pub state: InterfaceState,
    /// The source of what is sent by it.
    pub address: Ipv4Addr,
    /// Its index.
    pub index: u32,
    /// Since when this is so.
    pub since: Instant,
    /// The last time in which it was not up.
    pub outage: Option<Outage>,
    /// How often it has changed.
    pub changes: u64,
}

impl Network {
    /// An interface that has not been looked at.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            state: InterfaceState::Up,
            address: Ipv4Addr::UNSPECIFIED,
            index: 0,
            since: now,
            outage: None,
            changes: 0,
        }
    }
}

/// What follows of an interface in this state, and what to do; `None` if it is up.
#[must_use]
pub fn remedy(state: InterfaceState) -> Option<&'static str> {
    Some(match state {
        InterfaceState::Up => return None,
        InterfaceState::Missing => {
            "this node reaches no other. Make it, or correct network.interface and restart. thimble uses it as \
             soon as it is there."
        }
        InterfaceState::Down => "this node reaches no other. Set it up: ip link set dev NAME up.",
        InterfaceState::NoCarrier => {
            "this node reaches no other. See the cable, the switch, or the members of the bond or bridge."
        }
        InterfaceState::NoAddress => {
            "other nodes do not hear this one. See DHCP, or give it one. thimble takes part as soon as it has one."
        }
        InterfaceState::Borrowed => {
            "datagrams go out from another interface's, and the answers come in there. Give it one."
        }
        InterfaceState::Unusable => {
            "the groups cannot be joined on it, see the log. This is tried again at thimble reload."
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn an_alert_for_the_longest_name_of_an_interface_fits() {
        for state in [
            InterfaceState::Missing,
            InterfaceState::Down,
            InterfaceState::NoCarrier,
            InterfaceState::NoAddress,
            InterfaceState::Borrowed,
            InterfaceState::Unusable,
        ] {
            let (name, words, remedy) = ("n".repeat(15), state.words(), remedy(state).unwrap());
            let said = format!("The interface {name} is {words}, for 365 days 23 h: {remedy}");
            assert!(said.len() <= limits::REASON_BYTES, "{}: {said}", said.len());
        }
        assert_eq!(remedy(InterfaceState::Up), None);
    }
}
