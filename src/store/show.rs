//! `show`: the metadata and content of a patch, from its file. Reads only, without the
//! lock.
//!
//! A patch is read twice: the list of its content, which may be long, is written while it
//! is read.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::blobs::BlobStore;
use super::disk;
use super::error::JobFailure;
use super::map_file::Snapshot;
use crate::clock::unix_ms;
use crate::config::Config;
use crate::json::Value;
use crate::patch::archive::{self, Archive, ArchiveSection, Member, MemberKind, Sink};
use crate::patch::caution::{Caution, Cautions};
use crate::patch::difference::Difference;
use crate::patch::floor::{Floor, Required};
use crate::repo::entry::{Entry, EntryState};
use crate::repo::refusal::ChangeRefusal;
use crate::time::Day;
use crate::types::PatchId;

/// What is collected before it is written, in bytes.
const BUFFER_BYTES: usize = 8 * 1024;

/// Writes the data of these patches, in their order, as text or as one JSON
/// document `{"patches": [...]}`. Writes nothing unless all of them can be read.
///
/// # Errors
/// [`JobFailure`]: a patch is unknown or its file cannot be read, or writing to `out`
/// failed.
pub fn show(config: &Config, ids: &[PatchId], json: bool, out: &mut dyn Write) -> Result<(), JobFailure> {
    let repo = disk::dir(&config.node.state_dir);
    let entries = Snapshot::read(&repo)?.map(|snapshot| snapshot.entries).unwrap_or_default();
    let mut wanted = Vec::new();
    let mut only = None;
    for id in ids {
        let is_live = |entry: &&Entry| entry.id == *id && !entry.state.is_deleted();
        let entry = entries.iter().find(is_live).ok_or(ChangeRefusal::Unknown { id })?;
        // Metadata may be long: those of several patches are not kept, but read again.
        only = Some(Shown::read(&repo, entry)?).filter(|_| ids.len() == 1);
        wanted.push(entry);
    }
    let out = &mut Buffered { out, bytes: Vec::new() };
    if json {
        write(out, r#"{"patches":["#)?;
    }
    for (at, entry) in wanted.into_iter().enumerate() {
        let shown = match only.take() {
            Some(shown) => shown,
            None => Shown::read(&repo, entry)?,
        };
        if json {
            write(out, if at == 0 { "" } else { "," })?;
            shown.document(out)?;
        } else {
            shown.page(out)?;
        }
    }
    write(out, if json { "]}\n" } else { "" })?;
    out.flush().map_err(unwritten)
}

/// Collects what is written: each write to `out` is a message. Why not std's: a third of
/// its code is for slices of slices.
struct Buffered<'o> {
    out: &'o mut dyn Write,
    bytes: Vec<u8>,
}

impl Write for Buffered<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}

fn write(out: &mut dyn Write, text: &str) -> Result<(), JobFailure> {
    out.write_all(text.as_bytes()).map_err(unwritten)
}

fn unwritten(error: io::Error) -> JobFailure {
    JobFailure::refused(format_args!("the answer could not be written: {error}"))
}

/// A patch that was read once, without the list of its content.
struct Shown<'a> {
    repo: &'a Path,
    entry: &'a Entry,
    archive: Archive,
    cautions: Vec<Caution>,
}

impl<'a> Shown<'a> {
    fn read(repo: &'a Path, entry: &'a Entry) -> Result<Self, JobFailure> {
        let mut cautions = Cautions::new();
        let archive = archive::members(open(repo, entry)?, &mut |member| cautions.add(member))
            .map_err(|error| JobFailure::of_patch(entry.id.as_str(), &error))?;
        Ok(Self { repo, entry, archive, cautions: cautions.found() })
    }

