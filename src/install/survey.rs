//! Reads from the tree what a plan needs: where members go, and what is there.

use super::beside::beside;
use super::conflict::Conflict;
use super::error::InstallError;
use super::notice::Notice;
use super::plan::{Brings, NewDirectory, PatchFile, PatchLayout, PathFact};
use super::record::{Content, Patch, Record, Stack};
use super::scripts::Script;
use super::tree::RootTree;
use crate::patch::archive::{ArchiveSection, Index, MemberKind};
use crate::sorted::{FlatMap, FlatSet};
use crate::types::PatchId;
use crate::wire::frame::ManifestPatch;

/// Files deleted by hand that get a notice of their own.
const NOTICES: usize = 8;

/// The content of a patch's file and its paths on this host.
pub(super) fn layout(
    tree: &RootTree,
    record: &Record,
    manifest: &ManifestPatch,
    index: &Index,
) -> Result<(Patch, PatchLayout), InstallError> {
    let id = &manifest.id;
    let patched_by = |path: &str| Some(record.paths.get(path)?.top()?.patch.clone());
    let mut layout = PatchLayout::default();
    let mut scripts = Vec::new();
    for member in &index.members {
        let Some(path) = member.path.to_str() else { continue };
        match (member.section, &member.kind) {
            (ArchiveSection::Scripts, _) => scripts.extend(Script::from_name(path)),
            (ArchiveSection::Metadata, _) => {}
            (ArchiveSection::Files, MemberKind::Directory) => {
                let at = tree.resolve(id, path, true, &patched_by)?;
                let owner = &member.owner;
                for path in at.missing {
                    layout.missing.insert(path, at.mount.clone());
                }
                let (mode, uid, gid) = (owner.mode, owner.uid, owner.gid);
                layout.directories.push(NewDirectory { path: at.path, mount: at.mount, mode, uid, gid });
            }
            (ArchiveSection::Files, MemberKind::File { .. } | MemberKind::Symlink { .. }) => {
                let at = tree.resolve(id, path, false, &patched_by)?;
                let is_config = index.metadata.config.contains(&member.path);
                let size_bytes = if let MemberKind::File { size } = member.kind { size } else { 0 };
                let is_link = matches!(member.kind, MemberKind::Symlink { .. });
                let (name, owner) = (path.to_owned(), member.owner);
                let brings = Brings::Member { name, size_bytes, is_link, owner };
                layout.files.push(PatchFile { brings, at, is_config });
            }
        }
    }
    for path in index.metadata.remove.iter().filter_map(|path| path.to_str()) {
        let at = tree.resolve(id, path, false, &patched_by)?;
        layout.files.push(PatchFile { brings: Brings::Nothing, at, is_config: false });
    }
    let meta = index.metadata.entry_meta();
    let patch = Patch {
        id: id.clone(),
        hash: manifest.hash,
        requires: meta.requires.iter().cloned().collect(),
        unremovable: meta.unremovable,
        committed: manifest.committed,
        reboot_required: meta.reboot_required,
        scripts,
        directories: layout.directories.iter().map(|directory| directory.path.clone()).collect(),
    };
    Ok((patch, layout))
}

/// Keeps only the files whose layers were lost, of an installed patch that is fetched
/// again.
pub(super) fn only_lost(layout: PatchLayout, record: &Record, id: &PatchId) -> PatchLayout {
    let is_lost = |file: &PatchFile| {
        let stack = record.paths.get(&file.at.path);
        let mut layers = stack.into_iter().flat_map(|stack| &stack.layers);
        layers.any(|layer| layer.patch == *id && layer.content == Content::Lost)
    };
    PatchLayout { files: layout.files.into_iter().filter(is_lost).collect(), ..PatchLayout::default() }
}

/// The facts about the paths whose stack changes.
pub(super) fn facts(
    tree: &RootTree,
    record: &Record,
    touched: &FlatSet<String>,
) -> Result<FlatMap<String, PathFact>, InstallError> {
    let mut facts = FlatMap::default();
    for path in touched.iter() {
        let state = tree.inspect(path)?;
        let missing = tree.missing(path)?;
        let is_known = record.paths.contains_key(path);
        let free = |ending: &str| if is_known { free_name(tree, path, ending) } else { Ok(String::new()) };
        let (saved, new) = (free("thimble-saved")?, free("thimble-new")?);
        facts.insert(path.clone(), PathFact { state, missing, saved, new });
    }
    Ok(facts)
}

/// A name beside a path that is not taken.
pub(super) fn free_name(tree: &RootTree, path: &str, ending: &str) -> Result<String, InstallError> {
    let mut name = beside(path, ending);
    let mut tries = 1;
    while tree.exists(&name)? {
        tries += 1;
        name = beside(path, &format!("{ending}-{tries}"));
    }
    Ok(name)
}

/// Notices about files of installed patches that were deleted by hand or cannot be seen,
/// and that this install does not touch. They are not restored, and do not stop it: the
/// owner of a directory can bring that about.
pub(super) fn deleted(tree: &RootTree, record: &Record, touched: &FlatSet<String>) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut more = 0usize;
    let has_file = |stack: &Stack| stack.top().is_some_and(|top| top.content != Content::Nothing);
    let others = record.paths.iter().filter(|(path, stack)| has_file(stack) && !touched.contains(path));
    for (path, stack) in others {
        let seen = tree.exists(path);
        match (seen, stack.top()) {
            (Ok(true), _) => {}
            (seen, Some(top)) if notices.len() < NOTICES => {
                let (path, id) = (path.clone(), top.patch.clone());
                notices.push(match seen {
                    Err(error) => Notice::Unseen(path, id, error.to_string()),
                    Ok(_) => Notice::Missing(path, id),
                });
            }
            _ => more += 1,
        }
    }
    if more > 0 {
        notices.push(Notice::MoreMissing(more));
    }
    notices
}

/// The error for an object that must come back and is not kept any more.
pub(super) fn lost_object(record: &Record, path: &str) -> InstallError {
    let top = record.paths.get(path).and_then(|stack| stack.top());
    let id = top.map(|layer| layer.patch.clone()).unwrap_or_default();
    Conflict::Lost(id, path.to_owned()).into()
}
