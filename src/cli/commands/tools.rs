//! Commands that need no daemon.

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
        options: &[
            output("write this file (default: ID.patch in the current directory)"),
            switch("keep-owners", "keep owners by number (default: root, and `owners` of the metadata)"),
            Opt {
                name: "floor",
                short: None,
                value: Some("FILE"),
                is_repeatable: true,
                help: "make a floor that requires this patch file",
            },
            Opt {
                name: "from",
                short: None,
                value: Some("PATCH"),
                is_repeatable: true,
                help: "leave out what this patch file has, which DIR requires, and pack what it has otherwise as differences",
            },
            valued(
                "base",
                "DIR",
                "pack files that this tree of the base system has otherwise as differences",
            ),
        ],
        help: "make a patch from a directory",
        details: "DIR holds metadata.toml, files/ and scripts/; that of a floor only metadata.toml, with a section [floor]. Sign the patch afterwards: `minisign -S -H -m FILE`. Nothing is uploaded. With --from, hosts whose files were changed by hand fetch the old patch for what they lack; with --base, they refuse the install.",
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
            help: "trust this .pub file or base64 line (default: the configuration's trusted_keys)",
        }],
        help: "check patches like an upload",
        details: "Nothing is uploaded. The exit code is 5 if a patch does not verify.",
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
            valued("like", "OLD", "this key file's node, with the slots of FILE"),
            switch("add-slot", "FILE, with a new secret in a free slot"),
            valued("send-slot", "N", "FILE, but sending with slot N"),
            valued("drop-slot", "N", "FILE without slot N"),
            valued("from", "FILE", "a controller's key file of the cluster, or the file to change"),
            output("write this file, which must not exist yet"),
        ],
        help: "make key files, and rotate a cluster's secret",
        details: "Files are never overwritten. To rotate the secret of a running cluster, do each step on every node, \
                  with `thimble reload`, before the next: 1. --add-slot on one controller's file, and --like for \
                  each other node from that; 2. --send-slot N; 3. once `thimble status` stops counting \
                  received_with_slot_OLD, --drop-slot OLD.",
        example: "thimble keygen --node worker-0 --from controller.key -o worker-0.key",
        who: Who::Anybody,
        run: keygen::keygen,
    },
    Command {
        name: "check-config",
        arguments: NONE,
        options: &[],
        help: "check configuration and keys, show the effective values",
        details: "Changes nothing and asks no daemon: the values are those that `run` would start with.",
        example: "thimble check-config --config ./thimble.toml",
        who: Who::Anybody,
        run: check::check_config,
    },
    Command {
        name: "install-local",
        arguments: NONE,
        options: &[
            switch("force", "also if this host is not locked"),
            switch("below-floor", "also below the floor, which is forgotten with all that was superseded"),
        ],
        help: "install what this node's own repository has applied",
        details: "For use at boot, before the daemon and the network. The node must be controller and agent.",
        example: "thimble install-local",
        who: Who::Root,
        run: install_local::install_local,
    },
    Command {
        name: "guard",
        arguments: NONE,
        options: &[switch("boot", "the daemon does not start next: do not count a start of a new thimble")],
        help: "finish or undo an install that a crash interrupted",
        details: "For use at boot, before services start. The patches' scripts run when the daemon starts.",
        example: "thimble guard",
        who: Who::Root,
        run: guard::guard,
    },
    Command {
        name: "decode",
        arguments: at_most_one("HEX|-"),
        options: &[valued("key-file", "FILE", "check the tag with this key file")],
        help: "explain a captured datagram, in hex or on standard input",
        details: "Spaces, colons and line ends between digits are ignored. Nothing is sent.",
        example: "thimble decode --key-file controller.key 54484d42...",
        who: Who::Anybody,
        run: decode::decode,
    },
    Command {
        name: "completions",
        arguments: Arguments { name: "SHELL", least: 1, most: usize::MAX },
        options: &[],
        help: "write a completion script for a shell",
        details: "SHELL is bash, zsh or fish. Source the script, or save it where the shell looks for \
                  completions: its first line says how. Names of patches and hosts come from the daemon.",
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
        details: "The page is roff: read it with `thimble man | man -l -`.",
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
