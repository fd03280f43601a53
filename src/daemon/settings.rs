//! What sessions and state machines take from the configuration, at start and when it
//! is read anew.

use super::transport;
use crate::config::{AgentConfig, NodeConfig, Timers};
use crate::fsm::agent::AgentFacts;
use crate::fsm::controller::ControllerTimers;
use crate::fsm::requests::RequestTimers;
use crate::fsm::sync::SyncTimers;
use crate::time::Duration;
use crate::types::NodeId;

/// The time limits of a session: for each step of its proof, and for silence after it.
pub fn session_timers(timers: &Timers) -> (Duration, Duration) {
    let step = Duration::from_millis(timers.session_proof_ms).times(transport::STEP_PROOFS);
    (step, Duration::from_millis(timers.session_idle_ms))
}

/// An install stands still after this many times the longest limit of a script: it reports
/// nothing while a script runs, and may run several, or verify a large file, without a
/// percent of progress.
const SCRIPTS_TO_STALL: u64 = 4;

/// The timers of a controller. The longest limit of a script on any host is taken to be
/// that of this node.
pub fn controller_timers(timers: &Timers, agent: &AgentConfig) -> ControllerTimers {
    let millis = Duration::from_millis;
    let give_up = millis(timers.install_give_up_ms);
    let scripts_ms = agent.script_timeout_ms.saturating_mul(SCRIPTS_TO_STALL);
    ControllerTimers {
        hello_interval: millis(timers.hello_interval_ms),
        probe: millis(timers.probe_ms),
        host_lost: millis(timers.host_lost_ms),
        query_timeout: millis(timers.query_timeout_ms),
        request: RequestTimers {
            retry: millis(timers.install_retry_ms),
            give_up,
            stall: millis(scripts_ms.saturating_add(timers.install_give_up_ms)),
        },
        sync: SyncTimers {
            hello_interval: millis(timers.hello_interval_ms),
            probe: millis(timers.probe_ms),
            hello_start: millis(timers.hello_start_ms),
            controller_lost: millis(timers.controller_lost_ms),
            retry: millis(timers.sync_retry_ms),
        },
    }
}

/// An agent that is asked by no controller for so long has lost all: one that is up asks in each
/// of its rounds, and again by unicast where no answer comes.
pub fn unasked_after(timers: &Timers) -> Duration {
    let round_ms = timers.hello_interval_ms.saturating_mul(106) / 100;
    Duration::from_millis(round_ms.saturating_add(timers.probe_ms).min(timers.controller_lost_ms))
}

/// The facts that an agent reports about its host.
pub fn agent_facts(id: NodeId, node: &NodeConfig, timers: &Timers) -> AgentFacts {
    AgentFacts {
        node: id,
        hostname: node.hostname.clone(),
        nodetype: node.nodetype.clone(),
        sw_version: node.sw_version.clone(),
        rejection_shown: Duration::from_millis(timers.rejection_shown_ms),
        hello_interval: Duration::from_millis(timers.hello_interval_ms),
    }
}
