//! Stream sessions: opened, proven, and then asked, answered or handed over.
//!
//! ```text
//! initiator                                   acceptor
//! connect, send opening     Opening  -------> Opening    send opening
//! keys known, send Open     Proving  <-------
//!                                    -------> Open holds: Proven
//! Open holds: Proven                 <------- send Open (or Busy)
//! ```
//!
//! | purpose | who opens it: its end | who accepts it: its end |
//! |---|---|---|
//! | `QueryDetailed` | controller: asks, here | agent: answers, here |
//! | `Fetch` | agent: its installing worker | controller: a serving worker |
//! | `Pull` | controller: its merging worker | controller: answers, here |
//! | `Blobs` | controller: its fetching worker | controller: a serving worker |
//!
//! Whoever asked ends the session once the answer is whole; a deadline does where it
//! does not. So an end that was sent to the last byte never waits for one that is still
//! being read, as TIPC does for 8 s.
//!
//! What is answered here is in memory. The pool is fixed. A newcomer evicts the
//! oldest accepted session that has not proven itself; one that has is safe
//! until its deadline.

mod slot;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::{Interest, Registry, Token};

use super::buffers::Pool;
use super::transport::Stream;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{ClusterId, NodeId, Reason};
use crate::wire::frame::{DetailPage, Frame, Purpose, Role};
use crate::wire::keys::KeyRing;
use crate::wire::session::{Opening, SessionKeys};
use slot::{Fault, Session, SessionSlot, SessionStage};

/// Sessions that we open, at most: queries, and one each of the other purposes.
const INITIATED_MAX: usize = limits::DETAILED_QUERIES + 3;
/// Sessions that others may hold open here.
const ACCEPTED_MAX: usize = limits::SESSIONS - INITIATED_MAX;

/// An Open as it is sent, at most, in bytes.
const OPEN_BYTES: usize = 64;

/// Who we are, and how patient.
pub struct Context {
    /// Our cluster.
    pub cluster: ClusterId,
    /// Our node id.
    pub node: NodeId,
    /// Our keys.
    pub ring: KeyRing,
    /// Nodes that are refused, whatever they prove.
    pub revoked: heapless::Vec<NodeId, { limits::REVOKED }>,
    /// Until a session must have proven itself.
    pub proof: Duration,
    /// Until a proven session must have moved.
    pub idle: Duration,
}

/// What became of a session, for the loop to act on.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, on its way to a state machine")]
pub enum SessionEvent {
    /// Nothing more for now.
    Quiet,
    /// Our session for a worker is proven: [`Sessions::take`] it.
    Ready(NodeId, Purpose),
    /// The other end has no worker free.
    Busy(NodeId, Purpose, Duration),
    /// A page of an answer to our query.
    Page(NodeId, DetailPage),
    /// The answer to our query is complete.
    End(NodeId),
    /// A session that we opened came to nothing.
    Failed(NodeId, Purpose, Reason),
    /// This node wants a worker's answers: [`Sessions::hand_over`] it to one, or
    /// [`Sessions::send_busy`].
    WantsWorker(NodeId, Purpose),
}

/// How sessions came and went, for `status`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionCounts {
    /// Accepted.
    pub accepted: u64,
    /// Proven, of those accepted.
    pub proven: u64,
    /// Ended for a newcomer, or because there was no place.
    pub evicted: u64,
    /// Ended since they did not prove themselves, or did not go on.
    pub timed_out: u64,
    /// Ended for what the other end sent.
    pub refused: u64,
}

/// The pool.
pub struct Sessions {
    context: Context,
    slots: Vec<SessionSlot>,
    first_token: usize,
    /// How sessions came and went.
    pub counts: SessionCounts,
}

/// What this node answers, from memory, on a session of a purpose: the frame at a
/// position, and the position of the next. The first is at 0; `None` is the end.
pub type Answers<'p> = &'p dyn Fn(Purpose, usize) -> Option<(Frame, usize)>;

