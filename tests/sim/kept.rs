//! What a host keeps of the files that are sent to all: the daemon's cache, on a disk of the simulation.
//!
//! Each time that a file is made it has a folder of its own, as it would have an inode: a file for each block, and
//! two slots that take turns, with a bit for each block. A slot is written once the blocks that it names are synced.

use thimble::coding::proof::{BLOCK_BYTES, Cut};
use thimble::types::Hash;

use crate::disk::{Disk, encode};
use crate::world::World;

/// A bit for each block; no file here has more than 64.
pub type Blocks = u64;

/// How many files a host keeps.
const FILES: usize = 3;

/// What is kept of a file.
#[derive(Clone, Debug)]
pub struct Kept {
    hash: Hash,
    folder: String,
    /// The number of the last slot that was written.
    number: u64,
    pub blocks: Blocks,
}

fn seal(hash: &Hash, bytes: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(&hash.0).update(bytes).finalize().as_bytes()
}

/// Every folder, the oldest first: when it was made, and its file.
fn folders(disk: &Disk) -> Vec<(u64, String)> {
    let folder = |(name, _): (&str, &[u8])| {
        let (folder, _) = name.split_once('/').expect("blocks and slots are in folders");
        let (file, made) = folder.split_once('-').expect("it is named after its file");
        (made.parse().expect("a number"), file.to_string())
    };
    let mut found: Vec<_> = disk.folder("spread/").map(folder).collect();
    found.sort();
    found.dedup();
    found
}

fn name_of(hash: &Hash) -> String {
    format!("{hash:.16}")
}

impl Kept {
    /// What is kept of this file.
    pub fn find(disk: &Disk, hash: &Hash) -> Option<Self> {
        let (made, name) = folders(disk).into_iter().rev().find(|(_, name)| *name == name_of(hash))?;
        let mut kept = Self::new(hash, format!("spread/{name}-{made}"));
        for slot in 0..2 {
            let Some(bytes) = disk.read(&kept.slot(slot)) else { continue };
            let Some((sealed, found)) = bytes.split_last_chunk::<32>() else { continue };
            let Ok((number, blocks)) = postcard::from_bytes::<(u64, Blocks)>(sealed) else { continue };
            if *found == seal(hash, sealed) && number > kept.number {
                (kept.number, kept.blocks) = (number, blocks);
            }
        }
        Some(kept)
    }

    fn new(hash: &Hash, folder: String) -> Self {
        Self { hash: *hash, folder, number: 0, blocks: 0 }
    }

    /// The same, or a new file, for which the oldest others go.
    pub fn make(disk: &mut Disk, hash: &Hash, number: u64) -> Self {
        let others: Vec<_> = folders(disk).into_iter().filter(|(_, name)| *name != name_of(hash)).collect();
        for (_, name) in others.iter().take((others.len() + 1).saturating_sub(FILES)) {
            remove_named(disk, name);
        }
        Self::find(disk, hash)
            .unwrap_or_else(|| Self::new(hash, format!("spread/{}-{number}", name_of(hash))))
    }

    fn slot(&self, slot: u64) -> String {
        format!("{}/{slot}", self.folder)
    }

    fn block(&self, block: u64) -> String {
        format!("{}/block-{block}", self.folder)
    }

    pub fn has(&self, block: u64) -> bool {
        self.blocks >> block & 1 != 0
    }

    pub fn write(&self, disk: &mut Disk, block: u64, bytes: &[u8]) {
        disk.write(&self.block(block), bytes);
    }

    pub fn read<'d>(&self, disk: &'d Disk, block: u64) -> &'d [u8] {
        disk.read(&self.block(block)).unwrap_or_default()
    }

    /// The disk keeps all that was written of the file.
    pub fn sync(&self, disk: &mut Disk) {
        let folder = format!("{}/", self.folder);
        let names: Vec<String> = disk.folder(&folder).map(|(name, _)| format!("{folder}{name}")).collect();
        names.iter().for_each(|name| disk.sync(name));
    }

    /// These blocks are here: they were synced before.
    pub fn note(&mut self, disk: &mut Disk, blocks: Blocks) {
        (self.number, self.blocks) = (self.number + 1, blocks);
        let mut bytes = encode(&(self.number, blocks));
        bytes.extend(seal(&self.hash, &bytes));
        disk.write(&self.slot(self.number % 2), bytes);
    }
}

fn remove_named(disk: &mut Disk, name: &str) {
    let of_it =
        |(file, _): (&str, &[u8])| file.starts_with(&format!("{name}-")).then(|| format!("spread/{file}"));
    let names: Vec<String> = disk.folder("spread/").filter_map(of_it).collect();
    // Slots come first.
    names.iter().for_each(|name| disk.remove(name));
}

impl World {
    /// What a host keeps of a file. What is named present is of that file.
    pub fn kept(&self, machine: usize, hash: &Hash) -> Option<Kept> {
        let disk = &self.machines[machine].disk;
        let kept = Kept::find(disk, hash)?;
        let content = &self.truth.contents[hash];
        let cut = Cut::of(content.len() as u64).expect("a patch file");
        for block in (0..u64::from(Blocks::BITS)).filter(|block| kept.has(*block)) {
            let from = (block * BLOCK_BYTES) as usize;
            let bytes = content.get(from..from + cut.block_bytes(block) as usize);
            let is_it = bytes.is_some_and(|bytes| !bytes.is_empty() && bytes == kept.read(disk, block));
            assert!(is_it, "{machine} names block {block} of {hash} present, and it is not of that file");
        }
        Some(kept)
    }

    /// After a power cut.
    pub fn check_kept(&self, machine: usize) {
        let names: Vec<String> =
            folders(&self.machines[machine].disk).into_iter().map(|(_, name)| name).collect();
        let hashes = self.truth.contents.keys().filter(|hash| names.contains(&name_of(hash)));
        hashes.for_each(|hash| drop(self.kept(machine, hash)));
    }

    /// An install has taken what is kept of a file.
    pub fn uncache(&mut self, machine: usize, hash: &Hash) {
        remove_named(&mut self.machines[machine].disk, &name_of(hash));
        let process = self.machines[machine].process.as_mut();
        let receiving = process.and_then(|process| process.receiving.as_mut());
        // Who still writes to it writes to a file without a name.
        receiving.into_iter().for_each(|receiving| receiving.on_removed(hash));
    }
}
