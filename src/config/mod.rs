//! The configuration: reads and checks `thimble.toml` and the key file.

mod document;
#[cfg(feature = "udp")]
pub mod interface;
pub mod keys;
pub(crate) mod minisign_key;
pub mod peers;
mod private;
mod read;
mod sections;
mod shown;
mod sys;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::types::{Hostname, NodeId, NodeType, SwVersion};

pub use document::{ConfigError, Problem};
pub use peers::PeerName;
pub use private::{node_id_without_keys, write_new};
pub use read::trusted_key;
pub use shown::Difference;

pub(crate) use document::{ConfigSection, Document, name_of, nearest};

/// The default path of the configuration.
pub const CONFIG_PATH: &str = "/etc/thimble/thimble.toml";

/// The default path of the control socket.
pub const CONTROL_SOCKET: &str = "/run/thimble/control.sock";

/// The default path of the installer's socket.
pub const INSTALLER_SOCKET: &str = "/run/thimble-installer.sock";

/// The configuration of one node, every value checked and every default filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[node]`
    pub node: NodeConfig,
    /// `[network]`
    pub network: NetworkConfig,
    /// `[security]`
    pub security: SecurityConfig,
    /// `[controller]`
    pub controller: ControllerConfig,
    /// `[agent]`
    pub agent: AgentConfig,
    /// `[timers]`
    pub timers: Timers,
}

impl Config {
    /// Parses and checks a configuration; `file` is its name in errors. Reads the key
    /// files named in `trusted_keys`, but not the node's own.
    ///
    /// # Errors
    /// [`ConfigError`]: the first mistake, and where it is.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        read::config(text, file, true)
    }

    /// Reads and checks the configuration at `path`.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read, or the first mistake in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&text(path)?, &path.display().to_string())
    }

    /// As [`load`](Self::load), and returns the text too.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with_text(path: &Path) -> Result<(Self, String), ConfigError> {
        let text = text(path)?;
        Ok((Self::parse(&text, &path.display().to_string())?, text))
    }

    /// The configuration in effect in a daemon that started with one text and has
    /// reloaded another. `texts` is both, separated by a zero byte.
    ///
    /// # Errors
    /// [`ConfigError`]: a file that the latest text names no longer exists.
    pub fn held(texts: &str) -> Result<Self, ConfigError> {
        let file = "the daemon's configuration";
        match texts.split_once('\0') {
            None => Self::parse(texts, file),
            // The files that the first text names are not read again.
            Some((started, latest)) => {
                Ok(read::config(started, file, false)?.renewed(Self::parse(latest, file)?))
            }
        }
    }
}

/// The control socket's path in the configuration at `path`. Other sections are not
/// checked.
///
/// # Errors
/// [`ConfigError`]: the file cannot be read, or this key is wrong.
pub fn control_socket(path: &Path) -> Result<PathBuf, ConfigError> {
    read::control_socket(&text(path)?, &path.display().to_string())
}

/// The text of a configuration.
fn text(path: &Path) -> Result<String, ConfigError> {
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(limits::CONFIG_BYTES + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error: io::Error| {
        let sentence = match error.kind() {
            io::ErrorKind::NotFound => "there is no such configuration: write it (the sample thimble.toml \
                                        explains every key), or name another with --config PATH"
                .to_owned(),
            _ => format!("the configuration cannot be read: {error}; name another with --config PATH"),
        };
        ConfigError::file(&path.display().to_string(), sentence)
    })?;
    if text.len() as u64 > limits::CONFIG_BYTES {
        let sentence = format!("it is longer than {} bytes; is it a configuration?", limits::CONFIG_BYTES);
        return Err(ConfigError::file(&path.display().to_string(), sentence));
    }
    Ok(text)
}

/// The names of the interfaces in this thread's network namespace, sorted. Read from
/// /proc, because in a container /sys may be absent or show another namespace.
#[must_use]
pub fn interfaces() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let names = table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

/// `[node]`: who this node is.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// `roles` contains "controller".
    pub is_controller: bool,
    /// `roles` contains "agent".
    pub is_agent: bool,
    /// `state_dir`: identity, repository. Default `/var/lib/thimble`.
    pub state_dir: PathBuf,
    /// `control_socket`. Default `/run/thimble/control.sock`.
    pub control_socket: PathBuf,
    /// `installer_socket`: where the installer listens for a daemon that is not root. Default
    /// `/run/thimble-installer.sock`.
    pub installer_socket: PathBuf,
    /// `query_group`: members may query; root always may. None: every user may.
    pub query_group: Option<String>,
    /// `admin_group`: members may make changes; root always may.
    pub admin_group: Option<String>,
    /// `hostname`: default the kernel's.
    pub hostname: Hostname,
    /// `nodetype`: the kind of this host. Default "worker" ("controller" where it is one).
    pub nodetype: NodeType,
    /// `sw_version`: the release that runs. Required for an agent.
    pub sw_version: SwVersion,
}

