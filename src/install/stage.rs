//! Unpacks a verified patch: its files into the kept directories, its scripts into
//! `.thimble/patches`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::duplicate::is_linkless;
use super::error::{ErrorContext, InstallError};
use super::holds::{self, Holds};
use super::holes;
use super::kept::{Kept, own_dir};
use super::olds::Olds;
use super::path_hash::path_hash;
use super::record::{Installed, Object};
use super::record_draft::Draft;
use super::sorter::{SortedItems, SortedIter};
use super::staged::{PatchFile, Staged};
use super::sys::{self, InodeKind, Stat};
use super::tree::Print;
use crate::failpoint;
use crate::patch::PatchError;
use crate::patch::archive::{self, ArchiveSection, Member, MemberKind, Sink};
use crate::patch::difference::Difference;
use crate::sorted::FlatSet;
use crate::types::PatchId;

/// Unpacks a patch's files into the kept directories, and writes the print of each to the
/// draft of the record.
pub(super) fn files(
    patch: &mut PatchFile,
    wanted: &mut Wanted<'_>,
    olds: Olds<'_>,
    kept: &Kept<'_>,
    draft: &mut Draft<'_>,
    unpacked: &mut dyn FnMut(u64),
) -> Result<(), InstallError> {
    let PatchFile { id, file, first_number, linked } = patch;
    let (number, sources) = (*first_number, HashMap::new());
    let mut sink = Files { number, linked, wanted, olds, kept, draft, sources, unpacked, failed: None };
    read(id, file, &mut sink).map_err(|error| with_file(error, sink.failed.take()))
}

/// The files and links to unpack, one after another.
pub(super) struct Wanted<'s> {
    items: SortedIter<'s, Staged>,
    next: Option<Staged>,
}

impl<'s> Wanted<'s> {
    /// All of them.
    pub fn new(staged: &'s SortedItems<Staged>) -> io::Result<Self> {
        let mut items = staged.iter()?;
        let next = items.next()?;
        Ok(Self { items, next })
    }

    /// The one with this number, if it is wanted. Asked for in the order of the numbers.
    fn take(&mut self, number: u64) -> io::Result<Option<Staged>> {
        let taken = self.next.take_if(|next| next.number == number);
        if taken.is_some() {
            self.next = self.items.next()?;
        }
        Ok(taken)
    }
}

/// The part of a file that is in memory at once, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

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

/// A file that was unpacked.
#[derive(Clone)]
struct Source {
    mount: String,
    name: String,
    granted: Stat,
    print: Print,
}

struct Files<'a, 'w, 'd> {
    /// The number of the next member.
    number: u64,
    linked: &'a FlatSet<u64>,
    wanted: &'a mut Wanted<'w>,
    olds: Olds<'a>,
    kept: &'a Kept<'a>,
    draft: &'a mut Draft<'d>,
    /// The files that others are hard links to, by the hashes of their paths.
    sources: HashMap<u64, Source>,
    unpacked: &'a mut dyn FnMut(u64),
    failed: Option<Failed>,
}

