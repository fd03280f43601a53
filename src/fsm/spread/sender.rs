//! The sender of a transmission, on a controller.
//!
//! ```text
//! Announce --some offers--> Ask --somebody wants it--> Send (proof, source packets of a section) --> Ask
//!                                                        ^                                          |  some lack packets: Send (proof, repair)
//!                                                        '---- all have the section: the next one --'
//! Ask, nobody answers for some rounds --> Ended(Nobody), or Ended(Silent) where hosts took part
//! Ask, all have the last section      --> Ended(All), or Ended(Most) where some go on by sessions
//! Ask, hosts take part in another's transmission --> waits until that is over
//! Ended --> two offers that say so
//! ```
//!
//! The driver calls [`Sender::next`] until it has nothing more to send, and again at [`Sender::poll_at`].

mod rounds;

use super::pace::Pace;
use super::probes::Probes;
use super::repairs::{Need, Repairs};
pub use super::told::{Answers, Ending, Sent, Step};
use super::{OVER, Offer, Transmission, window};
use crate::limits::{DATAGRAM_BYTES, SECTION_BLOCKS};
use crate::time::{Duration, Instant};
use crate::wire::packet::{ENVELOPE_BYTES, Part};

/// Offers before the first packet, so that a host that misses one gets another.
const OFFERS: u8 = 2;
/// The time after each: a host starts a worker in it.
const OFFERS_APART: Duration = Duration::from_millis(250);
/// Offers that say that it is over.
const FAREWELLS: u8 = 2;
/// Proofs before the packets of a section: without one a host checks nothing.
const PROOFS: u8 = 3;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many offers are left.
    Announce {
        left: u8,
    },
    /// So many proofs of the section are left, then source packets.
    Begin {
        proofs: u8,
    },
    /// A proof, then repair packets.
    Again,
    Source {
        block: u8,
        number: u16,
    },
    Repair,
    /// The source packets of a block again: some hosts lack more than repair packets find.
    Resend {
        block: u8,
        number: u16,
    },
    Ask,
    /// Until then.
    Listen {
        until: Instant,
    },
    /// Another sends, or hosts work. It asks again then.
    Wait {
        until: Instant,
    },
    Ended(Ending),
}

/// Sends one file.
#[derive(Clone, Debug)]
pub struct Sender {
    what: Transmission,
    pace: Pace,
    phase: Phase,
    /// When an offer may go out.
    due: Instant,
    section: u32,
    round: u16,
    repairs: Repairs,
    answers: Answers,
    last_answers: Answers,
    /// The most hosts that answered in one round, those that take no part counted too.
    most_answered: u32,
    /// How many may answer.
    known_hosts: u32,
    /// Rounds since the source packets of the section were sent.
    passes: u16,
    quiet: u8,
    silent: u8,
    is_with_laggards: bool,
    /// Somebody wants the file.
    is_wanted: bool,
    /// All that answered have each section so far, though nothing was sent: they have kept it.
    skips: bool,
    /// Offers left that say that it is over.
    farewells: u8,
    /// Since when another sends.
    waits_since: Option<Instant>,
    /// Since when hosts work on the last section, and the time to the next question.
    works_since: Option<(Instant, Duration)>,
    probes: Probes,
    /// It stops for the answers to one of them.
    stops_until: Option<Instant>,
    /// Where source packets go on, if the answers to a question amid them say so.
    interrupted: Option<(u8, u16)>,
    sent: Sent,
}

impl Sender {
    /// Sends `what`, at most `most` bytes for a second.
    #[must_use]
    pub fn new(now: Instant, what: Transmission, most: u64) -> Self {
        let repairs = Repairs::new(what.section_packets(0), what.packets(0));
        Self {
            what,
            pace: Pace::new(now, most),
            phase: Phase::Announce { left: OFFERS },
            due: now,
            section: 0,
            round: 0,
            repairs,
            answers: Answers::default(),
            last_answers: Answers::default(),
            most_answered: 0,
            known_hosts: 0,
            passes: 0,
            quiet: 0,
            silent: 0,
            is_with_laggards: false,
            is_wanted: false,
            skips: true,
            farewells: FAREWELLS,
            waits_since: None,
            works_since: None,
            probes: Probes::new(now),
            stops_until: None,
            interrupted: None,
            sent: Sent::default(),
        }
    }

