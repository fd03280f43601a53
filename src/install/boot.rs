//! The kernel's boot id, which changes when the host restarts.

use std::fs;

/// The id of this boot. Empty if the kernel does not give one; then no restart is ever
/// seen, and a restart stays owed.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Whether the host has restarted since the boot with this id.
pub(super) fn has_restarted_since(boot: &str) -> bool {
    boot != boot_id()
}
