//! Stream sessions: opened, authenticated, and then used by the loop or handed to a worker.
//!
//! ```text
//! initiator                                   acceptor
//! connect, send opening     Opening  -------> Opening    send opening
//! derive keys, send Open    Proving  <-------
//!                                    -------> Open is valid: Proven
//! Open is valid: Proven              <------- send Open (or Busy)
//! ```
//!
//! | purpose | initiator, run by | acceptor, run by |
//! |---|---|---|
//! | `QueryDetailed` | controller: the loop | agent: the loop |
//! | `Fetch` | agent: the installing worker | controller: a serving worker |
//! | `Pull` | controller: the merging worker | controller: the loop |
//! | `Blobs` | controller: the fetching worker | controller: a serving worker |
//!
//! The side that requested closes the session once the answer is complete; if it does
//! not, the other side closes it at a deadline. So no side closes a connection while
//! the peer still reads from it, for which a close over TIPC would wait up to 8 s.
//!
//! The loop only answers from memory. The pool has a fixed size; [`share`] says who gives
//! up a place to a new connection. An authenticated session stays until its deadline, of
//! which there are two: one for each pause, and one for the whole session.

mod share;
mod slot;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::{Interest, Registry, Token};

use super::buffers::Pool;
use super::transport::{self, Door, Stream};
use crate::fsm::actions::Peer;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{ClusterId, NodeId, Reason};
use crate::wire::frame::{DetailPage, Frame, Purpose, Role};
use crate::wire::keys::KeyRing;
use crate::wire::session::{Opening, SessionKeys};
use slot::{Fault, Session, SessionSlot, SessionStage};

/// The most sessions that we initiate: queries, and one each of the other purposes.
const INITIATED_MAX: usize = limits::DETAILED_QUERIES + 3;
/// The most sessions that are accepted.
const ACCEPTED_MAX: usize = limits::SESSIONS - INITIATED_MAX;

/// The largest sealed Open frame, in bytes.
const OPEN_BYTES: usize = 64;

/// Our identity and keys, and the timeouts.
pub struct Context {
    /// Our cluster.
    pub cluster: ClusterId,
    /// Our node id.
    pub node: NodeId,
    /// Our keys.
    pub ring: KeyRing,
    /// Nodes that are refused even with a valid key.
    pub revoked: heapless::Vec<NodeId, { limits::REVOKED }>,
    /// How long each step may take until a session is authenticated: to connect, the
    /// opening, the proof.
    pub step: Duration,
    /// How long an authenticated session may make no progress.
    pub idle: Duration,
}

/// An event of a session, for the loop to act on.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time, passed to a state machine")]
pub enum SessionEvent {
    /// Nothing happened; wait for the socket.
    Quiet,
    /// Our session for a worker is authenticated: [`Sessions::take`] it.
    Ready(NodeId, Purpose),
    /// The peer has no free worker; retry after this time.
    Busy(NodeId, Purpose, Duration),
    /// A page of an answer to our query.
    Page(NodeId, DetailPage),
    /// The answer to our query is complete.
    End(NodeId),
    /// A session that we initiated failed.
    Failed(NodeId, Purpose, Reason),
    /// This node's requests need a worker: [`Sessions::hand_over`] the session to one, or
    /// [`Sessions::send_busy`].
    WantsWorker(NodeId, Purpose),
}

/// Counters of sessions, for `status`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionCounts {
    /// Accepted.
    pub accepted: u64,
    /// Accepted and authenticated.
    pub proven: u64,
    /// Closed in favour of a new connection, or not accepted because the pool was full.
    pub evicted: u64,
    /// Closed because authentication or progress took too long.
    pub timed_out: u64,
    /// Closed because of what the peer sent.
    pub refused: u64,
}

/// The pool of sessions.
pub struct Sessions {
    context: Context,
    slots: Vec<SessionSlot>,
    first_token: usize,
    /// Counters of sessions.
    pub counts: SessionCounts,
}

/// This node's answer on a session of a purpose: the frame at a position, and the
/// position of the next frame. The first frame is at 0; `None` ends the answer.
pub type Answers<'p> = &'p dyn Fn(Purpose, usize) -> Option<(Frame, usize)>;

impl Sessions {
    /// An empty pool. Its slots have the tokens from `first_token` on.
    #[must_use]
    pub fn new(context: Context, first_token: usize, pool: &mut Pool) -> Self {
        let slot = |_| SessionSlot::new(pool.take(limits::FRAME_BYTES), pool.take(limits::FRAME_BYTES));
        let slots = (0..limits::SESSIONS).map(slot).collect();
        Self { context, slots, first_token, counts: SessionCounts::default() }
    }

