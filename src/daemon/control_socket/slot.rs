//! One connection of the control socket: its buffers, its rights, its deadline.

use std::io::{self, Write};
use std::os::fd::OwnedFd;

use heapless::Vec as FixedVec;
use mio::net::UnixStream;

use crate::control::frame::{self, FRAME_BYTES};
use crate::control::sys::FDS;
use crate::control::{HostFilter, Reply, Request};
use crate::daemon::buffers::{Buffer, Pool};
use crate::limits;
use crate::repo::slots::SlotSet;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, PatchId, Reason};

/// A connection that neither sends a request nor reads its answer is closed after this
/// time.
const IDLE: Duration = Duration::from_secs(30);

/// The request that a connection is executing.
#[derive(Clone, Debug, Default)]
#[allow(clippy::large_enum_variant, reason = "there is one for each of a few connections")]
pub enum Pending {
    /// None: ready for the next request.
    #[default]
    Nothing,
    /// Listing patches, by id.
    Patches {
        /// Only these, if given.
        only: Option<SlotSet>,
        /// The last one listed.
        after: Option<PatchId>,
    },
    /// Listing the patches that a patch of the set requires, by id. The last one listed.
    Required(SlotSet, Option<PatchId>),
    /// Listing the patches that require a patch of the set. The last pair listed.
    Requiring(SlotSet, Option<(PatchId, PatchId)>),
    /// Listing hosts, from the last slot down. Dropping a host moves the last host into
    /// its slot, so in this order no host is skipped.
    Hosts {
        /// Which hosts.
        filter: HostFilter,
        /// Slots that are still to be listed: those below this.
        left: usize,
    },
    /// Listing these hosts, from this index on.
    NamedHosts(FixedVec<NodeId, { limits::COMMAND_NAMES }>, usize),
    /// Listing hosts on which a patch is not as it should be, as [`Hosts`](Self::Hosts) does.
    HostsWithout {
        /// Which patch.
        id: PatchId,
        /// Slots that are still to be listed: those below this.
        left: usize,
    },
    /// Waiting until the store is read and no other command changes it. The connection
    /// with the lowest number is next.
    WaitingForStore(u64),
    /// Waiting for its worker.
    WaitingForWorker,
    /// Waiting until other controllers have a change too.
    WaitingForOthers {
        /// The number of the change.
        number: u32,
        /// When to stop waiting.
        until: Instant,
    },
}

impl Pending {
    /// Whether the command waits for the daemon. The connection then has no deadline.
    #[must_use]
    pub const fn is_waiting_for_daemon(&self) -> bool {
        matches!(self, Self::WaitingForStore(_) | Self::WaitingForWorker | Self::WaitingForOthers { .. })
    }
}

/// The user of a connection, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The user.
    pub uid: u32,
    /// Root, or the daemon's own user.
    pub is_owner: bool,
    /// Whether it may query.
    pub may_query: bool,
    /// Whether it may change the repository, hosts and configuration.
    pub may_change: bool,
}

impl Rights {
    /// The more rights, the higher.
    #[must_use]
    pub fn rank(&self) -> u8 {
        u8::from(self.may_query) + u8::from(self.may_change) + u8::from(self.is_owner)
    }

    /// How many connections this user may have at once; an owner as many as there are.
    #[must_use]
    pub const fn share(&self) -> usize {
        match (self.is_owner, self.may_change) {
            (true, _) => usize::MAX,
            (false, true) => limits::CONTROL_ADMIN_SHARE,
            (false, false) => limits::CONTROL_SHARE,
        }
    }
}

/// One connection.
pub struct Connection {
    /// Its socket.
    pub stream: UnixStream,
    /// Its user's rights.
    pub rights: Rights,
    /// The protocol version has been agreed on.
    pub is_greeted: bool,
    /// The request that is being executed.
    pub pending: Pending,
    /// To be closed once everything is sent.
    pub is_closing: bool,
    /// A reply did not fit into the buffer, so the answer is incomplete.
    pub is_broken: bool,
    /// When it is closed, unless it makes progress or waits for the daemon.
    pub deadline: Instant,
    /// Descriptors received with the request.
    pub files: FixedVec<OwnedFd, FDS>,
}

