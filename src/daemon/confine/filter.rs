//! The system calls of a confined worker, as a classic BPF program.
//!
//! A call that is not listed fails as one that the kernel does not know, so that libraries
//! take the older way that they have for it, and an oversight is an error and no dead worker.

use super::Access;

/// What every worker calls: descriptors that it has, memory, time, threads. Nothing here and
/// below makes a process, executes a program, opens a socket, sends a signal, or changes an
/// owner or a mode.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const CALLS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
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
    libc::SYS_rseq,
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
    libc::SYS_geteuid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What a worker that may open files calls besides.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const FILE_CALLS: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
];

/// What a C library still calls where it is older than the numbers above.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[libc::c_long] = &[libc::SYS_poll];
#[cfg(target_arch = "x86_64")]
const OLD_FILE_CALLS: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
];
#[cfg(target_arch = "aarch64")]
const OLD_CALLS: &[libc::c_long] = &[];
#[cfg(target_arch = "aarch64")]
const OLD_FILE_CALLS: &[libc::c_long] = &[];

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_AARCH64`, <linux/audit.h>.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// The filter; empty for an architecture whose calls are not listed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn program(_: Access) -> Vec<libc::sock_filter> {
    Vec::new()
}

/// The filter; empty for an architecture whose calls are not listed.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub fn program(access: Access) -> Vec<libc::sock_filter> {
    // struct seccomp_data, <linux/seccomp.h>: both targets are little-endian, so the lower half
    // of an argument is first. The upper half does not matter to these three.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    const fn argument(at: u32) -> u32 {
        16 + 8 * at
    }
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const FAIL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let allow = step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
    let fail = step(RETURN, 0, 0, FAIL);

    let mut program = vec![step(LOAD, 0, 0, ARCH), step(EQUAL, 1, 0, ARCHITECTURE), fail];
    program.push(step(LOAD, 0, 0, NUMBER));
    let (files, old_files) = match access {
        Access::Nothing => ([].as_slice(), [].as_slice()),
        Access::Read | Access::Write => (FILE_CALLS, OLD_FILE_CALLS),
    };
    for call in CALLS.iter().chain(OLD_CALLS).chain(files).chain(old_files) {
        program.extend([step(EQUAL, 0, 1, *call as u32), allow]);
    }
    // A call whose argument must, or must not, have one of these bits.
    let mut with_argument = |call: libc::c_long, at, test, (if_true, if_false)| {
        program.extend([
            step(EQUAL, 0, 4, call as u32),
            step(LOAD, 0, 0, argument(at)),
            test,
            if_true,
            if_false,
        ]);
    };
    let is_thread = step(ANY_BIT, 0, 1, libc::CLONE_THREAD as u32);
    with_argument(libc::SYS_clone, 0, is_thread, (allow, fail));
    let is_code = step(ANY_BIT, 0, 1, libc::PROT_EXEC as u32);
    with_argument(libc::SYS_mmap, 2, is_code, (fail, allow));
    with_argument(libc::SYS_mprotect, 2, is_code, (fail, allow));
    // Whether a socket blocks; nothing about terminals and devices.
    let is_blocking = step(EQUAL, 0, 1, libc::FIONBIO as u32);
    with_argument(libc::SYS_ioctl, 1, is_blocking, (allow, fail));
    program.push(fail);
    program
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_needs_no_file_has_no_call_that_opens_one() {
        let has = |access, call: libc::c_long| program(access).iter().any(|step| step.k == call as u32);
        for call in FILE_CALLS.iter().chain(OLD_FILE_CALLS) {
            // Small numbers are lengths of jumps and the like as well.
            if *call > 16 {
                assert!(has(Access::Read, *call) && has(Access::Write, *call), "{call}");
                assert!(!has(Access::Nothing, *call), "{call}");
            }
        }
        assert!(has(Access::Nothing, libc::SYS_recvfrom));
    }
}
