//! The tree that patches are installed in: resolving paths, and reading what is there.
//!
//! A path here is relative to the root, with `/` between names, without `.` and `..`, and
//! without a symbolic link in any directory of it. Planning makes such a path from a
//! patch's member with [`RootTree::resolve`], which follows links of the base system
//! inside the root, if nobody but root can have made or moved them. Later steps open a
//! planned path name by name and follow no link, so a user who owns a directory on the
//! way can make a path absent, and nothing else.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::conflict::Conflict;
use super::error::{ErrorContext, InstallError};
use super::order::is_below;
use super::sys::{self, InodeKind, Stat};
use super::users_mounts;
use crate::types::PatchId;

/// The most links that are followed in one path: the kernel's bound.
const LINKS: usize = 40;

/// The longest path of a directory on a host, in bytes. Links may lead to deeper ones than
/// a patch may have.
const PATH_BYTES: usize = 32 * 1024;

/// Identifies a file or symbolic link as unchanged: a hash of type, mode, owner and
/// content, not of the time. Mode and owner are those that the filesystem granted. Where
/// it has no mode for each file, but one that a mount option says, content alone counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Print(#[serde(with = "crate::types::bytes")] [u8; 32]);

impl Print {
    /// The print of a file or link, from the BLAKE3 hash of its content (of a link, its
    /// target).
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

    /// Its bytes, for the disk.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A print from its bytes, if there are as many.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The print of a file on a filesystem that has no mode for each.
    pub fn of_content(content: &blake3::Hash) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"content").update(content.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its permission bits.
    pub mode: u16,
    /// The prints of a file or link, with mode and owner and of the content alone, if they
    /// were asked for and its size is the expected one.
    prints: Option<(Print, Print)>,
}

impl Found {
    /// Whether it is what this print was taken of.
    pub fn is(&self, print: &Print) -> bool {
        self.prints.is_some_and(|(whole, content)| whole == *print || content == *print)
    }
}

/// The state of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathState {
    Nothing,
    Directory,
    /// A file that something is mounted on.
    MountPoint,
    /// Anything else.
    Inode(Found),
}

/// A directory of a patch, on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResolvedDir {
    /// The path, without symbolic links.
    pub path: String,
    /// The base system's links that were followed.
    pub through: Vec<String>,
    /// The length of the path's part that is the outermost directory that does not exist.
    pub missing_from: Option<usize>,
    /// The mount point of the path's filesystem; `""` for the root's.
    pub mount: String,
}

impl ResolvedDir {
    /// The path of a name in it.
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) }
    }

    /// The directories that do not exist yet, the outermost first.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let ends = self.path.match_indices('/').map(|(at, _)| at).chain([self.path.len()]);
        let from = self.missing_from.unwrap_or(usize::MAX);
        ends.filter(move |end| *end >= from).filter_map(|end| self.path.get(..end))
    }
}

/// The directories of a path that do not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// The outermost first.
    pub directories: Vec<String>,
    /// The first of them is something else, which is in the way.
    pub is_in_the_way: bool,
}

/// What patches have to do with the way to a member of another.
pub(super) trait OnTheWay {
    /// The installed patch that has its file at a path.
    fn patch_at(&self, path: &str) -> Result<Option<PatchId>, InstallError>;

    /// What will be at a path where something other than a directory is.
    fn after(&self, path: &str) -> Result<After, InstallError>;

    /// The same for a path where nothing is.
    fn after_nothing(&self, path: &str) -> Result<After, InstallError>;
}

/// What will be at a path once the patches that leave have left it.
pub(super) enum After {
    /// What is there.
    Same,
    /// Nothing.
    Nothing,
    /// What was there before any patch: it has this name in this directory.
    Kept(OwnedFd, String),
}

