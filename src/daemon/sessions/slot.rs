//! One session: its buffers, its stages, and what each frame means in each.

use std::io::{self, Read, Write};

use super::{Answers, Context, SessionEvent};
use crate::daemon::buffers::Buffer;
use crate::daemon::transport::Stream;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Reason};
use crate::wire::frame::{Frame, Purpose, Role};
use crate::wire::session::{OPENING_BYTES, Opening, SessionError, SessionKeys, frame_len};

/// Pages of one answer: each but an empty one tells of a patch.
const PAGES_MAX: usize = limits::EFFECTIVE + 1;

/// How far a session has proven itself.
pub enum SessionStage {
    /// The openings are on their way.
    Opening,
    /// Keys are known, the other end's proof is not.
    Proving(SessionKeys),
    /// The other end has the key.
    Proven(SessionKeys),
}

/// One session.
pub struct Session {
    /// Its socket.
    pub stream: Stream,
    /// We opened it.
    pub is_initiator: bool,
    /// Whom we called, or who proved itself.
    pub peer: NodeId,
    /// What it is for, once that is known.
    pub purpose: Option<Purpose>,
    /// How we opened.
    pub own_opening: Opening,
    /// The role in which the other end opened, which its key stands for.
    pub their_role: Option<Role>,
    /// How far it has proven itself.
    pub stage: SessionStage,
    /// When it began.
    pub since: Instant,
    /// When it is over unless it moves.
    pub deadline: Instant,
    /// Pages of an answer that may still come.
    pub pages_left: usize,
    /// Answering: the position of the next frame.
    pub answer_from: Option<usize>,
    /// All is said: whoever asked ends it.
    pub is_closing: bool,
}

impl Session {
    /// A session that begins now and has until `proof` is over. `called`: whom we
    /// opened it to, and what for; `None` where somebody else opened it.
    #[must_use]
    pub fn new(
        stream: Stream,
        mine: Opening,
        called: Option<(NodeId, Purpose)>,
        now: Instant,
        proof: Duration,
    ) -> Self {
        Self {
            stream,
            is_initiator: called.is_some(),
            peer: called.map_or(NodeId(0), |(node, _)| node),
            purpose: called.map(|(_, purpose)| purpose),
            own_opening: mine,
            their_role: None,
            stage: SessionStage::Opening,
            since: now,
            deadline: now + proof,
            pages_left: PAGES_MAX,
            answer_from: None,
            is_closing: false,
        }
    }
}

/// A place in the pool: a session and its buffers.
pub struct SessionSlot {
    /// The session, if the place is taken.
    pub session: Option<Session>,
    received: Buffer,
    received_len: usize,
    to_send: Buffer,
    /// Bytes to send, from the first that was not sent when nothing was left.
    pub to_send_len: usize,
    sent_len: usize,
}

impl SessionSlot {
    /// A free place, with these buffers, each of `FRAME_BYTES`.
    #[must_use]
    pub fn new(received: Buffer, to_send: Buffer) -> Self {
        Self { session: None, received, received_len: 0, to_send, to_send_len: 0, sent_len: 0 }
    }

    /// Takes the place: the session's opening is the first that it sends.
    pub fn begin(&mut self, session: Session) {
        (self.received_len, self.sent_len, self.to_send_len) = (0, 0, OPENING_BYTES);
        self.to_send[..OPENING_BYTES].copy_from_slice(&session.own_opening.emit());
        self.session = Some(session);
    }

