//! The control socket's protocol: what a command asks and what the daemon says.
//!
//! A message travels as a [`frame`]. One request at a time; each reply is a run of
//! [`Reply`]s that ends with [`Reply::End`] or [`Reply::Error`]. Both ends are the same
//! binary, so nothing here is frozen; a version that differs is refused with a word to
//! restart the daemon.

pub mod frame;
mod host_row;
mod status_row;
pub mod sys;

use heapless::Vec;
use serde::{Deserialize, Serialize};

pub use crate::fsm::controller::Currency;
pub use crate::fsm::presence::LossCause;
pub use crate::fsm::requests::RequestStatus;
use crate::fsm::rollout::Census;
use crate::job::{FileNames, PatchIds, RefusalKind};
use crate::limits;
use crate::repo::entry::EntryState;
use crate::repo::rollout::RolloutState;
pub use crate::repo::state::PatchState;
use crate::types::{Hash, Hostname, NodeId, PatchId, Reason, SwVersion, Text};
pub use host_row::{HostFilter, HostRow, HostState};
pub use status_row::{
    ALERT_ROWS, HOSTS_BY, HostClass, HostCounts, LastController, LinkRow, PATCHES_BY, PatchCounts, StatusRow,
    TipcRow, UnheardRow, WorkerRow, WorkerTask,
};

/// This protocol's version: raised with every change.
pub const VERSION: u16 = 4;

/// Hosts of one command, as typed: a name, an address or a node id.
pub type HostNames = Vec<Hostname, { limits::COMMAND_NAMES }, u8>;

/// What a command asks of the daemon.
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
        /// What the files were called, for messages. As many as there are pairs.
        names: FileNames,
    },
    /// apply, remove, delete, commit. One that changed something is answered once
    /// it is durable here, and either on all other controllers that are present or
    /// for so long not; a [`Reply::Line`] says which.
    Change {
        /// `Applied`, `Available` (remove), `Deleted` or `Committed`.
        to: EntryState,
        /// The patches; none means all that it can concern (`apply --all`, `commit
        /// --all`).
        ids: PatchIds,
        /// Go on although hosts are lost.
        force: bool,
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
    /// Hosts as [`Reply::Host`], in no order; each that is known all the while is
    /// among them.
    QueryHosts {
        /// Which.
        filter: HostFilter,
    },
    /// Only the named hosts as [`Reply::Host`]: polled while installs go on.
    Hosts {
        /// Which hosts.
        hosts: HostNames,
    },
    /// Start installs on hosts; answered with a [`Reply::Host`] each, then `End`.
    HostInstall {
        /// Which hosts.
        hosts: HostNames,
        /// Although the lock file says no.
        force: bool,
    },
    /// Forget a host; it returns with its next ack.
    DropHost {
        /// Which host.
        host: Hostname,
    },
    /// What the daemon knows of itself: [`Reply::Status`], then a controller's
    /// [`Reply::Neighbour`]s, [`Reply::Blob`]s, [`Reply::Replaced`] and the
    /// [`Reply::Host`]s to see to and its [`Reply::Rollout`], then [`Reply::Worker`]s and [`Reply::Counter`]s.
    Status,
    /// Drop the tombstones, everywhere: allowed while every controller known is
    /// present and has the same repository.
    Purge,
    /// The last rollout: [`Reply::Rollout`], or nothing where there was none.
    Rollout,
    /// Bring all hosts to what is applied, a few at a time; carried by the
    /// controllers from then on. Answered as a change is.
    StartRollout {
        /// Hosts at work at once, at least 1.
        parallel: u16,
        /// Stop once so many have failed; 0 for never.
        stop_after: u16,
        /// Although a host's lock file says no.
        force: bool,
    },
    /// Ask no further host. Answered as a change is.
    StopRollout,
    /// Go on with a rollout that was stopped, with hosts that failed as well.
    /// Answered as a change is.
    ResumeRollout,
    /// Forget a controller that is gone for good.
    DropController {
        /// Which: its name or its node id.
        controller: Hostname,
    },
    /// Read configuration and key file anew; a [`Reply::Line`] for each thing that has
    /// changed, and one for what waits for a restart.
    Reload,
    /// The named patches that are in the repository, as [`Reply::Patch`], sorted by id.
    Patches {
        /// Which patches.
        ids: PatchIds,
    },
    /// What a [`Change`](Self::Change) to `Committed` would come to:
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
        /// At however many removes, rather than themselves.
        is_recursive: bool,
    },
    /// What requires these patches itself: [`Reply::RequiredBy`], sorted by both ids.
    WhatRequires {
        /// Which patches.
        ids: PatchIds,
    },
}

