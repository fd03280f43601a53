//! `tipc watch`: the events of a topology service, one line or document each.

use std::ffi::OsStr;

use super::net::{EventTime, Names, Topology};
use crate::cli::command::Invocation;
use crate::cli::exit::{Exit, Failure};
use crate::cli::out::Out;
use crate::cli::sys;
use crate::json::Value;
use crate::tipc::address::{LINK_STATE, NODE_STATE, NodeAddress, ServiceRange};
use crate::tipc::event::TopologyEvent;
use crate::tipc::subscription::{Filter, Subscription, Timeout};
use crate::tipc::topology::SubscriberEvent;

/// `thimble tipc watch --type T [--lower L] [--upper U] [--ports|--service] [--timeout MS] [--node N]`
pub fn watch(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let subscription = subscription(invocation)?;
    sys::note_interrupts();
    let names = Names::new()?;
    let node = match invocation.value("node") {
        None => 0,
        Some(name) => names.node(&name.to_string_lossy())?,
    };
    let latest_ms = subscription.timeout.latest_ms();
    let mut topology = Topology::ask(node, subscription)?;
    while !sys::is_interrupted() {
        if latest_ms.is_some_and(|latest_ms| topology.now().as_millis() > latest_ms) {
            let sentence = "the topology service has not answered in time: what is bound is not known";
            return Err(Failure::new(Exit::TimedOut, sentence));
        }
        let Some(event) = topology.next()? else { continue };
        let timed = TimedEvent { time: EventTime::now(), event, names: &names };
        out.line(timed.line())?;
        out.json(|| timed.json())?;
        match event {
            SubscriberEvent::TimedOut(_) => return Ok(()),
            SubscriberEvent::SetAside(_) => return Err(Failure::silent(Exit::Refused)),
            _ => {}
        }
    }
    Ok(())
}

/// The subscription of the options.
fn subscription(invocation: &Invocation) -> Result<Subscription, Failure> {
    let number = |option, default: Option<u32>| match (invocation.value(option), default) {
        (Some(text), _) => number(text).ok_or_else(|| {
            let sentence = format!("--{option} {}: must be a whole number below 2^32", text.display());
            invocation.usage(&sentence)
        }),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(invocation.usage(&format!("--{option} is missing"))),
    };
    let range = ServiceRange {
        service_type: number("type", None)?,
        lower: number("lower", Some(0))?,
        upper: number("upper", Some(u32::MAX))?,
    };
    let timeout = match invocation.has("timeout") {
        true => Timeout::Ms(number("timeout", None)?),
        false => Timeout::Forever,
    };
    let filter = match (invocation.has("ports"), invocation.has("service")) {
        (true, true) => return Err(invocation.usage("--ports and --service exclude each other")),
        (_, true) => Filter::Service,
        (_, false) => Filter::Ports,
    };
    let subscription = Subscription { range, timeout, filter, handle: *b"watching" };
    subscription.validate().map_err(|invalid| invocation.usage(&invalid.to_string()))?;
    Ok(subscription)
}

/// A number in decimal, or in hex after `0x`.
fn number(text: &OsStr) -> Option<u32> {
    let text = text.to_str()?;
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// An event and its time.
struct TimedEvent<'n> {
    time: EventTime,
    event: SubscriberEvent,
    names: &'n Names,
}

