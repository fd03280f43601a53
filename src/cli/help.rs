//! `help` and `version`, from the table of commands.

use std::ffi::OsStr;
use std::fmt::Write;

use super::command::{Arguments, Command, Invocation, Opt};
use super::commands::{GLOBAL, GROUPS};
use super::exit::{Exit, Failure};
use super::out::Out;
use super::parse::command_named;
use super::term::hang;
use crate::json::Value;

/// thimble's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The transport that is compiled in.
pub const TRANSPORT: &str = if cfg!(feature = "tipc") { "tipc" } else { "udp" };

/// The greatest width of help, in columns; a narrower terminal gets narrower help.
const WIDTH: usize = 80;

/// `thimble help [COMMAND]`
pub fn help(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let width = out.columns().map_or(WIDTH, |columns| columns.clamp(20, WIDTH));
    // A command's name may have two words.
    let text = match invocation.arguments.join(OsStr::new(" ")) {
        name if name.is_empty() => overview(width),
        name => explain(command_named(&name)?, width),
    };
    Ok(out.always(&text)?)
}

/// `thimble version`
pub fn version(_: &Invocation, out: &mut Out) -> Result<(), Failure> {
    out.line(format_args!("thimble {VERSION} ({TRANSPORT})"))?;
    out.json(|| Value::object([("version", Value::text(VERSION)), ("transport", Value::text(TRANSPORT))]))?;
    Ok(())
}

/// All commands, one line each.
fn overview(width: usize) -> String {
    let mut text = String::new();
    hang(&mut text, "", "thimble keeps a cluster of small Linux nodes patched.", 0, width);
    text.push('\n');
    hang(&mut text, "usage:", "thimble COMMAND .., explained by thimble COMMAND --help", 7, width);
    text.push('\n');
    for group in GROUPS {
        let _ = writeln!(text, "{}:", group.name);
        columns(
            &mut text,
            width,
            group.commands.iter().map(|command| (command.name.to_owned(), command.help)),
        );
        text.push('\n');
    }
    text.push_str("for every command:\n");
    columns(&mut text, width, GLOBAL.iter().map(|option| (flag(option), option.help)));
    text.push('\n');
    let codes: Vec<String> =
        Exit::ALL.iter().map(|(exit, meaning)| format!("{} {meaning}", *exit as u8)).collect();
    hang(&mut text, "exit codes:", &codes.join(", "), 12, width);
    text
}

/// The full help of one command; fits a screen of 24 lines.
fn explain(command: &Command, width: usize) -> String {
    let mut text = String::new();
    hang(&mut text, "", &format!("thimble {}: {}.", command.name, command.help), 0, width);
    text.push('\n');
    hang(&mut text, "usage:", &format!("thimble {}", synopsis(command)), 7, width);
    text.push('\n');
    if !command.options.is_empty() {
        columns(&mut text, width, command.options.iter().map(|option| (flag(option), option.help)));
        text.push('\n');
    }
    if !command.details.is_empty() {
        hang(&mut text, "", command.details, 0, width);
        text.push('\n');
    }
    hang(&mut text, "example:", command.example, 10, width);
    hang(&mut text, "who may:", command.who.as_str(), 10, width);
    text
}

/// A command with its options and arguments: `verify [--trust KEY].. FILE..`. No-break
/// spaces keep the words in brackets together.
pub fn synopsis(command: &Command) -> String {
    let mut text = command.name.to_owned();
    for option in command.options {
        let repeated = if option.is_repeatable { ".." } else { "" };
        text += &format!(" [{}]{repeated}", flag(option).replace(", ", "|").replace(' ', "\u{a0}"));
    }
    let Arguments { name, least, most } = command.arguments;
    text + &match (name, least, most) {
        ("", ..) => String::new(),
        (name, 0, 1) => format!(" [{name}]"),
        (name, 0, _) => format!(" [{name}..]"),
        (name, _, 1) => format!(" {name}"),
        (name, ..) => format!(" {name}.."),
    }
}

/// An option with its short name and its value: `-o, --output FILE`.
pub fn flag(option: &Opt) -> String {
    let short = option.short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
    let value = option.value.map(|value| format!(" {value}")).unwrap_or_default();
    format!("{short}--{}{value}", option.name)
}

/// Writes two columns: names and their descriptions.
fn columns<'a>(text: &mut String, width: usize, rows: impl Iterator<Item = (String, &'a str)>) {
    let rows: Vec<(String, &str)> = rows.map(|(left, right)| (format!("  {left}"), right)).collect();
    let widest = rows.iter().map(|(left, _)| left.len() + 2).max().unwrap_or(0);
    for (left, right) in rows {
        hang(text, &left, right, widest.min(width / 3), width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that do not fit a screen of `lines` lines and 80 columns.
    fn overflow(text: &str, lines: usize) -> Vec<&str> {
        let wide = text.lines().filter(|line| line.chars().count() > WIDTH);
        text.lines().skip(lines).chain(wide).collect()
    }

    #[test]
    fn the_overview_names_every_command_and_exit_code_in_65_lines() {
        let text = overview(WIDTH);
        for command in super::super::commands::all() {
            assert!(text.contains(&format!("\n  {} ", command.name)), "{}", command.name);
        }
        assert!(text.contains(", 6 timed out"));
        assert!(text.contains("-h, --help"));
        assert_eq!(overflow(&text, 65), [""; 0], "{text}");
    }

    #[test]
    fn a_command_is_explained_with_usage_options_example_and_who_may() {
        let text = explain(command_named("verify".as_ref()).unwrap(), WIDTH);
        assert!(text.contains("usage: thimble verify [--trust KEY].. FILE..\n"), "{text}");
        assert!(text.contains("example:  thimble verify --trust"), "{text}");
        assert!(text.contains("who may:  anybody\n"), "{text}");
        let text = explain(command_named("query".as_ref()).unwrap(), WIDTH);
        assert!(text.contains("[--release RELEASE] [available|applied|committed]\n"), "{text}");
    }

    #[test]
    fn the_help_of_every_command_fits_a_screen() {
        for command in super::super::commands::all() {
            let text = explain(command, WIDTH);
            assert_eq!(overflow(&text, 24), [""; 0], "{text}");
        }
    }

    #[test]
    fn on_a_narrow_terminal_no_word_of_help_is_broken() {
        let text = explain(command_named("commit".as_ref()).unwrap(), 40);
        assert!(text.lines().all(|line| line.len() <= 40), "{text}");
        assert!(text.contains("usage: thimble commit [--all]"), "{text}");
    }
}
