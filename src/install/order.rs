//! The order of paths in a record, a journal and a plan: a directory comes right before
//! all that is below it, so that a walk through the paths in this order needs to remember
//! only the directories that it is in.

use std::cmp::Ordering;

/// Compares two paths, name by name.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    // A name ends before any longer name that begins like it.
    let key = |path: &[u8]| path.get(same).map(|byte| if *byte == b'/' { 0 } else { *byte });
    key(a).cmp(&key(b))
}

/// Whether a path is below a directory. All paths but `""` are below `""`.
pub(super) fn is_below(path: &str, directory: &str) -> bool {
    match path.strip_prefix(directory) {
        Some(rest) => !rest.is_empty() && (directory.is_empty() || rest.starts_with('/')),
        None => false,
    }
}

/// The directories of a walk in this order, each told again when the walk has left it:
/// the innermost first.
pub(super) struct Left<T> {
    inside: Vec<(String, T)>,
}

impl<T> Default for Left<T> {
    fn default() -> Self {
        Self { inside: Vec::new() }
    }
}

impl<T> Left<T> {
    /// The walk goes on to `path`. Returns the innermost directory that it leaves; call
    /// it until it returns `None`.
    pub fn leave(&mut self, path: &str) -> Option<(String, T)> {
        self.inside.pop_if(|(directory, _)| !is_below(path, directory))
    }

    /// The walk enters a directory.
    pub fn enter(&mut self, directory: String, what: T) {
        self.inside.push((directory, what));
    }

    /// The directories that the walk is in, the outermost first.
    pub fn inside(&mut self) -> &mut Vec<(String, T)> {
        &mut self.inside
    }

    /// The walk has ended. Returns the directories that it was in, the innermost first.
    pub fn end(self) -> impl Iterator<Item = (String, T)> {
        self.inside.into_iter().rev()
    }
}

/// The last path of a walk that has a stack, and the rank of its top, while the walk is at it
/// or below.
#[derive(Default)]
pub(super) struct FileAbove {
    /// The path; it counts only if there is a rank.
    pub path: String,
    pub top: Option<u16>,
}

impl FileAbove {
    /// The walk is at a path with a stack.
    pub fn set(&mut self, path: &str, top: u16) {
        self.path.clear();
        self.path.push_str(path);
        self.top = Some(top);
    }

    /// The walk goes on to a path.
    pub fn leave(&mut self, path: &str) {
        self.top.take_if(|_| !is_below(path, &self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_comes_right_before_what_is_below_it() {
        let sorted = ["", "a", "a/b", "a/b/c", "a/b-c", "a-b", "a-b/c", "a.b", "ab", "b"];
        for (at, a) in sorted.iter().enumerate() {
            for (other, b) in sorted.iter().enumerate() {
                assert_eq!(order(a, b), at.cmp(&other), "{a} {b}");
            }
        }
        assert!(is_below("a/b", "a") && is_below("a", "") && is_below("a/b/c", "a"));
        assert!(!is_below("a-b", "a") && !is_below("a", "a") && !is_below("", "") && !is_below("b", "a"));
    }

    #[test]
    fn directories_are_left_from_the_inside() {
        let mut left = Left::default();
        let mut told = Vec::new();
        for path in ["a", "a/b", "a/b/c", "a/d", "e"] {
            while let Some((directory, ())) = left.leave(path) {
                told.push(directory);
            }
            left.enter(path.to_owned(), ());
        }
        assert_eq!(told, ["a/b/c", "a/b", "a/d", "a"]);
        assert_eq!(left.end().next().unwrap().0, "e");
    }
}
