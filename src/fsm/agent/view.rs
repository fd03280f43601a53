//! What an agent reports: its ack, its answer to a detailed query, and the values
//! that `status` shows.

use super::{Agent, Idle, Recovering, State};
use crate::fsm::installed::Installed;
use crate::time::{Duration, Instant};
use crate::types::{Digest, Reason};
use crate::wire::frame::DetailPage;
use crate::wire::install::{LastInstall, Outcome, Step};
use crate::wire::messages::{AgentState, HelloAgentAck, RequestState};

/// The progress shown while the proof is pending.
const PROVING_PERCENT: u8 = 95;

impl<'a> Agent<'a> {
    /// The ack with the current state of the host.
    #[must_use]
    pub fn ack(&self) -> HelloAgentAck {
        let (state, step, progress) = self.progress();
        let (request_id, request) = match (self.current_request(), self.has_recovery_failed(), &self.last) {
            (Some((id, _)), false, _) => (id, RequestState::Running),
            (Some((id, _)), true, _) => (id, RequestState::Ended(Outcome::Broken)),
            (None, _, Some(last)) => (last.request_id, RequestState::Ended(last.outcome)),
            (None, _, None) => Default::default(),
        };
        HelloAgentAck {
            query_id: if self.is_known { self.installed.query_id() } else { 0 },
            installed_digest: self.installed_digest(),
            hostname: self.facts.hostname.clone(),
            nodetype: self.facts.nodetype.clone(),
            requires_reboot: self.requires_reboot,
            patch_failed: self.has_failed || self.has_recovery_failed(),
            sw_version: self.facts.sw_version.clone(),
            state,
            step,
            progress,
            nonce: self.nonce,
            request_id,
            request,
        }
    }

    /// What the agent is doing: state, step, percent.
    #[must_use]
    pub fn progress(&self) -> (AgentState, Step, u8) {
        match &self.state {
            State::Installing(installing) => (AgentState::Installing, installing.step, installing.percent),
            State::Connecting(_) => (AgentState::Installing, Step::Checking, 0),
            State::Proving(_) => (AgentState::Installing, Step::Health, PROVING_PERCENT),
            _ if self.has_recovery_failed() => (AgentState::InstallFailed, Step::default(), 0),
            State::Recovering(Recovering { crashed: Some(_), .. }) => {
                (AgentState::Installing, Step::RollingBack, 0)
            }
            State::Idle(Idle { rejected_until: Some(_) }) => {
                (AgentState::InstallRejected, Step::default(), 0)
            }
            _ if self.has_failed => (AgentState::InstallFailed, Step::default(), 0),
            _ => (AgentState::Idle, Step::default(), 0),
        }
    }

    /// How long an install that is in place has waited for a controller, and how long it
    /// waits; `None` if none waits.
    #[must_use]
    pub fn awaits(&self, now: Instant) -> Option<(Duration, Duration)> {
        let State::Proving(proving) = &self.state else { return None };
        Some((proving.waited(now)?, proving.pending.wait))
    }

    /// The page of the answer to a detailed query that begins with the patch at this
    /// index; `None` past the end. An empty set has a first page. While the installed
    /// set is not known, there is none.
    #[must_use]
    pub fn detail_page(&self, from: usize) -> Option<DetailPage> {
        let patches = self.is_known.then(|| self.installed.patches())?;
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

    /// The digest of the installed set; zero while it is not known.
    #[must_use]
    pub fn installed_digest(&self) -> Digest {
        if self.is_known { self.installed.digest() } else { Digest::default() }
    }

    /// What is installed, as far as is known.
    #[must_use]
    pub fn installed(&self) -> &Installed<'a> {
        &self.installed
    }

    /// How the last install ended.
    #[must_use]
    pub fn last(&self) -> Option<&LastInstall> {
        self.last.as_ref()
    }

    /// Why the last recovery failed; empty if it succeeded.
    #[must_use]
    pub fn recovery_error(&self) -> &Reason {
        &self.recovery_error
    }

    /// Requests that carried another nonce than the current one.
    #[must_use]
    pub fn stale_nonces(&self) -> u64 {
        self.stale_nonces
    }
}