/// The result of reading from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Everything that was received so far has been read.
    All,
    /// The buffer is full: there may be more to read.
    Full,
    /// The command has closed its end.
    Closed,
}

/// A slot for a connection, with its buffers.
pub struct ConnectionSlot {
    /// The connection, if the slot is taken.
    pub connection: Option<Connection>,
    /// Counts the connections that have had this slot.
    pub generation: u64,
    /// Received requests. The first one starts at the buffer's start.
    pub received: Buffer,
    /// The length of the data in `received`.
    pub received_len: usize,
    to_send: Buffer,
    /// The length of the data in `to_send`. Reset to 0 once all of it is sent.
    pub to_send_len: usize,
    /// The part of `to_send_len` that is sent already.
    sent_len: usize,
}

impl Connection {
    /// A connection with these rights.
    #[must_use]
    pub fn new(now: Instant, stream: UnixStream, rights: Rights) -> Self {
        Self {
            stream,
            rights,
            is_greeted: false,
            pending: Pending::Nothing,
            is_closing: false,
            is_broken: false,
            deadline: now + IDLE,
            files: FixedVec::new(),
        }
    }

    /// Restarts the deadline.
    pub fn restart_deadline(&mut self, now: Instant) {
        self.deadline = now + IDLE;
    }

    /// Why this request is denied, if it is.
    #[must_use]
    pub fn denial(&self, request: &Request) -> Option<Reason> {
        let changes = match request {
            Request::Upload { .. }
            | Request::Change { .. }
            | Request::HostInstall { .. }
            | Request::DropHost { .. }
            | Request::Purge
            | Request::StartRollout { .. }
            | Request::StopRollout
            | Request::ResumeRollout
            | Request::Spread { .. }
            | Request::StopSpread
            | Request::Reload
            | Request::DropController { .. } => true,
            Request::Hello { .. }
            | Request::Query
            | Request::Show { .. }
            | Request::QueryHosts { .. }
            | Request::Hosts { .. }
            | Request::ExplainHost { .. }
            | Request::Ping { .. }
            | Request::HostsWithout { .. }
            | Request::Rollout
            | Request::Patches { .. }
            | Request::WouldCommit { .. }
            | Request::Requires { .. }
            | Request::WhatRequires { .. }
            | Request::Spreading
            | Request::Status => false,
        };
        let denied = match changes {
            true if !self.rights.may_change => {
                "change anything: only root and members of node.admin_group may"
            }
            false if !self.rights.may_query => "query: only root and members of node.query_group may",
            _ => return None,
        };
        Some(Reason::format(format_args!("You may not {denied}.")))
    }
}

impl ConnectionSlot {
    /// A free slot, with buffers from the pool.
    #[must_use]
    pub fn new(pool: &mut Pool) -> Self {
        Self {
            connection: None,
            generation: 0,
            received: pool.take(FRAME_BYTES),
            received_len: 0,
            to_send: pool.take(limits::CONTROL_FRAME_BYTES),
            to_send_len: 0,
            sent_len: 0,
        }
    }

    /// Puts a connection into the slot.
    pub fn begin(&mut self, connection: Connection) {
        self.generation += 1;
        (self.received_len, self.to_send_len, self.sent_len) = (0, 0, 0);
        self.connection = Some(connection);
    }

    /// When the connection is closed. `None` while it waits for the daemon.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let connection = self.connection.as_ref()?;
        (!connection.pending.is_waiting_for_daemon()).then_some(connection.deadline)
    }

    /// Bytes that are still to be written.
    #[must_use]
    pub fn unsent_len(&self) -> usize {
        self.to_send_len - self.sent_len
    }

    /// Appends a reply; false if there is no room for it.
    pub fn add(&mut self, reply: &Reply) -> bool {
        let Some(len) = frame::encode(reply, &mut self.to_send[self.to_send_len..]) else { return false };
        self.to_send_len += len;
        true
    }

    /// Writes what the socket takes; false if the connection is to be closed.
    pub fn write(&mut self) -> bool {
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
