//! The worker that sends a file to all hosts, what operators do about it, and its packets on the way.

use thimble::coding::proof::{BLOCK_BYTES, BlockHasher, Cut, SectionProof, SubtreeHash};
use thimble::fsm::controller::spread::SpreadConfig;
use thimble::fsm::event::Event as NodeEvent;
use thimble::fsm::spread::sender::{Ending, Sender, Step};
use thimble::fsm::spread::{Report, SpreadFile, Transmission};
use thimble::limits::PACKET_BYTES;
use thimble::repo::entry::EntryState;
use thimble::repo::slots::Slot;
use thimble::time::Instant;
use thimble::types::{Hash, NodeId};
use thimble::wire::messages::Message;
use thimble::wire::packet::Part;

use crate::disk::Bytes;
use crate::repository::blob;
use crate::world::{Event, World};

/// Packets of one turn of the worker.
const PACKETS: usize = 64;
/// A rollout sends no smaller file.
pub const LEAST_BYTES: u64 = 2_000;
/// Rates of operators, in bytes for a second; 0: the configuration's.
const RATES: [u64; 4] = [0, 60_000, 400_000, 5_000_000];

/// The worker that sends.
pub struct Sending {
    pub sender: Sender,
    content: Bytes,
    hashes: Vec<SubtreeHash>,
    /// The wake that counts.
    wake: u64,
}

/// A packet under way to one machine.
pub struct Packet {
    pub from: usize,
    pub to: usize,
    pub transmission: u64,
    pub part: Part,
    pub content: Bytes,
}

