//! Worker processes: this binary started again, with one job each.
//!
//! A worker is started by fork and exec of the descriptor of our own executable. So it
//! runs the same code as the daemon, even if the file has been replaced. The channel
//! for its job and its reports, the configuration, and its sockets or files are at
//! fixed descriptors. Its end is known from `wait4` alone; the outcome of its job
//! from its last report.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::buffers::{Buffer, Pool};
use super::control_socket::ConnectionId;
use super::oom;
use super::os_error::OsError;
use super::process::{Process, ProcessEnd};
use super::sys::{self, Waited};
use crate::control::sys::FDS;
use crate::job::{Job, RefusalKind, Report, SpreadInput};
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Reason};
use crate::wire::frame::Purpose;

/// How often and at which interval killed workers are waited for.
const REAP_TRIES: u32 = 100;
const REAP_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// What a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerKind {
    /// Agent: recovery or an install.
    Agent,
    /// Controller: reads the store, at start or again.
    Load,
    /// Controller: changes the store. The repository's state machine knows what is
    /// changed, and for whom.
    Change,
    /// Controller: serves a session of this node, an agent or another controller.
    Serve(NodeId, Purpose),
    /// Controller: merges the map of this controller.
    Pull(NodeId),
    /// Controller: fetches missing blobs from this controller.
    Blobs(NodeId),
    /// Answers `show` on a control connection that was handed over to it.
    Show,
    /// Reads the configuration again, for the command on this connection if there is one.
    Reload(Option<ConnectionId>),
    /// Resolves the names of peers.
    Resolve,
    /// Controller: sends a file to all hosts.
    Spread,
    /// Agent: receives such a file.
    Receive,
}

impl WorkerKind {
    /// Whether this is a report of such a worker. One that was taken over by its peer says
    /// nothing else: not what a host should have, nor what the settings are.
    const fn may_send(self, report: &Report) -> bool {
        match report {
            Report::Progress { .. }
            | Report::Installed(_)
            | Report::InstalledEnd { .. }
            | Report::Awaited { .. }
            | Report::Superseded => matches!(self, Self::Agent),
            Report::Settings(_) | Report::Waits(_) => matches!(self, Self::Reload(_)),
            Report::Resolved { .. } => matches!(self, Self::Resolve),
            Report::Offer(_) | Report::Spread(_) => matches!(self, Self::Spread),
            Report::Lacks(_) | Report::Receive(_) => matches!(self, Self::Receive),
            Report::Done | Report::Failed { .. } => true,
            _ => !matches!(self, Self::Serve(..) | Self::Show | Self::Resolve | Self::Spread | Self::Receive),
        }
    }
}

/// How a worker ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// Its last report was "done".
    Done,
    /// Its last report was a failure.
    Failed(RefusalKind, Reason),
    /// It ended without a last report.
    Crashed(Reason),
}

struct Worker {
    kind: WorkerKind,
    process: Process,
    channel: OwnedFd,
    /// When it started.
    started: Instant,
    /// What [`oom::kills`] said then, for what changes a disk.
    oom_kills: Option<u64>,
    /// [`Waited::peak_bytes`], once it has ended.
    peak_bytes: u64,
    /// When it last reported; at first, when it started.
    last_report: Instant,
    ending: Option<Ending>,
}

/// The running workers.
pub struct Workers {
    executable: File,
    config: File,
    /// The installer's socket, if the agent's workers are its children.
    installer: Option<PathBuf>,
    slots: [Option<Worker>; limits::WORKERS],
    first_token: usize,
    job: Buffer,
    report: Buffer,
    /// The installer runs another program file than this process.
    pub is_other_program: bool,
    /// Workers started since the daemon's start.
    pub started: u64,
    /// The greatest [`Waited::peak_bytes`] of the workers that have ended; 0 before one has.
    pub peak_bytes: u64,
}

impl Workers {
    /// A set without workers. Their channels get the tokens from `first_token` on, and
    /// they read `config` as their configuration. With the installer's socket, the agent's are
    /// started by it, and it reads their configuration itself.
    ///
    /// # Errors
    /// Our executable cannot be opened, or no memory is free for the configuration.
    pub fn new(
        config: &[u8],
        installer: Option<PathBuf>,
        first_token: usize,
        pool: &mut Pool,
    ) -> io::Result<Self> {
        let mut memory = sys::memfd()?;
        sys::write_sealed(&mut memory, config)?;
        Ok(Self {
            executable: File::open("/proc/self/exe")?,
            config: memory,
            installer,
            slots: [const { None }; limits::WORKERS],
            first_token,
            job: pool.take(limits::JOB_BYTES),
            report: pool.take(limits::REPORT_BYTES),
            is_other_program: false,
            started: 0,
            peak_bytes: 0,
        })
    }

    /// Sets the configuration that later workers read.
    pub fn set_config(&mut self, config: File) {
        self.config = config;
    }

