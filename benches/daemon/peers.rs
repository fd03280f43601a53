//! The update agents that Debian has, in a directory of their own (`benches/peers`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::figures::{Figure, skipped};
use crate::common::median;
use crate::process::{Memory, program, tree};
use crate::sys;

/// As `run.sh` names them, and the program of each.
const PEERS: [(&str, &str); 4] = [
    ("rauc", "/usr/bin/rauc"),
    ("swupdate", "/usr/bin/swupdate"),
    ("rsync", "/usr/bin/rsync"),
    ("mender", "/usr/bin/mender"),
];
/// It has started when its memory has not changed for so long.
const STILL: Duration = Duration::from_secs(3);
/// What takes longer to start is not measured.
const MOST: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/root")
}

/// Fetches them. Tells why not, where they cannot be had.
fn fetch() -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/fetch.sh");
    let output = Command::new(script).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("fetch.sh failed").trim_start_matches("SKIPPED: ").to_owned())
}

/// Those that are there.
fn found(part: &'static str) -> Vec<(&'static str, &'static str)> {
    if let Err(why) = fetch() {
        skipped(part, "other update agents", &why);
        return Vec::new();
    }
    let mut found = PEERS.to_vec();
    found.retain(|(name, program)| {
        let is_there = root().join(&program[1..]).exists();
        if !is_there {
            skipped(part, name, "Debian has no such package here");
        }
        is_there
    });
    found
}

/// One of them, until it is dropped.
struct Peer(Child);

impl Peer {
    fn start(name: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/run.sh");
        let mut command = Command::new(script);
        command.arg(name).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(sys::dies_with_parent(&mut command).spawn().unwrap())
    }

    /// Its processes: those that execute its program.
    fn pids(&self, path: &str) -> Vec<u32> {
        let is_it = |pid: &u32| program(*pid).is_some_and(|program| program.ends_with(&path[1..]));
        tree(self.0.id()).into_iter().filter(is_it).collect()
    }

    /// Its memory, once it stays as it is.
    fn memory(&mut self, path: &str) -> Result<Memory, String> {
        let began = Instant::now();
        let (mut last, mut since) = (0, Instant::now());
        while began.elapsed() < MOST {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Err(format!("it ended with {status}"));
            }
            let memory = Memory::of_all(&self.pids(path));
            if memory.anon != last {
                (last, since) = (memory.anon, Instant::now());
            } else if memory.anon > 0 && since.elapsed() > STILL {
                return Ok(memory);
            }
            thread::sleep(Duration::from_millis(100));
        }
        Err(format!("it is not at rest after {} s", MOST.as_secs()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for pid in tree(self.0.id()).into_iter().rev() {
            let _ = sys::signal(pid, libc::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

/// What each has in each of so many rounds, each alone. Records these as figures.
pub fn memory(part: &'static str, rounds: usize) -> Vec<(&'static str, Vec<Memory>)> {
    let mut all = Vec::new();
    for (name, path) in found(part) {
        let measured: Result<Vec<_>, _> = (0..rounds).map(|_| Peer::start(name).memory(path)).collect();
        match measured {
            Err(why) => skipped(part, name, &why),
            Ok(rounds) => {
                let kib = |of: fn(&Memory) -> u64| rounds.iter().map(|memory| of(memory) as f64).collect();
                Figure::new(part, &format!("RssAnon, {name}, idle"), "KiB", kib(|memory| memory.anon))
                    .record();
                Figure::new(part, &format!("PSS, {name}, idle"), "KiB", kib(|memory| memory.pss)).record();
                all.push((name, rounds));
            }
        }
    }
    all.sort_by_key(|(_, rounds)| median(rounds.iter().map(|memory| memory.anon).collect()));
    all
}

/// The bytes of each program and of the libraries that it loads. Records these as figures.
pub fn disk(part: &'static str) -> Vec<(&'static str, f64)> {
    let mut all = Vec::new();
    for (name, path) in found(part) {
        match closure(path) {
            Err(why) => skipped(part, name, &why),
            Ok(bytes) => {
                Figure::new(part, &format!("size on disk, {name}"), "bytes", vec![bytes]).record();
                all.push((name, bytes));
            }
        }
    }
    all
}

fn closure(program: &str) -> Result<f64, String> {
    let root = root();
    let loader = fs::read_dir(root.join("usr/lib64"))
        .map_err(|error| error.to_string())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with("ld-linux"))
        .ok_or("there is no loader of libraries in lib64")?;
    let mut command = Command::new("chroot");
    command.arg(&root).arg(format!("/lib64/{loader}")).args(["--list", program]).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("chroot: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
    let mut bytes = 0;
    for file in libraries.chain([program]) {
        // Links are of the root that is changed into.
        let mut path = root.join(&file[1..]);
        while let Ok(target) = fs::read_link(&path) {
            path = if target.is_absolute() {
                root.join(&target.to_str().unwrap()[1..])
            } else {
                path.parent().unwrap().join(target)
            };
        }
        bytes += fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?.len();
    }
    Ok(bytes as f64)
}
