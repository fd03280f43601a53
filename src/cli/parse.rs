//! Parses arguments into an [`Invocation`], according to the table of commands.

use std::ffi::{OsStr, OsString};

use lexopt::Arg;

use super::command::{Command, Invocation, Opt, not_text, usage};
use super::commands::{self, GLOBAL, ValueKind, find};
use super::exit::Failure;
use crate::config::nearest;

/// Parses the arguments that follow the program's name.
///
/// # Errors
/// [`Exit::Usage`](super::exit::Exit::Usage): an unknown command or option, or a wrong number of values.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation, Failure> {
    let mut words = lexopt::Parser::from_args(words);
    let mut command: Option<&'static Command> = None;
    let mut prefix = OsString::new();
    let mut arguments = Vec::new();
    let mut options: Vec<(&'static str, OsString)> = Vec::new();

    while let Some(word) = words.next().map_err(|error| usage(command, &error.to_string()))? {
        let known = || command.map_or(&[][..], |command| command.options).iter().chain(GLOBAL);
        let option: &'static Opt = match word {
            Arg::Value(value) => {
                match command {
                    Some(_) => arguments.push(value),
                    None => {
                        prefix.push(value);
                        if commands::begins(&prefix) {
                            prefix.push(" ");
                        } else {
                            command = Some(command_named(&prefix)?);
                        }
                    }
                }
                continue;
            }
            Arg::Short(letter) => known()
                .find(|option| option.short == Some(letter))
                .ok_or_else(|| usage(command, &format!("there is no option -{letter} here")))?,
            Arg::Long(name) => match known().find(|option| option.name == name) {
                Some(option) => option,
                None => {
                    let is_later = command.is_none()
                        && commands::all().any(|command| command.options.iter().any(|o| o.name == name));
                    let names: Vec<&'static str> = known().map(|option| option.name).collect();
                    let suggestion = match nearest(name, &names) {
                        _ if is_later => ": it belongs after its command".to_owned(),
                        Some(name) => format!(" (did you mean --{name}?)"),
                        None => String::new(),
                    };
                    return Err(usage(command, &format!("there is no option --{name} here{suggestion}")));
                }
            },
        };
        let value = match option.value {
            None => OsString::new(),
            Some(what) => {
                let value = words.value();
                let value =
                    value.map_err(|_| usage(command, &format!("--{} wants a value: {what}", option.name)))?;
                check_value(what, &value).map_err(|sentence| usage(command, &sentence))?;
                value
            }
        };
        if !option.is_repeatable && options.iter().any(|(name, _)| *name == option.name) {
            return Err(usage(command, &format!("--{} is given twice", option.name)));
        }
        options.push((option.name, value));
    }
    if command.is_none() && !prefix.is_empty() && !options.iter().any(|(name, _)| *name == "help") {
        command = Some(command_named(&prefix)?);
    }
    finish(command, arguments, options)
}

