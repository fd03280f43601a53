//! Peers that the configuration lists by name. The loop never waits for the system's resolver: a
//! worker asks it.
//!
//! ```text
//! Due --worker started--> Asking --addresses, or none--> Waiting --pause--> Due
//! ```
//!
//! A name is asked for again after a pause while it has no address, or while no node is heard at
//! the one that it has: it may have moved. The pause doubles up to [`PAUSE_MOST`].

use std::net::Ipv6Addr;

use super::confine;
use crate::config::Config;
use crate::config::peers::{PeerHost, address_of};
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::time::{Duration, Instant};

/// The first pause.
const PAUSE: Duration = Duration::from_secs(5);
/// From one look whether a node is heard at each name's address to the next.
const LOOK: Duration = Duration::from_secs(60);
/// The longest pause.
const PAUSE_MOST: Duration = Duration::from_secs(300);
/// The time for all names together, in seconds: the C library asks for 10 s for each that no
/// server answers for.
const TIME_LIMIT_S: u32 = 60;

/// When the names are resolved.
#[derive(Debug, Default)]
pub struct Names {
    /// `None` while a worker asks, and where there are no names.
    pub due: Option<Instant>,
    pause: Duration,
}

impl Names {
    /// The names are due at once, if there are any.
    #[must_use]
    pub fn new(now: Instant, config: &Config) -> Self {
        let is_name = |host: &PeerHost| matches!(host, PeerHost::Name(_));
        let has_names = config.network.peers.iter().any(|peer| is_name(&peer.host));
        // Over TIPC there are no peers.
        Self { due: (has_names && !cfg!(feature = "tipc")).then_some(now), pause: PAUSE }
    }

    /// The worker has ended, or could not be started. `is_well` if every name has an address at
    /// which a node is heard.
    pub fn on_ended(&mut self, now: Instant, is_well: bool) {
        self.due = Some(now + self.pause);
        self.pause = if is_well { PAUSE } else { self.pause.times(2).min(PAUSE_MOST) };
    }

    /// All is well, so there is nothing to ask for yet.
    pub fn put_off(&mut self, now: Instant) {
        (self.due, self.pause) = (Some(now + LOOK), PAUSE);
    }
}

/// The worker's side: resolves each name, within a time limit.
///
/// # Errors
/// The daemon does not listen, or this process cannot give up its capabilities.
pub fn resolve(config: &Config, reporter: &mut impl Reporter) -> std::io::Result<()> {
    // Its answers come from the network.
    confine::drop_capabilities()?;
    super::sys::end_after(TIME_LIMIT_S);
    for (at, peer) in config.network.peers.iter().enumerate() {
        if let PeerHost::Name(name) = &peer.host {
            let address = address_of(name, &config.network.families).unwrap_or(Ipv6Addr::UNSPECIFIED);
            reporter.report(&Report::Resolved { at: at as u8, address: address.octets() })?;
        }
    }
    reporter.report(&Report::Done)
}
