//! What the daemon says to commands: requests of the control socket carried out.
//!
//! | file | what is answered there |
//! |---|---|
//! | `changes` | what changes the repository: by a worker, then wherever else it is |
//! | `commit` | what a commit would come to |
//! | `hosts` | what is asked of hosts |
//! | `rollouts` | the rollout: begun, stopped, resumed, shown |
//! | `lists` | replies that are continued as a connection takes them, and `status` |
//! | `words` | the lines and the refusals that speak of other controllers |

mod changes;
mod commit;
mod hosts;
mod lists;
pub(super) mod rollouts;
#[cfg(test)]
mod tests;
pub(super) mod words;

use std::os::fd::AsFd;

use super::control_socket::{Filled, Pending};
use super::event_loop::Daemon;
use super::proof;
use super::tokens::CONNECTIONS;
use super::workers::WorkerKind;
use crate::control::frame::MalformedFrame;
use crate::control::{ErrorKind, Request, VERSION};
use crate::fsm::controller::Controller;
use crate::job::{Job, PatchIds};
use crate::repo::entry::{Entry, EntryState};
use crate::repo::refusal::ChangeRefusal;
use crate::repo::relations::with_requirements;
use crate::repo::slots::SlotSet;
use crate::time::Instant;
use crate::types::Reason;
use mio::Token;

/// Replies added and requests taken up for one connection in one turn.
const STEPS: usize = 32;

/// Why a request is not carried out.
type RequestRefused = (ErrorKind, Reason);

fn refused(reason: &str) -> RequestRefused {
    (ErrorKind::Refused, Reason::truncated(reason))
}

impl<'a> Daemon<'a> {
    /// Moves one control connection on after its socket became ready.
    pub fn turn_connection(&mut self, now: Instant, at: usize) {
        let filled = self.control.fill(at);
        // What was asked before the other end closed is still carried out.
        let has_more = self.carry_on(now, at);
        let is_open = self.control.flush(now, at);
        let is_idle = self.control.get(at).is_some_and(|c| matches!(c.pending, Pending::Nothing));
        if !is_open || (filled == Filled::Closed && is_idle && !has_more) {
            self.control.close(at, &self.registry);
        } else if has_more || (filled == Filled::Full && self.control.can_fill(at)) {
            self.ready.insert(Token(CONNECTIONS + at));
        }
    }

    /// Continues the answer at hand, and takes up the next request, some steps
    /// far; true where there is more to do at once.
    fn carry_on(&mut self, now: Instant, at: usize) -> bool {
        for _ in 0..STEPS {
            let Some(connection) = self.control.get(at) else { return false };
            let (is_closing, doing) = (connection.is_closing, &connection.pending);
            if is_closing || doing.is_waiting_for_daemon() {
                return false;
            }
            let is_free = matches!(doing, Pending::Nothing);
            if !self.control.has_room(at) && !self.drain(now, at) {
                return false;
            }
            if !is_free {
                self.continue_list(now, at);
                continue;
            }
            match self.control.request(at) {
                Ok(Some(request)) => self.on_request(now, at, &request),
                Ok(None) => return false,
                Err(MalformedFrame) => {
                    self.hang_up(at, "The request makes no sense: is the command of this version?")
                }
            }
        }
        true
    }

    /// Makes room by writing; false where the other end does not read.
    fn drain(&mut self, now: Instant, at: usize) -> bool {
        self.control.flush(now, at) && self.control.has_room(at)
    }

    fn hang_up(&mut self, at: usize, reason: &str) {
        self.control.fail(at, ErrorKind::Refused, Reason::truncated(reason));
        if let Some(connection) = self.control.get(at) {
            connection.is_closing = true;
        }
    }

