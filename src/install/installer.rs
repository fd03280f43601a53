//! The installer of a host: its root, its lock and its record.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::error::{ErrorContext, InstallError};
use super::kept::own_dir;
use super::record_file::Record;
use super::record_table::INSTALLED;
use super::scripts::Scripts;
use super::sys;
use super::tree::RootTree;
use crate::config::Config;
use crate::job::Witness;

/// The installer of a host. Holds the lock while it lives.
pub(super) struct Installer<'c> {
    pub config: &'c Config,
    pub tree: RootTree,
    /// `<root>/.thimble`.
    pub home: OwnedFd,
    pub scripts: Scripts,
    /// What is remembered of floors and superseded patches forbids nothing, and is forgotten.
    pub ignores_floor: bool,
    /// Whose message commits an install; `None` if it needs none.
    pub witness: Option<Witness>,
    _lock: File,
}

impl<'c> Installer<'c> {
    /// Waits for the lock. Returns `None` if the root is read-only and nothing was ever
    /// installed there.
    pub fn open(config: &'c Config) -> Result<Option<Self>, InstallError> {
        let shown = || config.agent.root.display().to_string().trim_start_matches('/').to_owned();
        let root: PathBuf = std::fs::canonicalize(&config.agent.root).context("find", &shown())?;
        let tree = RootTree::open(&root).context("open", &shown())?;
        let home = match own_dir(tree.root(), ".thimble", true) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(None),
            other => other.context("make", ".thimble")?,
        };
        let lock = match sys::create_new(home.as_fd(), "lock") {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                sys::open_read_write(home.as_fd(), "lock")
            }
            other => other,
        };
        let lock = match lock {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                sys::open_read(home.as_fd(), "lock").context("open", ".thimble/lock")?
            }
            other => other.context("open", ".thimble/lock")?,
        };
        lock.lock().context("lock", ".thimble/lock")?;
        let scripts = Scripts::new(&root, config.agent.script_timeout_ms).context("watch scripts in", "")?;
        Ok(Some(Self { config, tree, home, scripts, ignores_floor: false, witness: None, _lock: lock }))
    }

    /// Whether a session may be begun again over another link.
    pub fn has_several_links(&self) -> bool {
        self.config.network.interfaces.len() > 1
    }

    /// Reads the record of what is installed.
    pub fn record(&self) -> Result<Record, InstallError> {
        Ok(Record::open(self.home.as_fd(), &INSTALLED)?.unwrap_or_default())
    }
}
