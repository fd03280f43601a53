//! The state directory and the files in it are for the daemon's user alone.
//!
//! Whoever could open `daemon.lock` could hold it, and keep the daemon from starting.
//! Every file is made with its mode whatever the umask. What an earlier start or another
//! hand left with a wider mode is tightened, but only what is thimble's: a `state_dir`
//! that is somebody else's directory too is left alone.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::sys;

/// The bits of a mode that give others than the owner a right.
const OTHERS: u32 = 0o077;

/// The names that a state directory has. A file system has `lost+found`.
const OWN_NAMES: [&str; 8] = [
    "daemon.lock",
    "incarnation",
    "incarnation.unfinished",
    "node-id",
    "node-id.new",
    "repo",
    "spread",
    "lost+found",
];

/// Why a state directory cannot be used.
#[derive(Debug)]
pub enum StateDirError {
    /// A call of the system failed.
    Io(PathBuf, io::Error),
    /// This user may not use the path, for this one, which has this owner and mode.
    Denied(PathBuf, PathBuf, u32, u32),
    /// This link leads out of the state directory, to there.
    Link(PathBuf, PathBuf),
    /// It belongs to this user, who can read and change what is in it.
    Owner(PathBuf, u32),
    /// Others have rights in it, with this mode, and it holds this name, which is not
    /// thimble's.
    Shared(PathBuf, u32, String),
    /// The file system keeps this mode.
    Mode(PathBuf, u32),
}

impl fmt::Display for StateDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(
                f,
                "{}: {error}; it must exist on a disk that can be written, and belong to this user",
                path.display()
            ),
            Self::Denied(path, at, owner, mode) => {
                let remedy = match (at == path, mode & 0o001) {
                    (true, _) => "`chown -R` it",
                    (false, 0) => "let thimble's user enter it",
                    (false, _) => "let that user make state_dir and chown it",
                };
                let (path, at) = (path.display(), at.display());
                write!(
                    f,
                    "{path}: permission denied: {at} belongs to user {owner} (mode {mode:04o}), not to the one that \
                     thimble runs as: {remedy}, start thimble as user {owner}, or set another state_dir"
                )
            }
            Self::Link(path, target) => write!(
                f,
                "{}: it is a symbolic link to {}, out of state_dir, where thimble's workers reach nothing: make \
                 it a directory and mount the other one there (`mount --bind`), or move all of state_dir and \
                 set it to its new path",
                path.display(),
                target.display()
            ),
            Self::Owner(path, owner) => {
                let path = path.display();
                write!(
                    f,
                    "{path}: it belongs to user {owner}, not to the one that thimble runs as: chown it, or \
                     move it away"
                )
            }
            Self::Shared(path, mode, name) => write!(
                f,
                "{}: others may enter it (mode {mode:04o}), and {name:?} in it is not thimble's: give thimble \
                 a state_dir of its own, or `chmod 700` it",
                path.display()
            ),
            Self::Mode(path, mode) => write!(
                f,
                "{}: its mode stays {mode:04o}, so others have rights there: mount this file system with \
                 umask=077, or set another state_dir",
                path.display()
            ),
        }
    }
}

impl StateDirError {
    /// A call failed for this path. What this user may not use is told with its owner: the
    /// path, or the last directory on the way to it that can be seen.
    #[must_use]
    pub fn of(path: &Path, error: io::Error, own_uid: u32) -> Self {
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        let mut seen = path.ancestors().filter_map(|at| Some((at, fs::metadata(at).ok()?)));
        match seen.next().filter(|(_, found)| is_denied && found.uid() != own_uid) {
            Some((at, found)) => {
                Self::Denied(path.to_owned(), at.to_owned(), found.uid(), found.mode() & 0o7777)
            }
            None => Self::Io(path.to_owned(), error),
        }
    }
}