    fn on_request(&mut self, now: Instant, at: usize, request: &Request) {
        let Some(connection) = self.control.get(at) else { return };
        if let Some(denial) = connection.denial(request) {
            self.control.consume(now, at);
            return self.control.fail(at, ErrorKind::NotPermitted, denial);
        }
        if !connection.is_greeted && !matches!(request, Request::Hello { version: VERSION }) {
            return self
                .hang_up(at, "The command and the daemon are of different versions: restart the daemon.");
        }
        match self.answer(now, at, request) {
            Ok(Answered::Now) => {
                self.control.consume(now, at);
                self.control.end(at);
            }
            Ok(Answered::Begun(doing)) => {
                self.control.consume(now, at);
                self.set_doing(at, doing);
            }
            Ok(Answered::NotYet) => {
                let number = self.control.next_ticket();
                self.set_doing(at, Pending::WaitingForStore(number));
            }
            Ok(Answered::Elsewhere) => {}
            Err((kind, reason)) => {
                self.control.consume(now, at);
                self.control.fail(at, kind, reason);
            }
        }
    }

    fn set_doing(&mut self, at: usize, doing: Pending) {
        if let Some(connection) = self.control.get(at) {
            connection.pending = doing;
        }
    }

    fn answer(&mut self, now: Instant, at: usize, request: &Request) -> Result<Answered, RequestRefused> {
        let is_early = (!self.repository.is_loaded() && needs_repository(request))
            || (!self.repository.is_serving() && needs_start(request));
        if is_early {
            return Ok(Answered::NotYet);
        }
        match request {
            Request::Hello { .. } => {
                if let Some(connection) = self.control.get(at) {
                    connection.is_greeted = true;
                }
                Ok(Answered::Now)
            }
            Request::Status => {
                self.status(now, at);
                Ok(Answered::Now)
            }
            Request::Query => {
                self.controller().map(|_| Answered::Begun(Pending::Patches { only: None, after: None }))
            }
            Request::Patches { ids } => {
                let map = self.controller()?.map();
                let only = ids.iter().filter_map(|id| map.get(id)).map(|(slot, _)| slot).collect();
                Ok(Answered::Begun(Pending::Patches { only: Some(only), after: None }))
            }
            Request::Requires { ids, is_recursive } => {
                let controller = self.controller()?;
                let named = known(controller, ids)?;
                let of = if *is_recursive { with_requirements(controller.map(), &named) } else { named };
                Ok(Answered::Begun(Pending::Required(of, None)))
            }
            Request::WhatRequires { ids } => {
                Ok(Answered::Begun(Pending::Requiring(known(self.controller()?, ids)?, None)))
            }
            Request::WouldCommit { ids, force } => self.would_commit(now, at, ids, *force),
            Request::QueryHosts { filter } => {
                let left = self.controller()?.hosts().len();
                Ok(Answered::Begun(Pending::Hosts { filter: *filter, left }))
            }
            Request::Hosts { hosts } => {
                let nodes = self.find_all(hosts)?;
                Ok(Answered::Begun(Pending::NamedHosts(nodes, 0)))
            }
            Request::HostInstall { hosts, force } => {
                let nodes = self.find_all(hosts)?;
                self.install(now, at, &nodes, *force)?;
                Ok(Answered::Begun(Pending::NamedHosts(nodes, 0)))
            }
            Request::DropHost { host } => self.drop_host(now, at, host),
            Request::Show { ids, json } => self.show(now, at, ids, *json),
            Request::Change { to, ids, force } => {
                // A change that is under way may be about to bring what is named.
                if self.repository.change().is_none() {
                    known(self.controller()?, ids)?;
                }
                self.change(now, at, *to, ids, *force)
            }
            Request::Upload { names } => self.upload(now, at, names),
            Request::Purge => self.purge(now, at),
            Request::Rollout => self.show_rollout(now, at),
            Request::StartRollout { parallel, stop_after, force } => {
                self.start_rollout(now, at, *parallel, *stop_after, *force)
            }
            Request::StopRollout => self.stop_rollout(now, at),
            Request::ResumeRollout => self.resume_rollout(now, at),
            Request::Reload => self.reload_for(now, at),
            Request::DropController { controller } => self.drop_controller(now, at, controller),
        }
    }

