//! What an install and a removal take: time, beside dpkg with the same files on the same
//! disk; time for one file on a host that has many; memory; and flash.
//!
//! `make bench` builds the static binary and names it in `THIMBLE_BIN`.

#[path = "../common/mod.rs"]
mod common;
mod dpkg;
mod host;
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../../tests/net/sys.rs"]
#[allow(dead_code, reason = "the rig is the tests'; this uses a part of it")]
mod sys;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thimble::limits;

use common::{median, rest};
use dpkg::Dpkg;
use host::Host;
use support::Scratch;
use support::peak;
use support::sign::Signer;
use tree::Files;

/// Rounds in each of which both ways are measured, in turns. Their medians are told, and
/// the median of the ratios of each round, since what else the machine does changes
/// slowly.
const ROUNDS: usize = 5;
const COUNT: usize = 20_000;
/// Of a patch: its metadata and directories count too.
const MOST_FILES: usize = limits::PATCH_MEMBERS - 512;
const MOST_BYTES: usize = 20 << 10;
/// As `thimble make` packs.
const GZIP_LEVEL: u32 = 9;
/// Of a host that has many.
const MANY: usize = 25_000;
const ONE_ROUNDS: usize = 15;
/// docs/architecture.md, "Budgets".
const MOST_INSTALL_RATIO: f64 = 0.9;
const MOST_REMOVE_RATIO: f64 = 1.0;
const MOST_ONE_RATIO: f64 = 2.0;
const MOST_KIB: u64 = 12 << 10;
const MOST_SMALL_KIB: u64 = 4 << 10;

/// What is measured. All of it takes about ten minutes; arguments name a part:
/// `cargo bench --bench install -- memory`.
const PARTS: [Part; 3] =
    [("dpkg", Bench::beside_dpkg), ("one", Bench::one_beside_many), ("memory", Bench::memory)];

