//! A plain copy that makes the hashes that a controller makes, and has the copy on the disk.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thimble::patch::signature::{Claim, TrustedKeys};

use crate::support::sign::signature_path;

/// Copies signed patches into a directory that it makes, one after the other.
pub fn copy(from: &[PathBuf], to: &Path, keys: &TrustedKeys) -> Duration {
    let signatures: Vec<_> = from.iter().map(|from| fs::read(signature_path(from)).unwrap()).collect();
    let mut buffer = vec![0; 128 << 10];
    let started = Instant::now();
    fs::create_dir(to).unwrap();
    for (from, signature) in from.iter().zip(&signatures) {
        let claim = Claim::parse(signature, keys).unwrap();
        let mut pass = claim.begin();
        let mut source = File::open(from).unwrap();
        let mut target = File::create(to.join(from.file_name().unwrap())).unwrap();
        loop {
            let len = source.read(&mut buffer).unwrap();
            if len == 0 {
                break;
            }
            pass.update(&buffer[..len]).unwrap();
            target.write_all(&buffer[..len]).unwrap();
        }
        target.sync_all().unwrap();
        pass.finish().unwrap();
    }
    File::open(to).unwrap().sync_all().unwrap();
    started.elapsed()
}
