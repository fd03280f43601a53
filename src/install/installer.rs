//! A host's installer: its lock, its record, and how an install ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::error::{ErrorContext, InstallError};
use super::journal::{Intent, Journal};
use super::kept::{Kept, own_dir};
use super::plan::Moves;
use super::reboot::is_over;
use super::record::{BEFORE, INSTALLED, LAST, Record};
use super::recover::RecoveryTrigger;
use super::scripts::Scripts;
use super::sealed::remove_if_there;
use super::stage::Shelf;
use super::tree::RootTree;
use super::{InstallEnd, Teller, journal, sys};
use crate::config::Config;
use crate::failpoint;
use crate::job::RefusalKind;
use crate::job::Source;
use crate::job::SystemError;
use crate::sorted::FlatSet;
use crate::types::RequestId;
use crate::wire::install::{InstallRequest, LastInstall, Outcome, Step};

/// A host's installer, holding the lock.
pub(super) struct Installer<'c> {
    pub config: &'c Config,
    pub tree: RootTree,
    /// `<root>/.thimble`.
    pub home: OwnedFd,
    pub scripts: Scripts,
    _lock: File,
}

impl<'c> Installer<'c> {
    /// Waits for the lock. `None`: the root is read-only and nothing was ever
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
                sys::open_append(home.as_fd(), "lock")
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
        Ok(Some(Self { config, tree, home, scripts, _lock: lock }))
    }

    /// What is installed.
    pub fn record(&self) -> Result<Record, InstallError> {
        Ok(INSTALLED.read(self.home.as_fd())?.unwrap_or_default())
    }

    /// Installs what is asked for, unless that was done already. None: it replaced
    /// thimble itself, and the new one will say how it ended.
    pub fn install(
        &self,
        request: &InstallRequest,
        source: &mut dyn Source,
        teller: &mut Teller<'_>,
    ) -> Result<Option<InstallEnd>, InstallError> {
        self.recover(RecoveryTrigger::Install, teller)?;
        if let Some(last) = self.last()?.filter(|last| last.request_id == request.request_id) {
            return Ok(Some(InstallEnd { last, kind: RefusalKind::Refused }));
        }
        let record = self.record()?;
        let request_id = request.request_id;
        let mut journal = Journal::begin(self.home.as_fd(), *request)?;
        let mut prepared = match self.prepare(&record, request, source, teller) {
            Ok(prepared) => prepared,
            Err(error) => {
                let last = self.reject(journal, request_id, &error.to_string())?;
                return Ok(Some(InstallEnd { last, kind: error.kind() }));
            }
        };
        let intent = prepared.intent(&record);
        let carried = self.execute(&mut journal, &intent, &mut prepared, teller);
        drop(prepared);
        match carried {
            Ok(Some(record)) => {
                let last = self.settle(journal, request, &intent, &record)?;
                Ok(Some(InstallEnd { last, kind: RefusalKind::Refused }))
            }
            Ok(None) => Ok(None),
            Err(error) if journal.story.intent.is_none() => {
                let last = self.reject(journal, request_id, &error.to_string())?;
                Ok(Some(InstallEnd { last, kind: error.kind() }))
            }
            Err(error) => {
                teller.progress(Step::RollingBack, 0);
                let last = self.undo(&mut journal, request, &intent, &record, &error.to_string())?;
                journal.end(self.home.as_fd())?;
                log::info!("back on set {:.12}", record.digest());
                Ok(Some(InstallEnd { last, kind: error.kind() }))
            }
        }
    }

    /// Ends an install of which nothing was begun.
    pub fn reject(
        &self,
        journal: Journal,
        request_id: RequestId,
        reason: &str,
    ) -> Result<LastInstall, InstallError> {
        self.sweep(&self.record()?, &Moves::default());
        let last = self.remember(request_id, Outcome::Rejected, reason, false)?;
        journal.end(self.home.as_fd())?;
        Ok(last)
    }

    /// Ends an install that is committed: what the set before needed goes.
    pub fn finish(
        &self,
        journal: Journal,
        request: &InstallRequest,
        intent: &Intent,
        record: &Record,
    ) -> Result<LastInstall, InstallError> {
        let Intent { moves, noted, reboot_required, .. } = intent;
        for path in &moves.old_directories {
            failpoint::hit("removing an empty directory");
            match self.tree.parent(path).and_then(|(dir, name)| sys::rmdir_at(dir.as_fd(), name)) {
                Ok(()) => {}
                // Something else is in it, or it is gone: it is not ours any more.
                Err(error) => log::info!("/{path} stays: {}", SystemError(&error)),
            }
        }
        self.sweep(record, moves);
        let asks_for_restart = *reboot_required && !is_over(journal.story.boot.as_deref());
        let last = self.remember(request.request_id, Outcome::Installed, noted, asks_for_restart)?;
        log::info!("install {} is done: on set {:.12}", request.request_id, record.digest());
        journal.end(self.home.as_fd())?;
        Ok(last)
    }

    /// Removes what no record knows: objects, scripts, drafts. What cannot be
    /// removed now is in nobody's way, and is swept another time.
    pub fn sweep(&self, record: &Record, moves: &Moves) {
        let swept = self.sweep_home(record);
        let recorded = record.paths.values().map(|stack| stack.mount.as_str());
        let moved = moves.switches.iter().map(|switch| switch.mount.as_str());
        let mounts: FlatSet<_> = recorded.chain(moved).chain([""]).collect();
        let swept_kept = mounts.into_iter().map(|mount| {
            Kept::open(&self.tree, [mount], |mount| mount.is_empty()).and_then(|kept| kept.sweep(record))
        });
        for error in swept_kept.chain([swept]).filter_map(Result::err) {
            log::warn!("{error}");
        }
    }

    fn sweep_home(&self, record: &Record) -> Result<(), InstallError> {
        for draft in [INSTALLED.draft, LAST.draft, BEFORE.name, BEFORE.draft, journal::DRAFT] {
            failpoint::hit("removing a draft");
            remove_if_there(self.home.as_fd(), draft).context("remove", draft)?;
        }
        self.forget_guard()?;
        Shelf::open(&self.home)?.sweep(record)
    }
}
