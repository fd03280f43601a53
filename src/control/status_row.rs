//! The rows of a `status` reply: the node, its hosts and patches in numbers, and its
//! workers.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::host_row::HostState;
use crate::fsm::ways::Way;
use crate::job::FloorFacts;
use crate::limits;
use crate::types::{Digest, Hostname, InterfaceState, NodeId, Reason, Text};

/// The node itself, for `status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StatusRow {
    /// This node's id.
    pub node: NodeId,
    /// Its hostname.
    pub hostname: Hostname,
    /// It is a controller.
    pub is_controller: bool,
    /// It is an agent.
    pub is_agent: bool,
    /// No keys: `auth = "none"`.
    pub is_unauthenticated: bool,
    /// The transport compiled in: `udp`.
    pub transport: Text<16>,
    /// TIPC's nodes and links, if that is the transport.
    pub tipc: Option<TipcRow>,
    /// The interfaces, if the transport has any.
    pub interfaces: InterfaceRows,
    /// thimble's version.
    pub version: Text<32>,
    /// Milliseconds since start.
    pub uptime_ms: u64,
    /// This start's incarnation.
    pub incarnation: u64,
    /// Controller: patches in the map, tombstones not counted.
    pub patches: u32,
    /// Controller: the digest of the map.
    pub repo_digest: Digest,
    /// Controller: its map's counter of changes.
    pub op_counter: u64,
    /// Controller: the start is over, and changes are accepted.
    pub is_started: bool,
    /// Controller: it lacks the file of a patch that hosts should have, so it calls no host
    /// current and asks none to install.
    pub is_incomplete: bool,
    /// Controller: patches whose files are missing.
    pub blobs_missing: u32,
    /// Controller: entries of the map, tombstones counted.
    pub entries: u32,
    /// Controller: the largest number of entries.
    pub entries_most: u32,
    /// Controller: entries of the map that are tombstones.
    pub tombstones: u32,
    /// Controller: tombstones up to this counter were purged.
    pub purge_floor: u64,
    /// Controller: known hosts.
    pub hosts: u32,
    /// Controller: the largest number of hosts.
    pub hosts_most: u32,
    /// Controller: hosts lost.
    pub hosts_lost: u32,
    /// Agent: patches installed.
    pub installed: u32,
    /// Agent: the digest of what is installed; zero while that is not known.
    pub installed_digest: Digest,
    /// Agent: what it is doing.
    pub agent_state: HostState,
    /// Agent: the reason of the last install's outcome.
    pub agent_reason: Reason,
    /// Agent: the install that is in place and waits for a controller.
    pub awaits: Option<AwaitsRow>,
    /// Running workers.
    pub workers: u32,
    /// Alerts: each a sentence that also says what to do.
    pub alerts: Vec<Reason, ALERT_ROWS, u8>,
    /// Bytes of tables and buffers, allocated at start.
    pub memory_bytes: u64,
    /// Test builds: allocations of the loop since start, less worker starts.
    pub loop_allocations: Option<u64>,
    /// How many more alerts there are.
    pub alerts_more: u32,
    /// Controller: its hosts by class.
    pub hosts_by: HostCounts,
    /// Controller: its patches by state.
    pub patches_by: PatchCounts,
    /// The wall clock: milliseconds since 1970.
    pub unix_ms: u64,
    /// How far the wall clock was set since the start, in milliseconds; negative: back.
    pub clock_step_ms: i64,
    /// Agent: the controller that it heard last.
    pub last_controller: Option<LastController>,
    /// The most resident memory that one of the ended workers had, or a script that it ran,
    /// in bytes; 0 before one has ended.
    pub worker_peak_bytes: u64,
    /// Controller: the floor in force among the applied patches.
    pub applied_floor: Option<FloorFacts>,
    /// Agent: the floor in force on this host.
    pub installed_floor: Option<FloorFacts>,
}

impl StatusRow {
    /// Agent: whether the installed set is known.
    #[must_use]
    pub fn has_known_set(&self) -> bool {
        self.installed_digest != Digest::default()
    }
}

/// The interfaces that a node uses, in the order of its configuration.
pub type InterfaceRows = Vec<InterfaceRow, { limits::LINKS }, u8>;

/// An interface that a node uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InterfaceRow {
    /// Its name.
    pub name: Text<16>,
    /// What it is fit for.
    pub state: InterfaceState,
    /// The sources of multicast that is sent by it; empty while there is none.
    pub address: Text<64>,
    /// Milliseconds since this is so, or since the daemon started.
    pub age_ms: u64,
    /// The last time in which it was not up: what it was, and for how many milliseconds.
    pub outage: Option<(InterfaceState, u64)>,
    /// How many nodes are heard by it; `None` where it is the only one.
    pub heard: Option<u32>,
    /// The configuration wants IPv6, which this kernel does not have or a sandbox forbids.
    pub is_without_ipv6: bool,
}

/// TIPC as this node sees it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TipcRow {
    /// This node's address in its TIPC cluster.
    pub address: u32,
    /// Its identity, as `tipc node get identity` shows it.
    pub identity: Text<32>,
    /// The topology service is connected and has reported all bound sockets.
    pub is_watching: bool,
    /// How often that connection was lost.
    pub gaps: u32,
    /// Subscriptions that it refused.
    pub set_aside: u32,
    /// Nodes that are up, this one among them.
    pub nodes_up: u32,
    /// Links to other nodes that are up.
    pub links_up: u32,
    /// The first nodes at their other ends.
    pub links: heapless::Vec<LinkRow, LINK_ROWS, u8>,
    /// Nodes that are bound and were not heard.
    pub unheard: heapless::Vec<UnheardRow, UNHEARD_ROWS, u8>,
    /// How many more of them there are.
    pub unheard_more: u32,
}

