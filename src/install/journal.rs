//! The journal of an install: enough to undo it, or to know that it is finished.
//!
//! The file `.thimble/journal` exists while an install is under way. It is a sequence of
//! frames `length u32 LE | checksum 8 | postcard`. Each frame is synced before the step
//! that it announces begins. Reading stops at a frame that a power cut tore: its step
//! had not begun. Space is preallocated, so that neither announcing nor undoing can meet
//! a full disk.
//!
//! An install may have any number of moves. They are written while it is planned, some
//! thousand bytes to a frame, and read again from the disk for each step.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use super::error::{ErrorContext, InstallError, is_full};
use super::moves::{AccessChange, Clear, Move, NewDirectory, Save, Switch};
use super::record::Patch;
use super::scripts::Script;
use super::{spare, sys};
use crate::failpoint;
use crate::job::Witness;
use crate::sorted::FlatSet;
use crate::types::{Digest, PatchId};
use crate::wire::install::InstallRequest;

/// The journal's name in `.thimble`.
pub(super) const NAME: &str = "journal";
/// The name of a journal that is being made.
pub(super) const DRAFT: &str = "journal.next";
const CHECKSUM_BYTES: usize = 8;
/// The part of a frame before its body, in bytes.
const HEAD_BYTES: usize = 4 + CHECKSUM_BYTES;
/// The length at which a frame of moves ends, in bytes.
const MOVES_BYTES: usize = 8 * 1024;
/// Space for all frames but those of moves and scripts.
const FRAMES_BYTES: u64 = 8 * 1024;
/// Space for one script's frame, with the longest patch id.
const SCRIPT_FRAME_BYTES: u64 = 128;

/// One entry of a journal. The order of the variants is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum JournalEntry {
    /// An install was requested; the tree has not changed yet.
    Begin(InstallRequest),
    /// A part of the plan, which is complete with the intent.
    Moves(Vec<Move>),
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
    /// A guard lets the new thimble start once more; or, without a new thimble, the daemon
    /// has started once more while the install waits for a controller.
    Start,
    /// The health scripts have passed in the new thimble. After `AwaitReboot`: the
    /// previous set can no longer come back, whether the new one is healthy or not.
    Healthy,
    /// The commit follows, in the boot with this id. The previous record is kept until
    /// the health scripts have run after the host's restart.
    AwaitReboot(String),
    /// The host has restarted since.
    Restarted,
    /// Something to be told with the outcome.
    Told(String),
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
    /// Patches that are added, in layer order.
    pub added: Vec<Patch>,
    /// Patches that are removed, in layer order.
    pub removed: Vec<PatchId>,
    /// Patches of the previous set that had a file in place where something changes.
    pub displaced: Vec<PatchId>,
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
    /// The health scripts have passed. A controller must be heard before the commit.
    AwaitAny,
    /// The same, and it must not be this node's own.
    AwaitOther,
}

impl JournalPhase {
    /// The phase of an install that waits for this witness.
    pub const fn awaiting(witness: Witness) -> Self {
        match witness {
            Witness::ToNewThimble => Self::AwaitSelf,
            Witness::Any => Self::AwaitAny,
            Witness::Other => Self::AwaitOther,
        }
    }

    /// Whom an install in this phase waits for; `None` if for nobody.
    pub const fn witness(self) -> Option<Witness> {
        match self {
            Self::PreScripts | Self::Switching | Self::PostScripts | Self::Health => None,
            Self::AwaitSelf => Some(Witness::ToNewThimble),
            Self::AwaitAny => Some(Witness::Any),
            Self::AwaitOther => Some(Witness::Other),
        }
    }
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
    /// How often thimble has started while the install waited.
    pub starts: u32,
    pub is_healthy: bool,
    /// The id of the boot in which a set was committed that waits for a restart.
    pub boot: Option<String>,
    /// The host has restarted since that boot.
    pub is_restarted: bool,
    /// What is to be told with the outcome.
    pub told: Vec<String>,
}

impl JournalState {
    fn apply(&mut self, entry: JournalEntry) {
        match entry {
            JournalEntry::Moves(_) => {}
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
            JournalEntry::Told(line) => self.told.push(line),
        }
    }
}

/// The journal of an install that is under way.
pub(super) struct Journal {
    file: File,
    end: u64,
    /// What its entries so far add up to.
    pub state: JournalState,
    /// Moves that are not written yet, encoded, and how many there are.
    planned: Vec<u8>,
    planned_count: usize,
    /// Where the frames with moves begin.
    moves_at: Vec<u64>,
}

impl Journal {
    fn new(file: File) -> Self {
        let state = JournalState::default();
        Self { file, end: 0, state, planned: Vec::new(), planned_count: 0, moves_at: Vec::new() }
    }

