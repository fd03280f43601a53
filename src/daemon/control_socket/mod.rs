//! The control socket: connections of commands on this host, and their rights.
//!
//! A request stays in its connection's buffer until it is executed; a request that
//! waits for the store waits there. Replies are written to a buffer of fixed size, and
//! long lists are continued as the buffer drains.
//!
//! Every user on the host may connect and the number of slots is small, so each user has
//! a share of them, and no idle connection holds a slot for long: a connection that
//! neither sends a request nor reads its answer is closed after a timeout. It is closed
//! at once if all slots are taken and a new connection has more rights: `admin_group`
//! before those who may only query, root before all.

mod id;
mod slot;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
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
pub use id::ConnectionId;
use slot::{Connection, ConnectionSlot, Rights};
pub use slot::{Filled, Pending};

/// The free space in the buffer that is needed to continue a list, in bytes: the size
/// of the largest reply in a list.
const REPLY_ROOM: usize = 6 * 1024;

/// The groups that the control socket serves. Root and the daemon's own user may do
/// everything.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Members may query; `None`: every user may.
    pub query_group: Option<u32>,
    /// Members may query and change.
    pub admin_group: Option<u32>,
}

/// The control socket.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    access: Access,
    slots: Vec<ConnectionSlot>,
    first_token: usize,
    /// The last number given to a connection that waits for the store.
    last_ticket: u64,
    /// Connections refused: all slots, or all of the user's share, were taken.
    pub refused: u64,
}

