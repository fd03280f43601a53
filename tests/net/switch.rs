//! A switch in user space: the wire between any two nodes can be cut, also in one
//! direction or after a number of bytes, and each node's traffic is counted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::iter::Sum;
use std::ops::Sub;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use thimble::wire::messages::MsgType;

use crate::filter::datagrams;
use crate::netns::Hub;
use crate::weather::{Fate, Way, Weather};
use crate::{over, sys};

/// The size of the `virtio_net_hdr` before each frame of a packet socket.
pub const VNET_BYTES: usize = 10;

/// What nodes have sent, whether it was delivered or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams by message type.
    pub datagrams: BTreeMap<&'static str, u64>,
    /// Connection requests.
    pub sessions: u64,
    /// Bytes of all frames.
    pub bytes: u64,
}

impl Traffic {
    /// Datagrams of one kind.
    pub fn of(&self, kind: MsgType) -> u64 {
        self.datagrams.get(kind.as_str()).copied().unwrap_or(0)
    }

    /// Datagrams of all kinds.
    pub fn all(&self) -> u64 {
        self.datagrams.values().sum()
    }

    fn add(&mut self, frame: &[u8]) {
        self.bytes += (frame.len() - VNET_BYTES) as u64;
        for (kind, _) in datagrams(frame) {
            *self.datagrams.entry(kind.as_str()).or_default() += 1;
        }
        if over::asks_for_a_connection(frame) {
            self.sessions += 1;
        }
    }
}

impl Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            for (kind, count) in one.datagrams {
                *sum.datagrams.entry(kind).or_default() += count;
            }
            Self { sessions: sum.sessions + one.sessions, bytes: sum.bytes + one.bytes, ..sum }
        })
    }
}

/// The traffic since an earlier count.
impl Sub for Traffic {
    type Output = Self;
    fn sub(mut self, earlier: Self) -> Self {
        for (kind, count) in &mut self.datagrams {
            *count -= earlier.datagrams.get(kind).unwrap_or(&0);
        }
        Self { sessions: self.sessions - earlier.sessions, bytes: self.bytes - earlier.bytes, ..self }
    }
}

/// The state that all ports share.
struct Wires {
    /// From each node to each: the bytes that may still pass.
    left: Vec<Vec<AtomicI64>>,
    /// From each node to each: the bytes that have passed.
    passed: Vec<Vec<AtomicU64>>,
    /// From each node to each: multicast does not pass.
    is_unicast_only: Vec<Vec<AtomicBool>>,
    sent: Vec<Mutex<Traffic>>,
    weather: Mutex<Weather>,
    /// Frames that the weather has lost.
    lost: AtomicU64,
    is_over: AtomicBool,
}

/// Relays between its ports until dropped.
pub struct Switch {
    wires: Arc<Wires>,
    relays: Vec<JoinHandle<()>>,
}

impl Switch {
    /// Connects the outer ends of the wires that [`Hub::wire`] made.
    pub fn new(hub: &Hub, ports: &[String]) -> Self {
        let row = || ports.iter().map(|_| AtomicI64::new(i64::MAX)).collect();
        let wires = Arc::new(Wires {
            left: ports.iter().map(|_| row()).collect(),
            passed: ports.iter().map(|_| ports.iter().map(|_| AtomicU64::new(0)).collect()).collect(),
            is_unicast_only: ports
                .iter()
                .map(|_| ports.iter().map(|_| AtomicBool::new(false)).collect())
                .collect(),
            sent: ports.iter().map(|_| Mutex::default()).collect(),
            weather: Mutex::default(),
            lost: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let open = |port: &String| hub.namespace.enter(|| sys::packet_socket(port)).unwrap();
        let sockets: Arc<[File]> = ports.iter().map(open).collect();
        let start = |from: usize| {
            let (wires, sockets) = (Arc::clone(&wires), Arc::clone(&sockets));
            thread::spawn(move || relay(from, &sockets, &wires))
        };
        let relays = (0..ports.len()).map(start).collect();
        Self { wires, relays }
    }

    /// Lets this many more bytes pass from one port to another.
    pub fn limit(&self, from: usize, to: usize, bytes: i64) {
        self.wires.left[from][to].store(bytes, Ordering::Relaxed);
    }

    /// Makes all wires as bad as this from now on.
    pub fn set_weather(&self, weather: Weather) {
        *self.wires.weather.lock().unwrap() = weather;
    }

    /// The frames that the weather has lost so far.
    pub fn lost(&self) -> u64 {
        self.wires.lost.load(Ordering::Relaxed)
    }

    /// Drops the multicast frames from one port to another, or passes them.
    pub fn drop_multicast(&self, from: usize, to: usize, is_dropped: bool) {
        self.wires.is_unicast_only[from][to].store(is_dropped, Ordering::Relaxed);
    }

    /// Makes it drop what is sent to thimble's groups, or forward it again.
    #[cfg(not(feature = "tipc"))]
    pub fn eat_multicast(&self, eats: bool) {
        for to in self.wires.is_unicast_only.iter().flatten() {
            to.store(eats, Ordering::Relaxed);
        }
    }

    /// The bytes that have passed from one port to another so far: not what was sent into
    /// a wire that was cut.
    pub fn passed(&self, from: usize, to: usize) -> u64 {
        self.wires.passed[from][to].load(Ordering::Relaxed)
    }

    /// What the node at a port has sent so far.
    pub fn sent(&self, port: usize) -> Traffic {
        self.wires.sent[port].lock().unwrap().clone()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.wires.is_over.store(true, Ordering::Relaxed);
        for relay in self.relays.drain(..) {
            let _ = relay.join();
        }
    }
}

fn relay(from: usize, sockets: &[File], wires: &Wires) {
    let mut buffer = vec![0; VNET_BYTES + 65_536 + 64];
    let mut way = Way::new(from, sockets.len());
    // A frame that cannot be sent on is lost, as on any wire.
    let deliver = |to: usize, frame: &[u8]| {
        if (&sockets[to]).write(frame).is_ok() {
            wires.passed[from][to].fetch_add(frame.len() as u64, Ordering::Relaxed);
        }
    };
    while !wires.is_over.load(Ordering::Relaxed) {
        while let Some((to, frame)) = way.due() {
            deliver(to, &frame);
        }
        // Nothing was received within the socket's timeout, or the interface is gone.
        let Ok(len) = (&sockets[from]).read(&mut buffer) else { continue };
        let frame = &buffer[..len];
        wires.sent[from].lock().unwrap().add(frame);
        let weather = *wires.weather.lock().unwrap();
        for to in (0..sockets.len()).filter(|to| *to != from) {
            if wires.is_unicast_only[from][to].load(Ordering::Relaxed) && over::is_to_group(frame) {
                continue;
            }
            let left = &wires.left[from][to];
            let is_cut = left.load(Ordering::Relaxed) != i64::MAX
                && left.fetch_sub(len as i64, Ordering::Relaxed) < len as i64;
            if is_cut {
                continue;
            }
            match way.fate(weather, to, frame) {
                Fate::Passes => (0..1 + u32::from(weather.is_doubled)).for_each(|_| deliver(to, frame)),
                Fate::Late => {}
                Fate::Lost => drop(wires.lost.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }
}
