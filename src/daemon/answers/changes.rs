//! What changes the repository: checked here for what a worker cannot know, done
//! by a worker, then awaited on the other controllers.

use std::os::fd::{AsFd, BorrowedFd};

use mio::Token;

use super::super::control_socket::Pending;
use super::super::event_loop::{CONNECTIONS, Daemon};
use super::super::proof;
use super::super::reload::Waiting;
use super::super::workers::{Ending, WorkerKind};
use super::hosts::{is_lost, on_all_hosts};
use super::{Answered, RequestRefused, refused, words};
use crate::control::sys::FDS;
use crate::control::{ErrorKind, Reply};
use crate::fsm::controller::Controller;
use crate::job::{Change, FileNames, Job, PatchIds};
use crate::limits;
use crate::repo::entry::EntryState;
use crate::repo::rules::{ChangeRefusal, check_commit, check_delete};
use crate::time::{Duration, Instant};
use crate::types::{Hostname, Reason};

impl Daemon<'_> {
    /// apply, remove, delete, commit.
    #[inline(never)]
    pub(super) fn change(
        &mut self,
        now: Instant,
        at: usize,
        to: EntryState,
        ids: &PatchIds,
        force: bool,
    ) -> Result<Answered, RequestRefused> {
        let controller = self.controller()?;
        let checked = match to {
            EntryState::Applied | EntryState::Available => Ok(()),
            EntryState::Deleted => check_deletion(now, controller, ids, force),
            EntryState::Committed => check_commitment(now, controller, ids, force),
        };
        checked.map_err(|reason| (ErrorKind::Refused, reason))?;
        let renew = controller.sync().must_renew();
        let job = Job::Change(Change { to, ids: ids.clone(), renew });
        self.start_change(now, at, &job, false)
    }

    #[inline(never)]
    pub(super) fn upload(
        &mut self,
        now: Instant,
        at: usize,
        names: &FileNames,
    ) -> Result<Answered, RequestRefused> {
        let renew = self.controller()?.sync().must_renew();
        let files = self.control.get(at).map_or(0, |connection| connection.files.len());
        if names.is_empty() || files != 2 * names.len() {
            return Err(refused("An upload is one file and one signature for each patch."));
        }
        self.start_change(now, at, &Job::Upload { names: names.clone(), renew }, true)
    }

    pub(super) fn purge(&mut self, now: Instant, at: usize) -> Result<Answered, RequestRefused> {
        let controller = self.controller()?;
        let digest = controller.map().digest();
        let checked = controller.sync().check_purge(now, digest);
        checked.map_err(|refusal| (ErrorKind::Refused, words::no_purge(&refusal)))?;
        self.start_change(now, at, &Job::Purge(digest), false)
    }

    pub(super) fn drop_controller(
        &mut self,
        now: Instant,
        at: usize,
        name: &Hostname,
    ) -> Result<Answered, RequestRefused> {
        let neighbours = self.controller()?.sync().neighbours();
        let node = words::to_drop(now, neighbours, name).map_err(|reason| (ErrorKind::Refused, reason))?;
        self.start_change(now, at, &Job::DropController(node), false)
    }

    /// Starts the one worker that changes the store, or waits for its turn.
    pub(super) fn start_change(
        &mut self,
        now: Instant,
        at: usize,
        job: &Job,
        with_files: bool,
    ) -> Result<Answered, RequestRefused> {
        if self.is_store_changing() {
            return Ok(Answered::NotYet);
        }
        let kind = WorkerKind::Change { connection: at, generation: self.control.generation(at) };
        let registry = &self.registry;
        let Some(connection) = self.control.get(at) else { return Ok(Answered::Elsewhere) };
        let mut files: heapless::Vec<BorrowedFd<'_>, FDS> = heapless::Vec::new();
        for file in connection.files.iter().filter(|_| with_files) {
            let _ = files.push(file.as_fd());
        }
        proof::exempt(|| self.workers.start(now, registry, kind, job, &files)).map_err(|error| {
            let kind = error.kind();
            let reason = Reason::format(format_args!("The worker for it cannot be started: {kind}."));
            (ErrorKind::Refused, reason)
        })?;
        self.has_changed = false;
        let and_then = match job {
            Job::Change(Change { to: EntryState::Committed, .. }) => Some(words::FREES_KEPT_FILES),
            Job::DropController(_) => Some(words::DROPPED_HERE_ALONE),
            _ => None,
        };
        Ok(Answered::Begun(Pending::WaitingForWorker { and_then }))
    }

    /// Passes a line of a worker on to the command that waits for it.
    pub fn pass_on(&mut self, kind: WorkerKind, line: &Reason) {
        if let WorkerKind::Change { connection, generation } = kind {
            self.tell_waiting(Some((connection, generation)), line);
        }
    }

    /// Tells the command on this connection a line, if it is still the one that waits.
    pub fn tell_waiting(&mut self, waiting: Option<Waiting>, line: &Reason) {
        if let Some((connection, generation)) = waiting
            && self.waits_for_worker(connection, generation).is_some()
        {
            self.control.reply(connection, &Reply::Line(line.clone()));
            self.ready.insert(Token(CONNECTIONS + connection));
        }
    }

    /// Whether this connection waits for its worker, and what to say besides when
    /// that has done something.
    pub fn waits_for_worker(&mut self, at: usize, generation: u64) -> Option<Option<&'static str>> {
        if self.control.generation(at) != generation {
            return None;
        }
        match self.control.get(at)?.pending {
            Pending::WaitingForWorker { and_then } => Some(and_then),
            _ => None,
        }
    }

    /// A worker that changed the store has ended: tells the other controllers, and
    /// the command; and gives the next its turn.
    #[inline(never)]
    pub fn on_change_ended(&mut self, now: Instant, at: usize, generation: u64, ending: &Ending) {
        let has_changed = std::mem::take(&mut self.has_changed);
        let number = match &mut self.node.controller {
            Some(controller) if has_changed => Some(controller.sync_mut().on_changed(now)),
            _ => None,
        };
        if let Some(and_then) = self.waits_for_worker(at, generation) {
            match (ending, number) {
                (Ending::Done, number) => {
                    if let Some(line) = and_then.filter(|_| number.is_some()) {
                        self.control.reply(at, &Reply::Line(Reason::truncated(line)));
                    }
                    match number {
                        Some(number) => {
                            let until = now + Duration::from_millis(self.config.timers.sync_wait_ms);
                            self.set_doing(at, Pending::WaitingForOthers { number, until });
                        }
                        None => self.control.end(at),
                    }
                }
                (Ending::Failed(kind, reason), _) => self.control.fail(at, (*kind).into(), reason.clone()),
                (Ending::Crashed(reason), _) => {
                    let line = format_args!("{reason}; what was reported as done is done, the rest is not.");
                    self.control.fail(at, ErrorKind::Refused, Reason::format(line));
                }
            }
            self.control.resume(now, at);
            self.ready.insert(Token(CONNECTIONS + at));
        }
        self.give_turns(now);
    }

    /// Ends the answers to changes that all others that are present have, or that
    /// have been waited for long enough. Early: does nothing.
    pub fn on_confirmed(&mut self, now: Instant) {
        for at in 0..limits::CONTROL_CONNECTIONS {
            let Some(connection) = self.control.get(at) else { continue };
            if let Pending::WaitingForOthers { number, until } = connection.pending {
                let sync = self.node.controller.as_ref().map(Controller::sync);
                if now >= until || sync.is_none_or(|sync| sync.is_confirmed(now, number)) {
                    self.confirm(now, at, number);
                }
            }
        }
    }

    #[inline(never)]
    fn confirm(&mut self, now: Instant, at: usize, number: u32) {
        if let Some(controller) = &self.node.controller {
            let line = words::durable_on(now, controller.sync().neighbours(), number);
            self.control.reply(at, &Reply::Line(line));
        }
        self.control.end(at);
        self.control.resume(now, at);
        self.ready.insert(Token(CONNECTIONS + at));
    }

    /// Gives those that wait for the repository their turns, in order: what one
    /// asks may be refused by now, and one that must wait on does, in that order.
    pub fn give_turns(&mut self, now: Instant) {
        let newcomers = self.control.next_ticket();
        while let Some((number, next)) = self.control.waiting_for_store()
            && number < newcomers
        {
            self.set_doing(next, Pending::Nothing);
            self.control.resume(now, next);
            self.turn_connection(now, next);
        }
    }

    pub(super) fn is_store_changing(&self) -> bool {
        self.workers.count(|kind| matches!(kind, WorkerKind::Change { .. })) > 0
    }
}

