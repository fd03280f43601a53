//! The system calls of a confined worker, as a classic BPF program.
//!
//! A call that is not listed fails as one that the kernel does not know, so that libraries
//! take the older way that they have for it, and an oversight is an error and no dead worker.

use super::Access;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm"))]
use super::calls::{
    ARCHITECTURE, CALLS, FILE_CALLS, MMAP, OLD_CALLS, OLD_FILE_CALLS, WORD_CALLS, WORD_FILE_CALLS,
};

/// The filter; empty for an architecture whose calls are not listed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm")))]
pub fn program(_: Access) -> Vec<libc::sock_filter> {
    Vec::new()
}

/// The filter; empty for an architecture whose calls are not listed.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm"))]
pub fn program(access: Access) -> Vec<libc::sock_filter> {
    // struct seccomp_data, <linux/seccomp.h>: all targets are little-endian, so the lower half
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
    let files = match access {
        Access::Nothing => [[].as_slice(); 3],
        Access::Read | Access::Write => [FILE_CALLS, OLD_FILE_CALLS, WORD_FILE_CALLS],
    };
    for call in [CALLS, OLD_CALLS, WORD_CALLS].iter().chain(&files).flat_map(|calls| *calls) {
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
    with_argument(MMAP, 2, is_code, (fail, allow));
    with_argument(libc::SYS_mprotect, 2, is_code, (fail, allow));
    // Whether a socket blocks; nothing about terminals and devices.
    let is_blocking = step(EQUAL, 0, 1, libc::FIONBIO as u32);
    with_argument(libc::SYS_ioctl, 1, is_blocking, (allow, fail));
    program.push(fail);
    program
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm")))]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_needs_no_file_has_no_call_that_opens_one() {
        let has = |access, call: libc::c_long| program(access).iter().any(|step| step.k == call as u32);
        for call in FILE_CALLS.iter().chain(OLD_FILE_CALLS).chain(WORD_FILE_CALLS) {
            // Small numbers are lengths of jumps and the like as well.
            if *call > 16 {
                assert!(has(Access::Read, *call) && has(Access::Write, *call), "{call}");
                assert!(!has(Access::Nothing, *call), "{call}");
            }
        }
        assert!(has(Access::Nothing, libc::SYS_recvfrom));
    }
}
