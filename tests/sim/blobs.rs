//! A controller fetches the patch files that it lacks from another.

use thimble::fsm::event::Event as Told;
use thimble::job::Report;
use thimble::types::{Hash, NodeId, Reason};
use thimble::wire::frame::Purpose;

use crate::repository::{blob, fetched};
use crate::sessions::Link;
use crate::worker::{Do, Job};
use crate::world::World;

/// Bytes of a file that come at once, at most.
const PIECE_BYTES: u64 = 9;

impl World {
    pub fn start_blobs(&mut self, machine: usize, node: NodeId) {
        let link = self.take_link(machine, node, Purpose::Blobs);
        self.start_worker(machine, Job::Blobs(node), [Do::BlobList(node, link)]);
    }

    fn fail_blobs(&mut self, machine: usize, id: u64, node: NodeId) {
        self.instead(machine, id, [Do::EndBlobs(node, Err(Reason::truncated("the session was cut")))]);
    }

    /// What is missing, as the disk says.
    pub fn blob_list(&mut self, machine: usize, id: u64, node: NodeId, link: Link) {
        let file = self.map_file(machine);
        let disk = &self.machines[machine].disk;
        let missing = file.live().filter(|entry| !disk.has(&blob(&entry.hash)));
        let steps: Vec<Do> = missing.map(|entry| Do::BlobReq(node, link, entry.hash)).collect();
        self.first(machine, id, steps.into_iter().chain([Do::EndBlobs(node, Ok(()))]));
    }

    pub fn blob_request(&mut self, machine: usize, id: u64, node: NodeId, link: Link, hash: Hash) {
        if self.is_broken(machine, link) {
            return self.fail_blobs(machine, id, node);
        }
        let step = match self.machines[link.peer].disk.has(&blob(&hash)) {
            true => Do::BlobPiece(node, link, hash),
            false => missing(hash, "the controller does not have the patch file"),
        };
        self.first(machine, id, [step]);
    }

    /// Some bytes come, from where the file ends that is here.
    pub fn blob_piece(&mut self, machine: usize, id: u64, node: NodeId, link: Link, hash: Hash) {
        if self.is_broken(machine, link) {
            return self.fail_blobs(machine, id, node);
        }
        let path = fetched(&hash);
        let content = &self.truth.contents[&hash];
        let mut bytes = self.machines[machine].disk.read(&path).unwrap_or_default().to_vec();
        if bytes.len() >= content.len() {
            return self.first(machine, id, [Do::BlobCheck(hash)]);
        }
        let piece = self.dice.between(1, PIECE_BYTES) as usize;
        let end = content.len().min(bytes.len() + piece);
        bytes.extend_from_slice(&content[bytes.len()..end]);
        self.machines[machine].disk.write(&path, bytes);
        self.first(machine, id, [Do::BlobPiece(node, link, hash)]);
    }

    /// All bytes are here: is it the file that the map names, and one to trust?
    pub fn blob_check(&mut self, machine: usize, id: u64, hash: Hash) {
        let here = &self.machines[machine];
        let path = fetched(&hash);
        let is_it = here.disk.read(&path).is_some_and(|bytes| *blake3::hash(bytes).as_bytes() == hash.0);
        let refusal = if here.distrusts(&hash) { "signed by no trusted key" } else { "not the file named" };
        let steps: Vec<Do> = if is_it && !here.distrusts(&hash) {
            let here = Do::Report(Box::new(Report::BlobHere { hash }));
            vec![Do::Sync(path.clone()), Do::Rename(path, blob(&hash)), Do::SyncAll, here]
        } else {
            vec![Do::Remove(path), missing(hash, refusal)]
        };
        self.first(machine, id, steps);
    }

    pub fn end_blobs(&mut self, machine: usize, id: u64, node: NodeId, end: &Result<(), Reason>) {
        self.bury(machine, id);
        self.note(format_args!("{machine} has fetched: {end:?}"));
        let end = end.as_ref().copied();
        self.tell_node(machine, &Told::BlobsEnded(node, end));
    }
}

fn missing(hash: Hash, why: &str) -> Do {
    Do::Report(Box::new(Report::BlobMissing { hash, reason: Reason::truncated(why) }))
}
