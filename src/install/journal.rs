//! The journal of an install: enough to undo it, or to know that it is finished.
//!
//! The file `.thimble/journal` exists while an install is under way. It is a sequence of
//! frames `length u32 LE | checksum 8 | postcard`. Each frame is synced before the step
//! that it announces begins. Reading stops at a frame that a power cut tore: its step
//! had not begun. Space is preallocated, so that neither announcing nor undoing can meet
//! a full disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::error::{ErrorContext, InstallError, is_full};
use super::plan::Moves;
use super::scripts::Script;
use super::{spare, sys};
use crate::failpoint;
use crate::types::{Digest, PatchId};
use crate::wire::install::InstallRequest;

/// The journal's name in `.thimble`.
pub(super) const NAME: &str = "journal";
/// The name of a journal that is being made.
pub(super) const DRAFT: &str = "journal.next";
const CHECKSUM_BYTES: usize = 8;
/// Space for all frames but those of scripts.
const FRAMES_BYTES: u64 = 8 * 1024;
/// Space for one script's frame, with the longest patch id.
const SCRIPT_FRAME_BYTES: u64 = 128;

/// One entry of a journal. The order of the variants is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum JournalEntry {
    /// An install was requested; the tree has not changed yet.
    Begin(InstallRequest),
    /// It is planned. From here on it is undone unless it is committed.
    Intent(Intent),
    /// A phase begins.
    Phase(JournalPhase),
    /// A script of a patch starts.
    Script(PatchId, Script),
    /// The previous set comes back, for this reason.
    Undoing(String),
    /// The previous set's files are back.
    Restored,
    /// The scripts that belong to going back have run.
    Undone {
        /// The first failure among the previous set's scripts.
        failure: Option<String>,
    },
    /// A guard lets the new thimble start once more.
    Start,
    /// The health scripts have passed in the new thimble. After `AwaitReboot`: the
    /// previous set can no longer come back, whether the new one is healthy or not.
    Healthy,
    /// The commit follows, in the boot with this id. The previous record is kept until
    /// the health scripts have run after the host's restart.
    AwaitReboot(String),
    /// The host has restarted since.
    Restarted,
}

/// The plan of an install.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    /// The serial of the new record.
    pub serial: u64,
    /// The digest of the previous set.
    pub old: Digest,
    /// The digest of the new set.
    pub new: Digest,
    /// A patch that is added or removed requires a restart of the host.
    pub reboot_required: bool,
    /// The summary of local changes that a successful install reports.
    pub local_changes: String,
    pub moves: Moves,
}

/// The phases of an install that touch the tree, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum JournalPhase {
    PreScripts,
    Switching,
    PostScripts,
    Health,
    /// thimble itself was replaced and everything is switched. The new thimble must run
    /// the health scripts and hear a controller. Old and new both write entries from
    /// here on, so each must be able to read the other's.
    AwaitSelf,
}

/// The state of an install, as its journal's entries say.
#[derive(Clone, Debug, Default)]
pub(super) struct JournalState {
    pub request: Option<InstallRequest>,
    pub intent: Option<Intent>,
    pub phase: Option<JournalPhase>,
    pub scripts: Vec<(PatchId, Script)>,
    pub undoing: Option<String>,
    pub is_restored: bool,
    /// Undone; inside, the first failure of a script.
    pub undone: Option<Option<String>>,
    /// How often a guard let the new thimble start once more.
    pub starts: u32,
    pub is_healthy: bool,
    /// The id of the boot in which a set was committed that waits for a restart.
    pub boot: Option<String>,
    /// The host has restarted since that boot.
    pub is_restarted: bool,
}

impl JournalState {
    fn apply(&mut self, entry: JournalEntry) {
        match entry {
            JournalEntry::Begin(request) => self.request = Some(request),
            JournalEntry::Intent(intent) => self.intent = Some(intent),
            JournalEntry::Phase(phase) => self.phase = Some(phase),
            JournalEntry::Script(patch, script) => self.scripts.push((patch, script)),
            JournalEntry::Undoing(reason) => self.undoing = Some(reason),
            JournalEntry::Restored => self.is_restored = true,
            JournalEntry::Undone { failure } => self.undone = Some(failure),
            JournalEntry::Start => self.starts = self.starts.saturating_add(1),
            JournalEntry::Healthy => self.is_healthy = true,
            // Health is checked again after the restart.
            JournalEntry::AwaitReboot(boot) => (self.boot, self.is_healthy) = (Some(boot), false),
            JournalEntry::Restarted => self.is_restarted = true,
        }
    }
}

