//! What needs no daemon.

#[cfg(feature = "tools")]
use super::one;
use super::{Arguments, Command, NONE, Opt, Who, at_least_one, at_most_one, output, switch, valued};
use crate::cli::{check, completions, decode, guard, help, install_local, keygen, verify};
#[cfg(feature = "tools")]
use crate::cli::{make, man};

/// In the order of `--help`.
pub const COMMANDS: &[Command] = &[
    #[cfg(feature = "tools")]
    Command {
        name: "make",
        arguments: one("DIR"),
        options: &[output("write this file (default: ID.patch in the current directory)")],
        help: "make a patch of a directory: metadata.toml, files/, scripts/",
        details: "Sign it afterwards: `minisign -S -H -m FILE`. It neither signs nor uploads.",
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
        help: "check patches as an upload would",
        details: "Nothing is uploaded. Exit code 5 where one of them is not as it should be.",
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
            valued("like", "OLD", "the node of this key file again, with the slots of FILE"),
            switch("add-slot", "FILE with a new secret in a free slot"),
            valued("send-slot", "N", "FILE, but sending with slot N"),
            valued("drop-slot", "N", "FILE without slot N"),
            valued("from", "FILE", "the key file of a controller of the cluster, or the one to change"),
            output("write this file, which must not exist yet"),
        ],
        help: "make key files, and change a cluster's secret",
        details: "Never writes over a file. To change the secret while all goes on, each step on every node, with \
                  `thimble reload`, before the next: 1. --add-slot on one controller's file, and --like each other \
                  node's from that; 2. --send-slot N; 3. once `thimble status` counts no more \
                  received_with_slot_OLD, --drop-slot OLD.",
        example: "thimble keygen --node worker-0 --from controller.key -o worker-0.key",
        who: Who::Anybody,
        run: keygen::keygen,
    },
    Command {
        name: "check-config",
        arguments: NONE,
        options: &[],
        help: "check configuration and keys, and show what holds",
        details: "It changes nothing and asks no daemon: what holds is what `run` would begin with.",
        example: "thimble check-config --config ./thimble.toml",
        who: Who::Anybody,
        run: check::check_config,
    },
    Command {
        name: "install-local",
        arguments: NONE,
        options: &[switch("force", "also where this host is not locked")],
        help: "bring this host to what its own repository has applied",
        details: "For the boot, before the daemon and the network: the node must be controller and agent.",
        example: "thimble install-local",
        who: Who::Root,
        run: install_local::install_local,
    },
    Command {
        name: "guard",
        arguments: NONE,
        options: &[switch("boot", "the daemon is not started next: count no start of a new thimble")],
        help: "finish or undo what a crash cut short in this host's files",
        details: "For the boot, before services start. Scripts that belong to it run when the daemon starts.",
        example: "thimble guard",
        who: Who::Root,
        run: guard::guard,
    },
    Command {
        name: "decode",
        arguments: at_most_one("HEX|-"),
        options: &[valued("key-file", "FILE", "check the tag with this key file")],
        help: "explain a captured datagram, in hex or on standard input",
        details: "Spaces, colons and line ends between digits are passed over. Nothing is sent.",
        example: "thimble decode --key-file controller.key 54484d42...",
        who: Who::Anybody,
        run: decode::decode,
    },
    Command {
        name: "completions",
        arguments: Arguments { name: "SHELL", least: 1, most: usize::MAX },
        options: &[],
        help: "write what makes a shell complete thimble's words",
        details: "SHELL is bash, zsh or fish. Source what is written, or save it where the shell looks for \
                  completions: its first line says how. Names of patches and hosts are asked of the daemon.",
        example: "thimble completions bash",
        who: Who::Anybody,
        run: completions::completions,
    },
    #[cfg(feature = "tools")]
    Command {
        name: "man",
        arguments: NONE,
        options: &[],
        help: "write the manual page, thimble(8)",
        details: "As roff: read it with `thimble man | man -l -`.",
        example: "thimble man",
        who: Who::Anybody,
        run: man::man,
    },
    Command {
        name: "help",
        arguments: Arguments { name: "COMMAND", least: 0, most: 2 },
        options: &[],
        help: "explain a command",
        details: "",
        example: "thimble help host-install",
        who: Who::Anybody,
        run: help::help,
    },
    Command {
        name: "version",
        arguments: NONE,
        options: &[],
        help: "show the version",
        details: "",
        example: "thimble version",
        who: Who::Anybody,
        run: help::version,
    },
];
