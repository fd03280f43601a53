//! Watches a topology service: a [`Subscriber`] and its connection.
//!
//! Register it with mio once: it keeps itself registered over connections that come
//! and go. Whenever it is ready, and after [`Watcher::on_timeout`], call
//! [`Watcher::turn`] until it has no more words.

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
    // Messages, not bytes; but received, sent and ended by the same calls.
    connection: Option<Stream>,
    registration: Option<(Registry, Token)>,
    refused: u64,
    last_error: Option<i32>,
}

impl Watcher {
    /// Watches what a node sees; `domain` is its address, 0 for our own. It connects in
    /// its first turn, and again whenever it has to.
    ///
    /// # Errors
    /// [`SocketError`]: there is no TIPC here for us.
    pub fn open(domain: u32) -> Result<Self, SocketError> {
        // Only to learn whether it can be had.
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

    /// Wants these events from now on; then [`turn`](Self::turn) it.
    ///
    /// # Errors
    /// [`SubscribeError`]: nothing has changed.
    pub fn subscribe(&mut self, now: Instant, wanted: Subscription) -> Result<(), SubscribeError> {
        self.subscriber.subscribe(now, wanted)
    }

    /// Wants no more of a subscription; then [`turn`](Self::turn) it. False where there
    /// is none with this handle.
    pub fn cancel(&mut self, handle: Handle) -> bool {
        self.subscriber.cancel(handle)
    }

    /// The subscriptions, and how far the service knows of them.
    #[must_use]
    pub fn subscriber(&self) -> &Subscriber {
        &self.subscriber
    }

    /// What the service sent that was not an event.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Why the connection could not be had or broke, the last time.
    #[must_use]
    pub fn last_error(&self) -> Option<io::Error> {
        self.last_error.map(io::Error::from_raw_os_error)
    }

    /// Moves on as far as it goes, without waiting: the next word. After `None`, all
    /// that there was has been told.
    pub fn turn(&mut self, now: Instant) -> Option<SubscriberEvent> {
        loop {
            if let Some(word) = self.subscriber.poll_word(now) {
                return Some(word);
            }
            self.connect(now);
            let sent = self.send(now);
            let connection = self.connection.as_mut().filter(|_| self.subscriber.is_up())?;
            // One byte more than an event has: what is too long is not one.
            let mut message = [0; topology_event::BYTES + 1];
            match connection.read(&mut message) {
                Ok(0) => self.lose(now, Closed::ByService, None),
                Ok(len) => match TopologyEvent::decode(&message[..len]) {
                    Ok(event) => {
                        if let Some(word) = self.subscriber.on_event(&event) {
                            return Some(word);
                        }
                    }
                    Err(_) => self.refused += 1,
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What it was closed for is read first, and says more.
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

    /// Connects, or looks how connecting goes.
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
                // It is writable later, and then turned again.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Time has passed; then [`turn`](Self::turn) it.
    pub fn on_timeout(&mut self, now: Instant) {
        self.subscriber.on_timeout(now);
    }

    /// When time matters next.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.subscriber.poll_at()
    }
}

impl event::Source for Watcher {
    /// For this token, which is ready whenever there may be words: `interests` are its
    /// own affair.
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
