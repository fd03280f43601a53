//! What an install and a removal take: time, beside dpkg and tar with the same files on the same
//! disk; time for one file on a host that has many; memory; flash; and the bytes of differences.
//!
//! `make bench` builds the static binary and names it in `THIMBLE_BIN`. Arguments name parts:
//! `cargo bench --bench install -- install-memory`.

#[path = "../common/mod.rs"]
mod common;
mod differences;
mod dpkg;
mod host;
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../../tests/net/sys.rs"]
#[allow(dead_code, reason = "the rig is the tests'; this uses a part of it")]
mod sys;
mod tar;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use thimble::limits;

use common::figures::{Figure, Most, skipped};
use common::{Part, is_wanted, rest, turns};
use dpkg::Dpkg;
use host::Host;
use support::Scratch;
use support::peak;
use support::sign::Signer;
use tree::Files;

/// How many files are installed at once, and in how many rounds.
const INSTALLS: [(usize, usize); 3] = [(1, 11), (1_000, 5), (MOST_COUNT, 3)];
const MOST_COUNT: usize = 20_000;
/// Of a patch: its metadata and directories count too.
const MOST_FILES: usize = limits::PATCH_MEMBERS - 512;
const MOST_BYTES: usize = 20 << 10;
/// As `thimble make` packs.
const GZIP_LEVEL: u32 = 9;
/// Of a host that has many.
const MANY: usize = 25_000;
const ONE_ROUNDS: usize = 15;
/// What is aimed at, times dpkg; of 20,000 files it is a budget (docs/architecture.md, "Budgets").
const MOST_INSTALL_RATIO: f64 = 0.9;
/// The other budgets there.
const MOST_REMOVE_RATIO: f64 = 1.0;
const MOST_ONE_RATIO: f64 = 2.0;
const MOST_KIB: u64 = 12 << 10;
const MOST_SMALL_KIB: u64 = 4 << 10;

const PARTS: [Part; 4] = [
    ("install", beside_dpkg),
    ("install-one", one_beside_many),
    ("install-memory", memory),
    ("differences", differences::differences),
];

fn main() {
    if !sys::is_root() {
        println!("SKIPPED: bench needs root (tests/rig/as_root.sh COMMAND)");
        return;
    }
    for (name, measure) in PARTS {
        if is_wanted(name) {
            measure();
        }
    }
}

/// Where all of it is, and what signs the patches.
struct Bench {
    signer: Signer,
    dir: Scratch,
}

impl Bench {
    /// In a directory of the build's, since the system's one is often in memory.
    fn on_disk() -> Self {
        let bench = Self::below(Path::new(env!("CARGO_TARGET_TMPDIR")));
        println!("installs below {}, on {}", bench.dir.display(), bench.filesystem());
        bench
    }

