//! The control socket: connections of commands on this host, and who may what.
//!
//! A request stays in its connection's buffer until it is carried out, so one
//! that must wait for the store waits there. Replies are written to a buffer of
//! fixed size; long lists are continued as it drains.
//!
//! The socket is open to everybody on the host and places are few, so none is
//! kept by silence: a connection that neither asks nor takes its answer is ended
//! in its time, and at once for a newcomer who may do more than it.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use heapless::Vec as FixedVec;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use super::buffers::{Buffer, Pool};
use super::protocol::{ErrorKind, Reply, Request};
use super::sys::{self, FDS};
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, PatchId, Reason};

/// The largest reply that a list is continued with, in bytes.
const REPLY_ROOM: usize = 6 * 1024;
/// A connection that neither asks nor takes its answer for so long is ended.
const IDLE: Duration = Duration::from_secs(30);

/// What a connection is in the middle of.
#[derive(Clone, Debug, Default)]
#[allow(clippy::large_enum_variant, reason = "one for each of a few connections")]
pub enum Doing {
    /// Nothing: the next request may come.
    #[default]
    Nothing,
    /// Listing patches, by id, after this one.
    Patches(Option<PatchId>),
    /// Listing all hosts, from this slot on.
    Hosts(usize),
    /// Listing these hosts, from this place in the list on.
    NamedHosts(FixedVec<NodeId, { limits::COMMAND_NAMES }>, usize),
    /// Waiting until no other command changes the store, with this number: the
    /// lowest is next.
    WaitingForStore(u64),
    /// Waiting for its worker.
    WaitingForWorker,
}

/// Whom the control socket serves.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Members may ask; `None`: everybody may.
    pub query_group: Option<u32>,
    /// Members may change.
    pub admin_group: Option<u32>,
}

/// One connection.
pub struct Connection {
    stream: UnixStream,
    may_ask: bool,
    may_change: bool,
    /// It has agreed on the protocol's version.
    pub is_greeted: bool,
    /// What it is in the middle of.
    pub doing: Doing,
    /// Ends once all is sent.
    pub is_closing: bool,
    /// A reply was lost for lack of room: what is sent makes no sense any more.
    is_broken: bool,
    /// When it is over unless it moves or waits for us.
    deadline: Instant,
    /// Descriptors that came with its request.
    pub files: FixedVec<OwnedFd, FDS>,
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Everything that has come.
    All,
    /// A whole buffer: there may be more.
    Full,
    /// The other end says no more.
    Over,
}

struct Place {
    connection: Option<Connection>,
    /// Counts the connections that had this place.
    generation: u64,
    received: Buffer,
    received_len: usize,
    to_send: Buffer,
    to_send_len: usize,
    sent_len: usize,
}

/// The control socket.
pub struct Control {
    listener: UnixListener,
    access: Access,
    places: Vec<Place>,
    first_token: usize,
    /// Numbers those that wait for the store.
    waits: u64,
}

