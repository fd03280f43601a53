//! System calls of the configuration that std does not have.

/// The effective user id of this process.
pub(super) fn effective_uid() -> u32 {
    // SAFETY: geteuid takes no arguments, touches no memory and cannot fail.
    unsafe { libc::geteuid() }
}

/// The kernel's host name; empty if it cannot be told. Unlike `/proc/sys`, the call is there
/// in every sandbox.
pub(super) fn hostname() -> String {
    let mut name = [0; 65];
    // SAFETY: the pointer and the length are those of `name`, without a last byte that stays zero; the kernel has 64 at most.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), 64) };
    let name = std::ffi::CStr::from_bytes_until_nul(&name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}
