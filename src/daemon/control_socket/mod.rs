//! The control socket: connections of commands on this host, and who may what.
//!
//! A request stays in its connection's buffer until it is carried out, so one
//! that must wait for the store waits there. Replies are written to a buffer of
//! fixed size; long lists are continued as it drains.
//!
//! The socket is open to everybody on the host and places are few, so none is
//! kept by silence: a connection that neither asks nor takes its answer is ended
//! in its time, and at once for a newcomer who may do more than it.

mod slot;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use super::buffers::Pool;
use super::sys;
use crate::control::frame::{self, HEAD_BYTES, MalformedFrame};
use crate::control::sys::{peer_credentials, peer_is_in_group, recv_with_fds};
use crate::control::{ErrorKind, Reply, Request};
use crate::limits;
use crate::time::Instant;
use crate::types::Reason;
use slot::{Connection, ConnectionSlot};
pub use slot::{Filled, Pending};

/// The largest reply that a list is continued with, in bytes.
const REPLY_ROOM: usize = 6 * 1024;

/// Whom the control socket serves.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Members may ask; `None`: everybody may.
    pub query_group: Option<u32>,
    /// Members may change.
    pub admin_group: Option<u32>,
}

/// The control socket.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    access: Access,
    slots: Vec<ConnectionSlot>,
    first_token: usize,
    /// Numbers those that wait for the store.
    last_ticket: u64,
}

