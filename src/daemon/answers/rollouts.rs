//! Starts, stops, resumes and shows the rollout for an operator, and settles it for the
//! controller that carries it.

use log::{info, warn};

use super::super::event_loop::Daemon;
use super::super::os_error::OsError;
use super::super::proof;
use super::super::repository::{ChangeKind, Requester};
use super::super::workers::WorkerKind;
use super::wording::DisplayName;
use super::{Answered, RequestRefused, refused, wording};
use crate::control::{ErrorKind, Reply, RolloutRow};
use crate::fsm::controller::Controller;
use crate::job::{Job, RolloutChange};
use crate::repo::entry::Stamp;
use crate::repo::rollout::{Rollout, RolloutState};
use crate::time::Instant;
use crate::types::{Hostname, NodeId, Reason};

impl<'a> Daemon<'a> {
    /// Shows the last rollout, if there is one.
    pub(super) fn show_rollout(&mut self, now: Instant, slot: usize) -> Result<Answered, RequestRefused> {
        let controller = self.controller()?;
        if let Some(rollout) = controller.map().rollout() {
            let row = row(now, controller, &self.config.node.hostname, rollout);
            self.control.reply(slot, &Reply::Rollout(row));
        }
        Ok(Answered::Done)
    }

    /// Starts a rollout, unless one is under way.
    pub(super) fn start_rollout(
        &mut self,
        now: Instant,
        slot: usize,
        parallel: u16,
        stop_after: u16,
        force: bool,
    ) -> Result<Answered, RequestRefused> {
        self.can_ask(|_| true)?;
        let controller = self.ready_controller()?;
        if let Some(running) = controller.map().rollout().filter(|rollout| rollout.is_running()) {
            let (node, name) = carrier(controller, &self.config.node.hostname, running);
            let carrier = DisplayName(node, &name);
            return Err((
                ErrorKind::Refused,
                Reason::format(format_args!(
                    "A rollout is under way, carried by {carrier}: follow it with thimble watch, or stop it first \
                     with thimble host-install --stop."
                )),
            ));
        }
        let state = RolloutState::Running;
        let to = Rollout {
            stamp: Stamp::default(),
            id: 0,
            carrier: controller.node(),
            state,
            parallel,
            stop_after,
            force,
        };
        self.begin(now, slot, to)
    }

    /// Stops the rollout that is under way.
    pub(super) fn stop_rollout(&mut self, now: Instant, slot: usize) -> Result<Answered, RequestRefused> {
        let controller = self.controller()?;
        match controller.map().rollout() {
            Some(rollout) if rollout.is_running() => {
                let to = Rollout { state: RolloutState::Stopped, ..*rollout };
                let job = change(controller, to);
                self.start_change(now, slot, ChangeKind::Rollout, &job)
            }
            _ => Err(refused("No rollout is under way: there is nothing to stop.")),
        }
    }

    /// Resumes the rollout that was stopped, under a new number.
    pub(super) fn resume_rollout(&mut self, now: Instant, slot: usize) -> Result<Answered, RequestRefused> {
        let controller = self.ready_controller()?;
        let reason = match controller.map().rollout() {
            Some(stopped) if matches!(stopped.state, RolloutState::Stopped | RolloutState::Halted) => {
                let to = Rollout { state: RolloutState::Running, carrier: controller.node(), ..*stopped };
                return self.begin(now, slot, to);
            }
            Some(running) if running.is_running() => {
                "The rollout is under way already: follow it with thimble watch."
            }
            Some(_) => "The last rollout has ended: begin another with thimble host-install --all.",
            None => "There was no rollout yet: begin one with thimble host-install --all.",
        };
        Err(refused(reason))
    }

    /// A controller that may ask hosts to install.
    fn ready_controller(&self) -> Result<&Controller<'a>, RequestRefused> {
        let controller = self.controller()?;
        match wording::incomplete(controller) {
            Some(reason) => Err((ErrorKind::Refused, reason)),
            None => Ok(controller),
        }
    }

    /// Makes `to` the rollout, under a new number.
    fn begin(&mut self, now: Instant, slot: usize, to: Rollout) -> Result<Answered, RequestRefused> {
        let id = self.node.random.next_u64();
        let job = change(self.controller()?, Rollout { id, ..to });
        self.start_change(now, slot, ChangeKind::Rollout, &job)
    }

    /// Records what the state machine has decided: the rollout has ended, must stop, or is
    /// taken over. Does nothing while the repository is being changed; the state machine
    /// then asks again.
    pub fn settle_rollout(&mut self, now: Instant, to: Rollout) {
        let Some(controller) = self.node.controller.as_ref().filter(|_| self.repository.change().is_none())
        else {
            return;
        };
        let job = change(controller, to);
        let started =
            proof::exempt(|| self.workers.start(now, &self.registry, WorkerKind::Change, &job, &[]));
        match started {
            Ok(()) => self.repository.on_change_started(ChangeKind::Rollout, Requester::Controller),
            Err(error) => {
                self.counters
                    .log_not_settled(now, &format_args!("its worker cannot be started: {}", OsError(&error)));
            }
        }
    }
}

/// Logs a decision of the state machine about the rollout, once it is durable.
pub(in crate::daemon) fn log_settled(rollout: &Rollout, was_here: bool) {
    match rollout.state {
        // It says that it goes on.
        RolloutState::Running if was_here => {}
        RolloutState::Halted => warn!("the rollout stops: too many hosts have failed"),
        RolloutState::Running => warn!("this controller takes the rollout over: no other carries it"),
        RolloutState::Ended | RolloutState::Stopped => info!("the rollout has ended"),
    }
}

fn change(controller: &Controller<'_>, to: Rollout) -> Job {
    let instead_of = controller.map().rollout().map(|rollout| rollout.stamp);
    Job::Rollout(RolloutChange { to, instead_of, renew: controller.sync().must_renew() })
}

pub(super) fn row(
    now: Instant,
    controller: &Controller<'_>,
    own: &Hostname,
    rollout: &Rollout,
) -> RolloutRow {
    let (carrier, carrier_name) = carrier(controller, own, rollout);
    RolloutRow {
        id: rollout.id,
        state: rollout.state,
        carrier,
        carrier_name,
        is_here: carrier == controller.node(),
        is_early: !controller.pacing().is_settled(now) || controller.is_census_early(now, rollout),
        parallel: rollout.parallel,
        stop_after: rollout.stop_after,
        force: rollout.force,
        hosts: controller.census(now, rollout),
    }
}

/// The controller that carries a rollout, and its name.
fn carrier(controller: &Controller<'_>, own: &Hostname, rollout: &Rollout) -> (NodeId, Hostname) {
    let node = rollout.carrier;
    let name = match controller.sync().neighbours().get(node) {
        _ if node == controller.node() => own.clone(),
        Some(neighbour) => neighbour.hostname.clone(),
        None => Hostname::default(),
    };
    (node, name)
}