impl Control {
    /// Opens the socket. A file that a daemon left which is no more is replaced.
    ///
    /// # Errors
    /// Another daemon serves it, or it cannot be made.
    pub fn open(path: &Path, access: Access, first_token: usize, pool: &mut Pool) -> Result<Self, String> {
        let failed = |error: io::Error| format!("control socket {}: {error}", path.display());
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(format!(
                "control socket {}: another thimble daemon serves it; stop that one first, or give this \
                 one a control_socket of its own",
                path.display()
            ));
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        match std::fs::symlink_metadata(path) {
            // Nobody listens on it: it is what an earlier daemon left.
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map_err(failed)?,
            Ok(_) => {
                return Err(format!(
                    "control socket {}: another file is in its place and is left alone; move it away, or \
                     name another control_socket",
                    path.display()
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Who connects is asked for its credentials; the file lets everybody knock.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
        let place = |_| Place {
            connection: None,
            generation: 0,
            received: pool.take(4 + limits::CONTROL_FRAME_BYTES),
            received_len: 0,
            to_send: pool.take(limits::CONTROL_FRAME_BYTES),
            to_send_len: 0,
            sent_len: 0,
        };
        let places = (0..limits::CONTROL_CONNECTIONS).map(place).collect();
        Ok(Self { listener, access, places, first_token, waits: 0 })
    }

    /// Registers the listener.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.listener, token, Interest::READABLE)
    }

    /// Accepts one connection.
    ///
    /// # Errors
    /// As `accept(2)`: `WouldBlock` where there is none.
    pub fn accept(&mut self, now: Instant, registry: &Registry) -> io::Result<()> {
        let (mut stream, _) = self.listener.accept()?;
        let (may_ask, may_change) = self.rights(&stream);
        let Some(at) = self.free_place(rank(may_ask, may_change), registry) else {
            turn_away(&mut stream);
            return Ok(());
        };
        let token = Token(self.first_token + at);
        // One that cannot be registered is closed, and its command sees that.
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let place = &mut self.places[at];
        place.generation += 1;
        (place.received_len, place.to_send_len, place.sent_len) = (0, 0, 0);
        place.connection = Some(Connection {
            stream,
            may_ask,
            may_change,
            is_greeted: false,
            doing: Doing::Nothing,
            is_closing: false,
            is_broken: false,
            deadline: now + IDLE,
            files: FixedVec::new(),
        });
        Ok(())
    }

    /// A free place, if need be that of somebody who may do less and has the
    /// least time left.
    fn free_place(&mut self, newcomer: u8, registry: &Registry) -> Option<usize> {
        let free = self.places.iter().position(|place| place.connection.is_none());
        free.or_else(|| {
            let places = self.places.iter().enumerate();
            let lesser = places.filter_map(|(at, place)| {
                let connection = place.connection.as_ref()?;
                let rank = rank(connection.may_ask, connection.may_change);
                (rank < newcomer).then_some((rank, connection.deadline, at))
            });
            let (_, _, at) = lesser.min()?;
            self.close(at, registry);
            Some(at)
        })
    }

    fn rights(&self, stream: &UnixStream) -> (bool, bool) {
        let Ok(peer) = sys::peer_credentials(stream.as_fd()) else { return (false, false) };
        let is_owner = peer.uid == 0 || peer.uid == sys::own_uid();
        let is_member = |group: u32| peer.gid == group || sys::peer_is_in_group(stream.as_fd(), group);
        let may_change = is_owner || self.access.admin_group.is_some_and(is_member);
        (may_change || self.access.query_group.is_none_or(is_member), may_change)
    }

    /// The connection in a place.
    pub fn get(&mut self, at: usize) -> Option<&mut Connection> {
        self.places.get_mut(at)?.connection.as_mut()
    }

    /// Which of the connections that had this place is there now.
    #[must_use]
    pub fn generation(&self, at: usize) -> u64 {
        self.places[at].generation
    }

    /// The next number of one that waits for the store.
    pub fn next_wait(&mut self) -> u64 {
        self.waits += 1;
        self.waits
    }

    /// The place of the connection that waits longest for the store, if any.
    #[must_use]
    pub fn waiting_for_store(&self) -> Option<usize> {
        let places = self.places.iter().enumerate();
        let waiting = places.filter_map(|(at, place)| match place.connection.as_ref()?.doing {
            Doing::WaitingForStore(number) => Some((number, at)),
            _ => None,
        });
        waiting.min().map(|(_, at)| at)
    }

    /// Reads what has come.
    pub fn fill(&mut self, at: usize) -> Filled {
        let place = &mut self.places[at];
        let Some(connection) = &mut place.connection else { return Filled::Over };
        loop {
            let room = &mut place.received[place.received_len..];
            if room.is_empty() {
                return Filled::Full;
            }
            // Who may not change anything has no use for descriptors here, and
            // closing one of a stranger's choice can take long.
            let files = connection.may_change.then_some(&mut connection.files);
            match sys::recv_with_fds(connection.stream.as_fd(), room, files) {
                Ok(0) => return Filled::Over,
                Ok(got) => place.received_len += got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Filled::All,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Filled::Over,
            }
        }
    }

    /// Whether there is room to read more.
    #[must_use]
    pub fn can_fill(&self, at: usize) -> bool {
        self.places[at].received_len < self.places[at].received.len()
    }

    /// The request that has come whole, if it can be understood.
    ///
    /// # Errors
    /// It cannot: the connection makes no sense any more.
    pub fn request(&self, at: usize) -> Result<Option<Request>, ()> {
        let received = &self.places[at].received[..self.places[at].received_len];
        let Some((head, rest)) = received.split_first_chunk::<4>() else { return Ok(None) };
        let body_len = u32::from_le_bytes(*head) as usize;
        if body_len > limits::CONTROL_FRAME_BYTES {
            return Err(());
        }
        let Some(body) = rest.get(..body_len) else { return Ok(None) };
        postcard::from_bytes(body).map(Some).map_err(|_| ())
    }

    /// Drops the request that was carried out, and its descriptors.
    pub fn consume(&mut self, now: Instant, at: usize) {
        let place = &mut self.places[at];
        let Some(head) = place.received[..place.received_len].first_chunk::<4>() else { return };
        let used = (4 + u32::from_le_bytes(*head) as usize).min(place.received_len);
        place.received.copy_within(used..place.received_len, 0);
        place.received_len -= used;
        if let Some(connection) = &mut place.connection {
            connection.files.clear();
        }
        self.resume(now, at);
    }

    /// Whether a list may be continued with one more reply.
    #[must_use]
    pub fn has_room(&self, at: usize) -> bool {
        limits::CONTROL_FRAME_BYTES - self.places[at].to_send_len >= REPLY_ROOM
    }

    /// Whether something is still to be written.
    #[must_use]
    pub fn has_unsent(&self, at: usize) -> bool {
        self.places[at].left() > 0
    }

    /// Adds a reply. One for which there is no room although what can be written
    /// is written ends the connection: its command does not read.
    pub fn reply(&mut self, at: usize, reply: &Reply) {
        let is_added = self.places[at].add(reply) || {
            self.places[at].write();
            self.places[at].add(reply)
        };
        if let (false, Some(connection)) = (is_added, self.get(at)) {
            connection.is_broken = true;
        }
    }

    /// Ends the answer at hand with success.
    pub fn end(&mut self, at: usize) {
        self.reply(at, &Reply::End);
        self.done(at);
    }

    /// Ends the answer at hand with an error.
    pub fn fail(&mut self, at: usize, kind: ErrorKind, reason: Reason) {
        self.reply(at, &Reply::Error { kind, reason });
        self.done(at);
    }

    fn done(&mut self, at: usize) {
        if let Some(connection) = self.get(at) {
            connection.doing = Doing::Nothing;
        }
    }

    /// Writes what can be written; false where the connection is over.
    pub fn flush(&mut self, now: Instant, at: usize) -> bool {
        let place = &mut self.places[at];
        let left = place.left();
        let is_open = place.write();
        if place.left() < left {
            self.resume(now, at);
        }
        is_open
    }

    /// Ends a connection whose time is over.
    pub fn on_timeout(&mut self, now: Instant, registry: &Registry) {
        for at in 0..self.places.len() {
            if self.places[at].deadline().is_some_and(|deadline| now >= deadline) {
                self.close(at, registry);
            }
        }
    }

    /// When the first connection's time is over.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.places.iter().filter_map(Place::deadline).min()
    }

    /// A connection has moved, or no longer waits for us: its time begins anew.
    pub fn resume(&mut self, now: Instant, at: usize) {
        if let Some(connection) = self.get(at) {
            connection.deadline = now + IDLE;
        }
    }

    /// Ends a connection.
    pub fn close(&mut self, at: usize, registry: &Registry) {
        if let Some(mut connection) = self.places[at].connection.take() {
            let _ = registry.deregister(&mut connection.stream);
        }
    }

    /// Takes a connection out, for a worker that answers it.
    pub fn take(&mut self, at: usize, registry: &Registry) -> Option<UnixStream> {
        let mut connection = self.places[at].connection.take()?;
        let _ = registry.deregister(&mut connection.stream);
        Some(connection.stream)
    }
}

impl Place {
    /// When it is over; not while it waits for us.
    fn deadline(&self) -> Option<Instant> {
        let connection = self.connection.as_ref()?;
        let waits_for_us = matches!(connection.doing, Doing::WaitingForStore(_) | Doing::WaitingForWorker);
        (!waits_for_us).then_some(connection.deadline)
    }

    /// Bytes that are still to be written.
    fn left(&self) -> usize {
        self.to_send_len - self.sent_len
    }

    /// Adds a reply to what is sent; false where there is no room for it.
    fn add(&mut self, reply: &Reply) -> bool {
        let Some((head, body)) = self.to_send[self.to_send_len..].split_first_chunk_mut::<4>() else {
            return false;
        };
        let Ok(body_len) = postcard::to_slice(reply, body).map(|body| body.len()) else { return false };
        *head = (body_len as u32).to_le_bytes();
        self.to_send_len += 4 + body_len;
        true
    }

    /// Writes what can be written; false where the connection is over.
    fn write(&mut self) -> bool {
        let Some(connection) = self.connection.as_mut().filter(|connection| !connection.is_broken) else {
            return false;
        };
        while self.sent_len < self.to_send_len {
            match connection.stream.write(&self.to_send[self.sent_len..self.to_send_len]) {
                Ok(sent) => self.sent_len += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        (self.sent_len, self.to_send_len) = (0, 0);
        !connection.is_closing
    }
}

/// How much somebody may do: asking and changing each count.
fn rank(may_ask: bool, may_change: bool) -> u8 {
    u8::from(may_ask) + u8::from(may_change)
}

/// Tells a command that there is no place for it. A fresh socket takes a line.
fn turn_away(stream: &mut UnixStream) {
    let reason = Reason::new("Too many commands are being answered: try again in a moment.");
    let mut frame = [0; 4 + 512];
    let (head, body) = frame.split_at_mut(4);
    let refusal = Reply::Error { kind: ErrorKind::Refused, reason };
    if let Ok(len) = postcard::to_slice(&refusal, body).map(|body| body.len()) {
        head.copy_from_slice(&(len as u32).to_le_bytes());
        let _ = stream.write(&frame[..4 + len]);
    }
}

impl Connection {
    /// Why this request is not allowed, if it is not.
    #[must_use]
    pub fn denial(&self, request: &Request) -> Option<Reason> {
        let changes = match request {
            Request::Upload { .. }
            | Request::Change { .. }
            | Request::HostInstall { .. }
            | Request::DropHost { .. } => true,
            Request::Hello { .. }
            | Request::Query
            | Request::Show { .. }
            | Request::QueryHosts
            | Request::Hosts { .. }
            | Request::Status => false,
        };
        let denied = match changes {
            true if !self.may_change => "change anything: that is for root and members of node.admin_group",
            false if !self.may_ask => "ask: that is for root and members of node.query_group",
            _ => return None,
        };
        Some(Reason::format(format_args!("You may not {denied}.")))
    }
}
