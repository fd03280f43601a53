//! The system calls that take rights from a process.

#![deny(clippy::cast_possible_truncation)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn prctl(option: libc::c_int, argument: usize) -> io::Result<libc::c_int> {
    // SAFETY: callers pass options whose arguments are numbers.
    let done = unsafe { libc::prctl(option, argument, 0usize, 0usize, 0usize) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}

/// Makes a directory the root of this process, which finds no file elsewhere then. Without
/// capabilities and descriptors of other directories there is no way out.
///
/// # Errors
/// As `chroot(2)`: this process may not.
pub(super) fn enter_root(dir: &Path) -> io::Result<()> {
    std::os::unix::fs::chroot(dir)?;
    std::env::set_current_dir("/")
}

/// Empties the capability sets: what is effective and permitted, inheritable and ambient, and
/// the bounding set, of which a set-user-id program could take them again.
///
/// # Errors
/// A capability is left.
pub(super) fn drop_capabilities() -> io::Result<()> {
    // <linux/capability.h>: version 3, two halves of three sets, for this process.
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    let none = [0u32; 6];
    for capability in 0..64 {
        // Fails beyond the kernel's last, and in a process that may not drop any.
        if prctl(libc::PR_CAPBSET_DROP, capability).is_err() {
            break;
        }
    }
    let mut held = none;
    // SAFETY: header and sets have the layout and size of the version, and outlive the calls.
    unsafe {
        check(libc::syscall(libc::SYS_capget, header.as_ptr(), held.as_mut_ptr()))?;
        // A sandbox of the daemon may forbid the call where there is nothing to give up.
        if held != none {
            check(libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()))?;
        }
    }
    Ok(())
}

/// No program that this process executes gets more rights than it has. No core of it is
/// written, and no process of the same user may look into its memory.
///
/// # Errors
/// As `prctl(2)`.
pub(super) fn stay_unprivileged() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    prctl(libc::PR_SET_DUMPABLE, 0)?;
    Ok(())
}

/// The version of the kernel's Landlock; `None` if it has none, or a sandbox hides it.
pub(super) fn landlock_version() -> Option<i32> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag, null and zero are the only arguments; the call answers a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    i32::try_from(version).ok().filter(|version| *version > 0)
}

/// What Landlock restricts.
pub(super) struct Ruleset<'a> {
    /// The rights to files that are taken, except where allowed.
    pub(super) files: u64,
    /// The rights to TCP that are taken.
    pub(super) net: u64,
    /// What is kept within this process's domain.
    pub(super) scopes: u64,
    /// The directory below which rights stay.
    pub(super) beneath: &'a Path,
    /// These rights; none if zero.
    pub(super) allowed: u64,
}

/// `struct landlock_ruleset_attr`, <linux/landlock.h>. An older kernel has fewer members, and
/// takes this if the others are zero.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// Restricts this process and its later threads.
///
/// # Errors
/// As `landlock_restrict_self(2)` and the calls that it needs.
pub(super) fn restrict(rules: &Ruleset<'_>) -> io::Result<()> {
    const PATH_BENEATH: libc::c_int = 1;
    let attr =
        RulesetAttr { handled_access_fs: rules.files, handled_access_net: rules.net, scoped: rules.scopes };
    // SAFETY: the pointer and the size are those of `attr`; the new descriptor is owned by
    // nobody else.
    let ruleset = unsafe {
        let fd = check(libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attr,
            size_of::<RulesetAttr>(),
            0 as libc::c_uint,
        ))?;
        OwnedFd::from_raw_fd(RawFd::try_from(fd).map_err(io::Error::other)?)
    };
    // The kernel refuses a rule that allows nothing.
    if rules.allowed != 0 {
        let beneath = File::open(rules.beneath)?;
        let rule = PathBeneath { allowed_access: rules.allowed, parent_fd: beneath.as_raw_fd() };
        // SAFETY: `rule` outlives the call, and its layout is that of this kind of rule.
        check(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                ruleset.as_raw_fd(),
                PATH_BENEATH,
                &raw const rule,
                0 as libc::c_uint,
            )
        })?;
    }
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0 as libc::c_uint) })
        .map(drop)
}

/// Whether the kernel filters system calls: one that does says that null is no program, any
/// other that there is no such mode.
pub(super) fn has_filters() -> bool {
    // SAFETY: the kernel reads the program from null, which is an error.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::null::<u8>()) };
    set < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Filters the system calls of this process and its later threads.
///
/// # Errors
/// As `prctl(2)`.
pub(super) fn filter(program: &[libc::sock_filter]) -> io::Result<()> {
    if program.is_empty() {
        return Ok(());
    }
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, whose length is its own, and does not write to it.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether a signal could be sent to a process.
#[cfg(feature = "proof")]
pub(super) fn signal(pid: &str) -> io::Result<()> {
    let pid = pid.parse().map_err(io::Error::other)?;
    // SAFETY: no memory is involved, and no signal is sent.
    check(unsafe { libc::kill(pid, 0) }.into()).map(drop)
}

/// Maps memory that can be executed.
#[cfg(feature = "proof")]
pub(super) fn make_code() -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, which nothing uses.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_EXEC, flags, -1, 0) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}