    fn below(dir: &Path) -> Self {
        let dir = Scratch::below(dir, "bench-install");
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

    /// The same files as a patch that a host has, as a package, and as a tar.
    fn packed_for_all(&self, files: &Files) -> (Host, PathBuf, PathBuf) {
        let named = |name: &str| self.dir.join(format!("{name}-{}", files.count));
        let host = self.host(&format!("beside-dpkg-{}", files.count));
        let (source, patch) = (named("source"), self.dir.join("TREE-1.patch"));
        let (deb, archive) = (named("tree.deb"), named("tree.tgz"));
        files.write(&source.join("files"));
        tree::make("TREE-1", &source, &patch);
        self.signer.sign(&patch);
        host.upload(&patch);
        fs::remove_file(patch).unwrap();
        tar::pack(&source.join("files"), GZIP_LEVEL, &archive);
        if Dpkg::is_here() {
            Dpkg::pack(&source.join("files"), GZIP_LEVEL, &deb);
        }
        fs::remove_dir_all(source).unwrap();
        (host, deb, archive)
    }
}

const PART: &str = "install";

fn files_of(count: usize) -> String {
    match count {
        1 => "1 file".to_owned(),
        1_000 => "1,000 files".to_owned(),
        _ => "20,000 files".to_owned(),
    }
}

/// All are packed with the same level of gzip.
fn beside_dpkg() {
    let bench = Bench::on_disk();
    let has_dpkg = Dpkg::is_here();
    if !has_dpkg {
        skipped(PART, "installs beside dpkg", "dpkg and dpkg-deb are not installed (Debian has them)");
    }
    for (count, rounds) in INSTALLS {
        let files = Files { count, most_bytes: MOST_BYTES, below: "tree" };
        let (host, deb, archive) = bench.packed_for_all(&files);
        let mut dpkg = Dpkg::new(bench.dir.join("dpkg"));
        let unpacked = bench.dir.join("unpacked");
        let (mut installs, mut removals) = ([const { Vec::new() }; 3], [const { Vec::new() }; 2]);
        let mut flash = [0; 2];
        for round in 0..rounds {
            host.renew();
            dpkg = Dpkg::new(dpkg.root);
            host.wants("TREE-1", true);
            for way in turns(round, 3).filter(|way| has_dpkg || *way != 1) {
                rest();
                installs[way].push(match way {
                    0 => host.install(),
                    1 => dpkg.install(&deb),
                    _ => tar::unpack(&archive, &unpacked),
                });
            }
            fs::remove_dir_all(&unpacked).unwrap();
            assert_eq!(tree::count(&host.root.join("usr")), count, "not all is there");
            flash = [host.root.join(".thimble"), dpkg.root.join("var")].map(|own| tree::disk_bytes(&own));
            host.wants("TREE-1", false);
            for way in turns(round, 2).filter(|way| has_dpkg || *way != 1) {
                rest();
                removals[way].push(if way == 0 { host.install() } else { dpkg.remove() });
            }
            for root in [&host.root, &dpkg.root] {
                assert!(!root.join("usr").exists(), "not all is removed");
            }
        }
        let [ours, theirs, tars] = installs.map(seconds);
        let [removed, removed_by_dpkg] = removals.map(seconds);
        let name = format!("install of {}", files_of(count));
        let budget = |figure: Figure, most| if count == MOST_COUNT { figure.budget(most) } else { figure };
        if has_dpkg {
            let most = Most::Ratio(MOST_INSTALL_RATIO);
            let figure = Figure::new(PART, &name, "s", ours.clone()).beside("dpkg -i", theirs).target(most);
            budget(figure, most).record();
        }
        Figure::new(PART, &name, "s", ours).beside("tar x + sync", tars).record();
        let figure = Figure::new(PART, &format!("removal of {}", files_of(count)), "s", removed);
        if has_dpkg {
            let figure = figure.beside("dpkg -r", removed_by_dpkg);
            budget(figure, Most::Ratio(MOST_REMOVE_RATIO)).record();
        } else {
            figure.record();
        }
        if count == MOST_COUNT {
            let [own, of_dpkg] = flash.map(|bytes| bytes as f64 / count as f64);
            let figure = Figure::new(PART, "database on the disk for each file", "bytes", vec![own]);
            if has_dpkg { figure.beside("dpkg", vec![of_dpkg]) } else { figure }.record();
        }
        fs::remove_dir_all(&*host.root).unwrap();
    }
}

fn seconds(times: Vec<Duration>) -> Vec<f64> {
    times.into_iter().map(|time| time.as_secs_f64()).collect()
}

fn one_beside_many() {
    const PART: &str = "install-one";
    let bench = Bench::on_disk();
    let one = Files { count: 1, most_bytes: MOST_BYTES, below: "one" };
    let [full, clean] = [true, false].map(|is_full| {
        let host = bench.host(if is_full { "full" } else { "clean" });
        if is_full {
            bench.applied(&host, "MANY-1", &Files { count: MANY, most_bytes: MOST_BYTES, below: "many" });
            host.install();
        }
        bench.applied(&host, "ONE-1", &one);
        host.wants("ONE-1", false);
        host
    });
    let hosts = [&full, &clean];
    let mut times = [const { [const { Vec::new() }; 2] }; 2];
    for round in 0..ONE_ROUNDS {
        for (step, is_wanted) in [true, false].into_iter().enumerate() {
            hosts.iter().for_each(|host| host.wants("ONE-1", is_wanted));
            for way in turns(round, 2) {
                rest();
                times[step][way].push(hosts[way].install());
            }
        }
    }
    for (what, times) in ["install", "removal"].into_iter().zip(times) {
        let [full, clean] = times.map(seconds);
        let name = format!("{what} of 1 file on a host that has 25,000");
        let figure = Figure::new(PART, &name, "s", full).beside("on a clean host", clean);
        figure.budget(Most::Ratio(MOST_ONE_RATIO)).record();
    }
}

fn memory() {
    // It is the same on every filesystem, and in memory it is known sooner.
    let shared_memory = Path::new("/dev/shm");
    let bench = if shared_memory.is_dir() { Bench::below(shared_memory) } else { Bench::on_disk() };
    let few_bytes = |count, below| Files { count, most_bytes: 2 * tree::LEAST_BYTES, below };
    for (at, (count, most)) in
        [(MOST_FILES, MOST_KIB), (MOST_COUNT, MOST_KIB), (1_000, MOST_SMALL_KIB)].into_iter().enumerate()
    {
        let host = bench.host(&format!("memory-{at}"));
        bench.applied(&host, "P1", &few_bytes(count, "p1"));
        peak_of(&format!("install of {count} files"), host.peak_kib(), most);
        host.wants("P1", false);
        peak_of(&format!("removal of {count} files"), host.peak_kib(), most);
    }
    let host = bench.host("memory-full");
    bench.applied(&host, "MANY-1", &few_bytes(MANY, "many"));
    host.install();
    for (id, count) in [("P1", 1_000), ("ONE-1", 1)] {
        bench.applied(&host, id, &few_bytes(count, "p1"));
        peak_of(&format!("install of {count} files beside {MANY}"), host.peak_kib(), MOST_SMALL_KIB);
        host.wants(id, false);
        peak_of(&format!("removal of {count} files beside {MANY}"), host.peak_kib(), MOST_SMALL_KIB);
    }
    dpkg_memory(&bench);
}

/// Of `install-local`, which installs in its own process.
fn peak_of(what: &str, peak_kib: u64, most_kib: u64) {
    let name = format!("peak memory, {what}");
    let figure = Figure::new("install-memory", &name, "KiB", vec![peak_kib as f64]);
    figure.budget(Most::Value(most_kib as f64)).record();
}

/// Of dpkg, which starts others: only its own counts.
fn dpkg_memory(bench: &Bench) {
    const PART: &str = "install-memory";
    if !Dpkg::is_here() {
        return skipped(PART, "peak memory of dpkg", "dpkg and dpkg-deb are not installed (Debian has them)");
    }
    let files = Files { count: MOST_COUNT, most_bytes: 2 * tree::LEAST_BYTES, below: "tree" };
    let (source, deb) = (bench.dir.join("source"), bench.dir.join("tree.deb"));
    files.write(&source);
    Dpkg::pack(&source, 1, &deb);
    let dpkg = Dpkg::new(bench.dir.join("dpkg"));
    for (what, words) in [("install", ["-i", deb.to_str().unwrap()]), ("removal", ["-r", dpkg::PACKAGE])] {
        let ended = peak::run(dpkg.command(&words).stdout(Stdio::null()), &[]);
        assert_eq!(ended.code, Some(0), "dpkg");
        let name = format!("peak memory of dpkg, {what} of {MOST_COUNT} files");
        Figure::new(PART, &name, "KiB", vec![ended.peak_kib as f64]).record();
    }
}
