//! A sender and many receivers, with invented time and a network that loses.

mod endings;
mod forged;
mod slow;

use super::receiver::{Dropped, Receiver, Take};
use super::sender::{Ending, Sender, Step};
use super::*;
use crate::coding::cauchy::Cauchy;
use crate::coding::decoder::Decoder;
use crate::coding::proof::{BLOCK_BYTES, BlockHasher, SectionProof, SubtreeHash};
use crate::fsm::random::Random;
use crate::limits::{MISSING_PACKETS, PACKET_BYTES};
use crate::time::Instant;
use crate::types::NodeId;
use crate::wire::packet::{ENVELOPE_BYTES, Packet, Part};

const MIB: u64 = 1 << 20;
const PACKET: u16 = PACKET_BYTES as u16;
/// Bytes for a second.
const RATE: u64 = 5_000_000;

/// A file, its hash and those of its blocks.
struct File {
    content: std::vec::Vec<u8>,
    hashes: std::vec::Vec<SubtreeHash>,
    what: Transmission,
    code: Cauchy,
}

impl File {
    fn new(size_bytes: u64) -> Self {
        let mut content = vec![0; size_bytes as usize];
        blake3::Hasher::new().update(b"file").finalize_xof().fill(&mut content);
        let cut = Cut::of(size_bytes).unwrap();
        let blocks = content.chunks(BLOCK_BYTES as usize).enumerate();
        let hashes = blocks.map(|(block, bytes)| {
            let mut hasher = BlockHasher::new(cut, block as u64);
            hasher.update(bytes);
            hasher.finish()
        });
        let hashes = hashes.collect();
        let file = Hash(*blake3::hash(&content).as_bytes());
        let patch = PatchId::new("PATCH-1").unwrap();
        let what = Transmission { id: 77, patch, kinds: 0, file, cut, packet_bytes: PACKET };
        Self { content, hashes, what, code: Cauchy::new() }
    }

    fn source(&self, block: u64, number: u16) -> std::vec::Vec<u8> {
        let from = block * BLOCK_BYTES + u64::from(number) * u64::from(PACKET);
        let end = block * BLOCK_BYTES + self.what.cut.block_bytes(block);
        let to = (from + u64::from(PACKET)).min(end);
        let mut packet = self.content[from as usize..to as usize].to_vec();
        packet.resize(PACKET_BYTES, 0);
        packet
    }

    fn repair(&self, block: u64, number: u16) -> std::vec::Vec<u8> {
        let mut packet = vec![0; PACKET_BYTES];
        for source in 0..self.what.packets(block) {
            self.code.add(&mut packet, number, source, &self.source(block, source)).unwrap();
        }
        packet
    }

    fn content_of(&self, part: Part) -> std::vec::Vec<u8> {
        match part {
            Part::Source { block, number } => self.source(u64::from(block), number),
            Part::Repair { block, number } => self.repair(u64::from(block), number),
            Part::Proof { section } => {
                let proof = SectionProof::new(self.what.cut, u64::from(section), &self.hashes).unwrap();
                [proof.blocks.concat(), proof.beside.concat()].concat()
            }
        }
    }
}

/// A host: the machine, and what its driver keeps.
struct HostOf {
    receiver: Option<Receiver>,
    content: std::vec::Vec<u8>,
    repair: std::collections::BTreeMap<(u64, u16), std::vec::Vec<u8>>,
    random: Random,
    is_up: bool,
    /// It takes packets, and answers nothing until then.
    busy_until: Instant,
    /// How long it takes to find blocks, once their packets are enough.
    finds_late: Option<Duration>,
    late: std::vec::Vec<(u64, Instant)>,
}

impl HostOf {
    fn new(number: usize, file: &File, has_bytes: bool) -> Self {
        let padded = file.what.cut.blocks() * BLOCK_BYTES + u64::from(PACKET);
        Self {
            receiver: None,
            content: vec![0; if has_bytes { padded as usize } else { 0 }],
            repair: std::collections::BTreeMap::new(),
            random: Random::new([number as u8; 32]),
            is_up: true,
            busy_until: Instant::from_millis(0),
            finds_late: None,
            late: std::vec::Vec::new(),
        }
    }

