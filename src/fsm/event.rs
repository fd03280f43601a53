//! The input of the state machines besides messages: results of sessions and
//! workers, and reports of the topology service.

use super::topology::PeerEvent;
use crate::time::Duration;
use crate::types::{Digest, NodeId, Reason, RequestId};
use crate::wire::frame::{DetailPage, InstalledPatch, Purpose};
use crate::wire::install::{LastInstall, Step};
use crate::wire::messages::SpreadReport;

/// An event that the driver passes to the state machines.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// A requested session is open, and both ends have proven their key.
    SessionReady(NodeId, Purpose),
    /// The other end has no worker free.
    SessionBusy(NodeId, Purpose, Duration),
    /// A requested session failed, or ended before its answer was complete.
    SessionFailed(NodeId, Purpose, &'e Reason),
    /// A page of a host's answer to a detailed query.
    DetailPage(NodeId, &'e DetailPage),
    /// The answer is complete.
    DetailEnd(NodeId),
    /// The agent's worker is at this step, this many percent through the whole.
    Progress(Step, u8),
    /// One patch of the snapshot of what is installed.
    Installed(&'e InstalledPatch),
    /// The snapshot is complete. The second field is the journal's last install.
    InstalledEnd(Digest, Option<&'e LastInstall>),
    /// An install is in place, and waits for a controller's message. What came before was
    /// passed on before. If recovery reports it, then after the snapshot.
    ProofPending(PendingProof),
    /// The agent's worker ended.
    WorkerEnded(WorkerEnd<'e>),
    /// The worker that merges this controller's map ended: what is durably merged,
    /// or why nothing was merged.
    PullEnded(NodeId, Result<MergedMap, &'e Reason>),
    /// The worker that fetches blobs from this controller ended, or failed for this
    /// reason. Each blob that it got was reported before.
    BlobsEnded(NodeId, Result<(), &'e Reason>),
    /// The file that a controller sent to all hosts is sent, or was ended.
    SpreadEnded,
    /// The worker that receives such a file says what it lacks.
    Lacks(&'e SpreadReport),
    /// That worker has heard its sender last so long ago.
    Receiving(Duration),
    /// That worker has ended; whether it could not take the file.
    ReceivingEnded(bool),
    /// The transport's topology service reports a change.
    Topology(PeerEvent),
}

/// An install that is committed once a controller is heard, and undone otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingProof {
    /// The controller's number for it.
    pub request_id: RequestId,
    /// The controller that asked.
    pub controller: NodeId,
    /// How long it waits.
    pub wait: Duration,
    /// How often controllers are asked for a message; `None`: only as acks are due anyway.
    pub asks_every: Option<Duration>,
    /// The node whose messages do not count.
    pub except: Option<NodeId>,
}

/// Another controller's map, as it was merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedMap {
    /// The digest of the entries that came.
    pub digest: Digest,
    /// Every entry that came is in this controller's map now, or a greater one is.
    pub is_whole: bool,
}

/// How the agent's worker ended.
#[derive(Clone, Copy, Debug)]
pub enum WorkerEnd<'e> {
    /// Its last report was "done".
    Done,
    /// Its last report was a failure, for this reason.
    Failed(&'e Reason),
    /// The same, and an install is left that must be recovered: the host's files may be of
    /// two sets.
    Unfinished(&'e Reason),
    /// The same: the session broke, and nothing was changed.
    SessionLost(&'e Reason),
    /// It ended without a last report.
    Crashed(&'e Reason),
    /// It could not be started: nothing was done.
    NotStarted(&'e Reason),
}
