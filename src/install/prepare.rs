//! An install up to its plan: fetching, verifying, checking. The tree does not change.

use std::fs::File;
use std::os::fd::AsFd;

use super::error::{ErrorContext, InstallError};
use super::fetch::{FetchDir, FetchedFile};
use super::installer::Installer;
use super::journal::Intent;
use super::kept::Kept;
use super::plan::{self, Plan, PlannedPatch};
use super::record::{Patch, Record, with_script};
use super::report::{InstallReporter, percent_within};
use super::scripts::{Script, ScriptAction};
use super::stage::ScriptStore;
use super::{check, notice, survey, sys};
use crate::job::Source;
use crate::patch::PatchError;
use crate::patch::archive::Index;
use crate::patch::signature::TrustedKeys;
use crate::repo::layers::layer_order;
use crate::sorted::FlatMap;
use crate::types::PatchId;
use crate::wire::frame::ManifestPatch;
use crate::wire::install::{InstallRequest, Step};

/// A block, in bytes. A file's last bytes may take one, and its inode another.
const BLOCK_BYTES: u64 = 4_096;

/// An install that has been planned and may be executed.
pub(super) struct Prepared<'h> {
    pub plan: Plan,
    /// The verified patch files to unpack.
    pub files: Vec<(PatchId, File)>,
    pub kept: Kept<'h>,
    pub fetch_dir: FetchDir,
}

impl Prepared<'_> {
    /// The journal's entry for this plan.
    pub fn intent(&self, record: &Record) -> Intent {
        let Plan { next, moves, notices, .. } = &self.plan;
        let added = moves.added.iter();
        let removed = moves.removed.iter().filter_map(|id| record.patch(id));
        Intent {
            serial: next.serial,
            old: record.digest(),
            new: next.digest(),
            reboot_required: added.chain(removed).any(|patch| patch.reboot_required),
            local_changes: notice::summary(notices),
            moves: moves.clone(),
        }
    }
}