/// How many alerts a `status` lists; it counts the rest.
pub const ALERT_ROWS: usize = 8;

/// How many nodes with links to them a `status` lists.
pub const LINK_ROWS: usize = 16;

/// How many peers that are bound and not heard a `status` lists.
pub const UNHEARD_ROWS: usize = 8;

/// The links to one other node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkRow {
    /// Its address.
    pub node: u32,
    /// Its identity.
    pub identity: Text<32>,
    /// The links to it.
    pub ends: heapless::Vec<LinkEnds, { limits::TIPC_BEARERS }, u8>,
}

/// One of the links to a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkEnds {
    /// The bearers of its two ends, ours first: `eth0-eth1`.
    pub name: Text<32>,
    /// It is up. If not, another link to the node is.
    pub is_up: bool,
    /// Milliseconds since that is so, or since this daemon started.
    pub age_ms: u64,
}

/// A thimble that is bound and was not heard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnheardRow {
    /// It is bound as a controller, else as an agent.
    pub is_controller: bool,
    /// Its node's address.
    pub node: u32,
    /// Its socket's port there.
    pub port: u32,
    /// Milliseconds since it was reported.
    pub age_ms: u64,
}

/// The classes of hosts. The first six count each host once: as lost if it is, else as
/// installing, failed, and so on. The last two count hosts of these again: those that are
/// silent but not lost yet, and those that must restart.
pub const HOSTS_BY: [&str; 8] =
    ["current", "out_of_date", "installing", "failed", "lost", "unknown", "silent", "reboot_required"];

/// A class of hosts: an index into [`HOSTS_BY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as there")]
pub enum HostClass {
    Current,
    OutOfDate,
    Installing,
    Failed,
    Lost,
    Unknown,
    Silent,
    RebootRequired,
}

/// How many hosts are in each class of [`HOSTS_BY`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCounts(pub [u32; HOSTS_BY.len()]);

impl HostCounts {
    /// How many hosts are in this class.
    #[must_use]
    pub const fn get(&self, by: HostClass) -> u32 {
        self.0[by as usize]
    }

    /// Counts one host if `is_so`.
    pub const fn count(&mut self, by: HostClass, is_so: bool) {
        self.0[by as usize] += is_so as u32;
    }
}

/// The states by which patches are counted.
pub const PATCHES_BY: [&str; 3] = ["available", "applied", "committed"];

/// How many patches are in each state of [`PATCHES_BY`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchCounts(pub [u32; PATCHES_BY.len()]);

/// An install that is in place, and is undone if no controller is heard.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AwaitsRow {
    /// Milliseconds that it has waited.
    pub waited_ms: u64,
    /// Milliseconds that it waits.
    pub wait_ms: u64,
}

/// The controller that an agent heard last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastController {
    /// Its node id.
    pub node: NodeId,
    /// Its address.
    pub address: Text<48>,
    /// Milliseconds since its last message.
    pub age_ms: u64,
    /// By which way its last hello came, if the transport tells.
    pub way: Option<Way>,
}

/// A running worker, for `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerRow {
    /// What it does.
    pub work: WorkerTask,
    /// The other node that it works for or with, if there is one.
    pub node: Option<NodeId>,
    /// That node's hostname, if it is known.
    pub hostname: Hostname,
    /// Milliseconds since it started.
    pub age_ms: u64,
    /// Milliseconds since its last report.
    pub silent_ms: u64,
    /// That is longer than a worker with this task may be silent.
    pub is_stalled: bool,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerTask {
    /// Installs on this host, or recovers what an install left.
    Install,
    /// Reads the repository.
    Load,
    /// Changes the repository.
    Change,
    /// Sends patches to an agent.
    ServeAgent,
    /// Sends patch files to another controller.
    ServeController,
    /// Merges another controller's repository.
    Merge,
    /// Fetches patch files from another controller.
    Fetch,
    /// Answers `show`.
    Show,
    /// Reads the configuration again.
    Reload,
    /// Resolves the names of peers.
    Resolve,
    /// Sends a file to all hosts.
    Spread,
    /// Receives one.
    Receive,
}

impl WorkerTask {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Install,
        Self::Load,
        Self::Change,
        Self::ServeAgent,
        Self::ServeController,
        Self::Merge,
        Self::Fetch,
        Self::Show,
        Self::Reload,
        Self::Resolve,
        Self::Spread,
        Self::Receive,
    ];

    /// Its name, for scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Load => "load",
            Self::Change => "change",
            Self::ServeAgent => "serve-agent",
            Self::ServeController => "serve-controller",
            Self::Merge => "merge",
            Self::Fetch => "fetch",
            Self::Show => "show",
            Self::Reload => "reload",
            Self::Resolve => "resolve",
            Self::Spread => "spread",
            Self::Receive => "receive",
        }
    }

    /// For people, to complete `The worker that ..`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Install => "installs",
            Self::Load => "reads the repository",
            Self::Change => "changes the repository",
            Self::ServeAgent => "serves an agent",
            Self::ServeController => "serves another controller",
            Self::Merge => "merges another controller's repository",
            Self::Fetch => "fetches patch files",
            Self::Show => "shows patches",
            Self::Reload => "reads the configuration",
            Self::Resolve => "resolves the names of peers",
            Self::Spread => "sends a file to all hosts",
            Self::Receive => "receives a file that is sent to all hosts",
        }
    }
}
