//! The system calls that give an interface a program of XDP.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// <linux/bpf.h>
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
/// <linux/if_link.h>: XDP_FLAGS_SKB_MODE, which each interface has.
const SKB_MODE: u32 = 2;

/// `union bpf_attr`, as far as it is used: the rest of what the kernel reads is zero.
#[repr(C, align(8))]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    program: u64,
    license: u64,
    rest: [u64; 13],
}

#[repr(C, align(8))]
#[derive(Default)]
struct Link {
    program: u32,
    interface: u32,
    attach: u32,
    flags: u32,
    rest: [u64; 14],
}

/// One step, as the kernel reads it.
const fn step(code: u8, registers: u8, offset: i16, value: u32) -> u64 {
    code as u64 | (registers as u64) << 8 | (offset as u16 as u64) << 16 | (value as u64) << 32
}

/// Drops a packet of an interface of this thread's network namespace if a random number is below the threshold, until
/// the descriptor is closed.
pub fn drop_at_random(interface: &CStr, threshold: u32) -> io::Result<OwnedFd> {
    // SAFETY: the name ends with a zero byte.
    let index = unsafe { libc::if_nametoindex(interface.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    let program = [
        // r0 = bpf_get_prandom_u32()
        step(0x85, 0, 0, 7),
        // r1 = threshold
        step(0x18, 1, 0, threshold),
        step(0, 0, 0, 0),
        // if r0 < r1: to the drop
        step(0xad, 0x10, 2, 0),
        // XDP_PASS
        step(0xb7, 0, 0, 2),
        step(0x95, 0, 0, 0),
        // XDP_DROP
        step(0xb7, 0, 0, 1),
        step(0x95, 0, 0, 0),
    ];
    let load = Load {
        kind: PROG_TYPE_XDP,
        count: program.len() as u32,
        program: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: what the attributes point to outlives the call, with the lengths that they say.
    let program = unsafe { bpf(PROG_LOAD, (&raw const load).cast(), size_of_val(&load)) }?;
    let link = Link {
        program: program.as_raw_fd() as u32,
        interface: index,
        attach: ATTACH_XDP,
        flags: SKB_MODE,
        ..Link::default()
    };
    // SAFETY: these attributes point to nothing.
    unsafe { bpf(LINK_CREATE, (&raw const link).cast(), size_of_val(&link)) }
}

/// # Safety
/// The attributes are those of the command.
unsafe fn bpf(command: libc::c_long, attributes: *const libc::c_void, len: usize) -> io::Result<OwnedFd> {
    // SAFETY: as the caller says; a descriptor that is returned has no other owner.
    unsafe {
        match libc::syscall(libc::SYS_bpf, command, attributes, len) {
            fd if fd < 0 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd as i32)),
        }
    }
}
