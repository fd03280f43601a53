//! One session: its buffers, its stages, and how each stage handles each frame.

use std::io::{self, Read, Write};

use super::{Answers, Context, SessionEvent};
use crate::daemon::buffers::Buffer;
use crate::daemon::os_error::OsError;
use crate::daemon::transport::{Origin, Stream};
use crate::fsm::actions::Peer;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Reason};
use crate::wire::frame::{Frame, Purpose, Role};
use crate::wire::session::{OPENING_BYTES, Opening, SessionError, SessionKeys, frame_len};

/// How many times the idle time a session may last once it is authenticated, however
/// steadily its peer sends or takes a little. At the default of 10 s a whole map, at most
/// 1.2 MB, has 5 minutes: 4 KB/s.
const IDLES: u64 = 30;

/// The most pages of one answer: every page but the last has at least one patch.
const PAGES_MAX: usize = limits::EFFECTIVE + 1;

/// How far a session is authenticated.
pub enum SessionStage {
    /// The peer's opening is not received yet.
    Opening,
    /// The session keys are derived; the peer has not proven that it has its key.
    Proving(SessionKeys),
    /// The peer has proven that it has its key.
    Proven(SessionKeys),
}

/// One session.
pub struct Session {
    /// Its socket.
    pub stream: Stream,
    /// Whether we initiated it.
    pub is_initiator: bool,
    /// The node at the other end, as known when we initiated or from its opening.
    pub peer: NodeId,
    /// The purpose, once it is known.
    pub purpose: Option<Purpose>,
    /// Our opening.
    pub own_opening: Opening,
    /// The role in the peer's opening. The session keys depend on it.
    pub their_role: Option<Role>,
    /// How far it is authenticated.
    pub stage: SessionStage,
    /// The connection stands: the socket has taken our opening.
    pub is_connected: bool,
    /// When it began.
    pub since: Instant,
    /// When it is closed unless it makes progress.
    pub deadline: Instant,
    /// When it is closed even if it makes progress.
    pub ends: Instant,
    /// Where our session goes to.
    pub to: Option<Peer>,
    /// Where an accepted session comes from.
    pub origin: Option<Origin>,
    /// The number of pages that the peer's answer may still have.
    pub pages_left: usize,
    /// While we answer: the position of the next frame.
    pub answer_from: Option<usize>,
    /// Everything is sent: the peer closes the session.
    pub is_closing: bool,
    /// It was answered with `Busy`: it holds no place that another needs.
    pub is_turned_away: bool,
}

impl Session {
    /// A session that begins now, whose next step must be taken within `step`. `target` is
    /// the peer and the purpose if we initiate it; `None` if we accepted it.
    #[must_use]
    pub fn new(
        stream: Stream,
        own_opening: Opening,
        target: Option<(NodeId, Purpose)>,
        now: Instant,
        step: Duration,
    ) -> Self {
        Self {
            stream,
            is_initiator: target.is_some(),
            peer: target.map_or(NodeId(0), |(node, _)| node),
            purpose: target.map(|(_, purpose)| purpose),
            own_opening,
            their_role: None,
            stage: SessionStage::Opening,
            is_connected: target.is_none(),
            since: now,
            deadline: now + step,
            ends: now + step,
            to: None,
            origin: None,
            pages_left: PAGES_MAX,
            answer_from: None,
            is_closing: false,
            is_turned_away: false,
        }
    }

    /// A step of the authentication is taken, and each is only taken once: the next one has
    /// as long. A connection that stands is not given up for a new one, which a lossy network
    /// would have to carry as well.
    pub fn on_step(&mut self, now: Instant, step: Duration) {
        (self.deadline, self.ends) = (now + step, now + step);
    }

    /// The peer has made progress: it has until `idle` for more, but not beyond the end of
    /// the session.
    pub fn on_progress(&mut self, now: Instant, idle: Duration) {
        self.deadline = self.ends.min(now + idle);
    }
}

/// A slot of the pool: a session and its buffers.
pub struct SessionSlot {
    /// The session, if the slot is taken.
    pub session: Option<Session>,
    received: Buffer,
    received_len: usize,
    to_send: Buffer,
    /// The length of the data in `to_send`. Reset to 0 once all of it is sent.
    pub to_send_len: usize,
    /// The part of `to_send_len` that is sent already.
    sent_len: usize,
}

