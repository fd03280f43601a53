//! Traces of the messages between a subscriber and a topology service.

use super::super::address::SocketAddress;
use super::*;

const A: Handle = *b"handle A";
const B: Handle = *b"handle B";
const C: Handle = *b"handle C";

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn asked(handle: Handle) -> Subscription {
    let range = ServiceRange { service_type: 18_888, lower: 0, upper: 100 };
    Subscription { range, timeout: Timeout::Forever, filter: Filter::Ports, handle }
}

fn told(kind: EventKind, subscription: Subscription) -> TopologyEvent {
    let port = SocketAddress { port: 7, node: 9 };
    TopologyEvent { kind, found_lower: 6, found_upper: 53, port, subscription }
}

/// A message that the service receives.
#[derive(Debug, PartialEq)]
enum Heard {
    Asked(Subscription),
    Cancelled(Subscription),
    Marker(Subscription),
}

/// The subscriber's driver, and the service at the other end of the connection.
struct Service {
    subscriber: Subscriber,
    now: Instant,
}

impl Service {
    fn up() -> Self {
        let mut service = Self { subscriber: Subscriber::new(), now: at(1_000) };
        service.connect();
        service
    }

    fn connect(&mut self) {
        assert!(self.subscriber.wants_connection(self.now));
        self.subscriber.on_connecting(self.now);
        self.subscriber.on_connected();
        assert!(self.subscriber.is_up());
    }

    fn subscribe(&mut self, wanted: Subscription) {
        assert_eq!(self.subscriber.subscribe(self.now, wanted), Ok(()));
    }

    /// Takes the next message, if there is one.
    fn hear(&mut self) -> Option<Heard> {
        let message = self.subscriber.to_send(self.now)?;
        assert_eq!(self.subscriber.to_send(self.now), Some(message), "the same until it was sent");
        self.subscriber.on_sent();
        let mut without_cancel = message;
        let filter = &mut without_cancel[subscription::FILTER_AT..][..4];
        let number = u32::from_ne_bytes((*filter).try_into().unwrap());
        filter.copy_from_slice(&(number & !4).to_ne_bytes());
        let (subscription, _) = Subscription::decode(&without_cancel).unwrap();
        Some(match subscription {
            _ if message != without_cancel => Heard::Cancelled(subscription),
            Subscription { handle, .. } if handle.starts_with(&MARKER) => Heard::Marker(subscription),
            _ => Heard::Asked(subscription),
        })
    }

    fn hear_marker(&mut self) -> Subscription {
        match self.hear() {
            Some(Heard::Marker(marker)) => marker,
            other => panic!("{other:?} is no marker"),
        }
    }

    fn tell(&mut self, kind: EventKind, subscription: Subscription) -> Option<SubscriberEvent> {
        self.subscriber.on_event(&told(kind, subscription))
    }

    /// Receives a subscription and its marker, and settles it.
    fn settle(&mut self, subscription: Subscription) {
        assert_eq!(self.hear(), Some(Heard::Asked(subscription)));
        let marker = self.hear_marker();
        assert_eq!(
            self.tell(EventKind::TimedOut, marker),
            Some(SubscriberEvent::Settled(subscription.handle))
        );
    }

    fn close(&mut self, how: Closed) {
        self.subscriber.on_closed(self.now, how);
        assert!(self.subscriber.is_down());
    }

    fn events(&mut self) -> Vec<SubscriberEvent, 16, u8> {
        let mut events = Vec::new();
        while let Some(event) = self.subscriber.poll_event(self.now) {
            events.push(event).unwrap();
        }
        events
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.subscriber.on_timeout(self.now);
    }
}

#[test]
fn existing_bindings_are_reported_before_the_subscription_is_settled() {
    let mut service = Service::up();
    service.subscribe(asked(A));
    assert!(!service.subscriber.is_settled());
    assert_eq!(service.hear(), Some(Heard::Asked(asked(A))));
    let published = service.tell(EventKind::Published, asked(A));
    assert_eq!(published, Some(SubscriberEvent::Published(A, told(EventKind::Published, asked(A)))));
    let marker = service.hear_marker();
    assert_eq!(service.hear(), None, "one at a time");
    assert_eq!(service.tell(EventKind::TimedOut, marker), Some(SubscriberEvent::Settled(A)));
    assert!(service.subscriber.is_settled());
    let withdrawn = service.tell(EventKind::Withdrawn, asked(A));
    assert_eq!(withdrawn, Some(SubscriberEvent::Withdrawn(A, told(EventKind::Withdrawn, asked(A)))));
    assert!(service.events().is_empty());
}

