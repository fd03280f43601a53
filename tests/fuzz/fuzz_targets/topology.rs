//! What a topology service may send, and any order in which things may happen to its
//! subscriber: bytes are refused, or are what they would be written as again; whatever
//! happens, a subscriber tells of what is wanted alone, and is settled in the end.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use thimble::time::{Duration, Instant};
use thimble::tipc::address::{ServiceRange, SocketAddress};
use thimble::tipc::event::{self, EventKind, TopologyEvent};
use thimble::tipc::subscription::{Filter, Handle, Order, Subscription, Timeout};
use thimble::tipc::topology::{Closed, PAUSE, SubscribeError, Subscriber, SubscriberEvent};

/// The bit that makes a subscription its end.
const CANCEL: u32 = 4;
/// Where the number with that bit is.
const FILTER: std::ops::Range<usize> = 16..20;

fuzz_target!(|bytes: &[u8]| {
    both_orders(bytes);
    // Running out of bytes ends a run.
    let _ = Run::new().play(&mut Unstructured::new(bytes));
});

fn both_orders(bytes: &[u8]) {
    if let Ok((subscription, order)) = Subscription::decode(bytes) {
        let mut written = subscription.encode();
        if order == Order::Swapped {
            swap(&mut written[..20]);
        }
        assert_eq!(written, bytes);
    }
    let Ok(event) = TopologyEvent::decode(bytes) else { return };
    let mut written = event.encode();
    if written != bytes {
        swap(&mut written[..event::SUBSCRIPTION_AT + 20]);
    }
    assert_eq!(written, bytes);
}

fn swap(numbers: &mut [u8]) {
    for number in numbers.chunks_exact_mut(4) {
        number.reverse();
    }
}

/// A subscriber, and the service that it believes to speak to.
struct Run {
    subscriber: Subscriber,
    now: Instant,
    /// What is wanted: by its user, who has not been told that it is over.
    wanted: BTreeSet<Handle>,
    /// What the service was asked on this connection, markers too.
    asked: Vec<Subscription>,
}

impl Run {
    fn new() -> Self {
        let now = Instant::from_millis(1_000);
        Self { subscriber: Subscriber::new(), now, wanted: BTreeSet::new(), asked: Vec::new() }
    }

    fn play(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        while !input.is_empty() {
            match input.int_in_range(0..=9)? {
                0 => self.subscribe(any_subscription(input)?),
                1 => self.cancel(handle(input)?),
                2 => self.connect(),
                3 => self.close(if input.arbitrary()? { Closed::ByService } else { Closed::Lost }),
                4 | 5 => self.send(),
                6 => self.pass(Duration::from_millis(input.arbitrary::<u16>()?.into())),
                7 => self.tell(TopologyEvent { subscription: any_subscription(input)?, ..any_event(input)? }),
                _ if self.asked.is_empty() => {}
                // What was asked is answered, in any order.
                _ => {
                    let subscription = *input.choose(&self.asked)?;
                    self.tell(TopologyEvent { subscription, ..any_event(input)? });
                }
            }
            self.subscriber.invariants();
            self.words();
            let is_due = self.subscriber.poll_at().is_some_and(|at| at <= self.now);
            assert_eq!(is_due, self.subscriber.wants_connection(self.now), "nothing else is left to do");
        }
        self.settle();
        Ok(())
    }

    fn subscribe(&mut self, wanted: Subscription) {
        let before = self.subscriber.len();
        match self.subscriber.subscribe(self.now, wanted) {
            Ok(()) => assert!(self.wanted.insert(wanted.handle), "two of one handle"),
            Err(why) => {
                assert_eq!(self.subscriber.len(), before, "{why}");
                match why {
                    SubscribeError::Invalid(invalid) => assert_eq!(wanted.validate(), Err(invalid)),
                    // It is wanted, or its end is on its way.
                    SubscribeError::HandleTaken | SubscribeError::Full => assert!(before > 0),
                    SubscribeError::HandleReserved => assert!(wanted.handle.starts_with(b"\xffend")),
                }
            }
        }
    }

    fn cancel(&mut self, handle: Handle) {
        assert_eq!(self.subscriber.cancel(handle), self.wanted.remove(&handle));
    }

    fn connect(&mut self) {
        if self.subscriber.wants_connection(self.now) {
            self.subscriber.on_connecting(self.now);
        }
        self.subscriber.on_connected();
    }

    fn close(&mut self, how: Closed) {
        self.subscriber.on_closed(self.now, how);
        assert!(self.subscriber.is_down());
        self.asked.clear();
    }

