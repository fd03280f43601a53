//! A machine: its disk, and the daemon on it.

use std::net::{Ipv4Addr, SocketAddr};

use thimble::fsm::actions::{Actions, Peer};
use thimble::fsm::agent::{Agent, AgentFacts};
use thimble::fsm::controller::{Controller, ControllerTimers, Tables};
use thimble::fsm::installed::Installed;
use thimble::fsm::node::Node;
use thimble::fsm::random::Random;
use thimble::fsm::reasons::{InstallReason, Reasons};
use thimble::fsm::requests::RequestTimers;
use thimble::fsm::sync::SyncTimers;
use thimble::fsm::sync::blobs::BlobError;
use thimble::limits::{CONTROLLERS, DETAILED_QUERIES, ENTRIES};
use thimble::list::reserved;
use thimble::repo::entry::Entry;
use thimble::repo::map::Map;
use thimble::table::{Table, index_len};
use thimble::time::{Duration, Instant};
use thimble::types::{ClusterId, Digest, Hash, Hostname, Name, NodeId, NodeType};
use thimble::wire::codec::{Codec, Identity, Roles};
use thimble::wire::frame::Purpose;
use thimble::wire::keys::{Key, KeyRing};
use thimble::wire::replay::ReplayGuard;

use crate::dice::Dice;
use crate::disk::{Disk, Files, encode};
use crate::receive::Receiving;
use crate::repository::MapFile;
use crate::sessions::Link;
use crate::spread::Sending;
use crate::worker::Worker;

const SECRET: Key = Key([7; 32]);
/// The most patches of a host and entries of a map in the simulation.
pub const PATCHES: usize = 16;
/// How long a sender is remembered.
const SENDER_LIFETIME: Duration = Duration::from_secs(60);
/// How long a node that missed its window is asked.
pub const PROBE: Duration = Duration::from_millis(600);
pub const TIMERS: ControllerTimers = ControllerTimers {
    hello_interval: Duration::from_millis(1_000),
    probe: PROBE,
    host_lost: Duration::from_secs(20),
    query_timeout: Duration::from_millis(300),
    request: RequestTimers {
        retry: Duration::from_millis(200),
        give_up: Duration::from_secs(4),
        stall: Duration::from_secs(60),
    },
    sync: SyncTimers {
        hello_interval: Duration::from_millis(1_000),
        probe: PROBE,
        hello_start: Duration::from_millis(100),
        controller_lost: Duration::from_secs(4),
        retry: Duration::from_millis(100),
    },
};
const REJECTION_SHOWN: Duration = Duration::from_secs(1);

pub struct Machine {
    pub index: usize,
    pub id: NodeId,
    pub roles: Roles,
    pub nodetype: NodeType,
    pub disk: Disk,
    /// The durable repository on the disk.
    pub map: MapFile,
    /// Backups of the disk, the oldest first.
    pub backups: Vec<Files>,
    /// It lacks the key that some patches are signed with.
    pub lacks_key: bool,
    /// It has room for files that are sent to all hosts.
    pub has_room: bool,
    /// The clock was set when the disk was restored.
    pub has_clock: bool,
    pub process: Option<Process>,
    /// Starts of the daemon so far.
    pub starts: u32,
}

/// A running daemon: everything that a kill destroys.
pub struct Process {
    /// Which start of the machine's daemon it is.
    pub start: u32,
    pub node: Node<'static>,
    pub codec: Codec<'static>,
    pub actions: Actions,
    /// When it is woken next.
    pub wake: Option<u64>,
    /// The time of the last wake, and how many there were at that time.
    pub wakes: (u64, u32),
    /// Sessions that it opened: peer, purpose and token.
    pub sessions: Vec<(NodeId, Purpose, u64)>,
    /// Sessions that are ready for a worker.
    pub ready: Vec<(NodeId, Purpose, Link)>,
    pub workers: Vec<Worker>,
    /// Controller: the worker that sends a file to all hosts.
    pub sending: Option<Sending>,
    /// Agent: the worker that receives one.
    pub receiving: Option<Receiving>,
    /// Controller: the worker that holds the lock of the repository.
    pub lock: Option<u64>,
    /// Controller: the whole map on the disk is in memory.
    pub is_loaded: bool,
    /// Controller: the purge floor that is served to others.
    pub floor_told: u64,
    /// Controller: it is to be read again.
    pub must_load: bool,
    /// Controller: the changes that were acknowledged here, by their numbers.
    pub changes: Vec<(u32, Vec<Entry>)>,
}

/// A node's address over IP: its machine's index.
pub fn peer(machine: usize) -> Peer {
    let [.., high, low] = machine.to_be_bytes();
    Peer::Ip(SocketAddr::from((Ipv4Addr::new(10, 0, high, low), 7489)))
}

/// The machine at an address.
pub fn machine_at(peer: Peer) -> usize {
    match peer {
        Peer::Ip(SocketAddr::V4(address)) => {
            let [_, _, high, low] = address.ip().octets();
            usize::from(u16::from_be_bytes([high, low]))
        }
        Peer::Ip(SocketAddr::V6(_)) => panic!("no such address here: {peer}"),
        Peer::Tipc { node, .. } => node as usize,
    }
}

