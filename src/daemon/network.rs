//! What the configured interfaces are, since when, and what they were before.

use std::fmt;

#[cfg(not(feature = "tipc"))]
use crate::config::interface::Interface;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{InterfaceAddresses, InterfaceState};

/// A time in which the interface was not up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// What it was at first.
    pub state: InterfaceState,
    /// When that began.
    pub since: Instant,
    /// How long it was not up.
    pub lasted: Duration,
}

/// What the interface is, since when, and what it was before.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "tipc", expect(dead_code, reason = "TIPC has bearers instead"))]
pub struct Network {
    /// What it is fit for.
    pub state: InterfaceState,
    /// The sources of what is sent by it.
    pub address: InterfaceAddresses,
    /// Its index.
    pub index: u32,
    /// Since when this is so.
    pub since: Instant,
    /// The last time in which it was not up, or that in which it is not.
    pub outage: Option<Outage>,
    /// How often it has changed.
    pub changes: u64,
}

/// What has changed of an interface.
#[cfg(not(feature = "tipc"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is not up, or not up for another reason than before.
    Out,
    /// It is up again, after this.
    Back(Outage),
    /// It was made anew.
    MadeAnew,
    /// It had this address before.
    Renumbered(InterfaceAddresses),
}

/// The interfaces in the order of the configuration: the links. None over TIPC.
#[derive(Debug, Default)]
pub struct Links(pub heapless::Vec<Network, { limits::LINKS }, u8>);

impl Links {
    /// Whether one of them is up; true over TIPC.
    #[must_use]
    pub fn are_up(&self) -> bool {
        self.0.is_empty() || self.up() != 0
    }

    /// Whether each of them is up; true over TIPC.
    #[must_use]
    pub fn are_all_up(&self) -> bool {
        self.0.iter().all(|one| one.state == InterfaceState::Up)
    }

    /// Those that are up: a bit for each.
    #[must_use]
    pub fn up(&self) -> u8 {
        let bit = |(link, one): (usize, &Network)| u8::from(one.state == InterfaceState::Up) << link;
        self.0.iter().enumerate().map(bit).sum()
    }

    /// How often they have changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.0.iter().map(|one| one.changes).sum()
    }
}

impl Network {
    /// An interface that has not been looked at.
    #[must_use]
    #[cfg(not(feature = "tipc"))]
    pub fn new(now: Instant) -> Self {
        Self {
            state: InterfaceState::Up,
            address: InterfaceAddresses::NONE,
            index: 0,
            since: now,
            outage: None,
            changes: 0,
        }
    }

    /// Notes what the interface is now; `is_removed` if the one before is gone.
    #[cfg(not(feature = "tipc"))]
    pub fn note(&mut self, now: Instant, seen: &Interface, is_removed: bool) -> Option<Change> {
        let before = *self;
        let is_another = is_removed || (seen.index != before.index && before.index != 0);
        (self.state, self.address, self.index) = (seen.state, seen.address, seen.index);
        let change = match (before.state, seen.state) {
            (InterfaceState::Up, InterfaceState::Up) if is_another => Change::MadeAnew,
            (InterfaceState::Up, InterfaceState::Up) if seen.address != before.address => {
                Change::Renumbered(before.address)
            }
            (was, is) if was == is => return None,
            (InterfaceState::Up, state) => {
                self.outage = Some(Outage { state, since: now, lasted: Duration::ZERO });
                Change::Out
            }
            (_, InterfaceState::Up) => {
                let begun = before.outage.unwrap_or(Outage {
                    state: before.state,
                    since: before.since,
                    lasted: Duration::ZERO,
                });
                let outage = Outage { lasted: now.since(begun.since), ..begun };
                self.outage = Some(outage);
                Change::Back(outage)
            }
            _ => Change::Out,
        };
        (self.since, self.changes) = (now, before.changes.saturating_add(1));
        Some(change)
    }
}

/// A remedy with the interface's name for each NAME in it.
pub struct Named<'n>(pub &'static str, pub &'n str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once("NAME") {
            Some((before, after)) => write!(f, "{before}{}{after}", self.1),
            None => f.write_str(self.0),
        }
    }
}