    /// Whether the other end has proven its key.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.session.as_ref().is_some_and(|session| matches!(session.stage, SessionStage::Proven(_)))
    }

    /// Moves on as far as bytes allow, or until the loop must know something.
    ///
    /// # Errors
    /// [`Fault`]: the session is to be ended.
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

    /// Acts on what has been received, if it is whole.
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
                    return Err(Fault::Refused("another node answers there"));
                }
                if context.revoked.contains(&theirs.node) {
                    return Err(Fault::Refused("the node is revoked"));
                }
                let keys =
                    SessionKeys::derive(&context.ring, &session.own_opening, &theirs, session.is_initiator)?;
                session.peer = theirs.node;
                session.their_role = Some(theirs.role);
                session.stage = SessionStage::Proving(keys);
                let is_initiator = session.is_initiator;
                self.consume(OPENING_BYTES);
                if is_initiator {
                    self.send_open(context)?;
                }
                Ok(Processed::Progress)
            }
            SessionStage::Proving(keys) | SessionStage::Proven(keys) => {
                let Some((frame, used)) = keys.open(received)? else { return Ok(Processed::Incomplete) };
                session.deadline = now + idle;
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
                // What it says it is must be what its key says.
                let is_theirs = role == theirs && session.their_role == Some(theirs);
                let is_for_us = meant == own && node == peer && is_theirs && session.own_opening.role == ours;
                if !is_for_us || session.purpose.is_some_and(|expected| expected != purpose) {
                    return Err(Fault::Refused("the session is not for this node, or not for this"));
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
                    .ok_or(Fault::Refused("more pages than a host has patches"))?;
                Ok(Processed::Event(SessionEvent::Page(peer, page)))
            }
            (Frame::End, true, true) => Ok(Processed::Event(SessionEvent::End(peer))),
            _ => Err(Fault::Refused("a frame that has no place there")),
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

    /// As much of our answer as there is room for, or the end of it. Nothing is left
    /// of what was said before: the other end has taken it, so its time begins anew.
    fn answer(&mut self, now: Instant, context: &Context, answers: Answers<'_>) -> Result<(), Fault> {
        while let Some(session) = &mut self.session
            && let (Some(from), Some(purpose)) = (session.answer_from, session.purpose)
        {
            session.deadline = now + context.idle;
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

    fn send_open(&mut self, context: &Context) -> Result<(), Fault> {
        let open = self.open_frame(context).ok_or(Fault::Refused("no purpose"))?;
        self.send(open)
    }

    /// Open: who we are and what the session is for.
    #[must_use]
    pub fn open_frame(&self, context: &Context) -> Option<Frame> {
        let session = self.session.as_ref()?;
        let (role, node, peer) = (session.own_opening.role, context.node, session.peer);
        Some(Frame::Open { role, node, peer, purpose: session.purpose? })
    }

    /// Seals a frame behind what is still to be sent.
    ///
    /// # Errors
    /// [`Fault`]: there are no keys yet, or no room.
    pub fn send(&mut self, frame: Frame) -> Result<(), Fault> {
        if self.seal(&frame)? { Ok(()) } else { Err(NO_ROOM) }
    }

    /// As [`send`](Self::send); false where there is no room.
    fn seal(&mut self, frame: &Frame) -> Result<bool, Fault> {
        let Some(session) = &mut self.session else { return Ok(true) };
        let (SessionStage::Proving(keys) | SessionStage::Proven(keys)) = &mut session.stage else {
            return Err(Fault::Refused("no keys yet"));
        };
        let sealed = keys.seal(frame, &mut self.to_send[self.to_send_len..]);
        self.to_send_len += sealed;
        Ok(sealed > 0)
    }

    /// Writes what can be written now.
    ///
    /// # Errors
    /// [`Fault`]: the other end is gone.
    pub fn flush(&mut self) -> Result<(), Fault> {
        let Some(session) = &mut self.session else { return Ok(()) };
        while self.sent_len < self.to_send_len {
            match session.stream.write(&self.to_send[self.sent_len..self.to_send_len]) {
                Ok(sent) => self.sent_len += sent,
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(Fault::Io(error.kind())),
            }
        }
        (self.sent_len, self.to_send_len) = (0, 0);
        Ok(())
    }

    /// Reads once; false where there is nothing to read now.
    fn fill(&mut self) -> Result<bool, Fault> {
        let Some(session) = &mut self.session else { return Ok(false) };
        // All is said: what comes now is its end.
        if session.is_closing {
            return match session.stream.read(&mut [0]) {
                Err(error) if would_block(&error) => Ok(false),
                _ => Err(Fault::Io(io::ErrorKind::UnexpectedEof)),
            };
        }
        // A session that waits to be taken reads no more.
        let is_workers = matches!(session.stage, SessionStage::Proven(_))
            && match session.purpose {
                Some(Purpose::Fetch | Purpose::Blobs) => true,
                Some(Purpose::Pull) => session.is_initiator,
                Some(Purpose::QueryDetailed) | None => false,
            };
        if is_workers {
            return Ok(false);
        }
        // No more than the opening or the frame at hand: what follows may be a
        // worker's.
        let received = &self.received[..self.received_len];
        let wanted = match session.stage {
            SessionStage::Opening => OPENING_BYTES,
            SessionStage::Proving(_) | SessionStage::Proven(_) => frame_len(received),
        };
        let room = self.received.get_mut(self.received_len..wanted);
        let room = room.ok_or(Fault::Session(SessionError::Frame))?;
        match session.stream.read(room) {
            Ok(0) => Err(Fault::Io(io::ErrorKind::UnexpectedEof)),
            Ok(got) => {
                self.received_len += got;
                Ok(true)
            }
            Err(error) if would_block(&error) => Ok(false),
            Err(error) => Err(Fault::Io(error.kind())),
        }
    }

    fn consume(&mut self, used: usize) {
        self.received.copy_within(used..self.received_len, 0);
        self.received_len -= used;
    }
}

/// A frame does not fit, be the buffer empty.
const NO_ROOM: Fault = Fault::Refused("no room to answer");

/// Why a session is ended.
pub enum Fault {
    /// The socket: the other end is gone.
    Io(io::ErrorKind),
    /// What the other end said has no place there.
    Refused(&'static str),
    /// What the other end sent is no session, or not with our key.
    Session(SessionError),
}

impl From<SessionError> for Fault {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl Fault {
    /// For the operator.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Io(kind) => Reason::format(format_args!("{kind}")),
            Self::Refused(what) => Reason::truncated(what),
            Self::Session(error) => Reason::format(format_args!("{error}")),
        }
    }
}

/// Nothing can be read or written at this moment; a connect that is not done
/// shows as `NotConnected`.
fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NotConnected
    )
}

/// What became of bytes that were received.
#[allow(clippy::large_enum_variant, reason = "one at a time, on its way to the loop")]
enum Processed {
    /// Something; there may be more.
    Progress,
    /// Nothing: more bytes are needed.
    Incomplete,
    /// Something that the loop must know.
    Event(SessionEvent),
}
