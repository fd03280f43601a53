//! The control socket's protocol: the requests of commands and the daemon's replies.
//!
//! A message travels as a [`frame`]. One request at a time; each reply is a run of
//! [`Reply`]s that ends with [`Reply::End`] or [`Reply::Error`]. Both ends are the same
//! binary, so nothing here is frozen. Another version is refused with a message to
//! restart the daemon.

mod explain_row;
pub mod frame;
mod host_row;
mod ping_row;
mod spread_row;
mod status_row;
pub mod sys;

use heapless::Vec;
use serde::{Deserialize, Serialize};

pub use crate::fsm::controller::Currency;
pub use crate::fsm::presence::LossCause;
pub use crate::fsm::requests::RequestStatus;
use crate::fsm::rollout::Census;
pub use crate::fsm::ways::Way;
use crate::job::{FileNames, PatchIds, RefusalKind};
use crate::limits;
use crate::repo::entry::EntryState;
use crate::repo::rollout::RolloutState;
pub use crate::repo::state::PatchState;
use crate::types::{Hash, Hostname, NodeId, PatchId, Reason, SwVersion, Text};
pub use explain_row::{CarrierRow, ExplainedHost, Known, MissingFile, OpenRow, Patches, SilentRow};
pub use host_row::{HostFilter, HostRow, HostState};
pub use ping_row::PingRow;
pub use spread_row::{SpreadEnded, SpreadRow};
pub use status_row::{
    ALERT_ROWS, AwaitsRow, HOSTS_BY, HostClass, HostCounts, InterfaceRow, InterfaceRows, LastController,
    LinkEnds, LinkRow, PATCHES_BY, PatchCounts, StatusRow, TipcRow, UnheardRow, WorkerRow, WorkerTask,
};

/// This protocol's version: raised with every change.
pub const VERSION: u16 = 12;

/// Hosts of one command, as typed: a name, an address or a node id.
pub type HostNames = Vec<Hostname, { limits::COMMAND_NAMES }, u8>;