    /// Starts a worker with a job. Its descriptors from
    /// [`FIRST_FILE_FD`](crate::job::FIRST_FILE_FD) on are duplicates of `files`.
    ///
    /// # Errors
    /// No slot is free, or the system cannot start a process.
    pub fn start(
        &mut self,
        now: Instant,
        registry: &Registry,
        kind: WorkerKind,
        job: &Job,
        files: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let free = self.slots.iter().position(Option::is_none);
        let at = free.ok_or(io::ErrorKind::QuotaExceeded)?;
        let job = postcard::to_slice(job, &mut self.job[..]).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (channel, theirs) = sys::message_pair()?;
        sys::send_message(channel.as_fd(), job)?;
        let token = Token(self.first_token + at);
        registry.register(&mut SourceFd(&channel.as_raw_fd()), token, Interest::READABLE)?;
        let process = match &self.installer {
            Some(socket) if kind == WorkerKind::Agent => Process::request(socket, theirs.as_fd(), files)?,
            _ => Process::Child(self.spawn(theirs.as_fd(), files)?),
        };
        if let Some(fd) = process.end_fd() {
            registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        }
        self.started += 1;
        let changes = matches!(kind, WorkerKind::Agent | WorkerKind::Change);
        let oom_kills = changes.then(oom::kills).flatten();
        self.slots[at] = Some(Worker {
            kind,
            process,
            channel,
            started: now,
            oom_kills,
            peak_bytes: 0,
            last_report: now,
            ending: None,
        });
        Ok(())
    }