pub fn name<const N: usize>(text: &str) -> Name<N> {
    Name::new(text).expect("a name of the simulation")
}

/// Memory for a process. It is never freed, as in a daemon; a run has a few hundred
/// starts.
fn lend<T: Clone>(value: &T, count: usize) -> &'static mut [T] {
    Vec::leak(vec![value.clone(); count])
}

impl Machine {
    pub fn new(index: usize, dice: &mut Dice, roles: Roles) -> Self {
        let kind = if roles.is_controller { "controller" } else { "worker" };
        Self {
            index,
            id: NodeId(dice.next()),
            roles,
            nodetype: name(kind),
            disk: Disk::default(),
            map: MapFile::default(),
            backups: Vec::new(),
            lacks_key: false,
            has_room: dice.chance(900),
            has_clock: false,
            process: None,
            starts: 0,
        }
    }

    /// Starts the daemon and returns its incarnation, which is durable.
    pub fn start(&mut self, now: u64, dice: &mut Dice, machines: usize) -> u64 {
        // An appliance's clock may begin at zero with every start.
        let is_lost = dice.chance(300) && !std::mem::take(&mut self.has_clock);
        let clock = if is_lost { 0 } else { 1_000_000 + now };
        let stored: u64 = self.disk.decode("incarnation").unwrap_or(0);
        let incarnation = clock.max(stored + 1);
        self.disk.write("incarnation.new", encode(&incarnation));
        self.disk.sync("incarnation.new");
        self.disk.rename("incarnation.new", "incarnation");
        self.disk.sync_all();

        self.starts += 1;
        let mut random = Random::new(dice.seed());
        let now = Instant::from_millis(now);
        let agent = self.roles.is_agent.then(|| self.agent(now, &mut random));
        let controller = self.roles.is_controller.then(|| {
            let slots: &'static mut Vec<Entry> =
                Box::leak(Box::new(Vec::with_capacity(PATCHES.min(ENTRIES))));
            let index = lend(&0, index_len(machines));
            let hosts = Table::new(reserved(machines), index);
            let reasons = Reasons::new(lend(&InstallReason::default(), machines));
            let queries = lend(&None, DETAILED_QUERIES);
            let (neighbours, blob_whys) = (lend(&None, CONTROLLERS - 1), lend(&BlobError::default(), 8));
            let map = Map::new(slots);
            let tables = Tables { map, hosts, queries, reasons, neighbours, blob_errors: blob_whys };
            Controller::new(now, self.id, TIMERS, tables)
        });
        self.process = Some(Process {
            start: self.starts,
            node: Node { controller, agent, random },
            codec: self.codec(incarnation, machines),
            actions: Actions::default(),
            wake: None,
            wakes: (0, 0),
            sessions: Vec::new(),
            ready: Vec::new(),
            workers: Vec::new(),
            sending: None,
            receiving: None,
            lock: None,
            is_loaded: false,
            floor_told: 0,
            must_load: false,
            changes: Vec::new(),
        });
        incarnation
    }

    fn agent(&self, now: Instant, random: &mut Random) -> Agent<'static> {
        let facts = AgentFacts {
            node: self.id,
            hostname: self.hostname(),
            nodetype: self.nodetype.clone(),
            sw_version: name("1.0"),
            rejection_shown: REJECTION_SHOWN,
            hello_interval: TIMERS.hello_interval,
        };
        let list = || Box::leak(Box::new(Vec::with_capacity(PATCHES)));
        let installed = Installed::new(list(), list());
        Agent::new(now, facts, installed, random)
    }

    fn codec(&self, incarnation: u64, machines: usize) -> Codec<'static> {
        let ring = match self.roles.is_controller {
            true => KeyRing::controller(&SECRET),
            false => KeyRing::agent(&SECRET, self.id),
        };
        let identity = Identity {
            cluster: ClusterId(1),
            node: self.id,
            incarnation,
            roles: self.roles,
            ring,
            revoked: heapless::Vec::new(),
        };
        let windows = Table::new(reserved(machines), lend(&0, index_len(machines)));
        Codec::new(identity, ReplayGuard::new(windows, SENDER_LIFETIME))
    }

    pub fn hostname(&self) -> Hostname {
        name(&format!("host-{}", self.index))
    }

    /// Whether it cannot verify this patch file: half of all files are signed with a key that
    /// one machine may lack.
    pub fn distrusts(&self, hash: &Hash) -> bool {
        self.lacks_key && hash.0[0].is_multiple_of(2)
    }

    /// The controller's side of the daemon.
    pub fn controller(&self) -> Option<&Controller<'static>> {
        self.process.as_ref()?.node.controller.as_ref()
    }

    /// Whether the daemon of this start still runs.
    pub fn is_alive(&self, start: u32) -> bool {
        self.process.as_ref().is_some_and(|process| process.start == start)
    }
}

/// A digest as the log shows it.
pub fn short(digest: &Digest) -> String {
    format!("{digest:.8}")
}
