//! The one table of commands. Parser, `--help`, and whatever else describes the
//! command line read it; nothing else knows a command's name or options.

use super::exit::Failure;
#[cfg(feature = "tools")]
use super::make;
use super::out::Out;
use super::parse::Invocation;
use super::{check, controllers, decode, hosts, keygen, patches, progress, run, status, verify};
use crate::limits;

/// What carries a command out.
pub type Run = fn(&Invocation, &mut Out) -> Result<(), Failure>;

/// A command of the command line.
#[derive(Debug)]
pub struct Command {
    /// What it is called.
    pub name: &'static str,
    /// What it takes besides options.
    pub arguments: Arguments,
    /// Its options, besides the global ones.
    pub options: &'static [Opt],
    /// What it does, in one line.
    pub help: &'static str,
    /// What else to know of it; may be empty.
    pub details: &'static str,
    /// A line to type.
    pub example: &'static str,
    /// Who may.
    pub who: Who,
    /// What carries it out.
    pub run: Run,
}

/// What a command takes besides options.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    /// What each stands for, in capitals; empty where there are none.
    pub name: &'static str,
    /// How many there must be.
    pub least: usize,
    /// How many there can be.
    pub most: usize,
}

/// An option.
#[derive(Debug)]
pub struct Opt {
    /// Its long name, without dashes.
    pub name: &'static str,
    /// Its one-letter name.
    pub short: Option<char>,
    /// What its value stands for, in capitals; `None` for a switch.
    pub value: Option<&'static str>,
    /// It may be given several times.
    pub is_repeatable: bool,
    /// What it does, in one line.
    pub help: &'static str,
}

/// Who may run a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Anybody: it does not ask the daemon.
    Anybody,
    /// Root, members of `admin_group`, members of `query_group`.
    Query,
    /// Root and members of `admin_group`.
    Admin,
    /// Root.
    Root,
}