    fn send(&mut self) {
        let Some(mut message) = self.subscriber.to_send(self.now) else { return };
        assert_eq!(self.subscriber.to_send(self.now), Some(message), "the same until it is sent");
        self.subscriber.on_sent();
        let filter = u32::from_ne_bytes(message[FILTER].try_into().unwrap());
        message[FILTER].copy_from_slice(&(filter & !CANCEL).to_ne_bytes());
        let (subscription, order) = Subscription::decode(&message).expect("what the service takes");
        assert_eq!((order, subscription.validate()), (Order::Native, Ok(())));
        if filter & CANCEL == 0 {
            self.asked.push(subscription);
        } else {
            let before = self.asked.len();
            // It is over there already where it has timed out.
            self.asked.retain(|asked| *asked != subscription);
            assert!(self.asked.len() + 1 >= before, "asked for once");
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.subscriber.on_timeout(self.now);
        if self.subscriber.is_down() {
            self.asked.clear();
        }
    }

    fn tell(&mut self, event: TopologyEvent) {
        let word = self.subscriber.on_event(&event);
        if event.kind == EventKind::TimedOut {
            self.asked.retain(|asked| *asked != event.subscription);
        }
        if let Some(word) = word {
            assert!(self.subscriber.is_up(), "told without a connection");
            self.hear(word);
        }
    }

    fn words(&mut self) {
        while let Some(event) = self.subscriber.poll_event(self.now) {
            self.hear(event);
        }
    }

    fn hear(&mut self, word: SubscriberEvent) {
        match word {
            SubscriberEvent::Gap => {}
            SubscriberEvent::Published(handle, event) | SubscriberEvent::Withdrawn(handle, event) => {
                assert!(self.wanted.contains(&handle) && event.subscription.handle == handle);
            }
            SubscriberEvent::Settled(handle) | SubscriberEvent::SetAside(handle) => {
                assert!(self.wanted.contains(&handle))
            }
            SubscriberEvent::TimedOut(handle) => assert!(self.wanted.remove(&handle)),
        }
    }

    /// With a service that answers, all that is wanted and not set aside is settled.
    fn settle(&mut self) {
        self.close(Closed::Lost);
        self.pass(PAUSE);
        self.words();
        self.connect();
        assert!(self.subscriber.is_up());
        let mut sent = 0;
        while self.subscriber.to_send(self.now).is_some() {
            self.send();
            self.send();
            let marker = *self.asked.last().expect("a subscription, and its marker");
            let [found_lower, found_upper] = [marker.range.lower, marker.range.upper];
            let (kind, port) = (EventKind::TimedOut, SocketAddress::default());
            self.tell(TopologyEvent { kind, found_lower, found_upper, port, subscription: marker });
            sent += 1;
        }
        assert!(self.subscriber.is_settled());
        assert_eq!(sent + self.subscriber.set_aside(), self.wanted.len());
        assert_eq!(self.subscriber.len(), self.wanted.len());
    }
}

/// One of a few, so that they meet; or one that begins as ours do.
fn handle(input: &mut Unstructured<'_>) -> Result<Handle> {
    let number = input.int_in_range(0..=19)?;
    Ok(if number == 19 { *b"\xffend\0\0\0\0" } else { [number; 8] })
}

fn any_subscription(input: &mut Unstructured<'_>) -> Result<Subscription> {
    let timeout = match input.int_in_range(0..=3)? {
        0 => Timeout::Ms(input.arbitrary()?),
        1 => Timeout::Ms(input.arbitrary::<u8>()?.into()),
        _ => Timeout::Forever,
    };
    let service_type = input.int_in_range(0..=2)?;
    let range = if input.int_in_range(0..=3)? == 0 {
        ServiceRange { service_type, lower: input.arbitrary()?, upper: input.arbitrary()? }
    } else {
        ServiceRange::all(service_type)
    };
    let filter = if input.arbitrary()? { Filter::Ports } else { Filter::Service };
    Ok(Subscription { range, timeout, filter, handle: handle(input)? })
}

/// Any event, but for the subscription that it tells for.
fn any_event(input: &mut Unstructured<'_>) -> Result<TopologyEvent> {
    let range = ServiceRange::all(0);
    Ok(TopologyEvent {
        kind: *input.choose(&[EventKind::Published, EventKind::Withdrawn, EventKind::TimedOut])?,
        found_lower: input.int_in_range(0..=1)?,
        found_upper: input.int_in_range(1..=2)?,
        port: SocketAddress { port: input.arbitrary()?, node: input.arbitrary()? },
        subscription: Subscription {
            range,
            timeout: Timeout::Forever,
            filter: Filter::Ports,
            handle: [0; 8],
        },
    })
}
