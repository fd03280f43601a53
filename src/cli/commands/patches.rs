//! Commands about the repository's patches.

use super::{Arguments, Command, LOST, Opt, Who, at_least_one, at_most_one, switch, valued};
use crate::cli::{commit, patches, relations, spread, upload};
use crate::limits;

const BELOW_FLOOR: Opt = switch("below-floor", "also if hosts that have the floor in force will refuse it");

/// In the order of `--help`.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "upload",
        arguments: at_least_one("FILE", usize::MAX),
        options: &[],
        help: "add signed patches to the repository",
        details: "Each FILE needs FILE.minisig beside it, made with `minisign -S -H -m FILE`. A patch that is \
                  refused does not keep out the others. Nothing is applied or installed.",
        example: "thimble upload TZDATA-1.patch",
        who: Who::Admin,
        run: upload::upload,
    },
    Command {
        name: "upload-dir",
        arguments: at_least_one("DIR", usize::MAX),
        options: &[],
        help: "add all signed patches of directories to the repository",
        details: "Every *.patch file of DIR, by name, each with its .minisig beside it. A patch that is \
                  refused does not keep out the others.",
        example: "thimble upload-dir /media/usb/patches",
        who: Who::Admin,
        run: upload::upload_dir,
    },
    Command {
        name: "apply",
        arguments: Arguments { name: "ID", least: 0, most: limits::COMMAND_NAMES },
        options: &[switch("all", "all available patches"), BELOW_FLOOR, LOST],
        help: "mark patches to be installed on the hosts they concern",
        details: "Nothing is installed yet: host-install does that, host by host. Required patches \
                  are not applied with a patch: apply them first, or in the same command.",
        example: "thimble apply TZDATA-1",
        who: Who::Admin,
        run: patches::apply,
    },
    Command {
        name: "spread",
        arguments: Arguments { name: "ID", least: 0, most: limits::COMMAND_NAMES },
        options: &[
            valued("rate", "RATE", "at most so fast, as 20Mbit (default: controller.spread_kbit_s)"),
            switch("stop", "end what is sent"),
        ],
        help: "send patch files to all hosts at once, and watch",
        details: "Hosts that lack a file keep it for the next install, which takes it from there. Nothing is \
                  installed. Without ID it shows how far it is, and ends. Ctrl-C does not stop it.",
        example: "thimble spread TZDATA-1 --rate 20Mbit",
        who: Who::Admin,
        run: spread::spread,
    },
    Command {
        name: "remove",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[BELOW_FLOOR, LOST],
        help: "mark applied patches to be removed from all hosts",
        details: "Nothing changes on the hosts yet: host-install does that, host by host. The \
                  patches stay in the repository.",
        example: "thimble remove TZDATA-1",
        who: Who::Admin,
        run: patches::remove,
    },
    Command {
        name: "delete",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[LOST],
        help: "delete patches that are on no host from the repository",
        details: "A patch that a host still has is not deleted. The entry takes room in the \
                  repository until `thimble purge`.",
        example: "thimble delete TZDATA-1",
        who: Who::Admin,
        run: patches::delete,
    },
    Command {
        name: "commit",
        arguments: Arguments { name: "ID", least: 0, most: limits::COMMAND_NAMES },
        options: &[
            switch("all", "all applied patches"),
            valued("release", "RELEASE", "with --all: only patches for this release"),
            switch("dry-run", "show what would be committed, and change nothing"),
            switch("yes", "do not ask; required without a terminal"),
            LOST,
        ],
        help: "make applied patches permanent: they cannot be removed",
        details: "Required patches are committed with them. Hosts then free the files that they kept \
                  for a removal. Nothing is installed. --dry-run is also allowed to members of query_group.",
        example: "thimble commit TZDATA-1 --yes",
        who: Who::Admin,
        run: commit::commit,
    },
    Command {
        name: "query",
        arguments: at_most_one("available|applied|committed"),
        options: &[valued("release", "RELEASE", "only patches for this release")],
        help: "list the repository's patches and their states",
        details: "The Patch State follows from what the hosts have: Partial-Apply and Partial-Remove \
                  wait for host-install; n/a means that no host has reported yet.",
        example: "thimble query applied --release 24.09",
        who: Who::Query,
        run: patches::query,
    },
    Command {
        name: "show",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[],
        help: "describe patches",
        details: "Shows the description, the required patches and the files.",
        example: "thimble show TZDATA-1",
        who: Who::Query,
        run: patches::show,
    },
    Command {
        name: "what-requires",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[],
        help: "list the patches that directly require these",
        details: "A patch cannot be removed while a patch that requires it is applied.",
        example: "thimble what-requires TZDATA-1",
        who: Who::Query,
        run: relations::what_requires,
    },
    Command {
        name: "query-dependencies",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[switch("recursive", "also the patches that those require, and so on")],
        help: "list the patches that these require",
        details: "Prints one id per line. Patches that are not in the repository are listed too, and \
                  named on standard error.",
        example: "thimble query-dependencies TZDATA-2 --recursive",
        who: Who::Query,
        run: relations::query_dependencies,
    },
    Command {
        name: "is-applied",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[],
        help: "ask whether patches are on all hosts they concern",
        details: "Prints True and exits with 0 if the Patch State of all is Applied or Committed; else \
                  False and 1, and standard error names the others.",
        example: "thimble is-applied TZDATA-1",
        who: Who::Query,
        run: relations::is_applied,
    },
    Command {
        name: "is-available",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[],
        help: "ask whether patches are in the repository and on no host",
        details: "Prints True and exits with 0 if the Patch State of all is Available; else False and 1, and \
                  standard error names the others.",
        example: "thimble is-available TZDATA-1",
        who: Who::Query,
        run: relations::is_available,
    },
];
