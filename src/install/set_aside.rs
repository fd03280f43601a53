//! How much space a removal may need, and setting it aside while there is some.

use std::os::fd::BorrowedFd;

use super::error::{ErrorContext, InstallError};
use super::record::{Installed, with_script};
use super::record_table::{BEFORE, INSTALLED, ITEMS, RecordBytes};
use super::scripts::Script;
use super::state_files::LAST;
use super::{journal, spare};

/// The bytes of a block. A file of any length takes whole ones.
const BLOCK: u64 = 4_096;

/// What must be set aside for removing patches of a record of this length: the name of
/// each file in `.thimble` and its length, in bytes.
fn needs(record: &Installed, bytes: RecordBytes) -> [(&'static str, u64); 5] {
    if record.serial == 0 {
        // Nothing was ever installed here.
        return [journal::NAME, ITEMS, INSTALLED.name, LAST.name, BEFORE.name].map(|name| (name, 0));
    }
    // The next record has no more items than this one, nor are the moves longer, unless many
    // files were changed by hand. The table may have more segments, which begin with other
    // paths.
    let table_bytes = 2 * bytes.table + BLOCK;
    let scripts: usize = record.patches.iter().map(|patch| patch.scripts.len()).sum();
    let keeps_before = record.patches.iter().any(|patch| patch.reboot_required)
        && with_script(&record.patches, Script::Health).next().is_some();
    let needs = [
        (journal::NAME, journal::room(bytes.items, scripts)),
        (ITEMS, bytes.items),
        (INSTALLED.name, table_bytes),
        (LAST.name, BLOCK),
        (BEFORE.name, if keeps_before { table_bytes } else { 0 }),
    ];
    needs.map(|(name, len)| (name, len.next_multiple_of(BLOCK)))
}

/// The bytes that [`set_aside`] would take from the disk.
pub(super) fn missing_bytes(home: BorrowedFd<'_>, record: &Installed, bytes: RecordBytes) -> u64 {
    let needs = needs(record, bytes);
    needs.iter().map(|(name, len)| len.saturating_sub(spare::len_of(home, name).unwrap_or(0))).sum()
}

/// Sets aside what removing patches of this record needs, and gives back what is more.
/// Does nothing if it is there already. The record takes these bytes.
pub(super) fn set_aside(
    home: BorrowedFd<'_>,
    record: &Installed,
    bytes: RecordBytes,
) -> Result<(), InstallError> {
    for (name, len) in needs(record, bytes) {
        spare::resize(home, name, len).own_context("set space aside for", name)?;
    }
    Ok(())
}
