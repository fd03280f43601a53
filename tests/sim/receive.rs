//! The worker that receives what is sent to all hosts: the daemon's, on a disk of the simulation. The code is not
//! played: a block is found if all packets that stand for it are true. Its hash and the proof are real.

use std::collections::BTreeMap;

use thimble::coding::proof::{BLOCK_BYTES, BlockHasher};
use thimble::fsm::event::Event as NodeEvent;
use thimble::fsm::random::Random;
use thimble::fsm::spread::Offer;
use thimble::fsm::spread::receiver::{Ready, Receiver, Take};
use thimble::limits::{FILE_BLOCKS, PACKET_BYTES};
use thimble::time::{Duration, Instant};
use thimble::types::Hash;
use thimble::wire::packet::Packet as Wire;

use crate::disk::Bytes;
use crate::kept::{Blocks, Kept};
use crate::spread::{Packet, stand_in};
use crate::world::{Event, World};

/// As the daemon's: a sender that was not heard for so long has ended.
pub const SILENT_MS: u64 = 30_000;
/// As the daemon's: from one report to the loop to the next.
const REPORT_MS: u64 = 1_000;
/// How late the last packet of a sender comes, and how late a receiver looks.
const LATE_MS: u64 = 3_000 + REPORT_MS + 100;
/// How long it takes to find a block, and the disk to keep one, at most.
const WORK_MOST_MS: u64 = 300;

/// What the disk does.
enum Sync {
    Idle,
    /// It has all that was written until then.
    Until(u64, Blocks),
}

/// A block that is found and hashed until then.
struct Work {
    at: u64,
    ready: Ready,
    bytes: Vec<u8>,
}

/// The worker that receives.
pub struct Receiving {
    receiver: Receiver,
    random: Random,
    kept: Kept,
    /// The file has no name any more.
    is_removed: bool,
    content: Vec<u8>,
    repair: BTreeMap<(u64, u16), Bytes>,
    work: Vec<Work>,
    sync: Sync,
    reports: u64,
    /// It was told to end.
    is_stopping: bool,
    /// The wake that counts, and its time.
    wake: (u64, u64),
    pub poisoned: u32,
}

impl Receiving {
    pub fn transmission(&self) -> u64 {
        self.receiver.what().id
    }

    pub fn on_removed(&mut self, hash: &Hash) {
        self.is_removed |= self.receiver.what().file == *hash;
    }

    /// When it has something to do.
    fn due(&self) -> u64 {
        let sync = if let Sync::Until(at, _) = self.sync { Some(at) } else { None };
        let report = self.receiver.poll_at().map(Instant::as_millis);
        let work = self.work.iter().map(|work| work.at).min();
        [sync, report, work].into_iter().flatten().min().unwrap_or(u64::MAX).min(self.reports)
    }

    /// Whether all blocks that it may name present are of the file: those on the disk of its machine.
    pub fn has_whole_file(&self, world: &World, machine: usize) -> bool {
        let what = self.receiver.what();
        let truth = &world.truth.contents[&what.file];
        let disk = &world.machines[machine].disk;
        (0..what.cut.blocks()).all(|block| {
            let from = (block * BLOCK_BYTES) as usize;
            let bytes = &truth[from..from + what.cut.block_bytes(block) as usize];
            self.is_removed || self.kept.read(disk, block) == bytes
        })
    }

    fn here(&self) -> Blocks {
        self.receiver.done()[0]
    }

    /// The bytes of a block whose packets are enough, as its packets give it.
    fn find(&self, block: u64, truth: &[u8]) -> Vec<u8> {
        let what = self.receiver.what();
        let from = (block * BLOCK_BYTES) as usize;
        let to = from + what.cut.block_bytes(block) as usize;
        let (found, truth) = (&self.content[from..to], &truth[from..to]);
        let mut missing = heapless::Vec::new();
        let used = self.receiver.missing_of(block, &mut missing).expect("they are enough");
        let is_here = |number: &usize| !missing.contains(&(*number as u16));
        let mut packets = found.chunks(PACKET_BYTES).zip(truth.chunks(PACKET_BYTES)).enumerate();
        let are_true = packets.all(|(number, (one, other))| !is_here(&number) || one == other)
            && used.iter().zip(0..).all(|(number, place)| {
                self.repair.get(&(block, place)) == Some(&stand_in(&what.file, block, *number))
            });
        if are_true || missing.is_empty() {
            if are_true { truth.to_vec() } else { found.to_vec() }
        } else {
            vec![0; to - from]
        }
    }
}