/// Turns `--help` and `--version` into their commands, and checks the number of
/// arguments.
fn finish(
    command: Option<&'static Command>,
    mut arguments: Vec<OsString>,
    options: Vec<(&'static str, OsString)>,
) -> Result<Invocation, Failure> {
    let asks = |name: &str| options.iter().any(|(option, _)| *option == name);
    let (help, version) = (command_named(OsStr::new("help"))?, command_named(OsStr::new("version"))?);
    let command = match command {
        Some(command) if asks("help") => {
            arguments = vec![command.name.into()];
            help
        }
        None if asks("help") => help,
        None if asks("version") => version,
        None => return Err(usage(None, "a command is missing")),
        Some(command) => command,
    };
    let takes = command.arguments;
    if arguments.len() < takes.least {
        return Err(usage(Some(command), &format!("{} wants {}", command.name, takes.name)));
    }
    if let Some(word) = arguments.get(takes.most) {
        let (name, word) = (command.name, word.display());
        let sentence = match takes.most {
            0 => format!("{name} takes no arguments, but got {word}"),
            1 => format!("{name} takes one {} at most, but got {word} too", takes.name),
            most => format!("{name} takes at most {most} {}, but got {word} too", takes.name),
        };
        return Err(usage(Some(command), &sentence));
    }
    for word in &arguments {
        check_value(takes.name, word).map_err(|sentence| usage(Some(command), &sentence))?;
    }
    Ok(Invocation { command, arguments, options })
}

/// Checks a value against the choices that its name lists, as in `auto|always|never`.
fn check_value(name: &'static str, word: &OsStr) -> Result<(), String> {
    match ValueKind::of(name) {
        Some(ValueKind::Choice(choices)) => check_choice(choices, word),
        _ => Ok(()),
    }
}

/// Checks that a word is one of `choices`, separated by `|`. The error is a sentence.
pub(super) fn check_choice(choices: &'static str, word: &OsStr) -> Result<(), String> {
    let choices: Vec<&'static str> = choices.split('|').collect();
    let shown = word.to_string_lossy();
    if choices.contains(&&*shown) {
        return Ok(());
    }
    let suggestion = nearest(&shown, &choices).map(|choice| format!(" (did you mean {choice}?)"));
    Err(format!("{shown:?} is not one of {}{}", choices.join(", "), suggestion.unwrap_or_default()))
}

/// The command with this name.
///
/// # Errors
/// There is no such command. The message names the nearest one.
pub fn command_named(word: &OsStr) -> Result<&'static Command, Failure> {
    let name = word.to_str().ok_or_else(|| not_text(word))?.trim_end();
    find(name).ok_or_else(|| {
        let names: Vec<&'static str> = commands::all().map(|command| command.name).collect();
        // The edit distance from "install" to host-install is too large for `nearest`.
        let holding = || {
            let holding: Vec<&str> = names.iter().copied().filter(|known| known.contains(name)).collect();
            (name.len() > 2 && !holding.is_empty()).then(|| holding.join(" or "))
        };
        let suggestion = nearest(name, &names).map(str::to_owned).or_else(holding);
        let suggestion = suggestion.map(|names| format!(" (did you mean {names}?)")).unwrap_or_default();
        usage(None, &format!("there is no command {name}{suggestion}"))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::exit::Exit;

    fn parsed(line: &str) -> Result<Invocation, Failure> {
        parse(line.split_whitespace().map(Into::into))
    }

    fn complaint(line: &str) -> String {
        let failure = parsed(line).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{line}");
        failure.message
    }

    #[test]
    fn options_come_before_or_after_the_command_and_its_arguments() {
        for line in ["--socket /s apply --force A B", "apply A --socket=/s B --force"] {
            let line = parsed(line).unwrap();
            assert_eq!(line.command.name, "apply");
            assert_eq!(line.texts().unwrap(), ["A", "B"]);
            assert_eq!(line.socket().unwrap(), Path::new("/s"));
            assert!(line.has("force") && !line.has("all"));
        }
    }

    #[test]
    fn options_may_repeat_where_the_table_says_so() {
        let line = parsed("verify --trust a --trust b f").unwrap();
        assert_eq!(line.values("trust").collect::<Vec<_>>(), ["a", "b"]);
        assert!(complaint("query --release 1 --release 2").starts_with("--release is given twice"));
    }

    #[test]
    fn every_form_of_help_and_version_is_understood() {
        for (line, command, argument) in [
            ("--help", "help", None),
            ("-h", "help", None),
            ("help", "help", None),
            ("apply --help", "help", Some("apply")),
            ("tipc --help", "help", None),
            ("tipc matrix -h", "help", Some("tipc matrix")),
            ("help tipc matrix", "help", Some("tipc")),
            ("host-install -h", "help", Some("host-install")),
            ("--version", "version", None),
            ("-V", "version", None),
        ] {
            let parsed = parsed(line).unwrap();
            assert_eq!(parsed.command.name, command, "{line}");
            assert_eq!(parsed.arguments.first().and_then(|word| word.to_str()), argument, "{line}");
        }
    }

    #[test]
    fn options_may_surround_both_words_of_a_command() {
        for line in ["tipc serve 1:2-3 4:5", "--json tipc serve 1:2-3 4:5", "tipc --json serve 1:2-3 4:5"] {
            let line = parsed(line).unwrap();
            assert_eq!(line.command.name, "tipc serve");
            assert_eq!(line.texts().unwrap(), ["1:2-3", "4:5"]);
        }
        let suggestion = "(did you mean tipc watch or tipc serve or tipc matrix?)";
        assert!(complaint("tipc").starts_with(&format!("there is no command tipc {suggestion}")));
        assert!(
            complaint("tipc wach").starts_with("there is no command tipc wach (did you mean tipc watch?)")
        );
        assert!(complaint("serve 1:2").starts_with("there is no command serve (did you mean tipc serve?)"));
    }

    #[test]
    fn usage_errors_name_the_mistake_and_a_suggestion() {
        assert_eq!(complaint(""), "a command is missing; see `thimble help`");
        assert!(complaint("aply X").starts_with("there is no command aply (did you mean apply?)"));
        assert!(complaint("frobnicate").starts_with("there is no command frobnicate; see"));
        assert!(complaint("apply --al").starts_with("there is no option --al here (did you mean --all?)"));
        assert!(complaint("query -x").starts_with("there is no option -x here"));
        assert!(complaint("upload").starts_with("upload wants FILE; see `thimble help upload`"));
        assert!(complaint("status now").starts_with("status takes no arguments, but got now; see"));
        assert!(complaint("drop-host a b").starts_with("drop-host takes one HOST at most, but got b too;"));
        assert!(
            complaint("drop")
                .starts_with("there is no command drop (did you mean drop-host or drop-controller?)")
        );
        assert!(
            complaint("--force apply X")
                .starts_with("there is no option --force here: it belongs after its command")
        );
        assert!(
            complaint("--jsno query").starts_with("there is no option --jsno here (did you mean --json?)")
        );
        assert!(complaint("query --release").starts_with("--release wants a value: RELEASE"));
        assert!(complaint("apply --all=yes").contains("--all"));
        assert!(complaint("query appplied").starts_with(
            "\"appplied\" is not one of available, applied, committed (did you mean applied?); see `thimble help query`"
        ));
        assert!(complaint("--color=x query").starts_with("\"x\" is not one of auto, always, never; see"));
    }

    #[test]
    fn repeated_arguments_count_once() {
        assert_eq!(parsed("apply B A B").unwrap().texts().unwrap(), ["B", "A"]);
    }

    #[test]
    fn a_named_configuration_must_exist() {
        let failure = parsed("query --config /nonexistent.toml").unwrap().socket().unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.message.starts_with("/nonexistent.toml: there is no such configuration"));
    }

    #[test]
    fn a_dash_and_words_after_two_dashes_are_arguments() {
        assert_eq!(parsed("decode -").unwrap().texts().unwrap(), ["-"]);
        assert_eq!(parsed("upload -- --strange").unwrap().texts().unwrap(), ["--strange"]);
    }
}
