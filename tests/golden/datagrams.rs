//! Each datagram: header, body, and the tag with the key of its type.

use std::net::SocketAddr;

use thimble::limits::DATAGRAM_BYTES;
use thimble::table::{Table, index_len};
use thimble::time::{Duration, Instant};
use thimble::types::{Digest, NodeId, Nonce, Reason, RequestId};
use thimble::wire::codec::{Codec, Identity, ReceivedDatagram, Roles};
use thimble::wire::install::{Outcome, Step};
use thimble::wire::keys::KeyRing;
use thimble::wire::messages::{
    AgentInstallReq, AgentInstallResp, AgentState, Contact, DropHostReq, Hello, HelloAck, HelloAgent,
    HelloAgentAck, Message, OtherControllers, Ping, Pong, RequestState, SpreadOffer, SpreadReport,
    SyncComplete, SyncReq,
};
use thimble::wire::replay::ReplayGuard;

use crate::{AGENT, CLUSTER, CONTROLLER, SECRET, golden, hex, name};

const OTHER_CONTROLLER: NodeId = NodeId(0x1112_1314_1516_1718);
/// All agents.
const ALL: NodeId = NodeId(0);
const NOW: Instant = Instant::from_millis(0);

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

/// A codec for a node, handed to `test`.
fn with_codec<T>(node: NodeId, test: impl FnOnce(&mut Codec<'_>) -> T) -> T {
    let is_agent = node == AGENT;
    let ring = if is_agent { KeyRing::agent(&SECRET, AGENT) } else { KeyRing::controller(&SECRET) };
    let identity = Identity {
        cluster: CLUSTER,
        node,
        incarnation: 0x0000_0193_1234_5678,
        roles: Roles { is_controller: !is_agent, is_agent },
        ring,
        revoked: heapless::Vec::new(),
    };
    let (mut windows, mut index) = (Vec::with_capacity(2), [0; index_len(2)]);
    let replay = ReplayGuard::new(Table::new(&mut windows, &mut index), Duration::from_secs(1));
    test(&mut Codec::new(identity, replay))
}

/// `message` from one node to another encodes to the file's bytes, and they decode to it.
/// In each file the sequence is the message's number.
#[track_caller]
fn is_frozen(file: &str, from: NodeId, to: NodeId, message: Message) {
    is_frozen_for(file, from, to, to, message);
}

/// The same for a message that is sent to `to`, maybe all, and received by `at`.
#[track_caller]
fn is_frozen_for(file: &str, from: NodeId, to: NodeId, at: NodeId, message: Message) {
    let bytes = golden(file);
    let mut out = [0; DATAGRAM_BYTES];
    let len = with_codec(from, |codec| {
        (0..message.msgtype() as u8).map(|_| codec.encode(&message, to, &mut out)).last().unwrap()
    });
    assert_eq!(hex(&out[..len]), hex(&bytes), "{file}: encoded");
    let is_forgeable =
        to == ALL && matches!(message, Message::HelloAgent(_) | Message::Ping(_) | Message::SpreadOffer(_));
    let received = ReceivedDatagram { sender: from, key_slot: 0, message, is_forgeable };
    assert_eq!(with_codec(at, |codec| codec.decode(NOW, &bytes)), Ok(received), "{file}: decoded");
}

#[test]
fn messages_among_controllers() {
    let hello = Message::Hello(Hello { op_counter: 300, digest: digest(0xd1) });
    is_frozen("hello", CONTROLLER, OTHER_CONTROLLER, hello);
    is_frozen("hello_ack", CONTROLLER, OTHER_CONTROLLER, Message::HelloAck(HelloAck {}));
    let sync = Message::SyncReq(SyncReq { op_counter: u64::MAX, digest: digest(0xd3) });
    is_frozen("sync_req", CONTROLLER, OTHER_CONTROLLER, sync);
    let done = Message::SyncComplete(SyncComplete { digest: digest(0xd4), blobs_missing: 0x1234 });
    is_frozen("sync_complete", CONTROLLER, OTHER_CONTROLLER, done);
    let drop = Message::DropHostReq(DropHostReq { host: AGENT });
    is_frozen("drop_host_req", CONTROLLER, OTHER_CONTROLLER, drop);
}

#[test]
fn messages_to_agents() {
    let hello = Message::HelloAgent(HelloAgent { op_counter: 7, ack_window_ms: 16_384 });
    is_frozen_for("hello_agent", CONTROLLER, ALL, AGENT, hello.clone());
    is_frozen("hello_agent_alone", CONTROLLER, AGENT, hello);
    let install = Message::AgentInstallReq(AgentInstallReq {
        request_id: RequestId(0x8877_6655_4433_2211),
        nonce: Nonce(0x0f1e_2d3c_4b5a_6978),
        digest: digest(0xd9),
        force: true,
    });
    is_frozen("agent_install_req", CONTROLLER, AGENT, install);
    let at = ["10.0.0.11:7488", "[fd00::1]:7500"].map(|at| Contact::from(at.parse::<SocketAddr>().unwrap()));
    let others = Message::OtherControllers(OtherControllers { at: at.into_iter().collect() });
    is_frozen("other_controllers", CONTROLLER, AGENT, others);
    let ping = Message::Ping(Ping { host: AGENT, number: 0x1234 });
    is_frozen_for("ping", CONTROLLER, ALL, AGENT, ping.clone());
    is_frozen("ping_alone", CONTROLLER, AGENT, ping);
    let offer = Message::SpreadOffer(SpreadOffer {
        transmission: 0x1122_3344_5566_7788,
        id: name("TZDATA-3"),
        file: thimble::types::Hash([0xab; 32]),
        size_bytes: 33_554_432,
        kinds: 0x8000_0000_0000_0001,
        packet_bytes: 1_152,
        section: 1,
        round: 2,
        window_ms: 64,
    });
    is_frozen_for("spread_offer", CONTROLLER, ALL, AGENT, offer);
}

#[test]
fn messages_of_an_agent() {
    let ack = Message::HelloAgentAck(HelloAgentAck {
        query_id: 0x1234_5678_9abc_def0,
        installed_digest: digest(0xd6),
        hostname: name("rack1-worker-7"),
        nodetype: name("worker"),
        requires_reboot: true,
        patch_failed: false,
        sw_version: name("24.09"),
        state: AgentState::Installing,
        step: Step::Switching,
        progress: 42,
        nonce: Nonce(0x0f1e_2d3c_4b5a_6978),
        request_id: RequestId(0x8877_6655_4433_2211),
        request: RequestState::Ended(Outcome::RolledBack),
    });
    is_frozen("hello_agent_ack", AGENT, CONTROLLER, ack);
    let answer = Message::AgentInstallResp(AgentInstallResp {
        request_id: RequestId(0x8877_6655_4433_2211),
        status: false,
        outcome: Some(Outcome::Rejected),
        reject_reason: Reason::truncated("Node must be locked."),
        reboot_required: false,
    });
    is_frozen("agent_install_resp", AGENT, CONTROLLER, answer);
    is_frozen("pong", AGENT, CONTROLLER, Message::Pong(Pong { number: 0x1235, heard: 0x1234 }));
    let report = Message::SpreadReport(SpreadReport {
        transmission: 0x1122_3344_5566_7788,
        section: 1,
        round: 2,
        is_out: false,
        other: 0x99,
        missing: [0, 300, 7].into_iter().collect(),
    });
    is_frozen("spread_report", AGENT, CONTROLLER, report);
}