/// A part's name, and what measures it.
type Part = (&'static str, fn(&Bench));

fn main() {
    if !sys::is_root() {
        println!("SKIPPED: bench needs root (tests/rig/as_root.sh COMMAND)");
        return;
    }
    // A directory of the build's, since the system's one is often in memory.
    let bench = Bench::new(Scratch::below(Path::new(env!("CARGO_TARGET_TMPDIR")), "bench-install"));
    println!("installs below {}, on {}", bench.dir.display(), bench.filesystem());
    let named: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for (name, part) in PARTS {
        if named.is_empty() || named.iter().any(|word| word == name) {
            part(&bench);
        }
    }
    drop(bench);
    assert!(!IS_OVER.load(Ordering::Relaxed), "over the budget");
}

/// Where all of it is, and what signs the patches.
struct Bench {
    signer: Signer,
    dir: Scratch,
}

impl Bench {
    fn new(dir: Scratch) -> Self {
        Self { signer: Signer::new(&dir, "key"), dir }
    }

    /// The type of the filesystem that is installed to.
    fn filesystem(&self) -> String {
        let output = Command::new("df").arg("--output=fstype").arg(&*self.dir).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let kind = text.lines().nth(1).unwrap_or("a filesystem that df does not tell").to_owned();
        if kind == "tmpfs" { kind + ", where nothing waits for a disk: its times say little" } else { kind }
    }

    fn host(&self, name: &str) -> Host {
        Host::new(&self.dir.join(name), &self.signer)
    }

    /// A patch with these files that a host has uploaded and is to have.
    fn applied(&self, host: &Host, id: &str, files: &Files) {
        let patch = self.dir.join(format!("{id}.patch"));
        files.pack(id, &patch);
        self.signer.sign(&patch);
        host.upload(&patch);
        host.wants(id, true);
        fs::remove_file(patch).unwrap();
    }

    fn beside_dpkg(&self) {
        if !Dpkg::is_here() {
            return println!(
                "SKIPPED: installs beside dpkg: dpkg and dpkg-deb are not installed (Debian has them)"
            );
        }
        let files = Files { count: COUNT, most_bytes: MOST_BYTES, below: "tree" };
        let (host, deb, bytes) = self.packed_for_both(&files);
        let mut dpkg = Dpkg::new(self.dir.join("dpkg"));
        let (mut installs, mut removals) = (Rounds::default(), Rounds::default());
        let mut flash = [0; 2];
        for round in 0..ROUNDS {
            host.renew();
            dpkg = Dpkg::new(dpkg.root);
            host.wants("TREE-1", true);
            installs.time(round, || host.install(), || dpkg.install(&deb));
            for root in [&host.root, &dpkg.root] {
                assert_eq!(tree::count(&root.join("usr")), COUNT, "not all is there");
            }
            flash = [host.root.join(".thimble"), dpkg.root.join("var")].map(|own| tree::disk_bytes(&own));
            host.wants("TREE-1", false);
            removals.time(round, || host.install(), || dpkg.remove());
            for root in [&host.root, &dpkg.root] {
                assert!(!root.join("usr").exists(), "not all is removed");
            }
        }
        println!(
            "{COUNT} files of {LEAST}..{MOST_BYTES} bytes, {} MiB, packed with gzip -{GZIP_LEVEL} on both sides; \
             medians of {ROUNDS} rounds:",
            bytes >> 20,
            LEAST = tree::LEAST_BYTES,
        );
        println!("{:<40} {:>9} {:>9} {:>6} {:>6}", "", "thimble", "dpkg", "ratio", "bound");
        installs.print("install", MOST_INSTALL_RATIO);
        removals.print("removal", MOST_REMOVE_RATIO);
        let [own, of_dpkg] = flash.map(|bytes| bytes as f64 / COUNT as f64);
        println!("{:<40} {own:>7.0} B {of_dpkg:>7.0} B", "database on the disk, for each file");

        let dpkg = Dpkg::new(dpkg.root);
        for (what, words) in [("install", ["-i", deb.to_str().unwrap()]), ("removal", ["-r", dpkg::PACKAGE])]
        {
            let ended = peak::run(dpkg.command(&words).stdout(Stdio::null()), &[]);
            assert_eq!(ended.code, Some(0), "dpkg");
            println!("{:<40} {:>9} KiB", format!("peak memory of dpkg, {what} of {COUNT}"), ended.peak_kib);
        }
    }

    /// The same files as a patch that a host has, and as a package.
    fn packed_for_both(&self, files: &Files) -> (Host, PathBuf, u64) {
        let host = self.host("beside-dpkg");
        let (source, patch, deb) =
            (self.dir.join("source"), self.dir.join("TREE-1.patch"), self.dir.join("tree.deb"));
        let bytes = files.write(&source.join("files"));
        tree::make("TREE-1", &source, &patch);
        self.signer.sign(&patch);
        host.upload(&patch);
        Dpkg::pack(&source.join("files"), GZIP_LEVEL, &deb);
        fs::remove_dir_all(source).unwrap();
        (host, deb, bytes)
    }

    fn one_beside_many(&self) {
        let one = Files { count: 1, most_bytes: MOST_BYTES, below: "one" };
        let [full, clean] = [true, false].map(|is_full| {
            let host = self.host(if is_full { "full" } else { "clean" });
            if is_full {
                self.applied(&host, "MANY-1", &Files { count: MANY, most_bytes: MOST_BYTES, below: "many" });
                host.install();
            }
            self.applied(&host, "ONE-1", &one);
            host.wants("ONE-1", false);
            host
        });
        let (mut installs, mut removals) = (Rounds::default(), Rounds::default());
        for round in 0..ONE_ROUNDS {
            [&full, &clean].into_iter().for_each(|host| host.wants("ONE-1", true));
            installs.time(round, || full.install(), || clean.install());
            [&full, &clean].into_iter().for_each(|host| host.wants("ONE-1", false));
            removals.time(round, || full.install(), || clean.install());
        }
        println!(
            "1 file on a host that has {MANY} in patches, and on a clean one; medians of {ONE_ROUNDS} rounds:"
        );
        println!("{:<40} {:>9} {:>9} {:>6} {:>6}", "", "full", "clean", "ratio", "bound");
        installs.print("install", MOST_ONE_RATIO);
        removals.print("removal", MOST_ONE_RATIO);
    }

    fn memory(&self) {
        // It is the same on every filesystem, and in memory it is known sooner.
        let shared_memory = Path::new("/dev/shm");
        let in_memory =
            shared_memory.is_dir().then(|| Bench::new(Scratch::below(shared_memory, "bench-install")));
        let bench = in_memory.as_ref().unwrap_or(self);
        println!("peak memory of install-local, which installs in its own process:");
        let few_bytes = |count, below| Files { count, most_bytes: 2 * tree::LEAST_BYTES, below };
        for (at, (count, bound)) in
            [(MOST_FILES, MOST_KIB), (COUNT, MOST_KIB), (1_000, MOST_SMALL_KIB)].into_iter().enumerate()
        {
            let host = bench.host(&format!("memory-{at}"));
            bench.applied(&host, "P1", &few_bytes(count, "p1"));
            print_peak(&format!("install of {count}"), host.peak_kib(), bound);
            host.wants("P1", false);
            print_peak(&format!("removal of {count}"), host.peak_kib(), bound);
        }
        let host = bench.host("memory-full");
        bench.applied(&host, "MANY-1", &few_bytes(MANY, "many"));
        host.install();
        for (id, count) in [("P1", 1_000), ("ONE-1", 1)] {
            bench.applied(&host, id, &few_bytes(count, "p1"));
            print_peak(&format!("install of {count} beside {MANY}"), host.peak_kib(), MOST_SMALL_KIB);
            host.wants(id, false);
            print_peak(&format!("removal of {count} beside {MANY}"), host.peak_kib(), MOST_SMALL_KIB);
        }
    }
}

fn print_peak(what: &str, peak_kib: u64, most_kib: u64) {
    println!("{what:<40} {peak_kib:>9} KiB (bound {most_kib}){}", verdict(peak_kib <= most_kib));
}

/// Something was over its bound. It is told when all is measured.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// What to print behind a value.
fn verdict(is_within: bool) -> &'static str {
    if is_within {
        return "";
    }
    IS_OVER.store(true, Ordering::Relaxed);
    "  OVER"
}

/// The times of two ways to do the same.
#[derive(Default)]
struct Rounds {
    first: Vec<Duration>,
    second: Vec<Duration>,
}

impl Rounds {
    /// Measures both, each before the other in every second round.
    fn time(&mut self, round: usize, first: impl Fn() -> Duration, second: impl Fn() -> Duration) {
        let measure = |way: &dyn Fn() -> Duration, times: &mut Vec<Duration>| {
            rest();
            times.push(way());
        };
        if round.is_multiple_of(2) {
            measure(&first, &mut self.first);
            measure(&second, &mut self.second);
        } else {
            measure(&second, &mut self.second);
            measure(&first, &mut self.first);
        }
    }

    fn print(&self, what: &str, bound: f64) {
        let ratios = self.first.iter().zip(&self.second).map(|(a, b)| a.as_secs_f64() / b.as_secs_f64());
        let ratio = median(ratios.collect());
        let [first, second] = [&self.first, &self.second].map(|times| median(times.clone()).as_secs_f64());
        let verdict = verdict(ratio <= bound);
        println!("{what:<40} {first:>7.3} s {second:>7.3} s {ratio:>6.2} {bound:>6.1}{verdict}");
    }
}
