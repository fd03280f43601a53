//! A crowd: one transmission to 1,000 hosts.
//!
//! The real machines of senders, of agents and of receivers, in invented time. Packets have no bytes: whether one is
//! of the file is known beside it. The answers of the hosts come into a socket of a size as the kernel gives it.

mod changes;
mod host;
mod plays;

use std::collections::VecDeque;
use std::ops::Range;

use thimble::coding::proof::{BLOCK_BYTES, BlockHasher, Cut, SectionProof, SubtreeHash};
use thimble::fsm::spread::sender::{Ending, Sender, Step};
use thimble::fsm::spread::{Report, Transmission};
use thimble::limits::{PACKET_BYTES, SOURCE_PACKETS};
use thimble::time::{Duration, Instant};
use thimble::types::{Hash, NodeId};
use thimble::wire::packet::{ENVELOPE_BYTES, Packet, Part};

use crate::dice::Dice;
use crate::machine::{machine_at, name, peer};
use host::Host;

/// What a kernel's socket buffer has for datagrams that wait, in bytes.
const SOCKET_BYTES: usize = 212_992;
/// What it counts for a small datagram.
const SMALL_BYTES: usize = 1_280;
/// As many answers wait at most.
const SOCKET_ANSWERS: usize = SOCKET_BYTES / SMALL_BYTES;
/// The span in which a loop surely comes to read its socket.
const LOOP_MS: u64 = 100;
/// An offer as a datagram.
const OFFER_BYTES: u64 = 130;
/// How long two may send at once: until a question has been asked, and its answers have come.
const OVERLAP_MS: u64 = 3_000;
/// The first controller's number; those of hosts are below.
const CONTROLLER: u64 = 1_000_000;
/// No play is longer: 20 minutes.
const LONGEST_MS: u64 = 1_200_000;

/// A file that is sent.
pub struct File {
    pub hash: Hash,
    pub cut: Cut,
    hashes: Vec<SubtreeHash>,
}

impl File {
    pub fn new(size_bytes: u64) -> Self {
        let mut content = vec![0; size_bytes as usize];
        blake3::Hasher::new().update(b"crowd").finalize_xof().fill(&mut content);
        let cut = Cut::of(size_bytes).expect("a file of a patch");
        let blocks = content.chunks(BLOCK_BYTES as usize).enumerate();
        let hashes = blocks.map(|(block, bytes)| {
            let mut hasher = BlockHasher::new(cut, block as u64);
            hasher.update(bytes);
            hasher.finish()
        });
        Self { hashes: hashes.collect(), hash: Hash(*blake3::hash(&content).as_bytes()), cut }
    }

    fn transmission(&self, id: u64) -> Transmission {
        let packet_bytes = PACKET_BYTES as u16;
        Transmission { id, patch: name("P-1"), kinds: 0, file: self.hash, cut: self.cut, packet_bytes }
    }

    fn content_of(&self, part: Part) -> Vec<u8> {
        match part {
            Part::Proof { section } => {
                let proof = SectionProof::new(self.cut, section.into(), &self.hashes).expect("it has it");
                [proof.blocks.concat(), proof.beside.concat()].concat()
            }
            _ => vec![0; PACKET_BYTES],
        }
    }
}

/// A controller: its socket, and the worker that sends.
pub struct Controller {
    pub sender: Option<Sender>,
    /// How many hosts it knows.
    pub known: usize,
    /// Answers that wait in its socket.
    socket: VecDeque<(NodeId, Report)>,
    /// When answers came, in the last [`LOOP_MS`].
    recent: VecDeque<u64>,
    /// The most answers that came in so long.
    pub most_answers: usize,
    /// Answers that found no room.
    pub overflows: usize,
    /// Its loop reads the socket so often, in milliseconds.
    pub loop_ms: u64,
    /// Bytes of its datagrams.
    pub bytes: u64,
    /// When it sent source packets, and how many at once.
    pub sent_at: Vec<u64>,
}

