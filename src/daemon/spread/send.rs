//! The worker that sends a file to all hosts: [`Sender`] says what, the file and the sockets are here.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::sys;
use super::{Input, now, report_end, wait};
use crate::coding::cauchy::Cauchy;
use crate::coding::proof::{BLOCK_BYTES, BlockHasher, Cut, SectionProof, SubtreeHash};
use crate::fsm::spread::Transmission;
use crate::fsm::spread::sender::{Ending, Sender, Step};
use crate::job::reporter::Reporter;
use crate::job::{Report, SpreadInput, SpreadJob, SpreadState};
use crate::limits::{DATAGRAM_BYTES, PACKET_BYTES};
use crate::store::{self, Blob};
use crate::time::Duration;
use crate::wire::packet::{ENVELOPE_BYTES, Packet, Part};

/// From one report to the loop to the next.
const REPORT_APART: Duration = Duration::from_millis(250);
/// Packets between two looks at the channel.
const PACKETS: u32 = 64;
/// So many packets in a row that the system did not take end it.
const UNSENT: u64 = 2_000;

/// Sends until the machine has ended, and reports how that went.
///
/// # Errors
/// The loop is gone.
pub fn send(
    state_dir: &Path,
    job: &SpreadJob,
    sockets: &[OwnedFd],
    channel: &OwnedFd,
    reporter: &mut dyn Reporter,
) -> io::Result<()> {
    let failed = match Sending::open(state_dir, job, sockets) {
        Ok(mut sending) => sending.run(job, channel, reporter)?,
        Err(reason) => Some(reason),
    };
    report_end(&job.id, "sent to", failed, reporter)
}

struct Sending<'a> {
    sender: Sender,
    file: File,
    hashes: Vec<SubtreeHash>,
    code: Cauchy,
    sockets: &'a [OwnedFd],
    /// The block that repair packets were last made of.
    block: Option<u64>,
    content: Vec<u8>,
    unsent: u64,
    unsent_in_a_row: u64,
    last_error: Option<io::Error>,
    /// Bytes of the sections that are sent and repaired.
    done_bytes: u64,
}

impl<'a> Sending<'a> {
    fn open(state_dir: &Path, job: &SpreadJob, sockets: &'a [OwnedFd]) -> Result<Self, String> {
        let Blob { file, size_bytes, .. } = store::blob(state_dir, &job.file)?;
        let cut = Cut::of(size_bytes).ok_or("the file is empty")?;
        let hashes = hashes(&file, cut).map_err(|error| format!("its file cannot be read: {error}"))?;
        let what = Transmission {
            id: job.transmission,
            patch: job.id.clone(),
            kinds: job.kinds,
            file: job.file,
            cut,
            packet_bytes: PACKET_BYTES as u16,
        };
        // What hosts refuse is not sent.
        let proof = SectionProof::new(cut, 0, &hashes);
        if !proof.is_some_and(|proof| proof.is_of(&job.file, cut, 0)) {
            return Err("its file is damaged; see `thimble status`".to_owned());
        }
        Ok(Self {
            sender: Sender::new(now(), what, job.rate),
            file,
            hashes,
            code: Cauchy::new(),
            sockets,
            block: None,
            content: Vec::new(),
            unsent: 0,
            unsent_in_a_row: 0,
            last_error: None,
            done_bytes: 0,
        })
    }

    /// Returns why it failed, if it did.
    fn run(
        &mut self,
        job: &SpreadJob,
        channel: &OwnedFd,
        reporter: &mut dyn Reporter,
    ) -> io::Result<Option<String>> {
        let mut inputs = Input::new();
        let mut hosts = usize::try_from(job.hosts).unwrap_or(usize::MAX);
        let mut reported = now();
        let (slot, key) = job.key;
        let mut datagram = [0; DATAGRAM_BYTES];
        let mut payload = [0; PACKET_BYTES];
        reporter.report(&Report::Spread(self.state()))?;
        loop {
            while let Some(input) = inputs.next(channel)? {
                match input {
                    SpreadInput::Lacks(from, report, known) => {
                        hosts = usize::try_from(known).unwrap_or(usize::MAX);
                        self.sender.on_report(from, &report);
                    }
                    SpreadInput::Stop => self.sender.stop(),
                    SpreadInput::Offer(_) => {}
                }
            }
            let mut left = PACKETS;
            while left > 0
                && let Some(step) = self.sender.next(now(), hosts)
            {
                left -= 1;
                match step {
                    Step::Offer(offer) => reporter.report(&Report::Offer(offer))?,
                    Step::Packet(part) => {
                        let length = match self.content(part, &mut payload) {
                            Ok(length) => length,
                            Err(error) => return Ok(Some(format!("its file cannot be read: {error}"))),
                        };
                        let transmission = job.transmission;
                        let packet = Packet { transmission, part, content: &payload[..length] };
                        let length = packet.emit(slot, &key, &mut datagram);
                        self.put(&datagram[..length]);
                    }
                }
            }
            if self.unsent_in_a_row >= UNSENT {
                let error = self.last_error.take().unwrap_or_else(|| io::ErrorKind::Other.into());
                return Ok(Some(format!("the system does not send it: {error}")));
            }
            let at = now();
            if at.since(reported) >= REPORT_APART || self.sender.poll_at().is_none() {
                reported = at;
                reporter.report(&Report::Spread(self.state()))?;
            }
            if left > 0 {
                match self.sender.poll_at() {
                    None => return Ok(None),
                    Some(due) => wait(channel, None, due.min(reported + REPORT_APART))?,
                };
            }
        }
    }