    /// Begins a journal, in place of any other. On a full disk it is written into the
    /// space that was set aside for it.
    pub fn begin(home: BorrowedFd<'_>, request: InstallRequest) -> Result<Self, InstallError> {
        failpoint::hit("making the journal");
        sys::remove_if_there(home, DRAFT).own_context("remove", DRAFT)?;
        let room_bytes = spare::len_of(home, NAME).unwrap_or(0);
        let made = sys::create_new(home, DRAFT)
            .and_then(|file| spare::allocate(&file, 0, room_bytes).map(|()| file));
        let file = match made {
            Err(error) if is_full(&error) => sys::remove_if_there(home, DRAFT)
                .and_then(|()| spare::take(home, NAME, DRAFT))
                .and_then(|spare| spare.ok_or(error)),
            other => other,
        };
        let mut journal = Self::new(file.own_context("make", DRAFT)?);
        journal.append(JournalEntry::Begin(request))?;
        failpoint::hit("publishing the journal");
        sys::rename_at(home, DRAFT, home, NAME).own_context("rename", DRAFT)?;
        sys::sync_filesystem(home).own_context("sync", NAME)?;
        Ok(journal)
    }

    /// Opens the journal that a crash left behind; `None` if there is none.
    pub fn open(home: BorrowedFd<'_>) -> Result<Option<Self>, InstallError> {
        let file = match sys::open_read_write(home, NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.own_context("open", NAME)?,
        };
        let mut journal = Self::new(file);
        while let Some(body) = frame(&journal.file, journal.end).own_context("read", NAME)? {
            let entry = decoded(&body)?;
            if matches!(entry, JournalEntry::Moves(_)) {
                journal.moves_at.push(journal.end);
            }
            journal.state.apply(entry);
            journal.end += (HEAD_BYTES + body.len()) as u64;
        }
        Ok(Some(journal))
    }

    /// Plans a move. It is durable with the next entry.
    pub fn plan(&mut self, planned: &Move) -> Result<(), InstallError> {
        self.planned = postcard::to_extend(planned, std::mem::take(&mut self.planned))
            .map_err(io::Error::other)
            .own_context("encode", NAME)?;
        self.planned_count += 1;
        if self.planned.len() >= MOVES_BYTES { self.write_planned() } else { Ok(()) }
    }

    /// The plan is complete: its moves can be read.
    pub fn end_plan(&mut self) -> Result<(), InstallError> {
        self.write_planned()
    }

    fn write_planned(&mut self) -> Result<(), InstallError> {
        if self.planned_count == 0 {
            return Ok(());
        }
        // The same bytes as those of an entry with all these moves.
        let count = postcard::to_extend(&JournalEntry::Moves(Vec::new()), Vec::new());
        let mut body = count.map_err(io::Error::other).own_context("encode", NAME)?;
        body.pop();
        body = postcard::to_extend(&self.planned_count, body)
            .map_err(io::Error::other)
            .own_context("encode", NAME)?;
        body.append(&mut self.planned);
        self.planned_count = 0;
        let at = self.end;
        self.write(&body)?;
        self.moves_at.push(at);
        Ok(())
    }

    /// Appends an entry, durably.
    pub fn append(&mut self, entry: JournalEntry) -> Result<(), InstallError> {
        self.write_planned()?;
        let body =
            postcard::to_extend(&entry, Vec::new()).map_err(io::Error::other).own_context("encode", NAME)?;
        self.write(&body)?;
        self.file.sync_data().own_context("write", NAME)?;
        self.state.apply(entry);
        Ok(())
    }

    /// Tells something with the outcome, once.
    pub fn tell(&mut self, line: Option<String>) -> Result<(), InstallError> {
        match line.filter(|line| !self.state.told.contains(line)) {
            Some(line) => self.append(JournalEntry::Told(line)),
            None => Ok(()),
        }
    }

    fn write(&mut self, body: &[u8]) -> Result<(), InstallError> {
        let len =
            u32::try_from(body.len()).map_err(io::Error::other).own_context("encode", NAME)?.to_le_bytes();
        let frame = [&len[..], &checksum(&len, body), body].concat();
        failpoint::hit("writing to the journal");
        self.file.write_all_at(&frame, self.end).own_context("write", NAME)?;
        self.end += frame.len() as u64;
        Ok(())
    }

