//! Executes the requests of the control socket, and answers them.
//!
//! | file | requests |
//! |---|---|
//! | `changes` | changes of the repository: a worker makes them, other controllers confirm them |
//! | `commit` | a preview of a commit |
//! | `explain` | why a host or a patch is as it is |
//! | `hosts` | installs on named hosts, and dropping a host |
//! | `ping` | asks a host, and tells when it answered |
//! | `spread` | sends files to all hosts at once |
//! | `rollouts` | starts, stops, resumes and shows the rollout |
//! | `lists` | lists, which are continued as their connection drains, and `status` |
//! | `wording` | lines and refusals about other controllers, missing files and hosts |

mod changes;
mod commit;
mod explain;
mod hosts;
mod lists;
mod ping;
pub(super) mod rollouts;
mod spread;
#[cfg(test)]
mod tests;
pub(super) mod wording;

use std::os::fd::AsFd;

use super::control_socket::{Filled, Pending};
use super::event_loop::Daemon;
use super::os_error::OsError;
use super::proof;
use super::tokens::CONNECTIONS;
use super::workers::WorkerKind;
use crate::control::frame::MalformedFrame;
use crate::control::{ErrorKind, Reply, Request, VERSION};
use crate::fsm::controller::Controller;
use crate::fsm::hosts::Host;
use crate::job::{Job, PatchIds};
use crate::repo::entry::Entry;
use crate::repo::refusal::ChangeRefusal;
use crate::repo::relations::with_requirements;
use crate::repo::slots::SlotSet;
use crate::time::Instant;
use crate::types::{NodeId, Reason};
use mio::Token;

/// Replies added and requests executed for one connection in one turn.
const STEPS: usize = 32;

/// The error of a request that is refused.
type RequestRefused = (ErrorKind, Reason);

fn refused(reason: &str) -> RequestRefused {
    (ErrorKind::Refused, Reason::truncated(reason))
}

impl<'a> Daemon<'a> {
    /// Serves one control connection after its socket became ready.
    pub fn turn_connection(&mut self, now: Instant, slot: usize) {
        let filled = self.control.fill(slot);
        // A request that was sent before the other end closed is still executed.
        let has_more = self.answer_requests(now, slot);
        let is_open = self.control.flush(now, slot);
        let is_idle = self.control.get(slot).is_some_and(|c| matches!(c.pending, Pending::Nothing));
        if !is_open || (filled == Filled::Closed && is_idle && !has_more) {
            self.control.close(slot, &self.registry);
        } else if has_more || (filled == Filled::Full && self.control.can_fill(slot)) {
            self.ready.insert(Token(CONNECTIONS + slot));
        }
    }

    /// Continues the pending answer and executes the next requests, a bounded number of
    /// steps. True if there is more to do at once.
    fn answer_requests(&mut self, now: Instant, slot: usize) -> bool {
        for _ in 0..STEPS {
            let Some(connection) = self.control.get(slot) else { return false };
            let (is_closing, pending) = (connection.is_closing, &connection.pending);
            if is_closing || pending.is_waiting_for_daemon() {
                return false;
            }
            let is_free = matches!(pending, Pending::Nothing);
            if !self.control.has_room(slot) && !self.drain(now, slot) {
                return false;
            }
            if !is_free {
                self.continue_list(now, slot);
                continue;
            }
            match self.control.request(slot) {
                Ok(Some(request)) => self.on_request(now, slot, &request),
                Ok(None) => return false,
                Err(MalformedFrame) => self.hang_up(
                    slot,
                    "The request cannot be decoded: are the command and the daemon of one version?",
                ),
            }
        }
        true
    }

    /// Makes room by writing. False if the other end does not read.
    fn drain(&mut self, now: Instant, slot: usize) -> bool {
        self.control.flush(now, slot) && self.control.has_room(slot)
    }

    fn hang_up(&mut self, slot: usize, reason: &str) {
        self.control.fail(slot, ErrorKind::Refused, Reason::truncated(reason));
        if let Some(connection) = self.control.get(slot) {
            connection.is_closing = true;
        }
    }

    fn on_request(&mut self, now: Instant, slot: usize, request: &Request) {
        let Some(connection) = self.control.get(slot) else { return };
        if let Some(denial) = connection.denial(request) {
            self.control.consume(now, slot);
            return self.control.fail(slot, ErrorKind::NotPermitted, denial);
        }
        if !connection.is_greeted && !matches!(request, Request::Hello { version: VERSION }) {
            return self
                .hang_up(slot, "The command and the daemon are of different versions: restart the daemon.");
        }
        match self.answer(now, slot, request) {
            Ok(Answered::Done) => {
                self.control.consume(now, slot);
                self.control.end(slot);
            }
            Ok(Answered::Continues(pending)) => {
                self.control.consume(now, slot);
                self.set_pending(slot, pending);
            }
            Ok(Answered::MustWait) => {
                let number = self.control.next_ticket();
                self.set_pending(slot, Pending::WaitingForStore(number));
            }
            Ok(Answered::HandedOver) => {}
            Err((kind, reason)) => {
                self.control.consume(now, slot);
                self.control.fail(slot, kind, reason);
            }
        }
    }

