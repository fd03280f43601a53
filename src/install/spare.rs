//! The space for what every removal writes, set aside while there is some.
//!
//! Removing a patch makes room, so a removal must work on a full disk. It writes its
//! journal, a record and the outcome. Each has a file of zeros beside it in `.thimble`,
//! `NAME.spare`, as long as what may have to be written (`set_aside`). Where the disk has
//! no space for a new file, the spare one is renamed to its name and written in place: at
//! no instant is the space free for others to take.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;

use super::sys;
use crate::failpoint;

/// The bytes of a block. A file of any length takes whole ones.
const BLOCK_BYTES: u64 = 4_096;

/// The ending of a spare file's name.
const ENDING: &str = ".spare";

fn spare_name(name: &str) -> String {
    format!("{name}{ENDING}")
}

/// The length of the spare file of `name`, in bytes; `None` if there is none.
pub(super) fn len_of(home: BorrowedFd<'_>, name: &str) -> Option<u64> {
    sys::stat_at(home, &spare_name(name)).ok().map(|stat| stat.size_bytes)
}

/// Gives the spare file of `name` this length; 0 removes it.
pub(super) fn resize(home: BorrowedFd<'_>, name: &str, len: u64) -> io::Result<()> {
    let there = len_of(home, name);
    if there.unwrap_or(0) == len {
        return Ok(());
    }
    failpoint::hit("setting space aside");
    let name = &spare_name(name);
    if len == 0 {
        return sys::remove_if_there(home, name);
    }
    let file = match there {
        Some(_) => sys::open_read_write(home, name)?,
        None => sys::create_new(home, name)?,
    };
    let from = there.unwrap_or(0);
    if from > len {
        file.set_len(len)?;
    } else {
        allocate(&file, from, len - from)?;
    }
    file.sync_all()
}

/// Gives a file space for `len` bytes of zeros from its end, `from`, on.
pub(super) fn allocate(file: &File, from: u64, len: u64) -> io::Result<()> {
    if len == 0 || sys::preallocate(file, from, len)? { Ok(()) } else { write_zeros(file, from, len) }
}

fn write_zeros(mut file: &File, from: u64, len: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    let zeros = [0; BLOCK_BYTES as usize];
    let mut left = len;
    while left > 0 {
        let piece = zeros.get(..usize::try_from(left).unwrap_or(zeros.len()).min(zeros.len()));
        let piece = piece.unwrap_or_default();
        file.write_all(piece)?;
        left -= piece.len() as u64;
    }
    Ok(())
}

/// Gives the spare file of `name` the name `draft`, which must be free, and opens it at
/// its first byte. It has only zeros. `None` if there is no spare file.
pub(super) fn take(home: BorrowedFd<'_>, name: &str, draft: &str) -> io::Result<Option<File>> {
    failpoint::hit("taking a spare file");
    match sys::rename_at(home, &spare_name(name), home, draft) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    }
    let mut file = sys::open_read_write(home, draft)?;
    let len = file.seek(SeekFrom::End(0))?;
    // It may have been a journal before.
    write_zeros(&file, 0, len)?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    Ok(Some(file))
}

/// Removes the file `name`: it becomes the spare one if that was taken.
pub(super) fn give_back(home: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match len_of(home, name) {
        Some(_) => sys::remove_if_there(home, name),
        None => sys::rename_at(home, name, home, &spare_name(name)),
    }
}
