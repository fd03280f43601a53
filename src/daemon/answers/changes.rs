//! Changes of the repository. The loop checks what a worker cannot know, a worker makes
//! the change, and the command waits until the other controllers confirm it.

use std::os::fd::{AsFd, BorrowedFd};

use mio::Token;

use super::super::control_socket::{ConnectionId, Pending};
use super::super::event_loop::Daemon;
use super::super::os_error::OsError;
use super::super::proof;
use super::super::repository::{Change as StoreChange, ChangeKind, Requester};
use super::super::tokens::CONNECTIONS;
use super::super::workers::{Ending, WorkerKind};
use super::hosts::{is_lost, on_all_hosts};
use super::{Answered, RequestRefused, refused, wording};
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
        slot: usize,
        to: EntryState,
        ids: &PatchIds,
        force: bool,
        below_floor: bool,
    ) -> Result<Answered, RequestRefused> {
        let controller = self.controller()?;
        let checked = match to {
            EntryState::Applied | EntryState::Available => Ok(()),
            EntryState::Deleted | EntryState::Voided => check_deletion(now, controller, ids, force),
            EntryState::Committed => check_commitment(now, controller, ids, force),
        };
        checked.map_err(|reason| (ErrorKind::Refused, reason))?;
        let renew = controller.sync().must_renew();
        let job = Job::Change(Change { to, ids: ids.clone(), below_floor, renew });
        self.start_change(now, slot, ChangeKind::Patches(to), &job)
    }

    #[inline(never)]
    pub(super) fn upload(
        &mut self,
        now: Instant,
        slot: usize,
        names: &FileNames,
    ) -> Result<Answered, RequestRefused> {
        let renew = self.controller()?.sync().must_renew();
        let files = self.control.get(slot).map_or(0, |connection| connection.files.len());
        if names.is_empty() || files != 2 * names.len() {
            return Err(refused("An upload is one file and one signature for each patch."));
        }
        self.start_change(now, slot, ChangeKind::Upload, &Job::Upload { names: names.clone(), renew })
    }

    pub(super) fn purge(&mut self, now: Instant, slot: usize) -> Result<Answered, RequestRefused> {
        let controller = self.controller()?;
        let digest = controller.map().digest();
        let checked = controller.sync().check_purge(now, digest);
        checked.map_err(|refusal| (ErrorKind::Refused, wording::purge_refused(&refusal)))?;
        self.start_change(now, slot, ChangeKind::Purge, &Job::Purge(digest))
    }

    pub(super) fn drop_controller(
        &mut self,
        now: Instant,
        slot: usize,
        name: &Hostname,
    ) -> Result<Answered, RequestRefused> {
        let neighbours = self.controller()?.sync().neighbours();
        let node =
            wording::find_droppable(now, neighbours, name).map_err(|reason| (ErrorKind::Refused, reason))?;
        self.start_change(now, slot, ChangeKind::DropController, &Job::DropController(node))
    }

    /// Starts the one worker that changes the store; the request waits while it is busy.
    pub(super) fn start_change(
        &mut self,
        now: Instant,
        slot: usize,
        kind: ChangeKind,
        job: &Job,
    ) -> Result<Answered, RequestRefused> {
        if self.repository.change().is_some() {
            return Ok(Answered::MustWait);
        }
        let requester = Requester::Command(self.control.id(slot));
        let registry = &self.registry;
        let Some(connection) = self.control.get(slot) else { return Ok(Answered::HandedOver) };
        let mut files: heapless::Vec<BorrowedFd<'_>, FDS> = heapless::Vec::new();
        for file in connection.files.iter().filter(|_| kind == ChangeKind::Upload) {
            let _ = files.push(file.as_fd());
        }
        proof::exempt(|| self.workers.start(now, registry, WorkerKind::Change, job, &files)).map_err(
            |error| {
                let error = OsError(&error);
                let reason = Reason::format(format_args!("The worker for it cannot be started: {error}."));
                (ErrorKind::Refused, reason)
            },
        )?;
        self.repository.on_change_started(kind, requester);
        Ok(Answered::Continues(Pending::WaitingForWorker))
    }

    /// Sends a line of the worker that changes the store to the command that waits for
    /// it.
    pub fn on_change_line(&mut self, line: &Reason) {
        if let Some(StoreChange { requester: Requester::Command(command), .. }) = self.repository.change() {
            self.send_line(*command, line);
        }
    }

    /// Sends a command a line, if it still waits for its worker.
    pub fn send_line(&mut self, command: ConnectionId, line: &Reason) {
        if self.waits_for_worker(command) {
            self.control.reply(command.slot, &Reply::Line(line.clone()));
            self.ready.insert(Token(CONNECTIONS + command.slot));
        }
    }

    /// Whether this connection is still there and waits for its worker.
    pub fn waits_for_worker(&mut self, command: ConnectionId) -> bool {
        self.control.id(command.slot) == command
            && self.control.get(command.slot).is_some_and(|c| matches!(c.pending, Pending::WaitingForWorker))
    }

    /// A worker that changed the store has ended: announces the change to the other
    /// controllers, answers the command, and gives the next its turn.
    #[inline(never)]
    pub fn on_change_ended(&mut self, now: Instant, change: &StoreChange, ending: &Ending) {
        let number = match &mut self.node.controller {
            Some(controller) if change.has_changed => Some(controller.sync_mut().on_changed(now)),
            _ => None,
        };
        match change.requester {
            Requester::Command(command) => self.answer_change(now, command, change.kind, number, ending),
            Requester::Controller => {
                if let Ending::Failed(_, reason) | Ending::Crashed(reason) = ending {
                    self.counters.log_not_settled(now, reason);
                }
            }
        }
        self.resume_waiting(now);
    }

    /// Answers the command whose change has ended. `number` is that of the change among
    /// those that other controllers confirm, if anything has changed.
    fn answer_change(
        &mut self,
        now: Instant,
        command: ConnectionId,
        kind: ChangeKind,
        number: Option<u32>,
        ending: &Ending,
    ) {
        let slot = command.slot;
        if self.waits_for_worker(command) {
            match (ending, number) {
                (Ending::Done, number) => {
                    if let Some(line) = note_after(kind).filter(|_| number.is_some()) {
                        self.control.reply(slot, &Reply::Line(Reason::truncated(line)));
                    }
                    match number {
                        Some(number) => {
                            let until = now + Duration::from_millis(self.config.timers.sync_wait_ms);
                            self.set_pending(slot, Pending::WaitingForOthers { number, until });
                        }
                        None => self.control.end(slot),
                    }
                }
                (Ending::Failed(kind, reason), _) => self.control.fail(slot, (*kind).into(), reason.clone()),
                (Ending::Crashed(reason), _) => {
                    let line = format_args!("{reason}; it may have committed more than it reported.");
                    self.control.fail(slot, ErrorKind::Refused, Reason::format(line));
                }
            }
            self.control.resume(now, slot);
            self.ready.insert(Token(CONNECTIONS + slot));
        }
    }

    /// Ends the answers to changes that all other controllers that are present have
    /// confirmed, or whose wait is over. Does nothing before that.
    pub fn on_confirmed(&mut self, now: Instant) {
        for slot in 0..limits::CONTROL_CONNECTIONS {
            let Some(connection) = self.control.get(slot) else { continue };
            if let Pending::WaitingForOthers { number, until } = connection.pending {
                let sync = self.node.controller.as_ref().map(Controller::sync);
                if now >= until || sync.is_none_or(|sync| sync.is_confirmed(now, number)) {
                    self.confirm(now, slot, number);
                }
            }
        }
    }

    #[inline(never)]
    fn confirm(&mut self, now: Instant, slot: usize, number: u32) {
        if let Some(controller) = &self.node.controller {
            let line = wording::durable_on(now, controller.sync().neighbours(), number);
            self.control.reply(slot, &Reply::Line(line));
        }
        self.control.end(slot);
        self.control.resume(now, slot);
        self.ready.insert(Token(CONNECTIONS + slot));
    }

    /// Executes the requests that wait for the repository, the oldest first. A request may
    /// be refused by now. Requests that must wait again keep their order.
    pub fn resume_waiting(&mut self, now: Instant) {
        let first_new = self.control.next_ticket();
        while let Some((number, next)) = self.control.waiting_for_store()
            && number < first_new
        {
            self.set_pending(next, Pending::Nothing);
            self.control.resume(now, next);
            self.turn_connection(now, next);
        }
    }
}

/// The line that follows a change of this kind, if any.
const fn note_after(kind: ChangeKind) -> Option<&'static str> {
    match kind {
        ChangeKind::Patches(EntryState::Committed) => Some(wording::FREES_KEPT_FILES),
        ChangeKind::DropController => Some(wording::DROPPED_HERE_ALONE),
        ChangeKind::Patches(_) | ChangeKind::Upload | ChangeKind::Purge | ChangeKind::Rollout => None,
    }
}

fn check_deletion(
    now: Instant,
    controller: &Controller<'_>,
    ids: &PatchIds,
    force: bool,
) -> Result<(), Reason> {
    check_settled(now, controller)?;
    let on_hosts = |slot| controller.on_hosts(now, slot, force);
    let has_file = |slot| !controller.sync().blobs().missing().contains(slot);
    match check_delete(controller.map(), ids, on_hosts, has_file) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(Reason::format(format_args!("{refusal}"))),
    }
}

/// Checks a commit: it is final, so all hosts concerned must have the patches.
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
            Err(wording::commit_refused_by_lost(id, &host))
        }
        Err(refusal) => Err(Reason::format(format_args!("{refusal}"))),
    }
}

/// Refuses what depends on the hosts' patches until two rounds have queried them.
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
