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
//! A proven session asks or answers a detailed query here, in the loop; one that
//! fetches is handed over, the agent's end to its installing worker and the
//! controller's to a serving one. The pool is fixed. A newcomer evicts the
//! oldest accepted session that has not proven itself; one that has is safe
//! until its deadline.

use std::io::{self, Read, Write};

use mio::{Interest, Registry, Token};

use super::transport::Stream;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{ClusterId, NodeId, Reason};
use crate::wire::frame::{DetailPage, Frame, Purpose, Role};
use crate::wire::keys::KeyRing;
use crate::wire::session::{OPENING_BYTES, Opening, SessionKeys};

/// Sessions that others may hold open here: the rest is for our own.
const ACCEPTED_MOST: usize = limits::SESSIONS - limits::DETAILED_QUERIES - 1;

/// Who we are, and how patient.
pub struct Context {
    /// Our cluster.
    pub cluster: ClusterId,
    /// Our node id.
    pub node: NodeId,
    /// Our keys.
    pub ring: KeyRing,
    /// Until a session must have proven itself.
    pub proof: Duration,
    /// Until a proven session must have moved.
    pub idle: Duration,
}

/// What became of a session, for the loop to act on.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, on its way to a state machine")]
pub enum Outcome {
    /// Nothing more for now.
    Quiet,
    /// Our session to fetch is proven: [`Sessions::take`] it.
    Ready(NodeId),
    /// The other end has no worker free.
    Busy(NodeId, Purpose, Duration),
    /// A page of an answer to our query.
    Page(NodeId, DetailPage),
    /// The answer to our query is complete.
    End(NodeId),
    /// A session that we opened came to nothing.
    Failed(NodeId, Purpose, Reason),
    /// An agent wants to fetch: [`Sessions::hand_over`] it to a worker, or
    /// [`Sessions::turn_away`].
    WantsWorker,
}

enum Stage {
    Opening,
    Proving(SessionKeys),
    Proven(SessionKeys),
}

struct Session {
    stream: Stream,
    is_initiator: bool,
    /// Whom we called, or who proved itself.
    peer: NodeId,
    purpose: Option<Purpose>,
    mine: Opening,
    stage: Stage,
    since: Instant,
    deadline: Instant,
    /// Serving a detailed query: the next patch to tell of.
    page_from: Option<usize>,
    /// Ends once all is sent.
    is_closing: bool,
}

/// A place in the pool: a session and its buffers.
struct Place {
    session: Option<Session>,
    received: Box<[u8; limits::FRAME_BYTES]>,
    received_len: usize,
    to_send: Box<[u8; limits::FRAME_BYTES]>,
    to_send_len: usize,
    sent_len: usize,
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
    places: Vec<Place>,
    first_token: usize,
    /// How sessions came and went.
    pub counts: SessionCounts,
}

/// Serves pages of the installed snapshot: an agent's answer to a detailed query.
pub type Pages<'p> = &'p dyn Fn(usize) -> Option<DetailPage>;

impl Sessions {
    /// An empty pool, whose places have the tokens from `first_token` on.
    #[must_use]
    pub fn new(context: Context, first_token: usize) -> Self {
        let place = || Place {
            session: None,
            received: Box::new([0; limits::FRAME_BYTES]),
            received_len: 0,
            to_send: Box::new([0; limits::FRAME_BYTES]),
            to_send_len: 0,
            sent_len: 0,
        };
        let places = std::iter::repeat_with(place).take(limits::SESSIONS).collect();
        Self { context, places, first_token, counts: SessionCounts::default() }
    }

    fn opening(&self, role: Role) -> io::Result<Opening> {
        let mut nonce = [0; 32];
        super::sys::random(&mut nonce)?;
        let Context { cluster, node, ring, .. } = &self.context;
        Ok(Opening { key_slot: ring.send_slot(), role, cluster: *cluster, node: *node, nonce })
    }

