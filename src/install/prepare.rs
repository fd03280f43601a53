//! An install up to its plan: fetching, verifying, checking. The tree does not change.

use std::fs::File;
use std::io::Seek;
use std::os::fd::AsFd;

use super::check::{self, Needed};
use super::error::{ErrorContext, InstallError, InstallRefusal};
use super::fetch::{FetchDir, FetchedFile};
use super::installer::Installer;
use super::journal::{Intent, Journal};
use super::layout::Survey;
use super::plan::lost_top;
use super::planner::{Plan, Planner, Surveyed};
use super::record::{Patch, with_script};
use super::record_file::Record;
use super::report::{InstallReporter, percent_within};
use super::room::Room;
use super::scripts::{Script, ScriptAction};
use super::stage::ScriptStore;
use super::staged::PatchFile;
use crate::job::Source;
use crate::patch::PatchError;
use crate::patch::archive;
use crate::patch::floor::Says;
use crate::patch::metadata::Requirement;
use crate::patch::signature::TrustedKeys;
use crate::repo::layers::layer_order;
use crate::sorted::{FlatMap, FlatSet};
use crate::types::PatchId;
use crate::wire::frame::ManifestPatch;
use crate::wire::install::{InstallRequest, Step};

/// An install that has been planned and may be executed.
pub(super) struct Prepared<'h> {
    pub plan: Plan<'h>,
    /// The verified patch files to unpack.
    pub files: Vec<PatchFile>,
    pub room: Room,
    pub fetch_dir: FetchDir,
    added: Vec<Patch>,
    removed: Vec<PatchId>,
    reboot_required: bool,
}

impl Prepared<'_> {
    /// The journal's entry for this plan.
    pub fn intent(&self, record: &Record) -> Result<Intent, InstallError> {
        let Plan { next, notices, displaced, .. } = &self.plan;
        Ok(Intent {
            serial: next.serial,
            old: record.digest(),
            new: next.digest(),
            reboot_required: self.reboot_required,
            local_changes: notices.summary().context("sort in", ".thimble")?,
            added: self.added.clone(),
            removed: self.removed.clone(),
            displaced: displaced.to_vec(),
        })
    }
}