/// A command's request to the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one request at a time, in a buffer of its own")]
pub enum Request {
    /// Always first: the client's [`VERSION`]. Answered with `End` or `Error`.
    Hello {
        /// The client's version.
        version: u16,
    },
    /// Take patch files: two descriptors each (patch, signature) come with the
    /// request as `SCM_RIGHTS`, patch first.
    Upload {
        /// The names of the files, for messages; one for each pair.
        names: FileNames,
    },
    /// apply, remove, delete or commit. A command that changed something is answered when
    /// the change is durable here, and durable on all present controllers or after a time
    /// limit; a [`Reply::Line`] says which.
    Change {
        /// `Applied`, `Available` (remove), `Deleted` or `Committed`.
        to: EntryState,
        /// The patches; empty means all that the change can apply to (`apply --all`, `commit
        /// --all`).
        ids: PatchIds,
        /// Ignore lost hosts.
        force: bool,
        /// As [`Change::below_floor`](crate::job::Change::below_floor).
        below_floor: bool,
    },
    /// All patches in the map, as [`Reply::Patch`], sorted by id.
    Query,
    /// Descriptions from the patch files: [`Reply::Output`] chunks.
    Show {
        /// Which patches.
        ids: PatchIds,
        /// As JSON rather than text.
        json: bool,
    },
    /// Hosts as [`Reply::Host`], in no order. A host that is known from the first reply to
    /// the last is in the list.
    QueryHosts {
        /// Which hosts.
        filter: HostFilter,
    },
    /// The named hosts as [`Reply::Host`]; polled while installs run.
    Hosts {
        /// Which hosts.
        hosts: HostNames,
    },
    /// Why a host is as it is: [`Reply::Explained`].
    ExplainHost {
        /// Which host.
        host: Hostname,
    },
    /// The hosts on which a patch is not as it should be: they lack it, or have it still;
    /// [`Reply::Blob`] if its file is missing here, then [`Reply::Host`]s, in no order.
    HostsWithout {
        /// Which patch.
        id: PatchId,
    },
    /// [`Reply::Pinged`]: a host, and when it answered this connection's last ask.
    Ping {
        /// Which host.
        host: Hostname,
        /// Ask it first, by this way.
        ask: Option<Way>,
    },
    /// Start installs on hosts; answered with a [`Reply::Host`] each, then `End`.
    HostInstall {
        /// Which hosts.
        hosts: HostNames,
        /// Install even if the lock file forbids it.
        force: bool,
    },
    /// Forget a host; it returns with its next ack.
    DropHost {
        /// Which host.
        host: Hostname,
    },
    /// The daemon's status: [`Reply::Status`]; on a controller then [`Reply::Neighbour`]s,
    /// [`Reply::Blob`]s, [`Reply::Replaced`], the [`Reply::Host`]s that need attention and
    /// [`Reply::Rollout`]; then [`Reply::Spreading`] if there is something, [`Reply::Worker`]s and [`Reply::Counter`]s.
    Status,
    /// Drop the tombstones on all controllers. Allowed if every known controller is present
    /// and has the same repository.
    Purge,
    /// The last rollout: [`Reply::Rollout`], or nothing if there was none.
    Rollout,
    /// Bring all hosts to what is applied, a few at a time; the controllers drive it from
    /// then on. Answered as a change is.
    StartRollout {
        /// How many hosts install at once, at least 1.
        parallel: u16,
        /// Halt when this many hosts have failed; 0 for never.
        stop_after: u16,
        /// Install even if a host's lock file forbids it.
        force: bool,
    },
    /// Ask no further host. Answered as a change is.
    StopRollout,
    /// Resume a stopped rollout; hosts that failed are asked again. Answered as a change is.
    ResumeRollout,
    /// Send the files of these patches to all hosts at once, one after the other. Answered with [`Reply::Spreading`].
    Spread {
        /// Which patches.
        ids: PatchIds,
        /// Bytes for a second; 0: as the configuration says.
        rate: u64,
    },
    /// End what is sent so, and send none of what waits. Answered with [`Reply::Spreading`].
    StopSpread,
    /// How far that is: [`Reply::Spreading`].
    Spreading,
    /// Forget a controller that is gone for good.
    DropController {
        /// Which: its name or its node id.
        controller: Hostname,
    },
    /// Read configuration and key file again. A [`Reply::Line`] reports each change, and one
    /// the settings that take effect after a restart.
    Reload,
    /// The named patches that are in the repository, as [`Reply::Patch`], sorted by id.
    Patches {
        /// Which patches.
        ids: PatchIds,
    },
    /// A dry run of a [`Change`](Self::Change) to `Committed`:
    /// [`Reply::Commitment`], then a [`Reply::Patch`] for each patch that it would
    /// commit, sorted by id. Changes nothing.
    WouldCommit {
        /// As in the change.
        ids: PatchIds,
        /// As in the change.
        force: bool,
    },
    /// What these patches require: [`Reply::Required`], sorted by id.
    Requires {
        /// Which patches.
        ids: PatchIds,
        /// Include indirect requirements.
        is_recursive: bool,
    },
    /// The patches that require these directly: [`Reply::RequiredBy`], sorted by both ids.
    WhatRequires {
        /// Which patches.
        ids: PatchIds,
    },
}

/// A reply of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one reply at a time, in a buffer of its own")]
pub enum Reply {
    /// One patch.
    Patch(PatchRow),
    /// One host.
    Host(HostRow),
    /// One host, explained.
    Explained(ExplainedHost),
    /// A host that is asked for `thimble ping`.
    Pinged(PingRow),
    /// What is sent to all hosts at once, and received.
    Spreading(SpreadRow),
    /// The node itself.
    Status(StatusRow),
    /// A named count, for `status`: refusals, drops, restarts.
    Counter {
        /// Its name, as documented.
        name: Text<48>,
        /// Its value since the start.
        count: u64,
    },
    /// One line of a command's result: `X is now in the repository`.
    Line(Reason),
    /// Raw output to pass on.
    Output(Vec<u8, 2048, u16>),
    /// The request succeeded; nothing follows.
    End,
    /// The request failed; nothing follows.
    Error {
        /// What it means for the exit code.
        kind: ErrorKind,
        /// What happened, what it means, what to do.
        reason: Reason,
    },
    /// Another controller.
    Neighbour(NeighbourRow),
    /// A patch whose file is missing; at most [`BLOB_ROWS`] of them.
    Blob(BlobRow),
    /// A change made here that was replaced by one made elsewhere: a line with both. The
    /// most recent ones, in order.
    Replaced(Reason),
    /// The last rollout.
    Rollout(RolloutRow),
    /// A host that was not asked to install. Comes before the [`Reply::Host`]s.
    NotAsked {
        /// Which host.
        node: NodeId,
        /// An install is already running there.
        is_busy: bool,
        /// Its name and the reason.
        reason: Reason,
    },
    /// A running worker.
    Worker(WorkerRow),
    /// The result of a commit's dry run.
    Commitment {
        /// Hosts that have at least one of its patches: at their next install they delete the
        /// files that they keep to undo it.
        hosts: u32,
        /// Why the commit would be refused; empty if it would be done.
        refusal: Reason,
    },
    /// A patch that is required.
    Required {
        /// Its id.
        id: PatchId,
        /// Its state in the repository; `None` if it is not there.
        state: Option<EntryState>,
    },
    /// A patch that is required, and one that requires it.
    RequiredBy {
        /// The required patch.
        id: PatchId,
        /// The patch that requires it.
        by: PatchId,
    },
}