impl World {
    pub fn start_receiving(&mut self, machine: usize, offer: &Offer) {
        let now = Instant::from_millis(self.now);
        let receiver = Receiver::new(now, offer).filter(|_| self.machines[machine].has_room);
        let Some(mut receiver) = receiver else {
            self.note(format_args!("{machine} has no room for {}", offer.id));
            return self.pass_event(machine, &NodeEvent::ReceivingEnded(true));
        };
        let number = self.number();
        // What is here from before is of the file.
        let _ = self.kept(machine, &offer.file);
        let kept = Kept::make(&mut self.machines[machine].disk, &offer.file, number);
        self.note(format_args!("{machine} receives {:x}: {:b} is here", offer.transmission, kept.blocks));
        let mut done = [0; FILE_BLOCKS / 64];
        done[0] = kept.blocks;
        receiver.resume(&done);
        let mut random = Random::new(self.dice.seed());
        receiver.on_offer(now, offer, &mut random);
        let reports = self.now + REPORT_MS;
        let content = vec![0; offer.size_bytes as usize];
        let process = self.machines[machine].process.as_mut().expect("it receives");
        assert!(process.receiving.is_none(), "{machine} receives two files at once");
        process.receiving = Some(Receiving {
            receiver,
            random,
            kept,
            is_removed: false,
            content,
            repair: BTreeMap::new(),
            work: Vec::new(),
            sync: Sync::Idle,
            reports,
            is_stopping: false,
            wake: (0, u64::MAX),
            poisoned: 0,
        });
        self.wake_receiving(machine);
    }

    fn receiving(&mut self, machine: usize) -> Option<&mut Receiving> {
        self.machines[machine].process.as_mut()?.receiving.as_mut()
    }

    /// Has it woken when it has something to do, unless it is woken before.
    fn wake_receiving(&mut self, machine: usize) {
        let (now, wake) = (self.now, self.number());
        let Some(process) = &mut self.machines[machine].process else { return };
        let (start, Some(receiving)) = (process.start, &mut process.receiving) else { return };
        let due = if receiving.is_stopping { now } else { receiving.due().max(now) };
        if due < receiving.wake.1 {
            receiving.wake = (wake, due);
            self.schedule(due - now, Event::Receive { machine, start, wake });
        }
    }

    pub fn pass_offer(&mut self, machine: usize, offer: &Offer) {
        let now = Instant::from_millis(self.now);
        if let Some(receiving) = self.receiving(machine) {
            receiving.receiver.on_offer(now, offer, &mut receiving.random);
            if receiving.receiver.is_over() {
                receiving.reports = now.as_millis();
            }
            self.wake_receiving(machine);
        }
    }

    pub fn stop_receiving(&mut self, machine: usize) {
        if let Some(receiving) = self.receiving(machine) {
            receiving.is_stopping = true;
            self.wake_receiving(machine);
        }
    }

    pub fn on_packet(&mut self, packet: &Packet) {
        let (now, to) = (Instant::from_millis(self.now), packet.to);
        if packet.from != to && self.network.is_lost(to) {
            return;
        }
        let late = self.dice.between(0, if self.network.is_calm { 3 } else { WORK_MOST_MS });
        let Some(process) = &mut self.machines[to].process else { return };
        let Some(receiving) = process.receiving.as_mut().filter(|one| !one.is_stopping) else { return };
        let Packet { transmission, part, ref content, .. } = *packet;
        match receiving.receiver.on_packet(now, &Wire { transmission, part, content }) {
            Take::Source { block, number } => {
                let from = block * BLOCK_BYTES + u64::from(number) * PACKET_BYTES as u64;
                let end = block * BLOCK_BYTES + receiving.receiver.what().cut.block_bytes(block);
                let bytes = (end - from).min(PACKET_BYTES as u64) as usize;
                receiving.content[from as usize..from as usize + bytes].copy_from_slice(&content[..bytes]);
            }
            Take::Repair { block, place } => {
                receiving.repair.insert((block, place), Bytes::clone(content));
            }
            Take::Proof => {}
            Take::Drop(_) => return,
        }
        while let Some(ready) = receiving.receiver.ready() {
            let truth = &self.truth.contents[&receiving.receiver.what().file];
            let bytes = receiving.find(ready.block, truth);
            receiving.work.push(Work { at: self.now + late, ready, bytes });
        }
        self.wake_receiving(to);
    }