impl ControlSocket {
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
        let places = (0..limits::CONTROL_CONNECTIONS).map(|_| ConnectionSlot::new(pool)).collect();
        let path = path.to_owned();
        Ok(Self { listener, path, access, slots: places, first_token, last_ticket: 0 })
    }

    /// Serves others from now on; who is connected already may do what they may.
    pub fn set_access(&mut self, access: Access) {
        self.access = access;
        for at in 0..self.slots.len() {
            let Some(connection) = &self.slots[at].connection else { continue };
            let rights = self.rights(&connection.stream);
            if let Some(connection) = self.get(at) {
                (connection.may_query, connection.may_change) = rights;
            }
        }
    }

    /// Takes the socket's file away: who comes from now on is told at once that no
    /// daemon runs.
    pub fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
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
        let Some(at) = self.free_slot(rank(may_ask, may_change), registry) else {
            reject(&mut stream);
            return Ok(());
        };
        let token = Token(self.first_token + at);
        // One that cannot be registered is closed, and its command sees that.
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.slots[at].begin(Connection::new(now, stream, may_ask, may_change));
        Ok(())
    }

    /// A free place, if need be that of somebody who may do less and has the
    /// least time left.
    fn free_slot(&mut self, newcomer: u8, registry: &Registry) -> Option<usize> {
        let free = self.slots.iter().position(|place| place.connection.is_none());
        free.or_else(|| {
            let places = self.slots.iter().enumerate();
            let lesser = places.filter_map(|(at, place)| {
                let connection = place.connection.as_ref()?;
                let rank = rank(connection.may_query, connection.may_change);
                (rank < newcomer).then_some((rank, connection.deadline, at))
            });
            let (_, _, at) = lesser.min()?;
            self.close(at, registry);
            Some(at)
        })
    }

    fn rights(&self, stream: &UnixStream) -> (bool, bool) {
        let Ok(peer) = peer_credentials(stream.as_fd()) else { return (false, false) };
        let is_owner = peer.uid == 0 || peer.uid == sys::own_uid();
        let is_member = |group: u32| peer.gid == group || peer_is_in_group(stream.as_fd(), group);
        let may_change = is_owner || self.access.admin_group.is_some_and(is_member);
        (may_change || self.access.query_group.is_none_or(is_member), may_change)
    }

    /// The connection in a place.
    pub fn get(&mut self, at: usize) -> Option<&mut Connection> {
        self.slots.get_mut(at)?.connection.as_mut()
    }

    /// Which of the connections that had this place is there now.
    #[must_use]
    pub fn generation(&self, at: usize) -> u64 {
        self.slots[at].generation
    }

    /// The next number of one that waits for the store.
    pub fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// The connection that waits longest for the store, if any: its number and place.
    #[must_use]
    pub fn waiting_for_store(&self) -> Option<(u64, usize)> {
        let places = self.slots.iter().enumerate();
        let waiting = places.filter_map(|(at, place)| match place.connection.as_ref()?.pending {
            Pending::WaitingForStore(number) => Some((number, at)),
            _ => None,
        });
        waiting.min()
    }

    /// When the first has waited long enough for other controllers.
    #[must_use]
    pub fn others_deadline(&self) -> Option<Instant> {
        let doings = self.slots.iter().filter_map(|place| Some(&place.connection.as_ref()?.pending));
        let untils = doings.filter_map(|doing| match doing {
            Pending::WaitingForOthers { until, .. } => Some(*until),
            _ => None,
        });
        untils.min()
    }

    /// Reads what has come.
    pub fn fill(&mut self, at: usize) -> Filled {
        let place = &mut self.slots[at];
        let Some(connection) = &mut place.connection else { return Filled::Closed };
        loop {
            let room = &mut place.received[place.received_len..];
            if room.is_empty() {
                return Filled::Full;
            }
            // Who may not change anything has no use for descriptors here, and
            // closing one of a stranger's choice can take long.
            let files = connection.may_change.then_some(&mut connection.files);
            match recv_with_fds(connection.stream.as_fd(), room, files) {
                Ok(0) => return Filled::Closed,
                Ok(got) => place.received_len += got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Filled::All,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Filled::Closed,
            }
        }
    }

    /// Whether there is room to read more.
    #[must_use]
    pub fn can_fill(&self, at: usize) -> bool {
        self.slots[at].received_len < self.slots[at].received.len()
    }

    /// The request that has come whole, if it can be understood.
    ///
    /// # Errors
    /// It cannot: the connection makes no sense any more.
    pub fn request(&self, at: usize) -> Result<Option<Request>, MalformedFrame> {
        let received = &self.slots[at].received[..self.slots[at].received_len];
        Ok(frame::first(received)?.map(|(request, _)| request))
    }

    /// Drops the request that was carried out, and its descriptors.
    pub fn consume(&mut self, now: Instant, at: usize) {
        let place = &mut self.slots[at];
        let Some(head) = place.received[..place.received_len].first_chunk() else { return };
        let body_len = frame::body_len(*head).unwrap_or(limits::CONTROL_FRAME_BYTES);
        let used = (HEAD_BYTES + body_len).min(place.received_len);
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
        limits::CONTROL_FRAME_BYTES - self.slots[at].to_send_len >= REPLY_ROOM
    }

    /// Whether something is still to be written.
    #[must_use]
    pub fn has_unsent(&self, at: usize) -> bool {
        self.slots[at].unsent_len() > 0
    }

    /// Adds a reply. One for which there is no room although what can be written
    /// is written ends the connection: its command does not read.
    pub fn reply(&mut self, at: usize, reply: &Reply) {
        let is_added = self.slots[at].add(reply) || {
            self.slots[at].write();
            self.slots[at].add(reply)
        };
        if let (false, Some(connection)) = (is_added, self.get(at)) {
            connection.is_broken = true;
        }
    }

    /// Ends the answer at hand with success.
    pub fn end(&mut self, at: usize) {
        let end = Reply::End;
        self.reply(at, &end);
        self.done(at);
    }

    /// Ends the answer at hand with an error.
    pub fn fail(&mut self, at: usize, kind: ErrorKind, reason: Reason) {
        self.reply(at, &Reply::Error { kind, reason });
        self.done(at);
    }

    fn done(&mut self, at: usize) {
        if let Some(connection) = self.get(at) {
            connection.pending = Pending::Nothing;
        }
    }

    /// Writes what can be written; false where the connection is over.
    pub fn flush(&mut self, now: Instant, at: usize) -> bool {
        let place = &mut self.slots[at];
        let left = place.unsent_len();
        let is_open = place.write();
        if place.unsent_len() < left {
            self.resume(now, at);
        }
        is_open
    }

    /// Ends a connection whose time is over.
    pub fn on_timeout(&mut self, now: Instant, registry: &Registry) {
        for at in 0..self.slots.len() {
            if self.slots[at].deadline().is_some_and(|deadline| now >= deadline) {
                self.close(at, registry);
            }
        }
    }

    /// When the first connection's time is over.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.slots.iter().filter_map(ConnectionSlot::deadline).min()
    }

    /// A connection has moved, or no longer waits for us: its time begins anew.
    pub fn resume(&mut self, now: Instant, at: usize) {
        if let Some(connection) = self.get(at) {
            connection.restart_deadline(now);
        }
    }

    /// Ends a connection.
    pub fn close(&mut self, at: usize, registry: &Registry) {
        if let Some(mut connection) = self.slots[at].connection.take() {
            let _ = registry.deregister(&mut connection.stream);
        }
    }

    /// Takes a connection out, for a worker that answers it.
    pub fn take(&mut self, at: usize, registry: &Registry) -> Option<UnixStream> {
        let mut connection = self.slots[at].connection.take()?;
        let _ = registry.deregister(&mut connection.stream);
        Some(connection.stream)
    }
}

/// How much somebody may do: asking and changing each count.
fn rank(may_ask: bool, may_change: bool) -> u8 {
    u8::from(may_ask) + u8::from(may_change)
}

/// Tells a command that there is no place for it. A fresh socket takes a line.
fn reject(stream: &mut UnixStream) {
    let reason = Reason::truncated("Too many commands are being answered: try again in a moment.");
    let mut buffer = [0; HEAD_BYTES + 512];
    if let Some(len) = frame::encode(&Reply::Error { kind: ErrorKind::Refused, reason }, &mut buffer) {
        let _ = stream.write(&buffer[..len]);
    }
}
