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
use super::make_error::MakeError;
use super::member::{Attribute, Owner};
use super::metadata::PathOwner;
use super::names::Names;
use super::sparse::Extent;
use super::tar_writer::{NewMember, TarWriter};
use super::{holes, sys};

/// Who owns the members.
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

/// Packs `names` in `dir`, and all that is below them, into a file, with this text as
/// `metadata.toml`. Returns the caution
/// about labels that are not packed.
pub(super) fn pack(
    dir: &Path,
    names: &Names,
    metadata: &[u8],
    owners: Owners<'_>,
    out: &Path,
) -> Result<Caution, MakeError> {
    let at_out = |error| MakeError::Io { path: out.to_path_buf(), error };
    let file = BufWriter::new(File::create(out).map_err(at_out)?);
    // No name and no time in gzip's header, so that equal trees make equal files.
    let gzip = GzBuilder::new().mtime(0).write(file, Compression::best());
    let (tar, links, labelled) = (TarWriter::new(gzip), HashMap::new(), Caution::labels());
    let mut pack = Pack { tar, dir, metadata, owners, links, labelled };
    for name in names.iter() {
        pack.add(&dir.join(name))?;
    }
    let Pack { tar, labelled, .. } = pack;
    let finish = || tar.end()?.finish()?.into_inner()?.sync_all();
    finish().map_err(at_out)?;
    Ok(labelled)
}

/// What makes two names one file: the inode, the section, and the owner, which `owners` may
/// have by the path.
type LinkKey = (u64, u64, bool, (u32, u32));

struct Pack<'a> {
    tar: TarWriter<GzEncoder<BufWriter<File>>>,
    dir: &'a Path,
    metadata: &'a [u8],
    owners: Owners<'a>,
    /// The first names of files that have several.
    links: HashMap<LinkKey, PathBuf>,
    labelled: Caution,
}

impl Pack<'_> {
    /// Adds a path and everything below it.
    fn add(&mut self, path: &Path) -> Result<(), MakeError> {
        let at_path = |error| MakeError::Io { path: path.to_path_buf(), error };
        let inode = path.symlink_metadata().map_err(at_path)?;
        let name = path.strip_prefix(self.dir).unwrap_or(path);
        let installed = name.strip_prefix("files").ok().filter(|name| !name.as_os_str().is_empty());
        let (uid, gid) = self.owners.of(name, &inode);
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
            let link = target.as_os_str().as_bytes();
            self.tar.empty(&NewMember { link, ..member(EntryType::Symlink) }).map_err(at_path)
        } else if kind.is_file() && name == Path::new("metadata.toml") {
            let (mut text, size_bytes) = (self.metadata, self.metadata.len() as u64);
            self.tar.file(&member(EntryType::Regular), &mut text, size_bytes).map_err(at_path)
        } else if kind.is_file() {
            let key = (inode.dev(), inode.ino(), installed.is_some(), (uid, gid));
            if inode.nlink() > 1
                && let Some(first) = self.links.get(&key)
            {
                let link = first.as_os_str().as_bytes();
                let member = NewMember { link, attributes: &[], ..member(EntryType::Link) };
                return self.tar.empty(&member).map_err(at_path);
            }
            self.file(path, &member(EntryType::Regular), inode.len()).map_err(at_path)?;
            if inode.nlink() > 1 {
                self.links.insert(key, name.to_path_buf());
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

    fn file(&mut self, path: &Path, member: &NewMember<'_>, size_bytes: u64) -> io::Result<()> {
        let file = File::open(path)?;
        match holes::extents(&file, size_bytes)? {
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
