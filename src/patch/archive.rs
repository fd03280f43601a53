//! Reads a patch's archive and checks the rules for its members.
//!
//! One pass over the stream. A member is passed to the [`Sink`] after everything that is
//! known about it by then has been checked. The archive's end is checked last, so the
//! result of a sink is valid only if [`read`] succeeds.

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::PatchError;
use super::attributes::Attributes;
use super::difference_header;
use super::fault::{ArchiveError, MemberFault, shown};
pub use super::member::{ArchiveSection, Attribute, Member, MemberKind, Owner, SCRIPTS};
use super::metadata::Metadata;
use super::path::normalized;
use super::raw::{RawKind, RawMember};
use super::tarball::Tarball;
use super::tree::{ArchiveTree, Known};
use crate::limits;

/// The kernel looks for the end of a script's first line in so many bytes.
const INTERPRETER_BYTES: u64 = 256;

/// Receives the members of an archive, in the archive's order. A directory may come after
/// its content, or not at all.
pub trait Sink {
    /// Receives a member, with its content if it is a file. Content that is not read is
    /// skipped. With [`Member::difference`] the content is steps, from which
    /// [`Difference::apply`](super::difference::Difference::apply) makes that of the file.
    ///
    /// # Errors
    /// Ends the reading; the error comes back as [`PatchError::Io`].
    fn member(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()>;

    /// Receives another name of the earlier file `of` in the same section: a hard link in
    /// the archive. Both names are meant to be one inode, so what the member itself says of
    /// owner, mode, time and attributes has no meaning if they are. Where they cannot be,
    /// the member is a file of its own, with what it says itself and the content of `of`.
    ///
    /// # Errors
    /// As [`Sink::member`].
    fn copy(&mut self, member: &Member, of: &Path) -> io::Result<()>;
}

/// An archive that was read to its end and is a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The patch's metadata.
    pub metadata: Metadata,
    /// How many members the sink has received.
    pub members: usize,
    /// The unpacked size of its files and scripts, in bytes.
    pub unpacked_bytes: u64,
}

/// Reads a whole archive, from the position of `file` to its end, and passes its members
/// to `sink`.
///
/// # Errors
/// [`PatchError`]: reading or the sink failed, or the archive is not a patch.
pub fn read(mut file: impl Read, sink: &mut dyn Sink) -> Result<Archive, PatchError> {
    walk(&mut file, sink)
}

/// Reads a whole archive and passes its members to `each`, without their content. Accepts
/// the same archives as [`read`].
///
/// # Errors
/// As [`read`].
pub fn members(mut file: impl Read, each: &mut dyn FnMut(&Member)) -> Result<Archive, PatchError> {
    struct Each<'e>(&'e mut dyn FnMut(&Member));
    impl Sink for Each<'_> {
        fn member(&mut self, member: &Member, _content: &mut dyn Read) -> io::Result<()> {
            (self.0)(member);
            Ok(())
        }
        fn copy(&mut self, member: &Member, _of: &Path) -> io::Result<()> {
            (self.0)(member);
            Ok(())
        }
    }
    walk(&mut file, &mut Each(each))
}

