//! One connection of the control socket: its buffers, its rights, its time.

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

/// A connection that neither asks nor takes its answer for so long is ended.
const IDLE: Duration = Duration::from_secs(30);

/// What a connection is in the middle of.
#[derive(Clone, Debug, Default)]
#[allow(clippy::large_enum_variant, reason = "one for each of a few connections")]
pub enum Pending {
    /// Nothing: the next request may come.
    #[default]
    Nothing,
    /// Listing patches, by id.
    Patches {
        /// These alone.
        only: Option<SlotSet>,
        /// Those after this one.
        after: Option<PatchId>,
    },
    /// Listing what a patch of the set requires, by id, after this one.
    Required(SlotSet, Option<PatchId>),
    /// Listing what requires a patch of the set, after this pair.
    Requiring(SlotSet, Option<(PatchId, PatchId)>),
    /// Listing hosts, from the last slot down: one that is dropped meanwhile makes
    /// a host that was listed already move, and none that was not.
    Hosts {
        /// Which hosts.
        filter: HostFilter,
        /// Slots that are still to be looked at.
        left: usize,
    },
    /// Listing these hosts, from this place in the list on.
    NamedHosts(FixedVec<NodeId, { limits::COMMAND_NAMES }>, usize),
    /// Waiting until the store is read and no other command changes it, with this
    /// number: the lowest is next.
    WaitingForStore(u64),
    /// Waiting for its worker.
    WaitingForWorker {
        /// What to say besides, once that is done.
        and_then: Option<&'static str>,
    },
    /// Waiting for other controllers to have a change too.
    WaitingForOthers {
        /// The change.
        number: u32,
        /// No longer than this.
        until: Instant,
    },
}

impl Pending {
    /// Whether nothing is to be read or written until something else has happened.
    #[must_use]
    pub const fn is_waiting_for_daemon(&self) -> bool {
        matches!(
            self,
            Self::WaitingForStore(_) | Self::WaitingForWorker { .. } | Self::WaitingForOthers { .. }
        )
    }
}

/// One connection.
pub struct Connection {
    /// Its socket.
    pub stream: UnixStream,
    /// It may see what is there.
    pub may_query: bool,
    /// It may change what is there.
    pub may_change: bool,
    /// It has agreed on the protocol's version.
    pub is_greeted: bool,
    /// What it is in the middle of.
    pub pending: Pending,
    /// Ends once all is sent.
    pub is_closing: bool,
    /// A reply was lost for lack of room: what is sent makes no sense any more.
    pub is_broken: bool,
    /// When it is over unless it moves or waits for us.
    pub deadline: Instant,
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
    Closed,
}

/// A place for a connection, with its buffers.
pub struct ConnectionSlot {
    /// The connection, if the place is taken.
    pub connection: Option<Connection>,
    /// Counts the connections that had this place.
    pub generation: u64,
    /// Requests, the first of them from the start.
    pub received: Buffer,
    /// Bytes received.
    pub received_len: usize,
    to_send: Buffer,
    /// Bytes to send, from the first that was not sent when nothing was left.
    pub to_send_len: usize,
    sent_len: usize,
}

impl Connection {
    /// A connection of somebody with these rights.
    #[must_use]
    pub fn new(now: Instant, stream: UnixStream, may_ask: bool, may_change: bool) -> Self {
        Self {
            stream,
            may_query: may_ask,
            may_change,
            is_greeted: false,
            pending: Pending::Nothing,
            is_closing: false,
            is_broken: false,
            deadline: now + IDLE,
            files: FixedVec::new(),
        }
    }

    /// It has moved, or no longer waits for us: its time begins anew.
    pub fn restart_deadline(&mut self, now: Instant) {
        self.deadline = now + IDLE;
    }

    /// Why this request is not allowed, if it is not.
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
            | Request::Reload
            | Request::DropController { .. } => true,
            Request::Hello { .. }
            | Request::Query
            | Request::Show { .. }
            | Request::QueryHosts { .. }
            | Request::Hosts { .. }
            | Request::Rollout
            | Request::Patches { .. }
            | Request::WouldCommit { .. }
            | Request::Requires { .. }
            | Request::WhatRequires { .. }
            | Request::Status => false,
        };
        let denied = match changes {
            true if !self.may_change => "change anything: that is for root and members of node.admin_group",
            false if !self.may_query => "ask: that is for root and members of node.query_group",
            _ => return None,
        };
        Some(Reason::format(format_args!("You may not {denied}.")))
    }
}

impl ConnectionSlot {
    /// A free place, with buffers from the pool.
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

    /// Takes the place for a connection.
    pub fn begin(&mut self, connection: Connection) {
        self.generation += 1;
        (self.received_len, self.to_send_len, self.sent_len) = (0, 0, 0);
        self.connection = Some(connection);
    }

    /// When it is over; not while it waits for us.
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

    /// Adds a reply to what is sent; false where there is no room for it.
    pub fn add(&mut self, reply: &Reply) -> bool {
        let Some(len) = frame::encode(reply, &mut self.to_send[self.to_send_len..]) else { return false };
        self.to_send_len += len;
        true
    }

    /// Writes what can be written; false where the connection is over.
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
