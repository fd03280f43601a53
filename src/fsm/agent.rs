//! The agent's side: it says how its host is, and installs when asked.
//!
//! ```text
//!           recovered                request, nonce right
//! Recovering ---------> Idle/Rested ----------------------> Connecting
//!     ^  |  failed       ^  ^  |                              |  | failed, busy
//!     |  `-> (again      |  |  `<--- given up ----------------'  `--> again
//!     |      later)      |  |                                 |
//!     |                  |  `----- worker: done, failed ----  | session ready
//!     |                  `-- rejection no longer shown      \ v
//!     `------------------------ worker crashed ----------- Installing
//! ```
//!
//! A request is taken up once: its nonce is used up, its number is in the
//! journal from before anything is touched, and a number that is known is
//! answered, not installed again. The machine speaks only after recovery has
//! told what is really on the disk.

use super::acks::Acks;
use super::actions::{Action, Actions, Install, Peer, To};
use super::event::{Event, WorkerEnd};
use super::installed::Installed;
use super::random::Random;
use crate::time::{Duration, Instant};
use crate::types::{Hostname, NodeId, NodeType, Nonce, Reason, SwVersion};
use crate::wire::frame::{DetailPage, Purpose};
use crate::wire::install::{LastInstall, Outcome, Step};
use crate::wire::messages::{
    AgentInstallReq, AgentInstallResp, AgentState, HelloAgentAck, Message, RequestState,
};

/// Sessions that are tried for one install before it is given up.
const ATTEMPTS: u8 = 6;
/// The pause before the second attempt; each further one is twice as long.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);
/// The pause before recovery is tried again after it failed.
const RECOVERY_PAUSE: Duration = Duration::from_secs(30);

/// What an agent is configured with.
#[derive(Clone, Debug)]
pub struct AgentFacts {
    /// What the host calls itself.
    pub hostname: Hostname,
    /// Its kind.
    pub nodetype: NodeType,
    /// The release that runs.
    pub sw_version: SwVersion,
    /// A rejected install shows for so long.
    pub rejection_shown: Duration,
}

/// A request that is being carried out, and whom to answer.
#[derive(Clone, Copy, Debug)]
struct Task {
    install: Install,
    peer: Peer,
}

/// Recovery, at start or after a worker crashed.
#[derive(Debug)]
struct Recovering {
    /// When to start the worker again; `None` while it runs.
    again: Option<Instant>,
    /// The install whose worker crashed.
    crashed: Option<Task>,
}

/// On the way to the controller that has the patches.
#[derive(Debug)]
struct Connecting {
    task: Task,
    attempt: u8,
    /// When to open the next session; `None` while one is opening.
    again: Option<Instant>,
}

/// The worker installs.
#[derive(Debug)]
struct Installing {
    task: Task,
    step: Step,
    percent: u8,
}

/// Nothing under way.
#[derive(Debug)]
struct Resting {
    /// A rejected install shows until then.
    rejected_until: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Recovering(Recovering),
    Connecting(Connecting),
    Installing(Installing),
    Resting(Resting),
}

/// An agent.
#[derive(Debug)]
pub struct Agent<'a> {
    facts: AgentFacts,
    state: State,
    installed: Installed<'a>,
    /// Recovery has told what is on the disk, at least once.
    is_known: bool,
    /// How the last install ended.
    last: Option<LastInstall>,
    /// Whether it left the host unlike what was asked.
    has_failed: bool,
    /// Why recovery failed, while it does.
    trouble: Reason,
    requires_reboot: bool,
    nonce: Nonce,
    acks: Acks,
    /// Requests with a nonce that was not, or no longer, the current one.
    stale_nonces: u64,
}

impl<'a> Agent<'a> {
    /// An agent that first recovers.
    #[must_use]
    pub fn new(now: Instant, facts: AgentFacts, installed: Installed<'a>, random: &mut Random) -> Self {
        Self {
            facts,
            state: State::Recovering(Recovering { again: Some(now), crashed: None }),
            installed,
            is_known: false,
            last: None,
            has_failed: false,
            trouble: Reason::default(),
            requires_reboot: false,
            nonce: Nonce(random.next_u64()),
            acks: Acks::default(),
            stale_nonces: 0,
        }
    }

