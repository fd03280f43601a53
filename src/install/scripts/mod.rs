//! Running a patch's scripts: alone, for a limited time, leaving nothing behind.
//!
//! A script gets a clean environment, the root as its directory, nothing to
//! read, and a session of its own. It has ended when its process has, whoever
//! still holds its output. What it started and left running is not in the set
//! that the journal can put back, so that counts as a failure, and is killed;
//! services belong to the init system, which keeps them in control groups of
//! their own, and those are left alone.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::failpoint;
use crate::job::SystemError;
use crate::limits;
use crate::types::PatchId;

mod script;
mod sys;

pub(super) use script::{Script, ScriptAction};

/// How often the clock is looked at while a script runs.
const LOOK_MS: i32 = 20;
/// What a script's children may take to end once it has.
const GRACE: Duration = Duration::from_secs(1);
/// Reads of a script's output between two looks at the clock.
const TURNS: usize = 64;
/// What a program that is tried out may take.
const TRIAL: Duration = Duration::from_secs(10);
/// A script's last words that are kept, in bytes.
const LAST_WORDS_BYTES: usize = 1_024;

/// A script that did not do its work.
#[derive(Debug)]
pub struct ScriptFailure {
    /// The patch whose script it is.
    pub patch: PatchId,
    /// The script's name.
    pub script: &'static str,
    /// What went wrong.
    pub how: How,
    /// The end of what it wrote.
    pub last_words: String,
}

/// What went wrong with a script.
#[derive(Debug)]
pub enum How {
    /// It could not be started or watched.
    System(io::Error),
    /// It ended with this status.
    Status(i32),
    /// A signal ended it.
    Signal(i32),
    /// It took longer than this.
    TimedOut(Duration),
    /// It left these processes running.
    LeftRunning(String),
}

impl fmt::Display for ScriptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { patch, script, how, last_words } = self;
        write!(f, "{script} of {patch} {how}")?;
        if last_words.is_empty() { Ok(()) } else { write!(f, ": {last_words}") }
    }
}

impl std::error::Error for ScriptFailure {}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => write!(f, "could not run: {}", SystemError(error)),
            Self::Status(status) => write!(f, "ended with status {status}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::TimedOut(limit) => write!(f, "took longer than {} ms", limit.as_millis()),
            Self::LeftRunning(names) => {
                write!(f, "left {names} running: start services through the init system")
            }
        }
    }
}

/// How a program did that was tried out.
#[derive(Debug)]
pub struct Trial {
    /// What went wrong; `None`: nothing.
    pub how: Option<How>,
    /// The end of what it wrote.
    pub said: String,
}

/// Who runs scripts.
pub(super) struct Scripts {
    root: PathBuf,
    limit: Duration,
}

impl Scripts {
    /// For the patches below this absolute root; orphans of scripts become
    /// children of this process, which must have no others.
    pub fn new(root: &Path, limit_ms: u64) -> io::Result<Self> {
        sys::adopt_orphans()?;
        Ok(Self { root: root.to_owned(), limit: Duration::from_millis(limit_ms) })
    }

    /// The root, as an absolute path without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs one script to its end.
    pub fn run(
        &self,
        patch: &PatchId,
        script: Script,
        action: ScriptAction,
    ) -> Result<(), Box<ScriptFailure>> {
        failpoint::hit("starting a script");
        log::info!("{patch}: {} ({})", script.as_str(), action.as_str());
        let path = self.root.join(".thimble/patches").join(patch.as_str()).join("scripts");
        let mut command = Command::new(path.join(script.as_str()));
        self.clean_environment(&mut command);
        command
            .env("THIMBLE_PATCH", patch.as_str())
            .env("THIMBLE_ACTION", action.as_str())
            .env("THIMBLE_PHASE", script.as_str());
        let Trial { how: Some(how), said: last_words } = self.to_its_end(command, self.limit) else {
            return Ok(());
        };
        let failure = ScriptFailure { patch: patch.clone(), script: script.as_str(), how, last_words };
        // A longer one would be cut in what the operator and the log are told.
        if failure.to_string().len() > limits::REASON_BYTES {
            log::warn!("{failure}");
        }
        Err(Box::new(failure))
    }

    /// Tries a program out that should say what it is and end.
    pub fn try_out(&self, mut command: Command) -> Trial {
        self.clean_environment(&mut command);
        self.to_its_end(command, self.limit.min(TRIAL))
    }

    fn clean_environment(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/")
            .env("LC_ALL", "C")
            .env("THIMBLE_ROOT", &self.root);
    }

