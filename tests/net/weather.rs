//! What a bad wire does to all that passes a switch, other than being cut.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::over;

/// How bad the wires are. Each frame has the same fate in each run, for each receiver its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Of a hundred frames so many are lost.
    pub lost_percent: u64,
    /// A frame is late by up to this time, and so passed by later ones.
    pub late: Duration,
    /// Whether requests for sessions are dropped, as by a firewall.
    pub no_sessions: bool,
}

/// The frames of one sender that are on their way.
pub struct Way {
    drawn: u64,
    late: VecDeque<(Instant, usize, Vec<u8>)>,
}

impl Way {
    /// Of the sender at this port.
    pub fn new(port: usize) -> Self {
        Self { drawn: 0x9E37_79B9_7F4A_7C15 ^ port as u64, late: VecDeque::new() }
    }

    /// A number below `most`, which is not 0. (xorshift64, Marsaglia 2003.)
    fn draw(&mut self, most: u64) -> u64 {
        for shift in [13, -7, 17] {
            self.drawn ^= if shift > 0 { self.drawn << shift } else { self.drawn >> -shift };
        }
        (self.drawn >> 16) % most
    }

    /// Whether a frame passes now; if it is late, it is kept.
    pub fn passes(&mut self, weather: Weather, to: usize, frame: &[u8]) -> bool {
        if weather.no_sessions && over::asks_for_a_connection(frame) {
            return false;
        }
        if self.draw(100) < weather.lost_percent {
            return false;
        }
        let late_us = weather.late.as_micros() as u64;
        if late_us == 0 {
            return true;
        }
        let due = Instant::now() + Duration::from_micros(self.draw(late_us));
        let at = self.late.partition_point(|(other, ..)| *other <= due);
        self.late.insert(at, (due, to, frame.to_vec()));
        false
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