#[test]
fn subscriptions_are_sent_one_after_the_other_and_kept_apart() {
    let mut service = Service::up();
    for handle in [A, B] {
        service.subscribe(asked(handle));
    }
    service.settle(asked(A));
    service.settle(asked(B));
    for handle in [A, B] {
        let event = service.tell(EventKind::Published, asked(handle));
        assert!(matches!(event, Some(SubscriberEvent::Published(of, _)) if of == handle));
    }
    // A third one while events of the others arrive.
    service.subscribe(asked(C));
    assert_eq!(service.hear(), Some(Heard::Asked(asked(C))));
    assert!(matches!(service.tell(EventKind::Withdrawn, asked(A)), Some(SubscriberEvent::Withdrawn(A, _))));
    let marker = service.hear_marker();
    assert!(matches!(service.tell(EventKind::Published, asked(C)), Some(SubscriberEvent::Published(C, _))));
    assert_eq!(service.tell(EventKind::TimedOut, marker), Some(SubscriberEvent::Settled(C)));
}

#[test]
fn a_cancelled_subscription_has_no_events_and_its_handle_is_free_once_it_has_ended() {
    let mut service = Service::up();
    service.subscribe(asked(A));
    service.settle(asked(A));
    assert!(service.subscriber.cancel(A));
    assert_eq!(service.tell(EventKind::Published, asked(A)), None, "sent before the cancel arrived");
    assert!(!service.subscriber.cancel(A), "it is cancelled already");
    assert_eq!(service.subscriber.subscribe(service.now, asked(A)), Err(SubscribeError::HandleTaken));
    assert_eq!(service.hear(), Some(Heard::Cancelled(asked(A))));
    let marker = service.hear_marker();
    assert_eq!(service.tell(EventKind::Published, asked(A)), None, "sent before it ended");
    assert_eq!(service.tell(EventKind::TimedOut, marker), None);
    assert!(service.subscriber.is_empty());
    service.subscribe(asked(A));
    service.settle(asked(A));
}

#[test]
fn a_subscription_cancelled_before_its_marker_is_back_is_not_settled_but_ended() {
    let mut service = Service::up();
    service.subscribe(asked(A));
    assert_eq!(service.hear(), Some(Heard::Asked(asked(A))));
    assert!(service.subscriber.cancel(A));
    let marker = service.hear_marker();
    assert_eq!(service.tell(EventKind::TimedOut, marker), None);
    assert_eq!(service.hear(), Some(Heard::Cancelled(asked(A))));
    let marker = service.hear_marker();
    assert_eq!(service.tell(EventKind::TimedOut, marker), None);
    assert_eq!(service.hear(), None);
}

#[test]
fn a_subscription_cancelled_before_it_is_sent_is_never_sent() {
    let mut service = Service::up();
    service.subscribe(asked(A));
    assert!(service.subscriber.to_send(service.now).is_some(), "but the socket had no room");
    assert!(service.subscriber.cancel(A));
    assert_eq!(service.hear(), None);
}

#[test]
fn the_service_reports_when_a_timeout_has_passed() {
    let mut service = Service::up();
    let short = Subscription { timeout: Timeout::Ms(300), ..asked(A) };
    service.subscribe(short);
    service.settle(short);
    service.pass(Duration::from_millis(300));
    assert!(service.events().is_empty(), "it is the service's event that counts");
    assert_eq!(service.tell(EventKind::TimedOut, short), Some(SubscriberEvent::TimedOut(A)));
    assert!(service.subscriber.is_empty());
}

