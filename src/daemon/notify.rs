//! Notifies the supervisor with the protocol of sd_notify(3): one datagram of
//! `KEY=value` lines to the socket that `NOTIFY_SOCKET` names.
//!
//! The socket does not block and nothing here allocates after start. A datagram that
//! cannot be sent is sent again later (`READY`), or with the next that is due. Without a
//! supervisor nothing here wakes the loop.

use std::fmt;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::sys;
use crate::clock::monotonic_us;
use crate::time::{Duration, Instant};
use crate::types::{Reason, Text};

/// The status line is sent no more often than this.
const STATUS_APART: Duration = Duration::from_secs(1);
/// A datagram that could not be sent is sent again after this.
const RETRY: Duration = Duration::from_millis(100);

/// The state of the node in one line.
pub type StatusLine = Text<128>;

/// The supervisor, if there is one.
#[derive(Default)]
pub struct Notify {
    socket: Option<UnixDatagram>,
    /// The interval of watchdog messages, if it wants any.
    watchdog: Option<Duration>,
    watchdog_due: Instant,
    ready: Ready,
    ready_due: Instant,
    /// The status line that was sent last.
    status: StatusLine,
    /// When it may be sent next.
    status_next: Instant,
    /// The loop has turned since it was sent, so it may have changed.
    has_turned: bool,
}

/// Whether the supervisor knows that the daemon is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ready {
    /// The daemon is not ready yet.
    #[default]
    Starting,
    /// `READY` is still to be sent.
    Unsent,
    /// `READY` was sent.
    Sent,
    /// The configuration is being read anew.
    Reloading,
}

impl Notify {
    /// The supervisor that the environment names, if any. Takes the variables out of the
    /// environment: workers and scripts must not notify in the daemon's name. To be
    /// called before anything else runs.
    #[must_use]
    pub fn from_environment() -> Self {
        let [socket, usec, pid] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].map(sys::take_variable);
        let Some(socket) = socket else { return Self::default() };
        let number = |text: &Option<std::ffi::OsString>| text.as_ref()?.to_str()?.parse::<u64>().ok();
        let is_ours = pid.is_none() || number(&pid) == Some(u64::from(std::process::id()));
        let usec = number(&usec).filter(|usec| is_ours && *usec > 0);
        Self {
            socket: connect(socket.as_bytes()),
            watchdog: usec.map(|usec| Duration::from_millis((usec / 2_000).max(1))),
            ..Self::default()
        }
    }

    /// Whether there is a supervisor to notify.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Sends a datagram. False if that failed; true without a supervisor.
    fn send(&self, message: fmt::Arguments<'_>) -> bool {
        let Some(socket) = &self.socket else { return true };
        let mut text = heapless::String::<512>::new();
        fmt::write(&mut text, message).is_ok() && socket.send(text.as_bytes()).is_ok()
    }

    /// The daemon is ready.
    pub fn ready(&mut self) {
        if self.ready == Ready::Starting {
            self.ready = Ready::Unsent;
        }
    }

    /// The configuration is being read anew.
    pub fn reloading(&mut self) {
        if matches!(self.ready, Ready::Sent | Ready::Reloading) {
            self.send(format_args!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_us()));
            self.ready = Ready::Reloading;
        }
    }

    /// The configuration was read anew, or cannot be.
    pub fn reloaded(&mut self) {
        if self.ready == Ready::Reloading {
            self.ready = Ready::Unsent;
        }
    }

    /// The daemon ends: by request, or for this reason.
    pub fn stopping(&self, reason: Option<&Reason>) {
        match reason {
            Some(reason) => self.send(format_args!("STOPPING=1\nSTATUS={reason}")),
            None => self.send(format_args!("STOPPING=1\nSTATUS=ending")),
        };
    }

    /// Sends what is due; `status` makes the status line. Does nothing if nothing is due.
    pub fn on_turn(&mut self, now: Instant, status: impl FnOnce() -> StatusLine) {
        if let Some(every) = self.watchdog.filter(|_| now >= self.watchdog_due) {
            let is_sent = match self.ready {
                // The watchdog does not run during a start, but the start has a timeout.
                Ready::Starting => {
                    let usec = every.as_millis().saturating_mul(2_000);
                    self.send(format_args!("WATCHDOG=1\nEXTEND_TIMEOUT_USEC={usec}"))
                }
                _ => self.send(format_args!("WATCHDOG=1")),
            };
            self.watchdog_due = now + if is_sent { every } else { RETRY.min(every) };
        }
        if self.ready == Ready::Unsent && now >= self.ready_due {
            let is_sent = self.send(format_args!("READY=1"));
            self.ready = if is_sent { Ready::Sent } else { Ready::Unsent };
            self.ready_due = now + RETRY;
        }
        self.has_turned = now < self.status_next;
        if !self.has_turned {
            self.status_next = now + STATUS_APART;
            let status = status();
            if status != self.status && self.send(format_args!("STATUS={status}")) {
                self.status = status;
            }
        }
    }

    /// When something is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.socket.as_ref()?;
        Instant::earliest([
            self.watchdog.map(|_| self.watchdog_due),
            (self.ready == Ready::Unsent).then_some(self.ready_due),
            self.has_turned.then_some(self.status_next),
        ])
    }
}