/// The last rollout: its state, and the known hosts by their part in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RolloutRow {
    /// Its number; a resumed rollout gets a new one.
    pub id: u64,
    /// Its state.
    pub state: RolloutState,
    /// The controller that drives it.
    pub carrier: NodeId,
    /// That controller's hostname; empty if it is not known.
    pub carrier_name: Hostname,
    /// This controller drives it.
    pub is_here: bool,
    /// This controller has just started and does not know all hosts yet.
    pub is_early: bool,
    /// How many hosts install at once.
    pub parallel: u16,
    /// It halts when this many hosts have failed; 0 for never.
    pub stop_after: u16,
    /// Install even if a host's lock file forbids it.
    pub force: bool,
    /// The hosts.
    pub hosts: Census,
}

/// How many missing patch files a `status` lists; those that hosts need come first.
pub const BLOB_ROWS: usize = 16;

/// How many hosts a `status` lists: failed ones first, then lost ones, then silent ones,
/// each group with the longest silent host first.
pub const HOST_ROWS: usize = 8;

/// What an error means for a command's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// Refused or failed: 1.
    Refused,
    /// Not permitted: 4.
    NotPermitted,
    /// A signature or an archive did not verify: 5.
    Verification,
    /// No answer in time: 6.
    TimedOut,
}

impl From<RefusalKind> for ErrorKind {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Refused | RefusalKind::Unfinished | RefusalKind::SessionLost => Self::Refused,
            RefusalKind::Verification => Self::Verification,
        }
    }
}

/// One patch, for `query`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PatchRow {
    /// Its id.
    pub id: PatchId,
    /// A host must restart after its install or removal.
    pub reboot_required: bool,
    /// The release it is for.
    pub sw_version: SwVersion,
    /// Its state in the repository.
    pub repo_state: EntryState,
    /// Its state on the hosts.
    pub patch_state: PatchState,
    /// BLAKE3 of its file.
    pub hash: Hash,
    /// Its file's size.
    pub size_bytes: u64,
    /// One line about it.
    pub summary: Text<{ limits::SUMMARY_BYTES }>,
    /// The patch that blocks it, if it is wanted and blocked.
    pub blocked_by: Option<PatchId>,
    /// Hosts that have it.
    pub hosts_with: u32,
    /// Hosts that it concerns.
    pub hosts_concerned: u32,
}

/// Another controller, for `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NeighbourRow {
    /// Its node id.
    pub node: NodeId,
    /// Its hostname; empty if it is not known.
    pub hostname: Hostname,
    /// The address of its last message; empty if there was none since the start.
    pub address: Text<48>,
    /// Milliseconds since its last message; `None` if there was none since the start.
    pub age_ms: Option<u64>,
    /// By which way its last message to all controllers came, if the transport tells.
    pub way: Option<Way>,
    /// It is lost, or was not heard since the start.
    pub is_lost: bool,
    /// Why it is lost, if it is.
    pub lost: Option<LossCause>,
    /// Its repository is the same: the digests are equal, and it is recorded as known, so
    /// that its loss is shown.
    pub is_synced: bool,
    /// Its counter of changes.
    pub op_counter: u64,
    /// How many patch files it lacks, as it last reported.
    pub blobs_missing: u32,
    /// What is wrong with it; empty if nothing is.
    pub trouble: Reason,
}

/// A patch whose file is missing, for `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BlobRow {
    /// The patch.
    pub id: PatchId,
    /// BLAKE3 of its file.
    pub hash: Hash,
    /// Hosts should have it: without the file, this controller is incomplete.
    pub is_wanted: bool,
    /// Why the last fetch failed; empty if none was tried.
    pub reason: Reason,
}