    fn set_pending(&mut self, slot: usize, pending: Pending) {
        if let Some(connection) = self.control.get(slot) {
            connection.pending = pending;
        }
    }

    fn answer(&mut self, now: Instant, slot: usize, request: &Request) -> Result<Answered, RequestRefused> {
        let is_early = match Awaits::of(request) {
            Awaits::Nothing => false,
            Awaits::Repository => !self.repository.is_loaded(),
            Awaits::Start => !self.repository.is_loaded() || !self.repository.is_serving(),
        };
        if is_early {
            return Ok(Answered::MustWait);
        }
        match request {
            Request::Hello { .. } => {
                if let Some(connection) = self.control.get(slot) {
                    connection.is_greeted = true;
                }
                Ok(Answered::Done)
            }
            Request::Status => {
                self.status(now, slot);
                Ok(Answered::Done)
            }
            Request::Query => {
                self.controller().map(|_| Answered::Continues(Pending::Patches { only: None, after: None }))
            }
            Request::Patches { ids } => {
                let map = self.controller()?.map();
                let only = ids.iter().filter_map(|id| map.get(id)).map(|(slot, _)| slot).collect();
                Ok(Answered::Continues(Pending::Patches { only: Some(only), after: None }))
            }
            Request::Requires { ids, is_recursive } => {
                let controller = self.controller()?;
                let named = known(controller, ids)?;
                let of = if *is_recursive { with_requirements(controller.map(), &named) } else { named };
                Ok(Answered::Continues(Pending::Required(of, None)))
            }
            Request::WhatRequires { ids } => {
                Ok(Answered::Continues(Pending::Requiring(known(self.controller()?, ids)?, None)))
            }
            Request::WouldCommit { ids, force } => self.would_commit(now, slot, ids, *force),
            Request::QueryHosts { filter } => {
                let left = self.controller()?.hosts().len();
                Ok(Answered::Continues(Pending::Hosts { filter: *filter, left }))
            }
            Request::Hosts { hosts } => {
                let nodes = self.find_all(hosts)?;
                Ok(Answered::Continues(Pending::NamedHosts(nodes, 0)))
            }
            Request::ExplainHost { host } => self.explain_host(now, slot, host),
            Request::Ping { host, ask } => self.ping(now, slot, host, *ask),
            Request::HostsWithout { id } => self.hosts_without(slot, id),
            Request::HostInstall { hosts, force } => {
                let nodes = self.find_all(hosts)?;
                self.can_ask(|node| nodes.contains(&node))?;
                self.install(now, slot, &nodes, *force)?;
                Ok(Answered::Continues(Pending::NamedHosts(nodes, 0)))
            }
            Request::DropHost { host } => self.drop_host(now, slot, host),
            Request::Show { ids, json } => self.show(now, slot, ids, *json),
            Request::Change { to, ids, force, below_floor } => {
                // A change at work may add the patches that are named.
                if self.repository.change().is_none() {
                    known(self.controller()?, ids)?;
                }
                self.change(now, slot, *to, ids, *force, *below_floor)
            }
            Request::Upload { names } => self.upload(now, slot, names),
            Request::Purge => self.purge(now, slot),
            Request::Rollout => self.show_rollout(now, slot),
            Request::StartRollout { parallel, stop_after, force } => {
                self.start_rollout(now, slot, *parallel, *stop_after, *force)
            }
            Request::StopRollout => self.stop_rollout(now, slot),
            Request::ResumeRollout => self.resume_rollout(now, slot),
            Request::Spread { ids, rate } => self.spread(now, slot, ids, *rate),
            Request::StopSpread => self.end_spread(now, slot),
            Request::Spreading => {
                let row = self.spread_row();
                self.control.reply(slot, &Reply::Spreading(row));
                Ok(Answered::Done)
            }
            Request::Reload => self.reload_for(now, slot),
            Request::DropController { controller } => self.drop_controller(now, slot, controller),
        }
    }