/// The journal of an install that is under way.
pub(super) struct Journal {
    file: File,
    end: u64,
    /// What its entries so far add up to.
    pub state: JournalState,
}

impl Journal {
    /// Begins a journal, in place of any other. On a full disk it is written into the
    /// space that was set aside for it.
    pub fn begin(home: BorrowedFd<'_>, request: InstallRequest) -> Result<Self, InstallError> {
        failpoint::hit("making the journal");
        sys::remove_if_there(home, DRAFT).context("remove", DRAFT)?;
        let room_bytes = spare::len_of(home, NAME).unwrap_or(0);
        let made = sys::create_new(home, DRAFT)
            .and_then(|file| spare::allocate(&file, 0, room_bytes).map(|()| file));
        let file = match made {
            Err(error) if is_full(&error) => sys::remove_if_there(home, DRAFT)
                .and_then(|()| spare::take(home, NAME, DRAFT))
                .and_then(|spare| spare.ok_or(error)),
            other => other,
        };
        let file = file.context("make", DRAFT)?;
        let mut journal = Self { file, end: 0, state: JournalState::default() };
        journal.append(JournalEntry::Begin(request))?;
        failpoint::hit("publishing the journal");
        sys::rename_at(home, DRAFT, home, NAME).context("rename", DRAFT)?;
        sys::sync_filesystem(home).context("sync", NAME)?;
        Ok(journal)
    }

    /// Opens the journal that a crash left behind; `None` if there is none.
    pub fn open(home: BorrowedFd<'_>) -> Result<Option<Self>, InstallError> {
        let mut bytes = Vec::new();
        let file = match sys::open_read_write(home, NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.context("open", NAME)?,
        };
        (&file).read_to_end(&mut bytes).context("read", NAME)?;
        let mut journal = Self { file, end: 0, state: JournalState::default() };
        let mut rest = &bytes[..];
        while let Some((body, behind)) = frame(rest) {
            let entry = postcard::from_bytes(body).map_err(|_| InstallError::Damaged {
                path: format!(".thimble/{NAME}"),
                what: "was written by another version of thimble: start that one to finish its install",
            })?;
            journal.state.apply(entry);
            journal.end += (rest.len() - behind.len()) as u64;
            rest = behind;
        }
        Ok(Some(journal))
    }

    /// Appends an entry, durably.
    pub fn append(&mut self, entry: JournalEntry) -> Result<(), InstallError> {
        let body = postcard::to_extend(&entry, Vec::new())
            .map_err(|error| io::Error::other(error.to_string()))
            .context("encode", NAME)?;
        let len = u32::try_from(body.len()).map_err(io::Error::other).context("encode", NAME)?.to_le_bytes();
        let frame = [&len[..], &checksum(&len, &body), &body].concat();
        failpoint::hit("writing to the journal");
        self.file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.file.write_all(&frame))
            .and_then(|()| self.file.sync_data())
            .context("write", NAME)?;
        self.end += frame.len() as u64;
        self.state.apply(entry);
        Ok(())
    }

    /// Preallocates space for this many scripts' frames and all others.
    pub fn preallocate(&self, scripts: usize) -> Result<(), InstallError> {
        let len = FRAMES_BYTES + scripts as u64 * SCRIPT_FRAME_BYTES;
        failpoint::hit("setting room aside");
        sys::preallocate(&self.file, self.end, len)
            .and_then(|_| self.file.sync_all())
            .context("preallocate", NAME)
    }

    /// Removes the journal: the install has ended.
    pub fn end(self, home: BorrowedFd<'_>) -> Result<(), InstallError> {
        failpoint::hit("removing the journal");
        spare::give_back(home, NAME).context("remove", NAME)?;
        sys::sync_filesystem(home).context("sync", NAME)
    }
}

/// The bytes that a journal may take for removing patches that have this many scripts, if
/// its plan takes at most `plan_bytes`.
pub(super) fn room(plan_bytes: u64, scripts: usize) -> u64 {
    // Scripts run while a removal goes forward, and once more while it goes back.
    plan_bytes + 2 * FRAMES_BYTES + 2 * scripts as u64 * SCRIPT_FRAME_BYTES
}

fn checksum(len: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(len).update(body);
    let mut checksum = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}

/// The body of the first frame and the bytes after it; `None` if there is no whole
/// frame.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let (body, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    (!body.is_empty() && checksum(len, body) == *sum).then_some((body, rest))
}