/// All of it.
pub struct Crowd {
    pub now: Instant,
    pub file: File,
    pub hosts: Vec<Host>,
    pub controllers: Vec<Controller>,
    /// Hosts that are cut off from all controllers.
    pub cut_off: Range<usize>,
    /// Hosts that say that they lack all of each block.
    pub liars: Range<usize>,
    /// Of a thousand datagrams, so many are lost on the way to each host, and from it.
    loss: u64,
    dice: Dice,
}

impl Crowd {
    pub fn new(size_bytes: u64, hosts: usize, loss: u64) -> Self {
        let now = Instant::from_millis(1_000);
        let mut crowd = Self {
            now,
            file: File::new(size_bytes),
            hosts: (0..hosts).map(|number| Host::new(now, number)).collect(),
            controllers: Vec::new(),
            cut_off: 0..0,
            liars: 0..0,
            loss,
            dice: Dice::new(hosts as u64 + loss),
        };
        crowd.add_controller();
        crowd
    }

    pub fn add_controller(&mut self) {
        self.controllers.push(Controller {
            sender: None,
            known: self.hosts.len(),
            socket: VecDeque::new(),
            recent: VecDeque::new(),
            most_answers: 0,
            overflows: 0,
            loop_ms: 1,
            bytes: 0,
            sent_at: Vec::new(),
        });
    }

    /// A controller begins to send the file.
    pub fn send(&mut self, controller: usize, id: u64, rate: u64) {
        let sender = Sender::new(self.now, self.file.transmission(id), rate);
        self.controllers[controller].sender = Some(sender);
    }

    pub fn sender(&self, controller: usize) -> &Sender {
        self.controllers[controller].sender.as_ref().expect("it sends")
    }

    pub fn ending(&self, controller: usize) -> Option<Ending> {
        self.sender(controller).ending()
    }

    /// Source packets that it has sent.
    pub fn source(&self, controller: usize) -> u64 {
        self.controllers[controller].sent_at.len() as u64
    }

    fn deliver(&mut self, mut take: impl FnMut(&mut Host, Instant)) {
        for (number, host) in self.hosts.iter_mut().enumerate() {
            let is_heard = host.is_up && !self.cut_off.contains(&number);
            if is_heard && !(self.loss > 0 && self.dice.chance(self.loss)) {
                take(host, self.now);
            }
        }
    }

    /// Somebody with the key of all agents sends a packet of this transmission that is not of the file.
    pub fn inject(&mut self, transmission: u64, part: Part) {
        let length = match part {
            Part::Proof { section } => 32 * self.file.cut.section_blocks(section.into()),
            Part::Source { .. } | Part::Repair { .. } => PACKET_BYTES,
        };
        let packet = Packet { transmission, part, content: &vec![9; length] };
        self.deliver(|host, now| host.on_packet(now, &packet, false));
    }

    fn carry(&mut self, controller: usize, step: &Step) {
        match step {
            Step::Offer(offer) => {
                self.controllers[controller].bytes += OFFER_BYTES;
                let from = (NodeId(CONTROLLER + controller as u64), peer(controller));
                self.deliver(|host, now| host.on_offer(now, from, offer));
            }
            Step::Packet(part) => {
                let content = self.file.content_of(*part);
                let here = &mut self.controllers[controller];
                here.bytes += (content.len() + ENVELOPE_BYTES) as u64;
                if matches!(part, Part::Source { .. }) {
                    here.sent_at.push(self.now.as_millis());
                }
                let transmission = self.sender(controller).what().id;
                let packet = Packet { transmission, part: *part, content: &content };
                self.deliver(|host, now| host.on_packet(now, &packet, true));
            }
        }
    }