    /// Refuses to ask hosts to install while none of those, but this node's own agent, can be reached.
    fn can_ask(&self, is_meant: impl Fn(NodeId) -> bool) -> Result<(), RequestRefused> {
        let own = self.codec.identity().node;
        let is_other = |host: &Host| host.node != own && is_meant(host.node);
        if self.network.are_up() || !self.controller()?.hosts().iter().any(is_other) {
            return Ok(());
        }
        Err(refused(
            "No interface of this controller is up, so no host can be asked: see `thimble status`. It takes part \
             again once one is.",
        ))
    }

    fn controller(&self) -> Result<&Controller<'a>, RequestRefused> {
        self.node
            .controller
            .as_ref()
            .ok_or_else(|| refused("This node is no controller: give the command on one that is."))
    }

    fn reload_for(&mut self, now: Instant, slot: usize) -> Result<Answered, RequestRefused> {
        if self.is_reloading() {
            return Err(refused("The configuration is being read already: try again in a moment."));
        }
        let command = self.control.id(slot);
        self.start_reload(now, Some(command)).map_err(|reason| (ErrorKind::Refused, reason))?;
        self.notify.reloading();
        Ok(Answered::Continues(Pending::WaitingForWorker))
    }

    /// Hands the connection to a worker that reads the patch files.
    fn show(
        &mut self,
        now: Instant,
        slot: usize,
        ids: &PatchIds,
        json: bool,
    ) -> Result<Answered, RequestRefused> {
        let controller = self.controller()?;
        known(controller, ids)?;
        if self.workers.count(|kind| kind == WorkerKind::Show) > 0 {
            return Err(refused("Another show is being answered: try again in a moment."));
        }
        if !self.control.flush(now, slot) || self.control.has_unsent(slot) {
            return Err(refused("Earlier answers on this connection are unread: read them first."));
        }
        let job = Job::Show { ids: ids.clone(), json };
        let Some(stream) = self.control.take(slot, &self.registry) else { return Ok(Answered::HandedOver) };
        let started = proof::exempt(|| {
            self.workers.start(now, &self.registry, WorkerKind::Show, &job, &[stream.as_fd()])
        });
        if let Err(error) = started {
            let error = OsError(&error);
            self.counters.log_not_served(now, &format_args!("a worker for show cannot be started: {error}"));
        }
        Ok(Answered::HandedOver)
    }
}

/// The patches of these ids.
///
/// # Errors
/// One of them is not in the repository; the error suggests a similar one.
fn known(controller: &Controller<'_>, ids: &PatchIds) -> Result<SlotSet, RequestRefused> {
    let map = controller.map();
    let is_there = |entry: &Entry| !entry.state.is_deleted();
    let find = |id| map.get(id).filter(|(_, entry)| is_there(entry)).map(|(slot, _)| slot).ok_or(id);
    ids.iter().map(find).collect::<Result<_, _>>().map_err(|id| {
        let all = map.iter_by_id().map(|(_, entry)| entry).filter(|entry| is_there(entry));
        let suggestion = wording::Suggestion::of(id.as_str(), all.map(|entry| entry.id.as_str()));
        (ErrorKind::Refused, Reason::format(format_args!("{}{suggestion}", ChangeRefusal::Unknown { id })))
    })
}

/// What must have happened since the daemon's start before a request can be answered.
enum Awaits {
    Nothing,
    /// The repository is read: an earlier answer would lack what it holds.
    Repository,
    /// The controller has started: before that, the repository may lack changes of other
    /// controllers.
    Start,
}

impl Awaits {
    fn of(request: &Request) -> Self {
        match request {
            Request::HostInstall { .. }
            | Request::Change { .. }
            | Request::WouldCommit { .. }
            | Request::Upload { .. }
            | Request::Purge
            | Request::StartRollout { .. }
            | Request::StopRollout
            | Request::ResumeRollout
            | Request::Spread { .. }
            | Request::StopSpread
            | Request::DropController { .. } => Self::Start,
            Request::Query
            | Request::Show { .. }
            | Request::Patches { .. }
            | Request::Requires { .. }
            | Request::WhatRequires { .. }
            | Request::HostsWithout { .. }
            | Request::Rollout => Self::Repository,
            Request::Hello { .. }
            | Request::QueryHosts { .. }
            | Request::Hosts { .. }
            | Request::ExplainHost { .. }
            | Request::Ping { .. }
            | Request::DropHost { .. }
            | Request::Spreading
            | Request::Reload
            | Request::Status => Self::Nothing,
        }
    }
}

/// The progress of an answer.
#[allow(clippy::large_enum_variant, reason = "returned once for each request")]
enum Answered {
    /// All replies are queued.
    Done,
    /// More replies follow later.
    Continues(Pending),
    /// The request stays in its buffer until the repository is free.
    MustWait,
    /// The connection is gone, or a worker answers on it.
    HandedOver,
}
