//! What the daemon says to commands: requests of the control socket carried out.

use std::os::fd::{AsFd, BorrowedFd};

use log::info;

use super::control::{Doing, Filled};
use super::event_loop::{CONNECTIONS, Daemon};
use super::job::{Change, Job, PatchIds};
use super::protocol::{ErrorKind, HostNames, Reply, Request, VERSION};
use super::workers::{Ending, Kind};
use super::{proof, rows};
use crate::fsm::controller::{AskRefusal, Controller};
use crate::fsm::hosts::Host;
use crate::limits;
use crate::repo::entry::EntryState;
use crate::repo::rules::check_delete;
use crate::time::Instant;
use crate::types::{Hostname, NodeId, Reason};
use mio::Token;

/// Replies added and requests taken up for one connection in one turn.
const STEPS: usize = 32;

/// Why a request is not carried out.
type Refused = (ErrorKind, Reason);

fn refused(reason: &str) -> Refused {
    (ErrorKind::Refused, Reason::new(reason))
}

impl<'a> Daemon<'a> {
    /// Moves one control connection on after its socket became ready.
    pub fn turn_connection(&mut self, now: Instant, at: usize) {
        let filled = self.control.fill(at);
        // What was asked before the other end closed is still carried out.
        let has_more = self.carry_on(now, at);
        let is_open = self.control.flush(now, at);
        let is_idle = self.control.get(at).is_some_and(|c| matches!(c.doing, Doing::Nothing));
        if !is_open || (filled == Filled::Over && is_idle && !has_more) {
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
            let (is_closing, doing) = (connection.is_closing, &connection.doing);
            if is_closing || matches!(doing, Doing::WaitingForStore(_) | Doing::WaitingForWorker) {
                return false;
            }
            let is_free = matches!(doing, Doing::Nothing);
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
                Err(()) => self.hang_up(at, "The request makes no sense: is the command of this version?"),
            }
        }
        true
    }

    /// Makes room by writing; false where the other end does not read.
    fn drain(&mut self, now: Instant, at: usize) -> bool {
        self.control.flush(now, at) && self.control.has_room(at)
    }

    fn hang_up(&mut self, at: usize, reason: &str) {
        self.control.fail(at, ErrorKind::Refused, Reason::new(reason));
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
                let number = self.control.next_wait();
                self.set_doing(at, Doing::WaitingForStore(number));
            }
            Ok(Answered::Elsewhere) => {}
            Err((kind, reason)) => {
                self.control.consume(now, at);
                self.control.fail(at, kind, reason);
            }
        }
    }

    fn set_doing(&mut self, at: usize, doing: Doing) {
        if let Some(connection) = self.control.get(at) {
            connection.doing = doing;
        }
    }

    fn answer(&mut self, now: Instant, at: usize, request: &Request) -> Result<Answered, Refused> {
        if !self.is_loaded && needs_repository(request) {
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
            Request::Query => self.controller().map(|_| Answered::Begun(Doing::Patches(None))),
            Request::QueryHosts => self.controller().map(|_| Answered::Begun(Doing::Hosts(0))),
            Request::Hosts { hosts } => {
                let nodes = self.find_all(hosts)?;
                Ok(Answered::Begun(Doing::NamedHosts(nodes, 0)))
            }
            Request::HostInstall { hosts, force } => {
                let nodes = self.find_all(hosts)?;
                self.install(now, at, &nodes, *force)?;
                Ok(Answered::Begun(Doing::NamedHosts(nodes, 0)))
            }
            Request::DropHost { host } => self.drop_host(now, at, host),
            Request::Show { ids, json } => self.show(now, at, ids, *json),
            Request::Change { to, ids, force } => {
                let job = self.change_job(now, *to, ids, *force)?;
                self.start_change(now, at, &job, false)
            }
            Request::Purge => {
                self.controller()?;
                self.start_change(now, at, &Job::Purge, false)
            }
            Request::DropController { controller } => {
                self.controller()?;
                let node = NodeId::from_hex(controller.as_str());
                let node = node.ok_or_else(|| refused("Name the controller by its node id."))?;
                self.start_change(now, at, &Job::DropController(node), false)
            }
            Request::Upload { names } => {
                self.controller()?;
                let files = self.control.get(at).map_or(0, |connection| connection.files.len());
                if names.is_empty() || files != 2 * names.len() {
                    return Err(refused("An upload is one file and one signature for each patch."));
                }
                self.start_change(now, at, &Job::Upload { names: names.clone(), renew: false }, true)
            }
        }
    }

    fn controller(&self) -> Result<&Controller<'a>, Refused> {
        self.node
            .controller
            .as_ref()
            .ok_or_else(|| refused("This node is no controller: give the command on one that is."))
    }

    /// The hosts that were named: by name, address or node id.
    fn find_all(
        &self,
        names: &HostNames,
    ) -> Result<heapless::Vec<NodeId, { limits::COMMAND_NAMES }>, Refused> {
        let controller = self.controller()?;
        let mut nodes = heapless::Vec::new();
        for name in names {
            let node = find(controller, name)?;
            if !nodes.contains(&node) {
                nodes.push(node).map_err(|_| refused("Too many hosts are named."))?;
            }
        }
        Ok(nodes)
    }

    fn install(&mut self, now: Instant, at: usize, nodes: &[NodeId], force: bool) -> Result<(), Refused> {
        if self.is_loading() {
            return Err(refused("The repository is being read again: try again in a moment."));
        }
        if !self.blobs_missing.is_empty() {
            return Err((
                ErrorKind::Refused,
                Reason::format(format_args!(
                    "The repository is incomplete: {} patch files are missing (see thimble status). Upload \
                     them again first.",
                    self.blobs_missing.len()
                )),
            ));
        }
        for node in nodes {
            let asked = self.node.ask_install(now, *node, force, &mut self.actions);
            self.carry_out(now);
            let why = match asked {
                Ok(()) => continue,
                Err(AskRefusal::Busy) => "an install is under way there already; its progress follows",
                Err(AskRefusal::Lost) => "it is lost: it has not been heard for long, and was not asked",
                Err(AskRefusal::Unknown) => "no such host",
                Err(AskRefusal::Incomplete) => {
                    "patch files that it needs are missing here (see thimble status)"
                }
                Err(AskRefusal::TooManyKinds) => "there are more kinds of hosts than thimble tells apart",
            };
            let name = self.controller()?.hosts().get(*node).map(|host| host.ack.hostname.clone());
            let line = Reason::format(format_args!("{}: {why}.", name.unwrap_or_default()));
            self.control.reply(at, &Reply::Line(line));
        }
        Ok(())
    }

    fn drop_host(&mut self, now: Instant, at: usize, name: &Hostname) -> Result<Answered, Refused> {
        let node = find(self.controller()?, name)?;
        if let Some(controller) = &mut self.node.controller {
            controller.drop_host(now, node, &mut self.actions);
        }
        self.carry_out(now);
        let line = format_args!("{name} is forgotten; it returns when it is heard again.");
        self.control.reply(at, &Reply::Line(Reason::format(line)));
        Ok(Answered::Now)
    }

    /// Checks what depends on hosts, which the worker does not know.
    fn change_job(&self, now: Instant, to: EntryState, ids: &PatchIds, force: bool) -> Result<Job, Refused> {
        let controller = self.controller()?;
        if to == EntryState::Deleted {
            let pacing = controller.pacing();
            if !pacing.is_settled(now) {
                let seconds = pacing.settles_in(now).as_millis().div_ceil(1000);
                return Err((
                    ErrorKind::Refused,
                    Reason::format(format_args!(
                        "What the hosts have is not known yet, since this controller has only started: try \
                         again in {seconds} s."
                    )),
                ));
            }
            check_delete(controller.map(), ids, |slot| controller.on_hosts(now, slot, force))
                .map_err(|refusal| (ErrorKind::Refused, Reason::format(format_args!("{refusal}"))))?;
        }
        Ok(Job::Change(Change { to, ids: ids.clone(), renew: false }))
    }

    /// Starts the one worker that changes the store, or waits for its turn.
    fn start_change(
        &mut self,
        now: Instant,
        at: usize,
        job: &Job,
        with_files: bool,
    ) -> Result<Answered, Refused> {
        if self.is_store_changing() {
            return Ok(Answered::NotYet);
        }
        let kind = Kind::Change { connection: at, generation: self.control.generation(at) };
        let registry = &self.registry;
        let Some(connection) = self.control.get(at) else { return Ok(Answered::Elsewhere) };
        let mut files: heapless::Vec<BorrowedFd<'_>, { super::sys::FDS }> = heapless::Vec::new();
        for file in connection.files.iter().filter(|_| with_files) {
            let _ = files.push(file.as_fd());
        }
        proof::exempt(|| self.workers.start(now, registry, kind, job, &files)).map_err(|error| {
            let kind = error.kind();
            let reason = Reason::format(format_args!("The worker for it cannot be started: {kind}."));
            (ErrorKind::Refused, reason)
        })?;
        Ok(Answered::Begun(Doing::WaitingForWorker))
    }

    /// Hands the connection to a worker that reads the patch files.
    fn show(&mut self, now: Instant, at: usize, ids: &PatchIds, json: bool) -> Result<Answered, Refused> {
        let controller = self.controller()?;
        if let Some(id) = ids.iter().find(|id| controller.map().get(id).is_none()) {
            let reason = Reason::format(format_args!("{id} is not in the repository."));
            return Err((ErrorKind::Refused, reason));
        }
        if self.workers.count(|kind| kind == Kind::Show) > 0 {
            return Err(refused("Another show is being answered: try again in a moment."));
        }
        if !self.control.flush(now, at) || self.control.has_unsent(at) {
            return Err(refused("Read the answers to what was asked before first."));
        }
        let job = Job::Show { ids: ids.clone(), json };
        let Some(stream) = self.control.take(at, &self.registry) else { return Ok(Answered::Elsewhere) };
        let started =
            proof::exempt(|| self.workers.start(now, &self.registry, Kind::Show, &job, &[stream.as_fd()]));
        if let Err(error) = started {
            info!("a worker that shows patches cannot be started: {}", error.kind());
        }
        Ok(Answered::Elsewhere)
    }

    /// Passes a line of a worker on to the command that waits for it.
    pub fn pass_on(&mut self, kind: Kind, line: &Reason) {
        if let Kind::Change { connection, generation } = kind
            && self.is_waiting(connection, generation)
        {
            self.control.reply(connection, &Reply::Line(line.clone()));
            self.ready.insert(Token(CONNECTIONS + connection));
        }
    }

    fn is_waiting(&mut self, at: usize, generation: u64) -> bool {
        self.control.generation(at) == generation
            && self.control.get(at).is_some_and(|c| matches!(c.doing, Doing::WaitingForWorker))
    }

    /// A worker that changed the store has ended: answers, and gives the next its turn.
    pub fn on_change_ended(&mut self, now: Instant, at: usize, generation: u64, ending: &Ending) {
        if self.is_waiting(at, generation) {
            match ending {
                Ending::Done => self.control.end(at),
                Ending::Failed(kind, reason) => {
                    self.control.fail(at, (*kind).into(), reason.clone());
                }
                Ending::Crashed(reason) => {
                    let line = format_args!("{reason}; what was reported as done is done, the rest is not.");
                    self.control.fail(at, ErrorKind::Refused, Reason::format(line));
                }
            }
            self.control.resume(now, at);
            self.ready.insert(Token(CONNECTIONS + at));
        }
        // A worker that died may have made its change durable first; an upload
        // may have brought a file that was missing.
        if matches!(ending, Ending::Crashed(_)) || !self.blobs_missing.is_empty() {
            self.load_due = Some(now);
        }
        self.give_turns(now);
    }

    /// Gives those that wait for the store their turns, until one has it: what
    /// one asks may be refused by now.
    fn give_turns(&mut self, now: Instant) {
        while !self.is_store_changing()
            && let Some(next) = self.control.waiting_for_store()
        {
            self.set_doing(next, Doing::Nothing);
            self.control.resume(now, next);
            self.turn_connection(now, next);
        }
    }

    /// The repository is read: what waited for that goes on.
    pub fn on_loaded(&mut self, now: Instant) {
        for at in 0..limits::CONTROL_CONNECTIONS {
            let waits = self.control.get(at).is_some_and(|c| matches!(c.doing, Doing::WaitingForStore(_)));
            if waits {
                self.set_doing(at, Doing::Nothing);
                self.control.resume(now, at);
                self.turn_connection(now, at);
            }
        }
    }

    fn is_store_changing(&self) -> bool {
        self.workers.count(|kind| matches!(kind, Kind::Change { .. })) > 0
    }

    /// Adds the next reply of a list, or its end.
    fn continue_list(&mut self, now: Instant, at: usize) {
        let Some(connection) = self.control.get(at) else { return };
        let mut doing = std::mem::take(&mut connection.doing);
        let reply = self.node.controller.as_ref().and_then(|controller| match &mut doing {
            Doing::Patches(after) => {
                let row = rows::next_patch(controller, after.as_ref())?;
                *after = Some(row.id.clone());
                Some(Reply::Patch(row))
            }
            Doing::Hosts(from) => {
                let host = controller.hosts().at(*from)?;
                *from += 1;
                Some(Reply::Host(rows::host(now, controller, host)))
            }
            Doing::NamedHosts(nodes, from) => {
                // One that was dropped meanwhile is left out.
                let host = nodes.iter().skip(*from).find_map(|node| {
                    *from += 1;
                    controller.hosts().get(*node)
                })?;
                Some(Reply::Host(rows::host(now, controller, host)))
            }
            Doing::Nothing | Doing::WaitingForStore(_) | Doing::WaitingForWorker => None,
        });
        match reply {
            Some(reply) => {
                self.control.reply(at, &reply);
                self.set_doing(at, doing);
            }
            None => self.control.end(at),
        }
    }

    fn status(&mut self, now: Instant, at: usize) {
        let row = rows::status(now, self);
        self.control.reply(at, &Reply::Status(row));
        let mut counts = rows::Counts::default();
        rows::counts(self, &mut counts);
        for (name, count) in counts {
            let name = crate::types::Text::new(name);
            self.control.reply(at, &Reply::Counter { name, count });
        }
    }
}

