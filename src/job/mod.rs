//! The jobs that the event loop gives to worker processes, and the reports that they
//! send back.
//!
//! Both are single postcard messages on a `SOCK_SEQPACKET` pair: the job is the first
//! message to the worker, and every message back is a report. Only `wait4` says how a
//! worker ended; a worker that ends without a final report has failed.

pub mod reporter;
mod source;
mod space;
mod spread;
mod sys;
mod system_error;

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::config::{NodeConfig, Timers};
use crate::limits;
use crate::repo::entry::{Entry, EntryState, Stamp};
use crate::repo::rollout::Rollout;
use crate::time::Day;
use crate::types::{
    ClusterId, Digest, Hash, Hostname, NodeId, NodeType, PatchId, Reason, RequestId, SwVersion, Text,
};
use crate::wire::frame::{InstalledPatch, Purpose};
use crate::wire::install::{InstallRequest, LastInstall, Step};
use crate::wire::keys::KeyRing;
use crate::wire::messages::{SpreadOffer, SpreadReport};
use crate::wire::session::SessionKeys;

pub use source::{BlobSource, FetchError, Fetched, Sink, Source};
pub use space::{NoInodes, Space};
pub use spread::{ReceiveJob, ReceiveState, SpreadInput, SpreadJob, SpreadState};
pub use sys::close_inherited;
pub use system_error::SystemError;

/// The patch ids of one command.
pub type PatchIds = Vec<PatchId, { limits::COMMAND_NAMES }, u8>;

/// The names of the files of one upload.
pub type FileNames = Vec<Text<64>, { limits::UPLOAD_FILES }, u8>;

/// One job for a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one job at a time, in a buffer of its own")]
pub enum Job {
    /// Agent, at start: undo or finish an install that a crash interrupted, then report
    /// what is installed.
    Recover {
        /// How the worker of that install ended, if a worker of this daemon did.
        stopped: Option<Reason>,
    },
    /// Agent: fetch over the session and install.
    Install {
        /// The request.
        request: InstallRequest,
        /// The proven session (socket at [`FIRST_FILE_FD`]).
        session: SessionKeys,
        /// Whose message commits it.
        witness: Witness,
    },
    /// Controller: check the store and report all entries.
    Load {
        /// The daemon has just started, so no other worker owns unfinished files.
        is_start: bool,
    },
    /// Controller: serve a session until it ends: manifests and blobs to an agent, blobs
    /// to another controller.
    Serve {
        /// The purpose of the session.
        purpose: Purpose,
        /// The proven session (socket at [`FIRST_FILE_FD`]).
        session: SessionKeys,
    },
    /// Controller: read another controller's map over the session, and merge it
    /// durably.
    Pull {
        /// All known controllers have the changes made here up to this counter: a change
        /// that replaces one of those was made with knowledge of it.
        agreed: u64,
        /// The proven session (socket at [`FIRST_FILE_FD`]).
        session: SessionKeys,
    },
    /// Controller: fetch the blobs that the store lacks over the session.
    Blobs(SessionKeys),
    /// Controller: drop all tombstones, durably, if the map still has this digest, which
    /// all other controllers have as well.
    Purge(Digest),
    /// Controller: remove a known controller that will not return, durably.
    DropController(NodeId),
    /// Controller: add patch files to the store. Each is a pair of descriptors, patch
    /// then signature, from [`FIRST_FILE_FD`] on.
    Upload {
        /// The names of the files, for messages; one for each pair.
        names: FileNames,
        /// As [`Change::renew`].
        renew: bool,
    },
    /// Controller: move entries to another state, durably.
    Change(Change),
    /// Controller: begin, stop, resume or end a rollout, durably.
    Rollout(RolloutChange),
    /// Read the configuration again, and write its text for later workers to the memory
    /// file at [`FIRST_FILE_FD`].
    Reload(ReloadJob),
    /// Ask the system for the addresses of the peers that the configuration lists by name.
    Resolve,
    /// Controller: answer a `show` on the control connection that is passed along.
    Show {
        /// The patches to show.
        ids: PatchIds,
        /// As JSON rather than text.
        json: bool,
    },
    /// Agent: end an install that awaits a controller. Commit it if one was heard, else undo
    /// it.
    Prove {
        /// A controller was heard.
        is_heard: bool,
    },
    /// Agent: fetch over the session what an installing worker asks for on the channel, and
    /// answer there. Started by that worker, without a configuration, which has keys: the
    /// session's socket is in its place, at [`CONFIG_FD`].
    Fetch {
        /// The proven session.
        session: SessionKeys,
        /// How long a pause of the session may be, in milliseconds.
        patience_ms: u64,
    },
    /// Controller: send a file to all hosts, by each of the sockets from [`FIRST_FILE_FD`] on.
    Spread(SpreadJob),
    /// Agent: receive a file that is sent to all hosts, by the socket at [`FIRST_FILE_FD`].
    Receive(ReceiveJob),
}

