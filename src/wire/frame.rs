//! What is said over a stream session, once it is open.
//!
//! A frame is `length u16 | body | tag 16`, the body a postcard [`Frame`], the
//! tag keyed BLAKE3 over the frame's counter, its length and its body. A blob's
//! bytes follow their [`Frame::Blob`] raw: its hash is known beforehand.
//! Variants are only ever appended.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::repo::entry::Entry;
use crate::repo::rollout::Rollout;
use crate::types::{Digest, Hash, Hostname, NodeId, NodeType, PatchId, Reason, SwVersion};

/// What the end that opened a session wants of it.
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
    /// The roles of the two ends: of the one that opens the session, and of the one
    /// that accepts it.
    #[must_use]
    pub const fn roles(self) -> (Role, Role) {
        match self {
            Self::QueryDetailed => (Role::Controller, Role::Agent),
            Self::Fetch => (Role::Agent, Role::Controller),
            Self::Pull | Self::Blobs => (Role::Controller, Role::Controller),
        }
    }
}

/// The role in which a node speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Keeps the repository.
    Controller,
    /// Installs patches on its host.
    Agent,
}

/// One patch of a manifest: of the effective set for a kind of host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPatch {
    /// Its id.
    pub id: PatchId,
    /// BLAKE3 of its file.
    pub hash: Hash,
    /// Its file's size.
    pub size_bytes: u64,
    /// It is never to be removed; what it displaced need not be kept.
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

/// Everything that is said in frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one frame at a time, in a buffer of its own")]
pub enum Frame {
    /// First frame of each side: who speaks, to whom, what for.
    Open {
        /// The role of the end that says it.
        role: Role,
        /// Its node id.
        node: NodeId,
        /// The node id that it means to talk to; zero where it cannot know.
        peer: NodeId,
        /// What the session is for; the accepting end repeats it.
        purpose: Purpose,
    },
    /// No worker is free: come back after this time.
    Busy {
        /// How long to wait, in milliseconds.
        retry_after_ms: u32,
    },
    /// Message 7.
    QueryDetailed,
    /// Message 8, a page of it; `End` follows the last.
    QueryDetailedResp(DetailPage),
    /// Asks for the effective set with this digest.
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
    /// Asks for a patch file from an offset on.
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
    /// The end of an answer, and where it was the last one, of the session.
    End,
    /// The request cannot be met.
    Refused {
        /// Why, for the operator.
        reason: Reason,
    },
    /// Asks for the repository map: `MapHead`, each `MapEntry`, `MapRollout` where
    /// there is one, then `End`.
    MapReq,
    /// How a repository map begins.
    MapHead {
        /// What the controller that it comes from calls itself.
        hostname: Hostname,
        /// Its purge floor; see [`Map::floor`](crate::repo::map::Map::floor).
        floor: u64,
    },
    /// One entry of a repository map, in no order that matters.
    MapEntry(Entry),
    /// The rollout of a repository map.
    MapRollout(Rollout),
}
