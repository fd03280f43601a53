//! Files that were changed by hand: a line for each in the host's log, and a summary of
//! all that a successful install reports to the operator.

use std::fmt;

use crate::limits;
use crate::types::PatchId;

/// A local change and what the install did about it. The most important comes first:
/// files that are no longer in place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// All notices in one line that fits a `Reason`: the most important first, then the
/// number of the rest. Empty if there are none.
pub(super) fn summary(notices: &[Notice]) -> String {
    let mut sorted: Vec<_> = notices.iter().collect();
    sorted.sort_unstable();
    let weight = |notice: &&Notice| if let Notice::MoreMissing(count) = notice { *count } else { 1 };
    let mut left: usize = sorted.iter().map(weight).sum();
    let mut text = String::new();
    for notice in sorted {
        let between = if text.is_empty() { "" } else { "; " };
        let longer = format!("{text}{between}{notice}");
        let still_left = left.saturating_sub(weight(&notice));
        if longer.len() + more(still_left, true).len() > limits::REASON_BYTES {
            break;
        }
        (text, left) = (longer, still_left);
    }
    let rest = more(left, !text.is_empty());
    text + &rest
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
    use super::*;

    fn missing(path: &str) -> Notice {
        Notice::Missing(path.to_owned(), PatchId::new("P1").unwrap())
    }

    fn saved(path: &str) -> Notice {
        Notice::Saved(path.to_owned(), format!("{path}.thimble-saved"))
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