    /// The worker's turn.
    pub fn on_receive(&mut self, machine: usize, wake: u64) {
        let (now, late) = (self.now, self.dice.between(1, WORK_MOST_MS));
        let here = &mut self.machines[machine];
        let Some(process) = &mut here.process else { return };
        let Some(receiving) = process.receiving.as_mut().filter(|one| one.wake.0 == wake) else { return };
        receiving.wake.1 = u64::MAX;
        if receiving.is_stopping {
            return self.end_receiving(machine, true);
        }
        let silence = Instant::from_millis(now).since(receiving.receiver.heard());
        let is_over = receiving.receiver.is_over() || silence.as_millis() >= SILENT_MS;
        for Work { ready, bytes, .. } in receiving.work.extract_if(.., |work| work.at <= now || is_over) {
            if !receiving.is_removed {
                receiving.kept.write(&mut here.disk, ready.block, &bytes);
            }
            let mut hasher = BlockHasher::new(receiving.receiver.what().cut, ready.block);
            hasher.update(&bytes);
            let agrees = hasher.finish() == ready.hash;
            receiving.receiver.on_block(ready.block, agrees);
            if !agrees {
                receiving.poisoned += 1;
                self.transmissions.poisoned.push((machine, ready.block));
            }
        }
        if let Sync::Until(at, blocks) = receiving.sync
            && at <= now
        {
            receiving.sync = Sync::Idle;
            if !receiving.is_removed {
                receiving.kept.sync(&mut here.disk);
                receiving.kept.note(&mut here.disk, blocks);
            } else {
                receiving.kept.blocks = blocks;
            }
        }
        let is_behind = receiving.kept.blocks != receiving.here() && !receiving.receiver.has_left();
        if is_behind && matches!(receiving.sync, Sync::Idle) {
            receiving.sync = Sync::Until(now + late, receiving.here());
        }
        let report = receiving.receiver.report(Instant::from_millis(now));
        let is_due = now >= receiving.reports || is_over;
        let transmission = receiving.transmission();
        if is_due {
            receiving.reports = now + REPORT_MS;
        }
        if is_over && is_behind && !receiving.is_removed {
            let here_now = receiving.here();
            receiving.kept.sync(&mut here.disk);
            receiving.kept.note(&mut here.disk, here_now);
        }
        let has_left = receiving.receiver.has_left();
        self.transmissions.check_not_outlived(machine, transmission, now, SILENT_MS + LATE_MS);
        if let Some(report) = report {
            self.pass_event(machine, &NodeEvent::Lacks(&report));
        }
        if is_due {
            self.pass_event(machine, &NodeEvent::Receiving(Duration::from_millis(silence.as_millis())));
        }
        let dies = is_due && !self.network.is_calm && self.dice.chance(self.weather.worker_deaths);
        if is_over || dies {
            return self.end_receiving(machine, has_left || dies);
        }
        self.wake_receiving(machine);
    }

    fn end_receiving(&mut self, machine: usize, is_refused: bool) {
        let process = self.machines[machine].process.as_mut().expect("it receives");
        let receiving = process.receiving.take().expect("it receives");
        let (id, here, poisoned) = (receiving.transmission(), receiving.here(), receiving.poisoned);
        self.note(format_args!("{machine} has received {id:x}: {here:b} is here, {poisoned} were false"));
        self.pass_event(machine, &NodeEvent::ReceivingEnded(is_refused));
    }
}