fn check_deletion(
    now: Instant,
    controller: &Controller<'_>,
    ids: &PatchIds,
    force: bool,
) -> Result<(), Reason> {
    check_settled(now, controller)?;
    match check_delete(controller.map(), ids, |slot| controller.on_hosts(now, slot, force)) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(Reason::format(format_args!("{refusal}"))),
    }
}

/// A commit is final, so all hosts that it concerns must have what it takes.
pub(super) fn check_commitment(
    now: Instant,
    controller: &Controller<'_>,
    ids: &PatchIds,
    force: bool,
) -> Result<(), Reason> {
    check_settled(now, controller)?;
    match check_commit(controller.map(), ids, |slot| on_all_hosts(now, controller, slot, force)) {
        Ok(_) => Ok(()),
        Err(ChangeRefusal::MayNotBeOnHost { id, host }) if is_lost(now, controller, &host) => {
            Err(words::may_not_be_on_lost(id, &host))
        }
        Err(refusal) => Err(Reason::format(format_args!("{refusal}"))),
    }
}

/// What depends on what hosts hold waits until two rounds have asked them.
fn check_settled(now: Instant, controller: &Controller<'_>) -> Result<(), Reason> {
    let pacing = controller.pacing();
    if pacing.is_settled(now) {
        return Ok(());
    }
    let seconds = pacing.settles_in(now).as_millis().div_ceil(1000);
    Err(Reason::format(format_args!(
        "What the hosts have is not known yet, since this controller has just started: try again in {seconds} s."
    )))
}
