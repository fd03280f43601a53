//! The fourteen messages that are datagrams, one file each but for the last four. Two more, 7 and 8, are frames.
//!
//! Names, numbers, directions and meaning are StarlingX's (docs/architecture.md, "A datagram"), but
//! for 12 to 16, which it does not have.
//! Bodies are postcard. New fields are only appended, each with a new minor version. A
//! body from an older sender lacks them and decodes as if zeros followed, so the default
//! of an appended field is its zero: 0, false, empty, `None`.

mod agent_install_req;
mod agent_install_resp;
mod drop_host_req;
mod hello;
mod hello_ack;
mod hello_agent;
mod hello_agent_ack;
mod other_controllers;
mod ping;
mod spread;
mod sync_complete;
mod sync_req;

pub use agent_install_req::AgentInstallReq;
pub use agent_install_resp::AgentInstallResp;
pub use drop_host_req::DropHostReq;
pub use hello::Hello;
pub use hello_ack::HelloAck;
pub use hello_agent::HelloAgent;
pub use hello_agent_ack::{AgentState, HelloAgentAck, RequestState};
pub use other_controllers::{Contact, OtherControllers};
pub use ping::{Ping, Pong};
pub use spread::{OVER, SpreadOffer, SpreadReport, kind_bit};
pub use sync_complete::SyncComplete;
pub use sync_req::SyncReq;

use super::frame::Role;
use super::keys::KeyClass;
use super::refusal::Refusal;
use crate::limits;
use crate::types::NodeId;

/// A message that is sent as a datagram. 7 and 8 are frames of a stream session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// 1, controller to controllers.
    Hello(Hello),
    /// 2, controller to one controller.
    HelloAck(HelloAck),
    /// 3, controller to controllers.
    SyncReq(SyncReq),
    /// 4, controller to one controller, or to all.
    SyncComplete(SyncComplete),
    /// 5, controller to agents.
    HelloAgent(HelloAgent),
    /// 6, agent to controllers.
    HelloAgentAck(HelloAgentAck),
    /// 9, controller to one agent.
    AgentInstallReq(AgentInstallReq),
    /// 10, agent to one controller.
    AgentInstallResp(AgentInstallResp),
    /// 11, controller to controllers.
    DropHostReq(DropHostReq),
    /// 12, controller to one agent.
    OtherControllers(OtherControllers),
    /// 13, controller to one agent, or to all.
    Ping(Ping),
    /// 14, agent to controllers.
    Pong(Pong),
    /// 15, controller to agents.
    SpreadOffer(SpreadOffer),
    /// 16, agent to one controller.
    SpreadReport(SpreadReport),
}

/// The type of a message, known before its body is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsgType {
    /// 1
    Hello = 1,
    /// 2
    HelloAck = 2,
    /// 3
    SyncReq = 3,
    /// 4
    SyncComplete = 4,
    /// 5
    HelloAgent = 5,
    /// 6
    HelloAgentAck = 6,
    /// 9
    AgentInstallReq = 9,
    /// 10
    AgentInstallResp = 10,
    /// 11
    DropHostReq = 11,
    /// 12
    OtherControllers = 12,
    /// 13
    Ping = 13,
    /// 14
    Pong = 14,
    /// 15
    SpreadOffer = 15,
    /// 16
    SpreadReport = 16,
}

impl MsgType {
    /// All types that a datagram can have.
    pub const ALL: [Self; 14] = [
        Self::Hello,
        Self::HelloAck,
        Self::SyncReq,
        Self::SyncComplete,
        Self::HelloAgent,
        Self::HelloAgentAck,
        Self::AgentInstallReq,
        Self::AgentInstallResp,
        Self::DropHostReq,
        Self::OtherControllers,
        Self::Ping,
        Self::Pong,
        Self::SpreadOffer,
        Self::SpreadReport,
    ];