/// The tree below the install root.
pub(super) struct RootTree {
    root: OwnedFd,
    path: PathBuf,
    /// Where users have mounted filesystems of their own.
    users_mounts: RefCell<Vec<String>>,
    /// The directory that was opened last: the paths of one come one after another.
    last: RefCell<Option<(String, Rc<OwnedFd>)>>,
}

impl RootTree {
    /// Opens the root.
    pub fn open(root: &Path) -> io::Result<Self> {
        let users_mounts = RefCell::new(users_mounts::below(root));
        let path = root.to_owned();
        Ok(Self { root: File::open(root)?.into(), path, users_mounts, last: RefCell::default() })
    }

    /// The root itself.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether a path is on a filesystem that a user has mounted. Nothing on it is touched: his
    /// program answers every call there as he likes, or never. So it counts as absent.
    pub fn is_users(&self, path: &str) -> bool {
        self.users_mounts.borrow().iter().any(|mount| path == mount || is_below(path, mount))
    }

    /// Opens a directory, name by name: in one call where the kernel can do that.
    pub fn dir(&self, path: &str) -> io::Result<OwnedFd> {
        if self.is_users(path) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if !path.is_empty()
            && let Ok(dir) = sys::open_dir_below(self.root.as_fd(), path)
        {
            return Ok(dir);
        }
        let mut dir = self.root.try_clone()?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            dir = sys::open_dir(dir.as_fd(), name)?;
        }
        Ok(dir)
    }

    /// Opens the directory that a path is in. Returns it with the path's last name.
    pub fn parent<'p>(&self, path: &'p str) -> io::Result<(Rc<OwnedFd>, &'p str)> {
        if self.is_users(path) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut last = self.last.borrow_mut();
        if let Some((path, dir)) = &*last
            && path == parent
        {
            return Ok((Rc::clone(dir), name));
        }
        let dir = Rc::new(self.dir(parent)?);
        *last = Some((parent.to_owned(), Rc::clone(&dir)));
        Ok((dir, name))
    }

    /// Forgets the directory that was opened last, and what users had mounted. Call it where others had time to put
    /// something else in its place: after scripts, and between the steps of an install.
    pub fn forget(&self) {
        self.last.take();
        self.users_mounts.replace(users_mounts::below(&self.path));
    }

    /// The state of a path. If it has this size, it is read for its prints.
    pub fn inspect(&self, path: &str, size_bytes: Option<u64>) -> Result<PathState, InstallError> {
        let there = self.parent(path).and_then(|(dir, name)| inspect_at(dir.as_fd(), name, size_bytes));
        match there {
            Err(error) if is_absent(&error) => Ok(PathState::Nothing),
            other => other.context("read", path),
        }
    }

    /// The directories of a path that do not exist.
    pub fn missing(&self, path: &str) -> Result<Missing, InstallError> {
        let mut missing = Missing::default();
        if self.parent(path).is_ok() {
            return Ok(missing);
        }
        for (at, _) in path.rmatch_indices('/') {
            let (above, _) = path.split_at(at);
            match self.dir(above) {
                Ok(_) => break,
                Err(error) if is_absent(&error) => {
                    missing.directories.insert(0, above.to_owned());
                    missing.is_in_the_way = error.kind() == io::ErrorKind::NotADirectory;
                }
                Err(error) => return Err(error).context("open", above),
            }
        }
        Ok(missing)
    }

    /// Whether anything is at a path.
    pub fn exists(&self, path: &str) -> Result<bool, InstallError> {
        match self.parent(path).and_then(|(dir, name)| sys::stat_at(dir.as_fd(), name)) {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error).context("look at", path),
        }
    }

    /// The attributes of a directory.
    pub fn directory_stat(&self, path: &str) -> Result<Stat, InstallError> {
        self.dir(path).and_then(|dir| sys::stat_dir(dir.as_fd())).context("look at", path)
    }

    /// The size of what is at a path, in bytes.
    pub fn size_bytes(&self, path: &str) -> Result<u64, InstallError> {
        let stat = self.parent(path).and_then(|(dir, name)| sys::stat_at(dir.as_fd(), name));
        stat.map(|stat| stat.size_bytes).context("look at", path)
    }

    /// Resolves a directory of a patch, as it will be without the patches that leave. Follows
    /// links of the base system, and tells which. Refuses those that somebody other than root
    /// owns, or could have put where they are: they would lead a patch's files, and their
    /// owners, to a place of his choice. `member` is the path for an error.
    pub fn resolve(
        &self,
        patch: &PatchId,
        directory: &str,
        member: &str,
        patches: &dyn OnTheWay,
    ) -> Result<ResolvedDir, InstallError> {
        let root = sys::stat_dir(self.root()).context("look at", "")?;
        let bad_way = || Conflict::BadWay(patch.clone(), member.to_owned());
        let mut walk = Walk { steps: vec![], dir: Some(self.dir("").context("open", "")?), root };
        let mut through = Vec::new();
        let mut ahead: VecDeque<String> = directory.split('/').map(str::to_owned).collect();
        while let Some(name) = ahead.pop_front() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    walk.up(self)?;
                    continue;
                }
                // A link of the base system may lead there, where no patch may have files.
                ".thimble" => return Err(bad_way().into()),
                _ => {}
            }
            let path = walk.path_with(&name);
            if path.len() > PATH_BYTES {
                return Err(bad_way().into());
            }
            if self.is_users(&path) {
                return Err(Conflict::UsersMount(patch.clone(), path).into());
            }
            let Some(dir) = walk.dir.as_ref().map(AsFd::as_fd) else {
                walk.down(name, None);
                continue;
            };
            let there = match sys::stat_at(dir, &name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                other => Some(other.context("look at", &path)?),
            };
            let after = match &there {
                Some(stat) if stat.kind == InodeKind::Directory => After::Same,
                Some(_) => patches.after(&path)?,
                None => patches.after_nothing(&path)?,
            };
            let (dir, inode, stat) = match (&after, there) {
                (After::Same, Some(stat)) => (dir, &name, stat),
                (After::Kept(kept, inode), _) => {
                    let stat = sys::stat_at(kept.as_fd(), inode);
                    (kept.as_fd(), inode, stat.context("look at what is kept of", &path)?)
                }
                (After::Same | After::Nothing, _) => {
                    walk.down(name, None);
                    continue;
                }
            };
            match stat.kind {
                InodeKind::Directory => {
                    let dir = sys::open_dir(dir, &name).context("open", &path)?;
                    let stat = sys::stat_dir(dir.as_fd()).context("look at", &path)?;
                    walk.down(name, Some((dir, stat)));
                }
                InodeKind::Link if !walk.is_roots_alone(&stat) => {
                    return Err(Conflict::ThroughOthersLink(patch.clone(), path).into());
                }
                InodeKind::Link => {
                    let target = sys::read_link_at(dir, inode).context("read", &path)?;
                    let target = String::from_utf8(target).map_err(|_| bad_way())?;
                    through.push(path);
                    if through.len() > LINKS {
                        return Err(bad_way().into());
                    }
                    if target.starts_with('/') {
                        walk.steps.clear();
                        walk.dir = Some(self.dir("").context("open", "")?);
                    }
                    for name in target.rsplit('/') {
                        ahead.push_front(name.to_owned());
                    }
                }
                InodeKind::File | InodeKind::Other => {
                    let directory_of = patch.clone();
                    let patch = if let After::Same = after { patches.patch_at(&path)? } else { None };
                    return Err(match patch {
                        Some(file_of) => {
                            Conflict::FileAndDirectory { file_of, directory_of: Some(directory_of), path }
                        }
                        None => Conflict::NotDirectory(directory_of, path),
                    }
                    .into());
                }
            }
        }
        Ok(walk.resolved(through))
    }
}

