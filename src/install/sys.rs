//! System calls on files that the standard library offers only for full paths.
//!
//! Each call takes an open directory and one name in it. No call follows a symbolic
//! link.

#![deny(clippy::cast_possible_truncation)]

use std::ffi::{CStr, CString, c_int};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::job::NoInodes;

/// The type of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InodeKind {
    File,
    Directory,
    Link,
    /// A device, a pipe or a socket.
    Other,
}

/// The attributes of an inode, from `statx`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stat {
    pub kind: InodeKind,
    /// 0 to 0o7777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size_bytes: u64,
    /// Its number on its filesystem, and how many names it has.
    pub inode: u64,
    pub links: u32,
    pub mtime_s: i64,
    pub mtime_ns: u32,
    /// The filesystem's device.
    pub device: (u32, u32),
    /// The mount that it was reached through, on Linux 5.8 and later. Two mounts of one
    /// filesystem have the same device, and a rename between them fails.
    pub mount: Option<u64>,
}

impl Stat {
    /// Whether it is a file that capabilities would be of use for, now or after its owner has
    /// made it a program.
    pub fn may_have_capabilities(&self) -> bool {
        self.kind == InodeKind::File && (self.mode & 0o111 != 0 || self.uid != 0)
    }

    /// Whether root alone may write to this directory, and so say what its names lead to.
    pub fn is_roots_alone(&self) -> bool {
        (self.uid == 0 || self.uid == user()) && self.mode & 0o022 == 0
    }
}

