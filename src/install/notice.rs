//! Files that were changed by hand: a line for each in the host's log, and a summary of
//! all that a successful install reports to the operator.

use std::cmp::Ordering;
use std::os::fd::BorrowedFd;
use std::{fmt, io};

use serde::{Deserialize, Serialize};

use super::sorter::{Sorted, SortedItems, SortedIter, Sorter};
use crate::limits;
use crate::types::PatchId;

/// A local change and what the install did about it. The most important comes first:
/// files that are no longer in place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Notice {
    /// The changed file at the first path was saved at the second.
    Saved(String, String),
    /// The changed file stays, and the patch's file is at the second path.
    NewBeside(String, String),
    /// The changed file stays although its patch is removed.
    Stays(String),
    /// A file of a patch was missing, and another takes its place.
    Replaced(String, PatchId),
    /// The filesystem has no mode for each file: this one has the second mode, which
    /// lets all users read it.
    Opened(String, u32, u32),
    /// A directory that a patch has was there and stays with the first mode and owner, not
    /// with the second.
    DirectoryStays(String, PatchId, String, String),
    /// The owner or mode of a directory was changed by hand: it stays with the first, and not
    /// with the second.
    AccessStays(String, String, String),
    /// A file is a hard link in its patch and a copy here: the filesystem has none.
    Copied(String),
    /// A file of a patch is missing and is not restored.
    Missing(String, PatchId),
    /// A patch removes a file that was not there.
    NothingToRemove(String, PatchId),
    /// It cannot be seen whether a file of a patch is in place, for this reason.
    Unseen(String, PatchId, String),
    /// This many more files are missing.
    MoreMissing(usize),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saved(path, beside) => {
                write!(f, "/{path} was changed by hand: that is saved as {}", name(beside))
            }
            Self::NewBeside(path, beside) => {
                write!(f, "/{path} was changed by hand and stays; the new file is {}", name(beside))
            }
            Self::Stays(path) => write!(f, "/{path} was changed by hand and stays"),
            Self::Replaced(path, id) => write!(f, "/{path} of {id} had been deleted by hand"),
            Self::Opened(path, asked, granted) => write!(
                f,
                "/{path} has mode {granted:04o} in place of {asked:04o}, as all files of its filesystem"
            ),
            Self::DirectoryStays(path, id, has, asked) => write!(
                f,
                "the directory /{path} stays {has} and does not become {asked} as in {id}: `chmod` and \
                 `chown` it if it should"
            ),
            Self::AccessStays(path, has, asked) => write!(
                f,
                "the directory /{path} was changed by hand and stays {has}: `chmod` and `chown` it if it \
                 should become {asked}"
            ),
            Self::Copied(path) => {
                write!(f, "/{path} is a copy of another file of its patch: its filesystem has no hard links")
            }
            Self::Missing(path, id) => {
                write!(
                    f,
                    "/{path} of {id} was deleted by hand: to have it back, remove {id} and apply it again"
                )
            }
            Self::NothingToRemove(path, id) => write!(f, "/{path}, which {id} removes, was not there"),
            Self::Unseen(path, id, error) => {
                write!(f, "it cannot be seen whether /{path} of {id} is in place: {error}")
            }
            Self::MoreMissing(count) => {
                write!(f, "{count} more files of installed patches were deleted by hand, or cannot be seen")
            }
        }
    }
}

/// A path's last part.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Notice {
    /// How many files it tells of.
    fn files(&self) -> usize {
        if let Self::MoreMissing(count) = self { *count } else { 1 }
    }
}

impl Sorted for Notice {
    fn order(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Saved(a, b) | Self::NewBeside(a, b) | Self::Unseen(a, _, b) => a.len() + b.len(),
            Self::Stays(path)
            | Self::Replaced(path, _)
            | Self::Opened(path, ..)
            | Self::Copied(path)
            | Self::DirectoryStays(path, ..)
            | Self::AccessStays(path, ..)
            | Self::Missing(path, _)
            | Self::NothingToRemove(path, _) => path.len(),
            Self::MoreMissing(_) => 0,
        }
    }
}

/// The notices of an install, of which there may be many.
pub(super) struct Notices<'h> {
    sorter: Sorter<'h, Notice>,
    files: usize,
}

impl<'h> Notices<'h> {
    /// None yet. `home` is the directory for a file.
    pub fn new(home: BorrowedFd<'h>) -> Self {
        Self { sorter: Sorter::new(home), files: 0 }
    }

    /// Adds one.
    pub fn push(&mut self, notice: Notice) -> io::Result<()> {
        self.files += notice.files();
        self.sorter.push(notice)
    }

    /// All notices.
    pub fn sorted(self) -> io::Result<SortedNotices> {
        Ok(SortedNotices { items: self.sorter.sorted()?, files: self.files })
    }
}

/// The notices of an install, the most important first.
pub(super) struct SortedNotices {
    items: SortedItems<Notice>,
    files: usize,
}

impl SortedNotices {
    /// The notices in their order.
    pub fn iter(&self) -> io::Result<SortedIter<'_, Notice>> {
        self.items.iter()
    }

    /// All in one line that fits a `Reason`: the most important first, then the number of
    /// the rest. Empty if there are none.
    pub fn summary(&self) -> io::Result<String> {
        let mut left = self.files;
        let mut text = String::new();
        let mut notices = self.iter()?;
        while let Some(notice) = notices.next()? {
            let between = if text.is_empty() { "" } else { "; " };
            let longer = format!("{text}{between}{notice}");
            let still_left = left.saturating_sub(notice.files());
            if longer.len() + more(still_left, true).len() > limits::REASON_BYTES {
                break;
            }
            (text, left) = (longer, still_left);
        }
        let rest = more(left, !text.is_empty());
        Ok(text + &rest)
    }
}

fn more(count: usize, is_behind: bool) -> String {
    match (count, is_behind) {
        (0, _) => String::new(),
        (_, true) => format!("; and {count} more, see the host's log"),
        (_, false) => format!("{count} local changes, see the host's log"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn missing(path: &str) -> Notice {
        Notice::Missing(path.to_owned(), PatchId::new("P1").unwrap())
    }

    fn saved(path: &str) -> Notice {
        Notice::Saved(path.to_owned(), format!("{path}.thimble-saved"))
    }

    fn summary(notices: &[Notice]) -> String {
        let home = std::fs::File::open("/").unwrap();
        let mut all = Notices::new(home.as_fd());
        notices.iter().for_each(|notice| all.push(notice.clone()).unwrap());
        all.sorted().unwrap().summary().unwrap()
    }

    #[test]
    fn the_most_important_come_first() {
        assert_eq!(summary(&[]), "");
        let text = summary(&[Notice::Stays("etc/a".to_owned()), saved("etc/z")]);
        let expected = "/etc/z was changed by hand: that is saved as z.thimble-saved; \
                        /etc/a was changed by hand and stays";
        assert_eq!(text, expected);
    }

    #[test]
    fn notices_that_do_not_fit_are_counted() {
        let mut notices: Vec<_> = (0..8).map(|at| missing(&format!("srv/{at}"))).collect();
        notices.push(Notice::MoreMissing(12));
        notices.push(saved("etc/z"));
        let text = summary(&notices);
        assert!(text.starts_with("/etc/z was changed by hand"), "{text}");
        assert!(text.ends_with("; and 18 more, see the host's log"), "{text}");
        assert!(text.contains("/srv/0 of P1") && !text.contains("/srv/2"), "{text}");
        let long = saved(&"x".repeat(limits::PATH_BYTES));
        assert_eq!(summary(&[long.clone(), long]), "2 local changes, see the host's log");
    }
}