    fn spawn(&self, channel: BorrowedFd<'_>, files: &[BorrowedFd<'_>]) -> io::Result<libc::pid_t> {
        let mut fds: heapless::Vec<RawFd, { FDS + 2 }> = heapless::Vec::new();
        for fd in [channel, self.config.as_fd()].iter().chain(files) {
            fds.push(fd.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
        }
        sys::spawn(self.executable.as_fd(), &[c"thimble", c"worker"], &fds)
    }

    /// Whether the agent's workers are the installer's.
    pub const fn has_installer(&self) -> bool {
        self.installer.is_some()
    }

    /// Why an agent's worker could not be started, for the operator.
    pub fn not_started(&self, error: &io::Error) -> Reason {
        let (kind, error) = (error.kind(), OsError(error));
        match &self.installer {
            None => Reason::format(format_args!("the agent's worker cannot be started: {error}")),
            Some(path) => {
                let path = path.display();
                let remedy = match kind {
                    io::ErrorKind::PermissionDenied => "start it with --user and this daemon's user",
                    _ => "start it, as root",
                };
                Reason::format(format_args!(
                    "this daemon is not root, and `thimble installer` does not serve {path} ({error}): {remedy}"
                ))
            }
        }
    }

    /// Passes something on to the worker of this kind, if there is one and it keeps up.
    pub fn tell(&self, kind: WorkerKind, input: &SpreadInput) {
        let mut bytes = [0; limits::SPREAD_INPUT_BYTES];
        let worker = self.slots.iter().flatten().find(|worker| worker.kind == kind);
        if let (Some(worker), Ok(bytes)) = (worker, postcard::to_slice(input, &mut bytes)) {
            // What is lost is asked for again.
            let _ = sys::send_message(worker.channel.as_fd(), bytes);
        }
    }

    /// Ends the worker of this kind, which changes nothing that another takes for whole. It has failed then, for no
    /// reason.
    pub fn stop(&mut self, kind: WorkerKind) {
        if let Some(worker) = self.slots.iter_mut().flatten().find(|worker| worker.kind == kind) {
            worker.ending.get_or_insert(Ending::Failed(RefusalKind::Refused, Reason::default()));
            worker.process.kill();
        }
    }

    /// The number of running workers of the kinds that `matches` selects.
    pub fn count(&self, matches: impl Fn(WorkerKind) -> bool) -> usize {
        self.slots.iter().flatten().filter(|worker| matches(worker.kind)).count()
    }

    /// Kills the worker of this kind, as another takes its place; false if there is none.
    /// Only for a kind that changes nothing.
    pub fn replace(&mut self, kind: WorkerKind) -> bool {
        let Some(worker) = self.slots.iter_mut().flatten().find(|worker| worker.kind == kind) else {
            return false;
        };
        let reason = Reason::truncated("a later session of the same node has replaced it");
        worker.ending.get_or_insert(Ending::Failed(RefusalKind::Refused, reason));
        worker.process.kill();
        true
    }

    /// The running workers: kind, time since the start, time since the last report.
    pub fn running(&self, now: Instant) -> impl Iterator<Item = (WorkerKind, Duration, Duration)> {
        let since =
            move |worker: &Worker| (worker.kind, now.since(worker.started), now.since(worker.last_report));
        self.slots.iter().flatten().map(since)
    }

    /// The next report of a worker. Its last report (done or failed) is kept for
    /// [`reap`](Self::reap). `None` if there is no report now.
    pub fn next_report(&mut self, now: Instant, at: usize) -> Option<(WorkerKind, Report)> {
        let worker = self.slots.get_mut(at)?.as_mut()?;
        loop {
            let got = sys::recv_message(worker.channel.as_fd(), &mut self.report[..]).ok()?;
            let bytes = self.report.get(..got).filter(|bytes| !bytes.is_empty())?;
            worker.last_report = now;
            match postcard::from_bytes(bytes) {
                // After an invalid report, "done" must not make the job a success.
                Ok(Report::Done) => {
                    worker.ending.get_or_insert(Ending::Done);
                }
                Ok(Report::Failed { kind, reason }) => {
                    worker.ending.get_or_insert(Ending::Failed(kind, reason));
                }
                Ok(report) if worker.kind.may_send(&report) => return Some((worker.kind, report)),
                _ => {
                    let reason = Reason::truncated("the worker sent an invalid report");
                    worker.ending = Some(Ending::Crashed(reason));
                }
            }
        }
    }

    /// A worker that has ended: its slot and its wait status. Read its reports before
    /// [`reap`](Self::reap).
    #[must_use]
    pub fn ended(&mut self) -> Option<(usize, i32)> {
        let mut workers =
            self.slots.iter_mut().enumerate().filter_map(|(at, worker)| Some((at, worker.as_mut()?)));
        let (at, end, worker) =
            workers.find_map(|(at, worker)| Some((at, worker.process.try_wait()?, worker)))?;
        let why = match end {
            ProcessEnd::Waited(Waited { status, peak_bytes }) => {
                worker.peak_bytes = peak_bytes;
                self.peak_bytes = self.peak_bytes.max(peak_bytes);
                return Some((at, status));
            }
            ProcessEnd::Lost => {
                Ending::Crashed(Reason::truncated("the installer has ended, and its worker with it"))
            }
            ProcessEnd::OtherProgram => {
                self.is_other_program = true;
                Ending::Crashed(Reason::truncated(
                    "the installer runs another thimble than this daemon: restart both",
                ))
            }
            ProcessEnd::NotStarted(reason) => Ending::Failed(RefusalKind::Refused, reason),
        };
        worker.ending.get_or_insert(why);
        Some((at, 0))
    }

    /// Frees the slot of a worker that has ended, and returns its kind and how it ended.
    pub fn reap(&mut self, registry: &Registry, at: usize, status: i32) -> Option<(WorkerKind, Ending)> {
        let worker = self.slots.get_mut(at)?.take()?;
        for fd in [Some(worker.channel.as_fd()), worker.process.end_fd()].into_iter().flatten() {
            let _ = registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
        }
        let crashed = || {
            let has_grown = |before| oom::kills().is_some_and(|kills| kills > before);
            if libc::WIFSIGNALED(status)
                && libc::WTERMSIG(status) == libc::SIGKILL
                && worker.oom_kills.is_some_and(has_grown)
            {
                let (had, available) = (worker.peak_bytes / 1024, oom::Available);
                return Ending::Crashed(Reason::format(format_args!(
                    "the kernel ended the worker for want of memory: it had {had} KiB{available}"
                )));
            }
            let how = if libc::WIFSIGNALED(status) { "was killed by signal" } else { "ended with status" };
            let number =
                if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
            Ending::Crashed(Reason::format(format_args!("the worker {how} {number}")))
        };
        Some((worker.kind, worker.ending.unwrap_or_else(crashed)))
    }

    /// Kills all workers and waits, for half a second at most, until they are gone.
    pub fn kill_and_reap_all(&mut self, registry: &Registry) {
        self.kill_all();
        for _ in 0..REAP_TRIES {
            while let Some((at, status)) = self.ended() {
                self.reap(registry, at, status);
            }
            if self.count(|_| true) == 0 {
                return;
            }
            std::thread::sleep(REAP_PAUSE);
        }
    }

    /// Kills all workers, as the kernel would at the daemon's end. A worker may be
    /// killed at any point: recovery handles each, and waits for the worker's lock.
    pub fn kill_all(&mut self) {
        for worker in self.slots.iter().flatten() {
            worker.process.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_faces_a_peer_says_only_how_it_ended() {
        let reports = [
            Report::Superseded,
            Report::Waits(Reason::default()),
            Report::Item(Reason::default()),
            Report::Notice(Reason::default()),
            Report::Floor(7),
        ];
        let may = |kind: WorkerKind| reports.each_ref().map(|report| kind.may_send(report));
        assert_eq!(may(WorkerKind::Serve(NodeId(1), Purpose::Fetch)), [false; 5]);
        assert_eq!(may(WorkerKind::Show), [false; 5]);
        assert_eq!(may(WorkerKind::Resolve), [false; 5]);
        let resolved = Report::Resolved { at: 0, address: [0; 16] };
        assert!(WorkerKind::Resolve.may_send(&resolved) && !WorkerKind::Agent.may_send(&resolved));
        assert_eq!(may(WorkerKind::Pull(NodeId(1))), [false, false, true, true, true]);
        assert_eq!(may(WorkerKind::Reload(None)), [false, true, true, true, true]);
        assert_eq!(may(WorkerKind::Agent), [true, false, true, true, true]);
        assert!(WorkerKind::Serve(NodeId(1), Purpose::Fetch).may_send(&Report::Done));
    }
}