fn c_name(name: &str) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// What a C function or a system call by number returned; the latter is of a word's length, and
/// none of those here returns more than an int.
fn check(result: impl TryInto<c_int>) -> io::Result<c_int> {
    match result.try_into() {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

fn open_at(dir: BorrowedFd<'_>, name: &str, flags: c_int, mode: u32) -> io::Result<OwnedFd> {
    let name = c_name(name)?;
    let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: `name` is a C string and `dir` an open descriptor; both outlive the call.
    let fd = check(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags, mode) })?;
    // SAFETY: the descriptor is new and not owned by anything else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a directory that is not a link.
pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    open_at(dir, name, libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

/// Opens a directory below another by its whole path, on which no link may be. Fails on
/// Linux before 5.6, and where the path is too long for one call.
pub(super) fn open_dir_below(dir: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let path = c_name(path)?;
    let mut how = MaybeUninit::<libc::open_how>::zeroed();
    // SAFETY: all zeros is an `open_how`.
    let how = unsafe { how.assume_init_mut() };
    how.flags = (libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
    let how_bytes = size_of::<libc::open_how>();
    // SAFETY: `path` is a C string, `how` as long as said and `dir` open; the arguments are
    // the system call's.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_openat2, dir.as_raw_fd(), path.as_ptr(), how, how_bytes) })?;
    // SAFETY: the descriptor is new and not owned by anything else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a file that is not a link for reading; does not wait for a pipe's writer.
pub(super) fn open_read(dir: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    open_at(dir, name, libc::O_RDONLY | libc::O_NONBLOCK, 0).map(File::from)
}

/// Makes a new file that only its owner may read.
pub(super) fn create_new(dir: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let file = open_at(dir, name, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o600);
    file.map(File::from).map_err(|error| NoInodes::explain(error, dir))
}

/// Opens an existing file for reading and writing.
pub(super) fn open_read_write(dir: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    open_at(dir, name, libc::O_RDWR, 0).map(File::from)
}

/// The attributes of an inode; for `""`, of the directory itself.
pub(super) fn stat_at(dir: BorrowedFd<'_>, name: &str) -> io::Result<Stat> {
    let name = c_name(name)?;
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID;
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `stat` is a whole `statx` to write to; `name` and `dir` outlive the call.
    check(unsafe {
        // By number: older versions of musl have no function for it.
        libc::syscall(libc::SYS_statx, dir.as_raw_fd(), name.as_ptr(), flags, mask, stat.as_mut_ptr())
    })?;
    // SAFETY: the call succeeded, and all zeros is a `statx` as well.
    let stat = unsafe { stat.assume_init() };
    let kind = match u32::from(stat.stx_mode) & libc::S_IFMT {
        libc::S_IFREG => InodeKind::File,
        libc::S_IFDIR => InodeKind::Directory,
        libc::S_IFLNK => InodeKind::Link,
        _ => InodeKind::Other,
    };
    Ok(Stat {
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size_bytes: stat.stx_size,
        inode: stat.stx_ino,
        links: stat.stx_nlink,
        mtime_s: stat.stx_mtime.tv_sec,
        mtime_ns: stat.stx_mtime.tv_nsec,
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        mount: (stat.stx_mask & libc::STATX_MNT_ID != 0).then_some(stat.stx_mnt_id),
    })
}

/// The attributes of an open directory.
pub(super) fn stat_dir(dir: BorrowedFd<'_>) -> io::Result<Stat> {
    stat_at(dir, "")
}

/// The target of a symbolic link.
pub(super) fn read_link_at(dir: BorrowedFd<'_>, name: &str) -> io::Result<Vec<u8>> {
    let name = c_name(name)?;
    let mut target = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: the buffer is as long as said; `name` and `dir` outlive the call.
    let len =
        unsafe { libc::readlinkat(dir.as_raw_fd(), name.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    target.truncate(len);
    Ok(target)
}

/// Makes a symbolic link to `target`.
pub(super) fn symlink_at(target: &[u8], dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let target = CString::new(target).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let name = c_name(name)?;
    // SAFETY: both are C strings and `dir` is open.
    let made = check(unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) });
    made.map(drop).map_err(|error| NoInodes::explain(error, dir))
}

/// Gives an inode a second name (a hard link).
pub(super) fn link_at(
    from: BorrowedFd<'_>,
    from_name: &str,
    to: BorrowedFd<'_>,
    to_name: &str,
) -> io::Result<()> {
    let (from_name, to_name) = (c_name(from_name)?, c_name(to_name)?);
    // SAFETY: both are C strings and both directories are open.
    check(unsafe { libc::linkat(from.as_raw_fd(), from_name.as_ptr(), to.as_raw_fd(), to_name.as_ptr(), 0) })
        .map(drop)
        // On tmpfs a second name takes an inode.
        .map_err(|error| NoInodes::explain(error, to))
}

/// Renames, replacing what has the new name.
pub(super) fn rename_at(
    from: BorrowedFd<'_>,
    from_name: &str,
    to: BorrowedFd<'_>,
    to_name: &str,
) -> io::Result<()> {
    let (from_name, to_name) = (c_name(from_name)?, c_name(to_name)?);
    // SAFETY: both are C strings and both directories are open.
    check(unsafe { libc::renameat(from.as_raw_fd(), from_name.as_ptr(), to.as_raw_fd(), to_name.as_ptr()) })
        .map(drop)
}

/// Renames to a name that is not taken.
pub(super) fn rename_new_at(
    from: BorrowedFd<'_>,
    from_name: &str,
    to: BorrowedFd<'_>,
    to_name: &str,
) -> io::Result<()> {
    let (c_from, c_to) = (c_name(from_name)?, c_name(to_name)?);
    // SAFETY: both are C strings and both directories are open; the arguments are
    // the system call's.
    let renamed = check(unsafe {
        // By number: older versions of musl have no function for it.
        libc::syscall(
            libc::SYS_renameat2,
            from.as_raw_fd(),
            c_from.as_ptr(),
            to.as_raw_fd(),
            c_to.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    });
    match renamed {
        // The filesystem or kernel does not know the flag. Planning found the name free.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            rename_at(from, from_name, to, to_name)
        }
        other => other.map(drop),
    }
}

/// Removes a name that is not a directory's.
pub(super) fn unlink_at(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let name = c_name(name)?;
    // SAFETY: `name` is a C string and `dir` is open.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Removes a name that may be there and is not a directory's.
pub(super) fn remove_if_there(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match unlink_at(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a name that may be there, also of an empty directory.
pub(super) fn remove_any(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match remove_if_there(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => rmdir_at(dir, name),
        other => other,
    }
}

/// Removes an empty directory.
pub(super) fn rmdir_at(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let name = c_name(name)?;
    // SAFETY: `name` is a C string and `dir` is open.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) }).map(drop)
}

/// Makes a directory that only its owner may enter.
pub(super) fn mkdir_at(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let name = c_name(name)?;
    // SAFETY: `name` is a C string and `dir` is open.
    let made = check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), 0o700) });
    made.map(drop).map_err(|error| NoInodes::explain(error, dir))
}

/// The names in a directory, sorted, without `.` and `..`. Names that are not UTF-8 are
/// left out: thimble makes none.
pub(super) fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    each_name(dir, |name| names.push(name.to_owned()))?;
    names.sort_unstable();
    Ok(names)
}

/// Calls `on_name` with each name in a directory, in no order, as [`names`] has them.
pub(super) fn each_name(dir: BorrowedFd<'_>, mut on_name: impl FnMut(&str)) -> io::Result<()> {
    each_raw_name(dir, |name| name.to_str().into_iter().for_each(&mut on_name))
}

/// Calls `on_name` with each name in a directory but `.` and `..`, in no order.
pub(super) fn each_raw_name(dir: BorrowedFd<'_>, mut on_name: impl FnMut(&CStr)) -> io::Result<()> {
    // The descriptor's own place in the directory is somebody else's.
    let own = open_dir(dir, ".")?;
    let mut buffer = vec![0u8; ENTRIES_BYTES];
    loop {
        // SAFETY: the buffer is as long as said and `own` is open; the arguments are the
        // system call's.
        let len = unsafe {
            libc::syscall(libc::SYS_getdents64, own.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
        };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        if len == 0 {
            return Ok(());
        }
        let mut entries = buffer.get(..len).unwrap_or_default();
        while let Some(entry) = entries.split_off(..entry_bytes(entries)) {
            let name = entry.get(NAME_AT..).and_then(|name| CStr::from_bytes_until_nul(name).ok());
            let name = name.filter(|name| !matches!(name.to_bytes(), b"." | b".."));
            name.into_iter().for_each(&mut on_name);
        }
    }
}

/// How much of a directory is read at once, in bytes.
const ENTRIES_BYTES: usize = 16 * 1024;
/// Where in an entry of a directory its length is, u16, and where its name begins.
const LENGTH_AT: usize = std::mem::offset_of!(libc::dirent64, d_reclen);
const NAME_AT: usize = std::mem::offset_of!(libc::dirent64, d_name);

/// The length of the first entry.
fn entry_bytes(entries: &[u8]) -> usize {
    let len = entries.get(LENGTH_AT..).and_then(<[u8]>::first_chunk);
    // No entry is shorter, so that a wrong length ends the walk.
    len.map_or(NAME_AT, |len| usize::from(u16::from_ne_bytes(*len)).max(NAME_AT))
}

/// Sets an inode's owner; does not follow a link.
pub(super) fn chown_at(dir: BorrowedFd<'_>, name: &str, uid: u32, gid: u32) -> io::Result<()> {
    let name = c_name(name)?;
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    // SAFETY: `name` is a C string and `dir` is open.
    check(unsafe { libc::fchownat(dir.as_raw_fd(), name.as_ptr(), uid, gid, flags) }).map(drop)
}

/// Sets an inode's modification time; does not follow a link.
pub(super) fn set_mtime_at(dir: BorrowedFd<'_>, name: &str, mtime_s: i64, mtime_ns: u32) -> io::Result<()> {
    let name = c_name(name)?;
    // Up to 999,999,999; of 32 bits on some targets.
    let Ok(nanoseconds) = i32::try_from(mtime_ns) else { return Err(io::ErrorKind::InvalidInput.into()) };
    // SAFETY: all zeros is a `timespec`.
    let [mut omit, mut mtime]: [libc::timespec; 2] = unsafe { std::mem::zeroed() };
    omit.tv_nsec = libc::UTIME_OMIT;
    (mtime.tv_sec, mtime.tv_nsec) = (mtime_s, nanoseconds.into());
    let times = [omit, mtime];
    // SAFETY: `times` has the two entries that the call reads; `name` and `dir` outlive it.
    check(unsafe {
        libc::utimensat(dir.as_raw_fd(), name.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW)
    })
    .map(drop)
}

/// Sets an open inode's permission bits, 0 to 0o7777.
pub(super) fn chmod(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    // SAFETY: `fd` is open.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode as libc::mode_t) }).map(drop)
}

/// Makes everything written to the descriptor's filesystem so far durable, names and
/// contents.
pub(super) fn sync_filesystem(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `fd` is open.
    check(unsafe { libc::syncfs(fd.as_raw_fd()) }).map(drop)
}

/// Preallocates space after a file's end, so that later appends cannot fail with ENOSPC.
/// Returns false and does nothing if unsupported.
pub(super) fn preallocate(file: &File, from: u64, len: u64) -> io::Result<bool> {
    // SAFETY: `file` is open.
    match check(unsafe { libc::fallocate(file.as_raw_fd(), 0, from.cast_signed(), len.cast_signed()) }) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => Ok(false),
        other => other.map(|_| true),
    }
}

/// Copies extended attributes, among them capabilities and access lists.
pub(super) fn copy_xattrs(from: &File, to: &File) -> io::Result<()> {
    let names = read_growing(|buffer| {
        // SAFETY: the buffer is as long as said and `from` is open.
        unsafe { libc::flistxattr(from.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
    });
    let names = match names {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(()),
        other => other?,
    };
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(|_| io::ErrorKind::InvalidData)?;
        match set_xattr(to, name, &xattr(from, name)?) {
            // What the other filesystem cannot have, such as a label of its own making.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            other => other?,
        }
    }
    Ok(())
}

/// One extended attribute.
pub(super) fn xattr(file: &File, name: &CStr) -> io::Result<Vec<u8>> {
    read_growing(|buffer| {
        // SAFETY: the buffer is as long as said; `name` is a C string and `file` open.
        unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })
}

/// Sets one extended attribute.
pub(super) fn set_xattr(file: &impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: `value` is as long as said; `name` is a C string and `file` open.
    check(unsafe { libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }).map(drop)
}

/// Removes one extended attribute.
pub(super) fn remove_xattr(file: &File, name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is a C string and `file` open.
    check(unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// Asks for the size, then for the value, until the value fits.
fn read_growing(mut call: impl FnMut(&mut [u8]) -> isize) -> io::Result<Vec<u8>> {
    loop {
        let len = usize::try_from(call(&mut [])).map_err(|_| io::Error::last_os_error())?;
        let mut buffer = vec![0; len];
        if len == 0 {
            return Ok(buffer);
        }
        match usize::try_from(call(&mut buffer)) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ERANGE) => {}
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
}

/// The effective user id of this process.
pub(super) fn user() -> u32 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { libc::geteuid() }
}
