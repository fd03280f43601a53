//! The table of commands. The parser, `--help`, the manual page and the completions read
//! it. No other file lists the names of commands or options.

mod cluster;
mod patches;
mod tipc;
mod tools;
mod values;

use std::ffi::OsStr;

use super::command::{Arguments, Command, Opt, Who};
use super::term;
pub use values::{SHELLS, ValueKind};

const NONE: Arguments = Arguments { name: "", least: 0, most: 0 };

const fn at_least_one(name: &'static str, most: usize) -> Arguments {
    Arguments { name, least: 1, most }
}

const fn at_most_one(name: &'static str) -> Arguments {
    Arguments { name, least: 0, most: 1 }
}

const fn one(name: &'static str) -> Arguments {
    Arguments { name, least: 1, most: 1 }
}

const fn switch(name: &'static str, help: &'static str) -> Opt {
    Opt { name, short: None, value: None, is_repeatable: false, help }
}

const fn valued(name: &'static str, value: &'static str, help: &'static str) -> Opt {
    Opt { name, short: None, value: Some(value), is_repeatable: false, help }
}

const fn output(help: &'static str) -> Opt {
    Opt { name: "output", short: Some('o'), value: Some("FILE"), is_repeatable: false, help }
}

const LOST: Opt = switch("force", "go on although hosts are lost");

/// The options of every command.
pub const GLOBAL: &[Opt] = &[
    valued("config", "PATH", "the configuration (default /etc/thimble/thimble.toml)"),
    valued("socket", "PATH", "the control socket (default: the configuration's)"),
    switch("json", "write one JSON document instead of text"),
    valued("color", term::WHEN, "colour text (default: on a terminal, no NO_COLOR)"),
    Opt { name: "help", short: Some('h'), value: None, is_repeatable: false, help: "explain the command" },
    Opt { name: "version", short: Some('V'), value: None, is_repeatable: false, help: "show the version" },
];

/// A group of commands.
#[derive(Debug)]
pub struct Group {
    /// The heading of the group.
    pub name: &'static str,
    /// The commands, in the order of `--help`.
    pub commands: &'static [Command],
}

/// All commands, in the order of `--help`.
pub const GROUPS: &[Group] = &[
    Group { name: "patches", commands: patches::COMMANDS },
    Group { name: "hosts, controllers and the daemon", commands: cluster::COMMANDS },
    Group { name: "without a daemon", commands: tools::COMMANDS },
    Group { name: "the TIPC network, with a thimble built for it", commands: tipc::COMMANDS },
];

/// All commands.
pub fn all() -> impl Iterator<Item = &'static Command> {
    GROUPS.iter().flat_map(|group| group.commands)
}

/// The command with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Command> {
    all().find(|command| command.name == name)
}

/// Whether `words` is the first part of a command's name of two words.
#[must_use]
pub fn begins(words: &OsStr) -> bool {
    let rest = |name: &'static str| name.strip_prefix(words.to_str()?)?.strip_prefix(' ');
    all().any(|command| rest(command.name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;

    #[test]
    fn every_command_is_named_once_and_explained() {
        for (index, command) in all().enumerate() {
            assert_eq!(all().position(|other| other.name == command.name), Some(index));
            assert!(!command.help.is_empty() && !command.help.ends_with('.'), "{}", command.name);
            assert!(command.help.len() <= 80, "{}", command.name);
        }
    }

    #[test]
    fn every_example_is_a_line_that_parses_to_its_command() {
        for command in all() {
            let mut words = command.example.split_whitespace();
            assert_eq!(words.next(), Some("thimble"));
            let parsed = parse::parse(words.map(Into::into)).unwrap_or_else(|e| panic!("{}", e.message));
            assert_eq!(parsed.command.name, command.name);
        }
    }

    #[test]
    fn no_option_hides_a_global_one_or_another_of_its_command() {
        for command in all() {
            let all: Vec<&Opt> = command.options.iter().chain(GLOBAL).collect();
            for (index, option) in all.iter().enumerate() {
                for other in &all[..index] {
                    assert_ne!(option.name, other.name, "{}", command.name);
                    assert!(option.short.is_none() || option.short != other.short, "{}", command.name);
                }
            }
        }
    }
}
