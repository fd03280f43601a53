//! Worker processes: this binary started again, with one job each.
//!
//! A worker is fork and exec of our own executable's descriptor, so that what
//! runs is what started us, whatever has become of the file. It finds its job,
//! its reports' way back, the configuration and its sockets or files at fixed
//! descriptors. That it ended is told by `waitpid` alone; how its job ended, by
//! its last report.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::buffers::{Buffer, Pool};
use super::reload::Waiting;
use super::sys;
use crate::control::sys::FDS;
use crate::job::{Job, RefusalKind, Report};
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Reason};
use crate::wire::frame::Purpose;

/// How often it is looked whether workers that were killed are gone, and how far apart.
const REAP_TRIES: u32 = 100;
const REAP_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// What a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerKind {
    /// The agent's: recovery or an install.
    Agent,
    /// The controller's: reads the store, at start or again.
    Load,
    /// The controller's: changes the store, for this control connection.
    Change {
        /// The place of the connection that waits for it.
        connection: usize,
        /// Which of the connections that had that place.
        generation: u64,
    },
    /// The controller's: serves this node, an agent or another controller.
    Serve(NodeId, Purpose),
    /// The controller's: merges this controller's map.
    Pull(NodeId),
    /// The controller's: fetches missing blobs from this controller.
    Blobs(NodeId),
    /// Answers a `show` on a control connection that was handed over.
    Show,
    /// Reads the configuration anew, for this connection's command if for one.
    Reload(Option<Waiting>),
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
    pid: libc::pid_t,
    channel: OwnedFd,
    /// When it was started.
    started: Instant,
    /// When it was started, or said something.
    last_report: Instant,
    ending: Option<Ending>,
}

/// The workers at work.
pub struct Workers {
    executable: File,
    config: File,
    slots: [Option<Worker>; limits::WORKERS],
    first_token: usize,
    job: Buffer,
    report: Buffer,
    /// Workers started, ever.
    pub started: u64,
}

impl Workers {
    /// No workers; their channels will have the tokens from `first_token` on.
    /// `config` is what they are to read as configuration.
    ///
    /// # Errors
    /// Our executable cannot be opened, or there is no memory for the configuration.
    pub fn new(config: &[u8], first_token: usize, pool: &mut Pool) -> io::Result<Self> {
        let mut memory = sys::memfd()?;
        sys::write_sealed(&mut memory, config)?;
        Ok(Self {
            executable: File::open("/proc/self/exe")?,
            config: memory,
            slots: [const { None }; limits::WORKERS],
            first_token,
            job: pool.take(limits::JOB_BYTES),
            report: pool.take(limits::REPORT_BYTES),
            started: 0,
        })
    }

    /// Later workers read this as configuration.
    pub fn set_config(&mut self, config: File) {
        self.config = config;
    }

    /// Starts a worker with a job. `files` are what it finds from
    /// [`FIRST_FILE_FD`](crate::job::FIRST_FILE_FD) on; the caller keeps its own.
    ///
    /// # Errors
    /// No place is free, or the system cannot start one.
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
        let mut fds: heapless::Vec<RawFd, { FDS + 2 }> = heapless::Vec::new();
        for fd in [theirs.as_fd(), self.config.as_fd()].iter().chain(files) {
            fds.push(fd.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
        }
        registry.register(
            &mut SourceFd(&channel.as_raw_fd()),
            Token(self.first_token + at),
            Interest::READABLE,
        )?;
        let pid = sys::spawn(self.executable.as_fd(), &[c"thimble", c"worker"], &fds)?;
        self.started += 1;
        self.slots[at] = Some(Worker { kind, pid, channel, started: now, last_report: now, ending: None });
        Ok(())
    }

    /// How many are at work for which `is_such` holds.
    pub fn count(&self, is_such: impl Fn(WorkerKind) -> bool) -> usize {
        self.slots.iter().flatten().filter(|worker| is_such(worker.kind)).count()
    }

    /// The workers at work, for how long each, and for how long it has said nothing.
    pub fn running(&self, now: Instant) -> impl Iterator<Item = (WorkerKind, Duration, Duration)> {
        let since =
            move |worker: &Worker| (worker.kind, now.since(worker.started), now.since(worker.last_report));
        self.slots.iter().flatten().map(since)
    }

    /// The next report of a worker, but for its last, which is kept until it has
    /// ended. `None` where there is none now.
    pub fn next_report(&mut self, now: Instant, at: usize) -> Option<(WorkerKind, Report)> {
        let worker = self.slots.get_mut(at)?.as_mut()?;
        loop {
            let got = sys::recv_message(worker.channel.as_fd(), &mut self.report[..]).ok()?;
            let bytes = self.report.get(..got).filter(|bytes| !bytes.is_empty())?;
            worker.last_report = now;
            match postcard::from_bytes(bytes) {
                // Where a report was lost, "done" is not all that there was to say.
                Ok(Report::Done) => {
                    worker.ending.get_or_insert(Ending::Done);
                }
                Ok(Report::Failed { kind, reason }) => {
                    worker.ending.get_or_insert(Ending::Failed(kind, reason));
                }
                Ok(report) => return Some((worker.kind, report)),
                Err(_) => {
                    let reason = Reason::truncated("the worker reported what makes no sense");
                    worker.ending = Some(Ending::Crashed(reason));
                }
            }
        }
    }

    /// A worker that has ended, by its place. Read its reports before [`reap`](Self::reap).
    #[must_use]
    pub fn ended(&mut self) -> Option<(usize, i32)> {
        self.slots
            .iter()
            .enumerate()
            .find_map(|(at, worker)| Some((at, sys::try_wait(worker.as_ref()?.pid)?)))
    }

    /// Frees the place of a worker that has ended; says what it was and how it ended.
    pub fn reap(&mut self, registry: &Registry, at: usize, status: i32) -> Option<(WorkerKind, Ending)> {
        let worker = self.slots.get_mut(at)?.take()?;
        let _ = registry.deregister(&mut SourceFd(&worker.channel.as_raw_fd()));
        let crashed = || {
            let how = if libc::WIFSIGNALED(status) { "was killed by signal" } else { "ended with status" };
            let number =
                if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
            Ending::Crashed(Reason::format(format_args!("the worker {how} {number}")))
        };
        Some((worker.kind, worker.ending.unwrap_or_else(crashed)))
    }

    /// Kills all workers, as [`end_all`](Self::end_all), and waits, but not for long,
    /// until they are gone.
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

    /// Kills all workers, as the kernel would once the daemon is gone. Recovery
    /// knows every point at which one can die, and waits for its lock.
    pub fn kill_all(&mut self) {
        for worker in self.slots.iter().flatten() {
            sys::kill(worker.pid, libc::SIGKILL);
        }
    }
}
