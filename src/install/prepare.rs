//! An install up to its plan: fetching, verifying, checking. The tree does not change.

use std::fs::File;

use super::check::Needed;
use super::error::InstallError;
use super::fetch::{FetchDir, FetchedFile};
use super::holds::{self, Candidate};
use super::installer::Installer;
use super::journal::Intent;
use super::kept::Kept;
use super::notice::Notice;
use super::plan::{self, NewDirectory, Plan, PlannedPatch};
use super::record::{Patch, Record, with_script};
use super::report::{InstallReporter, percent_within};
use super::room::Room;
use super::scripts::{Script, ScriptAction};
use super::stage::ScriptStore;
use super::{check, notice, survey};
use crate::job::Source;
use crate::patch::PatchError;
use crate::patch::archive::{Index, Owner};
use crate::patch::signature::TrustedKeys;
use crate::repo::layers::layer_order;
use crate::sorted::FlatMap;
use crate::types::PatchId;
use crate::wire::frame::ManifestPatch;
use crate::wire::install::{InstallRequest, Step};

/// An install that has been planned and may be executed.
pub(super) struct Prepared<'h> {
    pub plan: Plan,
    /// The verified patch files to unpack.
    pub files: Vec<(PatchId, File)>,
    pub kept: Kept<'h>,
    pub room: Room,
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
        // A removal makes room and leaves no reserve. If it fetches nothing, it needs no
        // space beyond what was set aside.
        let adds = needed.iter().any(|patch| record.patch(&patch.id).is_none());
        let reserve_bytes = if adds { config.agent.reserve_bytes } else { 0 };
        let missing_bytes: u64 =
            needed.iter().map(|p| p.size_bytes.saturating_sub(fetch_dir.present_bytes(p))).sum();
        if !needed.is_empty() {
            let bytes = missing_bytes.saturating_add(reserve_bytes);
            self.check_space("", Needed { bytes, inodes: needed.len() as u64 })?;
        }
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
        let mut kept = self.kept_for(record, &plan)?;
        if !(plan.stage.is_empty() && plan.moves.directories.is_empty() && plan.moves.saves.is_empty()) {
            kept.try_out()?;
            self.check_fit(&mut plan, &targets, &kept)?;
        }
        let room = self.find_room(record, &mut plan, &kept, reserve_bytes)?;
        let added = &plan.moves.added;

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
        kept.stay();
        let files = files.into_iter().map(|(id, (file, _))| (id, file)).collect();
        Ok(Prepared { plan, files, kept, room, fetch_dir })
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

    /// Refuses files and directories that their filesystem cannot hold. Adds notices of
    /// those that all users may read there.
    fn check_fit(
        &self,
        plan: &mut Plan,
        targets: &[PlannedPatch],
        kept: &Kept<'_>,
    ) -> Result<(), InstallError> {
        let mut candidates: FlatMap<&str, Vec<Candidate<'_>>> = FlatMap::default();
        for staged in &plan.stage {
            let (patch, path, is_link) = (&staged.patch, &staged.path, staged.is_link);
            let Owner { mode, uid, gid, .. } = staged.owner;
            let candidate = Candidate { patch, path, is_link, mode, uid, gid };
            candidates.get_or_insert_with(&staged.mount, Vec::new).push(candidate);
            let opened = kept.holds(&staged.mount).opened(mode).filter(|_| !is_link);
            plan.notices.extend(opened.map(|granted| Notice::Opened(path.clone(), mode, granted)));
        }
        for NewDirectory { path, mount, mode, uid, gid } in &plan.moves.directories {
            let brings = |target: &&PlannedPatch| {
                target.layout.as_ref().is_some_and(|layout| layout.missing.contains_key(path))
            };
            let Some(patch) = targets.iter().find(brings).map(|target| &target.patch.id) else { continue };
            let candidate = Candidate { patch, path, is_link: false, mode: *mode, uid: *uid, gid: *gid };
            candidates.get_or_insert_with(mount, Vec::new).push(candidate);
        }
        candidates.into_iter().try_for_each(|(mount, candidates)| {
            holds::check(&self.tree, mount, kept.dir(mount)?, kept.holds(mount), &candidates)
        })
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
