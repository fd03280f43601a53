//! The files that are installed: text in directories as a package of programs and their
//! data has them, the same in each run.

use std::fs;
use std::path::Path;

use thimble::patch::make;

use crate::common::Numbers;
use crate::support::archive::{Tar, metadata};

/// Directories that the files are in, and those above them.
const APPLICATIONS: usize = 20;
const MODULES: usize = 20;
pub const LEAST_BYTES: usize = 100;
const WORDS: [&str; 16] = [
    "value",
    "return",
    "index",
    "option",
    "the",
    "path",
    "if",
    "network",
    "node",
    "of",
    "error",
    "state",
    "import",
    "length",
    "self",
    "configuration",
];

/// Files with sizes from 100 bytes up, of which half are below the geometric middle, as
/// in a real tree.
pub struct Files {
    pub count: usize,
    pub most_bytes: usize,
    /// The directory that they are below, so that two sets do not meet.
    pub below: &'static str,
}

impl Files {
    /// Calls `take` with the path and the content of each, directory by directory.
    fn each(&self, mut take: impl FnMut(&str, &[u8])) {
        let mut numbers = Numbers::new();
        let mut content = Vec::with_capacity(self.most_bytes + 16);
        for at in 0..self.count {
            let directory = at * APPLICATIONS * MODULES / self.count;
            let (application, module) = (directory / MODULES, directory % MODULES);
            let path = format!("usr/lib/{}/app-{application}/module-{module}/part_{at}.conf", self.below);
            let share = numbers.below(1 << 20) as f64 / f64::from(1 << 20);
            let bytes = LEAST_BYTES as f64 * (self.most_bytes as f64 / LEAST_BYTES as f64).powf(share);
            content.clear();
            while content.len() < bytes as usize {
                content.extend_from_slice(WORDS[numbers.below(WORDS.len())].as_bytes());
                content.push(if numbers.below(8) == 0 { b'\n' } else { b' ' });
            }
            content.truncate(bytes as usize);
            take(&path, &content);
        }
    }

    /// Packs them as a patch, quickly.
    pub fn pack(&self, id: &str, patch: &Path) {
        let mut tar = Some(Tar::patch(id));
        self.each(|path, content| {
            tar = tar.take().map(|tar| tar.file(&format!("files/{path}"), content));
        });
        fs::write(patch, tar.take().expect("it is put back").gzip()).unwrap();
    }

    /// Writes them below a directory. Returns their bytes.
    pub fn write(&self, dir: &Path) -> u64 {
        let mut bytes = 0;
        self.each(|path, content| {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            bytes += content.len() as u64;
        });
        bytes
    }
}

/// Makes a patch as a person does, from a directory whose `files` are there.
pub fn make(id: &str, dir: &Path, patch: &Path) {
    fs::write(dir.join("metadata.toml"), metadata(id)).unwrap();
    make::make(dir, Some(patch), false).unwrap();
}

/// The regular files below a directory.
pub fn count(dir: &Path) -> usize {
    let mut count = 0;
    walk(dir, &mut |metadata| count += usize::from(metadata.is_file()));
    count
}

/// The bytes on the disk of all that is below a directory.
pub fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    walk(dir, &mut |metadata| bytes += metadata.blocks() * 512);
    bytes
}

fn walk(dir: &Path, see: &mut dyn FnMut(&fs::Metadata)) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        see(&metadata);
        if metadata.is_dir() {
            walk(&entry.path(), see);
        }
    }
}
