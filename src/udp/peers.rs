//! The nodes that the configuration lists as peers, with their addresses as far as these are known.

use std::net::{IpAddr, SocketAddr};

use heapless::Vec;

use crate::config::NetworkConfig;
use crate::config::peers::PeerHost;
use crate::limits;
use crate::wire::frame::Role;

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Listed {
    /// `None` while a name is not resolved.
    address: Option<IpAddr>,
    /// Where it listens as a controller.
    controller_port: u16,
}

/// The nodes that the configuration lists.
#[derive(Debug)]
pub struct Peers(Vec<Listed, { limits::PEERS }, u8>);

impl Peers {
    /// Those of this configuration. Names are not resolved yet.
    pub fn of(network: &NetworkConfig) -> Self {
        let listed = network.peers.iter().map(|peer| Listed {
            address: match &peer.host {
                PeerHost::Address(address) => Some(*address),
                PeerHost::Name(_) => None,
            },
            controller_port: peer.controller_port.unwrap_or(network.controller_port),
        });
        Self(listed.take(limits::PEERS).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address of the one with this number, once it is known.
    pub fn address(&self, at: usize) -> Option<IpAddr> {
        self.0.get(at)?.address
    }

    /// Sets the address of a name.
    pub fn resolve(&mut self, at: usize, address: IpAddr) {
        if let Some(listed) = self.0.get_mut(at) {
            listed.address = Some(address);
        }
    }

    /// Where they listen in a role. A port that the configuration names is that of a controller.
    pub fn addresses(&self, role: Role, network: &NetworkConfig) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().filter_map(move |listed| {
            let port = match role {
                Role::Controller => listed.controller_port,
                Role::Agent => network.agent_port,
            };
            Some(SocketAddr::new(listed.address?, port))
        })
    }

    /// Whether an address is one of theirs.
    pub fn has(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|listed| listed.address == Some(address.ip()))
    }
}
