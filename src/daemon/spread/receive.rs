//! The worker that receives a file that is sent to all hosts: [`Receiver`] says what to do with each packet,
//! the socket and the cache are here.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::thread::JoinHandle;

use super::super::sys;
use super::cache::{Blocks, Cache, Kept, NoRoom};
use super::held::{Held, Numbers, Work};
use super::{Input, now, report_end, wait};
use crate::coding::cauchy::Cauchy;
use crate::coding::decoder::Decoder;
use crate::coding::proof::{BLOCK_BYTES, BlockHasher, SubtreeHash};
use crate::fsm::random::Random;
use crate::fsm::spread::receiver::{Dropped, Ready, Receiver, Take, section_of};
use crate::job::reporter::Reporter;
use crate::job::{ReceiveJob, ReceiveState, Report, SpreadInput};
use crate::limits::DATAGRAM_BYTES;
use crate::time::{Duration, Instant};
use crate::wire::packet::Packet;

/// A sender that was not heard for so long has ended.
const SILENT: Duration = Duration::from_secs(30);
/// From one report to the loop to the next.
const REPORT_APART: Duration = Duration::from_secs(1);
/// How often it is looked whether the disk is done.
const LOOK_APART: Duration = Duration::from_millis(100);
/// How long after its moment an answer still counts.
const ANSWER_LATE: Duration = Duration::from_millis(100);
/// Packets between two looks at anything else.
const PACKETS: u32 = 64;
/// Packets of a block that are worked on between two looks at the socket and at questions. To find 256 packets takes a
/// slow processor seconds: meanwhile the socket would overflow, and the sender take the host for gone.
const WORK_PACKETS: u16 = 8;

/// Receives until the sender has ended, and reports how that went.
///
/// # Errors
/// The loop is gone.
pub fn receive(
    state_dir: &Path,
    limits: (u64, u64),
    job: &ReceiveJob,
    socket: &OwnedFd,
    channel: &OwnedFd,
    reporter: &mut dyn Reporter,
) -> io::Result<()> {
    let failed = match Receiving::open(state_dir, limits, job) {
        Ok(mut receiving) => {
            let (inputs, datagram) = (Input::new(), [0; DATAGRAM_BYTES + 1]);
            let left = receiving.run(&mut Ends { job, socket, channel, reporter, inputs, datagram })?;
            if receiving.has_nothing() {
                let _ = Cache::of(state_dir).remove(&job.offer.file);
            }
            left
        }
        Err(reason) => Some(reason),
    };
    report_end(&job.offer.id, "received with", failed, reporter)
}

/// Where packets and questions come from, and answers go.
struct Ends<'a> {
    job: &'a ReceiveJob,
    socket: &'a OwnedFd,
    channel: &'a OwnedFd,
    reporter: &'a mut dyn Reporter,
    inputs: Input,
    datagram: [u8; DATAGRAM_BYTES + 1],
}

struct Receiving {
    receiver: Receiver,
    file: File,
    held: Held,
    code: Rc<Cauchy>,
    random: Random,
    disk: Disk,
    state: ReceiveState,
    /// Why it takes part no longer.
    left: Option<String>,
}

/// What is kept, or on its way to the disk.
#[allow(clippy::large_enum_variant, reason = "one of them")]
enum Disk {
    Idle(Kept),
    Busy(JoinHandle<(Kept, io::Result<()>)>),
    /// For a moment.
    Gone,
}

impl Receiving {
    fn open(state_dir: &Path, (most, reserve): (u64, u64), job: &ReceiveJob) -> Result<Self, String> {
        let offer = &job.offer;
        let mut receiver = Receiver::new(now(), offer).ok_or("its sender's offer makes no sense")?;
        let kept = Cache::of(state_dir).make(&offer.file, offer.size_bytes, most, reserve);
        let kept = kept.map_err(|error| format!("{}: {error}", state_dir.join("spread").display()))?;
        let kept = kept.map_err(|none| match none {
            NoRoom::Cache(most) => {
                format!("it has {} bytes, and agent.spread_cache_bytes is {most}", offer.size_bytes)
            }
            NoRoom::Disk(free) => format!("it has {} bytes, and {free} are free", offer.size_bytes),
        })?;
        receiver.resume(&kept.blocks);
        let file = kept.file().try_clone().map_err(|error| error.to_string())?;
        let mut seed = [0; 32];
        sys::random(&mut seed).map_err(|error| error.to_string())?;
        Ok(Self {
            receiver,
            file,
            held: Held::new(),
            code: Rc::new(Cauchy::new()),
            random: Random::new(seed),
            disk: Disk::Idle(kept),
            state: ReceiveState::default(),
            left: None,
        })
    }

