//! Executes a plan, from its announcement in the journal to its commit.

use std::os::fd::AsFd;

use super::error::{ErrorContext, InstallError};
use super::installer::Installer;
use super::journal::{Intent, Journal, JournalEntry, JournalPhase};
use super::kept::{Kept, returning};
use super::moves::{AccessChange, Entering, Switch};
use super::needs::Needs;
use super::planner::Plan;
use super::prepare::Prepared;
use super::record::{Installed, Patch, with_script};
use super::record_file::Record;
use super::record_table::INSTALLED;
use super::report::{InstallReporter, percent_within};
use super::scripts::{Script, ScriptAction};
use super::told::Told;
use super::{access, astray, set_aside, stage};
use crate::job::Witness;
use crate::types::{PatchId, ShownPath};
use crate::wire::install::Step;

/// A plan that was executed.
pub(super) enum Executed {
    /// The new record is in force.
    Committed(Record),
    /// The new set is in place, and this message commits it.
    Awaited(Witness),
}

impl Installer<'_> {
    /// Executes a plan. Returns the record that is now in force, or whose message must commit
    /// it. After an error, the journal says how far it got.
    pub fn execute(
        &self,
        journal: &mut Journal,
        intent: &Intent,
        old: &Record,
        mut prepared: Prepared<'_>,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<Executed, InstallError> {
        let mut notices = prepared.plan.notices.iter().context("sort in", ".thimble")?;
        while let Some(notice) = notices.next().context("sort in", ".thimble")? {
            reporter.notice(&notice.to_string());
        }
        let home = self.home.as_fd();
        if intent.added.is_empty() && intent.removed.is_empty() {
            // At most, installed patches have become committed.
            let Plan { draft, next, .. } = prepared.plan;
            if old.patches != next.patches {
                draft.finish(&next)?;
                INSTALLED.publish(home)?;
            }
            return self.record().map(Executed::Committed);
        }
        journal.append(JournalEntry::Intent(intent.clone()))?;
        journal.preallocate(scripts_at_most(old, &prepared.plan.next))?;
        self.stage(&mut prepared, old, reporter)?;
        self.try_out(journal)?;
        let Plan { draft, next, kept, .. } = prepared.plan;
        let bytes = draft.bytes_with(&next)?;
        draft.finish(&next)?;
        if !intent.added.is_empty() {
            set_aside::set_aside(home, &next, bytes)?;
        }

        reporter.progress(Step::PreScripts, 70);
        journal.append(JournalEntry::Phase(JournalPhase::PreScripts))?;
        self.pre_scripts(journal, old, intent)?;

        reporter.progress(Step::Switching, 75);
        self.keep_guard(journal)?;
        self.keep(journal, &kept)?;
        journal.append(JournalEntry::Phase(JournalPhase::Switching))?;
        let told = self.switch(journal, &kept)?;
        journal.tell(told.line())?;
        journal.tell(self.relabel(journal))?;

        reporter.progress(Step::PostScripts, 80);
        journal.append(JournalEntry::Phase(JournalPhase::PostScripts))?;
        self.post_scripts(journal, old, intent)?;

        if self.own(journal)?.is_some() {
            return self.awaits(journal, Witness::ToNewThimble);
        }
        let checks = !intent.reboot_required && with_script(&next.patches, Script::Health).next().is_some();
        // One entry more would make every install slower by a write to the disk.
        if checks || self.witness.is_none() {
            journal.append(JournalEntry::Phase(JournalPhase::Health))?;
        }
        reporter.progress(Step::Health, 95);
        if checks {
            self.health(journal, &next)?;
        }
        if let Some(witness) = self.witness {
            return self.awaits(journal, witness);
        }
        self.commit(journal, intent, old, &next)?;
        reporter.progress(Step::Health, 100);
        self.record().map(Executed::Committed)
    }

    /// The journal says whose message commits the install.
    fn awaits(&self, journal: &mut Journal, witness: Witness) -> Result<Executed, InstallError> {
        journal.append(JournalEntry::Phase(JournalPhase::awaiting(witness)))?;
        Ok(Executed::Awaited(witness))
    }

    /// Runs the health scripts of the new set.
    pub fn health(&self, journal: &mut Journal, next: &Installed) -> Result<(), InstallError> {
        with_script(&next.patches, Script::Health)
            .try_for_each(|patch| self.script(journal, patch, Script::Health, ScriptAction::Install))
    }

    /// Unpacks new files into the kept directories.
    fn stage(
        &self,
        prepared: &mut Prepared<'_>,
        old: &Record,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<(), InstallError> {
        let Prepared { plan, files, fetch_dir, .. } = prepared;
        let Plan { draft, staged, kept, needs: Needs { returning, .. }, .. } = plan;
        for (mount, number) in returning {
            kept.transfer("", mount, &number.to_string())?;
        }
        let mut total = 0;
        let mut items = staged.iter().context("sort in", ".thimble")?;
        while let Some(staged) = items.next().context("sort in", ".thimble")? {
            total += staged.size_bytes;
        }
        let mut done = 0;
        let mut shown = None;
        let mut progress = |len| {
            done += len;
            let percent = percent_within(45, 70, done, total);
            if shown != Some(percent) {
                shown = Some(percent);
                reporter.progress(Step::Staging, percent);
            }
        };
        progress(0);
        let olds = fetch_dir.olds(&self.tree, old);
        let mut wanted = stage::Wanted::new(staged).context("sort in", ".thimble")?;
        // A patch that only removes files is not read again.
        for file in files.iter_mut().filter(|_| !staged.is_empty()) {
            stage::files(file, &mut wanted, olds, kept, draft, &mut progress)?;
        }
        kept.barrier()?;
        fetch_dir.sweep(&Default::default())
    }

    fn pre_scripts(
        &self,
        journal: &mut Journal,
        old: &Installed,
        intent: &Intent,
    ) -> Result<(), InstallError> {
        let removed = removed(old, &intent.removed);
        for patch in with_script(removed, Script::PreRemove) {
            self.script(journal, patch, Script::PreRemove, ScriptAction::Remove)?;
        }
        for patch in with_script(&intent.added, Script::PreInstall) {
            self.script(journal, patch, Script::PreInstall, ScriptAction::Install)?;
        }
        Ok(())
    }

    /// Gives each object that will be displaced its second name. Where there are no hard
    /// links and no room for a copy, it has none.
    fn keep(&self, journal: &Journal, kept: &Kept<'_>) -> Result<(), InstallError> {
        let reserve = self.config.agent.reserve_bytes;
        let mut moves = journal.moves();
        while let Some(save) = moves.next_save()? {
            kept.save(&save.path, &save.beside)?;
        }
        let mut moves = journal.moves();
        // The directory that was looked at last, and whether it is root's alone.
        let mut last: Option<(String, bool)> = None;
        while let Some(Switch { path, mount, from, to, .. }) = moves.next_switch()? {
            if let (Some(from), Some(_)) = (from, to) {
                kept.keep(&path, &mount, &from.to_string(), reserve)?;
            }
            let Some(to) = to.filter(|to| !to.is_fresh) else { continue };
            let (directory, _) = path.rsplit_once('/').unwrap_or_default();
            let is_roots_alone = match &last {
                Some((last, is_roots_alone)) if last == directory => *is_roots_alone,
                _ => astray::is_roots_alone(&self.tree, directory)?,
            };
            last = Some((directory.to_owned(), is_roots_alone));
            if !is_roots_alone {
                kept.double(&mount, &to.number.to_string(), &returning(to.number))?;
            }
        }
        self.keep_directories(journal, kept)?;
        kept.barrier()
    }

    fn switch(&self, journal: &Journal, kept: &Kept<'_>) -> Result<Told, InstallError> {
        let mut told = Told::default();
        self.make_way(journal, kept)?;
        let mut moves = journal.moves();
        while let Some(directory) = moves.next_directory()? {
            kept.make_directory(&directory)?;
        }
        let mut moves = journal.moves();
        while let Some(change) = moves.next_access()? {
            if let Some(has) = access::set(&self.tree, kept, &change)? {
                let AccessChange { path, to, .. } = &change;
                told.add(&format!(
                    "the directory /{} was changed meanwhile and stays {has}, not {to}",
                    ShownPath(path)
                ));
            }
        }
        let mut moves = journal.moves();
        while let Some(switch) = moves.next_plain_switch()? {
            let (path, mount) = (&switch.path, &switch.mount);
            if let Some(Entering { number, mode, .. }) = switch.to.filter(Entering::was_kept) {
                kept.arm(mount, &number.to_string(), mode)?;
            }
            match (switch.from, switch.to) {
                (Some(from), Some(to)) => {
                    let from = from.to_string();
                    if !kept.has(mount, &from)? {
                        kept.take(path, mount, &from)?;
                    }
                    kept.put(mount, &to.number.to_string(), path)?;
                }
                (None, Some(to)) => kept.put_new(mount, &to.number.to_string(), path)?,
                (Some(from), None) => kept.take(path, mount, &from.to_string())?,
                (None, None) => {}
            }
        }
        kept.barrier()?;
        Ok(told)
    }

    fn post_scripts(
        &self,
        journal: &mut Journal,
        old: &Installed,
        intent: &Intent,
    ) -> Result<(), InstallError> {
        let removed = removed(old, &intent.removed);
        for patch in with_script(removed.iter().copied(), Script::PostRemove) {
            self.script(journal, patch, Script::PostRemove, ScriptAction::Remove)?;
        }
        for patch in with_script(&intent.added, Script::PostInstall) {
            self.script(journal, patch, Script::PostInstall, ScriptAction::Install)?;
        }
        if intent.reboot_required {
            return Ok(());
        }
        for patch in with_script(removed, Script::Restart) {
            self.script(journal, patch, Script::Restart, ScriptAction::Remove)?;
        }
        for patch in with_script(&intent.added, Script::Restart) {
            self.script(journal, patch, Script::Restart, ScriptAction::Install)?;
        }
        Ok(())
    }

    /// Announces a script in the journal and runs it.
    fn script(
        &self,
        journal: &mut Journal,
        patch: &Patch,
        script: Script,
        action: ScriptAction,
    ) -> Result<(), InstallError> {
        journal.append(JournalEntry::Script(patch.id.clone(), script))?;
        let ended = self.scripts.run(&patch.id, script, action);
        self.tree.forget();
        Ok(ended?)
    }
}

/// The patches that are removed, the topmost first.
fn removed<'r>(old: &'r Installed, ids: &[PatchId]) -> Vec<&'r Patch> {
    ids.iter().rev().filter_map(|id| old.patch(id)).collect()
}

/// The greatest number of scripts that an install and undoing it announce.
fn scripts_at_most(old: &Installed, next: &Installed) -> usize {
    old.patches.iter().chain(&next.patches).map(|patch| patch.scripts.len()).sum()
}