/// The metadata of a patch. Reads no further than to them.
///
/// # Errors
/// As [`read`].
pub fn metadata(mut file: impl Read) -> Result<Metadata, PatchError> {
    struct UpToThem(Option<Metadata>);
    impl Sink for UpToThem {
        fn member(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
            if member.section != ArchiveSection::Metadata {
                return Ok(());
            }
            let mut text = Vec::new();
            content.read_to_end(&mut text)?;
            self.0 = Metadata::parse_bytes(&text).ok();
            Err(io::ErrorKind::Interrupted.into())
        }
        fn copy(&mut self, _member: &Member, _of: &Path) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = UpToThem(None);
    let read = walk(&mut file, &mut sink);
    sink.0.map_or_else(|| read.map(|archive| archive.metadata), Ok)
}

/// Not generic, so that it is compiled once for all readers.
fn walk(file: &mut dyn Read, sink: &mut dyn Sink) -> Result<Archive, PatchError> {
    let mut tarball = Tarball::open(file)?;
    let mut seen = Seen::default();
    let mut metadata = None;
    let mut members = 0;
    while let Some(mut raw) = tarball.next()? {
        seen.count(&raw)?;
        let difference = difference_header::begin(&mut raw, &mut tarball)?;
        let Some((mut member, copy_of)) = seen.check(&mut raw)? else { continue };
        if let Some(difference) = difference {
            seen.old_bytes = seen.old_bytes.saturating_add(difference.old_bytes.min(difference.new_bytes));
            member.difference = Some(Box::new(difference));
        }
        members += 1;
        seen.count_unpacked(&member)?;
        let result = if let Some(of) = &copy_of {
            sink.copy(&member, of)
        } else if member.section == ArchiveSection::Metadata {
            let mut text = Vec::new();
            tarball.read_to_end(&mut text).map_err(|error| tarball.explain(error))?;
            metadata = Some(Metadata::parse_bytes(&text)?);
            sink.member(&member, &mut &text[..])
        } else {
            let mut content = Content { tarball: &mut tarball, error: None };
            let result = match member.section {
                ArchiveSection::Scripts => script(&raw, &member, &mut content, sink)?,
                _ => sink.member(&member, &mut content),
            };
            if let Some(kind) = content.error {
                return Err(tarball.explain(kind.into()));
            }
            result
        };
        result.map_err(PatchError::Io)?;
    }
    seen.check_ratio(tarball.read_bytes())?;
    let metadata = metadata.ok_or(ArchiveError::NoMetadata)?;
    if let Some(path) = metadata.config.iter().find(|path| !seen.has_file(path)) {
        return Err(ArchiveError::ConfigNotInFiles { path: format!("/{}", path.display()) }.into());
    }
    if let Some(path) = metadata.directories.iter().find(|path| !seen.has_directory(path)) {
        return Err(ArchiveError::DirectoryNotInFiles { path: format!("/{}", path.display()) }.into());
    }
    if metadata.floor.is_some() && members > 1 {
        return Err(ArchiveError::FloorWithContent.into());
    }
    for path in &metadata.remove {
        seen.remove(path)?;
    }
    Ok(Archive { metadata, members, unpacked_bytes: seen.unpacked_bytes })
}

/// Passes a script to the sink after checking its first line.
fn script(
    raw: &RawMember,
    member: &Member,
    content: &mut Content<'_, '_>,
    sink: &mut dyn Sink,
) -> Result<io::Result<()>, PatchError> {
    let mut first = Vec::new();
    if let Err(error) = content.by_ref().take(INTERPRETER_BYTES).read_to_end(&mut first) {
        return Ok(Err(error));
    }
    let line = first.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.starts_with(b"#!") && line.ends_with(b"\r") {
        return Err(MemberFault::CarriageReturn.of(&raw.name).into());
    }
    Ok(sink.member(member, &mut first.chain(content)))
}

/// A member's content for the sink. Remembers a failure to read, to tell a damaged
/// archive from a full disk.
struct Content<'a, 'f> {
    tarball: &'a mut Tarball<'f>,
    error: Option<io::ErrorKind>,
}

impl Read for Content<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.tarball.read(into).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.error = Some(error.kind());
            }
        })
    }
}

/// What has been read of an archive so far.
#[derive(Default)]
struct Seen {
    paths: ArchiveTree,
    headers: usize,
    directories_and_members: usize,
    names_bytes: usize,
    unpacked_bytes: u64,
    /// The part of that which differences take from what a host has.
    old_bytes: u64,
}

impl Seen {
    fn count(&mut self, raw: &RawMember) -> Result<(), ArchiveError> {
        self.headers += 1;
        self.names_bytes += raw.name.len() + raw.link.len();
        if self.headers > limits::PATCH_MEMBERS {
            return Err(ArchiveError::TooManyMembers);
        }
        if self.names_bytes > limits::PATCH_NAMES_BYTES {
            return Err(ArchiveError::TooManyNames);
        }
        Ok(())
    }

    /// Checks a member. Returns it with, for a hard link, the file that it copies; `None`
    /// for the directories of the sections, which are not installed.
    fn check(&mut self, raw: &mut RawMember) -> Result<Option<(Member, Option<PathBuf>)>, ArchiveError> {
        let refuse = |fault: MemberFault| fault.of(&raw.name);
        let whole = normalized(&raw.name).map_err(refuse)?;
        let (section, path) = match PathRole::of(&whole) {
            PathRole::Member(section, path) => (section, path),
            PathRole::SectionDir if raw.kind == RawKind::Directory => return Ok(None),
            PathRole::SectionDir | PathRole::Outside => return Err(refuse(MemberFault::OutsideSections)),
        };
        let mut copy_of = None;
        let (kind, known) = match raw.kind {
            RawKind::File => (MemberKind::File { size: raw.size_bytes }, Known::File(raw.size_bytes)),
            RawKind::Directory => (MemberKind::Directory, Known::Directory),
            RawKind::Symlink => {
                let target = link_target(&raw.link).map_err(refuse)?;
                (MemberKind::Symlink { target }, Known::Symlink)
            }
            RawKind::HardLink => {
                let (of, size) = self
                    .linked(section, &raw.link)
                    .ok_or_else(|| refuse(MemberFault::HardLink { target: shown(&raw.link) }))?;
                copy_of = Some(of);
                (MemberKind::File { size }, Known::File(size))
            }
        };
        match section {
            ArchiveSection::Files => {}
            ArchiveSection::Scripts => {
                if !path.to_str().is_some_and(|name| SCRIPTS.contains(&name)) {
                    return Err(refuse(MemberFault::UnknownScript));
                }
                if !matches!(kind, MemberKind::File { .. }) {
                    return Err(refuse(MemberFault::MustBeFile));
                }
                if raw.owner.mode & 0o100 == 0 {
                    return Err(refuse(MemberFault::NotExecutable));
                }
            }
            ArchiveSection::Metadata => {
                if raw.kind != RawKind::File {
                    return Err(refuse(MemberFault::MustBeFile));
                }
                if raw.size_bytes > limits::METADATA_BYTES {
                    return Err(refuse(MemberFault::TooLarge { most: limits::METADATA_BYTES }));
                }
            }
        }
        self.directories_and_members += self.paths.insert(&whole, known).map_err(refuse)?;
        if self.directories_and_members > limits::PATCH_MEMBERS {
            return Err(ArchiveError::TooManyMembers);
        }
        raw.attributes.check(&kind).map_err(refuse)?;
        let Attributes { kept: attributes, is_labelled } = std::mem::take(&mut raw.attributes);
        let member = Member {
            section,
            path: path.to_path_buf(),
            kind,
            owner: raw.owner,
            attributes,
            is_labelled,
            is_sparse: raw.is_sparse,
            difference: None,
        };
        Ok(Some((member, copy_of)))
    }