/// Whether a request cannot be answered before the repository is read.
fn needs_repository(request: &Request) -> bool {
    match request {
        Request::Query
        | Request::Show { .. }
        | Request::HostInstall { .. }
        | Request::Change { .. }
        | Request::Upload { .. }
        | Request::Purge
        | Request::DropController { .. } => true,
        Request::Hello { .. }
        | Request::QueryHosts
        | Request::Hosts { .. }
        | Request::DropHost { .. }
        | Request::Status => false,
    }
}

/// How far an answer is.
#[allow(clippy::large_enum_variant, reason = "returned once for each request")]
enum Answered {
    /// All is said.
    Now,
    /// It goes on like this.
    Begun(Doing),
    /// The request waits in its buffer.
    NotYet,
    /// A worker has the connection.
    Elsewhere,
}

/// The host of this name, address or node id.
fn find(controller: &Controller<'_>, name: &Hostname) -> Result<NodeId, Refused> {
    let by_id = NodeId::from_hex(name.as_str()).filter(|node| controller.hosts().get(*node).is_some());
    if let Some(node) = by_id {
        return Ok(node);
    }
    let is_meant =
        |host: &&Host| host.ack.hostname == *name || rows::address(host.peer).as_str() == name.as_str();
    let mut found = controller.hosts().iter().filter(is_meant);
    match (found.next(), found.next()) {
        (Some(host), None) => Ok(host.node),
        (Some(first), Some(second)) => Err((
            ErrorKind::Refused,
            Reason::format(format_args!(
                "More than one host is called {name}: name it by its node id, {} or {}.",
                first.node, second.node
            )),
        )),
        (None, _) => Err((
            ErrorKind::Refused,
            Reason::format(format_args!(
                "No host {name} is known: thimble query-hosts lists those that are."
            )),
        )),
    }
}
