//! tar, which unpacks the same files and knows nothing of them afterwards.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Packs what is below a directory, with gzip of this level.
pub fn pack(dir: &Path, level: u32, archive: &Path) {
    let mut command = Command::new("tar");
    command.arg("-C").arg(dir).arg("-I").arg(format!("gzip -{level}")).arg("-cf").arg(archive).arg(".");
    assert!(command.stdin(Stdio::null()).status().unwrap().success(), "tar");
}

/// Unpacks into a directory that is made for it, and has all of its filesystem on the disk.
pub fn unpack(archive: &Path, to: &Path) -> Duration {
    fs::create_dir(to).unwrap();
    let started = Instant::now();
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(to).arg("-xzf").arg(archive);
    let mut sync = Command::new("sync");
    sync.arg("-f").arg(to);
    for command in [&mut tar, &mut sync] {
        assert!(command.stdin(Stdio::null()).status().unwrap().success(), "{command:?}");
    }
    started.elapsed()
}