    /// The earlier file that a hard link names, below the section, and its size.
    fn linked(&self, section: ArchiveSection, link: &[u8]) -> Option<(PathBuf, u64)> {
        let whole = normalized(link).ok()?;
        match (PathRole::of(&whole), self.paths.get(&whole)?) {
            (PathRole::Member(there, path), Known::File(size)) if there == section => {
                Some((path.to_path_buf(), size))
            }
            _ => None,
        }
    }

    /// Adds the unpacked size of a member.
    fn count_unpacked(&mut self, member: &Member) -> Result<(), ArchiveError> {
        let MemberKind::File { size } = member.kind else { return Ok(()) };
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(size);
        let is_too_large = self.unpacked_bytes > limits::PATCH_UNPACKED_BYTES;
        if is_too_large { Err(ArchiveError::TooLarge) } else { Ok(()) }
    }

    /// Compares the unpacked size with that of the whole file, which is known at its end: the first
    /// member may be nearly all of it. Nothing is unpacked before an archive has been read once. gzip alone
    /// cannot reach the ratio of an archive bomb, but holes and hard links can. Where a filesystem
    /// has neither, they take this space.
    fn check_ratio(&self, file_bytes: u64) -> Result<(), ArchiveError> {
        let most = file_bytes.saturating_mul(limits::BOMB_RATIO).max(limits::BOMB_LEAST_BYTES);
        if self.unpacked_bytes.saturating_sub(self.old_bytes) > most {
            Err(ArchiveError::Bomb)
        } else {
            Ok(())
        }
    }

    /// Checks a path that the patch removes: one that it could have as a member, and has
    /// not.
    fn remove(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let whole = Path::new("files").join(path);
        let refused = |fault| ArchiveError::Removal { path: format!("/{}", path.display()), fault };
        normalized(whole.as_os_str().as_bytes()).map_err(|fault| refused(Some(fault)))?;
        self.directories_and_members +=
            self.paths.insert(&whole, Known::Removed).map_err(|_| refused(None))?;
        if self.directories_and_members > limits::PATCH_MEMBERS {
            return Err(ArchiveError::TooManyMembers);
        }
        Ok(())
    }

    fn has_file(&self, path: &Path) -> bool {
        matches!(self.paths.get(&Path::new("files").join(path)), Some(Known::File(_) | Known::Symlink))
    }

    /// Whether a directory is a member itself, and not only above one.
    fn has_directory(&self, path: &Path) -> bool {
        self.paths.get(&Path::new("files").join(path)) == Some(Known::Directory)
    }
}

/// The role of a normalized path in a patch.
enum PathRole<'a> {
    /// A member of it, at this path below its section.
    Member(ArchiveSection, &'a Path),
    /// The top directory or a section's, which are not installed.
    SectionDir,
    /// A path that a patch must not have.
    Outside,
}

impl<'a> PathRole<'a> {
    fn of(whole: &'a Path) -> Self {
        if whole == Path::new("metadata.toml") {
            return Self::Member(ArchiveSection::Metadata, whole);
        }
        for (name, section) in [("files", ArchiveSection::Files), ("scripts", ArchiveSection::Scripts)] {
            match whole.strip_prefix(name) {
                Ok(path) if path.as_os_str().is_empty() => return Self::SectionDir,
                Ok(path) => return Self::Member(section, path),
                Err(_) => {}
            }
        }
        if whole.as_os_str().is_empty() { Self::SectionDir } else { Self::Outside }
    }
}

/// The target of a symbolic link: any text that the system accepts.
fn link_target(link: &[u8]) -> Result<PathBuf, MemberFault> {
    let text = str::from_utf8(link).map_err(|_| MemberFault::NotUtf8)?;
    if text.is_empty() {
        return Err(MemberFault::BadHeader("link target"));
    }
    if text.chars().any(char::is_control) {
        return Err(MemberFault::ControlCharacter);
    }
    if text.len() > limits::PATH_BYTES {
        return Err(MemberFault::NameTooLong);
    }
    Ok(PathBuf::from(text))
}