impl SessionSlot {
    /// A free slot with these buffers, each of `FRAME_BYTES`.
    #[must_use]
    pub fn new(received: Buffer, to_send: Buffer) -> Self {
        Self { session: None, received, received_len: 0, to_send, to_send_len: 0, sent_len: 0 }
    }

    /// Puts a session into the slot. Our opening is the first data that it sends.
    pub fn begin(&mut self, session: Session) {
        (self.received_len, self.sent_len, self.to_send_len) = (0, 0, OPENING_BYTES);
        self.to_send[..OPENING_BYTES].copy_from_slice(&session.own_opening.emit());
        self.session = Some(session);
    }

    /// Whether the peer is authenticated.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.session.as_ref().is_some_and(|session| matches!(session.stage, SessionStage::Proven(_)))
    }

    /// Reads, handles frames and writes until the socket would block or there is an
    /// event for the loop.
    ///
    /// # Errors
    /// [`Fault`]: the session is to be closed.
    pub fn step(
        &mut self,
        now: Instant,
        context: &Context,
        answers: Answers<'_>,
    ) -> Result<SessionEvent, Fault> {
        loop {
            self.flush()?;
            if self.to_send_len > 0 {
                return Ok(SessionEvent::Quiet);
            }
            if let Some(session) = self.session.as_mut().filter(|session| !session.is_connected) {
                session.is_connected = true;
                session.on_step(now, context.step);
            }
            if self.session.as_ref().is_some_and(|session| session.answer_from.is_some()) {
                self.answer(now, context, answers)?;
                continue;
            }
            match self.process_received(now, context)? {
                Processed::Progress => {}
                Processed::Event(outcome) => return Ok(outcome),
                Processed::Incomplete if self.fill()? => {}
                Processed::Incomplete => return Ok(SessionEvent::Quiet),
            }
        }
    }

    /// Handles the received opening or frame, if it is complete.
    fn process_received(&mut self, now: Instant, context: &Context) -> Result<Processed, Fault> {
        let idle = context.idle;
        let Some(session) = &mut self.session else { return Ok(Processed::Incomplete) };
        if session.is_closing {
            return Ok(Processed::Incomplete);
        }
        let received = &self.received[..self.received_len];
        match &mut session.stage {
            SessionStage::Opening => {
                let Some(bytes) = received.first_chunk::<OPENING_BYTES>() else {
                    return Ok(Processed::Incomplete);
                };
                let theirs = Opening::parse(bytes)?;
                if session.is_initiator && theirs.node != session.peer {
                    return Err(Fault::Refused("another node answers at this address"));
                }
                if context.revoked.contains(&theirs.node) {
                    return Err(Fault::Refused("the node is revoked"));
                }
                let keys =
                    SessionKeys::derive(&context.ring, &session.own_opening, &theirs, session.is_initiator)?;
                session.peer = theirs.node;
                session.their_role = Some(theirs.role);
                session.stage = SessionStage::Proving(keys);
                session.on_step(now, context.step);
                let is_initiator = session.is_initiator;
                self.consume(OPENING_BYTES);
                if is_initiator {
                    self.send_open(context)?;
                }
                Ok(Processed::Progress)
            }
            SessionStage::Proving(keys) | SessionStage::Proven(keys) => {
                let Some((frame, used)) = keys.open(received)? else { return Ok(Processed::Incomplete) };
                let is_proven = matches!(session.stage, SessionStage::Proven(_));
                if !is_proven {
                    session.ends = now + idle.times(IDLES);
                }
                session.on_progress(now, idle);
                self.consume(used);
                self.on_frame(context, frame)
            }
        }
    }

    fn on_frame(&mut self, context: &Context, frame: Frame) -> Result<Processed, Fault> {
        let own = context.node;
        let Some(session) = &mut self.session else { return Ok(Processed::Incomplete) };
        let peer = session.peer;
        let is_proven = matches!(session.stage, SessionStage::Proven(_));
        match (frame, session.is_initiator, is_proven) {
            (Frame::Open { role, node, peer: meant, purpose }, is_initiator, false) => {
                let (initiator, acceptor) = purpose.roles();
                let (ours, theirs) = if is_initiator { (initiator, acceptor) } else { (acceptor, initiator) };
                // The role that it claims must be the role that its key is for.
                let is_theirs = role == theirs && session.their_role == Some(theirs);
                let is_for_us = meant == own && node == peer && is_theirs && session.own_opening.role == ours;
                if !is_for_us || session.purpose.is_some_and(|expected| expected != purpose) {
                    return Err(Fault::Refused("the session is for another node, role or purpose"));
                }
                session.purpose = Some(purpose);
                session.stage = match std::mem::replace(&mut session.stage, SessionStage::Opening) {
                    SessionStage::Proving(keys) => SessionStage::Proven(keys),
                    other => other,
                };
                self.on_proven(context, peer, purpose, is_initiator)
            }
            (Frame::Busy { retry_after_ms }, true, false) => {
                let pause = Duration::from_millis(u64::from(retry_after_ms));
                let purpose = session.purpose.unwrap_or(Purpose::Fetch);
                Ok(Processed::Event(SessionEvent::Busy(peer, purpose, pause)))
            }
            (Frame::QueryDetailed, false, true) if session.purpose == Some(Purpose::QueryDetailed) => {
                session.answer_from = Some(0);
                Ok(Processed::Progress)
            }
            (Frame::MapReq, false, true) if session.purpose == Some(Purpose::Pull) => {
                session.answer_from = Some(0);
                Ok(Processed::Progress)
            }
            (Frame::QueryDetailedResp(page), true, true) => {
                session.pages_left = session
                    .pages_left
                    .checked_sub(1)
                    .ok_or(Fault::Refused("more pages than a host can have patches"))?;
                Ok(Processed::Event(SessionEvent::Page(peer, page)))
            }
            (Frame::End, true, true) => Ok(Processed::Event(SessionEvent::End(peer))),
            _ => Err(Fault::Refused("an unexpected frame")),
        }
    }

    fn on_proven(
        &mut self,
        context: &Context,
        peer: NodeId,
        purpose: Purpose,
        is_initiator: bool,
    ) -> Result<Processed, Fault> {
        match (purpose, is_initiator) {
            (Purpose::QueryDetailed, true) => self.send(Frame::QueryDetailed).map(|()| Processed::Progress),
            (Purpose::Fetch | Purpose::Pull | Purpose::Blobs, true) => {
                Ok(Processed::Event(SessionEvent::Ready(peer, purpose)))
            }
            (Purpose::QueryDetailed | Purpose::Pull, false) => {
                self.send_open(context).map(|()| Processed::Progress)
            }
            (Purpose::Fetch | Purpose::Blobs, false) => {
                Ok(Processed::Event(SessionEvent::WantsWorker(peer, purpose)))
            }
        }
    }

    /// Puts as much of our answer into the empty buffer as there is room for. That the
    /// buffer was drained means that the peer reads, so the deadline starts again.
    fn answer(&mut self, now: Instant, context: &Context, answers: Answers<'_>) -> Result<(), Fault> {
        while let Some(session) = &mut self.session
            && let (Some(from), Some(purpose)) = (session.answer_from, session.purpose)
        {
            session.on_progress(now, context.idle);
            let (frame, next) = match answers(purpose, from) {
                Some((frame, next)) => (frame, Some(next)),
                None => (Frame::End, None),
            };
            let is_first = self.to_send_len == 0;
            if !self.seal(&frame)? {
                return if is_first { Err(NO_ROOM) } else { Ok(()) };
            }
            if let Some(session) = &mut self.session {
                session.answer_from = next;
                session.is_closing = next.is_none();
            }
        }
        Ok(())
    }

    /// Where our session goes to, if it is not connected.
    #[must_use]
    pub fn connecting_to(&self) -> Option<Peer> {
        self.session.as_ref().filter(|session| !session.is_connected)?.to
    }

    fn send_open(&mut self, context: &Context) -> Result<(), Fault> {
        let open = self.open_frame(context).ok_or(Fault::Refused("no purpose"))?;
        self.send(open)
    }

    /// Our Open: both nodes, our role, and the purpose.
    #[must_use]
    pub fn open_frame(&self, context: &Context) -> Option<Frame> {
        let session = self.session.as_ref()?;
        let (role, node, peer) = (session.own_opening.role, context.node, session.peer);
        Some(Frame::Open { role, node, peer, purpose: session.purpose? })
    }

    /// Seals a frame and appends it to the data to send.
    ///
    /// # Errors
    /// [`Fault`]: there are no keys yet, or no room.
    pub fn send(&mut self, frame: Frame) -> Result<(), Fault> {
        if self.seal(&frame)? { Ok(()) } else { Err(NO_ROOM) }
    }

    /// As [`send`](Self::send); false if there is no room.
    fn seal(&mut self, frame: &Frame) -> Result<bool, Fault> {
        let Some(session) = &mut self.session else { return Ok(true) };
        let (SessionStage::Proving(keys) | SessionStage::Proven(keys)) = &mut session.stage else {
            return Err(Fault::Refused("no keys yet"));
        };
        let sealed = keys.seal(frame, &mut self.to_send[self.to_send_len..]);
        self.to_send_len += sealed;
        Ok(sealed > 0)
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// [`Fault`]: the connection is lost.
    pub fn flush(&mut self) -> Result<(), Fault> {
        let Some(session) = &mut self.session else { return Ok(()) };
        while self.sent_len < self.to_send_len {
            match session.stream.write(&self.to_send[self.sent_len..self.to_send_len]) {
                Ok(sent) => self.sent_len += sent,
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(Fault::Io(error)),
            }
        }
        (self.sent_len, self.to_send_len) = (0, 0);
        Ok(())
    }

    /// Reads once; false if there is nothing to read now.
    fn fill(&mut self) -> Result<bool, Fault> {
        let Some(session) = &mut self.session else { return Ok(false) };
        // Everything is sent: only the peer's close is expected now.
        if session.is_closing {
            return match session.stream.read(&mut [0]) {
                Err(error) if would_block(&error) => Ok(false),
                _ => Err(Fault::Io(io::ErrorKind::UnexpectedEof.into())),
            };
        }
        // A session that is to be handed to a worker reads no more.
        let is_workers = matches!(session.stage, SessionStage::Proven(_))
            && match session.purpose {
                Some(Purpose::Fetch | Purpose::Blobs) => true,
                Some(Purpose::Pull) => session.is_initiator,
                Some(Purpose::QueryDetailed) | None => false,
            };
        if is_workers {
            return Ok(false);
        }
        // Do not read beyond this opening or frame: what follows may be for a worker.
        let received = &self.received[..self.received_len];
        let wanted = match session.stage {
            SessionStage::Opening => OPENING_BYTES,
            SessionStage::Proving(_) | SessionStage::Proven(_) => frame_len(received),
        };
        let room = self.received.get_mut(self.received_len..wanted);
        let room = room.ok_or(Fault::Session(SessionError::Frame))?;
        match session.stream.read(room) {
            Ok(0) => Err(Fault::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(got) => {
                self.received_len += got;
                Ok(true)
            }
            Err(error) if would_block(&error) => Ok(false),
            Err(error) => Err(Fault::Io(error)),
        }
    }

    fn consume(&mut self, used: usize) {
        self.received.copy_within(used..self.received_len, 0);
        self.received_len -= used;
    }
}

/// A frame does not fit into the buffer.
const NO_ROOM: Fault = Fault::Refused("no room to answer");

/// Why a session is closed.
pub enum Fault {
    /// The socket failed, or the peer closed the connection.
    Io(io::Error),
    /// The peer sent something that is not allowed.
    Refused(&'static str),
    /// The bytes are not a session, or not sealed with our keys.
    Session(SessionError),
}

impl From<SessionError> for Fault {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl Fault {
    /// The reason, for the operator.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Io(error) => Reason::format(format_args!("{}", OsError(error))),
            Self::Refused(what) => Reason::truncated(what),
            Self::Session(error) => Reason::format(format_args!("{error}")),
        }
    }
}

/// Whether the operation is to be retried when the socket is ready. A pending connect
/// shows as `NotConnected`.
fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NotConnected
    )
}

/// The result of handling received bytes.
#[allow(clippy::large_enum_variant, reason = "there is one at a time, passed to the loop")]
enum Processed {
    /// A frame was handled; there may be more.
    Progress,
    /// More bytes are needed.
    Incomplete,
    /// An event for the loop.
    Event(SessionEvent),
}
