//! `completions`: the words that a shell offers at TAB.
//!
//! The shell scripts contain no words of thimble's. At each TAB they run
//! `thimble completions words -- WORD..` with the words typed so far, the last one
//! unfinished, and offer each line of its output: a word, a tab and a description, or
//! [`FILES`] or [`DIRECTORIES`], which the shell lists itself. So one table serves all
//! shells and always matches the binary.
//!
//! Names of patches and hosts come from the daemon. If it does not answer, nothing is
//! offered and no error is printed.
//!
//! Why our own: `clap_complete` takes its words from commands that are described with
//! `clap`. Here one table of commands serves the parser, the help, the manual and this.

use std::ffi::OsStr;

use super::client::Client;
use super::command::{Command, Invocation, Opt};
use super::commands::{self, GLOBAL, SHELLS, ValueKind};
use super::exit::Failure;
use super::out::Out;
use super::parse::check_choice;
use super::{hosts, sys};
use crate::control::{HostFilter, Reply, Request};
use crate::repo::entry::EntryState;

/// Asks the shell to list files.
const FILES: &str = ":files";
/// Asks the shell to list directories.
const DIRECTORIES: &str = ":directories";
/// The time limit for the daemon's answer.
const PATIENCE_S: u32 = 2;

/// `thimble completions SHELL`, and what the scripts ask for
pub fn completions(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let words: Vec<&str> = invocation.arguments.iter().filter_map(|word| word.to_str()).collect();
    let Some((what, words)) = words.split_first() else { return Ok(()) };
    // Set here and not in the functions below: the alarm would end a test process.
    sys::end_in(PATIENCE_S);
    let line = TypedLine::new(invocation);
    let mut offers = Offers::default();
    match *what {
        "bash" => offers.text.push_str(include_str!("thimble.bash")),
        "zsh" => offers.text.push_str(include_str!("thimble.zsh")),
        "fish" => offers.text.push_str(include_str!("thimble.fish")),
        "words" => offers = line.offers(words),
        "patches" => line.named(ValueKind::Patch, &mut offers),
        "hosts" => line.named(ValueKind::Host, &mut offers),
        "controllers" => line.named(ValueKind::Controller, &mut offers),
        _ => return check_choice(SHELLS, OsStr::new(what)).map_err(|sentence| invocation.usage(&sentence)),
    }
    Ok(out.always(&offers.text)?)
}

/// The offered words, in the format of the scripts.
#[derive(Default)]
struct Offers {
    text: String,
    /// The typed part of the word, without [`before`](Self::before).
    prefix: String,
    /// The text in front of each offered word, for example `--color=`.
    before: String,
    /// Whether each word is followed by its description.
    is_described: bool,
}

impl Offers {
    fn add(&mut self, word: &str, help: &str) {
        if word.starts_with(&self.prefix) {
            self.text.push_str(&self.before);
            self.text.push_str(word);
            if self.is_described && !help.is_empty() {
                self.text.push('\t');
                self.text.push_str(help);
            }
            self.text.push('\n');
        }
    }

    /// Lets the shell list files or directories.
    fn leave(&mut self, to: &str) {
        self.text.push_str(to);
        self.text.push('\n');
    }
}

/// The parsed words before the one that is being typed.
struct TypedLine {
    /// The options so far, and those of `completions` itself.
    typed: Invocation,
    command: Option<&'static Command>,
    /// The first word of a command's name, with a space.
    prefix: String,
    /// The option whose value comes next.
    open: Option<&'static Opt>,
    /// Whether `--` was typed, which ends the options.
    is_over: bool,
    /// Whether the word in a command's position is unknown.
    is_lost: bool,
}

impl TypedLine {
    fn new(invocation: &Invocation) -> Self {
        let typed = Invocation { arguments: Vec::new(), options: invocation.options.clone(), ..*invocation };
        Self { typed, command: None, prefix: String::new(), open: None, is_over: false, is_lost: false }
    }

    /// The words that may replace the last of `words`.
    fn offers(mut self, words: &[&str]) -> Offers {
        let mut offers = Offers { is_described: true, ..Offers::default() };
        if let Some((word, before)) = words.split_last() {
            before.iter().for_each(|word| self.take(word));
            offers.prefix = (*word).to_owned();
            self.place(word, &mut offers);
        }
        offers
    }