    /// The type with this number; `None` for 7 and 8, which are frames.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|msgtype| *msgtype as u8 == number)
    }

    /// StarlingX's name for it, where it has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "Hello",
            Self::HelloAck => "HelloAck",
            Self::SyncReq => "SyncReq",
            Self::SyncComplete => "SyncComplete",
            Self::HelloAgent => "HelloAgent",
            Self::HelloAgentAck => "HelloAgentAck",
            Self::AgentInstallReq => "AgentInstallReq",
            Self::AgentInstallResp => "AgentInstallResp",
            Self::DropHostReq => "DropHostReq",
            Self::OtherControllers => "OtherControllers",
            Self::Ping => "Ping",
            Self::Pong => "Pong",
            Self::SpreadOffer => "SpreadOffer",
            Self::SpreadReport => "SpreadReport",
        }
    }

    /// The role that sends it.
    #[must_use]
    pub const fn sender(self) -> Role {
        match self {
            Self::HelloAgentAck | Self::AgentInstallResp | Self::Pong | Self::SpreadReport => Role::Agent,
            _ => Role::Controller,
        }
    }

    /// The role that receives it.
    #[must_use]
    pub const fn receiver(self) -> Role {
        match self {
            Self::HelloAgent
            | Self::AgentInstallReq
            | Self::OtherControllers
            | Self::Ping
            | Self::SpreadOffer => Role::Agent,
            _ => Role::Controller,
        }
    }

    /// Whether it is sent from one role to the other, so that a node with both roles
    /// receives its own.
    #[must_use]
    pub const fn crosses_roles(self) -> bool {
        matches!(
            self,
            Self::HelloAgent
                | Self::HelloAgentAck
                | Self::AgentInstallReq
                | Self::AgentInstallResp
                | Self::OtherControllers
                | Self::Ping
                | Self::Pong
                | Self::SpreadOffer
                | Self::SpreadReport
        )
    }

    /// The class of key that authenticates it. `agent` is the node id of the agent that
    /// sends or receives it; the zero id if all agents do.
    #[must_use]
    pub const fn key_class(self, agent: NodeId) -> KeyClass {
        match self {
            Self::Hello | Self::HelloAck | Self::SyncReq | Self::SyncComplete | Self::DropHostReq => {
                KeyClass::Controller
            }
            Self::HelloAgent | Self::Ping | Self::SpreadOffer if agent.0 == 0 => KeyClass::Group,
            Self::HelloAgent
            | Self::HelloAgentAck
            | Self::AgentInstallReq
            | Self::AgentInstallResp
            | Self::OtherControllers
            | Self::Ping
            | Self::Pong
            | Self::SpreadOffer
            | Self::SpreadReport => KeyClass::Node(agent),
        }
    }
}

impl Message {
    /// Its type.
    #[must_use]
    pub const fn msgtype(&self) -> MsgType {
        match self {
            Self::Hello(_) => MsgType::Hello,
            Self::HelloAck(_) => MsgType::HelloAck,
            Self::SyncReq(_) => MsgType::SyncReq,
            Self::SyncComplete(_) => MsgType::SyncComplete,
            Self::HelloAgent(_) => MsgType::HelloAgent,
            Self::HelloAgentAck(_) => MsgType::HelloAgentAck,
            Self::AgentInstallReq(_) => MsgType::AgentInstallReq,
            Self::AgentInstallResp(_) => MsgType::AgentInstallResp,
            Self::DropHostReq(_) => MsgType::DropHostReq,
            Self::OtherControllers(_) => MsgType::OtherControllers,
            Self::Ping(_) => MsgType::Ping,
            Self::Pong(_) => MsgType::Pong,
            Self::SpreadOffer(_) => MsgType::SpreadOffer,
            Self::SpreadReport(_) => MsgType::SpreadReport,
        }
    }

    /// Writes the body and returns its length. Zero if it does not fit, which cannot happen
    /// in a datagram's buffer (a test encodes the largest message of each type).
    pub fn encode_body(&self, out: &mut [u8]) -> usize {
        let written = match self {
            Self::Hello(body) => postcard::to_slice(body, out),
            Self::HelloAck(body) => postcard::to_slice(body, out),
            Self::SyncReq(body) => postcard::to_slice(body, out),
            Self::SyncComplete(body) => postcard::to_slice(body, out),
            Self::HelloAgent(body) => postcard::to_slice(body, out),
            Self::HelloAgentAck(body) => postcard::to_slice(body, out),
            Self::AgentInstallReq(body) => postcard::to_slice(body, out),
            Self::AgentInstallResp(body) => postcard::to_slice(body, out),
            Self::DropHostReq(body) => postcard::to_slice(body, out),
            Self::OtherControllers(body) => postcard::to_slice(body, out),
            Self::Ping(body) => postcard::to_slice(body, out),
            Self::Pong(body) => postcard::to_slice(body, out),
            Self::SpreadOffer(body) => postcard::to_slice(body, out),
            Self::SpreadReport(body) => postcard::to_slice(body, out),
        };
        written.map_or(0, |body| body.len())
    }

