//! The worker that receives a file that is sent to all hosts: [`Receiver`] says what to do with each packet,
//! the socket and the cache are here.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::JoinHandle;

use super::super::sys;
use super::cache::{Blocks, Cache, Kept, NoRoom};
use super::{Input, now, wait};
use crate::coding::cauchy::Cauchy;
use crate::coding::decoder::Decoder;
use crate::coding::proof::{BLOCK_BYTES, BlockHasher, SubtreeHash};
use crate::fsm::random::Random;
use crate::fsm::spread::receiver::{Dropped, Ready, Receiver, Take};
use crate::job::reporter::Reporter;
use crate::job::{ReceiveJob, ReceiveState, RefusalKind, Report, SpreadInput};
use crate::limits::{DATAGRAM_BYTES, MISSING_PACKETS, SECTION_BLOCKS};
use crate::time::{Duration, Instant};
use crate::types::Reason;
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
        Ok(mut receiving) => receiving.run(job, socket, channel, reporter)?,
        Err(reason) => Some(reason),
    };
    match failed {
        None => {
            let done = Report::Done;
            reporter.report(&done)
        }
        Some(reason) => {
            let reason =
                Reason::format(format_args!("{} is not received with all hosts: {reason}", job.offer.id));
            reporter.report(&Report::Failed { kind: RefusalKind::Refused, reason })
        }
    }
}

struct Receiving {
    receiver: Receiver,
    file: File,
    /// The repair packets of each block of the section, in their places.
    repair: [Vec<u8>; SECTION_BLOCKS],
    code: Cauchy,
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
            repair: [const { Vec::new() }; SECTION_BLOCKS],
            code: Cauchy::new(),
            random: Random::new(seed),
            disk: Disk::Idle(kept),
            state: ReceiveState::default(),
            left: None,
        })
    }

    fn run(
        &mut self,
        job: &ReceiveJob,
        socket: &OwnedFd,
        channel: &OwnedFd,
        reporter: &mut dyn Reporter,
    ) -> io::Result<Option<String>> {
        let mut inputs = Input::new();
        self.receiver.on_offer(now(), &job.offer, &mut self.random);
        let mut reported = now();
        let mut datagram = [0; DATAGRAM_BYTES + 1];
        loop {
            while let Some(input) = inputs.next(channel)? {
                if let SpreadInput::Offer(offer) = input {
                    self.receiver.on_offer(now(), &offer, &mut self.random);
                }
            }
            let mut left = PACKETS;
            while left > 0 {
                match sys::recv_message(socket.as_fd(), &mut datagram) {
                    Ok(length) => self.on_datagram(job, &datagram[..length]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An error of an interface that went: it may come back.
                    Err(_) => {}
                }
                left -= 1;
            }
            while let Some(ready) = self.receiver.ready() {
                match self.find(&ready) {
                    Ok(hash) => self.on_block(&ready, hash),
                    Err(error) => self.leave(&error),
                }
            }
            let at = now();
            self.note_blocks(false);
            // What lies in the socket is not missing; but a host that does not keep up says so, too.
            let is_late = self.receiver.poll_at().is_some_and(|due| at.since(due) >= ANSWER_LATE);
            if (left > 0 || is_late)
                && let Some(report) = self.receiver.report(at)
            {
                reporter.report(&Report::Lacks(report))?;
            }
            let is_over = self.receiver.is_over() || at.since(self.receiver.heard()) >= SILENT;
            if at.since(reported) >= REPORT_APART || is_over {
                reported = at;
                reporter.report(&Report::Receive(self.state()))?;
            }
            if is_over {
                self.note_blocks(true);
                return Ok(self.left.take());
            }
            if left > 0 {
                let mut due =
                    Instant::earliest([self.receiver.poll_at(), Some(at + REPORT_APART)]).unwrap_or(at);
                if self.is_behind() {
                    due = due.min(at + LOOK_APART);
                }
                wait(channel, Some(socket), due)?;
            }
        }
    }

    fn on_datagram(&mut self, job: &ReceiveJob, datagram: &[u8]) {
        let key = |slot: u8| job.keys.get(usize::from(slot)).copied().flatten();
        let Ok(packet) = Packet::parse(datagram, key) else {
            self.state.refused[0] += 1;
            return;
        };
        let section = self.receiver.section();
        let take = self.receiver.on_packet(now(), &packet);
        if self.receiver.section() != section {
            self.repair.iter_mut().for_each(|packets| *packets = Vec::new());
        }
        let written = match take {
            Take::Source { block, number } => self.write(block, number, packet.content),
            Take::Repair { block, place } => {
                let at = usize::from(place) * packet.content.len();
                let packets = &mut self.repair[(block % SECTION_BLOCKS as u64) as usize];
                if packets.len() < at + packet.content.len() {
                    packets.resize(at + packet.content.len(), 0);
                }
                packets[at..at + packet.content.len()].copy_from_slice(packet.content);
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
    fn find(&mut self, ready: &Ready) -> io::Result<SubtreeHash> {
        let block = ready.block;
        let what = self.receiver.what().clone();
        let mut missing: heapless::Vec<u16, MISSING_PACKETS> = heapless::Vec::new();
        let wrong = || io::Error::other("its packets make no block");
        let numbers = self.receiver.missing_of(block, &mut missing).ok_or_else(wrong)?;
        let length = usize::from(what.packet_bytes);
        let bytes = what.cut.block_bytes(block);
        let mut packet = vec![0; length];
        if !missing.is_empty() {
            let mut packets = std::mem::take(&mut self.repair[(block % SECTION_BLOCKS as u64) as usize]);
            packets.truncate(numbers.len() * length);
            let mut decoder =
                Decoder::new(&self.code, &missing, numbers, &mut packets).map_err(|_| wrong())?;
            for number in (0..what.packets(block)).filter(|number| missing.binary_search(number).is_err()) {
                let from = u64::from(number) * length as u64;
                let here = bytes.saturating_sub(from).min(length as u64) as usize;
                self.file.read_exact_at(&mut packet[..here], block * BLOCK_BYTES + from)?;
                packet[here..].fill(0);
                decoder.subtract(number, &packet).map_err(|_| wrong())?;
            }
            for (at, number) in missing.iter().enumerate() {
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
        self.repair[(ready.block % SECTION_BLOCKS as u64) as usize] = Vec::new();
        if !agrees {
            self.state.poisoned += 1;
            if self.receiver.has_left() {
                self.left =
                    Some("somebody with the key of all agents sends what is not of the file".to_owned());
            }
        }
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