    fn take(&mut self, word: &str) {
        if let Some(option) = self.open.take() {
            self.typed.options.push((option.name, word.into()));
        } else if word == "--" && !self.is_over {
            self.is_over = true;
        } else if self.is_option(word) && word.len() > 1 {
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            match self.option(name) {
                Some(option) if option.value.is_some() && value.is_none() => self.open = Some(option),
                Some(option) => self.typed.options.push((option.name, value.unwrap_or_default().into())),
                None => {}
            }
        } else if self.command.is_some() {
            self.typed.arguments.push(word.into());
        } else {
            self.prefix.push_str(word);
            self.command = commands::find(&self.prefix);
            self.is_lost = self.command.is_none() && !commands::begins(OsStr::new(&self.prefix));
            self.prefix.push(' ');
        }
    }

    fn is_option(&self, word: &str) -> bool {
        !self.is_over && word.starts_with('-')
    }

    fn known(&self) -> impl Iterator<Item = &'static Opt> + use<> {
        self.command.map_or(&[][..], |command| command.options).iter().chain(GLOBAL)
    }

    fn option(&self, typed: &str) -> Option<&'static Opt> {
        self.known().find(|option| match typed.strip_prefix("--") {
            Some(name) => option.name == name,
            None => option
                .short
                .is_some_and(|letter| typed.strip_prefix('-') == Some(letter.encode_utf8(&mut [0; 4]))),
        })
    }

    fn place(&self, word: &str, offers: &mut Offers) {
        if self.is_lost {
            return;
        }
        if let Some(name) = self.open.and_then(|option| option.value) {
            return self.kind(name, offers);
        }
        if self.is_option(word) {
            let Some((option, value)) = word.split_once('=') else { return self.options(offers) };
            offers.before = [option, "="].concat();
            offers.prefix = value.to_owned();
            if let Some(name) = self.option(option).and_then(|option| option.value) {
                self.kind(name, offers);
            }
            return;
        }
        match self.command {
            None => self.named(ValueKind::Command, offers),
            Some(command) if self.typed.arguments.len() < command.arguments.most => {
                self.kind(command.arguments.name, offers);
            }
            Some(_) => {}
        }
    }

    fn options(&self, offers: &mut Offers) {
        for option in self.known().filter(|option| option.is_repeatable || !self.typed.has(option.name)) {
            offers.add(&["--", option.name].concat(), option.help);
        }
    }

    fn kind(&self, name: &'static str, offers: &mut Offers) {
        self.named(ValueKind::of(name).unwrap_or(ValueKind::Free), offers);
    }

    fn named(&self, kind: ValueKind, offers: &mut Offers) {
        match kind {
            ValueKind::Free => {}
            ValueKind::File => offers.leave(FILES),
            ValueKind::Directory => offers.leave(DIRECTORIES),
            ValueKind::Shell => SHELLS.split('|').for_each(|word| offers.add(word, "")),
            ValueKind::Choice(words) => words.split('|').for_each(|word| offers.add(word, "")),
            ValueKind::Command => self.commands(offers),
            ValueKind::Patch => self.asked(Request::Query, offers),
            ValueKind::Host => self.asked(Request::QueryHosts { filter: HostFilter::All }, offers),
            ValueKind::Controller => self.asked(Request::Status, offers),
        }
    }

    /// The next word of commands' names.
    fn commands(&self, offers: &mut Offers) {
        let given = || self.typed.arguments.iter().flat_map(|word| [word.to_str().unwrap_or_default(), " "]);
        let prefix = if self.command.is_some() { given().collect() } else { self.prefix.clone() };
        let mut before = "";
        for command in commands::all() {
            match command.name.strip_prefix(&prefix).map(|rest| rest.split_once(' ')) {
                None => {}
                Some(None) => offers.add(&command.name[prefix.len()..], command.help),
                // Commands of a group share their first word.
                Some(Some((first, _))) if first == before => {}
                Some(Some((first, _))) => {
                    offers.add(first, "");
                    before = first;
                }
            }
        }
    }

    /// Offers the names in the daemon's replies, if it answers.
    fn asked(&self, request: Request, offers: &mut Offers) {
        let Ok(socket) = self.typed.socket() else { return };
        // A status also lists hosts, which are not wanted here.
        let is_status = matches!(request, Request::Status);
        let len = offers.text.len();
        let asked = Client::connect(&socket).and_then(|mut client| {
            client.ask(request, |reply| {
                if !(is_status && matches!(reply, Reply::Host(_))) {
                    self.offer(&reply, offers);
                }
                Ok(())
            })
        });
        // A partial list would look complete.
        if asked.is_err() {
            offers.text.truncate(len);
        }
    }

    fn offer(&self, reply: &Reply, offers: &mut Offers) {
        let (name, help) = match reply {
            // Only patches in a state that the command accepts.
            Reply::Patch(row) => match (self.command.map(|command| command.name), row.repo_state) {
                (Some("apply" | "delete"), EntryState::Applied | EntryState::Committed) => return,
                (Some("remove" | "commit"), EntryState::Available | EntryState::Committed) => return,
                _ => (row.id.as_str(), row.patch_state.as_str().to_owned()),
            },
            Reply::Host(row) => (row.hostname.as_str(), hosts::state(row.state)),
            Reply::Neighbour(row) => (row.hostname.as_str(), String::new()),
            _ => return,
        };
        if !self.typed.arguments.iter().any(|given| given == name) {
            offers.add(name, &help);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse::parse;

    /// The words offered at the end of a line, without a daemon.
    fn offered(line: &str) -> Vec<String> {
        let command = parse(["completions", "words"].map(Into::into)).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let offers = TypedLine::new(&command).offers(&words).text;
        offers.lines().map(|offer| offer.split('\t').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_first_word_is_a_command_wherever_options_stand() {
        assert_eq!(offered("ver"), ["verify", "version"]);
        assert_eq!(offered("--json appl"), ["apply"]);
        assert_eq!(offered("--config /etc/x comm"), ["commit"]);
        assert_eq!(offered("help chec"), ["check-config"]);
        assert!(offered("").len() > 15);
        assert_eq!(offered("ti"), ["tipc"]);
        assert_eq!(offered("tipc "), ["watch", "serve", "matrix"]);
        assert_eq!(offered("tipc --json m"), ["matrix"]);
        assert_eq!(offered("help tipc m"), ["matrix"]);
        assert_eq!(offered("help apply ").len() + offered("tipc frobnicate ").len(), 0);
        assert_eq!(offered("tipc watch --ti"), ["--timeout"]);
        assert_eq!(offered("tipc serve 1:2 --scope c"), ["--scope", "cluster"][1..]);
        assert_eq!(offered("frobnicate ").len(), 0);
    }

    #[test]
    fn options_are_those_of_the_command_that_are_not_given_yet() {
        let own = offered("commit --").len() - GLOBAL.len();
        assert_eq!(own, commands::find("commit").unwrap().options.len());
        assert_eq!(offered("commit --y"), ["--yes"]);
        assert_eq!(offered("commit --yes --y").len(), 0);
        assert_eq!(offered("commit -- --y").len(), 0);
        assert_eq!(offered("verify --trust a --tr"), ["--trust"]);
        assert_eq!(offered("keygen -"), offered("keygen --"));
    }

    #[test]
    fn a_value_is_what_its_name_stands_for() {
        assert_eq!(offered("query "), ["available", "applied", "committed"]);
        assert_eq!(offered("query ap"), ["applied"]);
        assert_eq!(offered("query applied ").len(), 0);
        assert_eq!(offered("--color "), ["auto", "always", "never"]);
        assert_eq!(offered("query --color=a"), ["--color=auto", "--color=always"]);
        assert_eq!(offered("completions z"), ["zsh"]);
        for line in
            ["upload ", "upload a x", "--config ", "query --config=/et", "keygen -o ", "verify --trust "]
        {
            assert_eq!(offered(line), [FILES], "{line}");
        }
        assert_eq!(offered("keygen --node ").len(), 0);
        assert_eq!(offered("apply --socket /nonexistent "), [""; 0], "no daemon, no names");
    }
}
