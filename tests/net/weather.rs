//! What a bad wire does to all that passes a switch, other than being cut.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::over;

/// How bad the wires are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Of a thousand frames so many are lost, on each wire and in each direction.
    pub lost_permille: u64,
    /// Which ones: a frame of this number on its wire has the same fate in each run.
    pub seed: u64,
    /// A frame is late by up to this time, and so passed by later ones.
    pub late: Duration,
    /// Whether requests for sessions are dropped, as by a firewall.
    pub no_sessions: bool,
    /// Whether thimble's datagrams to one node are dropped.
    pub no_unicast: bool,
    /// Whether all of them are.
    pub no_datagrams: bool,
    /// Whether each frame that passes arrives twice.
    pub is_doubled: bool,
}

/// The fate of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It passes now.
    Passes,
    /// It is kept, and passes later.
    Late,
    Lost,
}

/// The frames of one sender.
pub struct Way {
    from: u64,
    /// How many were sent to each receiver.
    sent: Vec<u64>,
    /// Those that are late: when each is due, and its receiver.
    late: VecDeque<(Instant, usize, Vec<u8>)>,
}

impl Way {
    /// Of the sender at one of so many ports.
    pub fn new(from: usize, ports: usize) -> Self {
        Self { from: from as u64, sent: vec![0; ports], late: VecDeque::new() }
    }

    /// What becomes of the next frame to a receiver. If it is late, it is kept.
    pub fn fate(&mut self, weather: Weather, to: usize, frame: &[u8]) -> Fate {
        if weather.no_sessions && over::asks_for_a_connection(frame) {
            return Fate::Lost;
        }
        let is_blocked = weather.no_datagrams || (weather.no_unicast && !over::is_to_group(frame));
        if is_blocked && over::payloads(frame).next().is_some() {
            return Fate::Lost;
        }
        self.sent[to] += 1;
        let wire = self.from * self.sent.len() as u64 + to as u64;
        let drawn = mixed(weather.seed, wire, self.sent[to]);
        if drawn % 1_000 < weather.lost_permille {
            return Fate::Lost;
        }
        let late_us = weather.late.as_micros() as u64;
        if late_us == 0 {
            return Fate::Passes;
        }
        let due = Instant::now() + Duration::from_micros((drawn >> 16) % late_us);
        let at = self.late.partition_point(|(other, ..)| *other <= due);
        self.late.insert(at, (due, to, frame.to_vec()));
        Fate::Late
    }

    /// The next late frame that is due, and its receiver.
    pub fn due(&mut self) -> Option<(usize, Vec<u8>)> {
        let (due, ..) = self.late.front()?;
        if *due > Instant::now() {
            return None;
        }
        self.late.pop_front().map(|(_, to, frame)| (to, frame))
    }
}

/// A number that follows from these and looks random (splitmix64).
fn mixed(seed: u64, wire: u64, frame: u64) -> u64 {
    let mut z = (seed ^ wire << 48).wrapping_add(frame.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
