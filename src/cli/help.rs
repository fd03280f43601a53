//! `help` and `version`, from the table of commands.

use std::fmt::Write;

use super::commands::{Arguments, Command, GLOBAL, GROUPS, Opt};
use super::exit::{Exit, Failure};
use super::json::Value;
use super::out::Out;
use super::parse::{Invocation, command_named};

/// thimble's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The transport that is compiled in.
pub const TRANSPORT: &str = if cfg!(feature = "udp") { "udp" } else { "none" };

/// `thimble help [COMMAND]`
pub fn help(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let text = match invocation.arguments.first() {
        None => overview(),
        Some(name) => explain(command_named(name)?),
    };
    Ok(out.raw(text.as_bytes())?)
}

/// `thimble version`
pub fn version(_: &Invocation, out: &mut Out) -> Result<(), Failure> {
    out.line(format_args!("thimble {VERSION} ({TRANSPORT})"))?;
    out.json(|| Value::object([("version", Value::text(VERSION)), ("transport", Value::text(TRANSPORT))]))?;
    Ok(())
}

/// All commands, a line each.
fn overview() -> String {
    let mut text = String::from("thimble keeps a cluster of small Linux nodes patched.\n\n");
    text.push_str("usage: thimble [--config PATH] [--socket PATH] [--json] COMMAND ...\n\n");
    for group in GROUPS {
        let _ = writeln!(text, "{}:", group.name);
        columns(&mut text, group.commands.iter().map(|command| (command.name.to_owned(), command.help)));
        text.push('\n');
    }
    text.push_str("for every command:\n");
    columns(&mut text, GLOBAL.iter().map(|option| (flag(option), option.help)));
    text.push_str("\nexit codes:\n");
    columns(&mut text, Exit::ALL.iter().map(|(exit, meaning)| ((*exit as u8).to_string(), *meaning)));
    text
}

/// One command, in full.
fn explain(command: &Command) -> String {
    let mut text = format!("thimble {}: {}.\n\nusage: thimble {}", command.name, command.help, command.name);
    for option in command.options {
        let _ = write!(text, " [{}]{}", flag(option), if option.is_repeatable { ".." } else { "" });
    }
    text.push_str(&arguments(command.arguments));
    text.push_str("\n\n");
    if !command.options.is_empty() {
        columns(&mut text, command.options.iter().map(|option| (flag(option), option.help)));
        text.push('\n');
    }
    if !command.details.is_empty() {
        let _ = writeln!(text, "{}\n", command.details);
    }
    let _ = write!(text, "example:  {}\nwho may:  {}\n", command.example, command.who.as_str());
    text
}

fn arguments(arguments: Arguments) -> String {
    match (arguments.name, arguments.least, arguments.most) {
        ("", ..) => String::new(),
        (name, 0, 1) => format!(" [{name}]"),
        (name, 0, _) => format!(" [{name}..]"),
        (name, _, 1) => format!(" {name}"),
        (name, ..) => format!(" {name}.."),
    }
}

fn flag(option: &Opt) -> String {
    let short = option.short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
    let value = option.value.map(|value| format!(" {value}")).unwrap_or_default();
    format!("{short}--{}{value}", option.name)
}

fn columns<'a>(text: &mut String, rows: impl Iterator<Item = (String, &'a str)>) {
    let rows: Vec<(String, &str)> = rows.collect();
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    for (left, right) in rows {
        let _ = writeln!(text, "  {left:width$}  {right}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_names_every_command_and_exit_code() {
        let text = overview();
        for command in super::super::commands::all() {
            assert!(text.contains(&format!("\n  {} ", command.name)), "{}", command.name);
        }
        assert!(text.contains("\n  6  timed out"));
        assert!(text.contains("-h, --help"));
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }

    #[test]
    fn a_command_is_explained_with_usage_options_example_and_who_may() {
        let text = explain(command_named("verify".as_ref()).unwrap());
        assert!(text.contains("usage: thimble verify [--trust KEY].. FILE..\n"), "{text}");
        assert!(text.contains("example:  thimble verify --trust"), "{text}");
        assert!(text.contains("who may:  anybody\n"), "{text}");
        let text = explain(command_named("query".as_ref()).unwrap());
        assert!(text.contains("[--release RELEASE] [available|applied|committed]\n"), "{text}");
    }
}
