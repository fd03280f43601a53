//! Packs a tree: one member for each path, in the order of their names.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use tar::EntryType;

use super::attributes::{SELINUX, is_kept};
use super::caution::Caution;
use super::differ::differ;
use super::make_error::MakeError;
use super::member::{Attribute, Owner};
use super::metadata::{Metadata, PathOwner};
use super::names::Names;
use super::old_tree::{OldTree, Packed};
use super::sparse::Extent;
use super::tar_writer::{NewMember, TarWriter};
use super::{holes, sys};

/// Who owns the members.
#[derive(Clone, Copy)]
pub(super) struct Owners<'m> {
    /// `owners` in the metadata.
    pub(super) listed: &'m [PathOwner],
    /// Members that are not listed keep their owner.
    pub(super) are_kept: bool,
}

impl Owners<'_> {
    /// The owner and group of a member: of the longest path listed that it is or is below.
    fn of(&self, name: &Path, inode: &fs::Metadata) -> (u32, u32) {
        let listed = name.strip_prefix("files").ok().and_then(|path| {
            let above = self.listed.iter().filter(|owner| path.starts_with(&owner.path));
            above.max_by_key(|owner| owner.path.components().count())
        });
        match listed {
            Some(owner) => (owner.uid, owner.gid),
            None if self.are_kept => (inode.uid(), inode.gid()),
            None => (0, 0),
        }
    }
}

/// What is packed.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) dir: &'a Path,
    /// The names in it.
    pub(super) names: &'a Names,
    /// What `metadata.toml` has.
    pub(super) text: &'a [u8],
    /// The same, parsed.
    pub(super) metadata: &'a Metadata,
    pub(super) owners: Owners<'a>,
    /// What files may be differences to.
    pub(super) olds: &'a OldTree,
}

/// How many files of a patch travel how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Travel {
    /// A required patch has them: they do not travel.
    pub left_out: usize,
    /// As a difference.
    pub differences: usize,
    /// Whole.
    pub whole: usize,
}

/// Packs a tree into a file; files as differences to old ones where that is smaller. Returns the caution about
/// labels that are not packed, and how the files travel.
pub(super) fn pack(source: Source<'_>, out: &Path) -> Result<(Caution, Travel), MakeError> {
    let at_out = |error| MakeError::Io { path: out.to_path_buf(), error };
    let file = BufWriter::new(File::create(out).map_err(at_out)?);
    // No name and no time in gzip's header, so that equal trees make equal files.
    let gzip = GzBuilder::new().mtime(0).write(file, Compression::best());
    let (tar, links, labelled) = (TarWriter::new(gzip), HashMap::new(), Caution::labels());
    let mut pack = Pack { tar, source, links, labelled, names: HashMap::new(), travel: Travel::default() };
    if source.names.iter().any(|name| name == "files") {
        pack.count_names(&source.dir.join("files"))?;
    }
    for name in source.names.iter() {
        pack.add(&source.dir.join(name))?;
    }
    let Pack { tar, labelled, travel, .. } = pack;
    let finish = || tar.end()?.finish()?.into_inner()?.sync_all();
    finish().map_err(at_out)?;
    Ok((labelled, travel))
}

/// What makes two names one file: the inode, the section, and the owner, which `owners` may
/// have by the path.
type LinkKey = (u64, u64, bool, (u32, u32));

/// The first name of a file that has several.
struct FirstName {
    name: PathBuf,
    /// A required patch has it.
    is_left_out: bool,
}

struct Pack<'a> {
    tar: TarWriter<GzEncoder<BufWriter<File>>>,
    source: Source<'a>,
    travel: Travel,
    /// The first names of files that have several.
    links: HashMap<LinkKey, FirstName>,
    /// How many names such a file has in the tree: it may have others beside it.
    names: HashMap<LinkKey, u64>,
    labelled: Caution,
}