    fn begin(
        &mut self,
        at: usize,
        registry: &Registry,
        mut stream: Stream,
        mine: Opening,
        session: impl FnOnce(Stream) -> Session,
    ) -> io::Result<()> {
        let token = Token(self.first_token + at);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let place = &mut self.places[at];
        (place.received_len, place.sent_len, place.to_send_len) = (0, 0, OPENING_BYTES);
        place.to_send[..OPENING_BYTES].copy_from_slice(&mine.emit());
        place.session = Some(session(stream));
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
        let (role, _) = roles(purpose);
        let free = self.places.iter().position(|place| place.session.is_none());
        let at = free.ok_or(io::ErrorKind::QuotaExceeded)?;
        let mine = self.opening(role)?;
        let deadline = now + self.context.proof;
        self.begin(at, registry, stream, mine, |stream| Session {
            stream,
            is_initiator: true,
            peer,
            purpose: Some(purpose),
            mine,
            stage: Stage::Opening,
            since: now,
            deadline,
            page_from: None,
            is_closing: false,
        })
    }

    /// Takes a stream that somebody connected to our `role`; evicts an older one
    /// for it if need be.
    pub fn accept(&mut self, now: Instant, registry: &Registry, stream: Stream, role: Role) {
        self.counts.accepted += 1;
        let accepted = |place: &Place| place.session.as_ref().is_some_and(|session| !session.is_initiator);
        if self.places.iter().filter(|place| accepted(place)).count() >= ACCEPTED_MOST {
            self.counts.evicted += 1;
            if !self.evict_oldest_unproven(registry) {
                return;
            }
        }
        let Some(at) = self.places.iter().position(|place| place.session.is_none()) else { return };
        let Ok(mine) = self.opening(role) else { return };
        let deadline = now + self.context.proof;
        // A stream that cannot be registered is closed, and its other end sees that.
        let _ = self.begin(at, registry, stream, mine, |stream| Session {
            stream,
            is_initiator: false,
            peer: NodeId(0),
            purpose: None,
            mine,
            stage: Stage::Opening,
            since: now,
            deadline,
            page_from: None,
            is_closing: false,
        });
    }

    fn evict_oldest_unproven(&mut self, registry: &Registry) -> bool {
        let unproven = |place: &Place| {
            let session = place.session.as_ref()?;
            let is_unproven = !matches!(session.stage, Stage::Proven(_));
            (is_unproven && !session.is_initiator).then_some(session.since)
        };
        let places = self.places.iter().enumerate();
        let oldest = places.filter_map(|(at, place)| Some((unproven(place)?, at))).min();
        if let Some((_, at)) = oldest {
            self.close(at, registry);
        }
        oldest.is_some()
    }

