//! What a driver tells the state machines besides messages: how sessions and
//! workers go. Everything slow comes back by this door.

use super::topology::PeerEvent;
use crate::time::Duration;
use crate::types::{Digest, NodeId, Reason, RequestId};
use crate::wire::frame::{DetailPage, InstalledPatch, Purpose};
use crate::wire::install::{LastInstall, Step};

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// A session that was asked for is open, and both ends have proven their key.
    SessionReady(NodeId, Purpose),
    /// The other end has no worker free.
    SessionBusy(NodeId, Purpose, Duration),
    /// A session that was asked for failed, or ended before its answer did.
    SessionFailed(NodeId, Purpose, &'e Reason),
    /// A page of a host's answer to a detailed query.
    DetailPage(NodeId, &'e DetailPage),
    /// The answer is complete.
    DetailEnd(NodeId),
    /// The agent's worker is at this step, this many percent through the whole.
    Progress(Step, u8),
    /// One patch of the snapshot of what is installed.
    Installed(&'e InstalledPatch),
    /// The snapshot is complete; what the journal says of the last install.
    InstalledEnd(Digest, Option<&'e LastInstall>),
    /// This install of this controller replaced thimble itself, and the new one that
    /// runs has to hear a controller before it is committed. Told by recovery, after
    /// the snapshot, and before health scripts run.
    ProofPending(RequestId, NodeId),
    /// The agent's worker ended: as its last report said, or with none.
    WorkerEnded(WorkerEnd<'e>),
    /// The worker that merges this controller's map ended: what is durably merged,
    /// or why nothing is.
    PullEnded(NodeId, Result<MergedMap, &'e Reason>),
    /// The worker that fetches blobs from this controller ended: what it got has
    /// been told before; or why it could not go on.
    BlobsEnded(NodeId, Result<(), &'e Reason>),
    /// The transport's topology service tells who is there.
    Topology(PeerEvent),
}

/// Another controller's map, as it was merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedMap {
    /// The digest of the entries that came.
    pub digest: Digest,
    /// All that came is here now, or something greater.
    pub is_whole: bool,
}

/// How the agent's worker ended.
#[derive(Clone, Copy, Debug)]
pub enum WorkerEnd<'e> {
    /// Its last report was "done".
    Done,
    /// Its last report was a failure, for this reason.
    Failed(&'e Reason),
    /// It ended without a last report, or could not be started.
    Crashed(&'e Reason),
}
