//! A datagram, both ways round, through the codec that the daemon uses: bytes
//! without the key are never believed; a body under a valid tag is refused by
//! name or means the same once sent on; every message that can be built arrives
//! as it was sent.

#![no_main]

use libfuzzer_sys::arbitrary::{Error, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use thimble::limits;
use thimble::table::{Table, index_len};
use thimble::time::{Duration, Instant};
use thimble::types::{ClusterId, Hash, NodeId, Nonce, RequestId};
use thimble::wire::codec::{Codec, Identity, RefusedDatagram, Roles, tag_of};
use thimble::wire::frame::Role;
use thimble::wire::header::{Header, MINOR};
use thimble::wire::install::{Outcome, Step};
use thimble::wire::keys::{Key, KeyRing};
use thimble::wire::messages::{
    AgentInstallReq, AgentInstallResp, AgentState, Contact, DropHostReq, Hello, HelloAck, HelloAgent,
    HelloAgentAck, Message, MsgType, OtherControllers, Ping, Pong, RequestState, SpreadOffer, SpreadReport,
    SyncComplete, SyncReq,
};
use thimble::wire::replay::{ReplayGuard, Window};

use thimble_fuzz::{digest, name, node, text};

const SECRET: Key = Key([7; 32]);
const CLUSTER: ClusterId = ClusterId(0xC1);
const NOW: Instant = Instant::from_millis(0);
/// Two controllers and an agent.
const CONTROLLERS: [NodeId; 2] = [NodeId(1), NodeId(2)];
const AGENT: NodeId = NodeId(5);

fuzz_target!(|bytes: &[u8]| {
    for receiver in [Role::Controller, Role::Agent] {
        with_receiver(receiver, |codec| {
            let believed = codec.decode(NOW, bytes);
            assert!(believed.is_err(), "believed without the key: {believed:?}");
        });
    }
    let mut input = Unstructured::new(bytes);
    let Ok(msgtype) = input.choose(&MsgType::ALL).copied() else { return };
    if input.arbitrary() == Ok(true) {
        let minor = input.arbitrary().unwrap_or(MINOR);
        if let Ok(message) = receive(msgtype, &tagged(msgtype, minor, input.take_rest())) {
            assert_eq!(sent_and_received(&message), message);
        }
    } else if let Ok(message) = any_message(msgtype, &mut input) {
        assert_eq!(sent_and_received(&message), message);
    }
});

fn sent_and_received(message: &Message) -> Message {
    let from = sender(message.msgtype());
    with_codec(from, CONTROLLERS[0], |codec| {
        let mut out = [0; limits::DATAGRAM_BYTES];
        let to = if message.msgtype().receiver() == Role::Agent { AGENT } else { NodeId(0) };
        let len = codec.encode(message, to, &mut out);
        receive(message.msgtype(), &out[..len]).expect("what a node sends is believed")
    })
}

fn receive(msgtype: MsgType, bytes: &[u8]) -> core::result::Result<Message, RefusedDatagram> {
    with_receiver(msgtype.receiver(), |codec| codec.decode(NOW, bytes).map(|datagram| datagram.message))
}

fn sender(msgtype: MsgType) -> Role {
    msgtype.sender()
}

fn with_receiver<T>(role: Role, run: impl FnOnce(&mut Codec<'_>) -> T) -> T {
    with_codec(role, CONTROLLERS[1], run)
}

/// A codec that has sent and seen nothing, of the agent or of a controller.
fn with_codec<T>(role: Role, controller: NodeId, run: impl FnOnce(&mut Codec<'_>) -> T) -> T {
    let is_agent = role == Role::Agent;
    let identity = Identity {
        cluster: CLUSTER,
        node: if is_agent { AGENT } else { controller },
        incarnation: 1,
        roles: Roles { is_controller: !is_agent, is_agent },
        ring: if is_agent { KeyRing::agent(&SECRET, AGENT) } else { KeyRing::controller(&SECRET) },
        revoked: heapless::Vec::new(),
    };
    let mut windows = heapless::Vec::<Window, 2>::new();
    let mut index = [0; index_len(2)];
    let replay = ReplayGuard::new(Table::new(&mut windows, &mut index), Duration::from_secs(100));
    run(&mut Codec::new(identity, replay))
}

/// Any body under a valid header and tag, as a holder of the key could make it.
fn tagged(msgtype: MsgType, minor: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(limits::DATAGRAM_BODY_BYTES)];
    let sender = if sender(msgtype) == Role::Agent { AGENT } else { CONTROLLERS[0] };
    let header = Header {
        msgtype: msgtype as u8,
        key_slot: 0,
        minor,
        cluster: CLUSTER,
        sender,
        incarnation: 1,
        sequence: 1,
        body_len_bytes: body.len() as u16,
    };
    let mut bytes = header.emit().to_vec();
    bytes.extend_from_slice(body);
    let key =
        KeyRing::controller(&SECRET).key(0, msgtype.key_class(AGENT)).expect("a controller has all keys");
    let tag = tag_of(&key, &bytes);
    bytes.extend_from_slice(&tag);
    bytes
}

fn any_message(msgtype: MsgType, input: &mut Unstructured<'_>) -> Result<Message> {
    Ok(match msgtype {
        MsgType::Hello => Message::Hello(Hello { op_counter: input.arbitrary()?, digest: digest(input)? }),
        MsgType::HelloAck => Message::HelloAck(HelloAck {}),
        MsgType::SyncReq => {
            Message::SyncReq(SyncReq { op_counter: input.arbitrary()?, digest: digest(input)? })
        }
        MsgType::SyncComplete => {
            Message::SyncComplete(SyncComplete { digest: digest(input)?, blobs_missing: input.arbitrary()? })
        }
        MsgType::HelloAgent => Message::HelloAgent(HelloAgent {
            op_counter: input.arbitrary()?,
            ack_window_ms: input.arbitrary()?,
        }),
        MsgType::HelloAgentAck => Message::HelloAgentAck(any_ack(input)?),
        MsgType::AgentInstallReq => Message::AgentInstallReq(AgentInstallReq {
            request_id: input.arbitrary().map(RequestId)?,
            nonce: input.arbitrary().map(Nonce)?,
            digest: digest(input)?,
            force: input.arbitrary()?,
        }),
        MsgType::AgentInstallResp => Message::AgentInstallResp(AgentInstallResp {
            request_id: input.arbitrary().map(RequestId)?,
            status: input.arbitrary()?,
            outcome: if input.arbitrary()? { Some(outcome(input)?) } else { None },
            reject_reason: text(input)?,
            reboot_required: input.arbitrary()?,
        }),
        MsgType::DropHostReq => Message::DropHostReq(DropHostReq { host: node(input)? }),
        MsgType::Ping => Message::Ping(Ping { host: node(input)?, number: input.arbitrary()? }),
        MsgType::Pong => Message::Pong(Pong { number: input.arbitrary()?, heard: input.arbitrary()? }),
        MsgType::SpreadOffer => Message::SpreadOffer(SpreadOffer {
            transmission: input.arbitrary()?,
            id: name(input)?,
            file: Hash(input.arbitrary()?),
            size_bytes: input.arbitrary()?,
            kinds: input.arbitrary()?,
            packet_bytes: input.arbitrary()?,
            section: input.arbitrary()?,
            round: input.arbitrary()?,
            window_ms: input.arbitrary()?,
        }),
        MsgType::SpreadReport => {
            let many = input.int_in_range(0..=limits::SECTION_BLOCKS)?;
            let mut missing = heapless::Vec::new();
            for _ in 0..many {
                missing.push(input.arbitrary()?).expect("as many fit");
            }
            Message::SpreadReport(SpreadReport {
                transmission: input.arbitrary()?,
                section: input.arbitrary()?,
                round: input.arbitrary()?,
                is_out: input.arbitrary()?,
                other: input.arbitrary()?,
                missing,
            })
        }
        MsgType::OtherControllers => {
            let many = input.int_in_range(0..=limits::CONTROLLERS - 1)?;
            let contact = |_| Ok(Contact { address: input.arbitrary()?, port: input.arbitrary()? });
            Message::OtherControllers(OtherControllers { at: (0..many).map(contact).collect::<Result<_>>()? })
        }
    })
}

fn any_ack(input: &mut Unstructured<'_>) -> Result<HelloAgentAck> {
    use AgentState::{Idle, InstallFailed, InstallRejected, Installing};
    Ok(HelloAgentAck {
        query_id: input.arbitrary()?,
        installed_digest: digest(input)?,
        hostname: Some(name(input)?).filter(|name| !name.is_empty()).ok_or(Error::IncorrectFormat)?,
        nodetype: name(input)?,
        requires_reboot: input.arbitrary()?,
        patch_failed: input.arbitrary()?,
        sw_version: name(input)?,
        state: *input.choose(&[Idle, Installing, InstallFailed, InstallRejected])?,
        step: *input.choose(&[Step::Checking, Step::Staging, Step::Health, Step::RollingBack])?,
        progress: input.arbitrary()?,
        nonce: input.arbitrary().map(Nonce)?,
        request_id: input.arbitrary().map(RequestId)?,
        request: match input.int_in_range(0..=2)? {
            0 => RequestState::None,
            1 => RequestState::Running,
            _ => RequestState::Ended(outcome(input)?),
        },
    })
}

fn outcome(input: &mut Unstructured<'_>) -> Result<Outcome> {
    use Outcome::{Broken, Installed, Rejected, RolledBack};
    input.choose(&[Installed, Rejected, RolledBack, Broken]).copied()
}