    /// A message of a controller.
    pub fn on_message(
        &mut self,
        now: Instant,
        from: NodeId,
        peer: Peer,
        message: &Message,
        random: &mut Random,
        actions: &mut Actions,
    ) {
        match message {
            Message::HelloAgent(hello) => self.acks.on_hello(now, hello.ack_window_ms, random),
            Message::AgentInstallReq(request) => self.on_request(now, from, peer, request, random, actions),
            _ => {}
        }
        self.say_what_is_due(now, actions);
    }

    fn on_request(
        &mut self,
        now: Instant,
        from: NodeId,
        peer: Peer,
        request: &AgentInstallReq,
        random: &mut Random,
        actions: &mut Actions,
    ) {
        let known = self.last.as_ref().filter(|last| last.request_id == request.request_id);
        if let Some(last) = known {
            return respond(from, peer, last, actions);
        }
        if let Some(task) = self.task() {
            if task.install.request_id != request.request_id {
                let controller = task.install.controller;
                let reason = Reason::format(format_args!(
                    "The host is at work on request {} of controller {controller}: wait for its end.",
                    task.install.request_id,
                ));
                actions.send(To::Node(from, peer), busy(request, reason));
            }
            return self.acks.on_change(now);
        }
        if let State::Recovering(_) = self.state {
            let reason = Reason::new("The host has not recovered what a crash left: its status says why.");
            return actions.send(To::Node(from, peer), busy(request, reason));
        }
        if request.nonce != self.nonce {
            self.stale_nonces = self.stale_nonces.saturating_add(1);
            return self.acks.on_change(now);
        }
        self.nonce = Nonce(random.next_u64());
        let AgentInstallReq { request_id, digest, force, .. } = *request;
        let install = Install { request_id, controller: from, digest, force };
        self.state = State::Connecting(Connecting { task: Task { install, peer }, attempt: 0, again: None });
        self.acks.on_change(now);
        actions.push(Action::Connect(from, peer, Purpose::Fetch));
    }

    /// How the session and the worker go.
    pub fn on_event(&mut self, now: Instant, event: &Event<'_>, random: &mut Random, actions: &mut Actions) {
        match event {
            Event::SessionReady(_, Purpose::Fetch) => self.on_session(now, actions),
            Event::SessionBusy(_, Purpose::Fetch, pause) => self.on_no_session(now, *pause, None, actions),
            Event::SessionFailed(_, Purpose::Fetch, reason) => {
                self.on_no_session(now, ATTEMPT_PAUSE, Some(reason), actions);
            }
            Event::Progress(step, percent) => {
                if let State::Installing(installing) = &mut self.state {
                    (installing.step, installing.percent) = (*step, *percent);
                    self.acks.on_change(now);
                }
            }
            Event::Installed(patch) => self.installed.push(patch),
            Event::InstalledEnd(digest, last) => {
                self.installed.complete(*digest, random.next_u64());
                self.is_known = true;
                if let Some(last) = last {
                    self.remember((*last).clone());
                }
            }
            Event::WorkerEnded(end) => self.on_worker_ended(now, end, actions),
            _ => {}
        }
        self.say_what_is_due(now, actions);
    }

    fn on_session(&mut self, now: Instant, actions: &mut Actions) {
        if let State::Connecting(Connecting { task, .. }) = &self.state {
            let task = *task;
            self.state = State::Installing(Installing { task, step: Step::Checking, percent: 0 });
            self.acks.on_change(now);
            actions.push(Action::StartInstall(task.install));
        }
    }

    fn on_no_session(
        &mut self,
        now: Instant,
        pause: Duration,
        reason: Option<&Reason>,
        actions: &mut Actions,
    ) {
        let State::Connecting(connecting) = &mut self.state else { return };
        let Some(reason) = reason else {
            // Busy is an answer: it does not count as an attempt.
            connecting.again = Some(now + pause);
            return;
        };
        connecting.attempt = connecting.attempt.saturating_add(1);
        if connecting.attempt < ATTEMPTS {
            let doubled = pause.times(1 << connecting.attempt.min(6));
            connecting.again = Some(now + doubled);
            return;
        }
        let task = connecting.task;
        let reason = Reason::format(format_args!("The host cannot fetch from the controller: {reason}"));
        self.end(now, task, Outcome::Rejected, reason, actions);
    }

