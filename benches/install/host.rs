//! A node that installs from its own repository, with the binary under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use thimble::config::Config;
use thimble::repo::entry::EntryState;

use crate::support::controller::Controller;
use crate::support::peak;
use crate::support::sign::Signer;
use crate::support::thimble;

pub struct Host {
    pub root: PathBuf,
    config: PathBuf,
    controller: Controller,
}

impl Host {
    /// A node with an empty root, below a directory that it makes.
    pub fn new(dir: &Path, signer: &Signer) -> Self {
        let (root, state, config) = (dir.join("root"), dir.join("state"), dir.join("thimble.toml"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir(&state).unwrap();
        let text = format!(
            "[node]\nroles = [\"controller\", \"agent\"]\nhostname = \"bench\"\nsw_version = \"1.0\"\n\
             state_dir = \"{}\"\n[network]\ninterface = \"lo\"\n\
             [security]\nauth = \"none\"\ntrusted_keys = [\"{}\"]\n[agent]\nroot = \"{}\"\n",
            state.display(),
            signer.public,
            root.display(),
        );
        fs::write(&config, &text).unwrap();
        let controller = Controller { config: Config::parse(&text, "bench").unwrap() };
        Self { root, config, controller }
    }

    /// An empty root in place of the one that it has.
    pub fn renew(&self) {
        fs::remove_dir_all(&self.root).unwrap();
        fs::create_dir(&self.root).unwrap();
    }

    /// Adds a patch that has its signature beside it.
    pub fn upload(&self, patch: &Path) {
        self.controller.upload(&[patch]).done();
    }

    /// Whether the host is to have a patch.
    pub fn wants(&self, id: &str, is_wanted: bool) {
        let state = if is_wanted { EntryState::Applied } else { EntryState::Available };
        self.controller.change(state, &[id]).done();
    }

    /// Brings the host to what it is to have.
    pub fn install(&self) -> Duration {
        let started = Instant::now();
        let output = self.command().output().unwrap();
        let elapsed = started.elapsed();
        assert!(output.status.success(), "install-local: {}", String::from_utf8_lossy(&output.stderr));
        elapsed
    }

    /// The same; returns the most memory that it had, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let ended = peak::run(self.command().stdout(Stdio::null()), &[]);
        assert_eq!(ended.code, Some(0), "install-local");
        ended.peak_kib
    }

    /// `install-local`: it starts no other process, so it is the one that works.
    fn command(&self) -> Command {
        let mut command = Command::new(thimble());
        command.arg("--config").arg(&self.config).arg("install-local");
        command
    }
}
