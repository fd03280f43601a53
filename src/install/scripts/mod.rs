//! Runs the scripts of patches: one at a time, for a limited time, leaving no process.
//!
//! A script gets a clean environment, the root as its working directory, no input, and a
//! session of its own. It ends when its process ends, even if another process holds its
//! output open. A process that it leaves running is killed and counts as a failure,
//! because undoing an install cannot undo it. Services belong to the init system, which
//! runs them in control groups of their own; those are left alone.

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

mod input;
mod script;
mod sys;

use input::{Input, More};
pub(super) use script::{Script, ScriptAction};
pub use sys::adopt_orphans;

/// The interval at which the clock is read while a script runs.
const LOOK_MS: i32 = 20;
/// How often processes that are in doubt are looked at.
const STRAY_LOOKS: usize = 25;
/// How long a script's children may take to end after it.
const GRACE: Duration = Duration::from_secs(1);
/// Reads of a script's output between two reads of the clock.
const READS: usize = 64;
/// How long a program that is tried out may run.
const TRIAL: Duration = Duration::from_secs(10);
/// How much of the end of a script's output is kept, in bytes.
const OUTPUT_BYTES: usize = 1_024;

/// A script that failed.
#[derive(Debug)]
pub struct ScriptFailure {
    /// The patch that the script belongs to.
    pub patch: PatchId,
    /// The script's name.
    pub script: &'static str,
    /// Why it failed.
    pub error: ScriptError,
    /// The end of its output.
    pub output: String,
}

/// Why a script failed.
#[derive(Debug)]
pub enum ScriptError {
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
        let Self { patch, script, error, output } = self;
        write!(f, "{script} of {patch} {error}")?;
        if output.is_empty() { Ok(()) } else { write!(f, ": {output}") }
    }
}

impl std::error::Error for ScriptFailure {}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => {
                write!(f, "could not run: {}", SystemError(error))?;
                f.write_str(match error.raw_os_error() {
                    Some(libc::ENOENT) => " (is the interpreter in its first line on this host?)",
                    Some(libc::ENOEXEC) => " (its first line must name an interpreter: #!/bin/sh)",
                    Some(libc::EACCES) => " (is /.thimble on a filesystem that is mounted noexec?)",
                    _ => "",
                })
            }
            Self::Status(status) => write!(f, "ended with status {status}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::TimedOut(limit) => write!(f, "took longer than {} ms", limit.as_millis()),
            Self::LeftRunning(names) => {
                write!(f, "left {names} running: start services through the init system")
            }
        }
    }
}

/// The result of trying a program out.
#[derive(Debug)]
pub struct Trial {
    /// Why it failed; `None` if it succeeded.
    pub error: Option<ScriptError>,
    /// The end of its output.
    pub output: String,
}

/// Runs scripts below one root.
pub(super) struct Scripts {
    root: PathBuf,
    limit: Duration,
}

impl Scripts {
    /// For the patches below this absolute root. Makes orphans of scripts children of
    /// this process, which must have no other children.
    pub fn new(root: &Path, limit_ms: u64) -> io::Result<Self> {
        sys::adopt_orphans(true)?;
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
        let Trial { error: Some(error), output } = self.run_to_end(command, None, self.limit) else {
            return Ok(());
        };
        let failure = ScriptFailure { patch: patch.clone(), script: script.as_str(), error, output };
        // A longer text is truncated in the report, so the log gets the whole one.
        if failure.to_string().len() > limits::REASON_BYTES {
            log::warn!("{failure}");
        }
        Err(Box::new(failure))
    }

    /// Tries out a program that should print what it is and end.
    pub fn try_out(&self, mut command: Command) -> Trial {
        self.clean_environment(&mut command);
        self.run_to_end(command, None, self.limit.min(TRIAL))
    }

    /// Runs a command of the host that reads an input.
    pub fn feed(&self, mut command: Command, input: More<'_>) -> Trial {
        self.clean_environment(&mut command);
        self.run_to_end(command, Some(input), self.limit)
    }

    fn clean_environment(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/")
            .env("LC_ALL", "C")
            .env("THIMBLE_ROOT", &self.root);
    }

    fn run_to_end(&self, command: Command, input: Option<More<'_>>, limit: Duration) -> Trial {
        let mut tail = Tail::default();
        let error = match self.watch(command, input, limit, &mut tail) {
            Ok(ScriptEnd { left: Some(names), .. }) => Some(ScriptError::LeftRunning(names)),
            Ok(ScriptEnd { status: None, .. }) => Some(ScriptError::TimedOut(limit)),
            Ok(ScriptEnd { status: Some(status), .. }) => match (status.code(), status.signal()) {
                (Some(0), _) => None,
                (Some(code), _) => Some(ScriptError::Status(code)),
                (None, signal) => Some(ScriptError::Signal(signal.unwrap_or_default())),
            },
            Err(error) => Some(ScriptError::System(error)),
        };
        Trial { error, output: tail.text() }
    }

