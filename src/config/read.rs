//! The sections of `thimble.toml`: accepted values, defaults and consistency checks.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::document::{ConfigError, ConfigSection, Document};
use super::minisign_key::public_key;
use super::peers::{self, PeerHost, PeerName};
use super::sys;
use super::{
    AgentConfig, CONTROL_SOCKET, Config, ControllerConfig, Family, INSTALLER_SOCKET, NetworkConfig,
    NodeConfig, SecurityConfig, Timers,
};
use crate::limits;
use crate::types::{Hostname, NodeId, NodeType, SwVersion};

const SECTIONS: &[&str] = &["node", "network", "security", "controller", "agent", "timers"];
const NODE: &[&str] = &[
    "roles",
    "state_dir",
    "control_socket",
    "installer_socket",
    "query_group",
    "admin_group",
    "hostname",
    "nodetype",
    "sw_version",
];
const NETWORK: &[&str] = &[
    "interface",
    "interfaces",
    "controller_group",
    "controller_port",
    "agent_group",
    "agent_port",
    "families",
    "controller_group6",
    "agent_group6",
    "spread_group",
    "spread_group6",
    "spread_port",
    "ttl",
    "multicast",
    "peers",
    "service_type",
];
/// The keys of it that are used over TIPC; all others are used over UDP only.
const NETWORK_OF_TIPC: &[&str] = &["service_type"];
/// Types below 64 are reserved (linux/tipc.h: TIPC_RESERVED_TYPES). A cluster uses five
/// consecutive types.
const SERVICE_TYPES: std::ops::RangeInclusive<u64> = 64..=u32::MAX as u64 - 4;
const SECURITY: &[&str] = &["key_file", "auth", "trusted_keys", "revoked", "min_sw_version"];
const CONTROLLER: &[&str] = &["max_hosts", "spread_kbit_s", "spread_least_bytes"];
const AGENT: &[&str] =
    &["root", "lock_file", "script_timeout_s", "reserve_bytes", "spread_cache_bytes", "relabel"];
/// The highest rate, in kbit/s: 100 Gbit/s.
const SPREAD_KBIT_MOST: u64 = 100_000_000;
const TIMERS: &[&str] = &[
    "hello_interval_ms",
    "probe_ms",
    "hello_start_ms",
    "controller_lost_ms",
    "sync_retry_ms",
    "sync_wait_ms",
    "host_lost_ms",
    "query_timeout_ms",
    "install_retry_ms",
    "install_give_up_ms",
    "rejection_shown_ms",
    "session_proof_ms",
    "session_idle_ms",
];

/// The groups of IPv6: of the site, and of no registry (RFC 4291: the flag T).
const CONTROLLER_GROUP6: Ipv6Addr = Ipv6Addr::new(0xFF15, 0, 0, 0, 0, 0, 0x54, 0x48);
const AGENT_GROUP6: Ipv6Addr = Ipv6Addr::new(0xFF15, 0, 0, 0, 0, 0, 0x54, 0x49);

/// The groups of StarlingX. Its daemons crash on a datagram that is not JSON.
const STARLINGX_GROUPS: [Ipv4Addr; 2] = [Ipv4Addr::new(239, 1, 1, 3), Ipv4Addr::new(239, 1, 1, 4)];

/// Reads all sections, and the files of `trusted_keys` if `reads_keys`.
pub(super) fn config(text: &str, file: &str, reads_keys: bool) -> Result<Config, ConfigError> {
    let document = Document::parse(text, file, SECTIONS)?;
    let node = node(&document.section("node", NODE)?)?;
    let config = Config {
        network: network(&document.section("network", NETWORK)?)?,
        security: security(&document.section("security", SECURITY)?, reads_keys)?,
        controller: controller(&document.section("controller", CONTROLLER)?)?,
        agent: agent(&document.section("agent", AGENT)?)?,
        timers: timers(&document.section("timers", TIMERS)?)?,
        node,
    };
    Ok(config)
}

