//! Follows the configured interfaces while the daemon runs: what the kernel reports of it, on its
//! way to the sockets, to the log and to `status`. Over UDP only: TIPC has bearers, which
//! [`topology`](super::topology) watches.

use super::event_loop::Daemon;
use crate::control::InterfaceRows;
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
    pub(super) fn interface_rows(&self, _: Instant) -> InterfaceRows {
        InterfaceRows::new()
    }
}

#[cfg(not(feature = "tipc"))]
mod watched {
    use std::io;
    use std::os::fd::RawFd;

    use log::{info, warn};
    use mio::unix::SourceFd;
    use mio::{Interest, Token};

    use super::{Daemon, Instant, InterfaceRows};
    use crate::control::InterfaceRow;
    use crate::daemon::network::{Change, Network, Outage, remedy};
    use crate::daemon::os_error::OsError;
    use crate::daemon::tokens::{LISTENERS, NETWORK};
    use crate::time::Span;
    use crate::types::{InterfaceState, Text};

    impl Daemon<'_> {
        /// Begins to watch the interfaces, and says of each what it is if it is not up.
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
                    self.config.network.interfaces.join(", ")
                );
            }
            for (link, seen) in self.transport.links().iter().enumerate() {
                let (address, index) = (seen.address, seen.index);
                let mut network = Network { address, index, ..Network::new(now) };
                let is_out = network.note(now, seen, false).is_some();
                // There is room for each.
                let _ = self.network.0.push(network);
                if is_out {
                    self.say_interface(link);
                }
            }
        }

        /// Handles what the kernel reports of interfaces.
        #[inline(never)]
        pub(in crate::daemon) fn take_network(&mut self, now: Instant) {
            let Ok(reports) = &self.transport.reports else { return };
            let reported = reports.take(self.transport.links());
            if reported.has_more {
                self.ready.insert(Token(NETWORK));
            }
            if reported.is_news {
                let removed = if reported.is_lossy { u8::MAX } else { reported.removed };
                self.follow_network(now, reported.removed, removed);
            }
        }

        /// Looks at the interfaces, has the sockets follow them, and says what has changed.
        pub(in crate::daemon) fn look_at_network(&mut self, now: Instant) {
            self.follow_network(now, 0, 0);
        }

        /// `removed` are the links whose interface was removed, `doubted` those of which that may be.
        #[inline(never)]
        fn follow_network(&mut self, now: Instant, removed: u8, doubted: u8) {
            let registry = &self.registry;
            let followed = self.transport.follow(doubted, |endpoint| {
                let token = Token(LISTENERS + endpoint.at());
                registry.register(&mut endpoint.listener, token, Interest::READABLE)
            });
            if let Err(error) = followed {
                warn!("the interfaces cannot be looked at: {}", OsError(&error));
                return self.ready.defer(now, Token(NETWORK));
            }
            for link in 0..self.network.0.len() {
                self.note_interface(now, link, removed & (1 << link) != 0);
            }
        }

        fn note_interface(&mut self, now: Instant, link: usize, is_removed: bool) {
            let (seen, name) = (&self.transport.links()[link], &self.config.network.interfaces[link]);
            let Some(change) = self.network.0[link].note(now, seen, is_removed) else { return };
            let address = seen.address;
            match change {
                Change::Out => return self.say_interface(link),
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
        fn say_interface(&self, link: usize) {
            let (name, state) = (&self.config.network.interfaces[link], self.network.0[link].state);
            let words = state.words();
            if let Some(error) = &self.transport.refused[link] {
                return warn!("the interface {name} is {words}: {}", OsError(error));
            }
            let then = match state {
                InterfaceState::SameSubnet => remedy(state).unwrap_or_default(),
                _ if self.network.are_up() => "thimble goes on over the others",
                _ => "thimble takes part again once it is up",
            };
            warn!("the interface {name} is {words}: {then}");
        }

        /// The interfaces, for `status`.
        pub(in crate::daemon) fn interface_rows(&self, now: Instant) -> InterfaceRows {
            let names = self.config.network.interfaces.iter().enumerate();
            let row = |((link, name), of): ((usize, &String), &Network)| {
                let Network { state, address, since, outage, .. } = *of;
                InterfaceRow {
                    name: Text::truncated(name),
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
                    heard: self
                        .paths
                        .heard_by(now, link)
                        .map(|heard| if state == InterfaceState::Up { heard } else { 0 }),
                }
            };
            names.zip(&self.network.0).map(row).collect()
        }
    }
}
