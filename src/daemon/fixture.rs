//! A controller for this folder's tests.

use crate::fsm::actions::{Actions, Peer};
use crate::fsm::controller::{Controller, ControllerTimers, Tables};
use crate::fsm::reasons::{InstallReason, Reasons};
use crate::fsm::requests::RequestTimers;
use crate::fsm::sync::SyncTimers;
use crate::fsm::sync::blobs::BlobError;
use crate::limits;
use crate::list::reserved;
use crate::repo::entry::Entry;
use crate::repo::fixture;
use crate::table::{Table, index_len};
use crate::time::{Duration, Instant};
use crate::types::{Digest, Hostname, NodeId, NodeType};
use crate::wire::messages::{AgentState, HelloAgentAck, Message};

/// A host that is not heard for this long is lost.
pub const HOST_LOST: Duration = Duration::from_secs(3_600);
/// A controller that is not heard for this long is lost.
pub const CONTROLLER_LOST: Duration = Duration::from_secs(120);

/// The time this many seconds after 0.
pub const fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1000)
}

/// The address of all nodes.
pub fn peer() -> Peer {
    Peer::Ip(([127, 0, 0, 1], 1).into())
}

/// A controller that started at 0 with these entries.
pub fn controller(entries: &[Entry]) -> Controller<'static> {
    let second = Duration::from_secs(1);
    let timers = ControllerTimers {
        hello_interval: second,
        probe: second,
        host_lost: HOST_LOST,
        query_timeout: second,
        request: RequestTimers { retry: second, give_up: second, stall: second.times(10) },
        sync: SyncTimers {
            hello_interval: second,
            probe: second,
            hello_start: second,
            controller_lost: CONTROLLER_LOST,
            retry: second,
        },
    };
    let slots = Box::leak(Box::new(fixture::slots(8)));
    let tables = Tables {
        map: fixture::map(slots, entries),
        hosts: Table::new(reserved(4), vec![0; index_len(4)].leak()),
        queries: vec![None; limits::DETAILED_QUERIES].leak(),
        reasons: Reasons::new(vec![InstallReason::default(); 4].leak()),
        neighbours: vec![None; limits::CONTROLLERS - 1].leak(),
        blob_errors: vec![BlobError::default(); 4].leak(),
    };
    Controller::new(at(0), NodeId(1), timers, tables)
}

/// The controller receives a HelloAgentAck of a host of nodetype worker, with the set of
/// this digest installed.
pub fn receive_ack(controller: &mut Controller<'_>, now: Instant, node: u64, name: &str, installed: Digest) {
    receive_ack_in(controller, now, node, name, installed, AgentState::Idle);
}

/// The same, of a host in this state.
pub fn receive_ack_in(
    controller: &mut Controller<'_>,
    now: Instant,
    node: u64,
    name: &str,
    installed: Digest,
    state: AgentState,
) {
    let ack = HelloAgentAck {
        state,
        installed_digest: installed,
        hostname: Hostname::new(name).unwrap(),
        nodetype: NodeType::new("worker").unwrap(),
        ..HelloAgentAck::default()
    };
    let message = Message::HelloAgentAck(ack);
    controller.on_message(now, NodeId(node), peer(), &message, &mut Actions::default());
}
