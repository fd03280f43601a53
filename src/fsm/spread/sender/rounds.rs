//! The rounds of questions: what hosts answer, and what that says about what is sent next.

use super::{PROOFS, Phase, Sender};
use crate::fsm::spread::Report;
use crate::fsm::spread::probes::{GRACE, permille};
use crate::fsm::spread::repairs::Repairs;
use crate::fsm::spread::told::Ending;
use crate::time::{Duration, Instant};
use crate::types::NodeId;

/// Rounds without a lack, of which hosts may have missed the question, before a section counts as had by all.
/// If as many hosts say that they have it as ever answered, one is enough.
/// After the last section there are more, each of which waits twice as long as the one before: 4.6 s in all.
const QUIET_ROUNDS: (u8, u8) = (3, 5);
/// Rounds without any answer before nobody listens: where none was ever heard, and where hosts took part. Each waits
/// twice as long as the one before, 2.4 s and 19 s in all: a host that finds lost packets on a slow processor, or
/// whose flash stalls, answers late.
const SILENT_ROUNDS: (u8, u8) = (4, 7);
/// How long it waits until it asks again whether another's transmission is over, and how long in all.
const WAIT: Duration = Duration::from_secs(1);
const WAIT_MOST: Duration = Duration::from_secs(600);
/// How long it waits at the end for hosts that have all packets and find and hash blocks; from question to question
/// the first of these times, then twice as long each, to the second; the third in all.
const WORK: [Duration; 3] = [Duration::from_millis(20), Duration::from_secs(2), Duration::from_secs(120)];
/// Repair for so few hosts ends after [`ROUNDS`]: a session serves them with as many bytes.
const FEW: u32 = 2;
const ROUNDS: u16 = 8;

impl Sender {
    /// Takes a host's answer. One of another section or round comes too late and says nothing new.
    pub fn on_report(&mut self, from: NodeId, report: &Report) {
        let is_of_section = (report.transmission, report.section) == (self.what.id, self.section);
        // Of one with a higher number the host takes leave.
        let goes_first = report.other != 0 && report.other < self.what.id;
        if is_of_section && self.probes.on_report(&self.what, report) {
            if let Phase::Source { block, number } = self.phase
                && (goes_first || self.probes.are_all_out(self.most_answered))
            {
                // All are asked what they take part in. If it is this one, it goes on.
                self.interrupted = Some((block, number));
                self.phase = Phase::Ask;
            }
            return;
        }
        let is_asked = matches!(self.phase, Phase::Listen { .. })
            && (report.transmission, report.section, report.round)
                == (self.what.id, self.section, self.round);
        if !is_asked {
            return;
        }
        if report.other != 0 {
            self.answers.busy = self.answers.busy.saturating_add(u32::from(goes_first));
            return;
        }
        if report.is_out {
            self.answers.out = self.answers.out.saturating_add(1);
            return;
        }
        let missing = self.repairs.on_missing(&report.missing);
        let answers = &mut self.answers;
        answers.hosts = answers.hosts.saturating_add(1);
        answers.missing = answers.missing.saturating_add(u64::from(missing));
        if missing == 0 && !report.missing.is_empty() {
            answers.working = answers.working.saturating_add(1);
        } else if missing == 0 {
            answers.complete = answers.complete.saturating_add(1);
        } else if answers.slowest.is_none_or(|(_, most)| missing > most) {
            answers.slowest = Some((from, missing));
        }
    }