    /// What is sent.
    #[must_use]
    pub const fn what(&self) -> &Transmission {
        &self.what
    }

    /// How it ended, once it has.
    #[must_use]
    pub const fn ending(&self) -> Option<Ending> {
        if let Phase::Ended(ending) = self.phase { Some(ending) } else { None }
    }

    /// The section that is being sent.
    #[must_use]
    pub const fn section(&self) -> u32 {
        self.section
    }

    /// What was sent so far.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.sent
    }

    /// What hosts said in the last round that has ended.
    #[must_use]
    pub const fn last_answers(&self) -> Answers {
        self.last_answers
    }

    /// Bytes for a second, now.
    #[must_use]
    pub const fn rate(&self) -> u64 {
        self.pace.rate()
    }

    /// Changes the limit of the rate.
    pub fn set_most(&mut self, most: u64) {
        self.pace.set_most(most);
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.end(Ending::Stopped);
    }

    fn end(&mut self, ending: Ending) {
        if self.ending().is_none() {
            self.phase = Phase::Ended(ending);
        }
    }

    /// The next thing to send now; `None` if there is nothing until [`poll_at`](Self::poll_at). `hosts` is how
    /// many may answer.
    pub fn next(&mut self, now: Instant, hosts: usize) -> Option<Step> {
        self.known_hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        loop {
            match self.phase {
                Phase::Ended(_) => {
                    self.farewells = self.farewells.checked_sub(1)?;
                    self.section = OVER;
                    return Some(self.offer(Duration::ZERO));
                }
                Phase::Announce { left } => {
                    if now < self.due {
                        return None;
                    }
                    let Some(left) = left.checked_sub(1) else {
                        self.phase = Phase::Ask;
                        continue;
                    };
                    self.phase = Phase::Announce { left };
                    self.due = now + OFFERS_APART;
                    return Some(self.offer(Duration::ZERO));
                }
                Phase::Begin { proofs: 0 } => self.phase = Phase::Source { block: 0, number: 0 },
                Phase::Begin { .. } | Phase::Again => {
                    if !self.pace.take(now, self.packet_bytes()) {
                        return None;
                    }
                    if matches!(self.phase, Phase::Begin { .. }) {
                        self.probes.begin_section();
                    }
                    self.phase = match self.phase {
                        Phase::Begin { proofs } => Phase::Begin { proofs: proofs.saturating_sub(1) },
                        _ => Phase::Repair,
                    };
                    self.sent.other = self.sent.other.saturating_add(1);
                    return Some(Step::Packet(Part::Proof { section: self.section }));
                }
                Phase::Source { block, number } => {
                    let of_file = self.block(block);
                    if number >= self.packets(block) {
                        let is_last = usize::from(block) >= SECTION_BLOCKS.saturating_sub(1);
                        self.phase = match is_last || self.packets(block.saturating_add(1)) == 0 {
                            true => Phase::Ask,
                            false => Phase::Source { block: block.saturating_add(1), number: 0 },
                        };
                        continue;
                    }
                    if let Some(loss) = self.probes.loss(now, self.most_answered) {
                        self.pace.learn(loss);
                    }
                    if self.probes.is_due(now) {
                        return Some(self.probe(now, window(hosts)));
                    }
                    self.stops_until = self.probes.stops_until(now, self.most_answered);
                    if self.stops_until.is_some() {
                        return None;
                    }
                    if !self.pace.take(now, self.packet_bytes()) {
                        return None;
                    }
                    self.probes.note_sent();
                    self.phase = Phase::Source { block, number: number.saturating_add(1) };
                    self.sent.source = self.sent.source.saturating_add(1);
                    return Some(Step::Packet(Part::Source { block: of_file, number }));
                }
                Phase::Repair => match self.repairs.need() {
                    None => self.phase = Phase::Ask,
                    Some(Need::Source(block)) => self.phase = Phase::Resend { block, number: 0 },
                    Some(Need::Repair(block, number)) => {
                        if !self.pace.take(now, self.packet_bytes()) {
                            return None;
                        }
                        self.repairs.note_repair(block);
                        self.sent.repair = self.sent.repair.saturating_add(1);
                        return Some(Step::Packet(Part::Repair { block: self.block(block), number }));
                    }
                },
                Phase::Resend { block, number } if number >= self.packets(block) => {
                    self.repairs.end_source(block);
                    self.phase = Phase::Repair;
                }
                Phase::Resend { block, number } => {
                    if !self.pace.take(now, self.packet_bytes()) {
                        return None;
                    }
                    self.phase = match self.repairs.note_source() {
                        true => Phase::Resend { block, number: number.saturating_add(1) },
                        false => Phase::Ask,
                    };
                    self.sent.repair = self.sent.repair.saturating_add(1);
                    return Some(Step::Packet(Part::Source { block: self.block(block), number }));
                }
                Phase::Ask => {
                    let window = window(hosts);
                    self.round = self.round.saturating_add(1);
                    self.answers = Answers::default();
                    self.repairs.begin_round();
                    self.phase = Phase::Listen { until: now + window + self.grace() };
                    return Some(self.offer(window));
                }
                Phase::Wait { until } if now < until => return None,
                Phase::Wait { .. } => self.phase = Phase::Ask,
                Phase::Listen { until } => {
                    if now < until && !self.has_all() {
                        return None;
                    }
                    self.on_round(now);
                }
            }
        }
    }

    /// Asks for the loss so far, while source packets are sent.
    fn probe(&mut self, now: Instant, window: Duration) -> Step {
        self.round = self.round.saturating_add(1);
        self.probes.ask(now, self.round, window, self.pace.is_fast());
        self.offer(window)
    }

    /// When to call [`next`](Self::next) again, if it had nothing; `None` once it has ended.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Ended(_) => None,
            Phase::Announce { .. } => Some(self.due),
            Phase::Listen { until } | Phase::Wait { until } => Some(until),
            Phase::Source { .. } => {
                // Whatever comes first: the end of a stop, or the next packet.
                let at = self.pace.at(self.packet_bytes());
                Some(self.stops_until.map_or(at, |until| until.max(at)))
            }
            _ => Some(self.pace.at(self.packet_bytes())),
        }
    }

    fn offer(&mut self, window: Duration) -> Step {
        self.sent.other = self.sent.other.saturating_add(1);
        Step::Offer(Offer {
            transmission: self.what.id,
            file: self.what.file,
            size_bytes: self.what.cut.size_bytes(),
            id: self.what.patch.clone(),
            kinds: self.what.kinds,
            packet_bytes: self.what.packet_bytes,
            section: self.section,
            round: self.round,
            window_ms: u32::try_from(window.as_millis()).unwrap_or(u32::MAX),
        })
    }

    /// The number in the file of a block of the section.
    fn block(&self, block: u8) -> u32 {
        let first = self.what.cut.first_block(u64::from(self.section));
        u32::try_from(first).unwrap_or(u32::MAX).saturating_add(u32::from(block))
    }

    /// Source packets of a block of the section.
    fn packets(&self, block: u8) -> u16 {
        self.what.packets(u64::from(self.block(block)))
    }

    /// Bytes of a packet with its envelope.
    fn packet_bytes(&self) -> u64 {
        u64::from(self.what.packet_bytes).saturating_add(ENVELOPE_BYTES as u64).min(DATAGRAM_BYTES as u64)
    }
}
