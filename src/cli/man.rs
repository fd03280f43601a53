//! `man`: the manual page, from the table of commands. `make man` writes it to
//! `docs/thimble.8`, so that packages need not run the binary. A test compares the two.

use std::fmt::Write;

use super::command::Invocation;
use super::command::{Command, Opt};
use super::commands::{GLOBAL, GROUPS};
use super::exit::{Exit, Failure};
use super::help::{VERSION, flag, synopsis};
use super::out::Out;
use super::term::hang;
use crate::config::{CONFIG_PATH, CONTROL_SOCKET};

/// The date of the page's last change.
const DATE: &str = "2026-11-29";

const FILES: &[(&str, &str)] = &[
    (CONFIG_PATH, "The configuration. The shipped one explains every key."),
    ("/etc/thimble/thimble.key", "The node's key file, readable by root alone."),
    ("/var/lib/thimble", "Identity and, on a controller, the repository. It must survive a restart."),
    (CONTROL_SOCKET, "The control socket, by which commands reach the daemon."),
    (
        "ROOT/.thimble",
        "The previous files that an agent keeps for a rollback, beside the files that it patches.",
    ),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("NO_COLOR", "If it is set and not empty, nothing is coloured. --color overrides it."),
    ("TERM", "On a dumb terminal nothing is coloured or redrawn."),
    ("NOTIFY_SOCKET, WATCHDOG_USEC", "How a supervisor receives the daemon's state: see sd_notify(3)."),
    ("JOURNAL_STREAM", "If it is set, lines of the log carry their priority."),
];

/// `thimble man`
pub fn man(_: &Invocation, out: &mut Out) -> Result<(), Failure> {
    Ok(out.always(&page())?)
}

/// The page, as roff with man's macros.
fn page() -> String {
    let mut text = format!(
        ".\\\" Made by `make man` of the table of commands: change it there.\n.TH THIMBLE 8 {DATE} \"thimble {VERSION}\"\n"
    );
    section(&mut text, "NAME");
    text.push_str("thimble \\- keep a cluster of small Linux nodes patched\n");
    section(&mut text, "SYNOPSIS");
    text.push_str(".B thimble\n.I COMMAND\n.RI [ OPTION ..]\n.RI [ ARGUMENT ..]\n");
    section(&mut text, "DESCRIPTION");
    paragraph(
        &mut text,
        "One program is the controller, which keeps signed patches and decides which hosts are to have them; \
         the agent, which installs them and restores the previous files if that fails; and the commands. \
         thimble run starts the daemon. Commands reach it by its control socket.",
    );
    text.push_str(".PP\n");
    paragraph(
        &mut text,
        "On a terminal, a table that is too wide is shown row by row, and progress is redrawn in place. In a pipe \
         or a file nothing is cut, and each change of progress is a line.",
    );
    section(&mut text, "COMMANDS");
    for group in GROUPS {
        let _ = writeln!(text, ".SS {}", escaped(&capital(group.name)));
        group.commands.iter().for_each(|command| explain(&mut text, command));
    }
    section(&mut text, "OPTIONS OF ALL COMMANDS");
    GLOBAL.iter().for_each(|option| tagged(&mut text, &bold(option), option.help));
    section(&mut text, "EXIT STATUS");
    Exit::ALL.iter().for_each(|(exit, meaning)| tagged(&mut text, &(*exit as u8).to_string(), meaning));
    section(&mut text, "ENVIRONMENT");
    ENVIRONMENT.iter().for_each(|(name, meaning)| tagged(&mut text, name, meaning));
    section(&mut text, "FILES");
    FILES
        .iter()
        .for_each(|(path, meaning)| tagged(&mut text, &format!("\\fI{}\\fR", escaped(path)), meaning));
    section(&mut text, "SEE ALSO");
    text.push_str(".BR minisign (1),\n.BR systemd.service (5),\n.BR tipc (8)\n");
    text
}

