//! Unpacks a verified patch: its files into the kept directories, its scripts into
//! `.thimble/patches`.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::{ErrorContext, InstallError};
use super::holds::{self, Holds};
use super::kept::{Kept, own_dir};
use super::plan::Staged;
use super::record::Record;
use super::sys::{self, InodeKind, Stat};
use super::tree::Print;
use crate::failpoint;
use crate::patch::PatchError;
use crate::patch::archive::{self, ArchiveSection, Member, MemberKind, Sink};
use crate::sorted::{FlatMap, FlatSet};
use crate::types::PatchId;

/// Unpacks a patch's files into the kept directories. Returns the print of each.
pub(super) fn files<'a>(
    id: &PatchId,
    file: &mut File,
    wanted: &[&'a Staged],
    kept: &'a Kept<'_>,
    unpacked: &'a mut dyn FnMut(u64),
) -> Result<Vec<(&'a Staged, Print)>, InstallError> {
    let wanted = wanted.iter().map(|staged| (staged.member.as_str(), *staged)).collect();
    let mut sink = Files { wanted, kept, prints: Vec::new(), unpacked, failed: None };
    read(id, file, &mut sink).map_err(|error| with_file(error, sink.failed.take()))?;
    Ok(sink.prints)
}

/// What could not be done to a file that is unpacked: a verb, and the file's path.
type Failed = (&'static str, String);

/// Adds to an error of unpacking what could not be done to which file.
fn with_file(error: InstallError, failed: Option<Failed>) -> InstallError {
    match (error, failed) {
        (InstallError::Patch(id, error), Some((verb, path))) => match *error {
            PatchError::Io(error) => InstallError::Io { verb, path, error },
            other => InstallError::Patch(id, Box::new(other)),
        },
        (error, _) => error,
    }
}

fn read(id: &PatchId, file: &mut File, sink: &mut dyn Sink) -> Result<(), InstallError> {
    file.rewind().context("read", ".thimble/fetch")?;
    archive::read(file, sink).map(drop).map_err(|error| InstallError::Patch(id.clone(), Box::new(error)))
}

struct Files<'a> {
    wanted: FlatMap<&'a str, &'a Staged>,
    kept: &'a Kept<'a>,
    prints: Vec<(&'a Staged, Print)>,
    unpacked: &'a mut dyn FnMut(u64),
    failed: Option<Failed>,
}

impl<'a> Files<'a> {
    /// Remembers what failed, if it did.
    fn note<T>(&mut self, verb: &'static str, member: &Member, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|_| {
            let path = member.path.to_string_lossy();
            let staged = self.wanted.get(&*path).map(|staged| staged.path.clone());
            self.failed = Some((verb, staged.unwrap_or_else(|| path.into_owned())));
        })
    }

    /// The name that a file of the archive is unpacked to. A file that is not wanted gets
    /// one too, which the next sweep removes: a hard link to it may be wanted.
    fn target(&self, path: &Path) -> Option<(BorrowedFd<'a>, String)> {
        let path = path.to_str()?;
        match self.wanted.get(path) {
            Some(staged) => Some((self.kept.dir(&staged.mount).ok()?, staged.number.to_string())),
            None => Some((self.kept.dir("").ok()?, format!("spare-{}", blake3::hash(path.as_bytes())))),
        }
    }

    fn file(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        let (dir, name) = self.target(&member.path).ok_or(io::ErrorKind::NotFound)?;
        failpoint::hit("staging a file");
        let mut file = self.note("unpack", member, sys::create_new(dir, &name))?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let len = match content.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let bytes = buffer.get(..len).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            self.note("unpack", member, file.write_all(bytes))?;
            hasher.update(bytes);
            (self.unpacked)(len as u64);
        }
        let staged = self.wanted.get(member.path.to_str().unwrap_or_default()).copied();
        let holds = self.kept.holds(staged.map_or("", |staged| &staged.mount));
        let granted = holds::grant(dir, &name, Some(file.as_fd()), &member.owner, holds);
        let granted = self.note("set owner, mode and time of", member, granted)?;
        self.prints.extend(staged.map(|staged| (staged, print(&granted, holds, &hasher.finalize()))));
        Ok(())
    }

    fn link(&mut self, member: &Member, target: &Path) -> io::Result<()> {
        let staged = self.wanted.get(member.path.to_str().unwrap_or_default()).copied();
        let Some(staged) = staged else { return Ok(()) };
        let dir = self.kept.dir(&staged.mount).map_err(|_| io::ErrorKind::NotFound)?;
        let name = staged.number.to_string();
        let target = target.as_os_str().as_bytes();
        let holds = self.kept.holds(&staged.mount);
        failpoint::hit("staging a link");
        self.note("unpack the link", member, sys::symlink_at(target, dir, &name))?;
        let granted = holds::grant(dir, &name, None, &member.owner, holds);
        let granted = self.note("set owner and time of", member, granted)?;
        self.prints.push((staged, print(&granted, holds, &blake3::hash(target))));
        Ok(())
    }
}

