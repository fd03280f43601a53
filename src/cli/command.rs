//! The types of the command line: a [`Command`] of the table, and an [`Invocation`],
//! which is a parsed command line. They are in one file because a command's function
//! takes an invocation, and an invocation names its command.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::exit::{Exit, Failure};
use super::out::Out;
use crate::config;

/// The function of a command.
pub type Run = fn(&Invocation, &mut Out) -> Result<(), Failure>;

/// A command of the command line.
#[derive(Debug)]
pub struct Command {
    /// Its name: one word, or two for a command of a group (`tipc watch`).
    pub name: &'static str,
    /// Its arguments, options aside.
    pub arguments: Arguments,
    /// Its options, without the global ones.
    pub options: &'static [Opt],
    /// A summary in one line.
    pub help: &'static str,
    /// More sentences for its help; may be empty.
    pub details: &'static str,
    /// An example command line.
    pub example: &'static str,
    /// Who may run it.
    pub who: Who,
    /// Its function.
    pub run: Run,
}

/// The arguments of a command.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    /// The name of an argument in capitals, which tells its kind; empty for none.
    pub name: &'static str,
    /// The least number of arguments.
    pub least: usize,
    /// The greatest number of arguments.
    pub most: usize,
}

/// An option.
#[derive(Debug)]
pub struct Opt {
    /// Its long name, without dashes.
    pub name: &'static str,
    /// Its one-letter name.
    pub short: Option<char>,
    /// The name of its value in capitals; `None` for a switch.
    pub value: Option<&'static str>,
    /// Whether it may be given several times.
    pub is_repeatable: bool,
    /// A summary in one line.
    pub help: &'static str,
}

/// Who may run a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Any user: the command does not ask the daemon.
    Anybody,
    /// Root, members of `admin_group`, members of `query_group`.
    Query,
    /// Root and members of `admin_group`.
    Admin,
    /// Root.
    Root,
}

impl Who {
    /// The text for help.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anybody => "anybody",
            Self::Query => "root, members of query_group and of admin_group",
            Self::Admin => "root and members of admin_group",
            Self::Root => "root",
        }
    }
}

/// A parsed command line.
#[derive(Debug)]
pub struct Invocation {
    /// The command.
    pub command: &'static Command,
    /// Its arguments, options aside.
    pub arguments: Vec<OsString>,
    /// The given options and their values.
    pub(super) options: Vec<(&'static str, OsString)>,
}

impl Invocation {
    /// Whether an option is given.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.values(option).next().is_some()
    }

    /// The first value of an option.
    #[must_use]
    pub fn value(&self, option: &str) -> Option<&OsStr> {
        self.values(option).next()
    }

    /// All values of an option.
    pub fn values(&self, option: &str) -> impl Iterator<Item = &OsStr> {
        self.options.iter().filter(move |(name, _)| *name == option).map(|(_, value)| value.as_os_str())
    }

    /// The configuration's path.
    #[must_use]
    pub fn config(&self) -> &Path {
        Path::new(self.value("config").unwrap_or(OsStr::new(config::CONFIG_PATH)))
    }

    /// The control socket's path.
    ///
    /// # Errors
    /// The configuration cannot be read.
    pub fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(socket) = self.value("socket") {
            return Ok(PathBuf::from(socket));
        }
        if !self.has("config") && !self.config().exists() {
            return Ok(PathBuf::from(config::CONTROL_SOCKET));
        }
        config::control_socket(self.config()).map_err(|error| {
            let hint = "or name the daemon's socket with --socket PATH";
            Failure::new(Exit::Refused, format!("{error}; {hint}"))
        })
    }

    /// The arguments as text, without repetitions.
    ///
    /// # Errors
    /// An argument is not UTF-8. Only file names need not be.
    pub fn texts(&self) -> Result<Vec<&str>, Failure> {
        let mut texts = Vec::new();
        for word in &self.arguments {
            let text = word.to_str().ok_or_else(|| not_text(word))?;
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        Ok(texts)
    }

    /// A usage error that names this command's help.
    #[must_use]
    pub fn usage(&self, sentence: &str) -> Failure {
        usage(Some(self.command), sentence)
    }
}

/// A usage error that names the command's help, or the general help without a command.
pub(super) fn usage(command: Option<&Command>, sentence: &str) -> Failure {
    let see = match command {
        Some(command) => format!("see `thimble help {}`", command.name),
        None => "see `thimble help`".to_owned(),
    };
    Failure::new(Exit::Usage, format!("{sentence}; {see}"))
}

/// The error for an argument that must be text.
pub(super) fn not_text(word: &OsStr) -> Failure {
    Failure::new(Exit::Usage, format!("{} is not UTF-8 text", word.display()))
}
