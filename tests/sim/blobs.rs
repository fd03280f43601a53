//! A controller fetches the patch files that it lacks from another.

use thimble::fsm::event::Event as NodeEvent;
use thimble::job::Report;
use thimble::types::{Hash, NodeId, Reason};
use thimble::wire::frame::Purpose;

use crate::repository::{blob, fetched};
use crate::sessions::Link;
use crate::worker::{Job, WorkerStep};
use crate::world::World;

/// The most bytes of a file that arrive in one step: so many, or a part of a larger file.
const PIECE_BYTES: u64 = 9;
const PIECES: u64 = 8;

impl World {
    pub fn start_blobs(&mut self, machine: usize, node: NodeId) {
        let link = self.take_link(machine, node, Purpose::Blobs);
        self.start_worker(machine, Job::Blobs(node), [WorkerStep::BlobList(node, link)]);
    }

    fn fail_blobs(&mut self, machine: usize, id: u64, node: NodeId) {
        self.replace_steps(
            machine,
            id,
            [WorkerStep::EndBlobs(node, Err(Reason::truncated("the session was cut")))],
        );
    }

    /// Lists the blobs that are missing on the disk.
    pub fn blob_list(&mut self, machine: usize, id: u64, node: NodeId, link: Link) {
        let file = self.map_file(machine);
        let disk = &self.machines[machine].disk;
        let missing = file.live().filter(|entry| !disk.has(&blob(&entry.hash)));
        let steps: Vec<WorkerStep> =
            missing.map(|entry| WorkerStep::BlobReq(node, link, entry.hash)).collect();
        self.prepend_steps(machine, id, steps.into_iter().chain([WorkerStep::EndBlobs(node, Ok(()))]));
    }

    pub fn blob_request(&mut self, machine: usize, id: u64, node: NodeId, link: Link, hash: Hash) {
        if self.is_broken(machine, link) {
            return self.fail_blobs(machine, id, node);
        }
        let step = match self.machines[link.peer].disk.has(&blob(&hash)) {
            true => WorkerStep::BlobPiece(node, link, hash),
            false => missing(hash, "the controller does not have the patch file"),
        };
        self.prepend_steps(machine, id, [step]);
    }

    /// Some bytes arrive, from the end of the partial file on.
    pub fn blob_piece(&mut self, machine: usize, id: u64, node: NodeId, link: Link, hash: Hash) {
        if self.is_broken(machine, link) {
            return self.fail_blobs(machine, id, node);
        }
        let path = fetched(&hash);
        let content = &self.truth.contents[&hash];
        let mut bytes = self.machines[machine].disk.read(&path).unwrap_or_default().to_vec();
        if bytes.len() >= content.len() {
            return self.prepend_steps(machine, id, [WorkerStep::BlobCheck(hash)]);
        }
        let most = PIECE_BYTES.max(content.len() as u64 / PIECES);
        let piece = self.dice.between(1, most) as usize;
        let end = content.len().min(bytes.len() + piece);
        bytes.extend_from_slice(&content[bytes.len()..end]);
        self.machines[machine].disk.write(&path, bytes);
        self.prepend_steps(machine, id, [WorkerStep::BlobPiece(node, link, hash)]);
    }

    /// All bytes are here: checks the hash and the signature.
    pub fn blob_check(&mut self, machine: usize, id: u64, hash: Hash) {
        let here = &self.machines[machine];
        let path = fetched(&hash);
        let is_it = here.disk.read(&path).is_some_and(|bytes| *blake3::hash(bytes).as_bytes() == hash.0);
        let refusal = if here.distrusts(&hash) { "signed by no trusted key" } else { "not the file named" };
        let steps: Vec<WorkerStep> = if is_it && !here.distrusts(&hash) {
            let here = WorkerStep::Report(Box::new(Report::BlobHere { hash }));
            vec![
                WorkerStep::Sync(path.clone()),
                WorkerStep::Rename(path, blob(&hash)),
                WorkerStep::SyncAll,
                here,
            ]
        } else {
            vec![WorkerStep::Remove(path), missing(hash, refusal)]
        };
        self.prepend_steps(machine, id, steps);
    }

    pub fn end_blobs(&mut self, machine: usize, id: u64, node: NodeId, end: &Result<(), Reason>) {
        self.reap(machine, id);
        self.note(format_args!("{machine} has fetched: {end:?}"));
        let end = end.as_ref().copied();
        self.pass_event(machine, &NodeEvent::BlobsEnded(node, end));
    }
}

fn missing(hash: Hash, reason: &str) -> WorkerStep {
    WorkerStep::Report(Box::new(Report::BlobMissing { hash, reason: Reason::truncated(reason) }))
}
