//! What a daemon tells of itself on the control socket: itself, how its hosts and
//! patches stand, its workers.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::host_row::HostState;
use crate::types::{Digest, Hostname, NodeId, Reason, Text};

/// What the daemon knows of itself, for `status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StatusRow {
    /// This node's id.
    pub node: NodeId,
    /// What it calls itself.
    pub hostname: Hostname,
    /// It is a controller.
    pub is_controller: bool,
    /// It is an agent.
    pub is_agent: bool,
    /// No keys: `auth = "none"`.
    pub is_unauthenticated: bool,
    /// The transport compiled in: `udp`.
    pub transport: Text<16>,
    /// Over TIPC: its nodes and links.
    pub tipc: Option<TipcRow>,
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
    /// Controller: it has merged with all that answered its start, and takes changes.
    pub is_started: bool,
    /// Controller: it lacks the file of a patch that hosts should have, so it calls
    /// no host current and asks none to install.
    pub is_incomplete: bool,
    /// Controller: patches whose files are not here.
    pub blobs_missing: u32,
    /// Controller: entries of the map, tombstones counted.
    pub entries: u32,
    /// Controller: for how many entries there is room.
    pub entries_most: u32,
    /// Controller: entries of the map that are tombstones.
    pub tombstones: u32,
    /// Controller: tombstones up to this counter were purged.
    pub purge_floor: u64,
    /// Controller: hosts known, and for how many there is room.
    pub hosts: u32,
    /// Controller: for how many hosts there is room.
    pub hosts_most: u32,
    /// Controller: hosts lost.
    pub hosts_lost: u32,
    /// Agent: patches installed.
    pub installed: u32,
    /// Agent: the digest of what is installed.
    pub installed_digest: Digest,
    /// Agent: what it does.
    pub agent_state: HostState,
    /// Agent: the last install's reason where it did not go well.
    pub agent_reason: Reason,
    /// Workers at work.
    pub workers: u32,
    /// Trouble to say first, each a sentence with what to do about it.
    pub alerts: Vec<Reason, ALERT_ROWS, u8>,
    /// Bytes of tables and buffers, allocated at start.
    pub memory_bytes: u64,
    /// Test builds: allocations of the loop since start, less worker starts.
    pub loop_allocations: Option<u64>,
    /// Troubles for which there was no place among them.
    pub alerts_more: u32,
    /// Controller: its hosts by how they stand.
    pub hosts_by: HostCounts,
    /// Controller: its patches by what the cluster wants of them.
    pub patches_by: PatchCounts,
    /// What the clock says: milliseconds since 1970.
    pub unix_ms: u64,
    /// By how much the clock was set since start, in milliseconds; below 0: back.
    pub clock_step_ms: i64,
    /// Agent: the controller that it heard last.
    pub last_controller: Option<LastController>,
}

/// TIPC as this node sees it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TipcRow {
    /// This node's address in its TIPC cluster.
    pub address: u32,
    /// Its identity, as `tipc node get identity` shows it.
    pub identity: Text<32>,
    /// The topology service is connected, and has told all that is bound.
    pub is_watching: bool,
    /// How often it was lost.
    pub gaps: u32,
    /// Subscriptions that it would not take.
    pub set_aside: u32,
    /// Nodes that are up, this one among them.
    pub nodes_up: u32,
    /// Links to other nodes that are up.
    pub links_up: u32,
    /// The first of these.
    pub links: heapless::Vec<LinkRow, LINK_ROWS, u8>,
    /// Nodes that are bound and were not heard.
    pub unheard: heapless::Vec<UnheardRow, UNHEARD_ROWS, u8>,
    /// Such for which there was no place.
    pub unheard_more: u32,
}

/// Troubles that a `status` tells; of more it says how many.
pub const ALERT_ROWS: usize = 8;

/// Links that a `status` names.
pub const LINK_ROWS: usize = 16;

/// Nodes bound and not heard that a `status` names.
pub const UNHEARD_ROWS: usize = 8;

/// A link that is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkRow {
    /// The address of the node at its other end.
    pub node: u32,
    /// That node's identity.
    pub identity: Text<32>,
    /// Milliseconds since it came up, or since this daemon started.
    pub age_ms: u64,
}

/// A thimble that is bound and was not heard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnheardRow {
    /// It is bound as a controller; else as an agent.
    pub is_controller: bool,
    /// Its node's address.
    pub node: u32,
    /// Its socket's port there.
    pub port: u32,
    /// Milliseconds since it was told of.
    pub age_ms: u64,
}

/// How hosts stand: the first six count each host once, as lost where it is, else as
/// installing, failed, and so on; then, of all these, those that are silent, though not
/// lost yet, and those that must restart.
pub const HOSTS_BY: [&str; 8] =
    ["current", "out_of_date", "installing", "failed", "lost", "unknown", "silent", "reboot_required"];

/// A place in [`HOSTS_BY`].
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

/// Hosts by how they stand, as [`HOSTS_BY`] names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCounts(pub [u32; HOSTS_BY.len()]);

impl HostCounts {
    /// How many stand like this.
    #[must_use]
    pub const fn get(&self, by: HostClass) -> u32 {
        self.0[by as usize]
    }

    /// One more, where `is_so`.
    pub const fn count(&mut self, by: HostClass, is_so: bool) {
        self.0[by as usize] += is_so as u32;
    }
}

/// What the cluster wants of patches.
pub const PATCHES_BY: [&str; 3] = ["available", "applied", "committed"];

/// Patches by what the cluster wants of them, as [`PATCHES_BY`] names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchCounts(pub [u32; PATCHES_BY.len()]);

/// A controller as an agent hears it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastController {
    /// Its node id.
    pub node: NodeId,
    /// Where it was heard.
    pub address: Text<48>,
    /// Milliseconds since.
    pub age_ms: u64,
}

/// A worker at work, for `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerRow {
    /// What it does.
    pub work: WorkerTask,
    /// For whom or with whom, where that is another node.
    pub node: Option<NodeId>,
    /// That node's name, where it is known.
    pub hostname: Hostname,
    /// Milliseconds since it began.
    pub age_ms: u64,
    /// Milliseconds since it said something.
    pub silent_ms: u64,
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
    /// Reads the configuration anew.
    Reload,
}

impl WorkerTask {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Install,
        Self::Load,
        Self::Change,
        Self::ServeAgent,
        Self::ServeController,
        Self::Merge,
        Self::Fetch,
        Self::Show,
        Self::Reload,
    ];

    /// In a word, for scripts.
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
        }
    }

    /// What one that does it does, for people: `The worker that ..`.
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
        }
    }
}