/// One name of a path, with the attributes of its directory if that exists.
struct Component {
    name: String,
    stat: Option<Stat>,
}

/// A path that is being resolved. Only the directory reached so far is open: a path may
/// have more names than a process may have descriptors.
struct Walk {
    steps: Vec<Component>,
    /// The directory reached so far; `None` if it does not exist yet.
    dir: Option<OwnedFd>,
    root: Stat,
}

impl Walk {
    fn path_with(&self, name: &str) -> String {
        let mut path: String = self.steps.iter().flat_map(|step| [step.name.as_str(), "/"]).collect();
        path.push_str(name);
        path
    }

    /// Whether root alone can have made or moved an inode in the directory reached so far.
    fn is_roots_alone(&self, inode: &Stat) -> bool {
        let dirs = self.steps.iter().filter_map(|step| step.stat.as_ref());
        let mut dirs = dirs.chain([&self.root]);
        (inode.uid == 0 || inode.uid == sys::user()) && dirs.all(Stat::is_roots_alone)
    }

    /// Goes on to a name, with its directory if that exists.
    fn down(&mut self, name: String, dir: Option<(OwnedFd, Stat)>) {
        let (dir, stat) = dir.unzip();
        self.steps.push(Component { name, stat });
        self.dir = dir;
    }

