//! `completions`: what a shell may offer where somebody presses TAB.
//!
//! The scripts for the shells know nothing of thimble: at each TAB they hand over
//! the words typed so far (`thimble completions words -- WORD..`, the last one
//! unfinished), and offer what comes back, a line each: a word, a tab, what it is;
//! or [`FILES`] or [`DIRECTORIES`], which shells list better. So one table serves
//! all shells, and what is offered is what this binary takes.
//!
//! Names of patches and hosts come from the daemon. Where it does not answer,
//! nothing is offered and nothing is said: nobody has asked for anything yet.

use std::ffi::OsStr;

use super::client::Client;
use super::commands::{self, Arguments, Command, GLOBAL, Kind, Opt, SHELLS};
use super::exit::Failure;
use super::out::Out;
use super::parse::{Invocation, chosen};
use super::{hosts, sys};
use crate::daemon::protocol::{HostFilter, Reply, Request};
use crate::repo::entry::EntryState;

/// Asks the shell to list files.
const FILES: &str = ":files";
/// Asks the shell to list directories.
const DIRECTORIES: &str = ":directories";
/// How long somebody who pressed TAB waits for the daemon.
const PATIENCE_S: u32 = 2;

/// `thimble completions SHELL`, and what the scripts ask for
pub fn completions(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let words: Vec<&str> = invocation.arguments.iter().filter_map(|word| word.to_str()).collect();
    let Some((what, words)) = words.split_first() else { return Ok(()) };
    let line = Line::new(invocation);
    let offers = match *what {
        "bash" => return Ok(out.raw(include_bytes!("thimble.bash"))?),
        "zsh" => return Ok(out.raw(include_bytes!("thimble.zsh"))?),
        "fish" => return Ok(out.raw(include_bytes!("thimble.fish"))?),
        "words" => line.offers(words),
        "patches" => line.named(Kind::Patch),
        "hosts" => line.named(Kind::Host),
        "controllers" => line.named(Kind::Controller),
        _ => return chosen(SHELLS, OsStr::new(what)).map_err(|sentence| invocation.usage(&sentence)),
    };
    let is_described = *what == "words";
    let mut text = String::new();
    for (word, help) in offers {
        text.push_str(&word);
        if is_described && !help.is_empty() {
            text.push('\t');
            text.push_str(&help);
        }
        text.push('\n');
    }
    Ok(out.raw(text.as_bytes())?)
}

/// A word to offer, and what it is.
type Offer = (String, String);

/// The words before the one that is being typed, as far as they make sense.
struct Line {
    /// The options so far, and those of `completions` itself.
    typed: Invocation,
    command: Option<&'static Command>,
    /// The option whose value comes next.
    open: Option<&'static Opt>,
    /// `--` was typed: options are over.
    is_over: bool,
    /// A word stands where a command should, and is none.
    is_lost: bool,
}

impl Line {
    fn new(invocation: &Invocation) -> Self {
        let typed = Invocation { arguments: Vec::new(), options: invocation.options.clone(), ..*invocation };
        Self { typed, command: None, open: None, is_over: false, is_lost: false }
    }

    /// What may stand in the place of the last of `words`.
    fn offers(mut self, words: &[&str]) -> Vec<Offer> {
        let Some((word, before)) = words.split_last() else { return Vec::new() };
        before.iter().for_each(|word| self.take(word));
        let mut offers = self.place(word);
        offers.retain(|(offer, _)| offer.starts_with(word) || offer.starts_with(':'));
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
            self.command = commands::find(word);
            self.is_lost = self.command.is_none();
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

    /// All that fits where `word` stands; what begins otherwise is left out later.
    fn place(&self, word: &str) -> Vec<Offer> {
        if self.is_lost {
            return Vec::new();
        }
        if let Some(name) = self.open.and_then(|option| option.value) {
            return self.kind(name);
        }
        if self.is_option(word) {
            return match word.split_once('=') {
                None => self.options(),
                Some((option, _)) => {
                    let mut values = self
                        .option(option)
                        .and_then(|option| option.value)
                        .map_or_else(Vec::new, |name| self.kind(name));
                    for (value, _) in values.iter_mut().filter(|(value, _)| !value.starts_with(':')) {
                        *value = format!("{option}={value}");
                    }
                    values
                }
            };
        }
        let Some(command) = self.command else { return self.named(Kind::Command) };
        let Arguments { name, most, .. } = command.arguments;
        let Invocation { arguments, .. } = &self.typed;
        let mut offers = if arguments.len() < most { self.kind(name) } else { Vec::new() };
        offers.retain(|(offer, _)| !arguments.iter().any(|given| **given == **offer));
        offers
    }

    fn options(&self) -> Vec<Offer> {
        let fitting = self.known().filter(|option| option.is_repeatable || !self.typed.has(option.name));
        fitting.map(|option| (format!("--{}", option.name), option.help.to_owned())).collect()
    }

    fn kind(&self, name: &'static str) -> Vec<Offer> {
        self.named(Kind::of(name).unwrap_or(Kind::Free))
    }

    fn named(&self, kind: Kind) -> Vec<Offer> {
        let plain = |word: &str| (word.to_owned(), String::new());
        match kind {
            Kind::Free => Vec::new(),
            Kind::File => vec![plain(FILES)],
            Kind::Directory => vec![plain(DIRECTORIES)],
            Kind::Shell => SHELLS.split('|').map(plain).collect(),
            Kind::Choice(words) => words.split('|').map(plain).collect(),
            Kind::Command => {
                commands::all().map(|command| (command.name.to_owned(), command.help.to_owned())).collect()
            }
            Kind::Patch => self.asked(&Request::Query),
            Kind::Host => self.asked(&Request::QueryHosts { filter: HostFilter::All }),
            Kind::Controller => self.asked(&Request::Status),
        }
    }

    /// What the daemon names, as far as it answers.
    fn asked(&self, request: &Request) -> Vec<Offer> {
        let Ok(socket) = self.typed.socket() else { return Vec::new() };
        sys::end_in(PATIENCE_S);
        let mut offers = Vec::new();
        let asked = Client::connect(&socket).and_then(|mut client| {
            client.ask(request, |reply| {
                offers.extend(self.offer(reply));
                Ok(())
            })
        });
        // Half a list would pass for a whole one.
        if asked.is_err() {
            offers.clear();
        }
        offers.sort();
        offers.dedup();
        offers
    }

    fn offer(&self, reply: Reply) -> Option<Offer> {
        match reply {
            // Of patches only what the command can concern.
            Reply::Patch(row) => match (self.command.map(|command| command.name), row.repo_state) {
                (Some("apply" | "delete"), EntryState::Applied | EntryState::Committed) => None,
                (Some("remove" | "commit"), EntryState::Available | EntryState::Committed) => None,
                _ => Some((row.id.to_string(), row.patch_state.as_str().to_owned())),
            },
            Reply::Host(row) => Some((row.hostname.to_string(), hosts::state(row.state))),
            Reply::Neighbour(row) => Some((row.hostname.to_string(), String::new())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse::parse;

    /// What is offered at the end of a line, where no daemon is.
    fn offered(line: &str) -> Vec<String> {
        let command = parse(["completions", "words"].map(Into::into)).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        Line::new(&command).offers(&words).into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn the_first_word_is_a_command_wherever_options_stand() {
        assert_eq!(offered("ver"), ["verify", "version"]);
        assert_eq!(offered("--json appl"), ["apply"]);
        assert_eq!(offered("--config /etc/x comm"), ["commit"]);
        assert_eq!(offered("help chec"), ["check-config"]);
        assert!(offered("").len() > 15);
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