impl Who {
    /// For help.
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

/// Options that every command takes.
pub const GLOBAL: &[Opt] = &[
    valued("config", "PATH", "the configuration (default /etc/thimble/thimble.toml)"),
    valued("socket", "PATH", "the daemon's control socket (default: what the configuration says)"),
    switch("json", "write one JSON document instead of text"),
    Opt { name: "help", short: Some('h'), value: None, is_repeatable: false, help: "explain the command" },
    Opt { name: "version", short: Some('V'), value: None, is_repeatable: false, help: "show the version" },
];

/// All commands, in the order of `--help`.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "run",
        arguments: NONE,
        options: &[],
        help: "run the daemon, in the foreground, with the roles that the configuration gives",
        details: "It ends with SIGTERM. An install that is under way is finished or undone at the next start.",
        example: "thimble run --config /etc/thimble/thimble.toml",
        who: Who::Root,
        run: run::run,
    },
    Command {
        name: "upload",
        arguments: at_least_one("FILE", usize::MAX),
        options: &[],
        help: "take signed patches into the repository",
        details: "Beside each FILE must lie FILE.minisig, made with `minisign -S -H -m FILE`.",
        example: "thimble upload TZDATA-1.patch",
        who: Who::Admin,
        run: patches::upload,
    },
    Command {
        name: "apply",
        arguments: Arguments { name: "ID", least: 0, most: limits::COMMAND_NAMES },
        options: &[switch("all", "all patches that are available"), LOST],
        help: "want patches on all hosts that they concern",
        details: "Nothing is installed yet: host-install does that, host by host.",
        example: "thimble apply TZDATA-1",
        who: Who::Admin,
        run: patches::apply,
    },
    Command {
        name: "remove",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[LOST],
        help: "want applied patches off all hosts again",
        details: "Nothing is removed yet: host-install does that, host by host.",
        example: "thimble remove TZDATA-1",
        who: Who::Admin,
        run: patches::remove,
    },
    Command {
        name: "delete",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[LOST],
        help: "take patches that are on no host out of the repository",
        details: "",
        example: "thimble delete TZDATA-1",
        who: Who::Admin,
        run: patches::delete,
    },
    Command {
        name: "commit",
        arguments: Arguments { name: "ID", least: 0, most: limits::COMMAND_NAMES },
        options: &[
            switch("all", "all patches that are applied"),
            switch("yes", "do not ask; where nobody can be asked, this is wanted"),
            LOST,
        ],
        help: "keep applied patches for good: they can never be removed again",
        details: "What they require is committed with them. Hosts then free the files that they kept to go back.",
        example: "thimble commit TZDATA-1 --yes",
        who: Who::Admin,
        run: patches::commit,
    },
    Command {
        name: "purge",
        arguments: NONE,
        options: &[],
        help: "make room: drop what the repository keeps of deleted patches",
        details: "Every controller that is known must be present and have the same repository.",
        example: "thimble purge",
        who: Who::Admin,
        run: controllers::purge,
    },
    Command {
        name: "query",
        arguments: at_most_one("available|applied|committed"),
        options: &[valued("release", "RELEASE", "only patches for this release")],
        help: "list the repository's patches and their states",
        details: "",
        example: "thimble query applied --release 24.09",
        who: Who::Query,
        run: patches::query,
    },
    Command {
        name: "show",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[],
        help: "describe patches",
        details: "",
        example: "thimble show TZDATA-1",
        who: Who::Query,
        run: patches::show,
    },
    Command {
        name: "query-hosts",
        arguments: NONE,
        options: &[],
        help: "list the hosts and how they stand",
        details: "",
        example: "thimble query-hosts",
        who: Who::Query,
        run: hosts::query_hosts,
    },
    Command {
        name: "host-install",
        arguments: at_least_one("HOST", limits::COMMAND_NAMES),
        options: &[switch("force", "also on a host that is not locked")],
        help: "bring hosts to what is applied, and watch",
        details: "HOST is a hostname, an address or a node id. Leaving (Ctrl-C) does not stop an install.",
        example: "thimble host-install worker-0 worker-1",
        who: Who::Admin,
        run: progress::host_install,
    },
    Command {
        name: "drop-host",
        arguments: one("HOST"),
        options: &[],
        help: "forget a host; it returns when it is heard again",
        details: "",
        example: "thimble drop-host worker-9",
        who: Who::Admin,
        run: hosts::drop_host,
    },
    Command {
        name: "drop-controller",
        arguments: one("CONTROLLER"),
        options: &[],
        help: "forget a controller that is gone for good, so that purge need not wait for it",
        details: "CONTROLLER is a hostname or a node id, as status shows them. Before one that was dropped \
                  returns, its repository must be emptied: see the guide.",
        example: "thimble drop-controller controller-1",
        who: Who::Admin,
        run: controllers::drop_controller,
    },
    Command {
        name: "status",
        arguments: NONE,
        options: &[],
        help: "say how the daemon is: troubles first, then counters",
        details: "",
        example: "thimble status",
        who: Who::Query,
        run: status::status,
    },
    #[cfg(feature = "tools")]
    Command {
        name: "make",
        arguments: one("DIR"),
        options: &[output("write this file (default: ID.patch in the current directory)")],
        help: "make a patch of a directory with metadata.toml, files/ and scripts/",
        details: "Sign it afterwards: `minisign -S -H -m FILE`.",
        example: "thimble make tzdata-1/ -o TZDATA-1.patch",
        who: Who::Anybody,
        run: make::make,
    },
    Command {
        name: "verify",
        arguments: at_least_one("FILE", usize::MAX),
        options: &[Opt {
            name: "trust",
            short: None,
            value: Some("KEY"),
            is_repeatable: true,
            help: "believe this .pub file or base64 line (default: the configuration's trusted_keys)",
        }],
        help: "check patches as an upload would: signature first, then everything else",
        details: "",
        example: "thimble verify --trust minisign.pub TZDATA-1.patch",
        who: Who::Anybody,
        run: verify::verify,
    },
    Command {
        name: "keygen",
        arguments: NONE,
        options: &[
            switch("cluster", "a new cluster: its first controller's key file"),
            valued("node", "NAME", "an agent's key file"),
            valued("controller", "NAME", "a further controller's key file"),
            valued("from", "FILE", "the key file of a controller of the cluster"),
            output("write this file, which must not exist yet"),
        ],
        help: "make key files",
        details: "Without -o it goes to standard output; a file there gets mode 0600.",
        example: "thimble keygen --node worker-0 --from controller.key -o worker-0.key",
        who: Who::Anybody,
        run: keygen::keygen,
    },
    Command {
        name: "check-config",
        arguments: NONE,
        options: &[],
        help: "check the configuration and the key file, and show what holds",
        details: "",
        example: "thimble check-config --config ./thimble.toml",
        who: Who::Anybody,
        run: check::check_config,
    },
    Command {
        name: "decode",
        arguments: at_most_one("HEX|-"),
        options: &[valued("key-file", "FILE", "check the tag with this key file")],
        help: "explain a captured datagram, given in hex or on standard input",
        details: "Spaces, colons and line ends between digits are passed over.",
        example: "thimble decode --key-file controller.key 54484d42...",
        who: Who::Anybody,
        run: decode::decode,
    },
    Command {
        name: "help",
        arguments: at_most_one("COMMAND"),
        options: &[],
        help: "explain a command",
        details: "",
        example: "thimble help host-install",
        who: Who::Anybody,
        run: super::help::help,
    },
    Command {
        name: "version",
        arguments: NONE,
        options: &[],
        help: "show the version",
        details: "",
        example: "thimble version",
        who: Who::Anybody,
        run: super::help::version,
    },
];

/// The command with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;

    #[test]
    fn every_command_is_named_once_and_explained() {
        for (place, command) in COMMANDS.iter().enumerate() {
            assert_eq!(COMMANDS.iter().position(|other| other.name == command.name), Some(place));
            assert!(!command.help.is_empty() && !command.help.ends_with('.'), "{}", command.name);
            assert!(command.help.len() <= 80, "{}", command.name);
        }
    }

    #[test]
    fn every_example_is_a_line_that_parses_to_its_command() {
        for command in COMMANDS {
            let mut words = command.example.split_whitespace();
            assert_eq!(words.next(), Some("thimble"));
            let parsed = parse::parse(words.map(Into::into)).unwrap_or_else(|e| panic!("{}", e.message));
            assert_eq!(parsed.command.name, command.name);
        }
    }

    #[test]
    fn no_option_hides_a_global_one_or_another_of_its_command() {
        for command in COMMANDS {
            let all: Vec<&Opt> = command.options.iter().chain(GLOBAL).collect();
            for (place, option) in all.iter().enumerate() {
                for other in &all[..place] {
                    assert_ne!(option.name, other.name, "{}", command.name);
                    assert!(option.short.is_none() || option.short != other.short, "{}", command.name);
                }
            }
        }
    }
}
