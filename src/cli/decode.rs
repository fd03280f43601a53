//! `decode`: a captured datagram, field by field, or why it is refused.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::hosts::outcome_name;
use super::out::Out;
use crate::config::keys::KeyFile;
use crate::json::Value;
use crate::limits;
use crate::types::NodeId;
use crate::wire::codec::{is_equal_in_constant_time, tag_of};
use crate::wire::frame::Role;
use crate::wire::header::{self, Header, RawDatagram};
use crate::wire::keys::KeyClass;
use crate::wire::messages::{Message, MsgType, OVER, RequestState};
use crate::wire::refusal::Refusal;

/// `thimble decode [HEX|-] [--key-file FILE]`
pub fn decode(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let keys = match invocation.value("key-file") {
        Some(path) => Some(KeyFile::read(Path::new(path))?),
        None => None,
    };
    let texts = invocation.texts()?;
    let text = match texts.first() {
        Some(&hex) if hex != "-" => hex.to_owned(),
        _ => {
            let mut text = String::new();
            // Room for the longest datagram, however it is spaced out.
            let read = io::stdin().take(16 * limits::DATAGRAM_BYTES as u64).read_to_string(&mut text);
            read.map_err(|error| Failure::new(Exit::Refused, format!("standard input: {error}")))?;
            text
        }
    };
    let datagram = bytes(&text).map_err(|sentence| Failure::new(Exit::Usage, sentence))?;
    let explained = explain(&datagram, keys.as_ref());
    out.text(explained.text())?;
    out.json(|| explained.json())?;
    match explained.refusal {
        None => Ok(()),
        Some(Refusal::Tag) => Err(Failure::silent(Exit::Verification)),
        Some(_) => Err(Failure::silent(Exit::Refused)),
    }
}

/// Parses hex digits. Separators that captures put between them are ignored.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let between = |c: &char| !c.is_whitespace() && !matches!(c, ':' | ',');
    let digits: Vec<char> = text.trim().trim_start_matches("0x").chars().filter(between).collect();
    if let Some(other) = digits.iter().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!(
            "{other:?} is not a hex digit; give the datagram's bytes, for example 54484d42.."
        ));
    }
    if digits.is_empty() {
        return Err("no bytes were given: give a datagram's in hex, or on standard input".to_owned());
    }
    if !digits.len().is_multiple_of(2) {
        return Err(format!("{} hex digits are no whole bytes; is the capture complete?", digits.len()));
    }
    let nibbles: Vec<u32> = digits.iter().filter_map(|digit| digit.to_digit(16)).collect();
    Ok(nibbles.chunks(2).map(|pair| pair.iter().fold(0, |byte, nibble| byte << 4 | *nibble as u8)).collect())
}

/// One field of a datagram.
struct Field {
    /// Its offset; `None` for a field inside the body.
    offset: Option<usize>,
    len_bytes: usize,
    name: &'static str,
    value: String,
}

/// A datagram, explained.
struct Explained {
    fields: Vec<Field>,
    /// The first reason to refuse it, as far as can be checked here.
    refusal: Option<Refusal>,
    /// The result of the check of its tag.
    tag: &'static str,
}

const UNCHECKED: &str = "not checked: name a key file with --key-file";

fn explain(datagram: &[u8], keys: Option<&KeyFile>) -> Explained {
    let mut fields = header_fields(datagram);
    let parts = match Header::parse(datagram) {
        Ok(parts) => parts,
        Err(refusal) => return Explained { fields, refusal: Some(refusal), tag: "not reached" },
    };
    let (tag, tag_refusal) = match keys {
        None => (UNCHECKED, None),
        Some(keys) => check_tag(&parts, keys),
    };
    let body = match MsgType::from_number(parts.header.msgtype) {
        None => Err(Refusal::UnknownType),
        Some(msgtype) => Message::decode_body(msgtype, parts.body, parts.header.minor, header::MINOR),
    };
    let len_bytes = parts.body.len();
    let value = if body.is_ok() { String::new() } else { hex(parts.body) };
    fields.push(Field { offset: Some(limits::HEADER_BYTES), len_bytes, name: "body", value });
    if let Ok(message) = &body {
        let inside = |(name, value)| Field { offset: None, len_bytes: 0, name, value };
        fields.extend(body_fields(message).into_iter().map(inside));
    }
    let offset = Some(parts.tagged.len());
    fields.push(Field { offset, len_bytes: limits::TAG_BYTES, name: "tag", value: hex(parts.tag) });
    // In the order in which a node checks: cluster and type before the tag, the body after it.
    let unknown = body.as_ref().err().filter(|refusal| **refusal == Refusal::UnknownType).copied();
    let cluster = tag_refusal.filter(|refusal| *refusal == Refusal::Cluster);
    let refusal = cluster.or(unknown).or(tag_refusal).or(body.err());
    Explained { fields, refusal, tag }
}