impl Sessions {
    /// An empty pool, whose places have the tokens from `first_token` on.
    #[must_use]
    pub fn new(context: Context, first_token: usize, pool: &mut Pool) -> Self {
        let place = |_| SessionSlot::new(pool.take(limits::FRAME_BYTES), pool.take(limits::FRAME_BYTES));
        let places = (0..limits::SESSIONS).map(place).collect();
        Self { context, slots: places, first_token, counts: SessionCounts::default() }
    }

    /// Other keys, nodes that are refused, and times, for sessions that begin from now
    /// on. One that is proven goes on with the keys that it has.
    pub fn reconfigure(
        &mut self,
        ring: Option<&KeyRing>,
        revoked: &heapless::Vec<NodeId, { limits::REVOKED }>,
        proof: Duration,
        idle: Duration,
    ) {
        if let Some(ring) = ring {
            self.context.ring.clone_from(ring);
        }
        self.context.revoked.clone_from(revoked);
        (self.context.proof, self.context.idle) = (proof, idle);
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

    /// Takes a stream that was connected to `peer` as our session.
    ///
    /// # Errors
    /// No place is free, or the stream cannot be registered.
    pub fn initiate(
        &mut self,
        now: Instant,
        registry: &Registry,
        stream: Stream,
        peer: NodeId,
        purpose: Purpose,
    ) -> io::Result<()> {
        let (role, _) = purpose.roles();
        let free = self.slots.iter().position(|place| place.session.is_none());
        let at = free.ok_or(io::ErrorKind::QuotaExceeded)?;
        let mine = self.opening(role)?;
        let session = Session::new(stream, mine, Some((peer, purpose)), now, self.context.proof);
        self.begin(at, registry, session)
    }

    /// Takes a stream that somebody connected to our `role`; evicts an older one
    /// for it if need be.
    pub fn accept(&mut self, now: Instant, registry: &Registry, stream: Stream, role: Role) {
        self.counts.accepted += 1;
        let accepted =
            |place: &SessionSlot| place.session.as_ref().is_some_and(|session| !session.is_initiator);
        if self.slots.iter().filter(|place| accepted(place)).count() >= ACCEPTED_MAX {
            self.counts.evicted += 1;
            if !self.evict_oldest_unproven(registry) {
                return;
            }
        }
        let Some(at) = self.slots.iter().position(|place| place.session.is_none()) else { return };
        let Ok(mine) = self.opening(role) else { return };
        let session = Session::new(stream, mine, None, now, self.context.proof);
        // A stream that cannot be registered is closed, and its other end sees that.
        let _ = self.begin(at, registry, session);
    }

    fn evict_oldest_unproven(&mut self, registry: &Registry) -> bool {
        let unproven = |place: &SessionSlot| {
            let session = place.session.as_ref()?;
            let is_unproven = !matches!(session.stage, SessionStage::Proven(_));
            (is_unproven && !session.is_initiator).then_some(session.since)
        };
        let places = self.slots.iter().enumerate();
        let oldest = places.filter_map(|(at, place)| Some((unproven(place)?, at))).min();
        if let Some((_, at)) = oldest {
            self.close(at, registry);
        }
        oldest.is_some()
    }

    fn close(&mut self, at: usize, registry: &Registry) {
        if let Some(mut session) = self.slots[at].session.take() {
            let _ = registry.deregister(&mut session.stream);
        }
    }

    /// Ends our session to a node, if it is there.
    pub fn disconnect(&mut self, registry: &Registry, node: NodeId, purpose: Purpose) {
        if let Some(at) = self.find_own(node, purpose) {
            self.close(at, registry);
        }
    }

    fn find_own(&self, node: NodeId, purpose: Purpose) -> Option<usize> {
        self.slots.iter().position(|place| {
            place.session.as_ref().is_some_and(|session| {
                session.is_initiator && session.peer == node && session.purpose == Some(purpose)
            })
        })
    }

    /// Takes our proven session out of the pool, for a worker.
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

    /// Says our Open to a node that wants its answers, then has a worker started with
    /// the keys to go on with behind that; the session is the worker's alone. Not the
    /// other way round: the worker may find a request there, and answer it before a busy
    /// loop has said anything.
    ///
    /// # Errors
    /// The worker cannot be started: the session is closed, and the node asks again.
    pub fn hand_over(
        &mut self,
        at: usize,
        registry: &Registry,
        start: impl FnOnce(BorrowedFd<'_>, SessionKeys) -> io::Result<()>,
    ) -> io::Result<()> {
        let place = &mut self.slots[at];
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let open = place.open_frame(&self.context).ok_or_else(gone)?;
        let Some(Session { stream, stage: SessionStage::Proven(keys), .. }) = &mut place.session else {
            return Err(gone());
        };
        let (mut keys, mut bytes) = (keys.clone(), [0; OPEN_BYTES]);
        let len = keys.seal(&open, &mut bytes);
        // So little fits a socket that nothing was written to but an opening; where the
        // other end is gone, the worker sees that.
        let _ = stream.write(&bytes[..len]);
        if let Err(error) = start(stream.as_fd(), keys) {
            self.close(at, registry);
            return Err(error);
        }
        if let Some((stream, _)) = self.take_proven(at, registry) {
            // The worker has it: what is dropped here must not end it.
            drop(OwnedFd::from(stream));
        }
        Ok(())
    }

    /// Tells a node for which there is no worker to come back.
    pub fn send_busy(&mut self, at: usize, retry_after: Duration, registry: &Registry) {
        let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        let place = &mut self.slots[at];
        let told = place.send(Frame::Busy { retry_after_ms });
        if let Some(session) = &mut place.session {
            session.is_closing = true;
        }
        if told.and_then(|()| place.flush()).is_err() {
            self.close(at, registry);
        }
    }

    /// Moves one session on after its socket became ready, as far as one step
    /// goes: call again until it is `Quiet`.
    pub fn turn(
        &mut self,
        now: Instant,
        at: usize,
        registry: &Registry,
        answers: Answers<'_>,
    ) -> SessionEvent {
        let was_proven = self.slots[at].is_proven();
        let step = self.slots[at].step(now, &self.context, answers);
        let Some(session) = &self.slots[at].session else { return SessionEvent::Quiet };
        if !was_proven && !session.is_initiator && self.slots[at].is_proven() {
            self.counts.proven += 1;
        }
        match step {
            Ok(outcome) => {
                if matches!(outcome, SessionEvent::End(_) | SessionEvent::Busy(..)) {
                    self.close(at, registry);
                }
                outcome
            }
            Err(fault) => {
                let failed = match (session.is_initiator, session.purpose) {
                    (true, Some(purpose)) => SessionEvent::Failed(session.peer, purpose, fault.reason()),
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

    /// Ends a session whose deadline is over; what that means is the outcome.
    /// `None` when no more are due.
    pub fn on_timeout(&mut self, now: Instant, registry: &Registry) -> Option<SessionEvent> {
        let is_due =
            |place: &SessionSlot| place.session.as_ref().is_some_and(|session| now >= session.deadline);
        let at = self.slots.iter().position(is_due)?;
        self.counts.timed_out += 1;
        let session = self.slots[at].session.as_ref()?;
        let reason = Reason::truncated("no answer in time");
        let outcome = match (session.is_initiator, session.purpose) {
            (true, Some(purpose)) => SessionEvent::Failed(session.peer, purpose, reason),
            _ => SessionEvent::Quiet,
        };
        self.close(at, registry);
        Some(outcome)
    }

    /// When the first deadline is over.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.slots.iter().filter_map(|place| place.session.as_ref()).map(|session| session.deadline).min()
    }

    /// Sessions open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.iter().filter(|place| place.session.is_some()).count()
    }
}