/// What follows of an interface in this state, and what to do; `None` if it is up.
#[must_use]
pub fn remedy(state: InterfaceState) -> Option<&'static str> {
    Some(match state {
        InterfaceState::Up => return None,
        InterfaceState::Missing => {
            "this node reaches no other. Make it, or correct its name in [network] and restart. thimble uses it as \
             soon as it is there."
        }
        InterfaceState::Down => "this node reaches no other. Set it up: ip link set dev NAME up.",
        InterfaceState::NoCarrier => {
            "this node reaches no other. See the cable, the switch, or the members of the bond or bridge."
        }
        InterfaceState::NoAddress | InterfaceState::NoAddress6 | InterfaceState::NoAddressOfBoth => {
            "other nodes do not hear this one. See DHCP, or give it one. thimble takes part as soon as it has one."
        }
        InterfaceState::Borrowed => {
            "datagrams go out from another interface's, and the answers come in there. Give it one."
        }
        InterfaceState::SameSubnet => {
            "it is not used. Give each interface a subnet of its own, or bond them."
        }
        InterfaceState::Unusable => {
            "the groups cannot be joined on it, see the log. This is tried again at thimble reload."
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(feature = "tipc"))]
    fn an_outage_is_told_by_its_first_cause_and_its_whole_time() {
        let of = |v4: [u8; 4]| InterfaceAddresses { v4: v4.into(), ..InterfaceAddresses::NONE };
        let (here, there) = (of([10, 0, 0, 1]), of([10, 0, 0, 2]));
        let mut network = Network::new(Instant::default());
        let mut seen = |at: u64, index, state, address, is_removed| {
            let change = network.note(
                Instant::from_millis(at),
                &Interface { index, state, address, mask: 0 },
                is_removed,
            );
            (change, network.changes)
        };
        let none = InterfaceAddresses::NONE;
        assert_eq!(seen(5, 0, InterfaceState::Missing, none, false), (Some(Change::Out), 1));
        assert_eq!(seen(6, 0, InterfaceState::Missing, none, false), (None, 1));
        assert_eq!(seen(10, 7, InterfaceState::NoAddress, none, false), (Some(Change::Out), 2));
        let lasted = Duration::from_millis(20);
        let outage = Outage { state: InterfaceState::Missing, since: Instant::from_millis(5), lasted };
        assert_eq!(seen(25, 7, InterfaceState::Up, here, false), (Some(Change::Back(outage)), 3));
        assert_eq!(seen(26, 7, InterfaceState::Up, here, false), (None, 3));
        assert_eq!(seen(27, 7, InterfaceState::Up, there, false), (Some(Change::Renumbered(here)), 4));
        assert_eq!(seen(28, 7, InterfaceState::Up, there, true), (Some(Change::MadeAnew), 5));
        assert_eq!(seen(29, 8, InterfaceState::Up, there, false), (Some(Change::MadeAnew), 6));
    }

    #[test]
    #[cfg(not(feature = "tipc"))]
    fn links_are_up_while_one_is() {
        let with = |states: &[InterfaceState]| {
            let one = |state: &InterfaceState| Network { state: *state, ..Network::new(Instant::default()) };
            Links(states.iter().map(one).collect())
        };
        let (up, down) = (InterfaceState::Up, InterfaceState::Down);
        assert_eq!((with(&[down, up]).up(), with(&[down, up]).are_up()), (2, true));
        assert_eq!((with(&[down, down]).up(), with(&[down, down]).are_up()), (0, false));
        assert!(with(&[]).are_up(), "TIPC has none");
    }

    #[test]
    fn an_alert_for_the_longest_name_of_an_interface_fits() {
        for state in [
            InterfaceState::Missing,
            InterfaceState::Down,
            InterfaceState::NoCarrier,
            InterfaceState::NoAddress,
            InterfaceState::NoAddress6,
            InterfaceState::NoAddressOfBoth,
            InterfaceState::Borrowed,
            InterfaceState::Unusable,
            InterfaceState::SameSubnet,
        ] {
            let (name, words) = ("n".repeat(15), state.words());
            let remedy = Named(remedy(state).unwrap(), &name);
            let said = format!("The interface {name} is {words}, for 365 days 23 h: {remedy}");
            assert!(!said.contains("NAME"), "{said}");
            assert!(said.len() <= limits::REASON_BYTES, "{}: {said}", said.len());
        }
        assert_eq!(remedy(InterfaceState::Up), None);
    }
}
