//! Executes a plan, from its announcement in the journal to its commit.

use std::os::fd::AsFd;

use super::error::InstallError;
use super::installer::Installer;
use super::journal::{Intent, Journal, JournalEntry, JournalPhase};
use super::plan::Moves;
use super::prepare::Prepared;
use super::record::{Patch, Record, with_script};
use super::report::{InstallReporter, percent_within};
use super::scripts::{Script, ScriptAction};
use super::state_files::INSTALLED;
use super::{set_aside, stage};
use crate::sorted::FlatSet;
use crate::wire::install::Step;

impl Installer<'_> {
    /// Executes a plan. Returns the record that is now in force, or `None` if the new
    /// thimble must commit it. After an error, the journal says how far it got.
    pub fn execute(
        &self,
        journal: &mut Journal,
        intent: &Intent,
        prepared: &mut Prepared<'_>,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<Option<Record>, InstallError> {
        for notice in &prepared.plan.notices {
            reporter.notice(&notice.to_string());
        }
        let moves = &intent.moves;
        let old = self.record()?;
        if moves.added.is_empty() && moves.removed.is_empty() {
            // At most, installed patches have become committed.
            if old.patches != prepared.plan.next.patches {
                INSTALLED.write(self.home.as_fd(), &prepared.plan.next)?;
            }
            return self.record().map(Some);
        }
        journal.append(JournalEntry::Intent(intent.clone()))?;
        journal.preallocate(scripts_at_most(&old, prepared))?;
        self.stage(prepared, reporter)?;
        self.try_out(moves)?;
        INSTALLED.draft(self.home.as_fd(), &prepared.plan.next)?;
        if !moves.added.is_empty() {
            set_aside::set_aside(self.home.as_fd(), &prepared.plan.next)?;
        }

        reporter.progress(Step::PreScripts, 70);
        journal.append(JournalEntry::Phase(JournalPhase::PreScripts))?;
        self.pre_scripts(journal, &old, moves)?;

        reporter.progress(Step::Switching, 75);
        self.keep_guard(moves)?;
        let not_kept = self.keep(moves, prepared)?;
        journal.append(JournalEntry::Phase(JournalPhase::Switching))?;
        self.switch(moves, prepared, &not_kept)?;

        reporter.progress(Step::PostScripts, 80);
        journal.append(JournalEntry::Phase(JournalPhase::PostScripts))?;
        self.post_scripts(journal, &old, intent)?;

        if self.own(moves).is_some() {
            journal.append(JournalEntry::Phase(JournalPhase::AwaitSelf))?;
            return Ok(None);
        }
        journal.append(JournalEntry::Phase(JournalPhase::Health))?;
        reporter.progress(Step::Health, 95);
        if !intent.reboot_required {
            self.health(journal, &prepared.plan.next)?;
        }
        self.commit(journal, intent, &old, &prepared.plan.next)?;
        reporter.progress(Step::Health, 100);
        Ok(Some(prepared.plan.next.clone()))
    }

    /// Runs the health scripts of the new set.
    pub fn health(&self, journal: &mut Journal, next: &Record) -> Result<(), InstallError> {
        with_script(&next.patches, Script::Health)
            .try_for_each(|patch| self.script(journal, patch, Script::Health, ScriptAction::Install))
    }

    /// Unpacks new files into the kept directories.
    fn stage(
        &self,
        prepared: &mut Prepared<'_>,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<(), InstallError> {
        let Prepared { plan, files, kept, room, fetch_dir } = prepared;
        for (mount, number) in &room.returning {
            kept.transfer("", mount, &number.to_string())?;
        }
        let total = plan.stage.iter().map(|staged| staged.size_bytes).sum();
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
        let staged = std::mem::take(&mut plan.stage);
        for (id, file) in files {
            let wanted: Vec<_> = staged.iter().filter(|staged| staged.patch == *id).collect();
            let prints = stage::files(id, file, &wanted, kept, &mut progress)?;
            for (staged, print) in prints {
                plan.set_print(staged, print);
            }
        }
        kept.barrier()?;
        fetch_dir.sweep(&Default::default())
    }

    fn pre_scripts(&self, journal: &mut Journal, old: &Record, moves: &Moves) -> Result<(), InstallError> {
        let removed: Vec<_> = moves.removed.iter().rev().filter_map(|id| old.patch(id)).collect();
        for patch in with_script(removed, Script::PreRemove) {
            self.script(journal, patch, Script::PreRemove, ScriptAction::Remove)?;
        }
        for patch in with_script(&moves.added, Script::PreInstall) {
            self.script(journal, patch, Script::PreInstall, ScriptAction::Install)?;
        }
        Ok(())
    }

    /// Gives each object that will be displaced its second name. Returns those that have
    /// none: there are no hard links, and no room for a copy.
    fn keep(&self, moves: &Moves, prepared: &Prepared<'_>) -> Result<FlatSet<u64>, InstallError> {
        let kept = &prepared.kept;
        let reserve = self.config.agent.reserve_bytes;
        let mut not_kept = FlatSet::default();
        for save in &moves.saves {
            kept.save(&save.path, &save.beside)?;
        }
        for switch in &moves.switches {
            if let (Some(from), Some(_)) = (switch.from, switch.to)
                && !kept.keep(&switch.path, &switch.mount, &from.to_string(), reserve)?
            {
                not_kept.insert(from);
            }
        }
        kept.barrier()?;
        Ok(not_kept)
    }

    fn switch(
        &self,
        moves: &Moves,
        prepared: &Prepared<'_>,
        not_kept: &FlatSet<u64>,
    ) -> Result<(), InstallError> {
        for directory in &moves.directories {
            prepared.kept.make_directory(directory)?;
        }
        let kept = &prepared.kept;
        for switch in &moves.switches {
            let (path, mount) = (&switch.path, &switch.mount);
            match (switch.from, switch.to) {
                (Some(from), Some(to)) => {
                    if not_kept.contains(&from) {
                        kept.take(path, mount, &from.to_string())?;
                    }
                    kept.put(mount, &to.number.to_string(), path)?;
                }
                (None, Some(to)) => kept.put_new(mount, &to.number.to_string(), path)?,
                (Some(from), None) => kept.take(path, mount, &from.to_string())?,
                (None, None) => {}
            }
        }
        kept.barrier()
    }

    fn post_scripts(&self, journal: &mut Journal, old: &Record, intent: &Intent) -> Result<(), InstallError> {
        let moves = &intent.moves;
        let removed: Vec<_> = moves.removed.iter().rev().filter_map(|id| old.patch(id)).collect();
        for patch in with_script(removed.iter().copied(), Script::PostRemove) {
            self.script(journal, patch, Script::PostRemove, ScriptAction::Remove)?;
        }
        for patch in with_script(&moves.added, Script::PostInstall) {
            self.script(journal, patch, Script::PostInstall, ScriptAction::Install)?;
        }
        if intent.reboot_required {
            return Ok(());
        }
        for patch in with_script(removed, Script::Restart) {
            self.script(journal, patch, Script::Restart, ScriptAction::Remove)?;
        }
        for patch in with_script(&moves.added, Script::Restart) {
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
        Ok(self.scripts.run(&patch.id, script, action)?)
    }
}

/// The greatest number of scripts that an install and undoing it announce.
fn scripts_at_most(old: &Record, prepared: &Prepared<'_>) -> usize {
    let all = old.patches.iter().chain(&prepared.plan.next.patches);
    all.map(|patch| patch.scripts.len()).sum()
}
