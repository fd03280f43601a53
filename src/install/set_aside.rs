//! How much space a removal may need, and setting it aside while there is some.

use std::os::fd::BorrowedFd;

use super::error::{ErrorContext, InstallError};
use super::record::{Record, with_script};
use super::scripts::Script;
use super::state_files::{BEFORE, INSTALLED, LAST};
use super::{journal, spare};

/// The bytes of a block. A file of any length takes whole ones.
const BLOCK: u64 = 4_096;

/// What must be set aside for removing patches of this record: the name of each file in
/// `.thimble` and its length, in bytes.
fn needs(record: &Record) -> Result<[(&'static str, u64); 4], InstallError> {
    if record.serial == 0 {
        // Nothing was ever installed here.
        return Ok([journal::NAME, INSTALLED.name, LAST.name, BEFORE.name].map(|name| (name, 0)));
    }
    // The record, the journal's plan and the previous record are never longer than this.
    // Its numbers may take a few bytes more by then.
    let record_bytes = INSTALLED.sealed_bytes(record)? + 64;
    let scripts: usize = record.patches.iter().map(|patch| patch.scripts.len()).sum();
    let keeps_before = record.patches.iter().any(|patch| patch.reboot_required)
        && with_script(&record.patches, Script::Health).next().is_some();
    let needs = [
        (journal::NAME, journal::room(record_bytes, scripts)),
        (INSTALLED.name, record_bytes),
        (LAST.name, BLOCK),
        (BEFORE.name, if keeps_before { record_bytes } else { 0 }),
    ];
    Ok(needs.map(|(name, len)| (name, len.next_multiple_of(BLOCK))))
}

/// The bytes that [`set_aside`] would take from the disk.
pub(super) fn missing_bytes(home: BorrowedFd<'_>, record: &Record) -> Result<u64, InstallError> {
    let needs = needs(record)?;
    Ok(needs.iter().map(|(name, len)| len.saturating_sub(spare::len_of(home, name).unwrap_or(0))).sum())
}

/// Sets aside what removing patches of this record needs, and gives back what is more.
/// Does nothing if it is there already.
pub(super) fn set_aside(home: BorrowedFd<'_>, record: &Record) -> Result<(), InstallError> {
    for (name, len) in needs(record)? {
        spare::resize(home, name, len).context("set space aside in .thimble for", name)?;
    }
    Ok(())
}
