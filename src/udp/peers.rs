//! The nodes that the configuration lists as peers, with their addresses as far as these are known.

use std::io;
use std::net::{IpAddr, SocketAddr};

use heapless::Vec;

use crate::config::NetworkConfig;
use crate::config::peers::PeerHost;
use crate::limits;
use crate::time::Instant;
use crate::wire::frame::Role;

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Listed {
    /// `None` while a name is not resolved.
    address: Option<IpAddr>,
    /// Where it listens as a controller.
    controller_port: u16,
    /// Why the last datagram to each of its roles could not be sent, as an error's number; 0 if it
    /// was.
    failed: [i32; 2],
    /// The error that was told, and when it began.
    told: Option<(i32, Instant)>,
}

/// The nodes that the configuration lists.
#[derive(Debug)]
pub struct Peers {
    list: Vec<Listed, { limits::PEERS }, u8>,
    /// Datagrams that could not be sent to one of them.
    pub unsent: u64,
}

impl Peers {
    /// Those of this configuration. Names are not resolved yet.
    pub fn of(network: &NetworkConfig) -> Self {
        let listed = network.peers.iter().map(|peer| Listed {
            address: match &peer.host {
                PeerHost::Address(address) => Some(*address),
                PeerHost::Name(_) => None,
            },
            controller_port: peer.controller_port.unwrap_or(network.controller_port),
            failed: [0; 2],
            told: None,
        });
        Self { list: listed.take(limits::PEERS).collect(), unsent: 0 }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The address of the one with this number, once it is known.
    pub fn address(&self, at: usize) -> Option<IpAddr> {
        self.list.get(at)?.address
    }

    /// Sets the address of a name.
    pub fn resolve(&mut self, at: usize, address: IpAddr) {
        if let Some(listed) = self.list.get_mut(at) {
            (listed.address, listed.failed) = (Some(address), [0; 2]);
        }
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Where the one with this number listens in a role, once that is known. A port that the
    /// configuration names is that of a controller.
    pub fn listens_at(&self, at: usize, role: Role, network: &NetworkConfig) -> Option<SocketAddr> {
        let listed = self.list.get(at)?;
        let port = match role {
            Role::Controller => listed.controller_port,
            Role::Agent => network.agent_port,
        };
        Some(SocketAddr::new(listed.address?, port))
    }

    /// Notes how sending to the one with this number went, in a role.
    ///
    /// # Errors
    /// What has to do with no single peer: a full buffer.
    pub fn note(&mut self, at: usize, role: Role, sent: io::Result<()>) -> io::Result<()> {
        let number = match sent {
            Ok(()) => 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(error) => {
                self.unsent += 1;
                error.raw_os_error().unwrap_or(libc::EAFNOSUPPORT)
            }
        };
        if let Some(listed) = self.list.get_mut(at) {
            listed.failed[role as usize] = number;
        }
        Ok(())
    }

    /// One of which is not told yet why it cannot be sent to, or that it can be again (`None`).
    pub fn news(&mut self, now: Instant) -> Option<(usize, Option<i32>)> {
        self.list.iter_mut().enumerate().find_map(|(at, listed)| {
            let failed = listed.failed.into_iter().find(|number| *number != 0);
            let since = listed.told.map_or(now, |(_, since)| since);
            (failed != listed.told.map(|(told, _)| told)).then(|| {
                listed.told = failed.map(|number| (number, since));
                (at, failed)
            })
        })
    }

    /// Those that cannot be sent to: the number in the configuration, the error, and since when.
    pub fn failing(&self) -> impl Iterator<Item = (usize, i32, Instant)> {
        let rows = self.list.iter().enumerate();
        rows.filter_map(|(at, listed)| listed.told.map(|(number, since)| (at, number, since)))
    }

    /// Whether an address is one of theirs.
    pub fn has(&self, address: SocketAddr) -> bool {
        self.list.iter().any(|listed| listed.address == Some(address.ip()))
    }
}

impl super::Transport {
    /// How many datagrams to a group reached this node alone.
    #[must_use]
    pub fn sent_to_itself_alone(&self) -> u64 {
        self.to_itself_alone
    }

    /// How many datagrams could not be sent to a single peer.
    #[must_use]
    pub fn unsent_to_peers(&self) -> u64 {
        self.peers.unsent
    }

    /// A peer of which is not told yet why it cannot be sent to (an error's number), or that it can
    /// be again: its number in the configuration.
    pub fn peer_news(&mut self, now: Instant) -> Option<(usize, Option<i32>)> {
        self.peers.news(now)
    }

    /// The peers that cannot be sent to: the number of each, the error's, and since when.
    pub fn failing_peers(&self) -> impl Iterator<Item = (usize, i32, Instant)> {
        self.peers.failing()
    }
}
