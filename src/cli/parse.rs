//! Words to an [`Invocation`], by the table of commands.

use std::ffi::{OsStr, OsString};

use lexopt::Arg;

use super::command::{Command, Invocation, Opt, not_text, usage};
use super::commands::{self, GLOBAL, ValueKind, find};
use super::exit::Failure;
use crate::config::nearest;

/// Understands the words after the program's name. No word at all is `help`.
///
/// # Errors
/// [`Exit::Usage`](super::exit::Exit::Usage): no such command or option, a value too many or too few.
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
                        _ if is_later => ": it stands behind its command".to_owned(),
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

/// Puts `--help`, `--version` and nothing at all in their commands' terms, and
/// counts the arguments.
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
            0 => format!("{name} takes no arguments, and {word} is one"),
            1 => format!("{name} takes one {} at most, and {word} is one more", takes.name),
            most => format!("{name} takes at most {most} {}, and {word} is one more", takes.name),
        };
        return Err(usage(Some(command), &sentence));
    }
    for word in &arguments {
        check_value(takes.name, word).map_err(|sentence| usage(Some(command), &sentence))?;
    }
    Ok(Invocation { command, arguments, options })
}

/// Whether a word may stand in a name's place, as far as the name lists what may:
/// `auto|always|never`.
fn check_value(name: &'static str, word: &OsStr) -> Result<(), String> {
    match ValueKind::of(name) {
        Some(ValueKind::Choice(choices)) => check_choice(choices, word),
        _ => Ok(()),
    }
}

/// Whether a word is one of `choices`, which `|` parts; else what is wrong.
pub(super) fn check_choice(choices: &'static str, word: &OsStr) -> Result<(), String> {
    let choices: Vec<&'static str> = choices.split('|').collect();
    let shown = word.to_string_lossy();
    if choices.contains(&&*shown) {
        return Ok(());
    }
    let suggestion = nearest(&shown, &choices).map(|choice| format!(" (did you mean {choice}?)"));
    Err(format!("{shown:?} is none of {}{}", choices.join(", "), suggestion.unwrap_or_default()))
}

/// The command that a word names.
///
/// # Errors
/// There is none of that name; the nearest is named.
pub fn command_named(word: &OsStr) -> Result<&'static Command, Failure> {
    let name = word.to_str().ok_or_else(|| not_text(word))?.trim_end();
    find(name).ok_or_else(|| {
        let names: Vec<&'static str> = commands::all().map(|command| command.name).collect();
        // "install" is far from host-install, letter by letter.
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
    fn options_stand_before_or_after_the_command_and_its_arguments() {
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
    fn help_and_version_are_asked_for_in_every_way() {
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
    fn a_command_may_be_of_two_words_with_options_around_both() {
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
    fn what_is_wrong_is_said_with_what_was_meant() {
        assert_eq!(complaint(""), "a command is missing; see `thimble help`");
        assert!(complaint("aply X").starts_with("there is no command aply (did you mean apply?)"));
        assert!(complaint("frobnicate").starts_with("there is no command frobnicate; see"));
        assert!(complaint("apply --al").starts_with("there is no option --al here (did you mean --all?)"));
        assert!(complaint("query -x").starts_with("there is no option -x here"));
        assert!(complaint("upload").starts_with("upload wants FILE; see `thimble help upload`"));
        assert!(complaint("status now").starts_with("status takes no arguments, and now is one; see"));
        assert!(
            complaint("drop-host a b").starts_with("drop-host takes one HOST at most, and b is one more;")
        );
        assert!(
            complaint("drop")
                .starts_with("there is no command drop (did you mean drop-host or drop-controller?)")
        );
        assert!(
            complaint("--force apply X")
                .starts_with("there is no option --force here: it stands behind its command")
        );
        assert!(
            complaint("--jsno query").starts_with("there is no option --jsno here (did you mean --json?)")
        );
        assert!(complaint("query --release").starts_with("--release wants a value: RELEASE"));
        assert!(complaint("apply --all=yes").contains("--all"));
        assert!(complaint("query appplied").starts_with(
            "\"appplied\" is none of available, applied, committed (did you mean applied?); see `thimble help query`"
        ));
        assert!(complaint("--color=x query").starts_with("\"x\" is none of auto, always, never; see"));
    }

    #[test]
    fn an_argument_counts_once() {
        assert_eq!(parsed("apply B A B").unwrap().texts().unwrap(), ["B", "A"]);
    }

    #[test]
    fn a_configuration_that_is_named_must_be_there() {
        let failure = parsed("query --config /nonexistent.toml").unwrap().socket().unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.message.starts_with("/nonexistent.toml: there is no such configuration"));
    }

    #[test]
    fn a_dash_and_what_follows_two_dashes_are_arguments() {
        assert_eq!(parsed("decode -").unwrap().texts().unwrap(), ["-"]);
        assert_eq!(parsed("upload -- --strange").unwrap().texts().unwrap(), ["--strange"]);
    }
}