    fn close(&mut self, at: usize, registry: &Registry) {
        if let Some(mut session) = self.places[at].session.take() {
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
        self.places.iter().position(|place| {
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
    ) -> Option<(Stream, SessionKeys)> {
        let at = self.find_own(node, purpose)?;
        self.take_proven(at, registry)
    }

    fn take_proven(&mut self, at: usize, registry: &Registry) -> Option<(Stream, SessionKeys)> {
        let mut session = self.places[at].session.take()?;
        let _ = registry.deregister(&mut session.stream);
        match session.stage {
            Stage::Proven(keys) => Some((session.stream, keys)),
            Stage::Opening | Stage::Proving(_) => None,
        }
    }

    /// Says Open to an agent that wants to fetch, and takes the session out of
    /// the pool, for a worker. `None` where the other end is gone.
    pub fn hand_over(&mut self, at: usize, registry: &Registry) -> Option<(Stream, SessionKeys)> {
        let said = self.send_open(at).and_then(|()| self.flush(at));
        if said.is_err() || self.places[at].to_send_len > 0 {
            // The other end is gone, or 100 bytes do not fit an empty socket buffer.
            self.close(at, registry);
            return None;
        }
        self.take_proven(at, registry)
    }

    /// Tells an agent that wants to fetch to come back.
    pub fn turn_away(&mut self, at: usize, retry_after: Duration, registry: &Registry) {
        let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        let told = self.send(at, &Frame::Busy { retry_after_ms });
        if let Some(session) = &mut self.places[at].session {
            session.is_closing = true;
        }
        if told.and_then(|()| self.flush(at)).is_err() {
            self.close(at, registry);
        } else {
            self.close_if_done(at, registry);
        }
    }

    /// Moves one session on after its socket became ready, as far as one step
    /// goes: call again until it is `Quiet`. `pages` serves detailed queries.
    pub fn turn(&mut self, now: Instant, at: usize, registry: &Registry, pages: Pages<'_>) -> Outcome {
        let step = self.step(now, at, pages);
        let Some(session) = &self.places[at].session else { return Outcome::Quiet };
        match step {
            Ok(Outcome::Quiet) => {
                self.close_if_done(at, registry);
                Outcome::Quiet
            }
            Ok(outcome) => {
                if matches!(outcome, Outcome::End(_) | Outcome::Busy(..)) {
                    self.close(at, registry);
                }
                outcome
            }
            Err(fault) => {
                let failed = match (session.is_initiator, session.purpose) {
                    (true, Some(purpose)) => Outcome::Failed(session.peer, purpose, fault.reason()),
                    _ => Outcome::Quiet,
                };
                if !matches!(fault, Fault::Io(_)) {
                    self.counts.refused += 1;
                }
                self.close(at, registry);
                failed
            }
        }
    }

    fn step(&mut self, now: Instant, at: usize, pages: Pages<'_>) -> Result<Outcome, Fault> {
        loop {
            self.flush(at)?;
            if let Some(page_from) = self.places[at].session.as_ref().and_then(|s| s.page_from)
                && self.places[at].to_send_len == 0
            {
                self.serve_page(at, page_from, pages)?;
                continue;
            }
            if self.places[at].to_send_len > 0 {
                return Ok(Outcome::Quiet);
            }
            match self.take_in(now, at)? {
                Taken::Some => {}
                Taken::Tell(outcome) => return Ok(outcome),
                Taken::Nothing if self.fill(at)? => {}
                Taken::Nothing => return Ok(Outcome::Quiet),
            }
        }
    }

    /// Acts on what has been received, if it is whole.
    fn take_in(&mut self, now: Instant, at: usize) -> Result<Taken, Fault> {
        let idle = self.context.idle;
        let place = &mut self.places[at];
        let Some(session) = &mut place.session else { return Ok(Taken::Nothing) };
        if session.is_closing {
            return Ok(Taken::Nothing);
        }
        let received = &place.received[..place.received_len];
        match &mut session.stage {
            Stage::Opening => {
                let Some(bytes) = received.first_chunk::<OPENING_BYTES>() else { return Ok(Taken::Nothing) };
                let theirs = Opening::parse(bytes)?;
                if session.is_initiator && theirs.node != session.peer {
                    return Err(Fault::Refused("another node answers there"));
                }
                let keys =
                    SessionKeys::derive(&self.context.ring, &session.mine, &theirs, session.is_initiator)?;
                session.peer = theirs.node;
                session.stage = Stage::Proving(keys);
                let is_initiator = session.is_initiator;
                self.consume(at, OPENING_BYTES);
                if is_initiator {
                    self.send_open(at)?;
                }
                Ok(Taken::Some)
            }
            Stage::Proving(keys) | Stage::Proven(keys) => {
                let Some((frame, used)) = keys.open(received)? else { return Ok(Taken::Nothing) };
                session.deadline = now + idle;
                self.consume(at, used);
                self.on_frame(at, frame)
            }
        }
    }

    fn on_frame(&mut self, at: usize, frame: Frame) -> Result<Taken, Fault> {
        let own = self.context.node;
        let Some(session) = &mut self.places[at].session else { return Ok(Taken::Nothing) };
        let peer = session.peer;
        let is_proven = matches!(session.stage, Stage::Proven(_));
        match (frame, session.is_initiator, is_proven) {
            (Frame::Open { role, node, peer: meant, purpose }, is_initiator, false) => {
                let (initiator, acceptor) = roles(purpose);
                let (ours, theirs) = if is_initiator { (initiator, acceptor) } else { (acceptor, initiator) };
                let is_for_us = meant == own && node == peer && role == theirs && session.mine.role == ours;
                if !is_for_us || session.purpose.is_some_and(|expected| expected != purpose) {
                    return Err(Fault::Refused("the session is not for this node, or not for this"));
                }
                session.purpose = Some(purpose);
                session.stage = match std::mem::replace(&mut session.stage, Stage::Opening) {
                    Stage::Proving(keys) => Stage::Proven(keys),
                    other => other,
                };
                self.on_proven(at, peer, purpose, is_initiator)
            }
            (Frame::Busy { retry_after_ms }, true, false) => {
                let pause = Duration::from_millis(u64::from(retry_after_ms));
                let purpose = session.purpose.unwrap_or(Purpose::Fetch);
                Ok(Taken::Tell(Outcome::Busy(peer, purpose, pause)))
            }
            (Frame::QueryDetailed, false, true) if session.page_from.is_none() => {
                session.page_from = Some(0);
                Ok(Taken::Some)
            }
            (Frame::QueryDetailedResp(page), true, true) => Ok(Taken::Tell(Outcome::Page(peer, page))),
            (Frame::End, true, true) => Ok(Taken::Tell(Outcome::End(peer))),
            _ => Err(Fault::Refused("a frame that has no place there")),
        }
    }

    fn on_proven(
        &mut self,
        at: usize,
        peer: NodeId,
        purpose: Purpose,
        is_initiator: bool,
    ) -> Result<Taken, Fault> {
        if !is_initiator {
            self.counts.proven += 1;
        }
        match (purpose, is_initiator) {
            (Purpose::Fetch, true) => Ok(Taken::Tell(Outcome::Ready(peer))),
            (Purpose::Fetch, false) => Ok(Taken::Tell(Outcome::WantsWorker)),
            (Purpose::QueryDetailed, true) => self.send(at, &Frame::QueryDetailed).map(|()| Taken::Some),
            (Purpose::QueryDetailed, false) => self.send_open(at).map(|()| Taken::Some),
        }
    }

    /// One page of our snapshot, or the end of it.
    fn serve_page(&mut self, at: usize, from: usize, pages: Pages<'_>) -> Result<(), Fault> {
        let page = pages(from);
        let next = page.as_ref().map(|page| from + page.installed.len().max(1));
        let frame = page.map_or(Frame::End, Frame::QueryDetailedResp);
        if let Some(session) = &mut self.places[at].session {
            session.page_from = next;
            session.is_closing = next.is_none();
        }
        self.send(at, &frame)
    }

    fn send_open(&mut self, at: usize) -> Result<(), Fault> {
        let session = self.places[at].session.as_ref().ok_or(Fault::Refused("no session"))?;
        let purpose = session.purpose.ok_or(Fault::Refused("no purpose"))?;
        let (role, node) = (session.mine.role, self.context.node);
        self.send(at, &Frame::Open { role, node, peer: session.peer, purpose })
    }

    /// Seals a frame behind what is still to be sent.
    fn send(&mut self, at: usize, frame: &Frame) -> Result<(), Fault> {
        let place = &mut self.places[at];
        let Some(session) = &mut place.session else { return Ok(()) };
        let (Stage::Proving(keys) | Stage::Proven(keys)) = &mut session.stage else {
            return Err(Fault::Refused("no keys yet"));
        };
        let sealed = keys.seal(frame, &mut place.to_send[place.to_send_len..]);
        if sealed == 0 {
            return Err(Fault::Refused("no room to answer"));
        }
        place.to_send_len += sealed;
        Ok(())
    }

    fn flush(&mut self, at: usize) -> Result<(), Fault> {
        let place = &mut self.places[at];
        let Some(session) = &mut place.session else { return Ok(()) };
        while place.sent_len < place.to_send_len {
            match session.stream.write(&place.to_send[place.sent_len..place.to_send_len]) {
                Ok(sent) => place.sent_len += sent,
                Err(error) if is_not_yet(&error) => return Ok(()),
                Err(error) => return Err(Fault::Io(error.kind())),
            }
        }
        (place.sent_len, place.to_send_len) = (0, 0);
        Ok(())
    }

    /// Reads once; false where there is nothing to read now.
    fn fill(&mut self, at: usize) -> Result<bool, Fault> {
        let place = &mut self.places[at];
        let Some(session) = &mut place.session else { return Ok(false) };
        // A session that waits to be taken, or has said its last, reads no more.
        let fetches = matches!(session.stage, Stage::Proven(_)) && session.purpose == Some(Purpose::Fetch);
        if fetches || session.is_closing {
            return Ok(false);
        }
        // What is read must not outrun the frame at hand: the bytes behind it may
        // be a worker's.
        match session.stream.read(&mut place.received[place.received_len..]) {
            Ok(0) => Err(Fault::Io(io::ErrorKind::UnexpectedEof)),
            Ok(got) => {
                place.received_len += got;
                Ok(true)
            }
            Err(error) if is_not_yet(&error) => Ok(false),
            Err(error) => Err(Fault::Io(error.kind())),
        }
    }

    fn consume(&mut self, at: usize, used: usize) {
        let place = &mut self.places[at];
        place.received.copy_within(used..place.received_len, 0);
        place.received_len -= used;
    }

    fn close_if_done(&mut self, at: usize, registry: &Registry) {
        let place = &self.places[at];
        if place.to_send_len == 0 && place.session.as_ref().is_some_and(|session| session.is_closing) {
            self.close(at, registry);
        }
    }

    /// Ends a session whose deadline is over; what that means is the outcome.
    /// `None` when no more are due.
    pub fn on_timeout(&mut self, now: Instant, registry: &Registry) -> Option<Outcome> {
        let is_due = |place: &Place| place.session.as_ref().is_some_and(|session| now >= session.deadline);
        let at = self.places.iter().position(is_due)?;
        self.counts.timed_out += 1;
        let session = self.places[at].session.as_ref()?;
        let reason = Reason::new("no answer in time");
        let outcome = match (session.is_initiator, session.purpose) {
            (true, Some(purpose)) => Outcome::Failed(session.peer, purpose, reason),
            _ => Outcome::Quiet,
        };
        self.close(at, registry);
        Some(outcome)
    }

    /// When the first deadline is over.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.places.iter().filter_map(|place| place.session.as_ref()).map(|session| session.deadline).min()
    }

    /// Sessions open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.iter().filter(|place| place.session.is_some()).count()
    }
}

/// Why a session is ended.
enum Fault {
    Io(io::ErrorKind),
    Refused(&'static str),
    Session(crate::wire::session::SessionError),
}

impl From<crate::wire::session::SessionError> for Fault {
    fn from(error: crate::wire::session::SessionError) -> Self {
        Self::Session(error)
    }
}

impl Fault {
    fn reason(&self) -> Reason {
        match self {
            Self::Io(kind) => Reason::format(format_args!("{kind}")),
            Self::Refused(what) => Reason::new(what),
            Self::Session(error) => Reason::format(format_args!("{error}")),
        }
    }
}

/// Nothing can be read or written at this moment; a connect that is not done
/// shows as `NotConnected`.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NotConnected
    )
}

/// What became of bytes that were received.
#[allow(clippy::large_enum_variant, reason = "one at a time, on its way to the loop")]
enum Taken {
    /// Something; there may be more.
    Some,
    /// Nothing: more bytes are needed.
    Nothing,
    /// Something that the loop must know.
    Tell(Outcome),
}

/// The roles in which a session's ends speak: who opens it, who accepts it.
fn roles(purpose: Purpose) -> (Role, Role) {
    match purpose {
        Purpose::QueryDetailed => (Role::Controller, Role::Agent),
        Purpose::Fetch => (Role::Agent, Role::Controller),
    }
}
