//! `check-config`: checks the configuration and the key file, and shows the values that a
//! start would use.

#[cfg(not(feature = "tipc"))]
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::Out;
use crate::config::Config;
use crate::config::keys::{KeyFile, Owners};
#[cfg(not(feature = "tipc"))]
use crate::config::{self, interface::Interface, peers::PeerHost, peers::address_of};
use crate::json::Value;
#[cfg(feature = "tipc")]
use crate::tipc::socket::{Socket, SocketError};
#[cfg(not(feature = "tipc"))]
use crate::types::InterfaceState;
use crate::visible::Visible;

/// `thimble check-config`
pub fn check_config(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let path = invocation.config();
    let config = Config::load(path)?;
    let keys = match &config.security.key_file {
        Some(path) => Some(KeyFile::load(path, config.node.is_controller, Owners::RootMayReadAll)?),
        None => None,
    };
    for group in [config.node.query_group(), config.node.admin_group()] {
        group.map_err(|sentence| Failure::new(Exit::Refused, format!("{}: {sentence}", path.display())))?;
    }
    let (effective, warnings) = (effective(&config, keys.as_ref()), warnings(&config));
    out.line(format_args!("OK: {}", Visible(path.display())))?;
    for warning in &warnings {
        out.line(format_args!("WARNING: {warning}"))?;
    }
    for (key, value) in &effective {
        out.line(format_args!("{key:<28} {}", Visible(value)))?;
    }
    out.json(|| {
        Value::object([
            ("config", Value::text(path.display())),
            ("ok", true.into()),
            ("warnings", Value::list(warnings.iter().map(Value::text))),
            ("effective", Value::map(effective.into_iter().map(|(key, value)| (key, Value::Text(value))))),
        ])
    })?;
    Ok(())
}

/// Settings that are valid but probably a mistake.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings: Vec<String> = config.network.unused_words().collect();
    #[cfg(not(feature = "tipc"))]
    warnings.extend(interface_warnings(config));
    #[cfg(not(feature = "tipc"))]
    warnings.extend(peer_warnings(config));
    #[cfg(feature = "tipc")]
    warnings.extend(without_tipc().map(|error| error.to_string()));
    if config.security.is_unauthenticated {
        warnings.push("auth = \"none\": every machine on the network can command this node".to_owned());
    }
    warnings
}

/// Peers whose names do not resolve now or that cannot be sent to, and a node that speaks to nobody
/// of itself.
#[cfg(not(feature = "tipc"))]
fn peer_warnings(config: &Config) -> Vec<String> {
    let network = &config.network;
    let unresolved = network.peers.iter().filter_map(|peer| match &peer.host {
        PeerHost::Name(name) if address_of(name, &network.families).is_none() => Some(format!(
            "the peer {peer} has no address now: its name does not resolve to one of network.families. thimble asks \
             again until it does"
        )),
        _ => None,
    });
    let is_up = Interface::look_all(network)
        .is_ok_and(|seen| seen.iter().any(|link| link.state == InterfaceState::Up));
    let listed = network.peers.iter().filter(|_| is_up);
    let unreached = listed.filter_map(|peer| match &peer.host {
        PeerHost::Address(address) => {
            let error = unreachable(*address)?;
            Some(format!("the peer {peer} cannot be sent to now: {error}"))
        }
        PeerHost::Name(_) => None,
    });
    let is_mute = !network.is_multicast && network.peers.is_empty();
    let mute = is_mute.then(|| {
        "multicast = false and no peers: this node reaches only nodes that list it as a peer".to_owned()
    });
    unresolved.chain(unreached).chain(mute).collect()
}

/// Why the kernel would send no datagram to an address now.
#[cfg(not(feature = "tipc"))]
fn unreachable(address: IpAddr) -> Option<std::io::Error> {
    let any: IpAddr = match address {
        // The interface would have to be named.
        IpAddr::V6(address) if address.is_unicast_link_local() => return None,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((address, 1))).err()
}

/// Why this node could not be heard over each interface now. A daemon waits for it.
#[cfg(not(feature = "tipc"))]
fn interface_warnings(config: &Config) -> Vec<String> {
    let names = &config.network.interfaces;
    let seen = match Interface::look_all(&config.network) {
        Ok(seen) => seen,
        Err(error) => return vec![format!("{} cannot be looked at: {error}", names.join(", "))],
    };
    let warning = |(name, seen): (&String, &Interface)| match seen.state {
        InterfaceState::Up => None,
        InterfaceState::Missing => Some(format!(
            "this machine has no interface {name} now; it has {}. thimble waits until it is there",
            config::interfaces().join(", ")
        )),
        InterfaceState::Borrowed => Some(format!(
            "the interface {name} is {} now: datagrams go out from {}, where the answers then come in",
            seen.state.words(),
            seen.address
        )),
        InterfaceState::SameSubnet => Some(format!(
            "the interface {name} is {}, with {}: it is not used. Give each interface a subnet of its own, or bond \
             them",
            seen.state.words(),
            seen.address
        )),
        state if names.len() > 1 => Some(format!(
            "the interface {name} is {} now: it is used once it is up and has an address",
            state.words()
        )),
        state => Some(format!(
            "the interface {name} is {} now: no other node hears this one. thimble waits until it is up and has an \
             address",
            state.words()
        )),
    };
    names.iter().zip(&seen).filter_map(warning).collect()
}

/// The error that keeps TIPC from reaching other nodes now, if any.
#[cfg(feature = "tipc")]
fn without_tipc() -> Option<SocketError> {
    let socket = Socket::rdm().map_err(SocketError::from);
    match socket.and_then(|socket| Ok(socket.address()?)) {
        Err(error) => Some(error),
        Ok(own) => (own.node == 0).then_some(SocketError::NoBearer),
    }
}

/// The values in effect, and the node's identity and slots from the key file.
fn effective(config: &Config, keys: Option<&KeyFile>) -> Vec<(&'static str, String)> {
    let mut rows = config.shown();
    if let Some(keys) = keys {
        rows.push(("key file: cluster", keys.cluster.to_string()));
        rows.push(("key file: node id", keys.node.to_string()));
        rows.push(("key file: sends with slot", keys.send_slot.to_string()));
        let slots: Vec<String> = keys.accepted().map(|slot| slot.to_string()).collect();
        rows.push(("key file: accepts slots", slots.join(", ")));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_without_keys_and_an_absent_interface_are_warned_about() {
        let text = "[node]\nroles = [\"controller\"]\nhostname = \"c\"\n[network]\ninterface = \"nope0\"\n\
                    [security]\nauth = \"none\"\n\
                    trusted_keys = [\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"]\n";
        let config = Config::parse(text, "t").unwrap();
        let warnings = warnings(&config);
        assert!(warnings.last().unwrap().starts_with("auth = "));
        #[cfg(not(feature = "tipc"))]
        assert!(warnings[0].starts_with("this machine has no interface nope0 now; it has "));
        #[cfg(feature = "tipc")]
        assert_eq!(warnings.len(), 2 + usize::from(without_tipc().is_some()));
        #[cfg(feature = "tipc")]
        assert!(warnings[0].starts_with("network.interface is not used: "), "{}", warnings[0]);
        let rows = effective(&config, None);
        assert!(rows.contains(&("controller.max_hosts", "1024".to_owned())));
        assert!(rows.iter().all(|(key, _)| !key.starts_with("agent.")));
    }
}
