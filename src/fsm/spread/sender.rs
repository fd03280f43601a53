//! The sender of a transmission, on a controller.
//!
//! ```text
//! Announce --some offers--> Ask --somebody wants it--> Send (proof, source packets of a section) --> Ask
//!                                                        ^                                          |  some lack packets: Send (proof, repair)
//!                                                        '---- all have the section: the next one --'
//! Ask, nobody answers for some rounds --> Ended(Nobody)
//! Ask, all have the last section      --> Ended(All), or Ended(Most) where some go on by sessions
//! Ask, hosts take part in another's transmission --> waits until that is over
//! Ended --> two offers that say so
//! ```
//!
//! The driver calls [`Sender::next`] until it has nothing more to send, and again at [`Sender::poll_at`].

use super::pace::Pace;
use super::{OVER, Offer, Report, Transmission, window};
use crate::limits::{DATAGRAM_BYTES, MISSING_PACKETS, REPAIR_PACKETS, SECTION_BLOCKS};
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::packet::{ENVELOPE_BYTES, Part};

/// Offers before the first packet, so that a host that misses one gets another.
const OFFERS: u8 = 2;
/// The time after each: a host starts a worker in it.
const OFFERS_APART: Duration = Duration::from_millis(250);
/// Offers that say that it is over.
const FAREWELLS: u8 = 2;
/// Proofs before the packets of a section: without one a host checks nothing.
const PROOFS: u8 = 3;
/// How long after the window the last answers are waited for.
const GRACE: Duration = Duration::from_millis(150);
/// Rounds without a lack, of which hosts may have missed the question, before a section counts as had by all.
/// If as many hosts say that they have it as ever answered, one is enough.
const QUIET_ROUNDS: u8 = 3;
/// Rounds without any answer before nobody listens.
const SILENT_ROUNDS: u8 = 4;
/// How long it waits until it asks again whether another's transmission is over, and how long in all.
const WAIT: Duration = Duration::from_secs(1);
const WAIT_MOST: Duration = Duration::from_secs(3_600);
/// Repair for so few hosts ends after [`ROUNDS`]: a session serves them with as many bytes.
const FEW: u32 = 2;
const ROUNDS: u16 = 8;

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub enum Step {
    /// This offer, to all agents.
    Offer(Offer),
    /// This packet.
    Packet(Part),
}

/// How a transmission ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All hosts that took part have the file.
    All,
    /// Some have not: they fetch what they lack.
    Most,
    /// Nobody listened.
    Nobody,
    /// Another controller sends, and does not end.
    Yielded,
    /// The caller stopped it: the patch was deleted, an operator said so.
    Stopped,
}

/// What hosts said in one round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Hosts that answered and take part.
    pub hosts: u32,
    /// Of them, those that have the whole section.
    pub complete: u32,
    /// Hosts that take no part.
    pub out: u32,
    /// Hosts that take part in another's transmission, which goes first.
    pub busy: u32,
    /// Packets that all of them lack together.
    pub missing: u64,
    /// The host that lacks most, and how many packets.
    pub slowest: Option<(NodeId, u32)>,
}

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
    Repair {
        block: u8,
    },
    Ask,
    /// Until then.
    Listen {
        until: Instant,
    },
    /// Another sends. Until then.
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
    /// Repair packets that each block of the section still needs, and the number of its next one.
    needs: [u16; SECTION_BLOCKS],
    next_repair: [u16; SECTION_BLOCKS],
    /// Repair packets that this section may still have: half as many as it has source packets. Hosts that
    /// lack more than that came too late, or lie.
    repair_left: u32,
    answers: Answers,
    last_answers: Answers,
    /// The most hosts that answered in one round.
    most_hosts: u32,
    /// How many may answer.
    known_hosts: u32,
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
    sent: Sent,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Source packets.
    pub source: u64,
    /// Repair packets.
    pub repair: u64,
    /// Proofs and offers.
    pub other: u64,
}

