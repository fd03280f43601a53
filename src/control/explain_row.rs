//! A host with all that decides whether it is current, for `explain`.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{HostRow, RolloutRow};
use crate::types::{PatchId, Reason};

/// How many patches of a kind an explanation names; it counts the rest.
pub const NAMED: usize = 8;

/// Some patches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patches {
    /// The first ones by id.
    pub named: Vec<PatchId, NAMED, u8>,
    /// How many there are.
    pub count: u32,
}

impl Patches {
    /// Counts a patch, and names it while there is room.
    pub fn add(&mut self, id: &PatchId) {
        let _ = self.named.push(id.clone());
        self.count = self.count.saturating_add(1);
    }
}

/// Whether the controller knows which patches a host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known {
    /// It does.
    Yes,
    /// It is asking, or asks as soon as it may.
    Asking,
    /// It could not be told.
    Failed {
        /// How many times in a row.
        times: u8,
        /// When it asks again, in milliseconds from now.
        again_ms: u64,
    },
}

/// An install request that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRow {
    /// When it is sent again, in milliseconds from now; `None` for a request of another
    /// controller, which is followed only.
    pub again_ms: Option<u64>,
    /// When it is given up, in milliseconds from now, unless the host is heard before.
    pub gives_up_ms: u64,
}

/// A host that has missed its window and answers no ask yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilentRow {
    /// When it is asked again, in milliseconds from now.
    pub again_ms: u64,
    /// When it is lost unless it answers, in milliseconds from now.
    pub lost_ms: u64,
}

/// Another controller that carries the running rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarrierRow {
    /// Milliseconds since it was heard; `None` if it was not since this controller's start.
    pub heard_ms: Option<u64>,
    /// It is lost, or answers no ask yet.
    pub is_silent: bool,
    /// When this controller takes the rollout over from a silent one, in milliseconds from now;
    /// `None` if it cannot yet.
    pub takes_over_ms: Option<u64>,
}

/// What a controller lacks to say what a host should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingFile {
    /// The first patch whose file is missing.
    pub id: PatchId,
    /// Why its last fetch failed; empty if none was tried.
    pub reason: Reason,
}

/// A host, and what its state follows from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedHost {
    /// The host.
    pub row: HostRow,
    /// Whether it is known what the host has. The next three are empty unless it is.
    pub known: Known,
    /// Patches that it should have and lacks.
    pub lacks: Patches,
    /// Patches that it has and should not have.
    pub exceeds: Patches,
    /// How many patches it has that the repository does not know.
    pub foreign: u16,
    /// There are more kinds of hosts than thimble tells apart, and this is one of the rest.
    pub is_of_no_kind: bool,
    /// Its files may be of two sets: see its own status.
    pub is_unrecovered: bool,
    /// The install that it reports stands still.
    pub is_stalled: bool,
    /// The install request that is open.
    pub open: Option<OpenRow>,
    /// It does not answer, and is not lost yet.
    pub silent: Option<SilentRow>,
    /// The next round, in which all hosts are asked for an answer, in milliseconds from now.
    pub round_ms: u64,
    /// This controller has heard the other controllers since its start.
    pub is_started: bool,
    /// How long after its start this controller has asked all hosts twice, in milliseconds
    /// from now; 0 if it has.
    pub settles_ms: u64,
    /// This controller's own interface is not up.
    pub is_cut: bool,
    /// A file that this controller lacks and some host should have.
    pub missing: Option<MissingFile>,
    /// The last rollout.
    pub rollout: Option<RolloutRow>,
    /// Its carrier, if it runs and another controller carries it.
    pub carrier: Option<CarrierRow>,
}