    /// Calls `each` with every line of its content: files by their path on the host,
    /// scripts by name, files that it removes.
    fn contents(&self, each: &mut dyn FnMut(&str) -> io::Result<()>) -> Result<(), JobFailure> {
        let mut lines = Lines { each, failed: None };
        let read = archive::read(open(self.repo, self.entry)?, &mut lines);
        if let Some(error) = lines.failed {
            return Err(unwritten(error));
        }
        read.map_err(|error| JobFailure::of_patch(self.entry.id.as_str(), &error))?;
        let mut removed = self.archive.metadata.remove.iter();
        removed.try_for_each(|path| each(&format!("removes /{}", path.display()))).map_err(unwritten)
    }

    /// The patch in the layout of sw-patch's `show`.
    fn page(&self, out: &mut dyn Write) -> Result<(), JobFailure> {
        self.fields(out).map_err(unwritten)?;
        let mut label = "Contents";
        self.contents(&mut |line| paragraphs(out, std::mem::take(&mut label), [line]))?;
        write(out, "\n")
    }

    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        let metadata = &self.archive.metadata;
        writeln!(out, "{}:", self.entry.id)?;
        field(out, "Release", &metadata.sw_version)?;
        field(out, "Repo State", state(self.entry.state))?;
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
        paragraphs(out, "Supersedes", metadata.supersedes.iter())?;
        if let Some(floor) = &metadata.floor {
            let old = if floor.expires < today() { ", which has passed" } else { "" };
            field(out, "Floor", format_args!("serial {}, expires {}{old}", floor.serial, floor.expires))?;
            paragraphs(out, "Floor Requires", floor.require.iter().map(RequiredLine))?;
            paragraphs(out, "Floor Allows", floor.allows.iter())?;
        }
        paragraphs(out, "Packages", metadata.packages.iter())?;
        paragraphs(out, "Cautions", &self.cautions)
    }

    /// The same as a JSON object.
    fn document(&self, out: &mut dyn Write) -> Result<(), JobFailure> {
        let metadata = &self.archive.metadata;
        let texts = |texts: &mut dyn Iterator<Item = String>| Value::list(texts.map(Value::Text));
        let head = Value::object([
            ("id", Value::text(&self.entry.id)),
            ("release", Value::text(&metadata.sw_version)),
            ("repo_state", Value::text(state(self.entry.state))),
            ("status", Value::text(metadata.status.as_str())),
            ("unremovable", metadata.unremovable.into()),
            ("reboot_required", metadata.reboot_required.into()),
            ("apply_active_release_only", metadata.apply_active_release_only.into()),
            ("summary", Value::text(&metadata.summary)),
            ("description", Value::text(&metadata.description)),
            ("install_instructions", Value::text(&metadata.install_instructions)),
            ("warnings", Value::text(&metadata.warnings)),
            ("requires", texts(&mut metadata.requires.iter().map(|it| it.id.to_string()))),
            ("nodetypes", texts(&mut metadata.nodetypes.iter().map(ToString::to_string))),
            ("supersedes", texts(&mut metadata.supersedes.iter().map(ToString::to_string))),
            ("floor", metadata.floor.as_ref().map_or(Value::Null, floor_document)),
            ("packages", texts(&mut metadata.packages.iter().cloned())),
            ("contents", Value::list([])),
        ]);
        let tail = Value::object([
            ("hash", Value::text(self.entry.hash)),
            ("size_bytes", self.entry.size_bytes.into()),
            ("unpacked_bytes", self.archive.unpacked_bytes.into()),
            ("cautions", texts(&mut self.cautions.iter().map(ToString::to_string))),
        ]);
        // The list is left open for its items.
        let head = head.to_string();
        write(out, head.strip_suffix("]}").unwrap_or(&head))?;
        let mut comma = "";
        self.contents(&mut |line| {
            write!(out, "{}{}", std::mem::replace(&mut comma, ","), Value::text(line))
        })?;
        write(out, "],")?;
        write(out, tail.to_string().get(1..).unwrap_or_default())
    }
}

fn today() -> Day {
    Day::of_unix_ms(unix_ms())
}

/// A patch that a floor requires, on one line.
struct RequiredLine<'f>(&'f Required);