/// The print of what is on the disk now.
fn print(granted: &Stat, holds: &Holds, content: &blake3::Hash) -> Print {
    if !holds.modes {
        return Print::of_content(content);
    }
    Print::new(granted.kind == InodeKind::Link, granted.mode, granted.uid, granted.gid, content)
}

impl Sink for Files<'_> {
    fn member(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        match (member.section, &member.kind) {
            (ArchiveSection::Files, MemberKind::File { .. }) => self.file(member, content),
            (ArchiveSection::Files, MemberKind::Symlink { target }) => self.link(member, target),
            _ => Ok(()),
        }
    }

    fn copy(&mut self, member: &Member, of: &Path) -> io::Result<()> {
        if member.section != ArchiveSection::Files {
            return Ok(());
        }
        let (dir, name) = self.target(of).ok_or(io::ErrorKind::NotFound)?;
        let mut content = sys::open_read(dir, &name)?;
        self.file(member, &mut content)
    }
}

/// The scripts of patches, in `.thimble/patches/ID/scripts`.
pub(super) struct ScriptStore {
    dir: OwnedFd,
}

impl ScriptStore {
    /// Opens the directory, making it if it is missing.
    pub fn open(home: &OwnedFd) -> Result<Self, InstallError> {
        own_dir(home.as_fd(), "patches", true).context("open", ".thimble/patches").map(|dir| Self { dir })
    }

    /// Unpacks a patch's scripts, replacing those that are there.
    pub fn unpack(&self, id: &PatchId, file: &mut File) -> Result<(), InstallError> {
        self.remove(id.as_str())?;
        let dir = own_dir(self.dir.as_fd(), id.as_str(), true)
            .and_then(|dir| own_dir(dir.as_fd(), "scripts", true))
            .context("make", &format!(".thimble/patches/{id}"))?;
        let mut sink = ScriptFiles { dir, patch: id, failed: None };
        read(id, file, &mut sink).map_err(|error| with_file(error, sink.failed.take()))
    }

    fn remove(&self, id: &str) -> Result<(), InstallError> {
        let store = self.dir.as_fd();
        let empty = || -> io::Result<()> {
            let patch = sys::open_dir(store, id)?;
            match sys::open_dir(patch.as_fd(), "scripts") {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => {
                    let scripts = other?;
                    for name in sys::names(scripts.as_fd())? {
                        failpoint::hit("removing a script");
                        sys::remove_if_there(scripts.as_fd(), &name)?;
                    }
                    failpoint::hit("removing a directory of scripts");
                    sys::rmdir_at(patch.as_fd(), "scripts")?;
                }
            }
            failpoint::hit("removing a patch's directory");
            sys::rmdir_at(store, id)
        };
        match empty() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.context("remove", &format!(".thimble/patches/{id}")),
        }
    }

    /// Removes the scripts of patches that are not in the record.
    pub fn sweep(&self, record: &Record) -> Result<(), InstallError> {
        let known: FlatSet<_> = record.patches.iter().map(|patch| patch.id.as_str()).collect();
        for name in sys::names(self.dir.as_fd()).context("list", ".thimble/patches")? {
            if !known.contains(name.as_str()) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }
}

struct ScriptFiles<'p> {
    dir: OwnedFd,
    patch: &'p PatchId,
    failed: Option<Failed>,
}

impl ScriptFiles<'_> {
    fn make(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        let name = member.path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        failpoint::hit("unpacking a script");
        let mut make = || {
            let mut file = sys::create_new(self.dir.as_fd(), name)?;
            io::copy(content, &mut file)?;
            sys::chmod(file.as_fd(), 0o700)?;
            file.sync_all()
        };
        make().inspect_err(|_| {
            self.failed = Some(("unpack", format!(".thimble/patches/{}/scripts/{name}", self.patch)));
        })
    }
}

impl Sink for ScriptFiles<'_> {
    fn member(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        if member.section == ArchiveSection::Scripts { self.make(member, content) } else { Ok(()) }
    }

    fn copy(&mut self, member: &Member, of: &Path) -> io::Result<()> {
        if member.section != ArchiveSection::Scripts {
            return Ok(());
        }
        let of = of.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let mut content = sys::open_read(self.dir.as_fd(), of)?;
        self.make(member, &mut content)
    }
}