    fn on_worker_ended(&mut self, now: Instant, end: &WorkerEnd<'_>, actions: &mut Actions) {
        self.installed.abandon();
        match (&mut self.state, end) {
            (State::Recovering(recovering), WorkerEnd::Done) => {
                let crashed = recovering.crashed.take();
                self.trouble = Reason::default();
                self.state = State::Resting(Resting { rejected_until: None });
                self.acks.on_change(now);
                if let Some(task) = crashed {
                    self.after_crash(now, task, actions);
                }
            }
            (State::Recovering(recovering), WorkerEnd::Failed(reason) | WorkerEnd::Crashed(reason)) => {
                recovering.again = Some(now + RECOVERY_PAUSE);
                self.has_failed = true;
                self.trouble = (*reason).clone();
                self.acks.on_change(now);
            }
            (State::Installing(installing), WorkerEnd::Done | WorkerEnd::Failed(_)) => {
                let task = installing.task;
                let is_told =
                    self.last.as_ref().is_some_and(|last| last.request_id == task.install.request_id);
                let (outcome, reason) = match (is_told, end) {
                    (true, _) => return self.rest(now, task, actions),
                    (false, WorkerEnd::Failed(reason)) => (Outcome::Rejected, (*reason).clone()),
                    (false, _) => (Outcome::Installed, Reason::default()),
                };
                self.end(now, task, outcome, reason, actions);
            }
            (State::Installing(installing), WorkerEnd::Crashed(_)) => {
                let crashed = Some(installing.task);
                self.state = State::Recovering(Recovering { again: None, crashed });
                self.acks.on_change(now);
                actions.push(Action::StartRecovery);
            }
            (State::Connecting(_) | State::Resting(_), _) => {}
        }
    }

    /// Recovery after a crash is done: the journal may know the request.
    fn after_crash(&mut self, now: Instant, task: Task, actions: &mut Actions) {
        let is_told = self.last.as_ref().is_some_and(|last| last.request_id == task.install.request_id);
        if is_told {
            return self.rest(now, task, actions);
        }
        let reason = Reason::new("The install's worker died before it changed anything: ask again.");
        self.end(now, task, Outcome::Rejected, reason, actions);
    }

    /// An install ended that the journal does not know.
    fn end(&mut self, now: Instant, task: Task, outcome: Outcome, reason: Reason, actions: &mut Actions) {
        let request_id = task.install.request_id;
        self.remember(LastInstall { request_id, outcome, reason, reboot_required: self.requires_reboot });
        self.rest(now, task, actions);
    }

    /// An install ended, and `last` says how: answer, then rest.
    fn rest(&mut self, now: Instant, task: Task, actions: &mut Actions) {
        let is_rejected = self.last.as_ref().is_some_and(|last| last.outcome == Outcome::Rejected);
        let rejected_until = is_rejected.then(|| now + self.facts.rejection_shown);
        self.state = State::Resting(Resting { rejected_until });
        if let Some(last) = &self.last {
            respond(task.install.controller, task.peer, last, actions);
        }
        self.acks.on_change(now);
    }

    fn remember(&mut self, last: LastInstall) {
        self.has_failed = match last.outcome {
            Outcome::Installed => false,
            // Nothing was begun: what was true before is true still.
            Outcome::Rejected => self.has_failed,
            Outcome::RolledBack | Outcome::Broken => true,
        };
        self.requires_reboot = last.reboot_required;
        self.last = Some(last);
    }

    /// Does what is due. Early: does nothing.
    pub fn on_timeout(&mut self, now: Instant, actions: &mut Actions) {
        match &mut self.state {
            State::Recovering(recovering) if recovering.again.is_some_and(|again| now >= again) => {
                recovering.again = None;
                actions.push(Action::StartRecovery);
            }
            State::Connecting(connecting) if connecting.again.is_some_and(|again| now >= again) => {
                connecting.again = None;
                let task = connecting.task;
                actions.push(Action::Connect(task.install.controller, task.peer, Purpose::Fetch));
            }
            State::Resting(resting) if resting.rejected_until.is_some_and(|until| now >= until) => {
                resting.rejected_until = None;
                self.acks.on_change(now);
            }
            _ => {}
        }
        self.say_what_is_due(now, actions);
    }

