//! dpkg on a root of its own, with a database of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub const PACKAGE: &str = "bench-tree";

pub struct Dpkg {
    pub root: PathBuf,
    log: PathBuf,
}

impl Dpkg {
    /// Whether this machine has it.
    pub fn is_here() -> bool {
        let runs = |program| {
            Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|it| it.success())
        };
        runs("dpkg") && runs("dpkg-deb")
    }

    /// Packs what is below a directory, with gzip of this level.
    pub fn pack(dir: &Path, level: u32, deb: &Path) {
        fs::create_dir(dir.join("DEBIAN")).unwrap();
        let control = format!(
            "Package: {PACKAGE}\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n\
             Description: files for a bench\n"
        );
        fs::write(dir.join("DEBIAN/control"), control).unwrap();
        let mut command = Command::new("dpkg-deb");
        command.args(["--build", "--root-owner-group", "-Zgzip", &format!("-z{level}")]);
        assert!(command.arg(dir).arg(deb).stdout(Stdio::null()).status().unwrap().success(), "dpkg-deb");
    }

    /// A root that has nothing but an empty database.
    pub fn new(root: PathBuf) -> Self {
        let _ = fs::remove_dir_all(&root);
        let database = root.join("var/lib/dpkg");
        for dir in ["info", "updates", "triggers"] {
            fs::create_dir_all(database.join(dir)).unwrap();
        }
        for file in ["status", "available"] {
            fs::write(database.join(file), "").unwrap();
        }
        Self { log: root.with_extension("log"), root }
    }

    /// A command of it that syncs what it writes, whatever this machine's configuration
    /// says.
    pub fn command(&self, words: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", self.root.display())).arg(format!("--log={}", self.log.display()));
        command.arg("--no-force-unsafe-io").args(words).env("PATH", path);
        command
    }

    pub fn install(&self, deb: &Path) -> Duration {
        self.timed(&["-i", deb.to_str().unwrap()])
    }

    pub fn remove(&self) -> Duration {
        self.timed(&["-r", PACKAGE])
    }

    fn timed(&self, words: &[&str]) -> Duration {
        let started = Instant::now();
        let output = self.command(words).stdin(Stdio::null()).output().unwrap();
        let elapsed = started.elapsed();
        assert!(output.status.success(), "dpkg {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        elapsed
    }
}