impl NodeConfig {
    /// The id of `query_group`; `None` if every user may query.
    ///
    /// # Errors
    /// There is no such group.
    pub fn query_group(&self) -> Result<Option<u32>, String> {
        group(self.query_group.as_deref(), "node.query_group")
    }

    /// The id of `admin_group`; `None` if only root may make changes.
    ///
    /// # Errors
    /// There is no such group.
    pub fn admin_group(&self) -> Result<Option<u32>, String> {
        group(self.admin_group.as_deref(), "node.admin_group")
    }
}

/// A user of this system, and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

/// The user with this name, or with this number, whose group then has the same.
///
/// # Errors
/// There is no such user.
pub fn user(name: &str) -> Result<User, String> {
    let known = line_of("/etc/passwd", name)?
        .and_then(|line| Some(User { uid: field(&line, 2)?, gid: field(&line, 3)? }));
    let numbered = || name.parse().ok().map(|number| User { uid: number, gid: number });
    known
        .or_else(numbered)
        .ok_or_else(|| format!("{name}: there is no such user; make it, as docs/running.md shows"))
}

/// The line of a user or group in its file.
fn line_of(file: &str, name: &str) -> Result<Option<String>, String> {
    let all = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    Ok(all.lines().find(|line| line.split(':').next() == Some(name)).map(str::to_owned))
}

/// A number in such a line.
fn field(line: &str, at: usize) -> Option<u32> {
    line.split(':').nth(at)?.parse().ok()
}

/// The id of a group in the configuration.
fn group(name: Option<&str>, key: &str) -> Result<Option<u32>, String> {
    let Some(name) = name else { return Ok(None) };
    let number = line_of("/etc/group", name)?.and_then(|line| field(&line, 2));
    match number.or_else(|| name.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(format!("{key} = \"{name}\": there is no such group; make it with `addgroup {name}`")),
    }
}

/// A family of IP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Its name in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// That of an address.
    #[must_use]
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// `[network]`: how nodes are reached.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// `interface` or `interfaces`: one at least, at most [`LINKS`](crate::limits::LINKS). No
    /// default; the error lists the candidates. Not needed over TIPC.
    pub interfaces: Vec<String>,
    /// `controller_group`. Default 239.255.84.72.
    pub controller_group: Ipv4Addr,
    /// `controller_port`, UDP and TCP. Default 7488.
    pub controller_port: u16,
    /// `agent_group`. Default 239.255.84.73.
    pub agent_group: Ipv4Addr,
    /// `agent_port`, UDP and TCP. Default 7489.
    pub agent_port: u16,
    /// `families`: what of IP is used. Default IPv4 alone.
    pub families: Vec<Family>,
    /// `controller_group6`. Default ff15::54:48.
    pub controller_group6: Ipv6Addr,
    /// `agent_group6`. Default ff15::54:49.
    pub agent_group6: Ipv6Addr,
    /// `spread_group`, which hosts join while a file is sent to all of them. Default
    /// 239.255.84.74, or the next that is free.
    pub spread_group: Ipv4Addr,
    /// `spread_group6`. Default ff15::54:4a, or the next that is free.
    pub spread_group6: Ipv6Addr,
    /// `spread_port`, UDP. Default the agents' port and 1, or the next that is free.
    pub spread_port: u16,
    /// `ttl` of multicast datagrams. Default 1.
    pub ttl: u8,
    /// `multicast`: the groups are used. Default true.
    pub is_multicast: bool,
    /// `peers`: nodes that are sent to by unicast too. Default none.
    pub peers: Vec<PeerName>,
    /// `service_type`: the first of the five consecutive TIPC service types of a cluster.
    /// Default 7488. Used over TIPC only; the other keys are used over UDP only.
    pub service_type: u32,
    /// The keys that are set, and are of the other transport.
    pub unused: Vec<&'static str>,
}

impl NetworkConfig {
    /// The key that the interfaces stand under.
    #[must_use]
    pub fn interface_key(&self) -> &'static str {
        if self.interfaces.len() > 1 { "network.interfaces" } else { "network.interface" }
    }

    /// What is said of each key that is set and not used.
    pub fn unused_words(&self) -> impl Iterator<Item = String> {
        let why = match cfg!(feature = "tipc") {
            true => "this thimble is for TIPC, which uses the kernel's bearers (tipc bearer list)",
            false => "this thimble is for UDP",
        };
        self.unused.iter().map(move |key| format!("network.{key} is not used: {why}. Remove the line"))
    }
}

