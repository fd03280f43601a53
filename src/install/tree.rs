//! The tree that patches are laid over: finding a path in it, and what is there.
//!
//! A path here is relative to the root, with `/` between names, no `.`, no `..`
//! and no link on the way: [`RootTree::resolve`] makes such a path from a patch's
//! member while planning, following links of the base system inside the root.
//! What was planned is then opened step by step, following nothing.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{Conflict, ErrorContext, InstallError};
use super::sys::{self, InodeKind, Stat};
use crate::types::PatchId;

/// Links followed on the way to one path, as the kernel bounds it.
const LINKS: usize = 40;

/// What a file or link is known again by: kind, mode, owner and content, not time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Print(#[serde(with = "crate::types::bytes")] [u8; 32]);

impl Print {
    /// Of a file or link with this content (of a link: its target) by BLAKE3.
    pub fn new(is_link: bool, mode: u32, uid: u32, gid: u32, content: &blake3::Hash) -> Self {
        let mode = if is_link { 0 } else { mode };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[u8::from(is_link)]);
        for number in [mode, uid, gid] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(content.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    Nothing,
    Directory,
    /// A file or link; what is neither has no print.
    Inode(Option<Print>),
}

/// Where a member of a patch goes on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The path without a link on the way.
    pub path: String,
    /// The base system's links that were followed.
    pub through: Vec<String>,
    /// Directories on the way that are not there yet, the outermost first.
    pub missing: Vec<String>,
    /// Where the path's filesystem is mounted; `""` for the root's.
    pub mount: String,
}

/// The tree below the install root.
pub(super) struct RootTree {
    root: OwnedFd,
}

impl RootTree {
    /// Opens the root.
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self { root: File::open(root)?.into() })
    }

    /// The root itself.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens a directory, step by step.
    pub fn dir(&self, path: &str) -> io::Result<OwnedFd> {
        let mut dir = self.root.try_clone()?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            dir = sys::open_dir(dir.as_fd(), name)?;
        }
        Ok(dir)
    }

    /// Opens the directory that a path is in; also the path's last name.
    pub fn parent<'p>(&self, path: &'p str) -> io::Result<(OwnedFd, &'p str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.dir(parent)?, name))
    }

    /// What is at a path, with its print where it is a file or a link.
    pub fn look(&self, path: &str) -> Result<There, InstallError> {
        let there = self.parent(path).and_then(|(dir, name)| look_at(dir.as_fd(), name));
        match there {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(There::Nothing),
            other => other.context("read", path),
        }
    }

    /// The directories on the way to a path that are not there, the outermost first.
    pub fn missing(&self, path: &str) -> Result<Vec<String>, InstallError> {
        let mut missing = Vec::new();
        for (at, _) in path.rmatch_indices('/') {
            let (above, _) = path.split_at(at);
            match self.dir(above) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.insert(0, above.to_owned()),
                Err(error) => return Err(error).context("open", above),
            }
        }
        Ok(missing)
    }

    /// Whether anything is at a path.
    pub fn is_there(&self, path: &str) -> Result<bool, InstallError> {
        match self.parent(path).and_then(|(dir, name)| sys::stat_at(dir.as_fd(), name)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).context("look at", path),
        }
    }

    /// Where a member goes. Links of the base system are followed on the way
    /// there, and for a directory at its end too; never one that a patch made.
    pub fn resolve(
        &self,
        patch: &PatchId,
        member: &str,
        is_directory: bool,
        is_patched: &dyn Fn(&str) -> bool,
    ) -> Result<Resolved, InstallError> {
        let mut way = Way { steps: vec![], root: sys::stat_dir(self.root()).context("look at", "")? };
        let mut through = Vec::new();
        let mut ahead: VecDeque<String> = member.split('/').map(str::to_owned).collect();
        while let Some(name) = ahead.pop_front() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    way.steps.pop();
                    continue;
                }
                // A link of the base system's may lead there, and no patch has
                // any business in it.
                ".thimble" => return Err(Conflict::BadWay(patch.clone(), member.to_owned()).into()),
                _ => {}
            }
            let path = way.path_with(&name);
            let Some(dir) = way.here(self) else {
                way.steps.push(Walked { name, dir: None });
                continue;
            };
            let is_last = ahead.is_empty() && !is_directory;
            let stat = match sys::stat_at(dir, &name) {
                Ok(stat) => Some(stat),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).context("look at", &path),
            };
            match stat.map(|stat| stat.kind) {
                _ if is_last => way.steps.push(Walked { name, dir: None }),
                None => way.steps.push(Walked { name, dir: None }),
                Some(InodeKind::Directory) => {
                    let dir = sys::open_dir(dir, &name).context("open", &path)?;
                    let stat = sys::stat_dir(dir.as_fd()).context("look at", &path)?;
                    way.steps.push(Walked { name, dir: Some((dir, stat)) });
                }
                Some(InodeKind::Link) if is_patched(&path) => {
                    return Err(Conflict::ThroughPatchedLink(patch.clone(), path).into());
                }
                Some(InodeKind::Link) => {
                    let target = sys::read_link_at(dir, &name).context("read", &path)?;
                    let target = String::from_utf8(target)
                        .map_err(|_| Conflict::BadWay(patch.clone(), member.to_owned()))?;
                    through.push(path);
                    if through.len() > LINKS {
                        return Err(Conflict::BadWay(patch.clone(), member.to_owned()).into());
                    }
                    if target.starts_with('/') {
                        way.steps.clear();
                    }
                    for name in target.rsplit('/') {
                        ahead.push_front(name.to_owned());
                    }
                }
                Some(InodeKind::File | InodeKind::Other) => {
                    return Err(Conflict::NotDirectory(patch.clone(), path).into());
                }
            }
        }
        if way.steps.is_empty() && !is_directory {
            return Err(Conflict::IsDirectory(patch.clone(), member.to_owned()).into());
        }
        Ok(way.resolved(through, is_directory))
    }
}