    /// When something is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Recovering(recovering) => recovering.again,
            State::Connecting(connecting) => connecting.again,
            State::Installing(_) => None,
            State::Resting(resting) => resting.rejected_until,
        };
        // Before recovery the agent has nothing to say.
        let ack = self.acks.poll_at().filter(|_| self.may_speak());
        Instant::earliest([own, ack])
    }

    fn may_speak(&self) -> bool {
        self.is_known || self.has_failed
    }

    fn say_what_is_due(&mut self, now: Instant, actions: &mut Actions) {
        if self.may_speak() && self.acks.take_due(now) {
            actions.send(To::Controllers, Message::HelloAgentAck(self.ack()));
        }
    }

    fn task(&self) -> Option<&Task> {
        match &self.state {
            State::Recovering(recovering) => recovering.crashed.as_ref(),
            State::Connecting(connecting) => Some(&connecting.task),
            State::Installing(installing) => Some(&installing.task),
            State::Resting(_) => None,
        }
    }

    /// How the host is.
    #[must_use]
    pub fn ack(&self) -> HelloAgentAck {
        let (state, step, progress) = self.shown();
        let (request_id, request) = match (self.task(), &self.last) {
            (Some(task), _) => (task.install.request_id, RequestState::Running),
            (None, Some(last)) => (last.request_id, RequestState::Ended(last.outcome)),
            (None, None) => Default::default(),
        };
        HelloAgentAck {
            query_id: self.installed.query_id(),
            installed_digest: self.installed.digest(),
            hostname: self.facts.hostname.clone(),
            nodetype: self.facts.nodetype.clone(),
            requires_reboot: self.requires_reboot,
            patch_failed: self.has_failed,
            sw_version: self.facts.sw_version.clone(),
            state,
            step,
            progress,
            nonce: self.nonce,
            request_id,
            request,
        }
    }

    /// What the agent does, for its ack and for `status`: state, step, percent.
    #[must_use]
    pub fn shown(&self) -> (AgentState, Step, u8) {
        match &self.state {
            State::Installing(installing) => (AgentState::Installing, installing.step, installing.percent),
            State::Connecting(_) => (AgentState::Installing, Step::Checking, 0),
            State::Recovering(Recovering { crashed: Some(_), .. }) => {
                (AgentState::Installing, Step::RollingBack, 0)
            }
            State::Resting(Resting { rejected_until: Some(_) }) => {
                (AgentState::InstallRejected, Step::default(), 0)
            }
            _ if self.has_failed => (AgentState::InstallFailed, Step::default(), 0),
            _ => (AgentState::Idle, Step::default(), 0),
        }
    }

    /// A page of the answer to a detailed query, from the patch with this index
    /// on; `None` past the end. The first page is there even of an empty set.
    #[must_use]
    pub fn detail_page(&self, from: usize) -> Option<DetailPage> {
        let patches = self.installed.patches();
        let rest = patches.get(from..).filter(|rest| from == 0 || !rest.is_empty())?;
        let mut installed = heapless::Vec::new();
        for patch in rest {
            if installed.push(patch.clone()).is_err() {
                break;
            }
        }
        Some(DetailPage {
            query_id: self.installed.query_id(),
            installed_digest: self.installed.digest(),
            nodetype: self.facts.nodetype.clone(),
            sw_version: self.facts.sw_version.clone(),
            installed,
        })
    }

    /// What is installed.
    #[must_use]
    pub fn installed(&self) -> &Installed<'a> {
        &self.installed
    }

    /// How the last install ended.
    #[must_use]
    pub fn last(&self) -> Option<&LastInstall> {
        self.last.as_ref()
    }

    /// Why recovery failed; empty unless it does.
    #[must_use]
    pub fn trouble(&self) -> &Reason {
        &self.trouble
    }

    /// Requests with a nonce that was not, or no longer, the current one.
    #[must_use]
    pub fn stale_nonces(&self) -> u64 {
        self.stale_nonces
    }

    /// Checks what must always hold; a driver calls it in debug builds.
    pub fn invariants(&self) {
        debug_assert!(self.nonce != Nonce(0), "a nonce that is never sent by chance");
        debug_assert!(
            self.is_known || !matches!(self.state, State::Connecting(_) | State::Installing(_)),
            "no install before recovery"
        );
    }
}

fn respond(to: NodeId, peer: Peer, last: &LastInstall, actions: &mut Actions) {
    let response = AgentInstallResp {
        request_id: last.request_id,
        status: last.outcome == Outcome::Installed,
        outcome: Some(last.outcome),
        reject_reason: last.reason.clone(),
        reboot_required: last.reboot_required,
    };
    actions.send(To::Node(to, peer), Message::AgentInstallResp(response));
}

fn busy(request: &AgentInstallReq, reason: Reason) -> Message {
    Message::AgentInstallResp(AgentInstallResp {
        request_id: request.request_id,
        status: false,
        outcome: None,
        reject_reason: reason,
        reboot_required: false,
    })
}
