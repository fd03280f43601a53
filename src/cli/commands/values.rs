//! The kinds of arguments and values, by name: `ID`, `FILE`,
//! `available|applied|committed`. Every name in the table of commands is listed here.
//! Parsing and completion use the kind.

/// The kind of an argument or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// The id of a patch in the repository.
    Patch,
    /// A host known to the controller.
    Host,
    /// A controller known to the daemon.
    Controller,
    /// The name of a command.
    Command,
    /// A file.
    File,
    /// A directory.
    Directory,
    /// One of [`SHELLS`].
    Shell,
    /// One of these words, separated by `|`.
    Choice(&'static str),
    /// Free text, which completion cannot offer.
    Free,
}

/// The shells with completion.
pub const SHELLS: &str = "bash|zsh|fish";

const NAMES: &[(&str, ValueKind)] = &[
    ("ID", ValueKind::Patch),
    ("HOST", ValueKind::Host),
    ("HOST|ID", ValueKind::Host),
    ("CONTROLLER", ValueKind::Controller),
    ("COMMAND", ValueKind::Command),
    ("FILE", ValueKind::File),
    ("KEY", ValueKind::File),
    ("OLD", ValueKind::File),
    ("PATCH", ValueKind::File),
    ("PATH", ValueKind::File),
    ("DIR", ValueKind::Directory),
    ("SHELL", ValueKind::Shell),
    ("HEX|-", ValueKind::Free),
    ("K", ValueKind::Free),
    ("L", ValueKind::Free),
    ("MS", ValueKind::Free),
    ("N", ValueKind::Free),
    ("RATE", ValueKind::Free),
    ("NAME", ValueKind::Free),
    ("RELEASE", ValueKind::Free),
    ("T", ValueKind::Free),
    ("T:L-U", ValueKind::Free),
    ("U", ValueKind::Free),
];

impl ValueKind {
    /// The kind that a name stands for. A name in small letters is a list of choices.
    /// `None` for an unknown name.
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
            assert!(ValueKind::of(name).is_some(), "{name}: add it to commands/values.rs");
        }
    }

    #[test]
    fn a_list_of_words_is_a_choice_among_them() {
        assert_eq!(ValueKind::of("on|off-now"), Some(ValueKind::Choice("on|off-now")));
        assert_eq!(ValueKind::of("DIR"), Some(ValueKind::Directory));
        assert_eq!(ValueKind::of("HEX|-"), Some(ValueKind::Free));
        assert_eq!((ValueKind::of("NONSENSE"), ValueKind::of("")), (None, None));
    }
}
