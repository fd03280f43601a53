//! What an install has begun: enough to undo it, or to know that it is done.
//!
//! One file, `.thimble/journal`, that exists while an install is under way. It
//! is a run of frames `length u32 LE | check 8 | postcard`, each synced before
//! what it announces is begun. A frame torn by a power cut ends the reading:
//! what it announced had not begun. Room is set aside so that announcing, and
//! undoing, cannot meet a full disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::error::{ErrorContext, InstallError};
use super::plan::Moves;
use super::scripts::Script;
use super::sys;
use crate::failpoint;
use crate::types::{Digest, PatchId};
use crate::wire::install::InstallRequest;

/// The journal.
pub(super) const NAME: &str = "journal";
/// A journal that is being made.
pub(super) const DRAFT: &str = "journal.next";
const CHECK_BYTES: usize = 8;
/// Room for what is announced beside scripts.
const ROOM_BYTES: u64 = 8 * 1024;
/// Room for one script's announcement, with a patch id of any length.
const SCRIPT_ROOM_BYTES: u64 = 128;

/// One thing that a journal announces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum JournalEntry {
    /// An install was asked for; nothing of the tree is touched yet.
    Begin(InstallRequest),
    /// It is planned; from here on it is undone unless it is committed.
    Intent(Intent),
    /// A phase begins.
    Phase(JournalPhase),
    /// A script of a patch is started.
    Script(PatchId, Script),
    /// The previous set comes back, for this reason.
    Undoing(String),
    /// The previous set's files are back.
    Restored,
    /// And the scripts that go with it have run.
    Undone {
        /// A script of the previous set that failed meanwhile.
        trouble: Option<String>,
    },
    /// A guard lets the new thimble be started once more.
    Start,
    /// The health scripts have passed in the new thimble. Behind `AwaitReboot`: the way
    /// back is given up from here on, healthy or not.
    Healthy,
    /// The new set is committed next, in the boot with this id. How healthy it is shows
    /// after the host's restart; until then the way back is kept.
    AwaitReboot(String),
    /// The host has been restarted since.
    Restarted,
}

/// What is planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    /// The record's serial once this is committed.
    pub serial: u64,
    /// What is installed before.
    pub old: Digest,
    /// What is to be installed.
    pub new: Digest,
    /// A patch that comes or goes wants a restart of the host.
    pub reboot_required: bool,
    /// What the operator is told of local changes if it goes well.
    pub noted: String,
    pub moves: Moves,
}

/// The phases of an install that touch the tree, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum JournalPhase {
    PreScripts,
    Switching,
    PostScripts,
    Health,
    /// thimble itself was replaced: everything is switched, and the new one is to
    /// run the health scripts and to hear a controller. Old and new both write from
    /// here on: each must know the other's words.
    AwaitSelf,
}

/// What a journal tells about an install.
#[derive(Clone, Debug, Default)]
pub(super) struct JournalState {
    pub request: Option<InstallRequest>,
    pub intent: Option<Intent>,
    pub phase: Option<JournalPhase>,
    pub scripts: Vec<(PatchId, Script)>,
    pub undoing: Option<String>,
    pub is_restored: bool,
    /// Undone, and with which trouble.
    pub undone: Option<Option<String>>,
    /// How often a guard let the new thimble be started once more.
    pub starts: u32,
    pub is_healthy: bool,
    /// The boot whose end a committed set waits for.
    pub boot: Option<String>,
    /// It has ended.
    pub is_restarted: bool,
}

impl JournalState {
    fn take(&mut self, entry: JournalEntry) {
        match entry {
            JournalEntry::Begin(request) => self.request = Some(request),
            JournalEntry::Intent(intent) => self.intent = Some(intent),
            JournalEntry::Phase(phase) => self.phase = Some(phase),
            JournalEntry::Script(patch, script) => self.scripts.push((patch, script)),
            JournalEntry::Undoing(reason) => self.undoing = Some(reason),
            JournalEntry::Restored => self.is_restored = true,
            JournalEntry::Undone { trouble } => self.undone = Some(trouble),
            JournalEntry::Start => self.starts = self.starts.saturating_add(1),
            JournalEntry::Healthy => self.is_healthy = true,
            // That is to be shown after the restart.
            JournalEntry::AwaitReboot(boot) => (self.boot, self.is_healthy) = (Some(boot), false),
            JournalEntry::Restarted => self.is_restarted = true,
        }
    }
}

/// The journal of the install under way.
pub(super) struct Journal {
    file: File,
    end: u64,
    /// What it tells so far.
    pub state: JournalState,
}

impl Journal {
    /// Begins a journal, in place of any other.
    pub fn begin(home: BorrowedFd<'_>, request: InstallRequest) -> Result<Self, InstallError> {
        failpoint::hit("making the journal");
        sys::remove_if_there(home, DRAFT).context("remove", DRAFT)?;
        let file = sys::create_new(home, DRAFT).context("make", DRAFT)?;
        let mut journal = Self { file, end: 0, state: JournalState::default() };
        journal.append(JournalEntry::Begin(request))?;
        failpoint::hit("publishing the journal");
        sys::rename_at(home, DRAFT, home, NAME).context("rename", DRAFT)?;
        sys::sync_filesystem(home).context("sync", NAME)?;
        Ok(journal)
    }

    /// Opens the journal that a crash left behind, if there is one.
    pub fn open(home: BorrowedFd<'_>) -> Result<Option<Self>, InstallError> {
        let mut bytes = Vec::new();
        let file = match sys::open_append(home, NAME) {
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
            journal.state.take(entry);
            journal.end += (rest.len() - behind.len()) as u64;
            rest = behind;
        }
        Ok(Some(journal))
    }

    /// Announces something, durably.
    pub fn append(&mut self, entry: JournalEntry) -> Result<(), InstallError> {
        let body = postcard::to_extend(&entry, Vec::new())
            .map_err(|error| io::Error::other(error.to_string()))
            .context("encode", NAME)?;
        let len = u32::try_from(body.len()).map_err(io::Error::other).context("encode", NAME)?.to_le_bytes();
        let frame = [&len[..], &check(&len, &body), &body].concat();
        failpoint::hit("writing to the journal");
        self.file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.file.write_all(&frame))
            .and_then(|()| self.file.sync_data())
            .context("write", NAME)?;
        self.end += frame.len() as u64;
        self.state.take(entry);
        Ok(())
    }

    /// Sets room aside for this many announcements of scripts and all others.
    pub fn set_aside(&self, scripts: usize) -> Result<(), InstallError> {
        let len = ROOM_BYTES + scripts as u64 * SCRIPT_ROOM_BYTES;
        failpoint::hit("setting room aside");
        sys::set_aside(&self.file, self.end, len)
            .and_then(|()| self.file.sync_all())
            .context("set room aside in", NAME)
    }

    /// Ends the journal: what it told is done with.
    pub fn end(self, home: BorrowedFd<'_>) -> Result<(), InstallError> {
        failpoint::hit("removing the journal");
        sys::remove_if_there(home, NAME).context("remove", NAME)?;
        sys::sync_filesystem(home).context("sync", NAME)
    }
}

fn check(len: &[u8], body: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(len).update(body);
    let mut check = [0; CHECK_BYTES];
    hasher.finalize_xof().fill(&mut check);
    check
}

/// The body of the first frame and what is behind it; none where there is no
/// frame, or one that was never finished.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<CHECK_BYTES>()?;
    let (body, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    (!body.is_empty() && check(len, body) == *sum).then_some((body, rest))
}