/// `[security]`: keys and trust.
#[derive(Clone, Debug)]
pub struct SecurityConfig {
    /// `key_file`: None only with `auth = "none"`.
    pub key_file: Option<PathBuf>,
    /// `auth = "none"`: a lab without keys.
    pub is_unauthenticated: bool,
    /// `trusted_keys`: minisign public keys, base64 lines.
    pub trusted_keys: Vec<String>,
    /// `revoked`: node ids that are refused.
    pub revoked: Vec<NodeId>,
    /// `min_sw_version`: an agent refuses to add patches for older releases.
    pub min_sw_version: Option<SwVersion>,
}

/// `[controller]`
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// `max_hosts`. Default 1,024, at most 16,384.
    pub max_hosts: usize,
    /// `spread_kbit_s`: the rate at which files are sent to all hosts, in bytes for a second; 0: a rollout
    /// sends none. Default 20,000 kbit/s.
    pub spread_rate: u64,
    /// `spread_least_bytes`: a rollout leaves smaller files to sessions. Default 1 MiB.
    pub spread_least_bytes: u64,
}

/// What sets labels if `relabel` does not say otherwise.
pub const RELABEL: [&str; 4] = ["restorecon", "-0", "-f", "-"];

/// `[agent]`
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// `root`: the tree that patches are laid over. Default `/`.
    pub root: PathBuf,
    /// `lock_file`: while it exists the node is locked, and patches that are not
    /// in-service may be installed (StarlingX: /var/run/.node_locked). None: no gate.
    pub lock_file: Option<PathBuf>,
    /// `script_timeout_s`: each script's time. Default 300.
    pub script_timeout_ms: u64,
    /// `reserve_bytes`: space that an install must leave free. Default 1 MiB.
    pub reserve_bytes: u64,
    /// `spread_cache_bytes`: room in `state_dir` for files that are sent to all hosts. 0: none are kept. Default
    /// 64 MiB.
    pub spread_cache_bytes: u64,
    /// `relabel`: a command that gives files their labels of SELinux, whose paths it reads, each
    /// with a zero byte behind it. `None`: [`RELABEL`], where SELinux is in use. Empty: none.
    pub relabel: Option<Vec<String>>,
}

/// `[timers]`, in milliseconds. The defaults are StarlingX's where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// `hello_interval_ms`: Hello and HelloAgent. Default 30,000.
    pub hello_interval_ms: u64,
    /// `probe_ms`: a node that missed its window is asked by unicast for so long, and is then
    /// lost. Default 3,000.
    pub probe_ms: u64,
    /// `hello_start_ms`: the interval of the three Hellos that a controller sends at its
    /// start. Default 1,000.
    pub hello_start_ms: u64,
    /// `controller_lost_ms`: a controller silent for this long is lost, whatever it was asked.
    /// Default 120,000.
    pub controller_lost_ms: u64,
    /// `sync_retry_ms`: SyncReq is sent again, and a merge that failed is tried
    /// again. Default 1,000.
    pub sync_retry_ms: u64,
    /// `sync_wait_ms`: the longest time that the reply to a change waits for the other
    /// controllers to have it. Default 5,000.
    pub sync_wait_ms: u64,
    /// `host_lost_ms`: a host silent for this long is lost, whatever it was asked. Default
    /// 3,600,000.
    pub host_lost_ms: u64,
    /// `query_timeout_ms`: connect and idle deadline of a detailed query. Default 5,000.
    pub query_timeout_ms: u64,
    /// `install_retry_ms`: AgentInstallReq is sent again. Default 2,000.
    pub install_retry_ms: u64,
    /// `install_give_up_ms`: an unanswered request, or an agent that fell silent
    /// in the middle of an install, is given up; and so is an agent's install with which it
    /// hears no controller. Default 120,000.
    pub install_give_up_ms: u64,
    /// `rejection_shown_ms`: how long a rejected install is shown. Default 60,000.
    pub rejection_shown_ms: u64,
    /// `session_proof_ms`: the time limit for each step until a stream session has proven its
    /// key; four times that over TIPC. Default 2,000.
    pub session_proof_ms: u64,
    /// `session_idle_ms`: the idle time limit of a proven session. Default 10,000.
    pub session_idle_ms: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            hello_interval_ms: 30_000,
            probe_ms: 3_000,
            hello_start_ms: 1_000,
            controller_lost_ms: 120_000,
            sync_retry_ms: 1_000,
            sync_wait_ms: 5_000,
            host_lost_ms: 3_600_000,
            query_timeout_ms: 5_000,
            install_retry_ms: 2_000,
            install_give_up_ms: 120_000,
            rejection_shown_ms: 60_000,
            session_proof_ms: 2_000,
            session_idle_ms: 10_000,
        }
    }
}