    /// Decodes a body sent with minor version `theirs`, on a node with minor version `ours`.
    /// Only a newer sender's body may have leftover bytes; only an older one's may lack a
    /// tail.
    ///
    /// # Errors
    /// `Body`, `Leftovers`, `NoHostname`.
    pub fn decode_body(msgtype: MsgType, body: &[u8], theirs: u8, ours: u8) -> Result<Self, Refusal> {
        let mut padded;
        let is_older = theirs < ours;
        let bytes = if is_older {
            padded = [0; limits::DATAGRAM_BODY_BYTES];
            padded.get_mut(..body.len()).ok_or(Refusal::Body)?.copy_from_slice(body);
            &padded
        } else {
            body
        };
        let (message, rest) = match msgtype {
            MsgType::Hello => take(bytes, Self::Hello),
            MsgType::HelloAck => take(bytes, Self::HelloAck),
            MsgType::SyncReq => take(bytes, Self::SyncReq),
            MsgType::SyncComplete => take(bytes, Self::SyncComplete),
            MsgType::HelloAgent => take(bytes, Self::HelloAgent),
            MsgType::HelloAgentAck => take(bytes, Self::HelloAgentAck),
            MsgType::AgentInstallReq => take(bytes, Self::AgentInstallReq),
            MsgType::AgentInstallResp => take(bytes, Self::AgentInstallResp),
            MsgType::DropHostReq => take(bytes, Self::DropHostReq),
            MsgType::OtherControllers => take(bytes, Self::OtherControllers),
            MsgType::Ping => take(bytes, Self::Ping),
            MsgType::Pong => take(bytes, Self::Pong),
            MsgType::SpreadOffer => take(bytes, Self::SpreadOffer),
            MsgType::SpreadReport => take(bytes, Self::SpreadReport),
        }?;
        let used = bytes.len().saturating_sub(rest.len());
        if used < body.len() && theirs <= ours {
            return Err(Refusal::Leftovers);
        }
        if matches!(&message, Self::HelloAgentAck(ack) if ack.hostname.is_empty()) {
            return Err(Refusal::NoHostname);
        }
        Ok(message)
    }
}

