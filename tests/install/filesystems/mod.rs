//! Installs on filesystems of each kind that this kernel has. `make filesystems` runs them
//! on a kernel that has many: User Mode Linux.

mod table;
mod vfat;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::rig::Mount;
use crate::support::Scratch;

/// A filesystem in an image file, mounted until it is dropped.
pub struct Disk {
    mount: Option<Mount>,
    kind: String,
    at: PathBuf,
    scratch: Scratch,
}

impl Disk {
    /// Makes a filesystem with `mkfs` and its arguments, to which the image's path is
    /// added, and mounts it. An error says what this machine lacks.
    pub fn new(kind: &str, size_kib: u64, mkfs: &[&str], at: &Path, options: &str) -> Result<Self, String> {
        if !is_known(kind) {
            return Err("this kernel does not have it".to_owned());
        }
        let scratch = Scratch::new(kind);
        let image = scratch.join("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(size_kib << 10)).unwrap();
        let (program, arguments) = mkfs.split_first().unwrap();
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let mut make = Command::new(program);
        make.args(arguments).arg(&image).env("PATH", path);
        match make.output() {
            Err(_) => return Err(format!("{program} is not installed")),
            Ok(output) if !output.status.success() => {
                return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)));
            }
            Ok(_) => {}
        }
        // Where it is a module, nothing asks for it by its name.
        let _ = Command::new("modprobe").args(["-q", "loop"]).output();
        let mut disk = Self { mount: None, kind: kind.to_owned(), at: at.to_owned(), scratch };
        disk.mount(options)?;
        Ok(disk)
    }

    /// Mounts it with these options, in place of those before.
    pub fn mount(&mut self, options: &str) -> Result<(), String> {
        self.mount = None;
        let options = format!("loop,{options}");
        let image = self.scratch.join("image");
        self.mount = Some(mount(&self.kind, options.trim_end_matches(','), &image, &self.at)?);
        Ok(())
    }
}

/// Whether the kernel has this kind of filesystem, or a module for it.
fn is_known(kind: &str) -> bool {
    let _ = Command::new("modprobe").args(["-q", kind]).output();
    let known = std::fs::read_to_string("/proc/filesystems").unwrap();
    known.lines().any(|line| line.split_whitespace().last() == Some(kind))
}

/// Mounts a filesystem. An error says what this machine lacks.
pub fn mount(kind: &str, options: &str, what: &Path, at: &Path) -> Result<Mount, String> {
    // Two calls at once may choose the same loop device.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    std::fs::create_dir_all(at).unwrap();
    let mut command = Command::new("mount");
    command.args(["-t", kind, "-o", options]).arg(what).arg(at);
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().next().unwrap_or_default();
        return Err(format!("this kernel cannot mount it: {line}"));
    }
    Ok(Mount::at(at))
}

/// The path of a directory that only this test has.
fn beside(scratch: &Scratch, name: &str) -> PathBuf {
    let path = scratch.join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}