    /// Goes back to the directory above; from the root, to itself.
    fn up(&mut self, tree: &RootTree) -> Result<(), InstallError> {
        self.steps.pop();
        let is_there = self.steps.last().is_none_or(|step| step.stat.is_some());
        let path: Vec<_> = self.steps.iter().map(|step| step.name.as_str()).collect();
        let path = path.join("/");
        self.dir = if is_there { Some(tree.dir(&path).context("open", &path)?) } else { None };
        Ok(())
    }

    fn resolved(&self, through: Vec<String>) -> ResolvedDir {
        let (mut path, mut missing_from, mut mount) = (String::new(), None, String::new());
        let mut above = (self.root.device, self.root.mount);
        for step in &self.steps {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(&step.name);
            match &step.stat {
                Some(stat) if (stat.device, stat.mount) != above => {
                    above = (stat.device, stat.mount);
                    mount.clone_from(&path);
                }
                Some(_) => {}
                None => missing_from = missing_from.or(Some(path.len())),
            }
        }
        ResolvedDir { path, through, missing_from, mount }
    }
}

/// Whether an error says that a path does not exist. Where a directory of it is something
/// else, the path does not exist either.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The state of a name in a directory.
fn inspect_at(dir: BorrowedFd<'_>, name: &str, size_bytes: Option<u64>) -> io::Result<PathState> {
    let stat = sys::stat_at(dir, name)?;
    // By the mount, not by the device: in an overlay, a file may have another one than its
    // directory. Linux before 5.8 does not tell.
    if stat.kind != InodeKind::Directory
        && let (Some(mount), Some(above)) = (stat.mount, sys::stat_dir(dir)?.mount)
        && mount != above
    {
        return Ok(PathState::MountPoint);
    }
    let mode = stat.mode as u16;
    let content = match stat.kind {
        InodeKind::Directory => return Ok(PathState::Directory),
        InodeKind::Other => return Ok(PathState::Inode(Found { mode, prints: None })),
        _ if size_bytes != Some(stat.size_bytes) => {
            return Ok(PathState::Inode(Found { mode, prints: None }));
        }
        InodeKind::Link => blake3::hash(&sys::read_link_at(dir, name)?),
        InodeKind::File => hash_file(&mut sys::open_read(dir, name)?)?,
    };
    let is_link = stat.kind == InodeKind::Link;
    let whole = Print::new(is_link, stat.mode, stat.uid, stat.gid, &content);
    Ok(PathState::Inode(Found { mode, prints: Some((whole, Print::of_content(&content))) }))
}

/// The hash of a file's content, from its place on.
pub(super) fn hash_file(file: &mut File) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            len => hasher.update(buffer.get(..len).unwrap_or_default()),
        };
    }
}