    fn controller(&self) -> Result<&Controller<'a>, RequestRefused> {
        self.node
            .controller
            .as_ref()
            .ok_or_else(|| refused("This node is no controller: give the command on one that is."))
    }

    fn reload_for(&mut self, now: Instant, at: usize) -> Result<Answered, RequestRefused> {
        if self.is_reloading() {
            return Err(refused("The configuration is being read already: try again in a moment."));
        }
        let command = self.control.id(at);
        self.start_reload(now, Some(command)).map_err(|reason| (ErrorKind::Refused, reason))?;
        self.notify.reloading();
        Ok(Answered::Begun(Pending::WaitingForWorker))
    }

    /// Hands the connection to a worker that reads the patch files.
    fn show(
        &mut self,
        now: Instant,
        at: usize,
        ids: &PatchIds,
        json: bool,
    ) -> Result<Answered, RequestRefused> {
        let controller = self.controller()?;
        known(controller, ids)?;
        if self.workers.count(|kind| kind == WorkerKind::Show) > 0 {
            return Err(refused("Another show is being answered: try again in a moment."));
        }
        if !self.control.flush(now, at) || self.control.has_unsent(at) {
            return Err(refused("Read the answers to what was asked before first."));
        }
        let job = Job::Show { ids: ids.clone(), json };
        let Some(stream) = self.control.take(at, &self.registry) else { return Ok(Answered::Elsewhere) };
        let started = proof::exempt(|| {
            self.workers.start(now, &self.registry, WorkerKind::Show, &job, &[stream.as_fd()])
        });
        if let Err(error) = started {
            let kind = error.kind();
            self.counters.log_not_served(now, &format_args!("a worker for show cannot be started: {kind}"));
        }
        Ok(Answered::Elsewhere)
    }
}

/// The patches of these ids.
///
/// # Errors
/// One of them is not in the repository; one that can have been meant is named.
fn known(controller: &Controller<'_>, ids: &PatchIds) -> Result<SlotSet, RequestRefused> {
    let map = controller.map();
    let is_there = |entry: &Entry| entry.state != EntryState::Deleted;
    let find = |id| map.get(id).filter(|(_, entry)| is_there(entry)).map(|(slot, _)| slot).ok_or(id);
    ids.iter().map(find).collect::<Result<_, _>>().map_err(|id| {
        let all = map.iter_by_id().map(|(_, entry)| entry).filter(|entry| is_there(entry));
        let meant = words::Meant::of(id.as_str(), all.map(|entry| entry.id.as_str()));
        (ErrorKind::Refused, Reason::format(format_args!("{}{meant}", ChangeRefusal::Unknown { id })))
    })
}

/// Whether a request cannot be answered before the repository is read.
fn needs_repository(request: &Request) -> bool {
    matches!(
        request,
        Request::Query
            | Request::Show { .. }
            | Request::Patches { .. }
            | Request::Requires { .. }
            | Request::WhatRequires { .. }
    ) || needs_start(request)
}

/// Whether a request waits for the end of a controller's start: until then the
/// repository may lack what others have.
fn needs_start(request: &Request) -> bool {
    match request {
        Request::HostInstall { .. }
        | Request::Change { .. }
        | Request::WouldCommit { .. }
        | Request::Upload { .. }
        | Request::Purge
        | Request::StartRollout { .. }
        | Request::StopRollout
        | Request::ResumeRollout
        | Request::DropController { .. } => true,
        Request::Hello { .. }
        | Request::Query
        | Request::Show { .. }
        | Request::Patches { .. }
        | Request::Requires { .. }
        | Request::WhatRequires { .. }
        | Request::QueryHosts { .. }
        | Request::Hosts { .. }
        | Request::DropHost { .. }
        | Request::Rollout
        | Request::Reload
        | Request::Status => false,
    }
}

/// How far an answer is.
#[allow(clippy::large_enum_variant, reason = "returned once for each request")]
enum Answered {
    /// All is said.
    Now,
    /// It goes on like this.
    Begun(Pending),
    /// The request waits in its buffer.
    NotYet,
    /// A worker has the connection.
    Elsewhere,
}