    /// All that happens now.
    fn happen(&mut self) {
        let now = self.now;
        for at in 0..self.controllers.len() {
            let here = &mut self.controllers[at];
            if now.as_millis().is_multiple_of(here.loop_ms) {
                for (from, report) in here.socket.drain(..) {
                    here.sender.iter_mut().for_each(|sender| sender.on_report(from, &report));
                }
            }
            while let Controller { sender: Some(sender), known, .. } = &mut self.controllers[at]
                && let Some(step) = sender.next(now, *known)
            {
                self.carry(at, &step);
            }
        }
        for number in 0..self.hosts.len() {
            let host = &mut self.hosts[number];
            if !host.is_up || host.due > now {
                continue;
            }
            let node = host.node();
            for (to, mut report) in host.turn(now) {
                if self.liars.contains(&number) {
                    let blocks = self.file.cut.section_blocks(report.section.into());
                    report.missing = (0..blocks).map(|_| SOURCE_PACKETS as u16).collect();
                }
                let is_lost = self.loss > 0 && self.dice.chance(self.loss);
                if !is_lost && !self.cut_off.contains(&number) {
                    self.controllers[machine_at(to)].take(now.as_millis(), node, report);
                }
            }
        }
    }

    /// Plays until this is so; panics if it never is.
    pub fn play_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            self.happen();
            self.go_on();
            assert!(self.now.as_millis() < LONGEST_MS, "it does not come to that");
        }
    }

    /// Until the next moment at which something happens.
    fn go_on(&mut self) {
        let of_hosts = self.hosts.iter().filter(|host| host.is_up).map(|host| host.due).min();
        let of_senders = self.controllers.iter().filter_map(|here| here.sender.as_ref()?.poll_at()).min();
        let reads = self.controllers.iter().filter(|here| !here.socket.is_empty());
        let reads = reads.map(|here| self.now.as_millis().next_multiple_of(here.loop_ms)).min();
        let next = Instant::earliest([of_hosts, of_senders, reads.map(Instant::from_millis)]);
        let soon = self.now + Duration::from_millis(1);
        self.now = next.unwrap_or(soon).max(soon);
    }

    pub fn play_for(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        self.play_until(|crowd| crowd.now >= end);
    }

    /// Until a controller has sent all, and its hosts know that. Returns how it ended.
    pub fn play_to_the_end(&mut self, controller: usize) -> Ending {
        self.play_until(|crowd| crowd.ending(controller).is_some());
        let ending = self.ending(controller).expect("it has");
        self.play_for(2 * LOOP_MS);
        ending
    }

    /// How many hosts have the whole file on their disks.
    pub fn complete(&self) -> usize {
        self.hosts.iter().filter(|host| host.has_all(&self.file.hash, self.file.cut)).count()
    }

    /// How many receive.
    pub fn receiving(&self) -> usize {
        self.hosts.iter().filter(|host| host.is_up && host.receives().is_some()).count()
    }

    /// All bytes that were sent, as a multiple of the file's.
    pub fn ratio(&self) -> f64 {
        let sent: u64 = self.controllers.iter().map(|here| here.bytes).sum();
        sent as f64 / self.file.cut.size_bytes() as f64
    }

    /// What hosts answered in any [`LOOP_MS`] fits a socket, and none was lost for want of room there.
    pub fn check_answers(&self) {
        for here in &self.controllers {
            assert!(here.most_answers <= SOCKET_ANSWERS, "{} answers in {LOOP_MS} ms", here.most_answers);
            assert_eq!(here.overflows, 0, "answers found no room");
        }
    }
}

impl Controller {
    /// An answer arrives.
    fn take(&mut self, now: u64, from: NodeId, report: Report) {
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|at| at + LOOP_MS <= now) {
            self.recent.pop_front();
        }
        self.most_answers = self.most_answers.max(self.recent.len());
        if self.socket.len() < SOCKET_ANSWERS {
            self.socket.push_back((from, report));
        } else {
            self.overflows += 1;
        }
    }
}