    fn run(&mut self, ends: &mut Ends<'_>) -> io::Result<Option<String>> {
        self.receiver.on_offer(now(), &ends.job.offer, &mut self.random);
        let mut reported = now();
        loop {
            let is_empty = self.serve(ends)?;
            while let Some(work) = self.held.next_work() {
                let ready = work.ready;
                match self.find(work, ends) {
                    Ok(hash) => self.on_block(&ready, hash),
                    Err(error) => self.leave(&error),
                }
            }
            let at = now();
            self.note_blocks(false);
            let is_over = self.receiver.is_over() || at.since(self.receiver.heard()) >= SILENT;
            if at.since(reported) >= REPORT_APART || is_over {
                reported = at;
                ends.reporter.report(&Report::Receive(self.state()))?;
            }
            if is_over {
                self.note_blocks(true);
                return Ok(self.left.take());
            }
            if is_empty {
                let mut due =
                    Instant::earliest([self.receiver.poll_at(), Some(at + REPORT_APART)]).unwrap_or(at);
                if self.is_behind() {
                    due = due.min(at + LOOK_APART);
                }
                wait(ends.channel, Some(ends.socket), due)?;
            }
        }
    }

    /// Takes questions and some packets, and answers. Returns whether the socket is empty.
    fn serve(&mut self, ends: &mut Ends<'_>) -> io::Result<bool> {
        while let Some(input) = ends.inputs.next(ends.channel)? {
            if let SpreadInput::Offer(offer) = input {
                self.set_work();
                self.receiver.on_offer(now(), &offer, &mut self.random);
            }
        }
        let mut left = PACKETS;
        while left > 0 && self.held.has_room() {
            match sys::recv_message(ends.socket.as_fd(), &mut ends.datagram) {
                Ok(length) => self.on_datagram(ends.job, &ends.datagram[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An error of an interface that went: it may come back.
                Err(_) => {}
            }
            left -= 1;
        }
        self.set_work();
        // What lies in the socket is not missing; but a host that does not keep up says so, too.
        let at = now();
        let is_late = self.receiver.poll_at().is_some_and(|due| at.since(due) >= ANSWER_LATE);
        if (left > 0 || is_late)
            && let Some(report) = self.receiver.report(at)
        {
            ends.reporter.report(&Report::Lacks(report))?;
        }
        Ok(left > 0)
    }

    fn on_datagram(&mut self, job: &ReceiveJob, datagram: &[u8]) {
        let key = |slot: u8| job.keys.get(usize::from(slot)).copied().flatten();
        let Ok(packet) = Packet::parse(datagram, key) else {
            self.state.refused[0] += 1;
            return;
        };
        let section = self.receiver.section();
        if section_of(packet.part) != u64::from(section) {
            self.set_work();
        }
        let take = self.receiver.on_packet(now(), &packet);
        if self.receiver.section() != section {
            self.held.begin_section();
        }
        let written = match take {
            Take::Source { block, number } => self.write(block, number, packet.content),
            Take::Repair { block, place } => {
                self.held.put(block, place, packet.content);
                Ok(())
            }
            Take::Proof => Ok(()),
            Take::Drop(dropped) => {
                let at = match dropped {
                    Dropped::Other => 1,
                    Dropped::Known => 2,
                    Dropped::Shape => 3,
                    Dropped::FalseProof => 4,
                };
                self.state.refused[at] += 1;
                return;
            }
        };
        self.state.taken += 1;
        if let Err(error) = written {
            self.leave(&error);
        }
    }

    /// Notes the blocks whose packets are enough.
    fn set_work(&mut self) {
        while let Some(ready) = self.receiver.ready() {
            let mut missing = Numbers::new();
            let numbers = self.receiver.missing_of(ready.block, &mut missing);
            match numbers.and_then(|numbers| Numbers::from_slice(numbers).ok()) {
                Some(numbers) => self.held.add_work(ready, missing, numbers),
                None => self.leave(&io::Error::other("its packets make no block")),
            }
        }
    }

    fn leave(&mut self, error: &io::Error) {
        self.left = Some(format!("it cannot be kept: {error}"));
        self.receiver.leave();
    }

    /// Writes a source packet, but for what fills it up.
    fn write(&self, block: u64, number: u16, packet: &[u8]) -> io::Result<()> {
        let from = u64::from(number) * packet.len() as u64;
        let bytes = self.receiver.what().cut.block_bytes(block).saturating_sub(from).min(packet.len() as u64);
        self.file.write_all_at(&packet[..bytes as usize], block * BLOCK_BYTES + from)
    }

    /// Finds the missing packets of a block, and hashes it.
    fn find(&mut self, work: Work, ends: &mut Ends<'_>) -> io::Result<SubtreeHash> {
        let Work { ready: Ready { block, .. }, missing, numbers, mut packets } = work;
        let what = self.receiver.what().clone();
        let wrong = || io::Error::other("its packets make no block");
        let length = usize::from(what.packet_bytes);
        let bytes = what.cut.block_bytes(block);
        let mut packet = vec![0; length];
        if !missing.is_empty() {
            packets.truncate(numbers.len() * length);
            let code = Rc::clone(&self.code);
            let mut decoder = Decoder::new(&code, &missing, &numbers, &mut packets).map_err(|_| wrong())?;
            for number in (0..what.packets(block)).filter(|number| missing.binary_search(number).is_err()) {
                let from = u64::from(number) * length as u64;
                let here = bytes.saturating_sub(from).min(length as u64) as usize;
                self.file.read_exact_at(&mut packet[..here], block * BLOCK_BYTES + from)?;
                packet[here..].fill(0);
                decoder.subtract(number, &packet).map_err(|_| wrong())?;
                if number.is_multiple_of(WORK_PACKETS) {
                    self.serve(ends)?;
                }
            }
            for (at, number) in missing.iter().enumerate() {
                if at % usize::from(WORK_PACKETS) == 0 {
                    self.serve(ends)?;
                }
                decoder.recover(at, &mut packet).map_err(|_| wrong())?;
                self.write(block, *number, &packet)?;
            }
        }
        let mut hasher = BlockHasher::new(what.cut, block);
        let mut piece = vec![0; 64 * 1024];
        let mut at = 0;
        while at < bytes {
            let here = (piece.len() as u64).min(bytes - at) as usize;
            self.file.read_exact_at(&mut piece[..here], block * BLOCK_BYTES + at)?;
            hasher.update(&piece[..here]);
            at += here as u64;
        }
        Ok(hasher.finish())
    }

    fn on_block(&mut self, ready: &Ready, hash: SubtreeHash) {
        let agrees = hash == ready.hash;
        self.receiver.on_block(ready.block, agrees);
        if !agrees {
            self.state.poisoned += 1;
            if self.receiver.has_left() {
                self.left =
                    Some("somebody with the key of all agents sends what is not of the file".to_owned());
            }
        }
    }

    /// Whether no block is here, and none was before.
    fn has_nothing(&self) -> bool {
        matches!(&self.disk, Disk::Idle(kept) if kept.is_new())
    }

    /// Whether blocks are here that the disk does not say yet.
    fn is_behind(&self) -> bool {
        match &self.disk {
            Disk::Idle(kept) => kept.blocks != *self.receiver.done(),
            Disk::Busy(_) | Disk::Gone => true,
        }
    }

    /// Has the disk keep the blocks that are here, beside all else; or waits for it.
    fn note_blocks(&mut self, is_last: bool) {
        loop {
            self.disk = match std::mem::replace(&mut self.disk, Disk::Gone) {
                Disk::Busy(busy) if is_last || busy.is_finished() => match busy.join() {
                    Ok((kept, Ok(()))) => Disk::Idle(kept),
                    Ok((kept, Err(error))) => {
                        self.leave(&error);
                        Disk::Idle(kept)
                    }
                    Err(_) => return,
                },
                Disk::Idle(mut kept) if kept.blocks != *self.receiver.done() && !self.receiver.has_left() => {
                    let blocks: Blocks = *self.receiver.done();
                    Disk::Busy(std::thread::spawn(move || {
                        let noted = kept.note(&blocks);
                        (kept, noted)
                    }))
                }
                other => {
                    self.disk = other;
                    return;
                }
            };
            if !is_last {
                return;
            }
        }
    }

    fn state(&self) -> ReceiveState {
        let blocks = self.receiver.what().cut.blocks();
        let here = (0..blocks).filter(|block| self.receiver.is_here(*block)).count();
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let silent_ms = now().since(self.receiver.heard()).as_millis();
        ReceiveState { blocks: (number(blocks), number(here as u64)), silent_ms, ..self.state }
    }
}
