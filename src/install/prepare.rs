//! The way of an install up to its plan. Nothing of the tree is touched here.

use std::fs::File;
use std::os::fd::AsFd;

use super::error::{ErrorContext, InstallError};
use super::fetch::{Arrived, Inbox};
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

/// A block, which a file's last bytes and its inode may take each, in bytes.
const BLOCK_BYTES: u64 = 4_096;

/// An install that may begin.
pub(super) struct Prepared<'h> {
    pub plan: Plan,
    /// The verified files that are to be unpacked.
    pub files: Vec<(PatchId, File)>,
    pub kept: Kept<'h>,
    pub inbox: Inbox,
}

impl Prepared<'_> {
    /// What the journal announces.
    pub fn intent(&self, record: &Record) -> Intent {
        let Plan { next, moves, notices, .. } = &self.plan;
        let added = moves.added.iter();
        let removed = moves.removed.iter().filter_map(|id| record.patch(id));
        Intent {
            serial: next.serial,
            old: record.digest(),
            new: next.digest(),
            reboot_required: added.chain(removed).any(|patch| patch.reboot_required),
            noted: notice::sum_up(notices),
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
        let again = plan::to_fetch_again(record, |id| wanted.contains_key(id));
        let needed: Vec<_> =
            wanted.values().filter(|p| record.patch(&p.id).is_none() || again.contains(&p.id)).collect();
        let inbox = Inbox::open(&self.home)?;
        inbox.sweep(&wanted)?;
        let to_come = needed.iter().map(|p| p.size_bytes.saturating_sub(inbox.present_bytes(p))).sum();
        self.check_room("", to_come)?;
        let mut files = self.fetch(&inbox, &needed, source, reporter)?;

        let mut targets = Vec::new();
        for manifest in wanted.values() {
            let installed = record.patch(&manifest.id);
            let file = files.get(&manifest.id).map(|(_, index)| index);
            let (patch, laid) = match (installed, file) {
                (Some(patch), file) => {
                    let committed = patch.committed || manifest.committed;
                    let laid =
                        file.map(|index| survey::lay(&self.tree, record, manifest, index)).transpose()?;
                    let laid = laid.map(|(_, laid)| survey::only_lost(laid, record, &manifest.id));
                    (Patch { committed, ..patch.clone() }, laid)
                }
                (None, Some(index)) => {
                    check::added(config, &manifest.id, &index.metadata)?;
                    let (patch, laid) = survey::lay(&self.tree, record, manifest, index)?;
                    (patch, Some(laid))
                }
                // Everything that is not installed was fetched.
                (None, None) => continue,
            };
            targets.push(PlannedPatch { patch, laid });
        }
        let targets = in_layer_order(targets);
        let touched = plan::touched(record, &targets);
        let facts = survey::facts(&self.tree, record, &touched)?;
        let mut plan = plan::plan(record, &targets, &facts)?;
        plan.notices.extend(survey::deleted(&self.tree, record, &touched)?);

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
        Ok(Prepared { plan, files, kept, inbox })
    }

    /// Fetches and verifies what is needed.
    fn fetch(
        &self,
        inbox: &Inbox,
        needed: &[&ManifestPatch],
        source: &mut dyn Source,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<FlatMap<PatchId, (File, Index)>, InstallError> {
        let keys = TrustedKeys::parse(&self.config.security.trusted_keys);
        let total: u64 = needed.iter().map(|patch| patch.size_bytes).sum();
        let mut come = 0u64;
        let mut arrived: Vec<(&ManifestPatch, Arrived)> = Vec::new();
        for patch in needed {
            come += inbox.present_bytes(patch).min(patch.size_bytes);
            let mut shown = None;
            let file = inbox.fetch(source, patch, &mut |len| {
                come += len;
                let percent = percent_within(5, 40, come, total);
                if shown != Some(percent) {
                    shown = Some(percent);
                    reporter.progress(Step::Fetching, percent);
                }
            })?;
            arrived.push((patch, file));
        }
        reporter.progress(Step::Verifying, 40);
        let mut files = FlatMap::default();
        for (patch, file) in arrived {
            let keys = keys.as_ref().map_err(|error| {
                InstallError::Patch(patch.id.clone(), Box::new(PatchError::Signature(error.clone())))
            })?;
            files.insert(patch.id.clone(), inbox.verify(source, patch, file, keys)?);
        }
        Ok(files)
    }

    /// Opens the kept directories that a plan needs. Only a filesystem that no
    /// patch had files on may be without.
    fn kept_for(&self, record: &Record, plan: &Plan) -> Result<Kept<'_>, InstallError> {
        let known: Vec<_> = record.paths.values().map(|stack| stack.mount.as_str()).collect();
        let staged = plan.stage.iter().map(|staged| staged.mount.as_str());
        let switched = plan.moves.switches.iter().map(|switch| switch.mount.as_str());
        Kept::open(&self.tree, staged.chain(switched), |mount| mount.is_empty() || !known.contains(&mount))
    }

    /// Refuses a plan for which there is no room, or whose objects are not kept.
    fn check_plan(&self, record: &Record, plan: &Plan, kept: &Kept<'_>) -> Result<(), InstallError> {
        for switch in &plan.moves.switches {
            if let Some(to) = switch.to.filter(|to| !to.is_fresh)
                && !kept.has(&switch.mount, &to.number.to_string())?
            {
                return Err(survey::lost(record, &switch.path));
            }
        }
        let mut needed = FlatMap::default();
        for staged in &plan.stage {
            *needed.get_or_insert_with(staged.mount.as_str(), || 0) +=
                staged.size_bytes.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES;
        }
        needed.into_iter().try_for_each(|(mount, needed)| self.check_room(mount, needed))
    }

    fn check_room(&self, mount: &str, needed: u64) -> Result<(), InstallError> {
        let free = self.tree.dir(mount).and_then(|dir| sys::free_bytes(dir.as_fd()));
        check::room(mount, needed, self.config.agent.reserve_bytes, free.context("measure", mount)?)
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