/// Opens `daemon.lock` of a state directory, and makes it if it is missing, for the
/// directory's owner: `thimble guard` runs as root where the daemon may be another user.
/// Whoever locks it has the directory. What is no file is refused: root must not
/// follow, or wait for, what another user has put there.
///
/// # Errors
/// As `open(2)`.
pub fn lock_file(state_dir: &Path) -> io::Result<File> {
    let path = state_dir.join("daemon.lock");
    let mut options = File::options();
    options.truncate(false).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.create_new(true).open(&path) {
        Ok(file) => {
            let owner = fs::metadata(state_dir)?;
            if owner.uid() != file.metadata()?.uid() {
                fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
            }
            file
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.create_new(false).open(path)?,
        Err(error) => return Err(error),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Does something in a state directory with the rights of its owner, where root does it: what
/// the owner has made a link of leads root to nothing that the owner could not reach himself.
///
/// # Errors
/// The directory is there and cannot be looked at.
pub fn as_owner<T>(state_dir: &Path, act: impl FnOnce() -> T) -> io::Result<T> {
    let owner = match fs::symlink_metadata(state_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(act()),
        found => found?,
    };
    Ok(match owner.uid() {
        0 => act(),
        uid => sys::with_rights_of(uid, owner.gid(), act),
    })
}

/// Makes a state directory for this user alone, its parents for all to enter. One
/// that is there and has a wider mode is tightened.
///
/// # Errors
/// [`StateDirError`]: it cannot be made, or is not for this user alone.
pub fn claim(state_dir: &Path, own_uid: u32) -> Result<(), StateDirError> {
    let failed = |error| StateDirError::of(state_dir, error, own_uid);
    if let Some(parent) = state_dir.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed)?;
    }
    match DirBuilder::new().mode(0o700).create(state_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let dir = File::open(state_dir).map_err(failed)?;
    let found = dir.metadata().map_err(failed)?;
    if !found.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    if found.uid() != own_uid {
        return Err(StateDirError::Owner(state_dir.to_owned(), found.uid()));
    }
    if found.mode() & OTHERS == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(state_dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !OWN_NAMES.iter().any(|own| name == OsStr::new(own)) {
            let name = name.to_string_lossy().into_owned();
            return Err(StateDirError::Shared(state_dir.to_owned(), found.mode() & 0o7777, name));
        }
    }
    tighten(&dir, state_dir, &found)
}

/// Checks that the repository is in the state directory itself: a worker that is confined to
/// that follows no link out of it.
///
/// # Errors
/// [`StateDirError::Link`].
pub fn check_links(state_dir: &Path) -> Result<(), StateDirError> {
    let failed = |error| StateDirError::Io(state_dir.to_owned(), error);
    let inside = fs::canonicalize(state_dir).map_err(failed)?;
    for name in ["repo", "repo/blobs", "spread"] {
        let path = state_dir.join(name);
        let Ok(target) = fs::read_link(&path) else { continue };
        if !fs::canonicalize(&path).is_ok_and(|led| led.starts_with(&inside)) {
            return Err(StateDirError::Link(path, target));
        }
    }
    Ok(())
}

/// Tightens the files of a state directory that is claimed and locked. Links are not
/// followed.
///
/// # Errors
/// [`StateDirError`]: one belongs to another user, or keeps its mode.
pub fn tighten_files(state_dir: &Path, own_uid: u32) -> Result<(), StateDirError> {
    for name in OWN_NAMES {
        tighten_tree(&state_dir.join(name), own_uid, 3)?;
    }
    Ok(())
}

/// Tightens a file, or a directory first and then what is in it, `levels` deep.
fn tighten_tree(path: &Path, own_uid: u32, levels: u32) -> Result<(), StateDirError> {
    let failed = |error| StateDirError::Io(path.to_owned(), error);
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(failed)?,
    };
    if found.uid() != own_uid {
        return Err(StateDirError::Owner(path.to_owned(), found.uid()));
    }
    // A file with a second name elsewhere may serve somebody there.
    let is_own_file = found.is_file() && found.nlink() == 1;
    if (found.is_dir() || is_own_file) && found.mode() & OTHERS != 0 {
        let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path).map_err(failed)?;
        tighten(&file, path, &found)?;
    }
    if found.is_dir() && levels > 0 {
        for entry in fs::read_dir(path).map_err(failed)? {
            tighten_tree(&entry.map_err(failed)?.path(), own_uid, levels - 1)?;
        }
    }
    Ok(())
}