    /// Ends processes that scripts of a killed installer have left running, and waits
    /// until they have ended. A process without an environment may be one that begins
    /// another program or ends: it is looked at again, for half a second.
    pub fn end_strays(&self) {
        let root = [b"THIMBLE_ROOT=", self.root.as_os_str().as_bytes()].concat();
        let us = std::process::id().cast_signed();
        for _ in 0..STRAY_LOOKS {
            let mut is_over = true;
            let others = processes().filter(|process| process.is_of_our_group && process.pid != us);
            for process in others.filter(|process| !process.is_of_kernel()) {
                let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
                if environment.split(|byte| *byte == 0).any(|variable| variable == root) {
                    log::warn!("{} ({}) was left running by a script: ended", process.name, process.pid);
                    sys::kill(process.pid);
                    is_over = false;
                }
                is_over &= !environment.is_empty();
            }
            if is_over {
                return;
            }
            sys::wait(None, None, LOOK_MS);
        }
    }

    fn watch(
        &self,
        mut command: Command,
        input: Option<More<'_>>,
        limit: Duration,
        tail: &mut Tail,
    ) -> io::Result<ScriptEnd> {
        let (mut output, theirs) = io::pipe()?;
        sys::set_nonblocking(output.as_fd())?;
        command.current_dir(&self.root).stdout(theirs.try_clone()?).stderr(theirs);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        sys::isolate(&mut command);
        let mut child = command.spawn()?;
        // The command holds copies of the writing end of the pipe.
        drop(command);
        let deadline = Instant::now() + limit;
        let mut is_open = true;
        let mut input =
            child.stdin.take().zip(input).map(|(pipe, more)| Input::new(pipe, more)).transpose()?;
        let status = loop {
            let pipe = input.as_ref().and_then(Input::pipe);
            sys::wait(is_open.then(|| output.as_fd()), pipe, LOOK_MS);
            is_open &= tail.read_from(&mut output)?;
            input.as_mut().map_or(Ok(()), Input::write)?;
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() >= deadline {
                break None;
            }
        };
        let left = end_all(&mut child, status.is_some())?;
        tail.read_from(&mut output)?;
        Ok(ScriptEnd { status, left })
    }
}

/// How a script's process ended.
struct ScriptEnd {
    /// `None` if it ran out of time.
    status: Option<ExitStatus>,
    /// The names of processes that it left running.
    left: Option<String>,
}

/// Ends all processes that a script started; if the script itself has ended, after a
/// grace period. Returns the names of those that had to be killed then.
fn end_all(child: &mut Child, has_ended: bool) -> io::Result<Option<String>> {
    let deadline = Instant::now() + GRACE;
    while has_ended && sys::reap() && Instant::now() < deadline && !orphans().is_empty() {
        sys::wait(None, None, LOOK_MS);
    }
    let left: Vec<_> =
        if has_ended { orphans().into_iter().map(|orphan| orphan.name).collect() } else { vec![] };
    match processes().next() {
        // Its process id may belong to another process by now.
        Some(_) if has_ended => {}
        Some(_) => sys::kill(child.id() as i32),
        // Without /proc, only the script's process group is known.
        None => sys::kill(-(child.id() as i32)),
    }
    child.wait()?;
    // The children of a killed process become ours.
    end_orphans();
    Ok((!left.is_empty()).then(|| left.join(", ")))
}

/// Ends the processes that became children of this process when their parents ended, and
/// waits for them. Those that an init system has moved to a control group of its own are
/// left alone.
pub fn end_orphans() {
    while sys::reap() {
        let orphans = orphans();
        if orphans.is_empty() {
            break;
        }
        for orphan in orphans {
            sys::kill(orphan.pid);
        }
        sys::wait(None, None, 1);
    }
}

/// Orphans that became children of this process and that no init system has moved to a
/// control group of its own. None if there is no /proc.
fn orphans() -> Vec<Process> {
    let us = std::process::id();
    processes().filter(|process| process.parent == us && process.is_of_our_group).collect()
}

/// A process that has not ended.
struct Process {
    pid: i32,
    parent: u32,
    name: String,
    /// It is in the control group of this process.
    is_of_our_group: bool,
}

impl Process {
    /// A thread of the kernel's: `kthreadd`, which is process 2, or a child of it.
    fn is_of_kernel(&self) -> bool {
        self.pid == 2 || self.parent == 2
    }
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

/// The end of a script's output.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Reads what is available, with a limit in case a script writes without pause.
    /// Returns false at the end of the output.
    fn read_from(&mut self, output: &mut impl Read) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        for _ in 0..READS {
            match output.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(len) => {
                    self.0.extend(buffer.get(..len).unwrap_or_default());
                    let surplus = self.0.len().saturating_sub(OUTPUT_BYTES);
                    self.0.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// The last three lines, joined.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("; ")
    }
}