impl Files<'_, '_, '_> {
    /// Remembers what failed, if it did.
    fn note<T>(&mut self, verb: &'static str, path: &str, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|_| self.failed = Some((verb, path.to_owned())))
    }

    /// What is wanted of the next member.
    fn next(&mut self) -> io::Result<Option<Staged>> {
        self.number += 1;
        self.wanted.take(self.number - 1)
    }

    fn file(&mut self, member: &Member, staged: Option<Staged>, content: &mut dyn Read) -> io::Result<()> {
        let hash = path_hash(&member.path);
        let is_linked = self.linked.contains(&hash);
        // A file that is not wanted may have a hard link that is. The next sweep removes it.
        let (mount, name, path) = match &staged {
            Some(staged) => (staged.mount.clone(), staged.number.to_string(), staged.path.clone()),
            None if is_linked => {
                (String::new(), format!("spare-{}", self.number - 1), member.path.display().to_string())
            }
            None => return Ok(()),
        };
        let kept = self.kept;
        let dir = kept.dir(&mount).map_err(|_| io::ErrorKind::NotFound)?;
        failpoint::hit("staging a file");
        let mut file = self.note("unpack", &path, sys::create_new(dir, &name))?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            // Whole blocks, where holes may be.
            let mut len = 0;
            while len < BUFFER_BYTES {
                match content.read(buffer.get_mut(len..).unwrap_or_default()) {
                    Ok(0) => break,
                    Ok(more) => len += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        return self.note("unpack", &path, Err(error));
                    }
                    Err(error) => return Err(error),
                }
            }
            let bytes = buffer.get(..len).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            let written = match member.is_sparse {
                true => holes::write(&mut file, bytes),
                false => file.write_all(bytes),
            };
            self.note("unpack", &path, written)?;
            hasher.update(bytes);
            (self.unpacked)(len as u64);
        }
        if member.is_sparse {
            self.note("unpack", &path, holes::end(&mut file))?;
        }
        let holds = kept.holds(&mount);
        let granted = holds::grant(dir, &name, Some(file.as_fd()), &member.owner, &member.attributes, holds);
        let granted = self.note("set owner, mode, attributes and time of", &path, granted)?;
        let print = print(&granted, holds, &hasher.finalize());
        if is_linked {
            self.sources.insert(hash, Source { mount, name, granted, print });
        }
        staged.map_or(Ok(()), |staged| self.record(&staged, &granted, print))
    }

    /// A file of which the archive has the difference.
    fn difference(
        &mut self,
        difference: &Difference,
        member: &Member,
        staged: Option<Staged>,
        steps: &mut dyn Read,
    ) -> io::Result<()> {
        if staged.is_none() && !self.linked.contains(&path_hash(&member.path)) {
            return Ok(());
        }
        let old = self.olds.find(&member.path, difference).ok_or(io::ErrorKind::NotFound.into());
        let old = self.note("find the old content of", &member.path.display().to_string(), old)?;
        self.file(member, staged, &mut difference.apply(steps, &old))
    }

    /// A member that others may be hard links to is another name of this file.
    fn remember(&mut self, member: &Member, source: &Source) {
        let hash = path_hash(&member.path);
        if self.linked.contains(&hash) {
            self.sources.insert(hash, source.clone());
        }
    }

    fn link(&mut self, member: &Member, staged: &Staged, target: &Path) -> io::Result<()> {
        let Staged { mount, number, path, .. } = staged;
        let kept = self.kept;
        let dir = kept.dir(mount).map_err(|_| io::ErrorKind::NotFound)?;
        let name = number.to_string();
        let target = target.as_os_str().as_bytes();
        let holds = kept.holds(mount);
        failpoint::hit("staging a link");
        self.note("unpack the link", path, sys::symlink_at(target, dir, &name))?;
        let granted = holds::grant(dir, &name, None, &member.owner, &[], holds);
        let granted = self.note("set owner and time of", path, granted)?;
        self.record(staged, &granted, print(&granted, holds, &blake3::hash(target)))
    }

    fn record(&mut self, staged: &Staged, granted: &Stat, print: Print) -> io::Result<()> {
        let (number, mode, size_bytes) = (staged.number, granted.mode as u16, granted.size_bytes);
        let object = Object { number, mode, size_bytes, print };
        let written = self.draft.set_facts(staged.layers_at, staged.layer, &object);
        self.note("write", ".thimble/installed.next", written)
    }
}

/// The print of what is on the disk now.
fn print(granted: &Stat, holds: &Holds, content: &blake3::Hash) -> Print {
    if !holds.modes {
        return Print::of_content(content);
    }
    Print::new(granted.kind == InodeKind::Link, granted.mode, granted.uid, granted.gid, content)
}

impl Sink for Files<'_, '_, '_> {
    fn member(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        let staged = self.next()?;
        match (member.section, &member.kind, staged) {
            (ArchiveSection::Files, MemberKind::File { .. }, staged) => match &member.difference {
                Some(difference) => self.difference(difference, member, staged, content),
                None => self.file(member, staged, content),
            },
            (ArchiveSection::Files, MemberKind::Symlink { target }, Some(staged)) => {
                self.link(member, &staged, target)
            }
            _ => Ok(()),
        }
    }

    fn copy(&mut self, member: &Member, of: &Path) -> io::Result<()> {
        let staged = self.next()?;
        if member.section != ArchiveSection::Files {
            return Ok(());
        }
        let source = self.sources.get(&path_hash(of)).cloned().ok_or(io::ErrorKind::NotFound)?;
        let dir = self.kept.dir(&source.mount).map_err(|_| io::ErrorKind::NotFound)?;
        if let Some(staged) = staged.as_ref().filter(|staged| staged.mount == source.mount) {
            failpoint::hit("staging a hard link");
            match sys::link_at(dir, &source.name, dir, &staged.number.to_string()) {
                // The filesystem has none, or no more of this file: it is copied.
                Err(error) if is_linkless(&error) => {}
                linked => {
                    self.note("unpack the hard link", &staged.path, linked)?;
                    self.remember(member, &source);
                    return self.record(staged, &source.granted, source.print);
                }
            }
        }
        let mut content = sys::open_read(dir, &source.name)?;
        self.file(member, staged, &mut content)
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
    pub fn sweep(&self, record: &Installed) -> Result<(), InstallError> {
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