/// Whose message shows that a host is still there after an install.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Witness {
    /// Any controller's, received by the new thimble: the install replaced thimble itself.
    ToNewThimble,
    /// Any controller's.
    Any,
    /// Any other controller's than that of this node.
    Other,
}

/// The installer's answer to a request, the only one on its connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub enum InstallerReply {
    /// The worker has ended.
    Ended {
        /// Its wait status.
        status: i32,
        /// The most resident memory that it had, in bytes.
        peak_bytes: u64,
    },
    /// No worker was started, for this reason.
    Refused(Reason),
    /// No worker was started, since the installer runs another program file than the daemon.
    OtherProgram,
}

/// The descriptor of a worker's channel (job in, reports out).
pub const CHANNEL_FD: i32 = 3;
/// The descriptor of the configuration's text (a sealed memfd).
pub const CONFIG_FD: i32 = 4;
/// The descriptor of the session or control socket, or of the first file.
pub const FIRST_FILE_FD: i32 = 5;

/// The configuration's path, and the identity of this node, which must not change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadJob {
    /// The configuration's path.
    pub path: Text<{ limits::CONFIG_PATH_BYTES }>,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node's id.
    pub node: NodeId,
    /// Its keys.
    pub ring: KeyRing,
}

/// The settings that the event loop takes over from a configuration that was read again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The keys; `None` if they have not changed.
    pub ring: Option<KeyRing>,
    /// The nodes whose messages are refused.
    pub revoked: Vec<NodeId, { limits::REVOKED }>,
    /// `node.query_group`, by number.
    pub query_group: Option<u32>,
    /// `node.admin_group`, by number.
    pub admin_group: Option<u32>,
    /// The node's description of itself.
    pub node: NodeFacts,
    /// All timers.
    pub timers: Timers,
    /// `agent.script_timeout_s`, in milliseconds.
    pub script_timeout_ms: u64,
    /// `controller.spread_kbit_s`, in bytes for a second.
    pub spread_rate: u64,
    /// `controller.spread_least_bytes`.
    pub spread_least_bytes: u64,
    /// `agent.spread_cache_bytes`.
    pub spread_cache_bytes: u64,
}

/// A node's description of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Its hostname.
    pub hostname: Hostname,
    /// Its node type.
    pub nodetype: NodeType,
    /// The release that runs.
    pub sw_version: SwVersion,
}

impl From<&NodeConfig> for NodeFacts {
    fn from(node: &NodeConfig) -> Self {
        let NodeConfig { hostname, nodetype, sw_version, .. } = node.clone();
        Self { hostname, nodetype, sw_version }
    }
}

/// A change of entries' states.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The new state: `Applied`, `Available` (remove), `Deleted` or `Committed`.
    pub to: EntryState,
    /// The patches; empty means all that the change can apply to.
    pub ids: PatchIds,
    /// `Applied` and `Available`: also if hosts that have the floor in force would refuse it.
    pub below_floor: bool,
    /// Give the map a new replica first: other controllers are known, and none has shown
    /// since the start which changes of this one it has. The map may come from a backup,
    /// and no stamp may be used twice.
    pub renew: bool,
}

/// A change of the rollout.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RolloutChange {
    /// The new rollout; it gets its stamp when it is written.
    pub to: Rollout,
    /// The stamp of the rollout that it replaces: if the map has another one by now,
    /// nothing changes.
    pub instead_of: Option<Stamp>,
    /// As [`Change::renew`].
    pub renew: bool,
}

/// A floor, as far as it is watched for its age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorFacts {
    /// The floor.
    pub id: PatchId,
    /// Its serial.
    pub serial: u32,
    /// The last day before it is old.
    pub expires: Day,
}