impl ControlSocket {
    /// Opens the socket. Replaces the socket file of a daemon that no longer runs.
    ///
    /// # Errors
    /// Another daemon serves it, or it cannot be created.
    pub fn open(path: &Path, access: Access, first_token: usize, pool: &mut Pool) -> Result<Self, String> {
        let failed = |error: io::Error| format!("control socket {}: {error}", path.display());
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(format!(
                "control socket {}: another thimble daemon serves it; stop that daemon first, or give this \
                 one a control_socket of its own",
                path.display()
            ));
        }
        if let Some(parent) = path.parent() {
            // Whatever the umask: whoever can write there could put another socket in its place.
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed)?;
        }
        match std::fs::symlink_metadata(path) {
            // Nothing listens on it: an earlier daemon left it behind.
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map_err(failed)?,
            Ok(_) => {
                return Err(format!(
                    "control socket {}: a file that is not a socket has this path and is left alone; move it \
                     away, or configure another control_socket",
                    path.display()
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Everybody may connect: rights are checked by the peer's credentials.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
        let slots = (0..limits::CONTROL_CONNECTIONS).map(|_| ConnectionSlot::new(pool)).collect();
        let path = path.to_owned();
        Ok(Self { listener, path, access, slots, first_token, last_ticket: 0, refused: 0 })
    }

    /// Changes the groups that are served. Applies to open connections as well.
    pub fn set_access(&mut self, access: Access) {
        self.access = access;
        for at in 0..self.slots.len() {
            let Some(connection) = &self.slots[at].connection else { continue };
            let rights = self.rights(&connection.stream);
            if let Some(connection) = self.get(at) {
                connection.rights = rights;
            }
        }
    }

    /// Removes the socket's file, so that new commands fail to connect at once.
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
    /// As `accept(2)`: `WouldBlock` if no connection is pending.
    pub fn accept(&mut self, now: Instant, registry: &Registry) -> io::Result<()> {
        let (mut stream, _) = self.listener.accept()?;
        let rights = self.rights(&stream);
        let held = self.connections().filter(|one| one.rights.uid == rights.uid).count();
        if held >= rights.share() {
            self.refused += 1;
            reject(&mut stream, &over_share(rights.uid, held));
            return Ok(());
        }
        let Some(at) = self.free_slot(rights.rank(), registry) else {
            self.refused += 1;
            reject(&mut stream, &Reason::truncated(ALL_TAKEN));
            return Ok(());
        };
        let token = Token(self.first_token + at);
        // A connection that cannot be registered is closed, which its command sees.
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.slots[at].begin(Connection::new(now, stream, rights));
        Ok(())
    }

    fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().filter_map(|slot| slot.connection.as_ref())
    }

    /// A free slot. If none is free, closes the connection with the lowest rank below
    /// `newcomer`, among equals the one with the earliest deadline.
    fn free_slot(&mut self, newcomer: u8, registry: &Registry) -> Option<usize> {
        let free = self.slots.iter().position(|slot| slot.connection.is_none());
        free.or_else(|| {
            let slots = self.slots.iter().enumerate();
            let evictable = slots.filter_map(|(at, slot)| {
                let connection = slot.connection.as_ref()?;
                let rank = connection.rights.rank();
                (rank < newcomer).then_some((rank, connection.deadline, at))
            });
            let (_, _, at) = evictable.min()?;
            self.close(at, registry);
            Some(at)
        })
    }

    fn rights(&self, stream: &UnixStream) -> Rights {
        let Ok(peer) = peer_credentials(stream.as_fd()) else {
            return Rights { uid: u32::MAX, is_owner: false, may_query: false, may_change: false };
        };
        let is_owner = peer.uid == 0 || peer.uid == sys::own_uid();
        let is_member = |group: u32| peer.gid == group || peer_is_in_group(stream.as_fd(), group);
        let may_change = is_owner || self.access.admin_group.is_some_and(is_member);
        let may_query = may_change || self.access.query_group.is_none_or(is_member);
        Rights { uid: peer.uid, is_owner, may_query, may_change }
    }

    /// The connection in a slot.
    pub fn get(&mut self, at: usize) -> Option<&mut Connection> {
        self.slots.get_mut(at)?.connection.as_mut()
    }

    /// A number for a connection that starts to wait for the store.
    pub fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// The connection that has waited longest for the store, if any: its number and slot.
    #[must_use]
    pub fn waiting_for_store(&self) -> Option<(u64, usize)> {
        let slots = self.slots.iter().enumerate();
        let waiting = slots.filter_map(|(at, slot)| match slot.connection.as_ref()?.pending {
            Pending::WaitingForStore(number) => Some((number, at)),
            _ => None,
        });
        waiting.min()
    }

    /// The earliest time at which a connection stops waiting for other controllers.
    #[must_use]
    pub fn others_deadline(&self) -> Option<Instant> {
        let pending = self.slots.iter().filter_map(|slot| Some(&slot.connection.as_ref()?.pending));
        let deadlines = pending.filter_map(|pending| match pending {
            Pending::WaitingForOthers { until, .. } => Some(*until),
            _ => None,
        });
        deadlines.min()
    }

    /// Reads until the socket or the buffer is exhausted.
    pub fn fill(&mut self, at: usize) -> Filled {
        let slot = &mut self.slots[at];
        let Some(connection) = &mut slot.connection else { return Filled::Closed };
        loop {
            let room = &mut slot.received[slot.received_len..];
            if room.is_empty() {
                return Filled::Full;
            }
            // Only requests that change something take descriptors. Those of any other
            // connection are not received: closing a descriptor of its choice can block.
            let files = connection.rights.may_change.then_some(&mut connection.files);
            match recv_with_fds(connection.stream.as_fd(), room, files) {
                Ok(0) => return Filled::Closed,
                Ok(got) => slot.received_len += got,
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

    /// The first request, if it has been received completely.
    ///
    /// # Errors
    /// The frame is malformed: nothing after it can be decoded either.
    pub fn request(&self, at: usize) -> Result<Option<Request>, MalformedFrame> {
        let received = &self.slots[at].received[..self.slots[at].received_len];
        Ok(frame::first(received)?.map(|(request, _)| request))
    }

    /// Drops the request that was executed, and its descriptors.
    pub fn consume(&mut self, now: Instant, at: usize) {
        let slot = &mut self.slots[at];
        let Some(head) = slot.received[..slot.received_len].first_chunk() else { return };
        let body_len = frame::body_len(*head).unwrap_or(limits::CONTROL_FRAME_BYTES);
        let used = (HEAD_BYTES + body_len).min(slot.received_len);
        slot.received.copy_within(used..slot.received_len, 0);
        slot.received_len -= used;
        if let Some(connection) = &mut slot.connection {
            connection.files.clear();
        }
        self.resume(now, at);
    }

    /// Whether the buffer has room for one more reply of a list.
    #[must_use]
    pub fn has_room(&self, at: usize) -> bool {
        limits::CONTROL_FRAME_BYTES - self.slots[at].to_send_len >= REPLY_ROOM
    }

    /// Whether bytes are still to be written.
    #[must_use]
    pub fn has_unsent(&self, at: usize) -> bool {
        self.slots[at].unsent_len() > 0
    }

    /// Adds a reply. If the buffer is full, writes what the socket takes first. If there
    /// is still no room, the command does not read, and the connection ends.
    pub fn reply(&mut self, at: usize, reply: &Reply) {
        let is_added = self.slots[at].add(reply) || {
            self.slots[at].write();
            self.slots[at].add(reply)
        };
        if let (false, Some(connection)) = (is_added, self.get(at)) {
            connection.is_broken = true;
        }
    }

    /// Ends the current answer with success.
    pub fn end(&mut self, at: usize) {
        let end = Reply::End;
        self.reply(at, &end);
        self.done(at);
    }

    /// Ends the current answer with an error.
    pub fn fail(&mut self, at: usize, kind: ErrorKind, reason: Reason) {
        self.reply(at, &Reply::Error { kind, reason });
        self.done(at);
    }

    fn done(&mut self, at: usize) {
        if let Some(connection) = self.get(at) {
            connection.pending = Pending::Nothing;
        }
    }

    /// Writes what the socket takes; false if the connection is to be closed.
    pub fn flush(&mut self, now: Instant, at: usize) -> bool {
        let slot = &mut self.slots[at];
        let left = slot.unsent_len();
        let is_open = slot.write();
        if slot.unsent_len() < left {
            self.resume(now, at);
        }
        is_open
    }

    /// Closes the connections whose deadline has passed.
    pub fn on_timeout(&mut self, now: Instant, registry: &Registry) {
        for at in 0..self.slots.len() {
            if self.slots[at].deadline().is_some_and(|deadline| now >= deadline) {
                self.close(at, registry);
            }
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.slots.iter().filter_map(ConnectionSlot::deadline).min()
    }

    /// Restarts the deadline of a connection that made progress or no longer waits for
    /// the daemon.
    pub fn resume(&mut self, now: Instant, at: usize) {
        if let Some(connection) = self.get(at) {
            connection.restart_deadline(now);
        }
    }

    /// Closes a connection.
    pub fn close(&mut self, at: usize, registry: &Registry) {
        if let Some(mut connection) = self.slots[at].connection.take() {
            let _ = registry.deregister(&mut connection.stream);
        }
    }

    /// Removes a connection from its slot, to hand it to a worker.
    pub fn take(&mut self, at: usize, registry: &Registry) -> Option<UnixStream> {
        let mut connection = self.slots[at].connection.take()?;
        let _ = registry.deregister(&mut connection.stream);
        Some(connection.stream)
    }
}

/// The refusal where no slot is free.
const ALL_TAKEN: &str = "Too many commands are being answered: try again in a moment.";

/// The refusal of a connection beyond its user's share.
fn over_share(uid: u32, held: usize) -> Reason {
    Reason::format(format_args!(
        "User {uid} has {held} commands open on this daemon, as many as one user may: wait until one of them \
         ends, or end one (a `thimble watch`, for example)."
    ))
}

/// Tells a command why it is not served. The buffer of a new socket has room for this.
fn reject(stream: &mut UnixStream, reason: &Reason) {
    let mut buffer = [0; HEAD_BYTES + 512];
    let reply = Reply::Error { kind: ErrorKind::Refused, reason: reason.clone() };
    if let Some(len) = frame::encode(&reply, &mut buffer) {
        let _ = stream.write(&buffer[..len]);
    }
}