    /// Writes the content of a packet, and returns its length.
    fn content(&mut self, part: Part, out: &mut [u8; PACKET_BYTES]) -> io::Result<usize> {
        let cut = self.sender.what().cut;
        match part {
            Part::Proof { section } => {
                let proof = SectionProof::new(cut, u64::from(section), &self.hashes).unwrap_or_default();
                let mut length = 0;
                for hash in proof.blocks.iter().chain(&proof.beside) {
                    out[length..length + hash.len()].copy_from_slice(hash);
                    length += hash.len();
                }
                return Ok(length);
            }
            Part::Source { block, number } => {
                out.fill(0);
                let from = u64::from(number) * PACKET_BYTES as u64;
                let bytes = cut.block_bytes(u64::from(block)).saturating_sub(from).min(PACKET_BYTES as u64);
                self.file.read_exact_at(&mut out[..bytes as usize], u64::from(block) * BLOCK_BYTES + from)?;
            }
            Part::Repair { block, number } => {
                let block = u64::from(block);
                if self.block != Some(block) {
                    self.block = None;
                    let bytes = cut.block_bytes(block) as usize;
                    self.content.clear();
                    self.content.resize(bytes, 0);
                    self.file.read_exact_at(&mut self.content, block * BLOCK_BYTES)?;
                    // The last packet is filled up.
                    self.content.resize(bytes.next_multiple_of(PACKET_BYTES), 0);
                    self.block = Some(block);
                }
                out.fill(0);
                for (source, packet) in (0..).zip(self.content.chunks_exact(PACKET_BYTES)) {
                    let added = self.code.add(out, number, source, packet);
                    added.map_err(|_| io::ErrorKind::InvalidData)?;
                }
            }
        }
        Ok(PACKET_BYTES)
    }

    /// Sends a datagram by each socket. What the system does not take counts as lost on the way.
    fn put(&mut self, datagram: &[u8]) {
        let mut is_sent = false;
        for socket in self.sockets {
            match sys::send_message(socket.as_fd(), datagram) {
                Ok(()) => is_sent = true,
                Err(error) => self.last_error = Some(error),
            }
        }
        if is_sent {
            self.unsent_in_a_row = 0;
        } else {
            self.unsent += 1;
            self.unsent_in_a_row += 1;
        }
    }

    fn state(&mut self) -> SpreadState {
        let sender = &self.sender;
        let (cut, answers, sent) = (sender.what().cut, sender.last_answers(), sender.sent());
        let packet = (PACKET_BYTES + ENVELOPE_BYTES) as u64;
        match sender.ending() {
            Some(Ending::All | Ending::Most) => self.done_bytes = cut.size_bytes(),
            // It has no section any more.
            Some(_) => {}
            None => {
                let sent = cut.first_block(u64::from(sender.section())) * BLOCK_BYTES;
                self.done_bytes = sent.min(cut.size_bytes());
            }
        }
        SpreadState {
            transmission: sender.what().id,
            size_bytes: cut.size_bytes(),
            done_bytes: self.done_bytes,
            sent_bytes: [sent.source * packet, sent.repair * packet, sent.other * OTHER_BYTES],
            rate: sender.rate(),
            hosts: answers.hosts,
            complete: answers.complete,
            out: answers.out,
            slowest: answers.slowest,
            unsent: self.unsent,
            ending: sender.ending(),
        }
    }
}

/// What offers and proofs have, on average.
const OTHER_BYTES: u64 = 400;

/// The hash of each block of a file.
fn hashes(file: &File, cut: Cut) -> io::Result<Vec<SubtreeHash>> {
    let mut piece = vec![0; 64 * 1024];
    let mut hashes = Vec::with_capacity(usize::try_from(cut.blocks()).unwrap_or(0));
    for block in 0..cut.blocks() {
        let mut hasher = BlockHasher::new(cut, block);
        let (mut at, end) = (block * BLOCK_BYTES, block * BLOCK_BYTES + cut.block_bytes(block));
        while at < end {
            let bytes = (piece.len() as u64).min(end - at) as usize;
            file.read_exact_at(&mut piece[..bytes], at)?;
            hasher.update(&piece[..bytes]);
            at += bytes as u64;
        }
        hashes.push(hasher.finish());
    }
    Ok(hashes)
}
