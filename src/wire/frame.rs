//! The frames of an open stream session.
//!
//! A frame is `length u16 | body | tag 16`. The body is a postcard [`Frame`]; the tag is
//! keyed BLAKE3 over the frame's counter, its length and its body. The bytes of a blob
//! follow its [`Frame::Blob`] without frames, because its hash is already known. New
//! variants are only appended.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::repo::entry::Entry;
use crate::repo::rollout::Rollout;
use crate::types::{Digest, Hash, Hostname, NodeId, NodeType, PatchId, Reason, SwVersion};

/// The purpose of a session, chosen by the end that opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// A controller asks an agent what is installed (messages 7 and 8).
    QueryDetailed,
    /// An agent fetches a manifest and blobs from a controller.
    Fetch,
    /// A controller reads another's repository map.
    Pull,
    /// A controller fetches blobs that it lacks from another.
    Blobs,
}

impl Purpose {
    /// The roles of the two ends: of the one that opens the session, and of the one that
    /// accepts it.
    #[must_use]
    pub const fn roles(self) -> (Role, Role) {
        match self {
            Self::QueryDetailed => (Role::Controller, Role::Agent),
            Self::Fetch => (Role::Agent, Role::Controller),
            Self::Pull | Self::Blobs => (Role::Controller, Role::Controller),
        }
    }
}

/// A role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Keeps the repository.
    Controller,
    /// Installs patches on its host.
    Agent,
}

/// One patch of a manifest, which lists the effective set of a kind of host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPatch {
    /// Its id.
    pub id: PatchId,
    /// BLAKE3 of its file.
    pub hash: Hash,
    /// Its file's size.
    pub size_bytes: u64,
    /// It is committed, so the files that it replaced need not be kept.
    pub committed: bool,
}

/// One patch that is installed on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledPatch {
    /// Its id.
    pub id: PatchId,
    /// BLAKE3 of its file.
    pub hash: Hash,
}

/// A page of message 8, `QueryDetailedResp`: one snapshot in several frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetailPage {
    /// The snapshot's number; pages of different snapshots do not mix.
    pub query_id: u64,
    /// The digest of the whole installed set.
    pub installed_digest: Digest,
    /// The host's kind.
    pub nodetype: NodeType,
    /// The release that runs.
    pub sw_version: SwVersion,
    /// Installed patches, sorted by id, this page's part of them.
    pub installed: Vec<InstalledPatch, { limits::PAGE_PATCHES }, u8>,
}

/// A frame's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one frame at a time, in a buffer of its own")]
pub enum Frame {
    /// The first frame of each side: sender, receiver and purpose.
    Open {
        /// The sender's role.
        role: Role,
        /// Its node id.
        node: NodeId,
        /// The node id of the intended peer; zero if the sender cannot know it.
        peer: NodeId,
        /// The session's purpose; the accepting end repeats it.
        purpose: Purpose,
    },
    /// No worker is free: try again after this time.
    Busy {
        /// How long to wait, in milliseconds.
        retry_after_ms: u32,
    },
    /// Message 7.
    QueryDetailed,
    /// Message 8, a page of it; `End` follows the last.
    QueryDetailedResp(DetailPage),
    /// Requests the effective set with this digest.
    ManifestReq {
        /// The digest that the install request named.
        digest: Digest,
        /// The kind of the host that asks.
        nodetype: NodeType,
    },
    /// A page of a manifest, in layer order; `End` follows the last.
    ManifestPage {
        /// This page's patches.
        patches: Vec<ManifestPatch, { limits::PAGE_PATCHES }, u8>,
    },
    /// Requests a patch file from an offset on.
    BlobReq {
        /// BLAKE3 of the file.
        hash: Hash,
        /// The first byte wanted.
        offset: u64,
    },
    /// A patch file from an offset on: its signature, then that many raw bytes.
    Blob {
        /// Raw bytes that follow this frame.
        len_bytes: u64,
        /// The detached signature, a whole `.minisig` file.
        signature: Vec<u8, { limits::SIGNATURE_BYTES }, u16>,
    },
    /// The end of an answer, and after the last answer, of the session.
    End,
    /// The request is refused.
    Refused {
        /// Why, for the operator.
        reason: Reason,
    },
    /// Requests the repository map. The answer is `MapHead`, each `MapEntry`, `MapRollout` if
    /// there is one, then `End`.
    MapReq,
    /// The beginning of a repository map.
    MapHead {
        /// The hostname of the controller that sends it.
        hostname: Hostname,
        /// Its purge floor; see [`Map::floor`](crate::repo::map::Map::floor).
        floor: u64,
    },
    /// One entry of a repository map, in any order.
    MapEntry(Entry),
    /// The rollout of a repository map.
    MapRollout(Rollout),
    /// Requests a part of a patch file, for a host that has the rest. The answer is as that to `BlobReq`.
    BlobPartReq {
        /// BLAKE3 of the file.
        hash: Hash,
        /// The first byte wanted.
        offset: u64,
        /// How many are wanted.
        len_bytes: u64,
    },
}