    fn to_its_end(&self, command: Command, limit: Duration) -> Trial {
        let mut tail = Tail::default();
        let how = match self.watch(command, limit, &mut tail) {
            Ok(ScriptEnd { left: Some(names), .. }) => Some(How::LeftRunning(names)),
            Ok(ScriptEnd { status: None, .. }) => Some(How::TimedOut(limit)),
            Ok(ScriptEnd { status: Some(status), .. }) => match (status.code(), status.signal()) {
                (Some(0), _) => None,
                (Some(code), _) => Some(How::Status(code)),
                (None, signal) => Some(How::Signal(signal.unwrap_or_default())),
            },
            Err(error) => Some(How::System(error)),
        };
        Trial { how, said: tail.last_words() }
    }

    /// Ends what scripts of an installer that was killed have left running.
    pub fn end_strays(&self) {
        let root = [b"THIMBLE_ROOT=", self.root.as_os_str().as_bytes()].concat();
        let is_stray = |process: &Process| {
            let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|variable| variable == root) && process.is_of_our_group
        };
        for process in processes().filter(is_stray) {
            log::warn!("{} ({}) was left running by a script: ended", process.name, process.pid);
            sys::kill(process.pid);
        }
    }

    fn watch(&self, mut command: Command, limit: Duration, tail: &mut Tail) -> io::Result<ScriptEnd> {
        let (mut output, theirs) = io::pipe()?;
        sys::set_nonblocking(output.as_fd())?;
        command.current_dir(&self.root).stdin(Stdio::null()).stdout(theirs.try_clone()?).stderr(theirs);
        sys::isolate(&mut command);
        let mut child = command.spawn()?;
        // It holds our copies of the writing end.
        drop(command);
        let deadline = Instant::now() + limit;
        let mut is_open = true;
        let status = loop {
            sys::wait_readable(is_open.then(|| output.as_fd()), LOOK_MS);
            is_open &= tail.take(&mut output)?;
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() >= deadline {
                break None;
            }
        };
        let left = end_all(&mut child, status.is_some())?;
        tail.take(&mut output)?;
        Ok(ScriptEnd { status, left })
    }
}

/// How a script's process ended.
struct ScriptEnd {
    /// None: its time was up.
    status: Option<ExitStatus>,
    /// What it left running.
    left: Option<String>,
}

/// Ends whatever a script started, after a grace where the script itself has
/// ended; says what had to be killed.
fn end_all(child: &mut Child, has_ended: bool) -> io::Result<Option<String>> {
    let deadline = Instant::now() + GRACE;
    while has_ended && sys::reap() && Instant::now() < deadline && !orphans().is_empty() {
        sys::wait_readable(None, LOOK_MS);
    }
    let left: Vec<_> =
        if has_ended { orphans().into_iter().map(|orphan| orphan.name).collect() } else { vec![] };
    match processes().next() {
        // Its number may be somebody else's by now.
        Some(_) if has_ended => {}
        Some(_) => sys::kill(child.id() as i32),
        // Nothing can be seen, so its process group is all that is known.
        None => sys::kill(-(child.id() as i32)),
    }
    child.wait()?;
    // Killing one gives us its children.
    while sys::reap() {
        let orphans = orphans();
        if orphans.is_empty() {
            break;
        }
        for orphan in orphans {
            sys::kill(orphan.pid);
        }
        sys::wait_readable(None, 1);
    }
    Ok((!left.is_empty()).then(|| left.join(", ")))
}

/// Our living children that no init system has taken into a control group of
/// its own: what has lost its parent to us. Without /proc there are none to be seen.
fn orphans() -> Vec<Process> {
    let us = std::process::id();
    processes().filter(|process| process.parent == us && process.is_of_our_group).collect()
}

/// A process that has not ended.
struct Process {
    pid: i32,
    parent: u32,
    name: String,
    /// It is in our control group.
    is_of_our_group: bool,
}

fn processes() -> impl Iterator<Item = Process> {
    let group = fs::read("/proc/self/cgroup").unwrap_or_default();
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(move |entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let mut rest = rest.split_whitespace();
        let (state, parent) = (rest.next()?, rest.next()?.parse().ok()?);
        let is_of_our_group = fs::read(entry.path().join("cgroup")).ok()? == group;
        (state != "Z").then(|| Process { pid, parent, name: name.to_owned(), is_of_our_group })
    })
}

/// The end of what a script writes.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Takes what there is to read, though not without end where a script never
    /// pauses. False once nothing more can come.
    fn take(&mut self, output: &mut impl Read) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        for _ in 0..TURNS {
            match output.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(len) => {
                    self.0.extend(buffer.get(..len).unwrap_or_default());
                    let surplus = self.0.len().saturating_sub(LAST_WORDS_BYTES);
                    self.0.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// The last lines, as one.
    fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("; ")
    }
}
