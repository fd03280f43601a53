//! The commit of an install, and what follows the outcome: the outcome is
//! remembered, and what the record does not need is removed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::boot::{boot_id, has_restarted_since};
use super::capability;
use super::error::{ErrorContext, InstallError};
use super::installer::Installer;
use super::journal::{self, Intent, Journal, JournalEntry};
use super::kept::Kept;
use super::moves::{Entering, Move, Switch};
use super::record::{ARMED, Installed, with_script};
use super::record_file::Record;
use super::record_table::{self, BEFORE, INSTALLED, REDUCED, RecordBytes};
use super::scripts::Script;
use super::stage::ScriptStore;
use super::state_files::LAST;
use super::sys::{self, InodeKind};
use super::told::with_told;
use super::tree::is_absent;
use super::unfinished::UnfinishedInstall;
use super::{set_aside, sorter};
use crate::failpoint;
use crate::job::SystemError;
use crate::sorted::FlatSet;
use crate::types::RequestId;
use crate::wire::install::{LastInstall, Outcome};

/// Files, each by its device and its number there.
type Inodes = FlatSet<((u32, u32), u64)>;

impl Installer<'_> {
    /// Commits the new set: its record replaces the old one. If health scripts are to
    /// run after a restart of the host, the old record is kept until then.
    pub fn commit(
        &self,
        journal: &mut Journal,
        intent: &Intent,
        old: &Record,
        next: &Installed,
    ) -> Result<(), InstallError> {
        if intent.reboot_required && with_script(&next.patches, Script::Health).next().is_some() {
            BEFORE.write_draft(self.home.as_fd(), old.table())?;
            BEFORE.publish(self.home.as_fd())?;
            journal.append(JournalEntry::AwaitReboot(boot_id()))?;
        }
        INSTALLED.publish(self.home.as_fd())
    }

    /// Ends a committed install, or, if it waits for a restart of the host, remembers
    /// that it is installed so far.
    pub fn settle(&self, unfinished: UnfinishedInstall) -> Result<LastInstall, InstallError> {
        if unfinished.journal.state.boot.is_none() {
            return self.finish(unfinished);
        }
        let UnfinishedInstall { journal, request, intent, .. } = unfinished;
        let told = with_told(&intent.local_changes, &journal.state.told);
        self.remember(request.request_id, Outcome::Installed, &told, true)
    }

    /// Ends a committed install: removes what only the previous set needed.
    pub fn finish(&self, unfinished: UnfinishedInstall) -> Result<LastInstall, InstallError> {
        let UnfinishedInstall { journal, request, intent, record } = unfinished;
        let Intent { local_changes, reboot_required, .. } = intent;
        if let Err(error) = self.disarm(&journal, &record, true) {
            log::warn!("a file that was replaced may keep set-user-id or capabilities: {error}");
        }
        let mut moves = journal.moves();
        while let Some(planned) = moves.next()? {
            if let Move::OldDirectory(path) = planned {
                self.remove_old(&path);
            }
        }
        self.sweep(&record, &journal.mounts()?);
        let asks_for_restart =
            reboot_required && !journal.state.boot.as_deref().is_some_and(has_restarted_since);
        let told = with_told(&local_changes, &journal.state.told);
        let last = self.remember(request.request_id, Outcome::Installed, &told, asks_for_restart)?;
        log::info!("install {} is done: on set {:.12}", request.request_id, record.digest());
        self.end(journal, &record)?;
        Ok(last)
    }

    /// Removes a directory that nothing wants any more, if it is empty.
    fn remove_old(&self, path: &str) {
        failpoint::hit("removing an empty directory");
        match self.tree.parent(path).and_then(|(dir, name)| sys::rmdir_at(dir.as_fd(), name)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // It holds something else: it is not the install's any more.
            Err(error) => log::info!("the directory /{path} stays: {}", SystemError(&error)),
        }
    }

    /// Takes set-user-id, set-group-id and capabilities from what a committed install has displaced, or from
    /// what undoing one has put away again; not from a file that the record in force has in
    /// place under another name. Returns the first error, and goes on after it.
    pub fn disarm(&self, journal: &Journal, record: &Record, is_committed: bool) -> Result<(), InstallError> {
        self.tree.forget();
        let mut kept = Kept::open(&self.tree, [""], |_| false)?;
        for mount in journal.mounts()?.iter() {
            // Where nothing was kept, the directory may be gone already.
            let _ = kept.add(mount, false);
        }
        let mut in_place = None;
        let mut disarmed = Ok(());
        let mut moves = journal.moves();
        while let Some(planned) = moves.next()? {
            let one = match planned {
                Move::Save(save) if is_committed => match self.tree.parent(&save.beside) {
                    Ok((dir, name)) => self.disarm_at(dir.as_fd(), name, false, record, &mut in_place),
                    Err(error) if is_absent(&error) => Ok(()),
                    Err(error) => Err(error).context("open the directory of", &save.beside),
                },
                Move::Switch(Switch { mount, from, to, .. })
                | Move::MakeWay(Switch { mount, from, to, .. }) => {
                    // A second name of what is in place has the number of what was to leave.
                    let put_away = to.filter(Entering::was_kept).map(|to| to.number);
                    match (if is_committed { from } else { put_away }, kept.dir(&mount)) {
                        (Some(number), Ok(dir)) => {
                            self.disarm_at(dir, &number.to_string(), true, record, &mut in_place)
                        }
                        _ => Ok(()),
                    }
                }
                Move::Save(_)
                | Move::Directory(_)
                | Move::OldDirectory(_)
                | Move::Clear(_)
                | Move::Access(_) => Ok(()),
            };
            disarmed = disarmed.and(one);
        }
        kept.barrier()?;
        disarmed
    }

    /// Disarms one file, unless it is in `in_place`: the files with several names that the
    /// record has in place, once they are looked for. `comes_back`: its capabilities are laid
    /// aside.
    fn disarm_at(
        &self,
        dir: BorrowedFd<'_>,
        name: &str,
        comes_back: bool,
        record: &Record,
        in_place: &mut Option<Inodes>,
    ) -> Result<(), InstallError> {
        let stat = match sys::stat_at(dir, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.context("look at", name)?,
        };
        let has_bits = stat.mode & u32::from(ARMED) != 0;
        if stat.kind != InodeKind::File || !has_bits && !stat.may_have_capabilities() {
            return Ok(());
        }
        let mut file = sys::open_read(dir, name).context("open", name)?;
        if !has_bits && !capability::has(&file).context("read the capabilities of", name)? {
            return Ok(());
        }
        if stat.links > 1 {
            if in_place.is_none() {
                *in_place = Some(self.linked_in_place(record)?);
            }
            if in_place.as_ref().is_some_and(|files| files.contains(&(stat.device, stat.inode))) {
                return Ok(());
            }
        }
        if has_bits {
            failpoint::hit("taking set-user-id away");
            let mode = stat.mode & !u32::from(ARMED);
            sys::chmod(file.as_fd(), mode).context("set the mode of", name)?;
        }
        failpoint::hit("taking capabilities away");
        capability::take_away(&mut file, comes_back).context("take the capabilities of", name)
    }

    fn linked_in_place(&self, record: &Record) -> Result<Inodes, InstallError> {
        let mut files = Vec::new();
        let mut items = record.items();
        while let Some((path, stack)) = items.next_stack()? {
            if stack.has_file()
                && let Ok(stat) =
                    self.tree.parent(&path).and_then(|(dir, name)| sys::stat_at(dir.as_fd(), name))
                && stat.links > 1
                && stat.kind == InodeKind::File
            {
                files.push((stat.device, stat.inode));
            }
        }
        Ok(files.into())
    }

    /// Ends an install that has changed nothing.
    pub fn reject(
        &self,
        journal: Journal,
        request_id: RequestId,
        reason: &str,
    ) -> Result<LastInstall, InstallError> {
        let record = self.record()?;
        // What cannot be read of its moves must not stop the rejection.
        self.sweep(&record, &journal.mounts().unwrap_or_default());
        let last = self
            .remember(request_id, Outcome::Rejected, reason, false)
            .inspect_err(|_| log::error!("rejected: {reason}"))?;
        self.end(journal, &record)?;
        Ok(last)
    }

    /// Removes the journal: the install has ended with this record in force. Sets aside
    /// again what the next removal needs; if that fails, the next install tries again.
    pub fn end(&self, journal: Journal, record: &Record) -> Result<(), InstallError> {
        journal.end(self.home.as_fd())?;
        let bytes = RecordBytes::of(record.table());
        let set_aside = bytes.and_then(|bytes| set_aside::set_aside(self.home.as_fd(), record, bytes));
        if let Err(error) = set_aside {
            log::info!("{error}");
        }
        Ok(())
    }

    /// Removes objects, scripts and drafts that the record does not name, and looks for
    /// objects on these filesystems too. What cannot be removed does no harm, and the next
    /// sweep tries again.
    pub fn sweep(&self, record: &Record, moved: &FlatSet<String>) {
        let swept = self.sweep_home(record);
        let recorded: FlatSet<_> = record.mounts.iter().map(String::as_str).chain([""]).collect();
        let mounts: FlatSet<_> = recorded.iter().copied().chain(moved.iter().map(String::as_str)).collect();
        let swept_kept = mounts.into_iter().map(|mount| {
            if !recorded.contains(mount) && !self.tree.exists(&format!("{mount}/.thimble"))? {
                return Ok(());
            }
            let kept = Kept::open(&self.tree, [mount], |mount| mount.is_empty())?;
            kept.sweep(record)?;
            if recorded.contains(mount) { Ok(()) } else { kept.remove_empty(mount) }
        });
        for error in swept_kept.chain([swept]).filter_map(Result::err) {
            log::warn!("{error}");
        }
    }

    fn sweep_home(&self, record: &Record) -> Result<(), InstallError> {
        let drafts = [INSTALLED.draft, REDUCED.draft, LAST.draft, BEFORE.name, BEFORE.draft, journal::DRAFT];
        for draft in drafts.into_iter().chain([sorter::NAME]) {
            failpoint::hit("removing a draft");
            sys::remove_if_there(self.home.as_fd(), draft).own_context("remove", draft)?;
        }
        for number in record_table::items_files(self.home.as_fd())? {
            if !record.table().files.contains_key(&number) {
                let name = record_table::items_name(number);
                failpoint::hit("removing a file of items");
                sys::remove_if_there(self.home.as_fd(), &name).own_context("remove", &name)?;
            }
        }
        self.remove_guard()?;
        ScriptStore::open(&self.home)?.sweep(record)
    }
}
