//! Undoes an install: brings the previous set back.
//!
//! Which objects are kept says how far a path's switch has got, so undoing can be
//! interrupted anywhere and repeated. For a switch from object O to object N:
//!
//! ```text
//! kept/O  kept/N            the path holds
//! no      -                 O: not switched, or already back
//! yes     yes               O: kept/O is its second name, which the sweep removes; or
//!                           nothing: O was taken away, as it could have no second name
//! yes     no                N
//! ```

use std::io;
use std::os::fd::AsFd;

use super::beside::part;
use super::error::{ErrorContext, InstallError};
use super::installer::Installer;
use super::journal::{Intent, Journal, JournalEntry, JournalPhase, JournalState};
use super::kept::{Kept, lost, returning};
use super::moves::{AccessChange, Clear, Move, Switch};
use super::order::Left;
use super::record::{Installed, Patch, with_script};
use super::record_file::Record;
use super::record_table::INSTALLED;
use super::scripts::{Script, ScriptAction};
use super::told::{Told, with_told};
use super::tree::is_absent;
use super::{access, astray, sys};
use crate::failpoint;
use crate::types::{PatchId, ShownPath};
use crate::wire::install::{InstallRequest, LastInstall, Outcome};

impl Installer<'_> {
    /// Brings the previous set back and remembers the outcome. An error leaves the
    /// journal, so that the next start tries again.
    pub fn undo(
        &self,
        journal: &mut Journal,
        request: &InstallRequest,
        intent: &Intent,
        old: &Record,
        reason: &str,
    ) -> Result<LastInstall, InstallError> {
        let reason = match &journal.state.undoing {
            Some(reason) => reason.clone(),
            None => reason.to_owned(),
        };
        self.restore_previous(journal, intent, old, &reason).map_err(|error| {
            let error = InstallError::Undo(Box::new(error));
            log::error!("{error}; it was to come back because {reason}");
            // The error comes first: a reason may be cut, and this is what must be mended.
            let text = format!("{error}; it was to come back because {reason}");
            if let Err(other) = self.remember(request.request_id, Outcome::Broken, &text, false) {
                log::error!("{other}");
            }
            error
        })?;
        let reason = with_told(&reason, &journal.state.told);
        let (outcome, reason) = match journal.state.undone.clone().flatten() {
            None => (Outcome::RolledBack, reason),
            Some(failure) => (Outcome::Broken, format!("{reason}; going back: {failure}")),
        };
        // After the restart the new set was in effect, so going back needs another one.
        self.remember(request.request_id, outcome, &reason, journal.state.is_restarted)
    }

    fn restore_previous(
        &self,
        journal: &mut Journal,
        intent: &Intent,
        old: &Record,
        reason: &str,
    ) -> Result<(), InstallError> {
        self.restore_files(journal, old, reason)?;
        if journal.state.undone.is_none() {
            if journal.state.phase >= Some(JournalPhase::Switching) {
                journal.tell(self.relabel(journal))?;
            }
            let failure = self.run_rollback_scripts(&journal.state, intent, old);
            journal.append(JournalEntry::Undone { failure })?;
        }
        if let Err(error) = self.disarm(journal, old, false) {
            log::warn!("a file that was put away may keep set-user-id or capabilities: {error}");
        }
        self.sweep(old, &journal.mounts()?);
        Ok(())
    }

    /// Restores the previous set's record and files. Its scripts have not run yet.
    pub fn restore_files(
        &self,
        journal: &mut Journal,
        old: &Record,
        reason: &str,
    ) -> Result<(), InstallError> {
        if journal.state.undoing.is_none() {
            journal.append(JournalEntry::Undoing(reason.to_owned()))?;
        }
        if self.record()?.serial != old.serial {
            // The commit was made, and syncing it failed.
            INSTALLED.write_draft(self.home.as_fd(), old.table())?;
            INSTALLED.publish(self.home.as_fd())?;
        }
        if !journal.state.is_restored {
            let told = self.restore_tree(journal)?;
            journal.tell(told.line())?;
            journal.append(JournalEntry::Restored)?;
        }
        Ok(())
    }

    /// Restores every path. Returns the first failure; what can be restored is restored
    /// nevertheless, so that the fewest files are of the other set. Tells what somebody has led
    /// astray.
    fn restore_tree(&self, journal: &Journal) -> Result<Told, InstallError> {
        self.tree.forget();
        let (mut restored, mut told) = (Ok(()), Told::default());
        let mut moves = journal.moves();
        while let Some(save) = moves.next_save()? {
            let part = self.remove(&part(&save.beside));
            restored = restored.and(self.remove(&save.beside)).and(part);
        }
        if journal.state.phase < Some(JournalPhase::Switching) {
            return restored.map(|()| told);
        }
        let mounts = journal.mounts()?;
        let kept = Kept::open(&self.tree, mounts.iter().map(String::as_str), |_| false)?;
        // Objects that were kept before this install are kept again. They get their own
        // name only after the return of the others is durable.
        let leaving = |switch: &Switch| switch.to.filter(|to| !to.is_fresh).is_some();
        let mut moves = journal.moves();
        while let Some(switch) = moves.next_switch()? {
            if leaving(&switch)
                && let SwitchState::Switched = switch_state(&kept, &switch)?
                && let (Some(_), Some(to)) = (switch.from, switch.to)
                && !kept.has(&switch.mount, &returning(to.number))?
                && let Err(error) = self.keep_again(&kept, &switch, &returning(to.number))
                && !astray::is_file_led_astray(&self.tree, &kept, &switch.mount, &switch.path)?
            {
                return Err(error);
            }
        }
        kept.barrier()?;
        let mut moves = journal.moves();
        let mut last: Option<Switch> = None;
        loop {
            let planned = moves.next()?;
            if let Some(switch) = last.take() {
                // Where the directory is back, what took its place is gone.
                let turned = matches!(&planned, Some(Move::Clear(clear)) if clear.path == switch.path);
                if !(turned && self.is_directory(&switch.path)?) {
                    restored = restored.and(self.restore_path(&kept, &switch, &mut told));
                }
            }
            match planned {
                Some(Move::Switch(switch)) => last = Some(switch),
                Some(Move::Clear(clear)) => {
                    restored = restored.and(self.restore_cleared(&kept, &clear, &mut told))
                }
                Some(_) => {}
                None => break,
            }
        }
        restored = restored.and(self.remove_directories(journal));
        self.tree.forget();
        let mut moves = journal.moves();
        while let Some(planned) = moves.next()? {
            if let Move::MakeWay(switch) = planned {
                let restore = |kept: &Kept<'_>, switch: &Switch| self.restore_path(kept, switch, &mut told);
                restored = restored.and(self.restore_way(&kept, &switch, restore));
            }
        }
        let mut moves = journal.moves();
        while let Some(change) = moves.next_access()? {
            restored = restored.and(self.restore_access(&kept, &change, &mut told));
        }
        kept.barrier()?;
        restored?;
        let mut moves = journal.moves();
        while let Some(switch) = moves.next_switch()? {
            if let Some(to) = switch.to.filter(|_| leaving(&switch))
                && kept.has(&switch.mount, &returning(to.number))?
            {
                kept.rename(&switch.mount, &returning(to.number), &to.number.to_string())?;
            }
        }
        kept.barrier()?;
        Ok(told)
    }

    /// Removes the directories that this install made, the innermost first. Returns the
    /// first failure, and goes on after it.
    fn remove_directories(&self, journal: &Journal) -> Result<(), InstallError> {
        let mut removed = Ok(());
        let mut made = Left::default();
        let mut moves = journal.moves();
        while let Some(directory) = moves.next_directory()? {
            while let Some((left, ())) = made.leave(&directory.path) {
                removed = removed.and(self.remove_directory(&left));
            }
            made.enter(directory.path, ());
        }
        made.end().fold(removed, |removed, (left, ())| removed.and(self.remove_directory(&left)))
    }

    /// Gives the object that has entered a path its second name among those that are kept.
    fn keep_again(&self, kept: &Kept<'_>, switch: &Switch, name: &str) -> Result<(), InstallError> {
        match kept.keep(&switch.path, &switch.mount, name, 0)? {
            true => Ok(()),
            false => kept.take(&switch.path, &switch.mount, name),
        }
    }

    /// Puts a directory back that was cleared.
    fn restore_cleared(&self, kept: &Kept<'_>, clear: &Clear, told: &mut Told) -> Result<(), InstallError> {
        let Clear { path, mount, .. } = clear;
        let Err(error) = self.restore_directory(kept, clear) else { return Ok(()) };
        if !astray::is_file_led_astray(&self.tree, kept, mount, path)? {
            return Err(error);
        }
        told.add(&format!("the directory /{} could not be put back, as its own is gone", ShownPath(path)));
        Ok(())
    }

    /// Gives a directory its former owner and mode back.
    fn restore_access(
        &self,
        kept: &Kept<'_>,
        change: &AccessChange,
        told: &mut Told,
    ) -> Result<(), InstallError> {
        let AccessChange { path, mount, from, .. } = change;
        match access::set_back(&self.tree, kept, change) {
            Ok(None) => {}
            Ok(Some(has)) => told.add(&format!(
                "the directory /{} was changed meanwhile and stays {has}, not {from}",
                ShownPath(path)
            )),
            Err(_) if astray::is_led_astray(&self.tree, kept, mount, path)? => told.add(&format!(
                "/{} is another directory now, or gone, and was not made {from} again",
                ShownPath(path)
            )),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Removes a directory that this install made, unless it is not its own any more.
    fn remove_directory(&self, path: &str) -> Result<(), InstallError> {
        failpoint::hit("removing a directory made");
        match self.tree.parent(path).and_then(|(dir, name)| sys::rmdir_at(dir.as_fd(), name)) {
            Err(error) if !is_of_others(&error) => Err(error).context("remove", path),
            _ => Ok(()),
        }
    }

    fn restore_path(&self, kept: &Kept<'_>, switch: &Switch, told: &mut Told) -> Result<(), InstallError> {
        let Switch { path, mount, from, to, .. } = switch;
        let state = switch_state(kept, switch)?;
        let restored = match (&state, from, to) {
            // It was taken away, and nothing came in its place.
            (SwitchState::Before, Some(from), Some(_))
                if !self.tree.exists(path)?
                    && self.tree.parent(path).is_ok()
                    && kept.has(mount, &from.to_string())? =>
            {
                kept.put(mount, &from.to_string(), path)
            }
            (SwitchState::Before, ..) => Ok(()),
            (SwitchState::Switched, Some(from), _) => kept.put(mount, &from.to_string(), path),
            (SwitchState::Switched, None, Some(to)) if to.is_fresh => kept.discard(path, mount),
            (SwitchState::Switched, None, Some(to)) => kept.take(path, mount, &to.number.to_string()),
            (SwitchState::Switched, None, None) => Ok(()),
        };
        let Err(error) = restored else { return Ok(()) };
        if !astray::is_file_led_astray(&self.tree, kept, mount, path)? {
            return Err(error);
        }
        match (state, from) {
            (SwitchState::Switched, Some(from)) => {
                let lost = lost(*from);
                kept.rename(mount, &from.to_string(), &lost)?;
                let slash = if mount.is_empty() { "" } else { "/" };
                told.add(&format!(
                    "/{} could not be put back, as its directory is another one now, or gone: it is \
                     /{mount}{slash}.thimble/kept/{lost}",
                    ShownPath(path)
                ));
            }
            // It is gone with its directory.
            _ => log::info!("{error}: it is gone with its directory"),
        }
        Ok(())
    }

    /// Removes a file that this install made. The file or its directory may not exist
    /// yet, or not any more.
    fn remove(&self, path: &str) -> Result<(), InstallError> {
        failpoint::hit("removing a new file");
        match self.tree.parent(path).and_then(|(dir, name)| sys::unlink_at(dir.as_fd(), name)) {
            Err(error) if is_absent(&error) => Ok(()),
            other => other.context("remove", path),
        }
    }

    /// Runs the scripts that belong to going back. Returns the first failure among those
    /// of the previous set; all failures are logged.
    fn run_rollback_scripts(&self, state: &JournalState, intent: &Intent, old: &Installed) -> Option<String> {
        let ran = |id, scripts: [Script; 2]| {
            state.scripts.iter().any(|(of, script)| of == id && scripts.contains(script))
        };
        let run = |patch: &Patch, script| {
            let failure = self.scripts.run(&patch.id, script, ScriptAction::Rollback).err()?.to_string();
            log::warn!("going back: {failure}");
            Some(failure)
        };
        let mut failure = None;
        for patch in with_script(intent.added.iter().rev(), Script::PostRemove) {
            if ran(&patch.id, [Script::PreInstall, Script::PostInstall]) {
                run(patch, Script::PostRemove);
            }
        }
        let removed: Vec<_> = intent.removed.iter().filter_map(|id| old.patch(id)).collect();
        for patch in with_script(removed.iter().copied(), Script::PostInstall) {
            if ran(&patch.id, [Script::PreRemove, Script::PostRemove]) {
                failure = failure.or(run(patch, Script::PostInstall));
            }
        }
        let is_switched = state.phase >= Some(JournalPhase::Switching);
        if intent.reboot_required || (!is_switched && state.scripts.is_empty()) {
            return failure;
        }
        let began = |id: &PatchId| is_switched || state.scripts.iter().any(|(of, _)| of == id);
        let is_concerned = |patch: &&Patch| match intent.removed.contains(&patch.id) {
            true => began(&patch.id),
            false => intent.displaced.contains(&patch.id),
        };
        let mut is_restarted = false;
        for patch in with_script(&old.patches, Script::Restart).filter(is_concerned) {
            is_restarted = true;
            failure = failure.or(run(patch, Script::Restart));
        }
        // The previous set knows no way: what runs was not a patch's. Or its restarts do not undo
        // what those of the new set have done, such as to the network.
        let has_passed = state.phase >= Some(JournalPhase::Health);
        for patch in with_script(&intent.added, Script::Restart).filter(|patch| began(&patch.id)) {
            if !is_restarted || has_passed {
                run(patch, Script::Restart);
            }
        }
        failure
    }
}

/// Whether this error of `rmdir` says that a directory is not the install's any more: it is
/// gone, holds something else, or something else has its name.
fn is_of_others(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTEMPTY | libc::EEXIST | libc::ENOTDIR | libc::ELOOP | libc::EBUSY)
    )
}

/// Whether a path holds its object from before a switch or after it.
enum SwitchState {
    /// The object from before.
    Before,
    /// The object from after.
    Switched,
}

fn switch_state(kept: &Kept<'_>, switch: &Switch) -> Result<SwitchState, InstallError> {
    let has = |number: u64| kept.has(&switch.mount, &number.to_string());
    let is_switched = match (switch.from, switch.to) {
        (Some(from), Some(to)) => has(from)? && !has(to.number)?,
        (Some(from), None) => has(from)?,
        (None, Some(to)) => !has(to.number)?,
        (None, None) => false,
    };
    Ok(if is_switched { SwitchState::Switched } else { SwitchState::Before })
}