/// Takes the rights of others from a file or directory.
fn tighten(file: &File, path: &Path, found: &Metadata) -> Result<(), StateDirError> {
    let failed = |error| StateDirError::Io(path.to_owned(), error);
    file.set_permissions(Permissions::from_mode(found.mode() & 0o700)).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & OTHERS == 0 { Ok(()) } else { Err(StateDirError::Mode(path.to_owned(), mode)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of one test, removed afterwards.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("thimble-state-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn uid(&self) -> u32 {
            fs::metadata(&self.0).unwrap().uid()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn widen(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_could_open_is_tightened() {
        let scratch = Scratch::new("wide");
        let blobs = scratch.0.join("repo/blobs");
        fs::create_dir_all(&blobs).unwrap();
        lock_file(&scratch.0).unwrap();
        assert_eq!(mode(&scratch.0.join("daemon.lock")), 0o600, "whoever makes it");
        let (blob, elsewhere) = (blobs.join("x.patch"), scratch.0.join("incarnation"));
        fs::write(&blob, "").unwrap();
        std::os::unix::fs::symlink("/", &elsewhere).unwrap();
        let files = [scratch.0.join("daemon.lock"), blob];
        let dirs = [scratch.0.clone(), scratch.0.join("repo"), blobs];
        files.iter().for_each(|file| widen(file, 0o666));
        dirs.iter().for_each(|dir| widen(dir, 0o777));
        claim(&scratch.0, scratch.uid()).unwrap();
        tighten_files(&scratch.0, scratch.uid()).unwrap();
        assert_eq!(files.map(|file| mode(&file)), [0o600; 2]);
        assert_eq!(dirs.map(|dir| mode(&dir)), [0o700; 3]);
        assert_ne!(mode(Path::new("/")) & 0o055, 0, "a link is not followed");
    }

    #[test]
    fn a_directory_that_serves_others_too_is_left_alone() {
        let scratch = Scratch::new("shared");
        fs::create_dir(&scratch.0).unwrap();
        fs::write(scratch.0.join("notes"), "").unwrap();
        widen(&scratch.0, 0o1777);
        let said = claim(&scratch.0, scratch.uid()).unwrap_err().to_string();
        assert!(said.contains("1777") && said.contains("\"notes\"") && said.contains("chmod 700"), "{said}");
        assert_eq!(mode(&scratch.0), 0o1777);
        widen(&scratch.0, 0o700);
        claim(&scratch.0, scratch.uid()).unwrap();
    }

    #[test]
    fn a_repository_that_a_link_leads_out_to_is_refused() {
        let scratch = Scratch::new("links");
        let (state_dir, other) = (scratch.0.join("state"), scratch.0.join("other"));
        let link = |to: &Path, at: &str| std::os::unix::fs::symlink(to, state_dir.join(at)).unwrap();
        fs::create_dir_all(state_dir.join("repo")).unwrap();
        fs::create_dir_all(other.join("blobs")).unwrap();
        check_links(&state_dir).unwrap();
        let refused = |name: &str, target: &Path| {
            let said = check_links(&state_dir).unwrap_err().to_string();
            let expected =
                format!("{}: it is a symbolic link to {},", state_dir.join(name).display(), target.display());
            assert!(said.starts_with(&expected) && said.contains("mount --bind"), "{said}");
        };
        link(&other, "repo/blobs");
        refused("repo/blobs", &other);
        fs::rename(state_dir.join("repo"), state_dir.join("moved")).unwrap();
        fs::remove_file(state_dir.join("moved/blobs")).unwrap();
        link(Path::new("moved"), "repo");
        check_links(&state_dir).unwrap();
        fs::remove_file(state_dir.join("repo")).unwrap();
        link(Path::new("../other"), "repo");
        refused("repo", Path::new("../other"));
        fs::remove_dir_all(&other).unwrap();
        refused("repo", Path::new("../other"));
        // The state directory itself may be one.
        fs::remove_file(state_dir.join("repo")).unwrap();
        let named = scratch.0.join("named");
        std::os::unix::fs::symlink(&state_dir, &named).unwrap();
        link(Path::new("moved"), "repo");
        check_links(&named).unwrap();
    }

    #[test]
    fn what_this_user_may_not_use_is_named_with_its_owner() {
        let scratch = Scratch::new("denied");
        fs::create_dir(&scratch.0).unwrap();
        widen(&scratch.0, 0o700);
        let (own, denied) = (scratch.uid(), || io::Error::from(io::ErrorKind::PermissionDenied));
        let path = scratch.0.join("state/daemon.lock");
        let said = StateDirError::of(&path, denied(), own + 1).to_string();
        let expected = format!(
            "{}: permission denied: {} belongs to user {own} (mode 0700)",
            path.display(),
            scratch.0.display()
        );
        assert!(said.starts_with(&expected) && said.contains("let thimble's user enter it"), "{said}");
        widen(&scratch.0, 0o755);
        let said = StateDirError::of(&path, denied(), own + 1).to_string();
        assert!(said.contains("(mode 0755)") && said.contains("let that user make state_dir"), "{said}");
        fs::create_dir(scratch.0.join("state")).unwrap();
        fs::write(&path, "").unwrap();
        let said = StateDirError::of(&path, denied(), own + 1).to_string();
        assert!(
            said.contains(&format!("denied: {} belongs", path.display())) && said.contains("`chown -R` it"),
            "{said}"
        );
        assert!(matches!(StateDirError::of(&path, denied(), own), StateDirError::Io(..)));
        let full = io::ErrorKind::StorageFull.into();
        assert!(matches!(StateDirError::of(&path, full, own + 1), StateDirError::Io(..)));
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        let scratch = Scratch::new("foreign");
        fs::create_dir(&scratch.0).unwrap();
        let own = scratch.uid();
        let said = claim(&scratch.0, own + 1).unwrap_err().to_string();
        assert!(said.contains(&format!("belongs to user {own}")) && said.contains("chown"), "{said}");
        fs::write(scratch.0.join("incarnation"), "").unwrap();
        let said = tighten_files(&scratch.0, own + 1).unwrap_err().to_string();
        assert!(said.contains("incarnation: it belongs to user"), "{said}");
    }
}