impl Installer<'_> {
    /// Fetches, verifies, checks and plans.
    pub fn prepare(
        &self,
        record: &Record,
        journal: &mut Journal,
        request: &InstallRequest,
        source: &mut dyn Source,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<Prepared<'_>, InstallError> {
        let config = self.config;
        let patches = source.manifest(request.digest, &config.node.nodetype)?;
        let wanted = check::manifest(record, patches, request.digest)?;
        let lost = patches_to_fetch_again(record, &wanted)?;
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
            let needed = Needed { bytes, inodes: needed.len() as u64 };
            match self.check_space("", needed) {
                Err(_) if source.give_up_kept(false) => self.check_space("", needed)?,
                checked => checked?,
            }
        }
        let leaving = record.patches.iter().map(|patch| !wanted.contains_key(&patch.id)).collect();
        let olds = fetch_dir.olds(&self.tree, record);
        let mut survey = Survey::new(self.home.as_fd(), olds, leaving);
        let mut files = Vec::new();
        let mut new: Vec<Patch> = Vec::new();
        let mut says = Vec::new();
        let mut fetch = || {
            for (manifest, file) in self.fetch(&fetch_dir, &needed, source, reporter)? {
                let surveyed = self.survey(record, &wanted, &mut survey, manifest, file);
                let (file, patch, said) = surveyed.inspect_err(|error| {
                    if matches!(error, InstallError::Patch(..)) {
                        fetch_dir.forget(manifest).unwrap_or_else(|error| log::warn!("{error}"));
                    }
                })?;
                files.push(file);
                if record.patch(&manifest.id).is_none() {
                    new.push(patch);
                    says.extend(said);
                }
            }
            let missing = std::mem::take(&mut survey.missing);
            olds.unpack(missing, &mut |id, bytes| {
                let patch = wanted.get(id).ok_or_else(|| InstallRefusal::OldMissing(id.clone()))?;
                let ours = files.iter().find(|file| file.id == *id);
                let fetched = ours.map_or(patch.size_bytes, |_| 0);
                let bytes = fetched.saturating_add(bytes).saturating_add(reserve_bytes);
                self.check_space("", Needed { bytes, inodes: 1 })?;
                match ours {
                    Some(ours) => ours.file.try_clone().context("read", ".thimble/fetch"),
                    None => self
                        .fetch(&fetch_dir, &[patch], source, reporter)?
                        .pop()
                        .map(|(_, file)| file)
                        .ok_or_else(|| InstallRefusal::OldMissing(id.clone()).into()),
                }
            })
        };
        let fetched = fetch();
        // Scripts must find no other child of this process.
        source.end();
        fetched?;

        let memory = check::floor(config, record, &wanted, says, &new, self.ignores_floor)?;
        let staying = record.patches.iter().filter_map(|patch| Some((patch, wanted.get(&patch.id)?)));
        new.extend(staying.map(|(patch, manifest)| {
            let committed = patch.committed || manifest.committed;
            Patch { committed, ..patch.clone() }
        }));
        check::requires(record, &wanted, &new)?;
        let new = in_layer_order(with_slots(new, record));
        let surveyed = files.iter().map(|file| Surveyed {
            rank: new.iter().position(|patch| patch.id == file.id).unwrap_or_default() as u16,
            is_again: record.patch(&file.id).is_some(),
        });
        let surveyed: Vec<_> = surveyed.collect();
        let next_number = survey.next_number();
        let layout = survey.sorted().context("sort in", ".thimble")?;
        let planner = Planner::new(self, record, &new, &surveyed, next_number, memory, journal)?;
        let mut plan = planner.plan(&layout)?;
        drop(layout);

        self.check_own(journal)?;
        let added: Vec<_> = new.iter().filter(|patch| record.patch(&patch.id).is_none()).cloned().collect();
        let removed: Vec<_> = record.patches.iter().filter(|patch| !wanted.contains_key(&patch.id)).collect();
        let reboot_required = added.iter().chain(removed.iter().copied()).any(|p| p.reboot_required);
        check::lock(config, request.force, reboot_required)?;
        let room = self.find_room(record, journal, &mut plan, !added.is_empty(), reserve_bytes, source)?;

        let scripts = ScriptStore::open(&self.home)?;
        for patch in added.iter().filter(|patch| !patch.scripts.is_empty()) {
            if let Some(PatchFile { file, .. }) = files.iter_mut().find(|file| file.id == patch.id) {
                scripts.unpack(&patch.id, file)?;
            }
        }
        for patch in with_script(&added, Script::PreApply) {
            self.scripts.run(&patch.id, Script::PreApply, ScriptAction::Install)?;
        }
        for patch in with_script(removed.iter().copied(), Script::PreRemoveCheck) {
            self.scripts.run(&patch.id, Script::PreRemoveCheck, ScriptAction::Remove)?;
        }
        self.tree.forget();
        plan.kept.stay();
        let removed = removed.into_iter().map(|patch| patch.id.clone()).collect();
        Ok(Prepared { plan, files, room, fetch_dir, added, removed, reboot_required })
    }

    /// Reads a verified file: which patch it is, and where its members belong.
    fn survey(
        &self,
        record: &Record,
        wanted: &FlatMap<PatchId, ManifestPatch>,
        survey: &mut Survey<'_>,
        manifest: &ManifestPatch,
        mut file: File,
    ) -> Result<(PatchFile, Patch, Option<Says>), InstallError> {
        let id = &manifest.id;
        let metadata =
            archive::metadata(&file).map_err(|error| InstallError::Patch(id.clone(), Box::new(error)))?;
        file.rewind().context("read", ".thimble/fetch")?;
        if record.patch(id).is_none() {
            check::added(self.config, id, &metadata)?;
        }
        let first_number = survey.next_number();
        let (mut patch, linked) = survey.add(manifest, &metadata, &file)?;
        let nodetype = &self.config.node.nodetype;
        let is_required = |it: &&Requirement| it.concerns(nodetype) || wanted.contains_key(&it.id);
        patch.requires = metadata.requires.iter().filter(is_required).map(|it| it.id.clone()).collect();
        file.rewind().context("read", ".thimble/fetch")?;
        Ok((PatchFile { id: id.clone(), file, first_number, linked }, patch, metadata.says()))
    }

    /// Fetches and verifies the patch files that are needed.
    fn fetch<'n>(
        &self,
        fetch_dir: &FetchDir,
        needed: &[&'n ManifestPatch],
        source: &mut dyn Source,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<Vec<(&'n ManifestPatch, File)>, InstallError> {
        let keys = TrustedKeys::parse(&self.config.security.trusted_keys);
        let total: u64 = needed.iter().map(|patch| patch.size_bytes).sum();
        let mut fetched_bytes = 0u64;
        let mut fetched: Vec<(&'n ManifestPatch, FetchedFile)> = Vec::new();
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
        let mut files = Vec::new();
        for (patch, file) in fetched {
            let keys = keys.as_ref().map_err(|error| {
                InstallError::Patch(patch.id.clone(), Box::new(PatchError::Signature(error.clone())))
            })?;
            files.push((patch, fetch_dir.verify(source, patch, file, keys)?));
        }
        Ok(files)
    }
}

/// The installed patches whose file must be fetched again, because an object that comes back
/// is lost.
fn patches_to_fetch_again(
    record: &Record,
    wanted: &FlatMap<PatchId, ManifestPatch>,
) -> Result<FlatSet<PatchId>, InstallError> {
    let is_wanted: Vec<_> = record.patches.iter().map(|patch| wanted.contains_key(&patch.id)).collect();
    let mut lost = FlatSet::default();
    // Only the removal of one brings back the object of another.
    if is_wanted.iter().all(|is_wanted| *is_wanted) {
        return Ok(lost);
    }
    let is_wanted = |slot: u16| {
        let rank = record.rank_of(slot).unwrap_or_default();
        is_wanted.get(usize::from(rank)).copied().unwrap_or_default()
    };
    let mut items = record.items();
    loop {
        if let Some(segment) = items.segment()
            && segment.summary.slots.iter().all(|slot| is_wanted(*slot))
        {
            items.skip();
            continue;
        }
        let Some(item) = items.next_raw()? else { return Ok(lost) };
        if let Some(slot) = item.stack().and_then(|stack| lost_top(stack.lost(), is_wanted)) {
            lost.insert(record.id(record.rank_of(slot).unwrap_or_default()));
        }
    }
}

/// Gives each patch that is added a slot that no installed one has.
fn with_slots(mut patches: Vec<Patch>, record: &Record) -> Vec<Patch> {
    let mut free = (0..).filter(|slot| record.rank_of(*slot).is_none());
    for patch in patches.iter_mut().filter(|patch| record.patch(&patch.id).is_none()) {
        patch.slot = free.next().unwrap_or_default();
    }
    patches
}

fn in_layer_order(mut patches: Vec<Patch>) -> Vec<Patch> {
    let order: Vec<PatchId> = {
        let mut order: Vec<&Patch> = patches.iter().collect();
        layer_order(&mut order, |patch: &Patch| (&patch.id, &patch.requires));
        order.into_iter().map(|patch| patch.id.clone()).collect()
    };
    patches.sort_unstable_by_key(|patch| order.iter().position(|id| *id == patch.id));
    patches
}