    /// It has lost what was in its memory; what it kept of the file too, of which nothing was proven on the disk.
    fn restart(&mut self) {
        self.receiver = None;
        self.repair.clear();
        self.content.fill(0);
    }

    fn on_offer(&mut self, now: Instant, offer: &Offer) {
        if self.receiver.is_none() {
            self.receiver = Receiver::new(now, offer);
        }
        let random = &mut self.random;
        self.receiver.iter_mut().for_each(|receiver| receiver.on_offer(now, offer, random));
    }

    fn on_packet(&mut self, now: Instant, packet: &Packet<'_>, file: &File) -> Option<Take> {
        let receiver = self.receiver.as_mut()?;
        let take = receiver.on_packet(now, packet);
        let has_bytes = !self.content.is_empty();
        match take {
            Take::Source { block, number } if has_bytes => {
                let from = (block * BLOCK_BYTES + u64::from(number) * u64::from(PACKET)) as usize;
                // The last packet of a block must not reach into the next one.
                let most =
                    (u64::from(PACKET)).min(BLOCK_BYTES - u64::from(number) * u64::from(PACKET)) as usize;
                self.content[from..from + most].copy_from_slice(&packet.content[..most]);
            }
            Take::Repair { block, place } if has_bytes => {
                self.repair.insert((block, place), packet.content.to_vec());
            }
            _ => {}
        }
        while let Some(ready) = receiver.ready() {
            if let Some(late) = self.finds_late {
                self.late.push((ready.block, now + late));
                continue;
            }
            let agrees = !has_bytes || {
                let (content, repair) = (&mut self.content, &self.repair);
                found(receiver, ready.block, content, repair, file) == ready.hash
            };
            receiver.on_block(ready.block, agrees);
        }
        Some(take)
    }
}

/// Finds the missing packets of a block, and hashes it.
fn found(
    receiver: &Receiver,
    block: u64,
    content: &mut [u8],
    repair: &std::collections::BTreeMap<(u64, u16), std::vec::Vec<u8>>,
    file: &File,
) -> SubtreeHash {
    let mut missing = heapless::Vec::<u16, MISSING_PACKETS>::new();
    let numbers = receiver.missing_of(block, &mut missing).unwrap();
    let from = (block * BLOCK_BYTES) as usize;
    let place = |number: u16| {
        let at = usize::from(number) * PACKET_BYTES;
        (from + at, PACKET_BYTES.min(BLOCK_BYTES as usize - at))
    };
    if !missing.is_empty() {
        let mut packets = (0..numbers.len() as u16)
            .flat_map(|at| repair[&(block, at)].clone())
            .collect::<std::vec::Vec<_>>();
        let mut decoder = Decoder::new(&file.code, &missing, numbers, &mut packets).unwrap();
        for number in (0..file.what.packets(block)).filter(|number| !missing.contains(number)) {
            let (at, length) = place(number);
            let mut packet = [0; PACKET_BYTES];
            packet[..length].copy_from_slice(&content[at..at + length]);
            decoder.subtract(number, &packet).unwrap();
        }
        for (place_in_list, number) in missing.iter().enumerate() {
            let mut packet = [0; PACKET_BYTES];
            decoder.recover(place_in_list, &mut packet).unwrap();
            let (at, length) = place(*number);
            content[at..at + length].copy_from_slice(&packet[..length]);
        }
    }
    let mut hasher = BlockHasher::new(file.what.cut, block);
    hasher.update(&content[from..][..file.what.cut.block_bytes(block) as usize]);
    hasher.finish()
}

/// A draw below 1,000, of a linear congruence with Knuth's constants.
struct Dice(u64);

impl Dice {
    fn permille(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % 1_000) as u32
    }
}

struct Play {
    file: File,
    sender: Sender,
    hosts: std::vec::Vec<HostOf>,
    now: Instant,
    loss: u32,
    dice: Dice,
    /// Bytes of the datagrams that left the sender, and how many there were.
    bytes: u64,
    datagrams: u64,
    /// The last packets, for a network that doubles.
    doubles: bool,
}