    /// Sets new keys, revoked nodes and timeouts for later sessions. An authenticated
    /// session keeps the keys that it has.
    pub fn reconfigure(
        &mut self,
        ring: Option<&KeyRing>,
        revoked: &heapless::Vec<NodeId, { limits::REVOKED }>,
        step: Duration,
        idle: Duration,
    ) {
        if let Some(ring) = ring {
            self.context.ring.clone_from(ring);
        }
        self.context.revoked.clone_from(revoked);
        (self.context.step, self.context.idle) = (step, idle);
    }

    fn opening(&self, role: Role) -> io::Result<Opening> {
        let mut nonce = [0; 32];
        super::sys::random(&mut nonce)?;
        let Context { cluster, node, ring, .. } = &self.context;
        Ok(Opening { key_slot: ring.send_slot(), role, cluster: *cluster, node: *node, nonce })
    }

    fn begin(&mut self, at: usize, registry: &Registry, mut session: Session) -> io::Result<()> {
        let token = Token(self.first_token + at);
        registry.register(&mut session.stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.slots[at].begin(session);
        Ok(())
    }

    /// Starts our session with `peer` on a stream that is connected or connecting to it, at the
    /// address `to`.
    ///
    /// # Errors
    /// No slot is free, or the stream cannot be registered.
    pub fn initiate(
        &mut self,
        now: Instant,
        registry: &Registry,
        stream: Stream,
        (peer, to): (NodeId, Peer),
        purpose: Purpose,
    ) -> io::Result<()> {
        let (role, _) = purpose.roles();
        let free = self.slots.iter().position(|slot| slot.session.is_none());
        let at = free.ok_or(io::ErrorKind::QuotaExceeded)?;
        let own_opening = self.opening(role)?;
        let target = Some((peer, purpose));
        let session =
            Session { to: Some(to), ..Session::new(stream, own_opening, target, now, self.context.step) };
        self.begin(at, registry, session)
    }

    /// Starts a session on a stream that was accepted by our `role`. If too many are
    /// open, closes one that gives up its place, or this one; see [`share`].
    pub fn accept(&mut self, now: Instant, registry: &Registry, stream: Stream, role: Role) {
        self.counts.accepted += 1;
        if self.accepted().count() >= ACCEPTED_MAX {
            self.counts.evicted += 1;
            let Some(at) = self.dispensable() else { return };
            self.close(at, registry);
        }
        let Some(at) = self.slots.iter().position(|slot| slot.session.is_none()) else { return };
        let Ok(own_opening) = self.opening(role) else { return };
        let origin = transport::origin(&stream);
        let session = Session { origin, ..Session::new(stream, own_opening, None, now, self.context.step) };
        // A stream that cannot be registered is closed, which the peer sees.
        let _ = self.begin(at, registry, session);
    }

    fn close(&mut self, at: usize, registry: &Registry) {
        if let Some(mut session) = self.slots[at].session.take() {
            let _ = registry.deregister(&mut session.stream);
        }
    }

    /// Closes our session with a node, if there is one.
    pub fn disconnect(&mut self, registry: &Registry, node: NodeId, purpose: Purpose) {
        if let Some(at) = self.find_own(node, purpose) {
            self.close(at, registry);
        }
    }

    fn find_own(&self, node: NodeId, purpose: Purpose) -> Option<usize> {
        self.slots.iter().position(|slot| {
            slot.session.as_ref().is_some_and(|session| {
                session.is_initiator && session.peer == node && session.purpose == Some(purpose)
            })
        })
    }

    /// Removes our authenticated session from the pool, to hand it to a worker.
    pub fn take(
        &mut self,
        registry: &Registry,
        node: NodeId,
        purpose: Purpose,
    ) -> Option<(OwnedFd, SessionKeys)> {
        let at = self.find_own(node, purpose)?;
        let (stream, keys) = self.take_proven(at, registry)?;
        Some((stream.into(), keys))
    }

    fn take_proven(&mut self, at: usize, registry: &Registry) -> Option<(Stream, SessionKeys)> {
        let mut session = self.slots[at].session.take()?;
        let _ = registry.deregister(&mut session.stream);
        match session.stage {
            SessionStage::Proven(keys) => Some((session.stream, keys)),
            SessionStage::Opening | SessionStage::Proving(_) => None,
        }
    }

    /// Hands an accepted session to a worker. Sends our Open, then calls `start` to start
    /// the worker with the stream and the keys as they are after that Open, and drops the
    /// session here. The Open must be sent first: the worker may find a request on the
    /// stream and answer it before the loop gets to run again.
    ///
    /// # Errors
    /// The worker cannot be started. The session is closed, and the node retries.
    pub fn hand_over(
        &mut self,
        at: usize,
        registry: &Registry,
        start: impl FnOnce(BorrowedFd<'_>, SessionKeys) -> io::Result<()>,
    ) -> io::Result<()> {
        let slot = &mut self.slots[at];
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let open = slot.open_frame(&self.context).ok_or_else(gone)?;
        let Some(Session { stream, stage: SessionStage::Proven(keys), .. }) = &mut slot.session else {
            return Err(gone());
        };
        let (mut keys, mut bytes) = (keys.clone(), [0; OPEN_BYTES]);
        let len = keys.seal(&open, &mut bytes);
        // The socket has room for this: only an opening was written to it. If the peer is
        // gone, the worker sees that.
        let _ = stream.write(&bytes[..len]);
        if let Err(error) = start(stream.as_fd(), keys) {
            self.close(at, registry);
            return Err(error);
        }
        if let Some((stream, _)) = self.take_proven(at, registry) {
            // The worker has a duplicate. Drop the bare descriptor: dropping a `Stream`
            // would shut the connection down.
            drop(OwnedFd::from(stream));
        }
        Ok(())
    }

    /// Tells a node for which no worker is free to retry later. The session gives up its
    /// place to whoever needs it, and is closed soon if the peer does not close it.
    pub fn send_busy(&mut self, now: Instant, at: usize, retry_after: Duration, registry: &Registry) {
        let closes_at = now + self.context.step;
        let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        let slot = &mut self.slots[at];
        let sent = slot.send(Frame::Busy { retry_after_ms });
        if let Some(session) = &mut slot.session {
            (session.is_closing, session.is_turned_away) = (true, true);
            session.deadline = session.deadline.min(closes_at);
        }
        if sent.and_then(|()| slot.flush()).is_err() {
            self.close(at, registry);
        }
    }

    /// Advances one session after its socket became ready, up to its next event. Call it
    /// again until it returns `Quiet`.
    pub fn turn(
        &mut self,
        now: Instant,
        at: usize,
        registry: &Registry,
        answers: Answers<'_>,
    ) -> SessionEvent {
        let was_proven = self.slots[at].is_proven();
        let step = self.slots[at].step(now, &self.context, answers);
        let is_accepted = self.slots[at].session.as_ref().is_some_and(|session| !session.is_initiator);
        if !was_proven && is_accepted && self.slots[at].is_proven() {
            self.counts.proven += 1;
            if let Some(earlier) = self.earlier_of_same(at) {
                self.counts.evicted += 1;
                self.close(earlier, registry);
            }
        }
        let Some(session) = &self.slots[at].session else { return SessionEvent::Quiet };
        match step {
            Ok(outcome) => {
                if matches!(outcome, SessionEvent::End(_) | SessionEvent::Busy(..)) {
                    self.close(at, registry);
                }
                outcome
            }
            Err(fault) => {
                let failed = match (session.is_initiator, session.purpose) {
                    (true, Some(purpose)) => {
                        let reason = match self.slots[at].connecting_to() {
                            Some(to) => Reason::format(format_args!("{}: {}", Door(to), fault.reason())),
                            None => fault.reason(),
                        };
                        SessionEvent::Failed(session.peer, purpose, reason)
                    }
                    _ => SessionEvent::Quiet,
                };
                if !matches!(fault, Fault::Io(_)) {
                    self.counts.refused += 1;
                }
                self.close(at, registry);
                failed
            }
        }
    }

    /// Closes one session whose deadline has passed, and returns its event. `None` if
    /// no session is due.
    pub fn on_timeout(&mut self, now: Instant, registry: &Registry) -> Option<SessionEvent> {
        let is_due =
            |slot: &SessionSlot| slot.session.as_ref().is_some_and(|session| now >= session.deadline);
        let at = self.slots.iter().position(is_due)?;
        self.counts.timed_out += 1;
        let session = self.slots[at].session.as_ref()?;
        let reason = match self.slots[at].connecting_to() {
            Some(to) => {
                Reason::format(format_args!("{} does not answer: is it open for this node?", Door(to)))
            }
            None => Reason::truncated("no answer in time"),
        };
        let outcome = match (session.is_initiator, session.purpose) {
            (true, Some(purpose)) => SessionEvent::Failed(session.peer, purpose, reason),
            _ => SessionEvent::Quiet,
        };
        self.close(at, registry);
        Some(outcome)
    }

    /// The earliest deadline.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.slots.iter().filter_map(|slot| slot.session.as_ref()).map(|session| session.deadline).min()
    }

    /// The number of open sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.iter().filter(|slot| slot.session.is_some()).count()
    }
}