#[test]
fn a_subscription_that_times_out_before_its_marker_is_back_is_not_settled() {
    let mut service = Service::up();
    let short = Subscription { timeout: Timeout::Ms(1), ..asked(A) };
    service.subscribe(short);
    assert_eq!(service.hear(), Some(Heard::Asked(short)));
    let marker = service.hear_marker();
    assert_eq!(service.tell(EventKind::TimedOut, short), Some(SubscriberEvent::TimedOut(A)));
    // The handle is free, and the marker does not settle a new subscription with it.
    service.subscribe(asked(A));
    assert_eq!(service.tell(EventKind::TimedOut, marker), None);
    service.settle(asked(A));
}

#[test]
fn after_a_loss_the_gap_is_reported_and_all_subscriptions_are_sent_again() {
    let mut service = Service::up();
    for handle in [A, B] {
        service.subscribe(asked(handle));
        service.settle(asked(handle));
    }
    service.close(Closed::Lost);
    assert_eq!(service.events(), [SubscriberEvent::Gap]);
    assert_eq!(service.tell(EventKind::Published, asked(A)), None, "there is no connection");
    assert_eq!(service.subscriber.poll_at(), Some(service.now + PAUSE));
    assert!(!service.subscriber.wants_connection(service.now), "not at once");
    service.pass(PAUSE);
    service.connect();
    service.settle(asked(A));
    assert!(!service.subscriber.is_settled());
    service.settle(asked(B));
    assert!(service.subscriber.is_settled());
    assert_eq!((service.subscriber.gaps(), service.events().len()), (1, 0));
}

#[test]
fn a_connection_that_sent_no_subscription_leaves_no_gap() {
    let mut service = Service::up();
    service.close(Closed::ByService);
    service.pass(PAUSE);
    service.subscriber.on_connecting(service.now);
    service.subscribe(asked(A));
    service.close(Closed::Lost);
    assert!(service.events().is_empty());
    assert_eq!(service.subscriber.gaps(), 0);
}

#[test]
fn a_subscription_that_closed_the_connection_twice_is_set_aside_and_others_continue() {
    let mut service = Service::up();
    service.subscribe(asked(A));
    service.settle(asked(A));
    service.subscribe(asked(B));
    service.subscribe(asked(C));
    assert_eq!(service.hear(), Some(Heard::Asked(asked(B))));
    service.close(Closed::ByService);
    assert_eq!(service.events(), [SubscriberEvent::Gap]);
    service.pass(PAUSE);
    service.connect();
    service.settle(asked(A));
    // B, upon which it was closed, waits for the others.
    service.settle(asked(C));
    assert_eq!(service.hear(), Some(Heard::Asked(asked(B))));
    let _ = service.hear_marker();
    service.close(Closed::ByService);
    assert_eq!(service.events(), [SubscriberEvent::Gap, SubscriberEvent::SetAside(B)]);
    assert_eq!(service.subscriber.set_aside(), 1);
    service.pass(PAUSE);
    service.connect();
    service.settle(asked(A));
    service.settle(asked(C));
    assert_eq!(service.hear(), None);
    assert!(service.subscriber.is_settled());
    assert!(service.subscriber.cancel(B), "it is removed at once");
    assert_eq!(service.hear(), None);
}

#[test]
fn a_loss_is_not_counted_against_the_subscription_that_was_sent_last() {
    let mut service = Service::up();
    service.subscribe(asked(A));
    for _ in 0..5 {
        assert_eq!(service.hear(), Some(Heard::Asked(asked(A))));
        service.close(Closed::Lost);
        service.pass(PAUSE);
        service.connect();
    }
    assert_eq!(service.events(), [SubscriberEvent::Gap], "one gap, however many losses");
    service.settle(asked(A));
}

#[test]
fn a_strike_is_cleared_once_the_subscription_is_settled() {
    let mut service = Service::up();
    service.subscribe(asked(A));
    for _ in 0..5 {
        assert_eq!(service.hear(), Some(Heard::Asked(asked(A))));
        service.close(Closed::ByService);
        service.pass(PAUSE);
        service.connect();
        service.settle(asked(A));
        service.close(Closed::ByService);
        service.pass(PAUSE);
        service.connect();
    }
    assert_eq!(service.subscriber.set_aside(), 0);
}