impl TimedEvent<'_> {
    fn what(&self) -> &'static str {
        match self.event {
            SubscriberEvent::Published(..) => "published",
            SubscriberEvent::Withdrawn(..) => "withdrawn",
            SubscriberEvent::TimedOut(_) => "timeout",
            SubscriberEvent::Settled(_) => "settled",
            SubscriberEvent::Gap => "lost",
            SubscriberEvent::SetAside(_) => "refused",
        }
    }

    fn event(&self) -> Option<&TopologyEvent> {
        match &self.event {
            SubscriberEvent::Published(_, event) | SubscriberEvent::Withdrawn(_, event) => Some(event),
            SubscriberEvent::TimedOut(_)
            | SubscriberEvent::Settled(_)
            | SubscriberEvent::Gap
            | SubscriberEvent::SetAside(_) => None,
        }
    }

    fn line(&self) -> String {
        let what = match self.event {
            SubscriberEvent::Published(_, ref event) | SubscriberEvent::Withdrawn(_, ref event) => {
                [self.what(), " ", &self.found(event)].concat()
            }
            SubscriberEvent::TimedOut(_) => "timeout: the time has passed".to_owned(),
            SubscriberEvent::Settled(_) => "end of the existing bindings; changes follow".to_owned(),
            SubscriberEvent::Gap => {
                "lost: retrying each second; all bindings are then listed again".to_owned()
            }
            SubscriberEvent::SetAside(_) => {
                "refused: the topology service rejects this subscription".to_owned()
            }
        };
        format!("{} {what}", self.time)
    }

    /// The node, the link, or the range with its socket.
    fn found(&self, event: &TopologyEvent) -> String {
        let (lower, upper) = (event.found_lower, event.found_upper);
        match event.subscription.range.service_type {
            NODE_STATE => format!("node {}", self.names.show(lower)),
            LINK_STATE => {
                format!("link to {}, by bearer {}", self.names.show(lower), event.port.port & 0xffff)
            }
            service_type => {
                let range = ServiceRange { service_type, lower, upper };
                format!("{range} at {}{}", event.port, self.names.behind(event.port.node))
            }
        }
    }

    fn json(&self) -> Value {
        let of = |value: fn(&TopologyEvent) -> Value| Value::or_null(self.event().map(value));
        let node = self.event().map(|event| match event.subscription.range.service_type {
            NODE_STATE | LINK_STATE => event.found_lower,
            _ => event.port.node,
        });
        Value::object([
            ("time_ms", self.time.0.into()),
            ("what", Value::text(self.what())),
            ("type", of(|event| event.subscription.range.service_type.into())),
            ("lower", of(|event| event.found_lower.into())),
            ("upper", of(|event| event.found_upper.into())),
            ("node", Value::or_null(node.map(|node| Value::text(NodeAddress(node))))),
            ("identity", Value::or_null(node.map(|node| Value::text(self.names.identity(node))))),
            ("port", of(|event| event.port.port.into())),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse::parse;
    use crate::tipc::address::SocketAddress;

    fn asked(options: &str) -> Result<Subscription, String> {
        let line = ["tipc watch ", options].concat();
        let line = parse(line.split_whitespace().map(Into::into)).unwrap();
        subscription(&line).map_err(|failure| failure.message)
    }

    #[test]
    fn options_make_a_subscription_and_without_them_it_is_all_ports_for_ever() {
        let all = asked("--type 7488").unwrap();
        assert_eq!((all.range, all.timeout), (ServiceRange::all(7488), Timeout::Forever));
        assert_eq!((all.filter, asked("--type 1 --ports").unwrap().filter), (Filter::Ports, Filter::Ports));
        let some = asked("--type 18888 --lower 0x6 --upper 53 --service --timeout 300").unwrap();
        assert_eq!(some.range.to_string(), "18888:6-53");
        assert_eq!((some.filter, some.timeout), (Filter::Service, Timeout::Ms(300)));
    }

    #[test]
    fn invalid_options_are_refused() {
        let complaint = |options| asked(options).unwrap_err();
        assert_eq!(complaint(""), "--type is missing; see `thimble help tipc watch`");
        assert!(complaint("--type x").starts_with("--type x: must be a whole number below 2^32;"));
        assert!(complaint("--type 1 --upper 4294967296").starts_with("--upper 4294967296: must be a whole"));
        assert!(complaint("--type 1 --ports --service").starts_with("--ports and --service exclude"));
        assert!(complaint("--type 1 --lower 2 --upper 1").starts_with("the first instance is above"));
        assert!(complaint("--type 1 --timeout 4294967295").contains("stands for none"));
    }

    fn shown(event: SubscriberEvent) -> (String, String) {
        let names = Names::of([(0x5c6f_6465, "node2")]);
        let timed = TimedEvent { time: EventTime(1_795_330_815_042), event, names: &names };
        (timed.line(), timed.json().to_string())
    }

    #[test]
    fn an_event_is_a_line_and_a_document() {
        let mut event = TopologyEvent {
            kind: crate::tipc::event::EventKind::Published,
            found_lower: 6,
            found_upper: 53,
            port: SocketAddress { node: 0x5c6f_6465, port: 826_418_512 },
            subscription: asked("--type 18888").unwrap(),
        };
        let handle = event.subscription.handle;
        let (line, json) = shown(SubscriberEvent::Published(handle, event));
        assert_eq!(line, "07:00:15.042 published 18888:6-53 at 5c6f6465:826418512 (node2)");
        assert_eq!(
            json,
            r#"{"time_ms":1795330815042,"what":"published","type":18888,"lower":6,"upper":53,"node":"5c6f6465","identity":"node2","port":826418512}"#
        );

        event.subscription.range = ServiceRange::all(LINK_STATE);
        (event.found_lower, event.port) = (0x5c6f_6465, SocketAddress { node: 1, port: 0x0002_0001 });
        let (line, json) = shown(SubscriberEvent::Withdrawn(handle, event));
        assert_eq!(line, "07:00:15.042 withdrawn link to 5c6f6465 (node2), by bearer 1");
        assert!(json.contains(r#""node":"5c6f6465","identity":"node2","port":131073}"#), "{json}");
        event.subscription.range = ServiceRange::all(NODE_STATE);
        event.found_lower = 0xab;
        assert_eq!(
            shown(SubscriberEvent::Withdrawn(handle, event)).0,
            "07:00:15.042 withdrawn node 000000ab"
        );
    }

    #[test]
    fn a_gap_has_no_range() {
        let (line, json) = shown(SubscriberEvent::Gap);
        assert!(line.starts_with("07:00:15.042 lost: "), "{line}");
        assert_eq!(
            json,
            r#"{"time_ms":1795330815042,"what":"lost","type":null,"lower":null,"upper":null,"node":null,"identity":null,"port":null}"#
        );
    }
}