fn take<'b, T: serde::Deserialize<'b>>(
    bytes: &'b [u8],
    message: fn(T) -> Message,
) -> Result<(Message, &'b [u8]), Refusal> {
    let (body, rest) = postcard::take_from_bytes(bytes).map_err(|_| Refusal::Body)?;
    Ok((message(body), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Digest, Hostname, Nonce, Reason, RequestId};
    use crate::wire::install::{Outcome, Step};

    fn longest<const N: usize>() -> crate::types::Name<N> {
        crate::types::Name::new(core::str::from_utf8(&[b'x'; N]).unwrap()).unwrap()
    }

    /// The largest of each message: every number at its maximum.
    fn largest() -> [Message; 14] {
        let (op_counter, digest) = (u64::MAX, Digest([0xFF; 32]));
        [
            Message::Hello(Hello { op_counter, digest }),
            Message::HelloAck(HelloAck {}),
            Message::SyncReq(SyncReq { op_counter, digest }),
            Message::SyncComplete(SyncComplete { digest, blobs_missing: u16::MAX }),
            Message::HelloAgent(HelloAgent { op_counter, ack_window_ms: u32::MAX }),
            Message::HelloAgentAck(HelloAgentAck {
                query_id: u64::MAX,
                installed_digest: digest,
                hostname: longest(),
                nodetype: longest(),
                requires_reboot: true,
                patch_failed: true,
                sw_version: longest(),
                state: AgentState::InstallRejected,
                step: Step::RollingBack,
                progress: 100,
                nonce: Nonce(u64::MAX),
                request_id: RequestId(u64::MAX),
                request: RequestState::Ended(Outcome::Broken),
            }),
            Message::AgentInstallReq(AgentInstallReq {
                request_id: RequestId(u64::MAX),
                nonce: Nonce(u64::MAX),
                digest,
                force: true,
            }),
            Message::AgentInstallResp(AgentInstallResp {
                request_id: RequestId(u64::MAX),
                status: true,
                outcome: Some(Outcome::Broken),
                reject_reason: Reason::truncated(
                    core::str::from_utf8(&[b'x'; limits::REASON_BYTES]).unwrap(),
                ),
                reboot_required: true,
            }),
            Message::DropHostReq(DropHostReq { host: NodeId(u64::MAX) }),
            Message::OtherControllers(OtherControllers {
                at: [Contact { address: [0xFF; 16], port: u16::MAX }; limits::CONTROLLERS - 1].into(),
            }),
            Message::Ping(Ping { host: NodeId(u64::MAX), number: u64::MAX }),
            Message::Pong(Pong { number: u64::MAX, heard: u64::MAX }),
            Message::SpreadOffer(SpreadOffer {
                transmission: u64::MAX,
                id: longest(),
                file: crate::types::Hash([0xFF; 32]),
                size_bytes: u64::MAX,
                kinds: u64::MAX,
                packet_bytes: u16::MAX,
                section: u32::MAX,
                round: u16::MAX,
                window_ms: u32::MAX,
            }),
            Message::SpreadReport(SpreadReport {
                transmission: u64::MAX,
                section: u32::MAX,
                round: u16::MAX,
                is_out: true,
                other: u64::MAX,
                missing: [u16::MAX; limits::SECTION_BLOCKS].into(),
            }),
        ]
    }

    #[test]
    fn the_largest_of_each_message_fits_and_decodes_again() {
        for message in largest() {
            let mut out = [0; limits::DATAGRAM_BODY_BYTES];
            let len = message.encode_body(&mut out);
            assert!(len > 0 || matches!(message, Message::HelloAck(_)), "{message:?}");
            assert_eq!(Message::decode_body(message.msgtype(), &out[..len], 0, 0), Ok(message));
        }
    }

    #[test]
    fn leftovers_are_refused_unless_the_sender_is_newer() {
        let message = Message::DropHostReq(DropHostReq { host: NodeId(1) });
        let body = [1, 0xAA];
        assert_eq!(Message::decode_body(MsgType::DropHostReq, &body, 0, 0), Err(Refusal::Leftovers));
        assert_eq!(Message::decode_body(MsgType::DropHostReq, &body, 0, 1), Err(Refusal::Leftovers));
        assert_eq!(Message::decode_body(MsgType::DropHostReq, &body, 1, 0), Ok(message));
    }

    #[test]
    fn a_missing_tail_is_accepted_only_from_an_older_sender() {
        let request = AgentInstallReq {
            request_id: RequestId(1),
            nonce: Nonce(2),
            digest: Digest([0; 32]),
            force: false,
        };
        let shorter = [1, 2];
        let decode = |theirs, ours| Message::decode_body(MsgType::AgentInstallReq, &shorter, theirs, ours);
        assert_eq!(decode(0, 0), Err(Refusal::Body));
        assert_eq!(decode(1, 0), Err(Refusal::Body));
        assert_eq!(decode(0, 1), Ok(Message::AgentInstallReq(request)));
    }

    #[test]
    fn a_report_without_a_hostname_is_refused() {
        let decode = |hostname| {
            let mut out = [0; limits::DATAGRAM_BODY_BYTES];
            let message = Message::HelloAgentAck(HelloAgentAck { hostname, ..HelloAgentAck::default() });
            let len = message.encode_body(&mut out);
            Message::decode_body(MsgType::HelloAgentAck, &out[..len], 0, 0).map(|decoded| decoded == message)
        };
        assert_eq!(decode(Hostname::default()), Err(Refusal::NoHostname));
        assert_eq!(decode(Hostname::new("h").unwrap()), Ok(true));
    }

    #[test]
    fn overlong_text_is_refused() {
        // query_id 0, digest, then a hostname of 65 bytes.
        let mut body = vec![0; 33];
        body.push(65);
        body.extend_from_slice(&[b'x'; 65]);
        body.extend_from_slice(&[0; 20]);
        assert_eq!(Message::decode_body(MsgType::HelloAgentAck, &body, 0, 0), Err(Refusal::Body));
        assert!(Hostname::new(core::str::from_utf8(&body[34..99]).unwrap()).is_err());
    }
}
