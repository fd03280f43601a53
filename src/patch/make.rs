//! Makes a patch file from a directory. The same tree always makes the same file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{env, fmt};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::PatchError;
use super::archive;
use super::caution::{Caution, Cautions};
use super::metadata::{Metadata, PathOwner};
use super::names::Names;
use crate::config::ConfigError;
use crate::limits;

/// Why no patch was made. No file is left.
#[derive(Debug)]
pub enum MakeError {
    /// A file could not be read or written.
    Io {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The metadata are invalid.
    Metadata(ConfigError),
    /// The directory has a file that must not be in a patch.
    Stray(PathBuf),
    /// It has neither `files/` nor `scripts/`.
    Empty(PathBuf),
    /// The tree has something that is neither a file, a directory nor a symbolic link.
    NotAFile {
        /// Its path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// `owners` in the metadata names a path that the patch does not have.
    NotThere(PathBuf),
    /// The patch would be refused on upload.
    Refused(PatchError),
}

/// A patch that was made.
#[derive(Debug)]
pub struct Made {
    /// The patch's file.
    pub file: PathBuf,
    /// What its maker should look at.
    pub cautions: Vec<Caution>,
}

impl fmt::Display for MakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Metadata(error) => error.fmt(f),
            Self::Stray(path) => write!(
                f,
                "{} is not allowed in a patch: only metadata.toml, files/ and scripts/ are",
                path.display()
            ),
            Self::Empty(dir) => {
                write!(f, "{} has neither files/ nor scripts/: the patch would do nothing", dir.display())
            }
            Self::NotAFile { path, what } => {
                write!(f, "{} is a {what}: only files, directories and links are allowed", path.display())
            }
            Self::NotThere(path) => write!(
                f,
                "metadata.toml lists /{} in `owners`, but files/ does not have it: correct the path",
                path.display()
            ),
            Self::Refused(error) => write!(f, "the patch would be refused: {error}"),
        }
    }
}

impl std::error::Error for MakeError {}

/// Packs `dir/metadata.toml`, `dir/files` and `dir/scripts` into `out`, or into
/// `ID.patch` in the current directory. Members are sorted by name; modes, links and times
/// in whole seconds are kept. Members belong to root, or with `keep_owners` to whom they
/// belong in `dir`, by number; `owners` in the metadata prevails. The maker then signs the
/// file with `minisign -S -H -m`.
///
/// # Errors
/// [`MakeError`]. A patch that would be refused on upload is refused here.
pub fn make(dir: &Path, out: Option<&Path>, keep_owners: bool) -> Result<Made, MakeError> {
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |error| MakeError::Io { path, error }
    };
    let description = dir.join("metadata.toml");
    let mut text = Vec::new();
    let file = File::open(&description).map_err(at(&description))?;
    file.take(limits::METADATA_BYTES + 1).read_to_end(&mut text).map_err(at(&description))?;
    let metadata = Metadata::parse_bytes(&text).map_err(MakeError::Metadata)?;

    let names = names(dir)?;
    if let Some(stray) =
        names.iter().find(|name| !["metadata.toml", "files", "scripts"].iter().any(|known| name == known))
    {
        return Err(MakeError::Stray(dir.join(stray)));
    }
    if names.iter().count() < 2 {
        return Err(MakeError::Empty(dir.to_path_buf()));
    }

    let is_missing = |owner: &&PathOwner| dir.join("files").join(&owner.path).symlink_metadata().is_err();
    if let Some(owner) = metadata.owners.iter().find(is_missing) {
        return Err(MakeError::NotThere(owner.path.clone()));
    }

    let out = match out {
        Some(out) => out.to_path_buf(),
        None => env::current_dir().map_err(at(Path::new(".")))?.join(format!("{}.patch", metadata.id)),
    };
    // Only a whole patch ever has the final name.
    let mut unfinished = out.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let owners = Owners { listed: &metadata.owners, are_kept: keep_owners };
    let made = pack(dir, &names, &owners, &unfinished)
        .and_then(|()| look(&unfinished))
        .and_then(|cautions| fs::rename(&unfinished, &out).map_err(at(&out)).map(|()| cautions));
    if made.is_err() {
        // Fails if the file could not be created.
        let _ = fs::remove_file(&unfinished);
    }
    made.map(|cautions| Made { file: out, cautions })
}

/// Reads a patch as an upload would.
fn look(path: &Path) -> Result<Vec<Caution>, MakeError> {
    let file = File::open(path).map_err(|error| MakeError::Io { path: path.to_path_buf(), error })?;
    let mut cautions = Cautions::new();
    archive::members(file, &mut |member| cautions.add(member)).map_err(MakeError::Refused)?;
    Ok(cautions.found())
}

/// Who owns the members.
struct Owners<'m> {
    listed: &'m [PathOwner],
    /// Members that are not listed keep their owner.
    are_kept: bool,
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

fn pack(dir: &Path, names: &Names, owners: &Owners<'_>, out: &Path) -> Result<(), MakeError> {
    let write = || -> io::Result<_> {
        let file = BufWriter::new(File::create(out)?);
        // No name and no time in gzip's header, so that equal trees make equal files.
        Ok(Builder::new(GzBuilder::new().mtime(0).write(file, Compression::best())))
    };
    let at_out = |error| MakeError::Io { path: out.to_path_buf(), error };
    let mut tar = write().map_err(at_out)?;
    for name in names.iter() {
        add(&mut tar, dir, owners, &dir.join(name))?;
    }
    let finish = || tar.into_inner()?.finish()?.into_inner()?.sync_all();
    finish().map_err(at_out)
}

/// Adds a path and everything below it.
fn add<W: Write>(
    tar: &mut Builder<W>,
    dir: &Path,
    owners: &Owners<'_>,
    path: &Path,
) -> Result<(), MakeError> {
    let at_path = |error| MakeError::Io { path: path.to_path_buf(), error };
    let inode = path.symlink_metadata().map_err(at_path)?;
    let name = path.strip_prefix(dir).unwrap_or(path);
    let mut header = Header::new_gnu();
    header.set_mode(inode.mode() & 0o7777);
    let (uid, gid) = owners.of(name, &inode);
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_mtime(inode.mtime().max(0).cast_unsigned());
    let kind = inode.file_type();
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        tar.append_data(&mut header, name, io::empty()).map_err(at_path)?;
        for below in names(path)?.iter() {
            add(tar, dir, owners, &path.join(below))?;
        }
        Ok(())
    } else if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        let target = fs::read_link(path).map_err(at_path)?;
        let target = target.as_os_str().as_bytes();
        // Not `append_link`, which normalizes the target: `a//b` would become `a/b`.
        if header.set_link_name_literal(target).is_err() {
            add_long_link(tar, target).map_err(at_path)?;
        }
        tar.append_data(&mut header, name, io::empty()).map_err(at_path)
    } else if kind.is_file() {
        header.set_entry_type(EntryType::Regular);
        header.set_size(inode.len());
        let content = File::open(path).map_err(at_path)?.take(inode.len());
        tar.append_data(&mut header, name, content).map_err(at_path)
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

/// Adds the long target of the link that follows, which does not fit its header.
fn add_long_link<W: Write>(tar: &mut Builder<W>, target: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongLink);
    header.set_path("././@LongLink")?;
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(target.len() as u64 + 1);
    header.set_cksum();
    tar.append(&header, target.chain(&[0][..]))
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Result<Names, MakeError> {
    match Names::read(dir) {
        Ok(names) => names.map_err(|error| MakeError::Refused(error.into())),
        Err(error) => Err(MakeError::Io { path: dir.to_path_buf(), error }),
    }
}