fn explain(text: &mut String, command: &Command) {
    let _ = writeln!(text, ".TP\n.B {}", escaped(&synopsis(command)));
    paragraph(text, &format!("{}. {}", capital(command.help), command.details));
    if !command.options.is_empty() {
        text.push_str(".RS\n");
        command.options.iter().for_each(|option| tagged(text, &bold(option), option.help));
        text.push_str(".RE\n");
    }
    let _ = writeln!(text, ".IP\nExample:\n.B {}", escaped(command.example));
    let _ = writeln!(text, ".IP\nWho may: {}.", escaped(command.who.as_str()));
}

fn section(text: &mut String, name: &str) {
    let _ = writeln!(text, ".SH {name}");
}

/// Writes each sentence on a line of its own, which roff needs for its spacing.
fn paragraph(text: &mut String, sentences: &str) {
    for sentence in escaped(sentences).replace(". ", ".\n").lines() {
        let mut lines = String::new();
        hang(&mut lines, "", sentence, 0, 80);
        for line in lines.lines() {
            // A dot at the start of a line would begin a roff request.
            text.push_str(if line.starts_with('.') { "\\&" } else { "" });
            text.push_str(line);
            text.push('\n');
        }
    }
}

fn tagged(text: &mut String, tag: &str, meaning: &str) {
    let _ = writeln!(text, ".TP\n{tag}");
    paragraph(text, meaning);
}

/// An option in bold with its value in italics.
fn bold(option: &Opt) -> String {
    let flag = escaped(&flag(option));
    match option.value.and_then(|value| flag.strip_suffix(&escaped(value))) {
        Some(name) => format!("\\fB{}\\fR\\fI{}\\fR", name, escaped(option.value.unwrap_or_default())),
        None => format!("\\fB{flag}\\fR"),
    }
}

/// The text with a capital first letter.
fn capital(text: &str) -> String {
    let mut capital = text.to_owned();
    capital.get_mut(..1).map(str::make_ascii_uppercase);
    capital
}

/// Escapes text for roff. Dashes become minus signs, which can be copied and typed.
fn escaped(text: &str) -> String {
    let pairs =
        [('\\', "\\e"), ('-', "\\-"), ('`', "\\(ga"), ('\'', "\\(aq"), ('"', "\\(dq"), ('\u{a0}', "\\ ")];
    let escape = |c| pairs.iter().find(|(plain, _)| *plain == c).map(|(_, escape)| *escape);
    text.chars().map(|c| escape(c).map_or_else(|| c.to_string(), str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command as Process, Stdio};

    use super::*;
    use crate::cli::commands::all;

    #[test]
    fn docs_thimble_8_is_up_to_date() {
        let kept = include_str!("../../docs/thimble.8");
        assert!(page() == kept, "docs/thimble.8 differs from the table of commands: run `make man`");
    }

    #[test]
    fn the_page_has_every_command_option_and_exit_code() {
        let page = page().replace("\\-", "-").replace("\\ ", " ");
        for command in all() {
            assert!(page.contains(&format!("\n.B {}", command.name)), "{}", command.name);
            for option in command.options {
                assert!(page.contains(&format!("--{}", option.name)), "{}", option.name);
            }
        }
        assert!(page.contains("\n.TP\n6\ntimed out"));
    }

    /// The output and warnings of a program that reads the page; `None` if it is not
    /// installed.
    fn read_by(program: &str, arguments: &[&str]) -> Option<(String, String)> {
        let mut reader = Process::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut page_in = reader.stdin.take().unwrap();
        let writer = std::thread::spawn(move || page_in.write_all(page().as_bytes()));
        let output = reader.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Some((text(output.stdout), text(output.stderr)))
    }

    #[test]
    fn real_readers_of_the_page_have_no_warning() {
        let mut readers = 0;
        for (program, arguments) in [("groff", &["-man", "-Tutf8", "-ww"][..]), ("mandoc", &["-Tlint"][..])] {
            let Some((said, complaint)) = read_by(program, arguments) else {
                let line = format!(
                    "SKIPPED: the manual page is not read by {program}: it is not installed (make setup)\n"
                );
                let _ = std::io::stderr().write_all(line.as_bytes());
                continue;
            };
            readers += 1;
            assert_eq!(complaint, "", "{program}");
            match program {
                "groff" => assert!(said.contains("Add signed patches to the repository."), "{said}"),
                _ => assert_eq!(said, "", "{program}"),
            }
        }
        assert!(readers <= 2);
    }
}
