//! Workers as the loop has them: started for what must not block it, listened
//! to, and buried.

use std::os::fd::{AsFd, BorrowedFd};

use log::{info, warn};
use mio::Token;

use super::answers::rollouts::{FOR_NOBODY, log_settled};
use super::event_loop::{Daemon, WORKERS};
use super::proof;
use super::workers::{Ending, WorkerKind};
use crate::fsm::event::{Event, MergedMap, WorkerEnd};
use crate::job::{Job, Report};
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Reason};
use crate::wire::frame::Purpose;
use crate::wire::install::InstallRequest;
use crate::wire::session::SessionKeys;

/// Reports taken from one worker in one turn.
const REPORTS: usize = 32;
/// When a node that finds no worker free should come back.
const COME_BACK: Duration = Duration::from_millis(500);
/// When to read the repository again where that failed.
const LOAD_AGAIN: Duration = Duration::from_secs(5);

impl Daemon<'_> {
    /// Whether the repository is being read: for the first time, or again since
    /// what is on the disk may differ from what is known here. Merging once more
    /// what is known changes nothing.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.workers.count(|kind| kind == WorkerKind::Load) > 0
    }

    /// Starts the worker that reads the repository.
    #[inline(never)]
    pub fn load(&mut self, now: Instant) {
        self.load_due = None;
        // What a worker that died did not tell is told now.
        if let Some(controller) = &mut self.node.controller {
            controller.on_loading();
        }
        let started = proof::exempt(|| {
            self.workers.start(
                now,
                &self.registry,
                WorkerKind::Load,
                &Job::Load { is_start: !self.is_loaded },
                &[],
            )
        });
        if let Err(error) = started {
            let kind = error.kind();
            self.on_load_failed(now, &Reason::format(format_args!("its worker cannot be started: {kind}")));
        }
    }

    fn on_load_failed(&mut self, now: Instant, reason: &Reason) {
        let line = Reason::format(format_args!("the repository cannot be read: {reason}"));
        if self.is_loaded {
            warn!("{line}");
            self.load_due = Some(now + LOAD_AGAIN);
        } else {
            self.over.get_or_insert(Err(line));
        }
    }

    /// Hands a node that wants to fetch to a worker, if one is free and the node has
    /// none for this: a stolen one keeps no others out.
    #[inline(never)]
    pub fn serve(&mut self, now: Instant, at: usize, node: NodeId, purpose: Purpose) {
        let serving = self.workers.count(|kind| matches!(kind, WorkerKind::Serve(..)));
        let is_served = self.workers.count(|kind| kind == WorkerKind::Serve(node, purpose)) > 0;
        if serving >= limits::BLOB_WORKERS || is_served || !self.is_loaded {
            return self.sessions.send_busy(at, COME_BACK, &self.registry);
        }
        let Self { sessions, workers, registry, .. } = self;
        let started = sessions.hand_over(at, registry, |stream, keys| {
            proof::exempt(|| {
                workers.start(
                    now,
                    registry,
                    WorkerKind::Serve(node, purpose),
                    &Job::Serve { purpose, session: keys },
                    &[stream],
                )
            })
        });
        if let Err(error) = started {
            let kind = error.kind();
            self.counters.log_not_served(now, &format_args!("its worker cannot be started: {kind}"));
        }
    }

    #[inline(never)]
    pub fn take_reports(&mut self, now: Instant, token: Token) {
        for _ in 0..REPORTS {
            let Some((kind, report)) = self.workers.next_report(now, token.0 - WORKERS) else { return };
            self.on_report(now, kind, &report);
        }
        self.ready.insert(token);
    }

    fn on_report(&mut self, now: Instant, kind: WorkerKind, report: &Report) {
        match report {
            Report::Progress { step, percent } => self.tell(now, &Event::Progress(*step, *percent)),
            Report::Installed(patch) => self.tell(now, &Event::Installed(patch)),
            Report::InstalledEnd { digest, last } => {
                self.tell(now, &Event::InstalledEnd(*digest, last.as_ref()));
            }
            Report::Notice(line) => warn!("{line}"),
            Report::Item(line) => match kind {
                WorkerKind::Reload(waiting) => self.on_reload_line(waiting, line),
                _ => self.pass_on(kind, line),
            },
            Report::Settings(settings) => self.take_up(now, settings),
            Report::Waits(line) => {
                if let WorkerKind::Reload(waiting) = kind {
                    self.on_reload_waits(waiting, line);
                }
            }
            Report::Awaited { request_id, controller } => {
                self.tell(now, &Event::ProofPending(*request_id, *controller));
            }
            Report::Superseded => self.is_superseded = true,
            Report::Replaced(line) => {
                warn!("{line}");
                self.replaced.keep(line);
            }
            Report::Pulled { digest, is_whole } => {
                self.pulled = Some(MergedMap { digest: *digest, is_whole: *is_whole });
            }
            Report::Done | Report::Failed { .. } => {}
            of_repository => {
                self.has_changed |= matches!(kind, WorkerKind::Change { .. }) && is_news(of_repository);
                if let (FOR_NOBODY, Report::Rollout(rollout)) = (kind, of_repository) {
                    log_settled(rollout);
                }
                self.on_repository(now, of_repository);
            }
        }
    }

    /// What a worker says of the repository, which is on the disk already.
    #[inline(never)]
    fn on_repository(&mut self, now: Instant, report: &Report) {
        let Some(controller) = &mut self.node.controller else { return };
        match report {
            Report::Entry(entry) => {
                if let Err(full) = controller.merge(now, entry) {
                    warn!("{}: {full}", entry.id);
                }
            }
            Report::Rollout(rollout) => controller.merge_rollout(now, rollout),
            Report::EntryPurged(id) => controller.purge_entry(now, id),
            Report::Floor(floor) => controller.raise_floor(now, *floor),
            Report::BlobMissing { hash, reason } => controller.blob_missing(hash, reason),
            Report::BlobHere { hash } => controller.blob_here(hash),
            Report::Controller { node, hostname } => {
                controller.sync_mut().neighbours_mut().know(now, *node, hostname)
            }
            Report::ControllerDropped(node) => controller.sync_mut().neighbours_mut().forget(*node),
            _ => {}
        }
    }

    #[inline(never)]
    pub fn reap_workers(&mut self, now: Instant) {
        while let Some((at, status)) = self.workers.ended() {
            // What it said last may still be unread.
            while let Some((kind, report)) = self.workers.next_report(now, at) {
                self.on_report(now, kind, &report);
            }
            if let Some((kind, ending)) = self.workers.reap(&self.registry, at, status) {
                self.on_worker_ended(now, kind, &ending);
            }
        }
    }

    fn on_worker_ended(&mut self, now: Instant, kind: WorkerKind, ending: &Ending) {
        let is_repositorys =
            matches!(kind, WorkerKind::Change { .. } | WorkerKind::Pull(_) | WorkerKind::Blobs(_));
        if is_repositorys && matches!(ending, Ending::Crashed(_)) {
            // It may have done durably what it did not live to tell.
            self.load_due = Some(now);
        }
        self.settle_floor();
        match (kind, ending) {
            // How it goes on is for the one who takes our place to say.
            (WorkerKind::Agent, _) if self.is_superseded => {}
            (WorkerKind::Agent, ending) => {
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
            (WorkerKind::Load, Ending::Done) => {
                if let Some(controller) = &mut self.node.controller {
                    controller.on_loaded(now);
                }
                if !self.is_loaded {
                    info!("the repository is read");
                    self.is_loaded = true;
                    self.give_turns(now);
                }
            }
            (WorkerKind::Load, Ending::Failed(_, reason) | Ending::Crashed(reason)) => {
                self.on_load_failed(now, reason);
            }
            (WorkerKind::Change { connection, generation }, ending) => {
                if let (FOR_NOBODY, Ending::Failed(_, reason) | Ending::Crashed(reason)) = (kind, ending) {
                    self.counters.log_not_settled(now, reason);
                }
                self.on_change_ended(now, connection, generation, ending);
            }
            (WorkerKind::Pull(node), ending) => {
                let silent = Reason::truncated("its worker did not say what it merged");
                let ended = match ending {
                    Ending::Done => self.pulled.take().ok_or(&silent),
                    Ending::Failed(_, reason) | Ending::Crashed(reason) => Err(reason),
                };
                self.counters.pulls.end(ended.is_ok());
                self.tell(now, &Event::PullEnded(node, ended));
            }
            (WorkerKind::Blobs(node), ending) => {
                let ended = match ending {
                    Ending::Done => Ok(()),
                    Ending::Failed(_, reason) | Ending::Crashed(reason) => Err(reason),
                };
                self.counters.blobs.end(ended.is_ok());
                self.tell(now, &Event::BlobsEnded(node, ended));
            }
            (
                WorkerKind::Serve(..) | WorkerKind::Show,
                Ending::Failed(_, reason) | Ending::Crashed(reason),
            ) => {
                self.counters.log_not_served(now, reason);
            }
            (WorkerKind::Serve(..) | WorkerKind::Show, Ending::Done) => {}
            (WorkerKind::Reload(waiting), ending) => self.on_reloaded(now, waiting, ending),
        }
    }

    /// Lets others hear of the map's purge floor, unless a worker may have told of
    /// the floor and not yet of all entries: with it, what the map lacks counts as
    /// purged.
    fn settle_floor(&mut self) {
        let is_partial =
            self.workers.count(|kind| matches!(kind, WorkerKind::Load | WorkerKind::Pull(_))) > 0;
        if let Some(controller) =
            self.node.controller.as_ref().filter(|_| !is_partial && self.load_due.is_none())
        {
            self.floor_told = controller.map().floor();
        }
    }

    /// Starts the worker that merges a controller's map, over the session that is
    /// ready.
    pub fn start_pull(&mut self, now: Instant, node: NodeId) {
        self.pulled = None;
        let agreed = self.node.controller.as_ref().map_or(0, |controller| controller.sync().agreed());
        let job = |session| Job::Pull { agreed, session };
        let started = self.start_over(now, node, Purpose::Pull, WorkerKind::Pull(node), job);
        self.counters.pulls.begin();
        if let Err(reason) = started {
            self.counters.pulls.end(false);
            self.node.on_event(now, &Event::PullEnded(node, Err(&reason)), &mut self.actions);
        }
    }

    /// Starts the worker that fetches missing blobs from a controller, over the
    /// session that is ready.
    pub fn start_blobs(&mut self, now: Instant, node: NodeId) {
        let started = self.start_over(now, node, Purpose::Blobs, WorkerKind::Blobs(node), Job::Blobs);
        self.counters.blobs.begin();
        if let Err(reason) = started {
            self.counters.blobs.end(false);
            self.node.on_event(now, &Event::BlobsEnded(node, Err(&reason)), &mut self.actions);
        }
    }

    #[inline(never)]
    fn start_over(
        &mut self,
        now: Instant,
        node: NodeId,
        purpose: Purpose,
        kind: WorkerKind,
        job: impl FnOnce(SessionKeys) -> Job,
    ) -> Result<(), Reason> {
        let Self { sessions, workers, registry, .. } = self;
        let (stream, session) = sessions
            .take(registry, node, purpose)
            .ok_or_else(|| Reason::truncated("the session was lost"))?;
        proof::exempt(|| workers.start(now, registry, kind, &job(session), &[stream.as_fd()]))
            .map_err(|error| Reason::format(format_args!("its worker cannot be started: {}", error.kind())))
    }

    #[inline(never)]
    pub fn start_install(&mut self, now: Instant, request: InstallRequest) {
        let InstallRequest { request_id, controller, .. } = request;
        info!("install {request_id} asked by controller {controller} begins");
        match self.sessions.take(&self.registry, controller, Purpose::Fetch) {
            Some((stream, session)) => {
                self.start_agent(now, Job::Install { request, session }, Some(stream.as_fd()));
            }
            None => {
                let reason = Reason::truncated("the session to the controller was lost");
                let event = Event::WorkerEnded(WorkerEnd::Failed(&reason));
                self.node.on_event(now, &event, &mut self.actions);
            }
        }
    }

    #[inline(never)]
    pub fn start_agent(&mut self, now: Instant, job: Job, session: Option<BorrowedFd<'_>>) {
        let files = session.as_slice();
        let started =
            proof::exempt(|| self.workers.start(now, &self.registry, WorkerKind::Agent, &job, files));
        if let Err(error) = started {
            let kind = error.kind();
            let reason = Reason::format(format_args!("the agent's worker cannot be started: {kind}"));
            let event = Event::WorkerEnded(WorkerEnd::Crashed(&reason));
            self.node.on_event(now, &event, &mut self.actions);
        }
    }
}

/// Whether other controllers should hear of this at once: the map has changed, or
/// here is a file that they may lack too.
const fn is_news(report: &Report) -> bool {
    matches!(
        report,
        Report::Entry(_)
            | Report::EntryPurged(_)
            | Report::Floor(_)
            | Report::BlobHere { .. }
            | Report::Rollout(_)
    )
}
