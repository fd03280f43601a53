//! `show`: the metadata and content of a patch, from its file. Reads only, without the
//! lock.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use super::blobs::BlobStore;
use super::disk;
use super::error::JobFailure;
use super::map_file::Snapshot;
use crate::config::Config;
use crate::json::Value;
use crate::patch::archive::{self, ArchiveSection, Index, MemberKind};
use crate::repo::entry::{Entry, EntryState};
use crate::repo::refusal::ChangeRefusal;
use crate::types::PatchId;

/// Writes the data of these patches, in their order, as text or as one JSON
/// document `{"patches": [...]}`. Writes nothing unless all of them can be read.
///
/// # Errors
/// [`JobFailure`]: a patch is unknown or its file cannot be read, or writing to `out`
/// failed.
pub fn show(config: &Config, ids: &[PatchId], json: bool, out: &mut dyn Write) -> Result<(), JobFailure> {
    let repo = disk::dir(&config.node.state_dir);
    let entries = Snapshot::read(&repo)?.map(|snapshot| snapshot.entries).unwrap_or_default();
    let mut patches = Vec::new();
    for id in ids {
        let is_live = |entry: &&Entry| entry.id == *id && entry.state != EntryState::Deleted;
        let entry = entries.iter().find(is_live).ok_or(ChangeRefusal::Unknown { id })?;
        patches.push((entry, read(&repo, entry)?));
    }
    let written = if json {
        let patches = Value::list(patches.iter().map(|(entry, index)| document(entry, index)));
        writeln!(out, "{}", Value::object([("patches", patches)]))
    } else {
        patches.iter().try_for_each(|(entry, index)| page(entry, index, out))
    };
    written.map_err(|error| JobFailure::refused(format_args!("the answer could not be written: {error}")))
}

fn read(repo: &Path, entry: &Entry) -> Result<Index, JobFailure> {
    let Some(blob) = BlobStore::of(repo).open(&entry.hash)? else {
        return Err(JobFailure::refused(format_args!(
            "the file of {} is not in this controller's store: wait for it where another controller has it (thimble \
             status tells), or upload it again",
            entry.id
        )));
    };
    archive::index(blob.file).map_err(|error| JobFailure::of_patch(entry.id.as_str(), &error))
}

/// One patch in the layout of sw-patch's `show`.
fn page(entry: &Entry, index: &Index, out: &mut dyn Write) -> io::Result<()> {
    let metadata = &index.metadata;
    writeln!(out, "{}:", entry.id)?;
    field(out, "Release", &metadata.sw_version)?;
    field(out, "Repo State", state(entry.state))?;
    field(out, "Status", metadata.status.as_str())?;
    field(out, "Unremovable", yes_no(metadata.unremovable))?;
    field(out, "RR", yes_no(metadata.reboot_required))?;
    field(out, "Apply Active Release Only", yes_no(metadata.apply_active_release_only))?;
    field(out, "Summary", &metadata.summary)?;
    paragraphs(out, "Description", metadata.description.lines())?;
    paragraphs(out, "Install Instructions", metadata.install_instructions.lines())?;
    paragraphs(out, "Warnings", metadata.warnings.lines())?;
    paragraphs(out, "Requires", metadata.requires.iter())?;
    paragraphs(out, "Node Types", metadata.nodetypes.iter())?;
    paragraphs(out, "Packages", metadata.packages.iter())?;
    paragraphs(out, "Cautions", index.cautions())?;
    paragraphs(out, "Contents", contents(index))?;
    writeln!(out)
}

fn field(out: &mut dyn Write, label: &str, value: impl Display) -> io::Result<()> {
    writeln!(out, "    {:<26} {value}", format!("{label}:"))
}

/// A field of several lines, one below the other; nothing if there are none.
fn paragraphs<T: Display>(
    out: &mut dyn Write,
    label: &str,
    lines: impl IntoIterator<Item = T>,
) -> io::Result<()> {
    for (at, line) in lines.into_iter().enumerate() {
        let label = if at == 0 { format!("{label}:") } else { String::new() };
        let text = format!("    {label:<26} {line}");
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// The same as a JSON object.
fn document(entry: &Entry, index: &Index) -> Value {
    let metadata = &index.metadata;
    let texts = |texts: &mut dyn Iterator<Item = String>| Value::list(texts.map(Value::Text));
    Value::object([
        ("id", Value::text(&entry.id)),
        ("release", Value::text(&metadata.sw_version)),
        ("repo_state", Value::text(state(entry.state))),
        ("status", Value::text(metadata.status.as_str())),
        ("unremovable", metadata.unremovable.into()),
        ("reboot_required", metadata.reboot_required.into()),
        ("apply_active_release_only", metadata.apply_active_release_only.into()),
        ("summary", Value::text(&metadata.summary)),
        ("description", Value::text(&metadata.description)),
        ("install_instructions", Value::text(&metadata.install_instructions)),
        ("warnings", Value::text(&metadata.warnings)),
        ("requires", texts(&mut metadata.requires.iter().map(ToString::to_string))),
        ("nodetypes", texts(&mut metadata.nodetypes.iter().map(ToString::to_string))),
        ("packages", texts(&mut metadata.packages.iter().cloned())),
        ("contents", texts(&mut contents(index))),
        ("hash", Value::text(entry.hash)),
        ("size_bytes", entry.size_bytes.into()),
        ("unpacked_bytes", index.unpacked_bytes.into()),
        ("cautions", texts(&mut index.cautions().iter().map(ToString::to_string))),
    ])
}

/// The content of a patch: files by their path on the host, scripts by name, files that it
/// removes.
fn contents(index: &Index) -> impl Iterator<Item = String> {
    let removed = index.metadata.remove.iter().map(|path| format!("removes /{}", path.display()));
    let members = index.members.iter().filter_map(|member| match (member.section, &member.kind) {
        (ArchiveSection::Files, MemberKind::Directory) | (ArchiveSection::Metadata, _) => None,
        (ArchiveSection::Files, MemberKind::File { .. }) => Some(format!("/{}", member.path.display())),
        (ArchiveSection::Files, MemberKind::Symlink { target }) => {
            Some(format!("/{} -> {}", member.path.display(), target.display()))
        }
        (ArchiveSection::Scripts, _) => Some(format!("script {}", member.path.display())),
    });
    members.chain(removed)
}

const fn state(state: EntryState) -> &'static str {
    match state {
        EntryState::Deleted => "Deleted",
        EntryState::Available => "Available",
        EntryState::Applied => "Applied",
        EntryState::Committed => "Committed",
    }
}

const fn yes_no(yes: bool) -> &'static str {
    if yes { "Y" } else { "N" }
}