    /// The moves, in their order.
    pub fn moves(&self) -> Moves<'_> {
        Moves { journal: self, next_frame: 0, moves: Vec::new().into_iter() }
    }

    /// The mount points of the filesystems that the moves are on.
    pub fn mounts(&self) -> Result<FlatSet<String>, InstallError> {
        let mut mounts = FlatSet::default();
        let mut moves = self.moves();
        while let Some(planned) = moves.next()? {
            match planned {
                Move::Directory(NewDirectory { mount, .. })
                | Move::Switch(Switch { mount, .. })
                | Move::MakeWay(Switch { mount, .. })
                | Move::Clear(Clear { mount, .. })
                | Move::Access(AccessChange { mount, .. }) => {
                    mounts.insert(mount);
                }
                Move::Save(_) | Move::OldDirectory(_) => {}
            }
        }
        Ok(mounts)
    }

    /// Preallocates space for this many scripts' frames and all others.
    pub fn preallocate(&self, scripts: usize) -> Result<(), InstallError> {
        let len = FRAMES_BYTES + scripts as u64 * SCRIPT_FRAME_BYTES;
        failpoint::hit("setting room aside");
        sys::preallocate(&self.file, self.end, len)
            .and_then(|_| self.file.sync_all())
            .own_context("preallocate", NAME)
    }

    /// Removes the journal: the install has ended.
    pub fn end(self, home: BorrowedFd<'_>) -> Result<(), InstallError> {
        failpoint::hit("removing the journal");
        spare::give_back(home, NAME).own_context("remove", NAME)?;
        sys::sync_filesystem(home).own_context("sync", NAME)
    }
}

/// The bytes that a journal may take for removing patches that have this many scripts, if
/// its plan takes at most `plan_bytes`.
pub(super) fn room(plan_bytes: u64, scripts: usize) -> u64 {
    // Scripts run while a removal goes forward, and once more while it goes back.
    plan_bytes + 2 * FRAMES_BYTES + 2 * scripts as u64 * SCRIPT_FRAME_BYTES
}

/// A walk through the moves of a journal.
pub(super) struct Moves<'j> {
    journal: &'j Journal,
    next_frame: usize,
    moves: std::vec::IntoIter<Move>,
}

impl Moves<'_> {
    /// The next move; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Move>, InstallError> {
        loop {
            if let Some(next) = self.moves.next() {
                return Ok(Some(next));
            }
            let Some(at) = self.journal.moves_at.get(self.next_frame) else { return Ok(None) };
            self.next_frame += 1;
            let body = frame(&self.journal.file, *at)
                .and_then(|body| body.ok_or_else(|| io::ErrorKind::InvalidData.into()))
                .own_context("read", NAME)?;
            let JournalEntry::Moves(moves) = decoded(&body)? else {
                return Err(io::Error::from(io::ErrorKind::InvalidData)).own_context("read", NAME);
            };
            self.moves = moves.into_iter();
        }
    }

    /// The next path whose object changes.
    pub fn next_switch(&mut self) -> Result<Option<Switch>, InstallError> {
        while let Some(planned) = self.next()? {
            if let Move::Switch(switch) | Move::MakeWay(switch) = planned {
                return Ok(Some(switch));
            }
        }
        Ok(None)
    }

    /// The next path whose object changes after others have made way.
    pub fn next_plain_switch(&mut self) -> Result<Option<Switch>, InstallError> {
        while let Some(planned) = self.next()? {
            if let Move::Switch(switch) = planned {
                return Ok(Some(switch));
            }
        }
        Ok(None)
    }

    /// The next directory to make.
    pub fn next_directory(&mut self) -> Result<Option<NewDirectory>, InstallError> {
        while let Some(planned) = self.next()? {
            if let Move::Directory(directory) = planned {
                return Ok(Some(directory));
            }
        }
        Ok(None)
    }

    /// The next directory whose owner and mode change.
    pub fn next_access(&mut self) -> Result<Option<AccessChange>, InstallError> {
        while let Some(planned) = self.next()? {
            if let Move::Access(change) = planned {
                return Ok(Some(change));
            }
        }
        Ok(None)
    }

    /// The next local change to save.
    pub fn next_save(&mut self) -> Result<Option<Save>, InstallError> {
        while let Some(planned) = self.next()? {
            if let Move::Save(save) = planned {
                return Ok(Some(save));
            }
        }
        Ok(None)
    }
}

fn decoded(body: &[u8]) -> Result<JournalEntry, InstallError> {
    postcard::from_bytes(body).map_err(|_| InstallError::Damaged {
        path: format!(".thimble/{NAME}"),
        what: "was written by another version of thimble: start that one to finish its install",
    })
}

fn checksum(len: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(len).update(body);
    let mut checksum = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}

/// The body of the frame at this place; `None` if there is no whole frame.
fn frame(file: &File, at: u64) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; HEAD_BYTES];
    let rest = file.metadata()?.len().saturating_sub(at);
    if rest < HEAD_BYTES as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut head, at)?;
    let Some((len, sum)) = head.split_first_chunk::<4>() else { return Ok(None) };
    let body_bytes = u32::from_le_bytes(*len);
    if body_bytes == 0 || rest < HEAD_BYTES as u64 + u64::from(body_bytes) {
        return Ok(None);
    }
    let mut body = vec![0; body_bytes as usize];
    file.read_exact_at(&mut body, at + HEAD_BYTES as u64)?;
    Ok((checksum(len, &body) == *sum).then_some(body))
}