/// Checks a datagram's tag with a key file.
fn check_tag(parts: &RawDatagram<'_>, keys: &KeyFile) -> (&'static str, Option<Refusal>) {
    let header = parts.header;
    if header.cluster != keys.cluster {
        return ("not checked: the key file is another cluster's", Some(Refusal::Cluster));
    }
    let Some(msgtype) = MsgType::from_number(header.msgtype) else { return ("not reached", None) };
    let to_agent = msgtype.receiver() == Role::Agent;
    let agent = if to_agent { keys.node } else { header.sender };
    let class = msgtype.key_class(agent);
    if to_agent && matches!(class, KeyClass::Node(_)) && keys.role == Role::Controller {
        return ("not checked: made for one agent; its key file is needed", None);
    }
    match keys.ring().key(header.key_slot, class) {
        None => ("not checked: the key file lacks the key", Some(Refusal::NoKey)),
        Some(key) if is_equal_in_constant_time(&tag_of(&key, parts.tagged), parts.tag) => ("holds", None),
        Some(_) => ("does not hold", Some(Refusal::Tag)),
    }
}

/// The header's fields, as far as the datagram goes.
fn header_fields(datagram: &[u8]) -> Vec<Field> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let id = |bytes: &[u8]| NodeId(number(bytes)).to_string();
    let decimal = |bytes: &[u8]| number(bytes).to_string();
    let msgtype = |bytes: &[u8]| {
        let number = number(bytes);
        match u8::try_from(number).ok().and_then(MsgType::from_number) {
            Some(msgtype) => format!("{number} {}, {}", msgtype.as_str(), way(msgtype)),
            None => format!("{number}, unknown"),
        }
    };
    let text = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
    type Show<'a> = &'a dyn Fn(&[u8]) -> String;
    let layout: [(&'static str, usize, Show<'_>); 10] = [
        ("magic", 4, &text),
        ("msgversion", 1, &decimal),
        ("msgtype", 1, &msgtype),
        ("key slot", 1, &decimal),
        ("minor version", 1, &decimal),
        ("cluster", 8, &id),
        ("sender", 8, &id),
        ("incarnation", 8, &decimal),
        ("sequence", 8, &decimal),
        ("body length", 2, &decimal),
    ];
    let mut fields = Vec::new();
    let mut offset = 0;
    for (name, len_bytes, show) in layout {
        let Some(bytes) = datagram.get(offset..offset + len_bytes) else { break };
        fields.push(Field { offset: Some(offset), len_bytes, name, value: show(bytes) });
        offset += len_bytes;
    }
    fields
}

const fn way(msgtype: MsgType) -> &'static str {
    match msgtype {
        MsgType::HelloAgent | MsgType::Ping | MsgType::SpreadOffer => "controller to agents",
        MsgType::AgentInstallReq | MsgType::OtherControllers => "controller to one agent",
        MsgType::HelloAgentAck | MsgType::Pong => "agent to controllers",
        MsgType::AgentInstallResp | MsgType::SpreadReport => "agent to one controller",
        _ => "controller to controllers",
    }
}

