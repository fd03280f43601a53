//! A watched topology service, polled with mio as the daemon does it.

use std::sync::LazyLock;
use std::time::{Duration as Span, Instant as Clock};

use mio::event::Source;
use mio::{Events, Interest, Poll, Token};
use thimble::time::Instant;
use thimble::tipc::address::ServiceRange;
use thimble::tipc::event::TopologyEvent;
use thimble::tipc::subscription::{Filter, Handle, Subscription, Timeout};
use thimble::tipc::topology::SubscriberEvent;
use thimble::tipc::watcher::Watcher;

/// Long enough for anything that works on a busy machine.
pub const LONG: Span = Span::from_secs(120);

pub fn now() -> Instant {
    static ORIGIN: LazyLock<Clock> = LazyLock::new(Clock::now);
    Instant::from_millis(ORIGIN.elapsed().as_millis() as u64)
}

/// Polls until there is a value; panics with `what` after [`LONG`].
pub fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Clock::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < LONG, "waited {LONG:?} in vain: {what}");
        std::thread::sleep(Span::from_millis(5));
    }
}

/// A subscription to all of a type.
pub fn all(service_type: u32, handle: Handle) -> Subscription {
    let range = ServiceRange::all(service_type);
    Subscription { range, timeout: Timeout::Forever, filter: Filter::Ports, handle }
}

/// The parts of an event that tests look at.
pub trait Told {
    /// The handle of its subscription.
    fn handle(&self) -> Option<Handle>;
    /// The service's own event.
    fn event(&self) -> Option<&TopologyEvent>;
    /// The first instance of what was published.
    fn published(&self) -> Option<u32>;
    /// The first instance of what was withdrawn.
    fn withdrawn(&self) -> Option<u32>;
}

impl Told for SubscriberEvent {
    fn handle(&self) -> Option<Handle> {
        match *self {
            Self::Published(handle, _)
            | Self::Withdrawn(handle, _)
            | Self::TimedOut(handle)
            | Self::Settled(handle)
            | Self::SetAside(handle) => Some(handle),
            Self::Gap => None,
        }
    }

    fn event(&self) -> Option<&TopologyEvent> {
        match self {
            Self::Published(_, event) | Self::Withdrawn(_, event) => Some(event),
            _ => None,
        }
    }

    fn published(&self) -> Option<u32> {
        if let Self::Published(_, event) = self { Some(event.found_lower) } else { None }
    }

    fn withdrawn(&self) -> Option<u32> {
        if let Self::Withdrawn(_, event) = self { Some(event.found_lower) } else { None }
    }
}

/// A watcher and the poll that wakes it.
pub struct Watched {
    pub watcher: Watcher,
    poll: Poll,
    events: Events,
    rests: u32,
}

impl Watched {
    /// Watches the service of a node (0: the one that this thread is on) with these
    /// subscriptions.
    pub fn subscribed(domain: u32, wanted: &[Subscription]) -> Self {
        let mut watcher = Watcher::open(domain).expect("there is TIPC");
        let poll = Poll::new().expect("a poll");
        watcher.register(poll.registry(), Token(0), Interest::READABLE).expect("registered");
        let mut watched = Self { watcher, poll, events: Events::with_capacity(4), rests: 0 };
        for wanted in wanted {
            watched.subscribe(*wanted);
        }
        watched
    }

    pub fn subscribe(&mut self, wanted: Subscription) {
        self.watcher.subscribe(now(), wanted).expect("it is valid");
    }

    /// The next event. Waits only by the poll: what the poll does not report is not seen.
    pub fn next(&mut self, what: &str) -> SubscriberEvent {
        let started = Clock::now();
        loop {
            if let Some(word) = self.watcher.turn(now()) {
                return word;
            }
            assert!(started.elapsed() < LONG, "waited {LONG:?} in vain: {what}");
            let due =
                self.watcher.poll_at().map_or(LONG, |at| Span::from_millis(at.since(now()).as_millis()));
            self.poll.poll(&mut self.events, Some(due.min(LONG))).expect("a poll");
            self.watcher.on_timeout(now());
        }
    }

    /// All events up to the one that is waited for, which is the last of them.
    pub fn until(
        &mut self,
        what: &str,
        mut is_last: impl FnMut(&SubscriberEvent) -> bool,
    ) -> Vec<SubscriberEvent> {
        let mut words = Vec::new();
        loop {
            let word = self.next(what);
            words.push(word);
            if is_last(&word) {
                return words;
            }
        }
    }

    /// All events until a subscription is settled.
    pub fn settled(&mut self, handle: Handle) -> Vec<SubscriberEvent> {
        self.until("it is settled", |word| *word == SubscriberEvent::Settled(handle))
    }

    /// All events that are under way: a new subscription is settled after them.
    pub fn rest(&mut self) -> Vec<SubscriberEvent> {
        self.rests += 1;
        let last = [*b"rest", self.rests.to_ne_bytes()].concat().try_into().expect("eight bytes");
        self.subscribe(Subscription { range: ServiceRange::one(64, 0), ..all(64, last) });
        let mut words = self.settled(last);
        words.pop();
        assert!(self.watcher.cancel(last));
        words
    }
}
