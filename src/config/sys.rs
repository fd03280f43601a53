//! The one question about this process that the standard library does not answer.

/// The user id that this process acts as.
pub(super) fn effective_uid() -> u32 {
    // SAFETY: geteuid takes nothing, touches no memory and cannot fail.
    unsafe { libc::geteuid() }
}