impl Pack<'_> {
    /// Counts the names of files that have several, below a directory.
    fn count_names(&mut self, dir: &Path) -> Result<(), MakeError> {
        for below in Names::read(dir)?.iter() {
            let path = dir.join(below);
            let inode =
                path.symlink_metadata().map_err(|error| MakeError::Io { path: path.clone(), error })?;
            if inode.is_dir() {
                self.count_names(&path)?;
            } else if inode.is_file() && inode.nlink() > 1 {
                let name = path.strip_prefix(self.source.dir).unwrap_or(&path);
                let key = (inode.dev(), inode.ino(), true, self.source.owners.of(name, &inode));
                *self.names.entry(key).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Adds a path and everything below it.
    fn add(&mut self, path: &Path) -> Result<(), MakeError> {
        let at_path = |error| MakeError::Io { path: path.to_path_buf(), error };
        let inode = path.symlink_metadata().map_err(at_path)?;
        let name = path.strip_prefix(self.source.dir).unwrap_or(path);
        let installed = name.strip_prefix("files").ok().filter(|name| !name.as_os_str().is_empty());
        let (uid, gid) = self.source.owners.of(name, &inode);
        let (mtime_s, mtime_ns) = (inode.mtime(), u32::try_from(inode.mtime_nsec()).unwrap_or(0));
        let owner = Owner { mode: inode.mode() & 0o7777, uid, gid, mtime_s, mtime_ns };
        let attributes = match installed {
            Some(installed) => self.attributes(path, installed)?,
            None => Vec::new(),
        };
        let member = |kind| NewMember { kind, name, link: &[], owner, attributes: &attributes };
        let kind = inode.file_type();
        if kind.is_dir() {
            self.tar.empty(&member(EntryType::Directory)).map_err(at_path)?;
            for below in Names::read(path)?.iter() {
                self.add(&path.join(below))?;
            }
            Ok(())
        } else if kind.is_symlink() {
            let target = fs::read_link(path).map_err(at_path)?;
            if let Some(path) = installed {
                let (target, owner) = (Some(&*target), &owner);
                let packed = Packed { path, owner, attributes: &[], target, first: path, names: 1 };
                if self.is_left_out(&packed, None).map_err(at_path)? {
                    return Ok(());
                }
            }
            let link = target.as_os_str().as_bytes();
            self.tar.empty(&NewMember { link, ..member(EntryType::Symlink) }).map_err(at_path)
        } else if kind.is_file() && name == Path::new("metadata.toml") {
            let (mut text, size_bytes) = (self.source.text, self.source.text.len() as u64);
            self.tar.file(&member(EntryType::Regular), &mut text, size_bytes).map_err(at_path)
        } else if kind.is_file() {
            let key = (inode.dev(), inode.ino(), installed.is_some(), (uid, gid));
            let first = self.links.get(&key).filter(|_| inode.nlink() > 1);
            let mut is_left_out = false;
            if let Some(path) = installed {
                let first = first.map_or(name, |first| &first.name);
                let first = &first.strip_prefix("files").unwrap_or(first).to_path_buf();
                let (owner, names) = (&owner, self.names.get(&key).copied().unwrap_or(1));
                let packed = Packed { path, owner, attributes: &attributes, target: None, first, names };
                let mut file = File::open(self.source.dir.join(name)).map_err(at_path)?;
                is_left_out = self.is_left_out(&packed, Some(&mut file)).map_err(at_path)?;
            }
            if is_left_out {
                if inode.nlink() > 1 {
                    let first = FirstName { name: name.to_path_buf(), is_left_out };
                    self.links.entry(key).or_insert(first);
                }
                return Ok(());
            }
            if inode.nlink() > 1
                && let Some(first) = self.links.get(&key).filter(|first| !first.is_left_out)
            {
                let link = first.name.as_os_str().as_bytes();
                let member = NewMember { link, attributes: &[], ..member(EntryType::Link) };
                return self.tar.empty(&member).map_err(at_path);
            }
            self.file(path, &member(EntryType::Regular), inode.len(), installed).map_err(at_path)?;
            if inode.nlink() > 1 {
                self.links.insert(key, FirstName { name: name.to_path_buf(), is_left_out });
            }
            Ok(())
        } else {
            let what = if kind.is_fifo() {
                "fifo"
            } else if kind.is_socket() {
                "socket"
            } else {
                "device"
            };
            Err(MakeError::NotAFile { path: path.to_path_buf(), what })
        }
    }

    /// Whether a required patch has this very file or link, so that it need not travel. What the
    /// metadata name must be in the archive.
    fn is_left_out(&mut self, packed: &Packed<'_>, file: Option<&mut File>) -> io::Result<bool> {
        let is_named = self.source.metadata.config.iter().any(|path| path == packed.path);
        let is_left_out = !is_named && self.source.olds.has(packed, file)?;
        self.travel.left_out += usize::from(is_left_out);
        Ok(is_left_out)
    }

    fn file(
        &mut self,
        path: &Path,
        member: &NewMember<'_>,
        size_bytes: u64,
        installed: Option<&Path>,
    ) -> io::Result<()> {
        let mut file = File::open(path)?;
        let extents = holes::extents(&file, size_bytes)?;
        if let Some(installed) = installed.filter(|_| extents.is_none())
            && let Some(old) = self.source.olds.old(installed)?
            && let Some(difference) = differ(&old, &mut file, size_bytes)?
        {
            self.travel.differences += 1;
            let name = &Path::new("deltas").join(installed);
            return self.tar.file(
                &NewMember { name, ..*member },
                &mut &difference[..],
                difference.len() as u64,
            );
        }
        self.travel.whole += usize::from(installed.is_some());
        match extents {
            None => self.tar.file(member, &mut Part { file: &file, at: 0 }, size_bytes),
            Some(extents) => {
                let part = |extent: &Extent| Ok(Part { file: &file, at: extent.offset });
                self.tar.sparse(member, &extents, size_bytes, part)
            }
        }
    }

    /// The extended attributes of a file that is packed, sorted by name.
    fn attributes(&mut self, path: &Path, installed: &Path) -> Result<Vec<Attribute>, MakeError> {
        let at_path = |error| MakeError::Io { path: path.to_path_buf(), error };
        let names = sys::attribute_names(path).map_err(at_path)?;
        let mut attributes = Vec::new();
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let text = String::from_utf8_lossy(name).into_owned();
            if is_kept(&text) {
                let name = CString::new(name).map_err(|error| at_path(error.into()))?;
                let value = sys::attribute(path, &name).map_err(at_path)?;
                attributes.push(Attribute { name: text, value });
            } else if text == SELINUX {
                self.labelled.add_path(installed, None);
            } else if !text.starts_with("system.") || text.starts_with("system.posix_acl") {
                // What else a filesystem tells as `system.` are its own views of the file.
                return Err(MakeError::Attribute { path: path.to_path_buf(), name: text });
            }
        }
        attributes.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(attributes)
    }
}

/// Reads a file from a place on. Looking for holes has moved the file's own place.
struct Part<'f> {
    file: &'f File,
    at: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(into, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}