impl Installer<'_> {
    /// Fetches, verifies, checks and plans.
    pub fn prepare(
        &self,
        record: &Record,
        request: &InstallRequest,
        source: &mut dyn Source,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<Prepared<'_>, InstallError> {
        let config = self.config;
        let patches = source.manifest(request.digest, &config.node.nodetype)?;
        let wanted = check::manifest(record, patches, request.digest)?;
        let lost = plan::patches_to_fetch_again(record, |id| wanted.contains_key(id));
        let needed: Vec<_> =
            wanted.values().filter(|p| record.patch(&p.id).is_none() || lost.contains(&p.id)).collect();
        let fetch_dir = FetchDir::open(&self.home)?;
        fetch_dir.sweep(&wanted)?;
        let missing_bytes =
            needed.iter().map(|p| p.size_bytes.saturating_sub(fetch_dir.present_bytes(p))).sum();
        self.check_space("", missing_bytes)?;
        let mut files = self.fetch(&fetch_dir, &needed, source, reporter)?;

        let mut targets = Vec::new();
        for manifest in wanted.values() {
            let installed = record.patch(&manifest.id);
            let file = files.get(&manifest.id).map(|(_, index)| index);
            let (patch, layout) = match (installed, file) {
                (Some(patch), file) => {
                    let committed = patch.committed || manifest.committed;
                    let layout =
                        file.map(|index| survey::layout(&self.tree, record, manifest, index)).transpose()?;
                    let layout = layout.map(|(_, layout)| survey::only_lost(layout, record, &manifest.id));
                    (Patch { committed, ..patch.clone() }, layout)
                }
                (None, Some(index)) => {
                    check::added(config, &manifest.id, &index.metadata)?;
                    let (patch, layout) = survey::layout(&self.tree, record, manifest, index)?;
                    (patch, Some(layout))
                }
                // Does not happen: every patch that is not installed was fetched.
                (None, None) => continue,
            };
            targets.push(PlannedPatch { patch, layout });
        }
        let targets = in_layer_order(targets);
        let touched = plan::touched(record, &targets);
        let facts = survey::facts(&self.tree, record, &touched)?;
        let mut plan = plan::plan(record, &targets, &facts)?;
        plan.notices.extend(survey::deleted(&self.tree, record, &touched));

        self.check_own(&plan.moves)?;
        let added = &plan.moves.added;
        let removed: Vec<_> = plan.moves.removed.iter().filter_map(|id| record.patch(id)).collect();
        let reboot_required = added.iter().chain(removed.iter().copied()).any(|p| p.reboot_required);
        check::lock(config, request.force, reboot_required)?;
        let kept = self.kept_for(record, &plan)?;
        self.check_plan(record, &plan, &kept)?;

        let scripts = ScriptStore::open(&self.home)?;
        for patch in added.iter().filter(|patch| !patch.scripts.is_empty()) {
            if let Some((file, _)) = files.get_mut(&patch.id) {
                scripts.unpack(&patch.id, file)?;
            }
        }
        for patch in with_script(added, Script::PreApply) {
            self.scripts.run(&patch.id, Script::PreApply, ScriptAction::Install)?;
        }
        for patch in with_script(removed, Script::PreRemoveCheck) {
            self.scripts.run(&patch.id, Script::PreRemoveCheck, ScriptAction::Remove)?;
        }
        let files = files.into_iter().map(|(id, (file, _))| (id, file)).collect();
        Ok(Prepared { plan, files, kept, fetch_dir })
    }

    /// Fetches and verifies the patch files that are needed.
    fn fetch(
        &self,
        fetch_dir: &FetchDir,
        needed: &[&ManifestPatch],
        source: &mut dyn Source,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<FlatMap<PatchId, (File, Index)>, InstallError> {
        let keys = TrustedKeys::parse(&self.config.security.trusted_keys);
        let total: u64 = needed.iter().map(|patch| patch.size_bytes).sum();
        let mut fetched_bytes = 0u64;
        let mut fetched: Vec<(&ManifestPatch, FetchedFile)> = Vec::new();
        for patch in needed {
            fetched_bytes += fetch_dir.present_bytes(patch).min(patch.size_bytes);
            let mut shown = None;
            let file = fetch_dir.fetch(source, patch, &mut |len| {
                fetched_bytes += len;
                let percent = percent_within(5, 40, fetched_bytes, total);
                if shown != Some(percent) {
                    shown = Some(percent);
                    reporter.progress(Step::Fetching, percent);
                }
            })?;
            fetched.push((patch, file));
        }
        reporter.progress(Step::Verifying, 40);
        let mut files = FlatMap::default();
        for (patch, file) in fetched {
            let keys = keys.as_ref().map_err(|error| {
                InstallError::Patch(patch.id.clone(), Box::new(PatchError::Signature(error.clone())))
            })?;
            files.insert(patch.id.clone(), fetch_dir.verify(source, patch, file, keys)?);
        }
        Ok(files)
    }

    /// Opens the kept directories that a plan needs. One may be missing only on a
    /// filesystem that no patch had files on.
    fn kept_for(&self, record: &Record, plan: &Plan) -> Result<Kept<'_>, InstallError> {
        let known: Vec<_> = record.paths.values().map(|stack| stack.mount.as_str()).collect();
        let staged = plan.stage.iter().map(|staged| staged.mount.as_str());
        let switched = plan.moves.switches.iter().map(|switch| switch.mount.as_str());
        let made = plan.moves.directories.iter().map(|directory| directory.mount.as_str());
        Kept::open(&self.tree, staged.chain(switched).chain(made), |mount| {
            mount.is_empty() || !known.contains(&mount)
        })
    }

    /// Refuses a plan for which there is no space, or whose kept objects are missing.
    fn check_plan(&self, record: &Record, plan: &Plan, kept: &Kept<'_>) -> Result<(), InstallError> {
        for switch in &plan.moves.switches {
            if let Some(to) = switch.to.filter(|to| !to.is_fresh)
                && !kept.has(&switch.mount, &to.number.to_string())?
            {
                return Err(survey::lost_object(record, &switch.path));
            }
        }
        let mut needed = FlatMap::default();
        for staged in &plan.stage {
            *needed.get_or_insert_with(staged.mount.as_str(), || 0) +=
                staged.size_bytes.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES;
        }
        needed.into_iter().try_for_each(|(mount, needed)| self.check_space(mount, needed))
    }

    fn check_space(&self, mount: &str, needed: u64) -> Result<(), InstallError> {
        let free = self.tree.dir(mount).and_then(|dir| sys::free_bytes(dir.as_fd()));
        check::space(mount, needed, self.config.agent.reserve_bytes, free.context("measure", mount)?)
    }
}

fn in_layer_order(mut targets: Vec<PlannedPatch>) -> Vec<PlannedPatch> {
    let order: Vec<PatchId> = {
        let mut order: Vec<&Patch> = targets.iter().map(|target| &target.patch).collect();
        layer_order(&mut order, |patch: &Patch| (&patch.id, &patch.requires));
        order.into_iter().map(|patch| patch.id.clone()).collect()
    };
    targets.sort_unstable_by_key(|target| order.iter().position(|id| *id == target.patch.id));
    targets
}