/// What a failure means for a command's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefusalKind {
    /// A rule forbids it, or something failed: exit code 1.
    Refused,
    /// A signature or an archive did not verify: exit code 5.
    Verification,
    /// An install could be neither ended nor undone: exit code 1. Recovery must try again;
    /// until it succeeds, the host's files may be of two sets.
    Unfinished,
    /// The session to the controller broke before anything was changed: exit code 1. A host with
    /// several links begins another.
    SessionLost,
}

/// One report of a worker. To send a variant without fields, bind it to a variable first:
/// `&Report::Done` would become a constant in the binary, as large as the largest variant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one report at a time, in a buffer of its own")]
pub enum Report {
    /// The progress of an install.
    Progress {
        /// The step.
        step: Step,
        /// The percentage of the whole install, 0 to 100.
        percent: u8,
    },
    /// A line that the operator should read, such as a local change that was kept.
    Notice(Reason),
    /// One installed patch. A snapshot is these, then `InstalledEnd`.
    Installed(InstalledPatch),
    /// The snapshot is complete.
    InstalledEnd {
        /// The digest of the installed set.
        digest: Digest,
        /// The last request and its outcome.
        last: Option<LastInstall>,
        /// The floor in force.
        floor: Option<FloorFacts>,
    },
    /// This entry is durably in the map.
    Entry(Entry),
    /// This is durably the map's rollout.
    Rollout(Rollout),
    /// The result for one patch or file that a command named.
    Item(Reason),
    /// The job succeeded. The last report.
    Done,
    /// The job was refused or failed. The last report.
    Failed {
        /// What it means for the exit code.
        kind: RefusalKind,
        /// What happened and what to do.
        reason: Reason,
    },
    /// The identity of the store; the first report of `Load`.
    Store {
        /// The map's random name.
        replica: u64,
        /// The map's counter.
        counter: u64,
    },
    /// A blob that an entry names is missing from the store or not whole.
    BlobMissing {
        /// The file's hash.
        hash: Hash,
        /// Why fetching it failed; empty if it was not tried.
        reason: Reason,
    },
    /// A blob that was missing is in the store now.
    BlobHere {
        /// The file's hash.
        hash: Hash,
    },
    /// A file that is in the store is a floor.
    FloorHere {
        /// The file's hash.
        hash: Hash,
        /// Which one.
        floor: FloorFacts,
    },
    /// A known controller: one that must be present for a purge.
    Controller {
        /// Its node id.
        node: NodeId,
        /// Its hostname.
        hostname: Hostname,
    },
    /// This controller is no longer known.
    ControllerDropped(NodeId),
    /// The map's purge floor is at least this; tombstones up to it were dropped.
    Floor(u64),
    /// This entry was purged and is gone from the map.
    EntryPurged(PatchId),
    /// A change that the operator made here was replaced by one made elsewhere; a line
    /// that names both.
    Replaced(Reason),
    /// A configuration that was read again is valid; these settings apply from now on.
    Settings(Settings),
    /// The address of the peer with this number in the configuration, in the form of IPv6;
    /// unspecified if its name has none.
    Resolved {
        /// The number.
        at: u8,
        /// The address.
        address: [u8; 16],
    },
    /// A line with the configuration keys whose change needs a restart; empty if there are
    /// none.
    Waits(Reason),
    /// A merge is durable.
    Pulled {
        /// The digest of the entries that were received.
        digest: Digest,
        /// All of them were accepted that are greater than the map's own.
        is_whole: bool,
    },
    /// An install is in place, and is committed once a controller is heard. If it replaced
    /// thimble itself, its health scripts have not run yet.
    Awaited {
        /// The controller's number for it.
        request_id: RequestId,
        /// The controller that asked.
        controller: NodeId,
        /// Whose message commits it.
        witness: Witness,
    },
    /// To all agents: this is being sent.
    Offer(SpreadOffer),
    /// How far it is.
    Spread(SpreadState),
    /// To the controller that sends: what this host lacks.
    Lacks(SpreadReport),
    /// How far that is received.
    Receive(ReceiveState),
    /// The file that this thimble was started from has been replaced. The daemon must
    /// execute the new one, which continues what is under way.
    Superseded,
}