/// One step of a way: a name, and the directory where there is one.
struct Walked {
    name: String,
    dir: Option<(OwnedFd, Stat)>,
}

/// A way from the root.
struct Way {
    steps: Vec<Walked>,
    root: Stat,
}

impl Way {
    fn path_with(&self, name: &str) -> String {
        let mut path: String = self.steps.iter().flat_map(|step| [step.name.as_str(), "/"]).collect();
        path.push_str(name);
        path
    }

    /// The directory that the way has come to, unless it is not there yet.
    fn here<'a>(&'a self, tree: &'a RootTree) -> Option<BorrowedFd<'a>> {
        match self.steps.last() {
            None => Some(tree.root()),
            Some(step) => step.dir.as_ref().map(|(dir, _)| dir.as_fd()),
        }
    }

    fn resolved(&self, through: Vec<String>, is_directory: bool) -> Resolved {
        let mut resolved =
            Resolved { path: String::new(), through, missing: Vec::new(), mount: String::new() };
        let mut above = (self.root.device, self.root.mount);
        for (at, step) in self.steps.iter().enumerate() {
            if at > 0 {
                resolved.path.push('/');
            }
            resolved.path.push_str(&step.name);
            match &step.dir {
                Some((_, stat)) if (stat.device, stat.mount) != above => {
                    above = (stat.device, stat.mount);
                    resolved.mount.clone_from(&resolved.path);
                }
                Some(_) => {}
                None if is_directory || at + 1 < self.steps.len() => {
                    resolved.missing.push(resolved.path.clone());
                }
                None => {}
            }
        }
        resolved
    }
}

/// What has this name in a directory.
pub(super) fn look_at(dir: BorrowedFd<'_>, name: &str) -> io::Result<There> {
    let stat = sys::stat_at(dir, name)?;
    let content = match stat.kind {
        InodeKind::Directory => return Ok(There::Directory),
        InodeKind::Other => return Ok(There::Inode(None)),
        InodeKind::Link => blake3::hash(&sys::read_link_at(dir, name)?),
        InodeKind::File => hash_file(&mut sys::open_read(dir, name)?)?,
    };
    let is_link = stat.kind == InodeKind::Link;
    Ok(There::Inode(Some(Print::new(is_link, stat.mode, stat.uid, stat.gid, &content))))
}

fn hash_file(file: &mut File) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            len => hasher.update(buffer.get(..len).unwrap_or_default()),
        };
    }
}
