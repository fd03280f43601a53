//! Watches a topology service: a [`Subscriber`] and its connection.
//!
//! Register it with mio once: it registers each new connection itself. Whenever it is
//! ready, and after [`Watcher::on_timeout`], call [`Watcher::turn`] until it returns
//! `None`.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;

use mio::{Interest, Registry, Token, event};

use super::address::{Destination, TOPOLOGY_SERVICE};
use super::event::{self as topology_event, TopologyEvent};
use super::socket::{Socket, SocketError};
use super::stream::Stream;
use super::subscription::{Handle, Subscription};
use super::topology::{Closed, SubscribeError, Subscriber, SubscriberEvent};
use crate::time::Instant;

/// A watched topology service.
pub struct Watcher {
    service: Destination,
    subscriber: Subscriber,
    // A SOCK_SEQPACKET connection, for which the calls are the same.
    connection: Option<Stream>,
    registration: Option<(Registry, Token)>,
    refused: u64,
    last_error: Option<i32>,
}

impl Watcher {
    /// Watches a node's topology service. `domain` is the node's address, 0 for this
    /// node. [`turn`](Self::turn) connects, and connects again after a loss.
    ///
    /// # Errors
    /// [`SocketError`]: TIPC is not available.
    pub fn open(domain: u32) -> Result<Self, SocketError> {
        // Only to check that TIPC is available.
        Socket::seqpacket()?;
        let service =
            Destination::Service { service_type: TOPOLOGY_SERVICE, instance: TOPOLOGY_SERVICE, domain };
        Ok(Self {
            service,
            subscriber: Subscriber::new(),
            connection: None,
            registration: None,
            refused: 0,
            last_error: None,
        })
    }

    /// Adds a subscription. Call [`turn`](Self::turn) afterwards.
    ///
    /// # Errors
    /// [`SubscribeError`]: nothing has changed.
    pub fn subscribe(&mut self, now: Instant, wanted: Subscription) -> Result<(), SubscribeError> {
        self.subscriber.subscribe(now, wanted)
    }

    /// Cancels a subscription. Call [`turn`](Self::turn) afterwards. False if there is no
    /// subscription with this handle.
    pub fn cancel(&mut self, handle: Handle) -> bool {
        self.subscriber.cancel(handle)
    }

    /// The subscriptions and their states.
    #[must_use]
    pub fn subscriber(&self) -> &Subscriber {
        &self.subscriber
    }

    /// The number of messages from the service that were not valid events.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The last error of connecting or of the connection.
    #[must_use]
    pub fn last_error(&self) -> Option<io::Error> {
        self.last_error.map(io::Error::from_raw_os_error)
    }

    /// Connects, sends and receives without waiting, and returns the next event. After
    /// `None` there is no more until the source is ready again.
    pub fn turn(&mut self, now: Instant) -> Option<SubscriberEvent> {
        loop {
            if let Some(event) = self.subscriber.poll_event(now) {
                return Some(event);
            }
            self.connect(now);
            let sent = self.send(now);
            let connection = self.connection.as_mut().filter(|_| self.subscriber.is_up())?;
            // One byte longer than an event, so that a longer message is detected.
            let mut message = [0; topology_event::BYTES + 1];
            match connection.read(&mut message) {
                Ok(0) => self.lose(now, Closed::ByService, None),
                Ok(len) => match TopologyEvent::decode(&message[..len]) {
                    Ok(event) => {
                        if let Some(event) = self.subscriber.on_event(&event) {
                            return Some(event);
                        }
                    }
                    Err(_) => self.refused += 1,
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A failed send is reported only after all messages are read: the
                // service's close is the better reason.
                Err(error) if error.kind() == ErrorKind::WouldBlock => match sent {
                    Ok(()) => return None,
                    Err(error) => self.lose(now, Closed::Lost, Some(&error)),
                },
                Err(error) => self.lose(now, Closed::Lost, Some(&error)),
            }
        }
    }

    fn lose(&mut self, now: Instant, how: Closed, error: Option<&io::Error>) {
        self.last_error = error.and_then(io::Error::raw_os_error);
        self.connection = None;
        self.subscriber.on_closed(now, how);
    }

    /// Begins to connect, or checks a connection in progress.
    fn connect(&mut self, now: Instant) {
        if self.subscriber.is_down() {
            self.connection = None;
            if self.subscriber.wants_connection(now) {
                match self.begin() {
                    Ok(connection) => {
                        self.connection = Some(connection);
                        self.subscriber.on_connecting(now);
                    }
                    Err(error) => self.lose(now, Closed::Lost, Some(&error)),
                }
            }
        }
        if self.subscriber.is_up() {
            return;
        }
        let Some(connection) = &self.connection else { return };
        if connection.peer().is_ok() {
            self.subscriber.on_connected();
        } else if let Ok(Some(error)) = connection.take_error() {
            self.lose(now, Closed::Lost, Some(&error));
        }
    }

    fn begin(&self) -> io::Result<Stream> {
        let socket = Socket::seqpacket()?;
        socket.connect(&self.service)?;
        let mut connection = Stream::from(OwnedFd::from(socket));
        if let Some((registry, token)) = &self.registration {
            registry.register(&mut connection, *token, Interest::READABLE | Interest::WRITABLE)?;
        }
        Ok(connection)
    }

    fn send(&mut self, now: Instant) -> io::Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        while let Some(message) = self.subscriber.to_send(now) {
            match connection.write(&message) {
                Ok(_) => self.subscriber.on_sent(),
                // The source becomes ready once it is writable again.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Handles deadlines. Call [`turn`](Self::turn) afterwards.
    pub fn on_timeout(&mut self, now: Instant) {
        self.subscriber.on_timeout(now);
    }

    /// The time of the next deadline.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.subscriber.poll_at()
    }
}

impl event::Source for Watcher {
    /// Registers for this token. `interests` are ignored: the watcher needs both.
    fn register(&mut self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        if let Some(connection) = &mut self.connection {
            registry.register(connection, token, Interest::READABLE | Interest::WRITABLE)?;
        }
        self.registration = Some((registry.try_clone()?, token));
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.deregister(registry)?;
        self.register(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.registration = None;
        self.connection.as_mut().map_or(Ok(()), |connection| registry.deregister(connection))
    }
}
