//! `tipc serve`: a test socket bound to service ranges.

use std::ffi::OsString;
use std::time::Duration;
use std::{fmt, io};

use super::net::{EventTime, Names, Waiter, refused};
use crate::cli::command::Invocation;
use crate::cli::exit::{Exit, Failure};
use crate::cli::out::Out;
use crate::cli::sys;
use crate::json::Value;
use crate::tipc::address::{BadRange, FIRST_SERVICE_TYPE, NodeAddress, Scope, ServiceRange, SocketAddress};
use crate::tipc::socket::{MESSAGE_BYTES, Received, Socket, SocketError};

/// The most bytes of a message that are shown.
const SHOWN_BYTES: usize = 64;

/// `thimble tipc serve T:L-U.. [--scope cluster|node]`
pub fn serve(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let ranges = ranges(invocation)?;
    let scope = match invocation.value("scope") {
        Some(scope) if scope == "node" => Scope::Node,
        _ => Scope::Cluster,
    };
    sys::note_interrupts();
    let names = Names::new()?;
    let mut socket = Socket::rdm().map_err(refused)?;
    for range in &ranges {
        let refused = |error| Failure::new(Exit::Refused, format!("{range} cannot be bound: {error}"));
        socket.bind(range, scope).map_err(refused)?;
    }
    let own = socket.address().map_err(refused)?;
    let bound: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    out.line(format_args!("bound to {} at {own}{}", bound.join(", "), names.behind(own.node)))?;
    if own.node == 0 {
        out.line(SocketError::NoBearer)?;
    }
    out.json(|| {
        Value::object([
            ("time_ms", EventTime::now().0.into()),
            ("what", Value::text("bound")),
            ("ranges", Value::list(bound.iter().map(Value::text))),
            ("node", Value::text(NodeAddress(own.node))),
            ("port", own.port.into()),
        ])
    })?;
    let mut waiter = Waiter::new(&mut socket)?;
    let mut buffer = vec![0; MESSAGE_BYTES];
    while !sys::is_interrupted() {
        match socket.recv_from(&mut buffer) {
            Ok(received) => {
                let message = Message { time: EventTime::now(), received, bytes: &buffer[..received.len] };
                out.line(message.line(&names))?;
                out.json(|| message.json(&names))?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => waiter.wait(Duration::MAX)?,
            Err(error) => return Err(refused(SocketError::Other(error))),
        }
    }
    Ok(())
}

/// The ranges as typed, repetitions included.
fn ranges(invocation: &Invocation) -> Result<Vec<ServiceRange>, Failure> {
    let range = |word: &OsString| {
        let text = word.to_string_lossy();
        let usage = |error: &dyn fmt::Display| invocation.usage(&format!("{text} is not a range: {error}"));
        let range: ServiceRange = text.parse().map_err(|error: BadRange| usage(&error))?;
        if range.service_type < FIRST_SERVICE_TYPE {
            return Err(usage(&format_args!("types below {FIRST_SERVICE_TYPE} are reserved for TIPC")));
        }
        Ok(range)
    };
    invocation.arguments.iter().map(range).collect()
}

/// A received message.
struct Message<'b> {
    time: EventTime,
    received: Received,
    bytes: &'b [u8],
}

impl Message<'_> {
    fn from(&self) -> SocketAddress {
        self.received.from.unwrap_or_default()
    }

    fn line(&self, names: &Names) -> String {
        let (from, len) = (self.from(), self.bytes.len());
        let to = self.received.destination.map(|to| format!(" to {to}")).unwrap_or_default();
        let shown = self.bytes[..len.min(SHOWN_BYTES)].escape_ascii();
        let dots = if len > SHOWN_BYTES { ".." } else { "" };
        format!("{} {len} bytes from {from}{}{to}: {shown}{dots}", self.time, names.behind(from.node))
    }

    fn json(&self, names: &Names) -> Value {
        let from = self.from();
        Value::object([
            ("time_ms", self.time.0.into()),
            ("what", Value::text("message")),
            ("node", Value::text(NodeAddress(from.node))),
            ("identity", Value::text(names.identity(from.node))),
            ("port", from.port.into()),
            ("to", Value::or_null(self.received.destination.map(Value::text))),
            ("bytes", (self.bytes.len() as u64).into()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse::parse;

    fn asked(line: &str) -> Result<Vec<String>, String> {
        let line = parse(line.split_whitespace().map(Into::into)).unwrap();
        let ranges = ranges(&line).map_err(|failure| failure.message)?;
        Ok(ranges.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn ranges_may_repeat_and_reserved_types_are_refused() {
        let twice = asked("tipc serve 18888:6-53 18888:6-53 18888:7").unwrap();
        assert_eq!(twice, ["18888:6-53", "18888:6-53", "18888:7"]);
        let complaint = |line| asked(line).unwrap_err();
        assert!(
            complaint("tipc serve 63:1")
                .starts_with("63:1 is not a range: types below 64 are reserved for TIPC;")
        );
        assert!(complaint("tipc serve 64").starts_with("64 is not a range: it must be TYPE:LOWER-UPPER"));
    }

    #[test]
    fn a_message_is_shown_by_sender_and_beginning_with_controls_escaped() {
        let from = SocketAddress { node: 0x5c6f_6465, port: 9 };
        let received = Received {
            len: 3,
            is_cut: false,
            from: Some(from),
            undelivered: None,
            destination: Some(ServiceRange::one(18888, 7)),
        };
        let names = Names::of([(0x5c6f_6465, "node2")]);
        let mut message = Message { time: EventTime(1), received, bytes: b"a\x1b\n" };
        assert_eq!(
            message.line(&names),
            "00:00:00.001 3 bytes from 5c6f6465:9 (node2) to 18888:7: a\\x1b\\n"
        );
        assert_eq!(
            message.json(&names).to_string(),
            r#"{"time_ms":1,"what":"message","node":"5c6f6465","identity":"node2","port":9,"to":"18888:7","bytes":3}"#
        );
        message.bytes = &[b'x'; SHOWN_BYTES + 1];
        assert!(message.line(&names).ends_with("xx.."));
    }
}
