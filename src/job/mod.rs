//! What the loop hands to a worker process, and what a worker reports back.
//!
//! Both are single postcard messages on a `SOCK_SEQPACKET` pair: the job is the
//! first message to the worker, reports are all that comes back. How a worker
//! ended is told by `waitpid` alone; a worker that ends without a final report
//! has failed.

pub mod reporter;
mod source;
mod system_error;

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::config::{NodeConfig, Timers};
use crate::limits;
use crate::repo::entry::{Entry, EntryState, Stamp};
use crate::repo::rollout::Rollout;
use crate::types::{
    ClusterId, Digest, Hash, Hostname, NodeId, NodeType, PatchId, Reason, RequestId, SwVersion, Text,
};
use crate::wire::frame::{InstalledPatch, Purpose};
use crate::wire::install::{InstallRequest, LastInstall, Step};
use crate::wire::keys::KeyRing;
use crate::wire::session::SessionKeys;

pub use source::{BlobSource, FetchError, Fetched, Source};
pub use system_error::SystemError;

/// Names of patches in one command.
pub type PatchIds = Vec<PatchId, { limits::COMMAND_NAMES }, u8>;

/// What the files of one upload were called.
pub type FileNames = Vec<Text<64>, { limits::UPLOAD_FILES }, u8>;

/// One piece of work for a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one job at a time, in a buffer of its own")]
pub enum Job {
    /// Agent, at start: undo or finish what a crash cut short, then report what
    /// is installed.
    Recover,
    /// Agent: fetch over the session and install the set with this digest.
    Install {
        /// What to install, and for whom.
        request: InstallRequest,
        /// The proven session (socket at [`FIRST_FILE_FD`]).
        session: SessionKeys,
    },
    /// Controller: check the store and report all entries.
    Load {
        /// The daemon has just started, so what is unfinished is nobody's.
        is_start: bool,
    },
    /// Controller: serve what the session is for until it ends: to an agent
    /// manifests and blobs, to another controller blobs.
    Serve {
        /// What the session is for.
        purpose: Purpose,
        /// The proven session (socket at [`FIRST_FILE_FD`]).
        session: SessionKeys,
    },
    /// Controller: read another controller's map over the session, and merge it
    /// durably.
    Pull {
        /// All known controllers have our changes up to this counter: what replaces
        /// one of those was made by somebody who knew it.
        agreed: u64,
        /// The proven session (socket at [`FIRST_FILE_FD`]).
        session: SessionKeys,
    },
    /// Controller: fetch the blobs that the store lacks over the session.
    Blobs(SessionKeys),
    /// Controller: drop all tombstones, durably, if the map still has this digest:
    /// all other controllers have it too.
    Purge(Digest),
    /// Controller: forget a controller that is gone for good, durably.
    DropController(NodeId),
    /// Controller: take patch files into the store. Each file is a pair of
    /// descriptors, patch then signature, from [`FIRST_FILE_FD`] on.
    Upload {
        /// What the files were called, for messages; as many as there are pairs.
        names: FileNames,
        /// As [`Change::renew`].
        renew: bool,
    },
    /// Controller: move entries to another state, durably.
    Change(Change),
    /// Controller: begin, stop, resume or end a rollout, durably.
    Rollout(RolloutChange),
    /// Read the configuration anew. What later workers are to read goes into the
    /// memory at [`FIRST_FILE_FD`].
    Reload(ReloadJob),
    /// Controller: answer a `show` on the control connection handed over.
    Show {
        /// The patches to show.
        ids: PatchIds,
        /// As JSON rather than text.
        json: bool,
    },
    /// Agent: end an install that replaced thimble itself, in the new one: commit it
    /// where a controller was heard, else undo it.
    Prove {
        /// One was.
        is_heard: bool,
    },
}

/// Where a worker finds its channel (job in, reports out).
pub const CHANNEL_FD: i32 = 3;
/// Where a worker finds the configuration's text (a sealed memfd).
pub const CONFIG_FD: i32 = 4;
/// Where a worker finds the session or control socket, or the first file.
pub const FIRST_FILE_FD: i32 = 5;

/// Where the configuration is, and who this node is.
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

/// What the loop takes up of a configuration that was read anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The keys; none where they have not changed.
    pub ring: Option<KeyRing>,
    /// Nodes that are refused.
    pub revoked: Vec<NodeId, { limits::REVOKED }>,
    /// `node.query_group`, by number.
    pub query_group: Option<u32>,
    /// `node.admin_group`, by number.
    pub admin_group: Option<u32>,
    /// What the node says of itself.
    pub node: NodeFacts,
    /// All times.
    pub timers: Timers,
    /// `agent.script_timeout_s`, in milliseconds.
    pub script_timeout_ms: u64,
}