/// Of IPv4 and UDP.
const HEADERS: u64 = 28;
/// An offer as a datagram.
const OFFER_BYTES: u64 = 130;

impl Play {
    fn new(size_bytes: u64, hosts: usize, loss: u32, has_bytes: bool) -> Self {
        let file = File::new(size_bytes);
        let now = Instant::from_millis(1_000);
        Self {
            sender: Sender::new(now, file.what.clone(), RATE),
            hosts: (0..hosts).map(|number| HostOf::new(number, &file, has_bytes)).collect(),
            file,
            now,
            loss,
            dice: Dice(hosts as u64),
            bytes: 0,
            datagrams: 0,
            doubles: false,
        }
    }

    /// Everything that happens now. Then time goes on to the next thing. False once the sender has ended.
    fn turn(&mut self) -> bool {
        let known = self.hosts.len();
        while let Some(step) = self.sender.next(self.now, known) {
            self.carry(step);
        }
        for (number, host) in self.hosts.iter_mut().enumerate().filter(|(_, host)| host.is_up) {
            let now = self.now;
            for (block, _) in host.late.extract_if(.., |(_, at)| *at <= now) {
                host.receiver.as_mut().expect("it had the block").on_block(block, true);
            }
            let receiver = host.receiver.as_mut().filter(|_| now >= host.busy_until);
            let report = receiver.and_then(|receiver| receiver.report(now));
            if let Some(report) = report
                && self.dice.permille() >= self.loss
            {
                self.sender.on_report(NodeId(number as u64 + 1), &report);
            }
        }
        let of_hosts = self.hosts.iter().filter(|host| host.is_up);
        let of_hosts =
            of_hosts.filter_map(|host| Some(host.receiver.as_ref()?.poll_at()?.max(host.busy_until))).min();
        match Instant::earliest([self.sender.poll_at(), of_hosts]) {
            Some(next) if self.sender.ending().is_none() => {
                self.now = next.max(self.now + Duration::from_millis(1));
                true
            }
            _ => false,
        }
    }

    fn carry(&mut self, step: Step) {
        let (now, times) = (self.now, if self.doubles { 2 } else { 1 });
        let packet = match step {
            Step::Offer(_) => None,
            Step::Packet(part) => Some((part, self.file.content_of_part(part, self.hosts.first()))),
        };
        let length =
            packet.as_ref().map_or(OFFER_BYTES, |(_, content)| (content.len() + ENVELOPE_BYTES) as u64);
        self.bytes += length;
        self.datagrams += 1;
        for host in self.hosts.iter_mut().filter(|host| host.is_up) {
            if self.dice.permille() < self.loss {
                continue;
            }
            for _ in 0..times {
                match (&step, &packet) {
                    (Step::Offer(offer), _) => host.on_offer(now, offer),
                    (_, Some((part, content))) => {
                        let packet = Packet { transmission: self.file.what.id, part: *part, content };
                        host.on_packet(now, &packet, &self.file);
                    }
                    _ => {}
                }
            }
        }
    }

    fn run(&mut self) -> Ending {
        for _ in 0..10_000_000 {
            if !self.turn() {
                return self.sender.ending().expect("it has ended");
            }
        }
        panic!("the transmission does not end: {:?}", self.sender);
    }

    fn complete(&self) -> usize {
        self.hosts.iter().filter(|host| host.receiver.as_ref().is_some_and(Receiver::is_complete)).count()
    }

    fn ratio(&self) -> f64 {
        self.bytes as f64 / self.file.what.cut.size_bytes() as f64
    }

    fn check_bytes(&self) {
        for (number, host) in self.hosts.iter().enumerate() {
            let Some(receiver) = &host.receiver else { continue };
            for block in (0..self.file.what.cut.blocks()).filter(|block| receiver.is_here(*block)) {
                let from = (block * BLOCK_BYTES) as usize;
                let to = from + self.file.what.cut.block_bytes(block) as usize;
                assert!(
                    host.content[from..to] == self.file.content[from..to],
                    "block {block} of host {number}"
                );
            }
        }
    }
}

