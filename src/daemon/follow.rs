//! Follows the configured interface while the daemon runs: what the kernel reports of it, on its
//! way to the sockets, to the log and to `status`. Over UDP only: TIPC has bearers, which
//! [`topology`](super::topology) watches.

use super::event_loop::Daemon;
use crate::control::InterfaceRow;
use crate::time::Instant;

#[cfg(feature = "tipc")]
impl Daemon<'_> {
    /// Nothing to watch.
    pub(super) fn begin_network(&mut self, _: Instant) {}

    /// Nothing to look at.
    pub(super) fn look_at_network(&mut self, _: Instant, _: bool) {}

    /// Nothing is reported.
    pub(super) fn take_network(&mut self, _: Instant) {}

    /// None: TIPC's bearers are rows of their own.
    pub(super) fn interface_row(&self, _: Instant) -> Option<InterfaceRow> {
        None
    }
}

#[cfg(not(feature = "tipc"))]
mod watched {
    use std::io;
    use std::os::fd::RawFd;

    use log::{info, warn};
    use mio::unix::SourceFd;
    use mio::{Interest, Token};

    use super::{Daemon, Instant, InterfaceRow};
    use crate::daemon::network::{Network, Outage};
    use crate::daemon::os_error::OsError;
    use crate::daemon::tokens::{LISTENERS, NETWORK};
    use crate::time::Span;
    use crate::types::{InterfaceState, Text};

    impl Daemon<'_> {
        /// Begins to watch the interface, and says what it is if it is not up.
        pub(in crate::daemon) fn begin_network(&mut self, now: Instant) {
            let registered = match &self.transport.reports {
                Ok(reports) => {
                    let fd: RawFd = reports.fd();
                    self.registry.register(&mut SourceFd(&fd), Token(NETWORK), Interest::READABLE)
                }
                Err(error) => Err(io::Error::from(error.kind())),
            };
            if let Err(error) = registered {
                warn!(
                    "the kernel does not report changes of {}: {error}. Allow AF_NETLINK (RestrictAddressFamilies); \
                     until then a change is only seen at a reload",
                    self.config.network.interface
                );
            }
            let seen = *self.transport.interface();
            let (state, address, index) = (seen.state, seen.address, seen.index);
            self.network = Network { state, address, index, ..Network::new(now) };
            if state != InterfaceState::Up {
                self.say_interface();
            }
        }

        /// Handles what the kernel reports of interfaces.
        #[inline(never)]
        pub(in crate::daemon) fn take_network(&mut self, now: Instant) {
            let Ok(reports) = &self.transport.reports else { return };
            let reported = reports.take(self.transport.interface().index);
            if reported.has_more {
                self.ready.insert(Token(NETWORK));
            }
            if reported.is_news {
                self.look_at_network(now, reported.is_removed);
            }
        }

        /// Looks at the interface, has the sockets follow it, and says what has changed.
        #[inline(never)]
        pub(in crate::daemon) fn look_at_network(&mut self, now: Instant, is_removed: bool) {
            let registry = &self.registry;
            let followed = self.transport.follow(is_removed, |endpoint| {
                let token = Token(LISTENERS + endpoint.role() as usize);
                registry.register(&mut endpoint.listener, token, Interest::READABLE)
            });
            if let Err(error) = followed {
                warn!("the interface cannot be looked at: {}", OsError(&error));
                return self.ready.defer(now, Token(NETWORK));
            }
            self.note_interface(now, is_removed);
        }

        fn note_interface(&mut self, now: Instant, is_removed: bool) {
            let (before, seen) = (self.network, *self.transport.interface());
            let was_made_anew = is_removed || (seen.index != before.index && before.index != 0);
            let is_same = (seen.state, seen.address) == (before.state, before.address);
            if is_same && !was_made_anew {
                return;
            }
            let lasted = now.since(before.since);
            let name = &self.config.network.interface;
            let (state, address, index) = (seen.state, seen.address, seen.index);
            let outage = match before.state {
                InterfaceState::Up => before.outage,
                state => Some(Outage { state, lasted }),
            };
            self.network = Network {
                state,
                address,
                index,
                since: now,
                outage,
                changes: before.changes.saturating_add(1),
            };
            if state != InterfaceState::Up {
                return self.say_interface();
            }
            // What could not be sent then says nothing of now.
            self.counters.send_failure = None;
            match before.state {
                InterfaceState::Up if is_same => info!("the interface {name} was made anew, with {address}"),
                InterfaceState::Up => {
                    info!("the address of the interface {name} is {address} now; it was {}", before.address);
                }
                was => info!(
                    "the interface {name} is up with {address}; it was {} for {}",
                    was.words(),
                    Span(lasted)
                ),
            }
            self.node.on_network_back(now);
        }

        /// Says what the interface is that is not up.
        fn say_interface(&self) {
            let (name, words) = (&self.config.network.interface, self.network.state.words());
            match &self.transport.refused {
                Some(error) => warn!("the interface {name} is {words}: {}", OsError(error)),
                None => warn!("the interface {name} is {words}: thimble takes part again once it is up"),
            }
        }

        /// The interface, for `status`.
        pub(in crate::daemon) fn interface_row(&self, now: Instant) -> Option<InterfaceRow> {
            let Network { state, address, since, outage, .. } = self.network;
            Some(InterfaceRow {
                name: Text::truncated(&self.config.network.interface),
                state,
                address: match address.is_unspecified() {
                    true => Text::default(),
                    false => Text::format(format_args!("{address}")),
                },
                age_ms: now.since(since).as_millis(),
                outage: outage.map(|outage| (outage.state, outage.lasted.as_millis())),
            })
        }
    }
}
