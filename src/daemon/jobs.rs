//! Workers in the loop: it starts them for work that may block, applies their reports,
//! and reaps them.

use std::os::fd::{AsFd, BorrowedFd};

use log::{info, warn};
use mio::Token;

use super::answers::rollouts::log_settled;
use super::event_loop::Daemon;
use super::os_error::OsError;
use super::proof;
use super::repository::{LoadFailure, Requester};
use super::tokens::WORKERS;
use super::transport::Batch;
use super::workers::{Ending, WorkerKind};
use crate::fsm::agent::Agent;
use crate::fsm::event::{Event, MergedMap, WorkerEnd};
use crate::install::own_file;
use crate::job::{Job, RefusalKind, Report};
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Reason};
use crate::wire::frame::Purpose;
use crate::wire::install::InstallRequest;
use crate::wire::session::SessionKeys;

/// Reports taken from one worker in one turn.
const REPORTS: usize = 32;
/// When a node for which no worker is free should ask again.
const BUSY_RETRY: Duration = Duration::from_millis(500);

impl Daemon<'_> {
    /// Starts the worker that loads the store: for the first time, or again since the
    /// map in memory may differ from it. Merging an entry again that is in the map
    /// changes nothing.
    #[inline(never)]
    pub fn load(&mut self, now: Instant) {
        let is_start = !self.repository.is_loaded();
        self.repository.on_load_started();
        if let Some(controller) = &mut self.node.controller {
            controller.on_loading();
        }
        let started = proof::exempt(|| {
            self.workers.start(now, &self.registry, WorkerKind::Load, &Job::Load { is_start }, &[])
        });
        if let Err(error) = started {
            let error = OsError(&error);
            let reason = Reason::format(format_args!("its worker cannot be started: {error}"));
            self.on_load_failed(now, &reason, true);
        }
    }

    fn on_load_failed(&mut self, now: Instant, reason: &Reason, has_crashed: bool) {
        let line = Reason::format(format_args!("the repository cannot be read: {reason}"));
        match self.repository.on_load_failed(now, has_crashed) {
            LoadFailure::Retry => warn!("{line}"),
            LoadFailure::Fatal => {
                self.exit.get_or_insert(Err(line));
            }
        }
    }

    /// Hands a session to a worker that serves it, if one is free. A node gets one worker
    /// for a purpose, so that a node with a stolen key does not lock out others. A second
    /// session ends the first, as in the pool of sessions, and its node asks again when
    /// that worker is gone.
    #[inline(never)]
    pub fn serve(&mut self, now: Instant, at: usize, node: NodeId, purpose: Purpose) {
        let serving = self.workers.count(|kind| matches!(kind, WorkerKind::Serve(..)));
        let is_served = self.workers.replace(WorkerKind::Serve(node, purpose));
        if serving >= limits::BLOB_WORKERS || is_served || !self.repository.is_loaded() {
            // A host that waits for others does not stand still; one that replaces its own
            // session has nobody to wait for.
            if let Some(controller) = self.node.controller.as_mut().filter(|_| !is_served) {
                controller.on_turned_away(now, node);
            }
            return self.sessions.send_busy(now, at, BUSY_RETRY, &self.registry);
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
            let error = OsError(&error);
            self.counters.log_not_served(now, &format_args!("its worker cannot be started: {error}"));
        }
    }

    /// Applies the reports of one worker, a bounded number.
    #[inline(never)]
    pub fn take_reports(&mut self, now: Instant, token: Token, batch: &mut Batch) {
        for _ in 0..REPORTS {
            let Some((kind, report)) = self.workers.next_report(now, token.0 - WORKERS) else {
                // No signal tells the end of a worker of the installer's.
                return if self.workers.has_installer() {
                    self.reap_workers(now, batch)
                };
            };
            self.on_report(now, kind, &report, batch);
        }
        self.ready.insert(token);
    }

    fn on_report(&mut self, now: Instant, kind: WorkerKind, report: &Report, batch: &mut Batch) {
        match report {
            Report::Progress { step, percent } => self.on_event(now, &Event::Progress(*step, *percent)),
            Report::Installed(patch) => self.on_event(now, &Event::Installed(patch)),
            Report::InstalledEnd { digest, last, floor } => {
                self.floors.installed.clone_from(floor);
                self.on_event(now, &Event::InstalledEnd(*digest, last.as_ref()));
            }
            Report::Notice(line) => warn!("{line}"),
            Report::Item(line) => match kind {
                WorkerKind::Reload(command) => self.on_reload_line(command, line),
                WorkerKind::Change => self.on_change_line(line),
                _ => {}
            },
            Report::FloorHere { hash, floor } => self.floors.is_here(hash, floor),
            Report::Resolved { at, address } => self.on_resolved(usize::from(*at), *address),
            Report::Settings(settings) => self.apply_settings(now, settings),
            Report::Waits(line) => {
                if let WorkerKind::Reload(command) = kind {
                    self.on_reload_waits(command, line);
                }
            }
            Report::Awaited { request_id, controller, witness } => {
                self.on_awaited(now, *request_id, *controller, *witness, batch);
            }
            Report::Offer(_) | Report::Lacks(_) | Report::Spread(_) | Report::Receive(_) => {
                self.on_spread_report(now, report);
            }
            Report::Superseded => self.is_superseded = true,
            Report::Replaced(line) => {
                warn!("{line}");
                self.replaced.keep(line);
            }
            Report::Pulled { digest, is_whole } => {
                self.repository.on_pull_reported(MergedMap { digest: *digest, is_whole: *is_whole });
            }
            Report::Done | Report::Failed { .. } => {}
            _ => {
                if kind == WorkerKind::Change {
                    self.on_change_report(report);
                }
                self.on_repository(now, report);
            }
        }
    }

    /// A report of the worker that changes the store.
    fn on_change_report(&mut self, report: &Report) {
        if is_news(report) {
            self.repository.on_change_reported();
        }
        let requester = self.repository.change().map(|change| change.requester);
        if let (Some(Requester::Controller), Report::Rollout(rollout)) = (requester, report) {
            let own = self.node.controller.as_ref();
            let before = own.and_then(|own| Some((own.map().rollout()?, own.node())));
            log_settled(
                rollout,
                before.is_some_and(|(before, own)| before.is_running() && before.carrier == own),
            );
        }
    }

    /// Applies a report about the repository. The change is on the disk already.
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

    /// Reaps the workers that have ended, and acts on how they ended.
    #[inline(never)]
    pub fn reap_workers(&mut self, now: Instant, batch: &mut Batch) {
        while let Some((at, status)) = self.workers.ended() {
            // Its last reports may still be unread.
            while let Some((kind, report)) = self.workers.next_report(now, at) {
                self.on_report(now, kind, &report, batch);
            }
            // It has executed the new file already.
            if self.workers.is_other_program && own_file().is_some_and(|(_, is_replaced)| is_replaced) {
                self.is_superseded = true;
            }
            if let Some((kind, ending)) = self.workers.reap(&self.registry, at, status) {
                self.on_worker_ended(now, kind, &ending);
            }
        }
    }

    fn on_worker_ended(&mut self, now: Instant, kind: WorkerKind, ending: &Ending) {
        let changes_store = matches!(kind, WorkerKind::Change | WorkerKind::Pull(_) | WorkerKind::Blobs(_));
        if changes_store && matches!(ending, Ending::Crashed(_)) {
            self.repository.on_worker_crashed(now);
        }
        let floor = self.node.controller.as_ref().map_or(0, |controller| controller.map().floor());
        match (kind, ending) {
            // The thimble that takes this one's place resumes the install.
            (WorkerKind::Agent, _) if self.is_superseded => {}
            (WorkerKind::Agent, ending) => {
                let end = match ending {
                    Ending::Done => WorkerEnd::Done,
                    Ending::Failed(RefusalKind::Unfinished, reason) => WorkerEnd::Unfinished(reason),
                    Ending::Failed(RefusalKind::SessionLost, reason) => {
                        if let Some(controller) = self.node.agent.as_ref().and_then(Agent::fetches_from) {
                            self.paths.on_session_failed(now, controller);
                        }
                        WorkerEnd::SessionLost(reason)
                    }
                    Ending::Failed(_, reason) => WorkerEnd::Failed(reason),
                    Ending::Crashed(reason) => WorkerEnd::Crashed(reason),
                };
                if let Ending::Failed(_, reason) | Ending::Crashed(reason) = ending {
                    warn!("agent: {reason}");
                }
                if let Ending::Crashed(reason) = ending {
                    self.agent_stopped = Some(reason.clone());
                }
                self.on_event(now, &Event::WorkerEnded(end));
            }
            (WorkerKind::Load, Ending::Done) => {
                if let Some(controller) = &mut self.node.controller {
                    controller.on_loaded(now);
                }
                if self.repository.on_loaded(now, floor) {
                    info!("the repository is read");
                    self.resume_waiting(now);
                }
            }
            (WorkerKind::Load, Ending::Failed(_, reason)) => self.on_load_failed(now, reason, false),
            (WorkerKind::Load, Ending::Crashed(reason)) => self.on_load_failed(now, reason, true),
            (WorkerKind::Change, ending) => {
                if let Some(change) = self.repository.on_change_ended(floor) {
                    self.on_change_ended(now, &change, ending);
                }
            }
            (WorkerKind::Pull(node), ending) => {
                let no_report = Reason::truncated("its worker did not report what it merged");
                let merged = self.repository.on_pull_ended(floor);
                let ended = match ending {
                    Ending::Done => merged.ok_or(&no_report),
                    Ending::Failed(_, reason) | Ending::Crashed(reason) => Err(reason),
                };
                self.counters.pulls.end(ended.is_ok());
                if ended.is_err() {
                    self.paths.on_session_failed(now, node);
                }
                self.on_event(now, &Event::PullEnded(node, ended));
            }
            (WorkerKind::Blobs(node), ending) => {
                let ended = match ending {
                    Ending::Done => Ok(()),
                    Ending::Failed(_, reason) | Ending::Crashed(reason) => Err(reason),
                };
                self.counters.blobs.end(ended.is_ok());
                if ended.is_err() {
                    self.paths.on_session_failed(now, node);
                }
                self.on_event(now, &Event::BlobsEnded(node, ended));
            }
            (
                WorkerKind::Serve(..) | WorkerKind::Show,
                Ending::Failed(_, reason) | Ending::Crashed(reason),
            ) => {
                self.counters.log_not_served(now, reason);
            }
            (WorkerKind::Serve(..) | WorkerKind::Show, Ending::Done) => {}
            (WorkerKind::Resolve, ending) => {
                if let Ending::Crashed(reason) = ending {
                    warn!("the names of peers are not resolved: {reason}");
                }
                self.on_names_resolved(now);
            }
            (WorkerKind::Spread, ending) => {
                self.on_spread_ended(now, ending);
                self.dispatch(now);
            }
            (WorkerKind::Receive, ending) => self.on_receiving_ended(now, ending),
            (WorkerKind::Reload(command), ending) => self.on_reloaded(now, command, ending),
        }
    }

    /// Starts the worker that merges a controller's map, on the session that is open.
    pub fn start_pull(&mut self, now: Instant, node: NodeId) {
        let agreed = self.node.controller.as_ref().map_or(0, |controller| controller.sync().agreed());
        let job = |session| Job::Pull { agreed, session };
        let started = self.start_on_session(now, node, Purpose::Pull, WorkerKind::Pull(node), job);
        self.counters.pulls.begin();
        match started {
            Ok(()) => self.repository.on_pull_started(),
            Err(reason) => {
                self.counters.pulls.end(false);
                self.node.on_event(now, &Event::PullEnded(node, Err(&reason)), &mut self.actions);
            }
        }
    }

    /// Starts the worker that fetches missing blobs from a controller, on the session that
    /// is open.
    pub fn start_blobs(&mut self, now: Instant, node: NodeId) {
        let started = self.start_on_session(now, node, Purpose::Blobs, WorkerKind::Blobs(node), Job::Blobs);
        self.counters.blobs.begin();
        if let Err(reason) = started {
            self.counters.blobs.end(false);
            self.node.on_event(now, &Event::BlobsEnded(node, Err(&reason)), &mut self.actions);
        }
    }

    #[inline(never)]
    fn start_on_session(
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
        proof::exempt(|| workers.start(now, registry, kind, &job(session), &[stream.as_fd()])).map_err(
            |error| Reason::format(format_args!("its worker cannot be started: {}", OsError(&error))),
        )
    }

    #[inline(never)]
    pub fn start_install(&mut self, now: Instant, request: InstallRequest) {
        let InstallRequest { request_id, controller, .. } = request;
        info!("install {request_id} begins, requested by controller {controller}");
        match self.sessions.take(&self.registry, controller, Purpose::Fetch) {
            Some((stream, session)) => {
                let witness = self.witness(now);
                self.start_agent(now, Job::Install { request, session, witness }, Some(stream.as_fd()));
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
            let reason = self.workers.not_started(&error);
            warn!("{reason}");
            let event = Event::WorkerEnded(WorkerEnd::NotStarted(&reason));
            self.node.on_event(now, &event, &mut self.actions);
        }
    }
}

/// Whether to announce this to other controllers at once: the map has changed, or a file
/// has arrived that they may lack.
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
