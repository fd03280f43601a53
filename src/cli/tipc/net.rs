//! Shared by the TIPC commands: queries of a topology service, names of nodes, and the
//! time of an event.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, event};

use crate::cli::exit::{Exit, Failure};
use crate::clock::unix_ms;
use crate::time::Instant;
use crate::tipc::address::{NODE_STATE, NodeAddress, ServiceRange};
use crate::tipc::event::TopologyEvent;
use crate::tipc::link;
use crate::tipc::socket::{Socket, SocketError};
use crate::tipc::subscription::{Filter, Subscription, Timeout};
use crate::tipc::topology::SubscriberEvent;
use crate::tipc::watcher::Watcher;

/// The time limit for a node's list of bindings.
const PATIENCE_MS: u64 = 3_000;
/// How often the interrupt key is checked.
const KEY: Duration = Duration::from_millis(100);

/// The failure for an error of TIPC.
pub fn refused(error: impl Into<SocketError>) -> Failure {
    Failure::new(Exit::Refused, error.into().to_string())
}

/// Waits for one source.
pub struct Waiter {
    poll: Poll,
    events: Events,
}

impl Waiter {
    pub fn new(source: &mut impl event::Source) -> Result<Self, Failure> {
        let of_the_system = |error| refused(SocketError::Other(error));
        let poll = Poll::new().map_err(of_the_system)?;
        let interests = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(source, Token(0), interests).map_err(of_the_system)?;
        Ok(Self { poll, events: Events::with_capacity(4) })
    }

    /// Waits for the source, until the interrupt key must be checked, or for `most`.
    pub fn wait(&mut self, most: Duration) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, Some(most.min(KEY))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(refused(SocketError::Other(error)))
            }
            _ => Ok(()),
        }
    }
}

/// One subscription to a topology service.
pub struct Topology {
    watcher: Watcher,
    waiter: Waiter,
    node: u32,
    begun: std::time::Instant,
}

impl Topology {
    /// Subscribes at a node's topology service; 0 is this node's.
    ///
    /// # Errors
    /// TIPC is not available.
    pub fn ask(node: u32, what: Subscription) -> Result<Self, Failure> {
        let mut watcher = Watcher::open(node).map_err(refused)?;
        let waiter = Waiter::new(&mut watcher)?;
        watcher
            .subscribe(Instant::default(), what)
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        Ok(Self { watcher, waiter, node, begun: std::time::Instant::now() })
    }

    /// The time since the subscription.
    pub fn now(&self) -> Instant {
        Instant::from_millis(self.begun.elapsed().as_millis() as u64)
    }

    /// The next event; `None` after a short time without one.
    ///
    /// # Errors
    /// The service was never reached. A lost connection is made again.
    pub fn next(&mut self) -> Result<Option<SubscriberEvent>, Failure> {
        for is_last in [false, true] {
            let now = self.now();
            self.watcher.on_timeout(now);
            if let Some(event) = self.watcher.turn(now) {
                return Ok(Some(event));
            }
            let subscriber = self.watcher.subscriber();
            if let Some(error) = self.watcher.last_error().filter(|_| subscriber.gaps() == 0) {
                let node = NodeAddress(self.node);
                let sentence = format!(
                    "the topology service of {node} cannot be reached ({error}): `tipc node list` shows the nodes \
                     that can"
                );
                return Err(Failure::new(Exit::Refused, sentence));
            }
            if !is_last {
                let most = self.watcher.poll_at().map(|at| at.since(now).as_millis());
                self.waiter.wait(most.map_or(KEY, Duration::from_millis))?;
            }
        }
        Ok(None)
    }
}

/// All bindings of a service type, as a node's topology service reports them; 0 is this
/// node's.
///
/// # Errors
/// The service cannot be reached, or does not answer.
pub fn all_there(node: u32, service_type: u32) -> Result<Vec<TopologyEvent>, Failure> {
    let what = Subscription {
        range: ServiceRange::all(service_type),
        timeout: Timeout::Forever,
        filter: Filter::Ports,
        handle: *b"allthere",
    };
    let (mut topology, mut there) = (Topology::ask(node, what)?, Vec::new());
    while topology.now().as_millis() < PATIENCE_MS {
        match topology.next()? {
            Some(SubscriberEvent::Published(_, event)) => there.push(event),
            Some(SubscriberEvent::Withdrawn(_, event)) => {
                there.retain(|one| (one.found_lower, one.port) != (event.found_lower, event.port));
            }
            Some(SubscriberEvent::Settled(_)) => return Ok(there),
            Some(SubscriberEvent::Gap) => there.clear(),
            Some(SubscriberEvent::TimedOut(_) | SubscriberEvent::SetAside(_)) => break,
            None => {}
        }
    }
    let sentence = format!("the topology service of {} does not answer", NodeAddress(node));
    Err(Failure::new(Exit::TimedOut, sentence))
}

/// The identities of nodes. They are cached, because the kernel may forget a lost node.
pub struct Names {
    socket: Option<Socket>,
    known: RefCell<Vec<(u32, String)>>,
}

impl Names {
    /// # Errors
    /// TIPC is not available.
    pub fn new() -> Result<Self, Failure> {
        let socket = Socket::rdm().map_err(refused)?;
        Ok(Self { socket: Some(socket), known: RefCell::default() })
    }

    /// A node's identity; empty if unknown.
    pub fn identity(&self, node: u32) -> String {
        if let Some((_, known)) = self.known.borrow().iter().find(|(known, _)| *known == node) {
            return known.clone();
        }
        let asked = self.socket.as_ref().and_then(|socket| link::identity(socket, node).ok());
        let Some(identity) = asked.filter(|identity| !identity.is_empty()) else { return String::new() };
        self.known.borrow_mut().push((node, identity.to_string()));
        identity.to_string()
    }

    /// `5c6f6465 (node2)`
    pub fn show(&self, node: u32) -> String {
        format!("{}{}", NodeAddress(node), self.behind(node))
    }

    /// ` (node2)`, to follow an address.
    pub fn behind(&self, node: u32) -> String {
        match self.identity(node) {
            none if none.is_empty() => none,
            identity => format!(" ({identity})"),
        }
    }

    /// The address of a node, given by its identity or address.
    ///
    /// # Errors
    /// There is no such node.
    pub fn node(&self, text: &str) -> Result<u32, Failure> {
        let nodes = all_there(0, NODE_STATE)?;
        let called = nodes.iter().map(|node| node.found_lower).find(|node| self.identity(*node) == text);
        called.or_else(|| u32::from_str_radix(text, 16).ok()).ok_or_else(|| {
            let sentence =
                format!("no node is called {text}: `tipc node list` shows identities and addresses");
            Failure::new(Exit::Refused, sentence)
        })
    }
}

/// The time of an event, in milliseconds since 1970.
#[derive(Clone, Copy)]
pub struct EventTime(pub u64);

impl EventTime {
    pub fn now() -> Self {
        Self(unix_ms())
    }
}

impl fmt::Display for EventTime {
    /// The time of the day, UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1_000, self.0 % 1_000);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{hour:02}:{minute:02}:{second:02}.{millis:03}")
    }
}

#[cfg(test)]
impl Names {
    /// Known names, without TIPC in the kernel.
    pub fn of<const N: usize>(known: [(u32, &str); N]) -> Self {
        let known = known.into_iter().map(|(node, name)| (node, name.to_owned())).collect();
        Self { socket: None, known: RefCell::new(known) }
    }
}