/// What the daemon says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one reply at a time, in a buffer of its own")]
pub enum Reply {
    /// One patch.
    Patch(PatchRow),
    /// One host.
    Host(HostRow),
    /// The node itself.
    Status(StatusRow),
    /// A named count, for `status`: refusals, drops, restarts.
    Counter {
        /// Its name, as documented.
        name: Text<48>,
        /// How many since start.
        count: u64,
    },
    /// One line of a command's result: `X is now in the repository`.
    Line(Reason),
    /// Raw output to pass on.
    Output(Vec<u8, 2048, u16>),
    /// All is said, and it went well.
    End,
    /// It did not go well; nothing follows.
    Error {
        /// What it means for the exit code.
        kind: ErrorKind,
        /// What happened, what it means, what to do.
        reason: Reason,
    },
    /// Another controller.
    Neighbour(NeighbourRow),
    /// A patch whose file is not here; at most [`BLOB_ROWS`] of them.
    Blob(BlobRow),
    /// A change made here that was replaced by one made elsewhere: a line with
    /// both. The latest ones, the latest last.
    Replaced(Reason),
    /// The last rollout.
    Rollout(RolloutRow),
    /// A host that an install was not asked of. Comes before the [`Reply::Host`]s.
    NotAsked {
        /// Which host.
        node: NodeId,
        /// An install is under way there already.
        is_busy: bool,
        /// Its name, and why.
        reason: Reason,
    },
    /// A worker at work.
    Worker(WorkerRow),
    /// What a commit would come to.
    Commitment {
        /// Hosts that have one of its patches at least: these free at their next
        /// install what they keep to go back.
        hosts: u32,
        /// Why the commit would be refused; empty where it would be done.
        refusal: Reason,
    },
    /// A patch that is required.
    Required {
        /// Its id.
        id: PatchId,
        /// What the repository means to do with it; `None`: it is not there.
        state: Option<EntryState>,
    },
    /// A patch that is required, and one that requires it.
    RequiredBy {
        /// What was asked of.
        id: PatchId,
        /// What requires it.
        by: PatchId,
    },
}

/// The last rollout: how it stands, and the hosts known by their part in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RolloutRow {
    /// Its number; another each time that it is resumed.
    pub id: u64,
    /// How it stands.
    pub state: RolloutState,
    /// The controller that carries it.
    pub carrier: NodeId,
    /// What that is called; empty where it was never told.
    pub carrier_name: Hostname,
    /// That is this controller.
    pub is_here: bool,
    /// This controller does not know all hosts yet, since it has only started.
    pub is_early: bool,
    /// Hosts at work at once.
    pub parallel: u16,
    /// It stops once so many have failed; 0 for never.
    pub stop_after: u16,
    /// Although a host's lock file says no.
    pub force: bool,
    /// The hosts.
    pub hosts: Census,
}

/// Missing patch files that a `status` names: those that hosts need come first.
pub const BLOB_ROWS: usize = 16;

/// Hosts that a `status` names: failed ones first, then lost ones, then silent ones,
/// of these the longest unheard first.
pub const HOST_ROWS: usize = 8;

/// What an error means for a command's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// Refused or failed: 1.
    Refused,
    /// Not allowed to ask: 4.
    NotPermitted,
    /// A signature or an archive did not verify: 5.
    Verification,
    /// No answer in time: 6.
    TimedOut,
}

impl From<RefusalKind> for ErrorKind {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Refused => Self::Refused,
            RefusalKind::Verification => Self::Verification,
        }
    }
}

/// One patch, for `query`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PatchRow {
    /// Its id.
    pub id: PatchId,
    /// A host that gains or loses it must restart.
    pub reboot_required: bool,
    /// The release it is for.
    pub sw_version: SwVersion,
    /// What the cluster means to do with it.
    pub repo_state: EntryState,
    /// What hosts have of it.
    pub patch_state: PatchState,
    /// BLAKE3 of its file.
    pub hash: Hash,
    /// Its file's size.
    pub size_bytes: u64,
    /// One line about it.
    pub summary: Text<{ limits::SUMMARY_BYTES }>,
    /// It is wanted but not in the effective set, for lack of this patch.
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
    /// What it calls itself; empty where it was never met.
    pub hostname: Hostname,
    /// Where it was heard last; empty where it was not heard since the start.
    pub address: Text<48>,
    /// Milliseconds since it was heard last; `None` where it was not since the start.
    pub age_ms: Option<u64>,
    /// Unheard of for long, or since the start.
    pub is_lost: bool,
    /// Why it is lost, if it is.
    pub lost: Option<LossCause>,
    /// Its repository is ours: the digests are the same.
    pub is_synced: bool,
    /// Its counter of changes.
    pub op_counter: u64,
    /// Patches whose files are not there, as it told last.
    pub blobs_missing: u32,
    /// Why its repository cannot be merged; empty where nothing is the matter.
    pub trouble: Reason,
}

/// A patch whose file is not here, for `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BlobRow {
    /// The patch.
    pub id: PatchId,
    /// BLAKE3 of its file.
    pub hash: Hash,
    /// Hosts should have it: without the file, this controller is incomplete.
    pub is_wanted: bool,
    /// Why the file could not be had; empty where that was not tried yet.
    pub reason: Reason,
}