impl File {
    /// Bytes cost time: where hosts keep none, packets have the right length alone.
    fn content_of_part(&self, part: Part, host: Option<&HostOf>) -> std::vec::Vec<u8> {
        match part {
            Part::Source { .. } | Part::Repair { .. } if host.is_some_and(|host| host.content.is_empty()) => {
                vec![0; PACKET_BYTES]
            }
            _ => self.content_of(part),
        }
    }
}

#[test]
fn all_hosts_have_the_bytes_of_the_file() {
    for (size_bytes, loss) in [(1, 0), (1_153, 100), (300_000, 30), (MIB + 77_777, 5), (17 * MIB + 1, 0)] {
        let mut play = Play::new(size_bytes, 3, loss, true);
        let ending = play.run();
        assert_eq!(play.complete(), 3, "{size_bytes} bytes: {ending:?}");
        play.check_bytes();
    }
}

/// Bytes of datagrams, and of IPv4 packets where a network carries them.
#[test]
fn the_bytes_that_are_sent_hold_their_targets() {
    for (hosts, size, loss, most) in
        [(8, 17, 0, 1.05), (64, 4, 10, 1.10), (1_000, 2, 10, 1.05), (1_000, 1, 50, 1.15)]
    {
        let mut play = Play::new(size * MIB, hosts, loss, false);
        let ending = play.run();
        println!(
            "{hosts} hosts, {loss} of 1,000 lost, {size} MiB: {:.3} of the payload, {:.3} in IPv4, {ending:?}, {} complete, {:?}",
            play.ratio(),
            (play.bytes + HEADERS * play.datagrams) as f64 / (size * MIB) as f64,
            play.complete(),
            play.sender.sent(),
        );
        assert!(play.ratio() <= most, "{}", play.ratio());
        assert!(play.complete() * 1_000 >= hosts * 995, "{} of {hosts}", play.complete());
    }
}

#[test]
fn a_host_that_restarts_at_any_time_has_what_its_hashes_say() {
    for at in (0..60).step_by(15) {
        let mut play = Play::new(300_000, 3, 20, true);
        let mut turns = 0;
        while play.turn() {
            turns += 1;
            if turns == at * 3 {
                play.hosts[0].restart();
            }
        }
        assert!(play.complete() >= 2, "the others are served");
        play.check_bytes();
    }
}

#[test]
fn a_host_that_comes_late_is_served_or_left_to_sessions_and_holds_up_nobody() {
    for late in [50, 500, 2_000] {
        let mut play = Play::new(33 * MIB, 4, 0, false);
        play.hosts[3].is_up = false;
        let mut turns = 0;
        while play.turn() {
            turns += 1;
            play.hosts[3].is_up |= turns == late;
        }
        assert!(play.complete() >= 3);
        assert!(play.ratio() < 1.6, "{}", play.ratio());
        let ending = play.sender.ending().unwrap();
        let told = play.sender.last_answers();
        assert_eq!((told.complete as usize, told.hosts + told.out), (play.complete(), 4), "{told:?}");
        assert_eq!(play.complete() == 4, ending == Ending::All, "{ending:?}");
    }
}

/// More is lost of a block than repair packets find: where several hosts lack it, it is sent again.
#[test]
fn what_several_hosts_did_not_hear_is_sent_again() {
    let mut play = Play::new(4 * MIB, 4, 0, true);
    while play.turn() {
        let is_up = !(100..700).contains(&play.sender.sent().source);
        play.hosts[2..].iter_mut().for_each(|host| host.is_up = is_up);
    }
    assert_eq!((play.complete(), play.sender.ending()), (4, Some(Ending::All)));
    let again = play.sender.sent().repair;
    assert!((600..1_000).contains(&again), "{again}");
    play.check_bytes();
}

#[test]
fn a_network_that_doubles_costs_nothing_but_its_copies() {
    let mut play = Play::new(300_000, 3, 20, true);
    play.doubles = true;
    play.run();
    assert_eq!(play.complete(), 3);
    assert!(play.ratio() < 1.2, "{}", play.ratio());
    play.check_bytes();
}