impl Sender {
    /// Sends `what`, at most `most` bytes for a second.
    #[must_use]
    pub fn new(now: Instant, what: Transmission, most: u64) -> Self {
        let repair_left = what.section_packets(0) / 2;
        Self {
            what,
            pace: Pace::new(now, most),
            phase: Phase::Announce { left: OFFERS },
            due: now,
            section: 0,
            round: 0,
            needs: [0; SECTION_BLOCKS],
            next_repair: [0; SECTION_BLOCKS],
            repair_left,
            answers: Answers::default(),
            last_answers: Answers::default(),
            most_hosts: 0,
            known_hosts: 0,
            quiet: 0,
            silent: 0,
            is_with_laggards: false,
            is_wanted: false,
            skips: true,
            farewells: FAREWELLS,
            waits_since: None,
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

    /// Takes a host's answer. One of another section or round comes too late and says nothing new.
    pub fn on_report(&mut self, from: NodeId, report: &Report) {
        let is_asked = matches!(self.phase, Phase::Listen { .. })
            && (report.transmission, report.section, report.round)
                == (self.what.id, self.section, self.round);
        if !is_asked {
            return;
        }
        if report.other != 0 {
            // Of one with a higher number the host takes leave.
            let goes_first = report.other < self.what.id;
            self.answers.busy = self.answers.busy.saturating_add(u32::from(goes_first));
            return;
        }
        if report.is_out {
            self.answers.out = self.answers.out.saturating_add(1);
            return;
        }
        let mut missing: u32 = 0;
        for (need, of_host) in self.needs.iter_mut().zip(&report.missing) {
            missing = missing.saturating_add(u32::from(*of_host));
            // Of a block that lacks more nothing is found: a session has it.
            if usize::from(*of_host) <= MISSING_PACKETS {
                *need = (*need).max(*of_host);
            }
        }
        let answers = &mut self.answers;
        answers.hosts = answers.hosts.saturating_add(1);
        answers.missing = answers.missing.saturating_add(u64::from(missing));
        if missing == 0 {
            answers.complete = answers.complete.saturating_add(1);
        } else if answers.slowest.is_none_or(|(_, most)| missing > most) {
            answers.slowest = Some((from, missing));
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
                    self.phase = match self.phase {
                        Phase::Begin { proofs } => Phase::Begin { proofs: proofs.saturating_sub(1) },
                        _ => Phase::Repair { block: 0 },
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
                    if !self.pace.take(now, self.packet_bytes()) {
                        return None;
                    }
                    self.phase = Phase::Source { block, number: number.saturating_add(1) };
                    self.sent.source = self.sent.source.saturating_add(1);
                    return Some(Step::Packet(Part::Source { block: of_file, number }));
                }
                Phase::Repair { block } => {
                    let of_file = self.block(block);
                    let Some(need) = self.needs.get_mut(usize::from(block)) else {
                        self.phase = Phase::Ask;
                        continue;
                    };
                    if *need == 0 || self.repair_left == 0 {
                        *need = 0;
                        self.phase = Phase::Repair { block: block.saturating_add(1) };
                        continue;
                    }
                    if !self
                        .pace
                        .take(now, u64::from(self.what.packet_bytes).saturating_add(ENVELOPE_BYTES as u64))
                    {
                        return None;
                    }
                    *need = need.saturating_sub(1);
                    self.repair_left = self.repair_left.saturating_sub(1);
                    let next = self.next_repair.get_mut(usize::from(block))?;
                    let number = *next;
                    // Those of the first rounds are rarely needed twice.
                    *next = next.saturating_add(1).checked_rem(REPAIR_PACKETS as u16).unwrap_or(0);
                    self.sent.repair = self.sent.repair.saturating_add(1);
                    return Some(Step::Packet(Part::Repair { block: of_file, number }));
                }
                Phase::Ask => {
                    let window = window(hosts);
                    self.round = self.round.saturating_add(1);
                    (self.answers, self.needs) = (Answers::default(), [0; SECTION_BLOCKS]);
                    self.phase = Phase::Listen { until: now + window + GRACE };
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

    /// When to call [`next`](Self::next) again, if it had nothing; `None` once it has ended.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Ended(_) => None,
            Phase::Announce { .. } => Some(self.due),
            Phase::Listen { until } | Phase::Wait { until } => Some(until),
            _ => Some(self.pace.at(self.packet_bytes())),
        }
    }

    /// What the round says about what is sent next.
    fn on_round(&mut self, now: Instant) {
        let answers = self.answers;
        self.last_answers = answers;
        if answers.busy > 0 {
            let since = *self.waits_since.get_or_insert(now);
            self.silent = 0;
            // What hosts have of the section is known only then.
            self.skips = true;
            self.phase = match now.since(since) >= WAIT_MOST {
                true => Phase::Ended(Ending::Yielded),
                false => Phase::Wait { until: now + WAIT },
            };
            return;
        }
        self.waits_since = None;
        if !self.is_wanted && answers.hosts > 0 {
            // The question was whether anybody wants it.
            (self.is_wanted, self.silent) = (true, 0);
            self.most_hosts = answers.hosts;
        }
        if self.skips && answers.hosts > answers.complete {
            (self.skips, self.round) = (false, 0);
            self.phase = Phase::Begin { proofs: PROOFS };
            return;
        }
        let is_first = self.round == 1 && !self.skips;
        if is_first && answers.hosts > 0 {
            let expected = u64::from(answers.hosts)
                .saturating_mul(u64::from(self.what.section_packets(u64::from(self.section))))
                .max(1);
            let loss = answers.missing.saturating_mul(1_000).checked_div(expected).unwrap_or(0);
            self.pace.learn(u32::try_from(loss).unwrap_or(1_000));
        }
        if answers.hosts == 0 {
            self.silent = self.silent.saturating_add(1);
            self.phase = match self.silent >= SILENT_ROUNDS {
                true => Phase::Ended(Ending::Nobody),
                false => Phase::Ask,
            };
            return;
        }
        self.silent = 0;
        let lacking = answers.hosts.saturating_sub(answers.complete);
        let has_needs = self.needs.iter().any(|need| *need > 0);
        let is_few = lacking <= FEW && self.round >= ROUNDS;
        if has_needs && self.repair_left > 0 && !is_few {
            self.quiet = 0;
            self.most_hosts = self.most_hosts.max(answers.hosts);
            self.phase = Phase::Again;
            return;
        }
        if lacking > 0 {
            // What is left of them no repair helps: sessions do.
            self.is_with_laggards = true;
        }
        // Those that no repair helps have answered; others may have missed the question.
        let all = if self.section == 0 { self.known_hosts } else { 0 }.max(self.most_hosts);
        let is_known = answers.hosts.saturating_add(answers.out) >= all;
        self.most_hosts = self.most_hosts.max(answers.hosts);
        self.quiet = self.quiet.saturating_add(1);
        if !is_known && self.quiet < QUIET_ROUNDS {
            self.phase = Phase::Ask;
            return;
        }
        self.next_section();
    }

    /// As many hosts have the section as ever answered; in the first section, as may answer: nobody is
    /// waited for.
    fn has_all(&self) -> bool {
        let answered = match self.skips {
            false => self.answers.complete,
            // All that may lack it have said whether they do.
            true => self.answers.hosts,
        };
        let few = if self.section == 0 { self.known_hosts } else { 0 };
        answered.saturating_add(self.answers.out) >= self.most_hosts.max(few).max(1)
    }

    fn next_section(&mut self) {
        let next = self.section.saturating_add(1);
        let packets = self.what.section_packets(u64::from(next));
        if packets == 0 {
            self.end(if self.is_with_laggards { Ending::Most } else { Ending::All });
            return;
        }
        (self.section, self.round, self.quiet) = (next, 0, 0);
        self.next_repair = [0; SECTION_BLOCKS];
        self.repair_left = packets / 2;
        self.phase = if self.skips { Phase::Ask } else { Phase::Begin { proofs: PROOFS } };
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
