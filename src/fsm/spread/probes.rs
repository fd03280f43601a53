//! Questions while source packets are sent: their answers tell the loss before the section ends.
//!
//! Where few hosts are asked at a high rate, the sender stops until they have answered: a queue that overflows costs
//! more than the pause. Else nothing waits for the answers.

use super::{Report, Transmission};
use crate::time::{Duration, Instant};

/// From one question to the next, at least.
const APART: Duration = Duration::from_millis(200);
/// Or so many packets: some blocks.
const PACKETS: u32 = 3_600;
/// A sender stops for no wider window.
const STOPS_FOR: Duration = Duration::from_millis(100);
/// How long after the window the last answers are waited for.
pub const GRACE: Duration = Duration::from_millis(150);
/// If less than half of the hosts answer, this loss is taken, of a thousand packets.
const UNANSWERED: u32 = 500;

/// A question.
#[derive(Clone, Copy, Debug)]
struct Asked {
    round: u16,
    until: Instant,
    /// Source packets of the section that were sent before it.
    sent: u32,
    /// Hosts that take part, and those that take none any more.
    hosts: u32,
    out: u32,
    /// Those of them that hosts lack, all together.
    lost: u64,
    stops: bool,
}

impl Asked {
    /// Those of so many hosts that take part.
    const fn of(&self, hosts: u32) -> u32 {
        hosts.saturating_sub(self.out)
    }
}

/// The questions of one section.
#[derive(Clone, Debug)]
pub struct Probes {
    asked: Option<Asked>,
    /// When the next may be.
    at: Instant,
    /// Source packets of the section that were sent.
    sent: u32,
    /// Of the last question that was answered: packets that were sent before it, and how many of them a host lacked.
    counted: (u32, u64),
}

impl Probes {
    /// Before anything is sent.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { asked: None, at: now, sent: 0, counted: (0, 0) }
    }

    /// A section begins, or is sent again.
    pub fn begin_section(&mut self) {
        (self.asked, self.sent, self.counted) = (None, 0, (0, 0));
    }

    /// A source packet was sent.
    pub fn note_sent(&mut self) {
        self.sent = self.sent.saturating_add(1);
    }

    /// Of the last question that was answered: packets that were sent before it, and how many of them a host lacked.
    #[must_use]
    pub const fn counted(&self) -> (u32, u64) {
        self.counted
    }

    /// Whether to ask now.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        let since = self.sent.saturating_sub(self.counted.0);
        self.asked.is_none() && since > 0 && (now >= self.at || since >= PACKETS)
    }

    /// It is asked. At a high rate the sender stops for it.
    pub fn ask(&mut self, now: Instant, round: u16, window: Duration, is_fast: bool) {
        let (sent, until, stops) = (self.sent, now + window + GRACE, is_fast && window <= STOPS_FOR);
        self.asked = Some(Asked { round, until, sent, hosts: 0, out: 0, lost: 0, stops });
        self.at = now + window + window.max(APART);
    }

    /// Takes an answer; false if it is to another question.
    pub fn on_report(&mut self, what: &Transmission, report: &Report) -> bool {
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.round == report.round) else {
            return false;
        };
        let missing = report.missing.iter().map(|missing| u32::from(*missing)).fold(0, u32::saturating_add);
        let to_come = what.section_packets(u64::from(report.section)).saturating_sub(asked.sent);
        asked.hosts = asked.hosts.saturating_add(u32::from(!report.is_out));
        asked.out = asked.out.saturating_add(u32::from(report.is_out));
        asked.lost = asked.lost.saturating_add(u64::from(missing.saturating_sub(to_come)));
        true
    }

    /// Whether all of so many hosts have answered that they take no part any more.
    #[must_use]
    pub fn are_all_out(&self, hosts: u32) -> bool {
        self.asked.is_some_and(|asked| asked.out > 0 && asked.out >= hosts)
    }

    /// Until when the sender stops; `None` if it goes on. So many hosts may answer.
    #[must_use]
    pub fn stops_until(&self, now: Instant, hosts: u32) -> Option<Instant> {
        let asked =
            self.asked.filter(|asked| asked.stops && now < asked.until && asked.hosts < asked.of(hosts))?;
        Some(asked.until)
    }

    /// The loss since the question before, of a thousand packets, once that is known. So many hosts may answer.
    pub fn loss(&mut self, now: Instant, hosts: u32) -> Option<u32> {
        let asked = self
            .asked
            .take_if(|asked| now >= asked.until || (asked.stops && asked.hosts >= asked.of(hosts)))?;
        let Asked { sent, hosts: answered, lost, .. } = asked;
        if answered.saturating_mul(2) < asked.of(hosts) {
            // Most are too busy to answer, or out of reach.
            self.counted = (sent, self.counted.1);
            return Some(UNANSWERED);
        }
        let lost = lost.checked_div(u64::from(answered))?;
        let (sent_before, lost_before) = self.counted;
        self.counted = (sent, lost);
        Some(permille(lost.saturating_sub(lost_before), sent.saturating_sub(sent_before).into()))
    }
}

/// So many of a thousand.
pub fn permille(lost: u64, of: u64) -> u32 {
    let loss = lost.saturating_mul(1_000).checked_div(of).unwrap_or(0);
    u32::try_from(loss).unwrap_or(u32::MAX).min(1_000)
}