    /// What the round says about what is sent next.
    pub(super) fn on_round(&mut self, now: Instant) {
        let answers = self.answers;
        self.last_answers = answers;
        if answers.busy > 0 {
            self.interrupted = None;
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
        if answers.hosts > 0
            && let Some((block, number)) = self.interrupted.take()
        {
            self.silent = 0;
            self.phase = Phase::Source { block, number };
            return;
        }
        let answered = answers.hosts.saturating_add(answers.out);
        self.most_answered = self.most_answered.max(answered);
        if !self.is_wanted && answers.hosts > 0 {
            // The question was whether anybody wants it.
            (self.is_wanted, self.silent) = (true, 0);
        }
        if self.skips && answers.hosts > answers.complete {
            (self.skips, self.passes) = (false, 0);
            self.phase = Phase::Begin { proofs: PROOFS };
            return;
        }
        let is_first = self.passes == 0 && !self.skips;
        self.passes = self.passes.saturating_add(1);
        if is_first && answers.hosts > 0 {
            let expected = u64::from(answers.hosts)
                .saturating_mul(u64::from(self.what.section_packets(u64::from(self.section))))
                .max(1);
            // Where it was asked before, the loss since is what counts.
            let (sent_before, lost_before) = self.probes.counted();
            let hosts = u64::from(answers.hosts);
            let lost = answers.missing.saturating_sub(lost_before.saturating_mul(hosts));
            let of = expected.saturating_sub(u64::from(sent_before).saturating_mul(hosts));
            self.pace.learn(permille(lost, of));
        }
        if answers.hosts == 0 {
            self.silent = self.silent.saturating_add(1);
            // Those that answer, and take no part, fetch it.
            let are_out = answers.out > 0;
            let rounds = if self.is_wanted && !are_out { SILENT_ROUNDS.1 } else { SILENT_ROUNDS.0 };
            let is_over = self.silent >= rounds || (are_out && answered >= self.all_hosts());
            self.phase = match (is_over, are_out, self.is_wanted) {
                (false, ..) => Phase::Ask,
                (true, true, _) => Phase::Ended(Ending::Most),
                (true, false, true) => Phase::Ended(Ending::Silent),
                (true, false, false) => Phase::Ended(Ending::Nobody),
            };
            return;
        }
        self.silent = 0;
        let lacking = answers.hosts.saturating_sub(answers.complete).saturating_sub(answers.working);
        let has_needs = self.repairs.settle(FEW);
        let is_few = lacking <= FEW && self.passes >= ROUNDS;
        if has_needs && !is_few {
            self.quiet = 0;
            self.phase = Phase::Again;
            return;
        }
        if lacking > 0 {
            // What is left of them no repair helps: sessions do.
            self.is_with_laggards = true;
        }
        if answers.working > 0 && self.is_last_section() {
            let [first, most, in_all] = WORK;
            let (since, apart) = *self.works_since.get_or_insert((now, first));
            if now.since(since) < in_all {
                self.works_since = Some((since, apart.times(2).min(most)));
                self.phase = Phase::Wait { until: now + apart };
                return;
            }
            self.is_with_laggards = true;
        }
        // Those that no repair helps have answered; others may have missed the question.
        let is_known = answered >= self.all_hosts();
        self.quiet = self.quiet.saturating_add(1);
        let rounds = if self.is_last_section() && self.is_wanted { QUIET_ROUNDS.1 } else { QUIET_ROUNDS.0 };
        if !is_known && self.quiet < rounds {
            self.phase = Phase::Ask;
            return;
        }
        if self.is_last_section() {
            // Some answered before, and say nothing now; or they have not all of it.
            self.is_with_laggards |= answered < self.most_answered || answers.out > 0;
            self.last_answers.hosts = self.most_answered.saturating_sub(answers.out);
        }
        self.next_section();
    }

    /// How long after the window the last answers are waited for.
    pub(super) fn grace(&self) -> Duration {
        let quiet = if self.is_last_section() { self.quiet } else { 0 };
        let times = 1_u64.checked_shl(self.silent.max(quiet).into()).unwrap_or(1);
        GRACE.times(times)
    }

    /// As many hosts have the section as ever answered; in the first section, as may answer: nobody is
    /// waited for.
    pub(super) fn has_all(&self) -> bool {
        let answered = match self.skips {
            false if self.is_last_section() => self.answers.complete,
            // The blocks of the next are sent meanwhile.
            false => self.answers.complete.saturating_add(self.answers.working),
            // All that may lack it have said whether they do.
            true => self.answers.hosts,
        };
        answered.saturating_add(self.answers.out) >= self.all_hosts().max(1)
    }

    /// How many hosts are waited for: all that ever answered; in the first section, all that may answer.
    fn all_hosts(&self) -> u32 {
        if self.section == 0 { self.known_hosts.max(self.most_answered) } else { self.most_answered }
    }

    fn is_last_section(&self) -> bool {
        self.what.section_packets(u64::from(self.section).saturating_add(1)) == 0
    }

    fn next_section(&mut self) {
        let next = self.section.saturating_add(1);
        let packets = self.what.section_packets(u64::from(next));
        if packets == 0 {
            self.end(if self.is_with_laggards { Ending::Most } else { Ending::All });
            return;
        }
        (self.section, self.round, self.passes, self.quiet) = (next, 0, 0, 0);
        self.probes.begin_section();
        self.repairs = Repairs::new(packets, self.packets(0));
        self.phase = if self.skips { Phase::Ask } else { Phase::Begin { proofs: PROOFS } };
    }
}