/// Reads only the control socket's path, for commands that need no more.
pub(super) fn control_socket(text: &str, file: &str) -> Result<PathBuf, ConfigError> {
    let document = Document::parse(text, file, SECTIONS)?;
    let socket = document.section("node", NODE)?.path("control_socket")?;
    Ok(socket.unwrap_or_else(|| PathBuf::from(CONTROL_SOCKET)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RoleName {
    Controller,
    Agent,
}

fn node(section: &ConfigSection<'_>) -> Result<NodeConfig, ConfigError> {
    let accepts = "\"controller\" or \"agent\"";
    let roles = section.list("roles", 2, accepts, |text| match text {
        "controller" => Some(RoleName::Controller),
        "agent" => Some(RoleName::Agent),
        _ => None,
    })?;
    if roles.is_empty() {
        return Err(section.missing("roles", "[\"controller\"], [\"agent\"] or both".to_owned()));
    }
    let is_controller = roles.contains(&RoleName::Controller);
    let is_agent = roles.contains(&RoleName::Agent);

    let sw_version: Option<SwVersion> = section.name("sw_version")?;
    if is_agent && sw_version.is_none() {
        let accepts = "the release of this host's base system, for example \"24.09\"; \
                       an agent refuses patches for another";
        return Err(section.missing("sw_version", accepts.to_owned()));
    }
    let nodetype = match section.name("nodetype")? {
        Some(nodetype) => nodetype,
        None => default_name(if is_controller { "controller" } else { "worker" }),
    };
    Ok(NodeConfig {
        is_controller,
        is_agent,
        state_dir: section.path("state_dir")?.unwrap_or_else(|| PathBuf::from("/var/lib/thimble")),
        control_socket: section.path("control_socket")?.unwrap_or_else(|| PathBuf::from(CONTROL_SOCKET)),
        installer_socket: section
            .path("installer_socket")?
            .unwrap_or_else(|| PathBuf::from(INSTALLER_SOCKET)),
        query_group: group_name(section, "query_group")?,
        admin_group: group_name(section, "admin_group")?,
        hostname: hostname(section)?,
        nodetype,
        sw_version: sw_version.unwrap_or_default(),
    })
}

fn default_name(name: &'static str) -> NodeType {
    NodeType::new(name).unwrap_or_default()
}

fn group_name(section: &ConfigSection<'_>, key: &str) -> Result<Option<String>, ConfigError> {
    section.parsed(key, "the name of a group of this system", |text| {
        let is_name = !text.is_empty() && !text.contains([':', ',', '\0', '\n']);
        is_name.then(|| text.to_owned())
    })
}

fn hostname(section: &ConfigSection<'_>) -> Result<Hostname, ConfigError> {
    if let Some(hostname) = section.name("hostname")? {
        return Ok(hostname);
    }
    let kernel = sys::hostname();
    Hostname::new(&kernel).map_err(|bad| {
        let accepts = format!("a hostname; the kernel's, {kernel:?}, is invalid: {bad}");
        section.missing("hostname", accepts)
    })
}

fn network(section: &ConfigSection<'_>) -> Result<NetworkConfig, ConfigError> {
    let interfaces = interfaces(section)?;
    let port = |key| -> Result<Option<u16>, ConfigError> {
        let port = section.integer(key, 1..=u64::from(u16::MAX))?;
        Ok(port.and_then(|port| u16::try_from(port).ok()))
    };
    let group = |key, default| -> Result<Ipv4Addr, ConfigError> {
        let group = section.group(key)?.unwrap_or(default);
        if STARLINGX_GROUPS.contains(&group) {
            let sentence = format!(
                "{group} belongs to StarlingX, whose daemons crash on foreign datagrams; \
                 choose another group"
            );
            return Err(section.conflict(key, sentence));
        }
        Ok(group)
    };
    let controller_group = group("controller_group", Ipv4Addr::new(239, 255, 84, 72))?;
    let agent_group = group("agent_group", Ipv4Addr::new(239, 255, 84, 73))?;
    let controller_group6 = section.group6("controller_group6")?.unwrap_or(CONTROLLER_GROUP6);
    let agent_group6 = section.group6("agent_group6")?.unwrap_or(AGENT_GROUP6);
    let controller_port = port("controller_port")?.unwrap_or(7488);
    let agent_port = port("agent_port")?.unwrap_or(7489);
    // A configuration that has given a default to something else holds as before: the next one is free.
    let mut free = (74..77).map(|last| Ipv4Addr::new(239, 255, 84, last));
    let free = free.find(|one| ![controller_group, agent_group].contains(one));
    let mut free6 = (0x4A..0x4D).map(|last| Ipv6Addr::new(0xFF15, 0, 0, 0, 0, 0, 0x54, last));
    let free6 = free6.find(|one| ![controller_group6, agent_group6].contains(one));
    let mut free_port = (1..=2).map(|more| agent_port.checked_add(more).unwrap_or(agent_port - more));
    let free_port = free_port.find(|one| *one != controller_port);
    let network = NetworkConfig {
        interfaces,
        spread_group: group("spread_group", free.unwrap_or(agent_group))?,
        spread_group6: section.group6("spread_group6")?.or(free6).unwrap_or(agent_group6),
        spread_port: port("spread_port")?.or(free_port).unwrap_or(agent_port),
        controller_group,
        controller_port,
        agent_group,
        agent_port,
        families: families(section)?,
        controller_group6,
        agent_group6,
        ttl: section.integer("ttl", 1..=255)?.and_then(|ttl| u8::try_from(ttl).ok()).unwrap_or(1),
        is_multicast: section.boolean("multicast")?.unwrap_or(true),
        peers: section.list("peers", limits::PEERS, peers::ACCEPTS, PeerName::parse)?,
        service_type: section
            .integer("service_type", SERVICE_TYPES)?
            .and_then(|service_type| u32::try_from(service_type).ok())
            .unwrap_or(7488),
        unused: NETWORK.iter().copied().filter(|key| section.has(key) && !is_used(key)).collect(),
    };
    let (of_controllers, of_agents) = ("the controllers' group", "the agents' group");
    let groups = [
        (network.agent_group == network.controller_group, "agent_group", "controller_group", of_controllers),
        (
            network.agent_group6 == network.controller_group6,
            "agent_group6",
            "controller_group6",
            of_controllers,
        ),
        (
            network.spread_group == network.controller_group,
            "spread_group",
            "controller_group",
            of_controllers,
        ),
        (
            network.spread_group6 == network.controller_group6,
            "spread_group6",
            "controller_group6",
            of_controllers,
        ),
        (network.spread_group == network.agent_group, "spread_group", "agent_group", of_agents),
        (network.spread_group6 == network.agent_group6, "spread_group6", "agent_group6", of_agents),
    ];
    are_different(section, &groups)?;
    for (at, peer) in network.peers.iter().enumerate() {
        if let Some(sentence) = peer.fault(&network.interfaces) {
            return Err(section.conflict("peers", sentence));
        }
        let is_same =
            |other: &PeerName| (&other.host, other.controller_port) == (&peer.host, peer.controller_port);
        if network.peers[..at].iter().any(is_same) {
            return Err(section.conflict("peers", format!("{peer} is listed twice; remove one of them")));
        }
        if let PeerHost::Address(address) = &peer.host
            && !network.families.contains(&Family::of(address))
        {
            let family = Family::of(address).as_str();
            let sentence =
                format!("{peer} is not reached without \"{family}\" in network.families; add it there");
            return Err(section.conflict("peers", sentence));
        }
    }
    let (of_controllers, of_agents) = ("the controllers' port", "the agents' port");
    let ports = [
        (network.agent_port == network.controller_port, "agent_port", "controller_port", of_controllers),
        (network.spread_port == network.controller_port, "spread_port", "controller_port", of_controllers),
        (network.spread_port == network.agent_port, "spread_port", "agent_port", of_agents),
    ];
    are_different(section, &ports)?;
    Ok(network)
}

/// Refuses two keys that have one value: whether they do, the keys, and whose the other is.
fn are_different(
    section: &ConfigSection<'_>,
    pairs: &[(bool, &'static str, &'static str, &str)],
) -> Result<(), ConfigError> {
    match pairs.iter().find(|(is_same, ..)| *is_same) {
        Some((_, key, other, whose)) => {
            Err(section.conflict_between(key, other, format!("{whose} is the same; the two must differ")))
        }
        None => Ok(()),
    }
}

/// The interfaces, by either key.
fn interfaces(section: &ConfigSection<'_>) -> Result<Vec<String>, ConfigError> {
    let accepts = "the name of a network interface";
    let several = section.list_if_set("interfaces", limits::LINKS, accepts, interface)?;
    let names = match section.parsed("interface", accepts, interface)? {
        Some(_) if several.is_some() => {
            let sentence =
                "interface is set too; keep one of the two: a list for several interfaces".to_owned();
            return Err(section.conflict_between("interfaces", "interface", sentence));
        }
        Some(one) => vec![one],
        None => several.unwrap_or_default(),
    };
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            let sentence = format!("{name} is listed twice; remove one of them");
            return Err(section.conflict("interfaces", sentence));
        }
    }
    // TIPC uses the kernel's bearers instead.
    if names.is_empty() && !cfg!(feature = "tipc") {
        let key = if section.has("interfaces") { "interfaces" } else { "interface" };
        return Err(section.missing(key, interface_choice()));
    }
    Ok(names)
}

/// The name of an interface.
fn interface(text: &str) -> Option<String> {
    let is_name = (1..=15).contains(&text.len()) && !text.contains(['/', ':', '\0']);
    is_name.then(|| text.to_owned())
}

/// Whether this program's transport uses a key of `[network]`.
fn is_used(key: &str) -> bool {
    NETWORK_OF_TIPC.contains(&key) == cfg!(feature = "tipc")
}

/// What of IP is used.
fn families(section: &ConfigSection<'_>) -> Result<Vec<Family>, ConfigError> {
    let accepts = "\"ipv4\" or \"ipv6\"";
    let read = |text: &str| Family::ALL.into_iter().find(|family| family.as_str() == text);
    let families = section.list_if_set("families", 2, accepts, read)?.unwrap_or_else(|| vec![Family::V4]);
    if families.is_empty() {
        return Err(section.missing("families", "[\"ipv4\"], [\"ipv6\"] or both".to_owned()));
    }
    Ok(families)
}

/// The accepted values of `interface` on this machine, for an error message.
fn interface_choice() -> String {
    match super::interfaces() {
        names if names.is_empty() => "the name of a network interface, but none was found".to_owned(),
        names => format!("the interface of the cluster's network; this machine has {}", names.join(", ")),
    }
}

fn security(section: &ConfigSection<'_>, reads_keys: bool) -> Result<SecurityConfig, ConfigError> {
    let auth = section.parsed("auth", "\"keys\", or \"none\" in a lab", |text| match text {
        "keys" => Some(false),
        "none" => Some(true),
        _ => None,
    })?;
    let is_unauthenticated = auth.unwrap_or(false);
    let key_file = section.path("key_file")?;
    match (&key_file, is_unauthenticated) {
        (Some(_), true) => {
            let sentence = "auth = \"none\" uses no key file; remove one of the two".to_owned();
            return Err(section.conflict("auth", sentence));
        }
        (None, false) => {
            let accepts = "an absolute path to this node's key file (thimble keygen makes one), \
                           unless auth = \"none\"";
            return Err(section.missing("key_file", accepts.to_owned()));
        }
        _ => {}
    }
    let accepts = "a minisign public key (the second line of its .pub file) or that file's absolute path";
    let trusted_keys =
        section.list("trusted_keys", limits::TRUSTED_KEYS, accepts, |text| Some(text.to_owned()))?;
    let trusted_keys =
        trusted_keys.into_iter().map(|text: String| if reads_keys { trusted_key(&text) } else { Ok(text) });
    let trusted_keys: Vec<String> = trusted_keys
        .collect::<Result<_, _>>()
        .map_err(|sentence| section.conflict("trusted_keys", sentence))?;
    if trusted_keys.is_empty() {
        let accepts = format!("a list with at least one item, each {accepts}");
        return Err(section.missing("trusted_keys", accepts));
    }
    Ok(SecurityConfig {
        key_file,
        is_unauthenticated,
        trusted_keys,
        revoked: section.list("revoked", limits::REVOKED, "a node id of 16 hex digits", NodeId::from_hex)?,
        min_sw_version: section.name("min_sw_version")?,
    })
}

/// The base64 line of a minisign public key, given as that line or as the path of a
/// `.pub` file.
///
/// # Errors
/// A sentence: the file cannot be read, or the text is not a key.
pub fn trusted_key(text: &str) -> Result<String, String> {
    let line = if Path::new(text).is_absolute() {
        let file = fs::read_to_string(text).map_err(|error| format!("{text} cannot be read: {error}"))?;
        let line = file.lines().find(|line| !line.starts_with("untrusted comment:"));
        line.unwrap_or_default().trim().to_owned()
    } else {
        text.to_owned()
    };
    match public_key(&line) {
        Some(_) => Ok(line),
        None if text.ends_with(".pub") && !Path::new(text).is_absolute() => {
            Err(format!("{text} looks like a key's file: it must exist, and be named by its absolute path"))
        }
        None => Err(format!(
            "{text} is neither a minisign public key (the second line of its .pub file) \
             nor the absolute path of a .pub file"
        )),
    }
}

fn controller(section: &ConfigSection<'_>) -> Result<ControllerConfig, ConfigError> {
    let max_hosts = section.integer("max_hosts", 1..=limits::HOSTS_MOST as u64)?;
    let max_hosts = max_hosts.and_then(|hosts| usize::try_from(hosts).ok());
    let spread_kbit_s = section.integer("spread_kbit_s", 0..=SPREAD_KBIT_MOST)?.unwrap_or(20_000);
    let least = section.integer("spread_least_bytes", 0..=limits::PATCH_FILE_BYTES)?;
    Ok(ControllerConfig {
        max_hosts: max_hosts.unwrap_or(limits::HOSTS_DEFAULT),
        spread_rate: spread_kbit_s * 1_000 / 8,
        spread_least_bytes: least.unwrap_or(1024 * 1024),
    })
}

fn agent(section: &ConfigSection<'_>) -> Result<AgentConfig, ConfigError> {
    Ok(AgentConfig {
        root: section.path("root")?.unwrap_or_else(|| PathBuf::from("/")),
        lock_file: section.path("lock_file")?,
        script_timeout_ms: section.integer("script_timeout_s", 1..=86_400)?.unwrap_or(300) * 1_000,
        reserve_bytes: section.integer("reserve_bytes", 0..=i64::MAX as u64)?.unwrap_or(1024 * 1024),
        spread_cache_bytes: section
            .integer("spread_cache_bytes", 0..=i64::MAX as u64)?
            .unwrap_or(64 * 1024 * 1024),
        relabel: section.list_if_set("relabel", limits::RELABEL_WORDS, "a word of a command", |text| {
            (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned())
        })?,
    })
}

fn timers(section: &ConfigSection<'_>) -> Result<Timers, ConfigError> {
    let default = Timers::default();
    let timer = |key, default| -> Result<u64, ConfigError> {
        Ok(section.integer(key, limits::TIMER_LEAST_MS..=limits::TIMER_MOST_MS)?.unwrap_or(default))
    };
    let timers = Timers {
        hello_interval_ms: timer("hello_interval_ms", default.hello_interval_ms)?,
        probe_ms: timer("probe_ms", default.probe_ms)?,
        hello_start_ms: timer("hello_start_ms", default.hello_start_ms)?,
        controller_lost_ms: timer("controller_lost_ms", default.controller_lost_ms)?,
        sync_retry_ms: timer("sync_retry_ms", default.sync_retry_ms)?,
        sync_wait_ms: timer("sync_wait_ms", default.sync_wait_ms)?,
        host_lost_ms: timer("host_lost_ms", default.host_lost_ms)?,
        query_timeout_ms: timer("query_timeout_ms", default.query_timeout_ms)?,
        install_retry_ms: timer("install_retry_ms", default.install_retry_ms)?,
        install_give_up_ms: timer("install_give_up_ms", default.install_give_up_ms)?,
        rejection_shown_ms: timer("rejection_shown_ms", default.rejection_shown_ms)?,
        session_proof_ms: timer("session_proof_ms", default.session_proof_ms)?,
        session_idle_ms: timer("session_idle_ms", default.session_idle_ms)?,
    };
    let longer = [
        ("host_lost_ms", timers.host_lost_ms, "hello_interval_ms", timers.hello_interval_ms),
        ("controller_lost_ms", timers.controller_lost_ms, "hello_interval_ms", timers.hello_interval_ms),
        ("install_give_up_ms", timers.install_give_up_ms, "install_retry_ms", timers.install_retry_ms),
    ];
    for (key, value, than_key, than) in longer {
        if value / 2 < than {
            let sentence = format!(
                "{value} is less than twice {than_key}, {than}: a single lost datagram would be enough"
            );
            return Err(section.conflict_between(key, than_key, sentence));
        }
    }
    Ok(timers)
}