/// A socket connected to this address: a path, or an abstract name after `@`.
fn connect(name: &[u8]) -> Option<UnixDatagram> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect_addr(&address.ok()?).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// The supervisor's end of a socket pair, and a `Notify` with a watchdog of 40 ms.
    fn pair() -> (UnixDatagram, Notify) {
        let (supervisor, ours) = UnixDatagram::pair().unwrap();
        supervisor.set_nonblocking(true).unwrap();
        ours.set_nonblocking(true).unwrap();
        let watchdog = Some(Duration::from_millis(20));
        (supervisor, Notify { socket: Some(ours), watchdog, ..Notify::default() })
    }

    fn received(supervisor: &UnixDatagram) -> Vec<String> {
        let mut bytes = [0; 512];
        std::iter::from_fn(|| {
            let len = supervisor.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
        })
        .collect()
    }

    #[test]
    fn ready_is_sent_once_and_watchdog_messages_in_time() {
        let (supervisor, mut notify) = pair();
        notify.status = StatusLine::truncated("fine");
        let mut turn = |now, is_ready: bool| {
            if is_ready {
                notify.ready();
            }
            notify.on_turn(at(now), || StatusLine::truncated("fine"));
            received(&supervisor)
        };
        let extended = "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=40000";
        assert_eq!(turn(1, false), [extended], "not ready yet, but alive");
        assert_eq!(turn(20, false), [""; 0]);
        assert_eq!(turn(21, false), [extended]);
        assert_eq!(turn(22, true), ["READY=1"]);
        assert_eq!(turn(40, true), [""; 0], "it is sent once");
        assert_eq!(turn(41, true), ["WATCHDOG=1"]);
    }

    #[test]
    fn the_status_is_sent_when_it_changes_and_once_a_second_at_most() {
        let (supervisor, mut notify) = pair();
        notify.watchdog = None;
        let mut turn = |now, line| {
            notify.on_turn(at(now), || StatusLine::truncated(line));
            (received(&supervisor), notify.poll_at())
        };
        assert_eq!(turn(5_000, "a"), (vec!["STATUS=a".to_owned()], None));
        assert_eq!(turn(5_500, "b"), (vec![], Some(at(6_000))), "it is due at 6,000");
        assert_eq!(turn(6_000, "b"), (vec!["STATUS=b".to_owned()], None), "and does not wake the loop again");
        assert_eq!(turn(9_000, "b"), (vec![], None));
    }

    #[test]
    fn ready_is_sent_again_to_a_supervisor_that_does_not_read() {
        let (supervisor, mut notify) = pair();
        notify.watchdog = None;
        while notify.send(format_args!("FILL=1")) {}
        notify.ready();
        notify.on_turn(at(1), || StatusLine::truncated("a"));
        assert_eq!(notify.poll_at(), Some(at(101)));
        assert!(received(&supervisor).iter().all(|line| line == "FILL=1"));
        notify.on_turn(at(101), || StatusLine::truncated("a"));
        assert_eq!(received(&supervisor), ["READY=1"]);
    }

    #[test]
    fn a_reload_is_announced_with_its_time_and_its_end() {
        let (supervisor, mut notify) = pair();
        notify.watchdog = None;
        notify.reloading();
        assert_eq!(received(&supervisor), [""; 0], "not before the daemon is ready");
        notify.ready();
        notify.on_turn(at(1_000), || StatusLine::truncated("a"));
        notify.reloading();
        notify.reloaded();
        notify.on_turn(at(1_100), || StatusLine::truncated("a"));
        let lines = received(&supervisor);
        assert_eq!(lines[..2], ["READY=1", "STATUS=a"]);
        assert!(lines[2].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{lines:?}");
        assert_eq!(lines[3..], ["READY=1"]);
    }
}