/// What a message carries, in the order of its bytes.
fn body_fields(message: &Message) -> Vec<(&'static str, String)> {
    fn yes(value: bool) -> String {
        if value { "yes" } else { "no" }.to_owned()
    }
    match message {
        Message::Hello(body) => {
            vec![("op_counter", body.op_counter.to_string()), ("digest", body.digest.to_string())]
        }
        Message::HelloAck(_) => Vec::new(),
        Message::SyncReq(body) => {
            vec![("op_counter", body.op_counter.to_string()), ("digest", body.digest.to_string())]
        }
        Message::SyncComplete(body) => {
            vec![("digest", body.digest.to_string()), ("blobs_missing", body.blobs_missing.to_string())]
        }
        Message::HelloAgent(body) => vec![
            ("op_counter", body.op_counter.to_string()),
            ("ack_window_ms", body.ack_window_ms.to_string()),
        ],
        Message::HelloAgentAck(body) => vec![
            ("query_id", format!("{:016x}", body.query_id)),
            ("installed_digest", body.installed_digest.to_string()),
            ("hostname", body.hostname.to_string()),
            ("nodetype", body.nodetype.to_string()),
            ("requires_reboot", yes(body.requires_reboot)),
            ("patch_failed", yes(body.patch_failed)),
            ("sw_version", body.sw_version.to_string()),
            ("state", body.state.as_str().to_owned()),
            ("step", body.step.as_str().to_owned()),
            ("progress", format!("{}%", body.progress)),
            ("nonce", body.nonce.to_string()),
            ("request_id", body.request_id.to_string()),
            (
                "request",
                match body.request {
                    RequestState::None => "none",
                    RequestState::Running => "running",
                    RequestState::Ended(outcome) => outcome_name(outcome),
                }
                .to_owned(),
            ),
        ],
        Message::OtherControllers(body) => {
            body.at.iter().map(|at| ("controller", SocketAddr::from(*at).to_string())).collect()
        }
        Message::AgentInstallReq(body) => vec![
            ("request_id", body.request_id.to_string()),
            ("nonce", body.nonce.to_string()),
            ("digest", body.digest.to_string()),
            ("force", yes(body.force)),
        ],
        Message::AgentInstallResp(body) => vec![
            ("request_id", body.request_id.to_string()),
            ("status", yes(body.status)),
            ("outcome", body.outcome.map_or("none", outcome_name).to_owned()),
            ("reject_reason", body.reject_reason.to_string()),
            ("reboot_required", yes(body.reboot_required)),
        ],
        Message::DropHostReq(body) => vec![("host", body.host.to_string())],
        Message::Ping(body) => vec![("host", body.host.to_string()), ("number", body.number.to_string())],
        Message::Pong(body) => vec![("number", body.number.to_string()), ("heard", body.heard.to_string())],
        Message::SpreadOffer(body) => vec![
            ("transmission", format!("{:016x}", body.transmission)),
            ("id", body.id.to_string()),
            ("file", body.file.to_string()),
            ("size_bytes", body.size_bytes.to_string()),
            ("kinds", format!("{:016x}", body.kinds)),
            ("packet_bytes", body.packet_bytes.to_string()),
            ("section", if body.section == OVER { "over".to_owned() } else { body.section.to_string() }),
            ("round", body.round.to_string()),
            ("window_ms", body.window_ms.to_string()),
        ],
        Message::SpreadReport(body) => vec![
            ("transmission", format!("{:016x}", body.transmission)),
            ("section", body.section.to_string()),
            ("round", body.round.to_string()),
            ("is_out", yes(body.is_out)),
            ("other", format!("{:016x}", body.other)),
            ("missing", format!("{:?}", body.missing)),
        ],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Explained {
    fn text(&self) -> String {
        let mut text = String::from("offset  bytes  field             value\n");
        for Field { offset, len_bytes, name, value } in &self.fields {
            let line = match offset {
                Some(offset) => format!("{offset:>6}  {len_bytes:>5}  {name:<16}  {value}"),
                None => format!("{:>13}    {name:<16}{value}", ""),
            };
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push_str(&format!("\ntag: {}\n", self.tag));
        match self.refusal {
            None if self.tag == "holds" => text.push_str("accepted: as far as a single datagram shows\n"),
            None => text.push_str("well-formed: the tag was not checked, so nothing is proven\n"),
            Some(refusal) => text.push_str(&format!("refused: {refusal}: {}\n", refusal.meaning().trim())),
        }
        text
    }

    fn json(&self) -> Value {
        let field = |field: &Field| {
            let offset = field.offset.and_then(|offset| u64::try_from(offset).ok());
            let bytes = offset.map(|_| Value::from(field.len_bytes as u64));
            Value::object([
                ("offset", Value::or_null(offset.map(Value::from))),
                ("bytes", Value::or_null(bytes)),
                ("name", Value::text(field.name)),
                ("value", Value::text(&field.value)),
            ])
        };
        let refusal = self.refusal.map(|refusal| {
            let meaning = refusal.meaning().trim();
            Value::object([("name", Value::text(refusal)), ("meaning", Value::text(meaning))])
        });
        Value::object([
            ("fields", Value::list(self.fields.iter().map(field))),
            ("refusal", Value::or_null(refusal)),
            ("tag", Value::text(self.tag)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Digest, Hostname};
    use crate::wire::messages::{Hello, HelloAck};

    fn keys() -> KeyFile {
        KeyFile::new_cluster(Hostname::new("c0").unwrap()).unwrap()
    }

    /// A datagram as a controller with these keys would send it.
    fn datagram(keys: &KeyFile, message: &Message) -> Vec<u8> {
        let mut body = [0; limits::DATAGRAM_BODY_BYTES];
        let body_len = message.encode_body(&mut body);
        let header = Header {
            msgtype: message.msgtype() as u8,
            key_slot: 0,
            minor: header::MINOR,
            cluster: keys.cluster,
            sender: keys.node,
            incarnation: 77,
            sequence: 3,
            body_len_bytes: body_len.try_into().unwrap(),
        };
        let mut bytes = header.emit().to_vec();
        bytes.extend_from_slice(&body[..body_len]);
        let key = keys.ring().key(0, message.msgtype().key_class(keys.node)).unwrap();
        let tag = tag_of(&key, &bytes);
        bytes.extend_from_slice(&tag);
        bytes
    }

    fn hello() -> Message {
        Message::Hello(Hello { op_counter: 300, digest: Digest([0xAA; 32]) })
    }

    #[test]
    fn every_field_of_a_good_datagram_is_shown() {
        let keys = keys();
        let bytes = datagram(&keys, &hello());
        let explained = explain(&bytes, Some(&keys));
        assert_eq!(explained.refusal, None);
        let text = explained.text();
        for line in [
            "     0      4  magic             \"THMB\"",
            "     5      1  msgtype           1 Hello, controller to controllers",
            "    24      8  incarnation       77",
            "    40      2  body length       34",
            "    42     34  body",
            "                 op_counter      300",
            "tag: holds",
            "accepted: as far as a single datagram shows",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
        assert!(text.contains(&format!("sender            {}", keys.node)), "{text}");
        let json = explained.json().to_string();
        assert!(json.contains(r#"{"offset":40,"bytes":2,"name":"body length","value":"34"}"#), "{json}");
        assert!(json.ends_with(r#""refusal":null,"tag":"holds"}"#), "{json}");
    }

    #[test]
    fn the_first_reason_to_refuse_is_named_and_explained() {
        let keys = keys();
        let good = datagram(&keys, &hello());
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            explain(&bytes, Some(&keys)).refusal
        };
        assert_eq!(refused(&|_| ()), None);
        assert_eq!(refused(&|bytes| bytes.truncate(20)), Some(Refusal::TooShort));
        assert_eq!(refused(&|bytes| bytes[0] = b'X'), Some(Refusal::Magic));
        assert_eq!(refused(&|bytes| bytes[4] = 2), Some(Refusal::Version));
        assert_eq!(refused(&|bytes| bytes[5] = 7), Some(Refusal::UnknownType));
        assert_eq!(refused(&|bytes| bytes[6] = 3), Some(Refusal::NoKey));
        assert_eq!(refused(&|bytes| bytes[8] ^= 1), Some(Refusal::Cluster));
        assert_eq!(refused(&|bytes| bytes[43] ^= 1), Some(Refusal::Tag));
        let text =
            explain(b"{\"msgtype\": 5, \"msgversion\": 1, \"patch_op_counter\": 1234567}", None).text();
        assert!(text.contains("refused: magic: Not thimble's"), "{text}");
    }

    #[test]
    fn without_keys_no_datagram_is_accepted() {
        let keys = keys();
        let bytes = datagram(&keys, &Message::HelloAck(HelloAck {}));
        let text = explain(&bytes, None).text();
        assert!(text.contains(UNCHECKED) && text.contains("well-formed: the tag was not checked"), "{text}");
        let agent = keys.for_node(Hostname::new("w").unwrap(), Role::Agent).unwrap().unwrap();
        assert_eq!(explain(&bytes, Some(&agent)).refusal, Some(Refusal::NoKey));
    }

    #[test]
    fn hex_is_read_as_captures_write_it() {
        assert_eq!(bytes("0x54:48 4d\n42").unwrap(), b"THMB");
        assert!(bytes("544").unwrap_err().contains("no whole bytes"));
        assert!(bytes(" \n").unwrap_err().contains("no bytes were given"));
        assert!(bytes("zz").unwrap_err().contains("'z' is not a hex digit"));
    }
}