#[test]
fn a_subscription_is_sent_again_with_the_rest_of_its_timeout() {
    let mut service = Service::up();
    let long = Subscription { timeout: Timeout::Ms(5_000), ..asked(A) };
    service.pass(Duration::from_millis(10));
    service.subscribe(long);
    service.pass(Duration::from_millis(10));
    service.settle(long);
    service.close(Closed::Lost);
    service.pass(Duration::from_millis(1_990));
    service.connect();
    let rest = Subscription { timeout: Timeout::Ms(3_000), ..long };
    service.settle(rest);
    assert_eq!(service.tell(EventKind::TimedOut, long), None, "it is not the subscription that is in force");
    assert_eq!(service.tell(EventKind::TimedOut, rest), Some(SubscriberEvent::TimedOut(A)));
}

#[test]
fn a_timeout_that_passes_without_a_service_is_reported() {
    let mut service = Service { subscriber: Subscriber::new(), now: at(1_000) };
    service.subscribe(Subscription { timeout: Timeout::Ms(300), ..asked(A) });
    service.close(Closed::Lost);
    assert_eq!(service.subscriber.poll_at(), Some(at(1_300)));
    service.pass(Duration::from_millis(299));
    assert!(service.events().is_empty());
    service.pass(Duration::from_millis(1));
    assert_eq!(service.events(), [SubscriberEvent::TimedOut(A)]);
    assert!(service.subscriber.is_empty());
}

#[test]
fn a_service_that_does_not_answer_is_given_up() {
    let mut service = Service { subscriber: Subscriber::new(), now: at(1_000) };
    service.subscriber.on_connecting(service.now);
    assert_eq!(service.subscriber.poll_at(), Some(service.now + PATIENCE));
    service.pass(PATIENCE);
    assert!(service.subscriber.is_down(), "it does not accept");
    service.pass(PAUSE);
    service.connect();
    service.subscribe(asked(A));
    assert_eq!(service.hear(), Some(Heard::Asked(asked(A))));
    service.pass(Duration::from_millis(9_999));
    assert!(service.subscriber.is_up());
    service.pass(Duration::from_millis(1));
    assert!(service.subscriber.is_down(), "it does not answer a marker");
    assert_eq!(service.events(), [SubscriberEvent::Gap]);
}

#[test]
fn a_service_that_sends_many_events_is_not_given_up() {
    let mut service = Service::up();
    service.subscribe(asked(A));
    assert_eq!(service.hear(), Some(Heard::Asked(asked(A))));
    let marker = service.hear_marker();
    for _ in 0..10 {
        assert!(service.tell(EventKind::Published, asked(A)).is_some());
        service.pass(PATIENCE);
        assert!(service.subscriber.is_up());
    }
    assert_eq!(service.tell(EventKind::TimedOut, marker), Some(SubscriberEvent::Settled(A)));
    assert!(service.subscriber.is_settled());
}

#[test]
fn a_marker_of_an_earlier_connection_settles_nothing() {
    let mut service = Service::up();
    service.subscribe(asked(A));
    assert_eq!(service.hear(), Some(Heard::Asked(asked(A))));
    let old = service.hear_marker();
    service.close(Closed::Lost);
    service.pass(PAUSE);
    service.connect();
    assert_eq!(service.hear(), Some(Heard::Asked(asked(A))));
    assert_ne!(service.hear_marker(), old);
    assert_eq!(service.tell(EventKind::TimedOut, old), None);
    assert!(!service.subscriber.is_settled());
}

#[test]
fn subscriptions_that_are_invalid_or_do_not_fit_are_refused() {
    let mut service = Service::up();
    let mut refused = |wanted| service.subscriber.subscribe(service.now, wanted);
    let backwards = Subscription { range: ServiceRange { lower: 101, ..asked(A).range }, ..asked(A) };
    assert_eq!(refused(backwards), Err(SubscribeError::Invalid(subscription::Invalid::Backwards)));
    assert_eq!(refused(asked(*b"\xffendless")), Err(SubscribeError::HandleReserved));
    for number in 0..limits::TIPC_SUBSCRIPTIONS as u64 {
        assert_eq!(refused(asked(number.to_ne_bytes())), Ok(()));
    }
    assert_eq!(refused(asked(A)), Err(SubscribeError::Full));
    assert_eq!(refused(asked([0; 8])), Err(SubscribeError::HandleTaken));
}
