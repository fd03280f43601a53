//! How much space a removal may need, and setting it aside while there is some.

use std::os::fd::BorrowedFd;

use super::error::{ErrorContext, InstallError};
use super::record::{Installed, with_script};
use super::record_draft::{BEFORE, INSTALLED};
use super::scripts::Script;
use super::state_files::LAST;
use super::{journal, spare, sys};

/// The bytes of a block. A file of any length takes whole ones.
const BLOCK: u64 = 4_096;

/// What must be set aside for removing patches of a record of this length: the name of
/// each file in `.thimble` and its length, in bytes.
fn needs(record: &Installed, record_bytes: u64) -> [(&'static str, u64); 4] {
    if record.serial == 0 {
        // Nothing was ever installed here.
        return [journal::NAME, INSTALLED.name, LAST.name, BEFORE.name].map(|name| (name, 0));
    }
    // The next record is never longer than this one, whose numbers may take a few bytes more
    // by then, nor are the moves, unless many files were changed by hand.
    let record_bytes = record_bytes + 64;
    let scripts: usize = record.patches.iter().map(|patch| patch.scripts.len()).sum();
    let keeps_before = record.patches.iter().any(|patch| patch.reboot_required)
        && with_script(&record.patches, Script::Health).next().is_some();
    let needs = [
        (journal::NAME, journal::room(record_bytes, scripts)),
        (INSTALLED.name, record_bytes),
        (LAST.name, BLOCK),
        (BEFORE.name, if keeps_before { record_bytes } else { 0 }),
    ];
    needs.map(|(name, len)| (name, len.next_multiple_of(BLOCK)))
}

/// The bytes that [`set_aside`] would take from the disk.
pub(super) fn missing_bytes(home: BorrowedFd<'_>, record: &Installed, record_bytes: u64) -> u64 {
    let needs = needs(record, record_bytes);
    needs.iter().map(|(name, len)| len.saturating_sub(spare::len_of(home, name).unwrap_or(0))).sum()
}

/// Sets aside what removing patches of this record needs, and gives back what is more.
/// Does nothing if it is there already. The record is in the file with this name.
pub(super) fn set_aside(home: BorrowedFd<'_>, record: &Installed, name: &str) -> Result<(), InstallError> {
    let record_bytes = sys::stat_at(home, name).map_or(0, |stat| stat.size_bytes);
    for (name, len) in needs(record, record_bytes) {
        spare::resize(home, name, len).context("set space aside in .thimble for", name)?;
    }
    Ok(())
}
