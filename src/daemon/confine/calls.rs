//! The system calls of a confined worker, by architecture.
//!
//! The numbers that the crate libc does not name are those of <asm-generic/unistd.h>, which all
//! architectures have in common from 403 on, and of <asm/unistd.h> of ARM.

#[cfg(target_arch = "x86_64")]
use libc::{SYS_lstat as LSTAT, SYS_stat as STAT};
#[cfg(target_arch = "arm")]
use libc::{SYS_lstat64 as LSTAT, SYS_stat64 as STAT};

/// What every worker calls: descriptors that it has, memory, time, threads. Nothing here and
/// below makes a process, executes a program, opens a socket, sends a signal, or changes an
/// owner or a mode.
pub(super) const CALLS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_close,
    libc::SYS_getdents64,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_copy_file_range,
    libc::SYS_splice,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What a worker that may open files calls besides.
pub(super) const FILE_CALLS: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
];

/// What a C library still calls where it is older than the numbers above.
#[cfg(target_arch = "x86_64")]
pub(super) const OLD_CALLS: &[libc::c_long] = &[libc::SYS_poll];
#[cfg(target_arch = "arm")]
pub(super) const OLD_CALLS: &[libc::c_long] =
    &[libc::SYS_poll, libc::SYS_recv, libc::SYS_send, libc::SYS_sigreturn];
#[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
pub(super) const OLD_FILE_CALLS: &[libc::c_long] = &[
    libc::SYS_open,
    STAT,
    LSTAT,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
];
#[cfg(target_arch = "aarch64")]
pub(super) const OLD_CALLS: &[libc::c_long] = &[];
#[cfg(target_arch = "aarch64")]
pub(super) const OLD_FILE_CALLS: &[libc::c_long] = &[];

/// What is one call where a word has 64 bits, and another where it has 32.
#[cfg(target_pointer_width = "64")]
pub(super) const WORD_CALLS: &[libc::c_long] = &[
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fcntl,
    libc::SYS_sync_file_range,
    libc::SYS_ftruncate,
    libc::SYS_fadvise64,
    libc::SYS_sendfile,
    libc::SYS_geteuid,
    libc::SYS_rseq,
];
#[cfg(target_pointer_width = "64")]
pub(super) const WORD_FILE_CALLS: &[libc::c_long] = &[libc::SYS_newfstatat, libc::SYS_statfs];
/// Makes memory, with its permissions in the third argument.
#[cfg(target_pointer_width = "64")]
pub(super) const MMAP: libc::c_long = libc::SYS_mmap;

#[cfg(target_arch = "arm")]
pub(super) const WORD_CALLS: &[libc::c_long] = &[
    libc::SYS__llseek,
    libc::SYS_fstat64,
    libc::SYS_fstatfs64,
    libc::SYS_fcntl64,
    // arm_sync_file_range
    341,
    libc::SYS_ftruncate64,
    // arm_fadvise64_64
    270,
    libc::SYS_sendfile64,
    libc::SYS_geteuid32,
    // rseq, clock_gettime64, clock_nanosleep_time64, ppoll_time64, futex_time64
    398,
    403,
    407,
    414,
    422,
    // cacheflush, set_tls
    0x0f_0002,
    0x0f_0005,
];
#[cfg(target_arch = "arm")]
pub(super) const WORD_FILE_CALLS: &[libc::c_long] = &[libc::SYS_fstatat64, libc::SYS_statfs64];
#[cfg(target_arch = "arm")]
pub(super) const MMAP: libc::c_long = libc::SYS_mmap2;

/// `AUDIT_ARCH_X86_64`, `AUDIT_ARCH_AARCH64` and `AUDIT_ARCH_ARM`, <linux/audit.h>.
#[cfg(target_arch = "x86_64")]
pub(super) const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub(super) const ARCHITECTURE: u32 = 0xC000_00B7;
#[cfg(target_arch = "arm")]
pub(super) const ARCHITECTURE: u32 = 0x4000_0028;
