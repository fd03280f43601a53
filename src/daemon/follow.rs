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
    pub(super) fn look_at_network(&mut self, _: Instant) {}

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
    use crate::daemon::network::{Change, Network, Outage};
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
                Err(error) => Err(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or_default())),
            };
            if let Err(error) = registered {
                warn!(
                    "the kernel does not report changes of {}: {error}. Allow AF_NETLINK (RestrictAddressFamilies); \
                     until then a change is only seen at a reload",
                    self.config.network.interface
                );
            }
            let seen = *self.transport.interface();
            let (address, index) = (seen.address, seen.index);
            self.network = Network { address, index, ..Network::new(now) };
            if self.network.note(now, &seen, false).is_some() {
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
                self.follow_network(now, reported.is_removed, reported.is_lossy);
            }
        }

        /// Looks at the interface, has the sockets follow it, and says what has changed.
        pub(in crate::daemon) fn look_at_network(&mut self, now: Instant) {
            self.follow_network(now, false, false);
        }

        #[inline(never)]
        fn follow_network(&mut self, now: Instant, is_removed: bool, is_lossy: bool) {
            let registry = &self.registry;
            let followed = self.transport.follow(is_removed || is_lossy, |endpoint| {
                let token = Token(LISTENERS + endpoint.at());
                registry.register(&mut endpoint.listener, token, Interest::READABLE)
            });
            if let Err(error) = followed {
                warn!("the interface cannot be looked at: {}", OsError(&error));
                return self.ready.defer(now, Token(NETWORK));
            }
            self.note_interface(now, is_removed);
        }

        fn note_interface(&mut self, now: Instant, is_removed: bool) {
            let Some(change) = self.network.note(now, self.transport.interface(), is_removed) else { return };
            let (name, address) = (&self.config.network.interface, self.network.address);
            match change {
                Change::Out => return self.say_interface(),
                Change::Back(Outage { state, lasted, .. }) => {
                    let (was, span) = (state.words(), Span(lasted));
                    info!("the interface {name} is up with {address}; it was {was} for {span}");
                }
                Change::MadeAnew => info!("the interface {name} was made anew, with {address}"),
                Change::Renumbered(was) => {
                    info!("the address of the interface {name} is {address} now; it was {was}");
                }
            }
            // What could not be sent then says nothing of now.
            self.counters.send_failure = None;
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
                address: match address.is_empty() {
                    true => Text::default(),
                    false => Text::format(format_args!("{address}")),
                },
                age_ms: now.since(since).as_millis(),
                is_without_ipv6: self.transport.is_without_ipv6,
                outage: outage
                    .filter(|_| state == InterfaceState::Up)
                    .map(|outage| (outage.state, outage.lasted.as_millis())),
            })
        }
    }
}
