//! Second names of files, and copies where a filesystem can give none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::beside::part;
use super::sys::{self, InodeKind};
use crate::failpoint;

/// Gives an inode a second name. If the filesystem has no hard links or too many of this
/// inode, or `to` is on another filesystem, makes a copy that is whole or not there.
pub(super) fn duplicate(
    from: BorrowedFd<'_>,
    name: &str,
    to: BorrowedFd<'_>,
    to_name: &str,
) -> io::Result<()> {
    failpoint::hit("linking a file");
    match sys::link_at(from, name, to, to_name) {
        Err(error) if is_linkless(&error) => {}
        other => return other,
    }
    copy_whole(from, name, to, to_name)
}

/// Makes a copy that is whole or not there.
pub(super) fn copy_whole(
    from: BorrowedFd<'_>,
    name: &str,
    to: BorrowedFd<'_>,
    to_name: &str,
) -> io::Result<()> {
    let part = part(to_name);
    failpoint::hit("copying a file");
    sys::remove_if_there(to, &part)?;
    copy(from, name, to, &part)?;
    failpoint::hit("renaming a copy");
    sys::rename_new_at(to, &part, to, to_name)
}

/// Whether this error of a hard link says that the file must be copied.
pub(super) fn is_linkless(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(errno, Some(libc::EPERM | libc::EOPNOTSUPP | libc::EMLINK | libc::ENOSYS | libc::EXDEV))
}

/// Copies a file or a symbolic link with its attributes.
fn copy(from: BorrowedFd<'_>, name: &str, to: BorrowedFd<'_>, to_name: &str) -> io::Result<()> {
    let stat = sys::stat_at(from, name)?;
    match stat.kind {
        InodeKind::Link => {
            sys::symlink_at(&sys::read_link_at(from, name)?, to, to_name)?;
            sys::chown_at(to, to_name, stat.uid, stat.gid)?;
        }
        InodeKind::File => {
            let mut source = sys::open_read(from, name)?;
            let mut file = sys::create_new(to, to_name)?;
            io::copy(&mut source, &mut file)?;
            sys::chown_at(to, to_name, stat.uid, stat.gid)?;
            sys::chmod(file.as_fd(), stat.mode)?;
            sys::copy_xattrs(&source, &file)?;
            file.sync_all()?;
        }
        InodeKind::Directory | InodeKind::Other => {
            return Err(io::Error::other("it is not a plain file, and this filesystem has no hard links"));
        }
    }
    sys::set_mtime_at(to, to_name, stat.mtime_s, stat.mtime_ns)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    /// The fallback for filesystems without hard links. Hard links are covered by
    /// tests/install.
    #[test]
    fn a_copy_has_all_attributes_of_the_original() {
        let scratch = std::env::temp_dir().join(format!("thimble-copy-{}", std::process::id()));
        fs::create_dir_all(&scratch).unwrap();
        fs::write(scratch.join("from"), "content").unwrap();
        fs::set_permissions(scratch.join("from"), fs::Permissions::from_mode(0o4711)).unwrap();
        std::os::unix::fs::symlink("anywhere", scratch.join("link")).unwrap();
        let dir: OwnedFd = File::open(&scratch).unwrap().into();
        let dir = dir.as_fd();
        let from = sys::open_read_write(dir, "from").unwrap();
        let has_attributes = sys::set_xattr(&from, c"user.thimble", b"kept").is_ok();
        for (name, copied) in [("from", "to"), ("link", "to-link")] {
            sys::set_mtime_at(dir, name, 1_234_567_890, 123_456_789).unwrap();
            copy(dir, name, dir, copied).unwrap();
            let stat = |name: &str| fs::symlink_metadata(scratch.join(name)).unwrap();
            let facts = |stat: fs::Metadata| {
                (stat.mode(), stat.uid(), stat.gid(), stat.size(), stat.mtime(), stat.mtime_nsec())
            };
            assert_eq!(facts(stat(name)), facts(stat(copied)));
        }
        assert_eq!(fs::read(scratch.join("to")).unwrap(), b"content");
        assert_eq!(fs::read_link(scratch.join("to-link")).unwrap().to_str(), Some("anywhere"));
        if has_attributes {
            let to = sys::open_read(dir, "to").unwrap();
            assert_eq!(sys::xattr(&to, c"user.thimble").unwrap(), b"kept");
        }
        fs::remove_dir_all(&scratch).unwrap();
    }
}