impl Display for RequiredLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Required { id, hash, nodetypes, release } = self.0;
        write!(f, "{id} (hash {hash:.12})")?;
        for (at, kind) in nodetypes.iter().enumerate() {
            write!(f, "{}{kind}", if at == 0 { " on " } else { ", " })?;
        }
        release.as_ref().map_or(Ok(()), |release| write!(f, " for {release}"))
    }
}

fn floor_document(floor: &Floor) -> Value {
    let require = floor.require.iter().map(|Required { id, hash, nodetypes, release }| {
        Value::object([
            ("id", Value::text(id)),
            ("hash", Value::text(hash)),
            ("nodetypes", Value::list(nodetypes.iter().map(Value::text))),
            ("release", release.as_ref().map_or(Value::Null, Value::text)),
        ])
    });
    Value::object([
        ("serial", u64::from(floor.serial).into()),
        ("expires", Value::text(floor.expires)),
        ("require", Value::list(require)),
        ("allows", Value::list(floor.allows.iter().map(Value::text))),
    ])
}

fn open(repo: &Path, entry: &Entry) -> Result<File, JobFailure> {
    match BlobStore::of(repo).open(&entry.hash)? {
        Some(blob) => Ok(blob.file),
        None => Err(JobFailure::refused(format_args!(
            "the file of {} is not in this controller's store: wait for it where another controller has it (thimble \
             status tells), or upload it again",
            entry.id
        ))),
    }
}

/// Passes on each member's line, and stops the reading when a line cannot be written.
struct Lines<'e> {
    each: &'e mut dyn FnMut(&str) -> io::Result<()>,
    failed: Option<io::Error>,
}

impl Lines<'_> {
    fn pass(&mut self, member: &Member) -> io::Result<()> {
        let Some(line) = content(member) else { return Ok(()) };
        (self.each)(&line).map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            kind.into()
        })
    }
}

impl Sink for Lines<'_> {
    fn member(&mut self, member: &Member, _content: &mut dyn Read) -> io::Result<()> {
        self.pass(member)
    }

    fn copy(&mut self, member: &Member, _of: &Path) -> io::Result<()> {
        self.pass(member)
    }
}

/// A member's line in the list of the content, if it has one.
fn content(member: &Member) -> Option<String> {
    let path = member.path.display();
    match (member.section, &member.kind) {
        (ArchiveSection::Files, MemberKind::Directory) | (ArchiveSection::Metadata, _) => None,
        (ArchiveSection::Files, MemberKind::File { .. }) => {
            let of = |difference: &Difference| match &difference.of {
                Some(id) => format!("/{path} (difference to {id})"),
                None => format!("/{path} (difference to the base system)"),
            };
            Some(member.difference.as_deref().map_or_else(|| format!("/{path}"), of))
        }
        (ArchiveSection::Files, MemberKind::Symlink { target }) => {
            Some(format!("/{path} -> {}", target.display()))
        }
        (ArchiveSection::Scripts, _) => Some(format!("script {path}")),
    }
}

fn field(out: &mut dyn Write, label: &str, value: impl Display) -> io::Result<()> {
    writeln!(out, "    {:<26} {value}", format!("{label}:"))
}

/// A field of several lines, one below the other; nothing if there are none. Without a
/// label they continue the field before.
fn paragraphs<T: Display>(
    out: &mut dyn Write,
    label: &str,
    lines: impl IntoIterator<Item = T>,
) -> io::Result<()> {
    for (at, line) in lines.into_iter().enumerate() {
        let label = if at == 0 && !label.is_empty() { format!("{label}:") } else { String::new() };
        let text = format!("    {label:<26} {line}");
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

const fn state(state: EntryState) -> &'static str {
    match state {
        EntryState::Deleted | EntryState::Voided => "Deleted",
        EntryState::Available => "Available",
        EntryState::Applied => "Applied",
        EntryState::Committed => "Committed",
    }
}

const fn yes_no(yes: bool) -> &'static str {
    if yes { "Y" } else { "N" }
}
