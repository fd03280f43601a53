//! What the names of arguments and values stand for: `ID`, `FILE`,
//! `available|applied|committed`. Every name in the table of commands is one of
//! these; parsing and completion go by what it means here.

/// What is wanted in a name's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A patch of the repository.
    Patch,
    /// A host that the controller knows.
    Host,
    /// A controller that the daemon knows.
    Controller,
    /// A command.
    Command,
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A shell whose completion is written: one of [`SHELLS`].
    Shell,
    /// One of these words, which `|` parts.
    Choice(&'static str),
    /// What nobody can list.
    Free,
}

/// The shells whose completion is written.
pub const SHELLS: &str = "bash|zsh|fish";

const NAMES: &[(&str, Kind)] = &[
    ("ID", Kind::Patch),
    ("HOST", Kind::Host),
    ("CONTROLLER", Kind::Controller),
    ("COMMAND", Kind::Command),
    ("FILE", Kind::File),
    ("KEY", Kind::File),
    ("OLD", Kind::File),
    ("PATH", Kind::File),
    ("DIR", Kind::Directory),
    ("SHELL", Kind::Shell),
    ("HEX|-", Kind::Free),
    ("K", Kind::Free),
    ("L", Kind::Free),
    ("MS", Kind::Free),
    ("N", Kind::Free),
    ("NAME", Kind::Free),
    ("RELEASE", Kind::Free),
    ("T", Kind::Free),
    ("T:L-U", Kind::Free),
    ("U", Kind::Free),
];

impl Kind {
    /// What a name stands for; one in small letters is the list of what it may be.
    /// `None` for a name that has no meaning yet.
    #[must_use]
    pub fn of(name: &'static str) -> Option<Self> {
        let is_list = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b"|-".contains(&b));
        match is_list {
            true => Some(Self::Choice(name)),
            false => NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::{GLOBAL, all};

    #[test]
    fn every_argument_and_value_of_the_table_has_a_meaning() {
        let options = all().flat_map(|command| command.options).chain(GLOBAL);
        let arguments = all().map(|command| command.arguments.name).filter(|name| !name.is_empty());
        for name in options.filter_map(|option| option.value).chain(arguments) {
            assert!(Kind::of(name).is_some(), "{name}: add it to commands/values.rs");
        }
    }

    #[test]
    fn a_list_of_words_is_a_choice_among_them() {
        assert_eq!(Kind::of("on|off-now"), Some(Kind::Choice("on|off-now")));
        assert_eq!(Kind::of("DIR"), Some(Kind::Directory));
        assert_eq!(Kind::of("HEX|-"), Some(Kind::Free));
        assert_eq!((Kind::of("NONSENSE"), Kind::of("")), (None, None));
    }
}