/// Stands for a repair packet: whoever has as many true packets of a block as that has source packets has the block.
pub fn stand_in(file: &Hash, block: u64, number: u16) -> Bytes {
    let mut bytes = vec![0; PACKET_BYTES];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&file.0).update(&block.to_le_bytes()).update(&number.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

impl Sending {
    fn content_of(&self, part: Part) -> Bytes {
        let what = self.sender.what();
        match part {
            Part::Proof { section } => {
                let proof = SectionProof::new(what.cut, section.into(), &self.hashes).expect("it has it");
                [proof.blocks.concat(), proof.beside.concat()].concat().into()
            }
            Part::Source { block, number } => {
                let from = u64::from(number) * PACKET_BYTES as u64;
                let bytes = (what.cut.block_bytes(block.into()) - from).min(PACKET_BYTES as u64) as usize;
                let from = (u64::from(block) * BLOCK_BYTES + from) as usize;
                let mut packet = self.content[from..from + bytes].to_vec();
                packet.resize(PACKET_BYTES, 0);
                packet.into()
            }
            Part::Repair { block, number } => stand_in(&what.file, block.into(), number),
        }
    }
}

impl World {
    /// Tells a daemon that starts what its configuration says of transmissions.
    pub fn configure_spread(&mut self, machine: usize) {
        let Some(config) = self.spread else { return };
        let Some(process) = &mut self.machines[machine].process else { return };
        process.node.controller.iter_mut().for_each(|controller| controller.set_spread(config));
        process.node.agent.iter_mut().for_each(|agent| agent.set_takes_part(true));
    }

    /// What a run's configuration says, if its network carries multicast for files.
    pub fn spread_config(dice: &mut crate::dice::Dice) -> Option<SpreadConfig> {
        let rate = RATES[dice.between(1, 3) as usize];
        let config = SpreadConfig { rate, least_bytes: LEAST_BYTES, has_multicast: true };
        dice.chance(850).then_some(config)
    }

    /// An operator has a file sent, or ends what is sent.
    pub fn spread_command(&mut self, at: usize) {
        if self.dice.chance(250) {
            self.stop_sending_all(at);
        }
        let (rate, controller) = (RATES[self.dice.index(RATES.len())], self.machines[at].controller());
        let slots: Vec<Slot> = controller
            .iter()
            .flat_map(|controller| controller.map().iter_by_id())
            .filter(|(_, entry)| entry.state != EntryState::Deleted)
            .map(|(slot, _)| slot)
            .collect();
        if !slots.is_empty() && self.dice.chance(700) {
            let slot = slots[self.dice.index(slots.len())];
            self.send_to_all(at, slot, rate);
        }
    }

    pub fn send_to_all(&mut self, at: usize, slot: Slot, rate: u64) {
        self.note(format_args!("{at} is to send {slot:?} to all, {rate}"));
        self.touch(at, |process, _| {
            let Some(controller) = &mut process.node.controller else { return };
            let is_ready = process.is_loaded && controller.sync().is_started();
            if is_ready && !controller.sync().blobs().missing().contains(slot) {
                // If 16 wait, it is refused.
                let _ = controller.send_to_all(slot, rate, &mut process.actions);
            }
        });
    }

    fn stop_sending_all(&mut self, at: usize) {
        self.note(format_args!("{at} is to send nothing to all"));
        self.touch(at, |process, _| {
            if let Some(controller) = &mut process.node.controller {
                controller.stop_spread(&mut process.actions);
            }
        });
    }

    pub fn start_spread(&mut self, machine: usize, file: &SpreadFile) {
        self.note(format_args!("{machine} sends {} to all, {}", file.id, file.rate));
        let Some(content) = self.machines[machine].disk.read(&blob(&file.file)).map(Bytes::from) else {
            // It went since. The worker cannot be started.
            return self.pass_event(machine, &NodeEvent::SpreadEnded);
        };
        let cut = Cut::of(content.len() as u64).expect("a patch file");
        let hashes = content.chunks(BLOCK_BYTES as usize).enumerate().map(|(block, bytes)| {
            let mut hasher = BlockHasher::new(cut, block as u64);
            hasher.update(bytes);
            hasher.finish()
        });
        let hashes: Vec<SubtreeHash> = hashes.collect();
        let now = Instant::from_millis(self.now);
        let process = self.machines[machine].process.as_mut().expect("it sends");
        assert!(process.sending.is_none(), "{machine} sends two files at once");
        let what = Transmission {
            id: process.node.random.next_u64(),
            patch: file.id.clone(),
            kinds: file.kinds,
            file: file.file,
            cut,
            packet_bytes: PACKET_BYTES as u16,
        };
        let id = what.id;
        process.sending =
            Some(Sending { sender: Sender::new(now, what, file.rate), content, hashes, wake: 0 });
        self.transmissions.begin(id, machine);
        self.wake_sending(machine, 0);
    }

    fn wake_sending(&mut self, machine: usize, delay: u64) {
        let wake = self.number();
        let Some(process) = &mut self.machines[machine].process else { return };
        let (start, Some(sending)) = (process.start, &mut process.sending) else { return };
        sending.wake = wake;
        self.schedule(delay, Event::Spread { machine, start, wake });
    }

    pub fn stop_spread(&mut self, machine: usize) {
        let process = self.machines[machine].process.as_mut();
        if let Some(sending) = process.and_then(|process| process.sending.as_mut()) {
            sending.sender.stop();
            self.wake_sending(machine, 0);
        }
    }

    /// The worker's turn.
    pub fn on_spread(&mut self, machine: usize, wake: u64) {
        let now = Instant::from_millis(self.now);
        let Some(process) = &mut self.machines[machine].process else { return };
        let known = process.node.controller.as_ref().map_or(0, |controller| controller.may_answer(now));
        let Some(sending) = process.sending.as_mut().filter(|sending| sending.wake == wake) else { return };
        let mut steps = Vec::new();
        while steps.len() < PACKETS
            && let Some(step) = sending.sender.next(now, known)
        {
            let content = match step {
                Step::Packet(part) => Some(sending.content_of(part)),
                Step::Offer(_) => None,
            };
            steps.push((step, content));
        }
        let (id, poll_at) = (sending.sender.what().id, sending.sender.poll_at());
        let has_more = steps.len() == PACKETS;
        let ending = sending.sender.ending().filter(|_| !has_more && poll_at.is_none());
        let mut has_asked = false;
        for (step, content) in steps {
            match (step, content) {
                (Step::Packet(part), Some(content)) => {
                    if matches!(part, Part::Source { .. }) {
                        self.transmissions.on_source(machine, self.now);
                    }
                    self.carry(machine, id, part, &content);
                }
                (Step::Offer(offer), _) => {
                    has_asked = true;
                    self.send(machine, thimble::fsm::actions::To::Agents, &Message::SpreadOffer(offer));
                }
                _ => {}
            }
        }
        let dies = has_asked && !self.network.is_calm && self.dice.chance(self.weather.worker_deaths);
        if dies || ending.is_some() {
            return self.end_sending(machine, ending.filter(|_| !dies));
        }
        let delay = if has_more { 0 } else { poll_at.map_or(0, |at| at.since(now).as_millis()) };
        self.wake_sending(machine, delay.max(1));
    }

    fn end_sending(&mut self, machine: usize, ending: Option<Ending>) {
        let process = self.machines[machine].process.as_mut().expect("it sends");
        let sending = process.sending.take().expect("it sends");
        let (id, sent) = (sending.sender.what().id, sending.sender.sent());
        self.note(format_args!("{machine} has sent to all: {ending:?}, {sent:?}"));
        self.transmissions.end(id, self.now);
        self.transmissions.last_ending = ending;
        self.pass_event(machine, &NodeEvent::SpreadEnded);
    }

    /// Passes a host's answer on to the worker.
    pub fn pass_lacks(&mut self, machine: usize, from: NodeId, report: &Report) {
        let process = self.machines[machine].process.as_mut();
        if let Some(sending) = process.and_then(|process| process.sending.as_mut()) {
            sending.sender.on_report(from, report);
            self.wake_sending(machine, 0);
        }
    }

    /// A packet goes out to the group.
    fn carry(&mut self, from: usize, transmission: u64, part: Part, content: &Bytes) {
        for to in 0..self.machines.len() {
            let process = self.machines[to].process.as_ref();
            // Only who has joined the group gets it.
            if self.is_link_lost(from, to) || process.is_none_or(|process| process.receiving.is_none()) {
                continue;
            }
            for delay in self.network.deliveries(&mut self.dice, self.now, from, to) {
                let content = Bytes::clone(content);
                self.schedule(delay, Event::Packet(Packet { from, to, transmission, part, content }));
            }
        }
    }

    /// Somebody with the key of all agents sends what is not of the file, with the numbers of what is.
    pub fn inject(&mut self, from: usize) {
        let sending = self.machines.iter().filter_map(|machine| machine.process.as_ref()?.sending.as_ref());
        let under_way: Vec<Transmission> = sending.map(|sending| sending.sender.what().clone()).collect();
        let Some(what) = under_way.first() else { return };
        let block = self.dice.between(0, what.cut.blocks() - 1);
        let number = self.dice.index(usize::from(what.packets(block))) as u16;
        let block = block as u32;
        let part = match self.dice.between(0, 3) {
            0 => Part::Proof { section: 0 },
            1 => Part::Repair { block, number },
            _ => Part::Source { block, number },
        };
        self.note(format_args!("{from} sends a false {part:?}"));
        let is_proof = matches!(part, Part::Proof { .. });
        let length = if is_proof { 32 * what.cut.section_blocks(0) } else { PACKET_BYTES };
        let content: Bytes = vec![9; length].into();
        self.carry(from, what.id, part, &content);
    }
}
