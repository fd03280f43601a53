//! Workers as the loop has them: started for what must not block it, listened
//! to, and buried.

use std::os::fd::{AsFd, BorrowedFd};

use log::{info, warn};
use mio::Token;

use super::event_loop::{Daemon, WORKERS};
use super::job::{InstallJob, Job, Report};
use super::proof;
use super::workers::{Ending, Kind};
use crate::fsm::actions::Install;
use crate::fsm::event::{Event, WorkerEnd};
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::Reason;
use crate::wire::frame::Purpose;

/// Reports taken from one worker in one turn.
const REPORTS: usize = 32;
/// When an agent that finds no worker free should come back.
const COME_BACK: Duration = Duration::from_millis(500);

impl Daemon<'_> {
    /// Starts the worker that reads the repository: at start, and whenever what
    /// is on the disk may differ from what is known here. Merging again what is
    /// known changes nothing.
    #[inline(never)]
    pub fn load(&mut self) {
        self.blobs_missing.clear();
        let started = proof::exempt(|| self.workers.start(&self.registry, Kind::Load, &Job::Load, &[]));
        if let Err(error) = started {
            let kind = error.kind();
            self.on_load_failed(&Reason::format(format_args!("its worker cannot be started: {kind}")));
        }
    }

    fn on_load_failed(&mut self, reason: &Reason) {
        let line = Reason::format(format_args!("the repository cannot be read: {reason}"));
        if self.is_loaded {
            warn!("{line}");
        } else {
            self.over.get_or_insert(Err(line));
        }
    }

    /// Hands an agent that wants to fetch to a worker, if one is free.
    #[inline(never)]
    pub fn serve(&mut self, at: usize) {
        let serving = self.workers.count(|kind| kind == Kind::Serve);
        if serving >= limits::BLOB_WORKERS || !self.is_loaded {
            return self.sessions.turn_away(at, COME_BACK, &self.registry);
        }
        let Some((stream, keys)) = self.sessions.hand_over(at, &self.registry) else { return };
        let job = Job::Serve(keys);
        let started =
            proof::exempt(|| self.workers.start(&self.registry, Kind::Serve, &job, &[stream.as_fd()]));
        if let Err(error) = started {
            warn!("a worker that serves patches cannot be started: {}", error.kind());
        }
    }

    #[inline(never)]
    pub fn take_reports(&mut self, now: Instant, token: Token) {
        for _ in 0..REPORTS {
            let Some((kind, report)) = self.workers.next_report(token.0 - WORKERS) else { return };
            self.on_report(now, kind, &report);
        }
        self.ready.insert(token);
    }

    fn on_report(&mut self, now: Instant, kind: Kind, report: &Report) {
        match report {
            Report::Progress { step, percent } => self.tell(now, &Event::Progress(*step, *percent)),
            Report::Installed(patch) => self.tell(now, &Event::Installed(patch)),
            Report::InstalledEnd { digest, last } => {
                self.tell(now, &Event::InstalledEnd(*digest, last.as_ref()));
            }
            Report::Notice(line) => info!("{line}"),
            Report::Item(line) => self.pass_on(kind, line),
            Report::Entry(entry) => {
                let merged = self.node.controller.as_mut().map(|c| c.merge(now, entry));
                if let Some(Err(full)) = merged {
                    warn!("{}: {full}", entry.id);
                }
            }
            Report::BlobMissing { hash } => {
                if self.blobs_missing.push(*hash).is_err() {
                    warn!("the file of patch {hash:.12} is missing too");
                }
            }
            Report::Store { .. } | Report::Done | Report::Failed { .. } => {}
        }
    }

    #[inline(never)]
    pub fn bury_workers(&mut self, now: Instant) {
        while let Some((at, status)) = self.workers.ended() {
            // What it said last may still be unread.
            while let Some((kind, report)) = self.workers.next_report(at) {
                self.on_report(now, kind, &report);
            }
            if let Some((kind, ending)) = self.workers.bury(&self.registry, at, status) {
                self.on_worker_ended(now, kind, &ending);
            }
        }
    }

    fn on_worker_ended(&mut self, now: Instant, kind: Kind, ending: &Ending) {
        match (kind, ending) {
            (Kind::Agent, ending) => {
                let end = match ending {
                    Ending::Done => WorkerEnd::Done,
                    Ending::Failed(_, reason) => WorkerEnd::Failed(reason),
                    Ending::Crashed(reason) => WorkerEnd::Crashed(reason),
                };
                if let Ending::Failed(_, reason) | Ending::Crashed(reason) = ending {
                    warn!("agent: {reason}");
                }
                self.tell(now, &Event::WorkerEnded(end));
            }
            (Kind::Load, Ending::Done) => {
                if !self.is_loaded {
                    info!("the repository is read");
                }
                self.is_loaded = true;
            }
            (Kind::Load, Ending::Failed(_, reason) | Ending::Crashed(reason)) => {
                self.on_load_failed(reason);
            }
            (Kind::Change { connection, generation }, ending) => {
                self.on_change_ended(now, connection, generation, ending);
            }
            (Kind::Serve | Kind::Show, Ending::Failed(_, reason) | Ending::Crashed(reason)) => {
                info!("serving: {reason}");
            }
            (Kind::Serve | Kind::Show, Ending::Done) => {}
        }
    }

    #[inline(never)]
    pub fn start_install(&mut self, now: Instant, install: Install) {
        let Install { request_id, controller, digest, force } = install;
        info!("install {request_id} asked by controller {controller} begins");
        match self.sessions.take(&self.registry, controller, Purpose::Fetch) {
            Some((stream, session)) => {
                let job = Job::Install(InstallJob { request_id, controller, digest, force, session });
                self.start_agent(now, &job, Some(stream.as_fd()));
            }
            None => {
                let reason = Reason::new("the session to the controller was lost");
                let event = Event::WorkerEnded(WorkerEnd::Failed(&reason));
                self.node.on_event(now, &event, &mut self.actions);
            }
        }
    }

    #[inline(never)]
    pub fn start_agent(&mut self, now: Instant, job: &Job, session: Option<BorrowedFd<'_>>) {
        let files = session.as_slice();
        let started = proof::exempt(|| self.workers.start(&self.registry, Kind::Agent, job, files));
        if let Err(error) = started {
            let kind = error.kind();
            let reason = Reason::format(format_args!("the agent's worker cannot be started: {kind}"));
            let event = Event::WorkerEnded(WorkerEnd::Crashed(&reason));
            self.node.on_event(now, &event, &mut self.actions);
        }
    }
}