/// What a node says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeFacts {
    /// What it is called.
    pub hostname: Hostname,
    /// Its kind.
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
    /// What is asked for: `Applied`, `Available` (remove), `Deleted` or
    /// `Committed`.
    pub to: EntryState,
    /// The patches; none means all that it can concern.
    pub ids: PatchIds,
    /// Give the map a new replica first. Other controllers are known and none has
    /// shown since the start what it has of ours: this map may have come out of a
    /// backup, and no stamp must be given out twice.
    pub renew: bool,
}

/// A change of the rollout.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RolloutChange {
    /// The rollout as it is to be; its stamp is given when it is written.
    pub to: Rollout,
    /// The stamp of the one that it replaces: where the map has another by now,
    /// nothing changes.
    pub instead_of: Option<Stamp>,
    /// As [`Change::renew`].
    pub renew: bool,
}

/// What a refusal of a change means for the command's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefusalKind {
    /// A rule said no, or something failed: exit code 1.
    Refused,
    /// A signature or an archive did not verify: exit code 5.
    Verification,
}

/// What a worker tells the loop. Where one without content is told, it has a name first:
/// `&Report::Done` alone would be a constant in the binary, as large as the largest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one report at a time, in a buffer of its own")]
pub enum Report {
    /// An install is at this step, this far through the whole.
    Progress {
        /// The step.
        step: Step,
        /// 0 to 100, of the whole install.
        percent: u8,
    },
    /// Something that the operator should read: a local change kept, a script's
    /// last words.
    Notice(Reason),
    /// One patch that is installed; a snapshot is these, then `InstalledEnd`.
    Installed(InstalledPatch),
    /// The snapshot is complete.
    InstalledEnd {
        /// The digest of the installed set.
        digest: Digest,
        /// The last request in the journal, and how it ended.
        last: Option<LastInstall>,
    },
    /// An entry is durably in the map like this.
    Entry(Entry),
    /// The map's rollout is durably this one.
    Rollout(Rollout),
    /// One named patch or file was dealt with, in this way.
    Item(Reason),
    /// The job is done. The last report of a worker that succeeded.
    Done,
    /// The job is refused or failed. The last report of a worker that did not.
    Failed {
        /// What it means for the exit code.
        kind: RefusalKind,
        /// What happened and what to do.
        reason: Reason,
    },
    /// How the store names itself; first report of `Load`.
    Store {
        /// The map's random name.
        replica: u64,
        /// The map's counter.
        counter: u64,
    },
    /// A blob that an entry names is not in the store, or not whole.
    BlobMissing {
        /// The file's hash.
        hash: Hash,
        /// Why it could not be had, where that was tried.
        reason: Reason,
    },
    /// A blob that was missing is in the store now.
    BlobHere {
        /// The file's hash.
        hash: Hash,
    },
    /// A controller that is known: one of those that must be present for a purge.
    Controller {
        /// Its node id.
        node: NodeId,
        /// What it calls itself.
        hostname: Hostname,
    },
    /// This controller is no longer known.
    ControllerDropped(NodeId),
    /// The map's purge floor is at least this, and the tombstones up to it are gone.
    Floor(u64),
    /// This entry is gone from the map, since it was purged elsewhere.
    EntryPurged(PatchId),
    /// The operator's change made here was replaced by one made elsewhere; a line
    /// with both.
    Replaced(Reason),
    /// A configuration that was read anew is whole and good; this holds from now on.
    Settings(Settings),
    /// Keys of the configuration that have changed and wait for a restart, in a line;
    /// empty where there are none.
    Waits(Reason),
    /// A merge is durable: of a map whose entries have this digest.
    Pulled {
        /// The digest of the entries that came.
        digest: Digest,
        /// All of them were taken, where they were greater than ours.
        is_whole: bool,
    },
    /// This install of this controller replaced thimble itself, and waits for the new
    /// one, which runs, to hear a controller. Health scripts are still to run.
    Awaited {
        /// The controller's number for it.
        request_id: RequestId,
        /// The controller that asked.
        controller: NodeId,
    },
    /// The file that this thimble was started from is another now: it is to be
    /// started in the daemon's place, and goes on with what is under way.
    Superseded,
}
