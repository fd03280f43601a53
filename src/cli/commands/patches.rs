//! The repository's patches.

use super::{Arguments, Command, LOST, Who, at_least_one, at_most_one, switch, valued};
use crate::cli::{commit, patches, relations, upload};
use crate::limits;

/// In the order of `--help`.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "upload",
        arguments: at_least_one("FILE", usize::MAX),
        options: &[],
        help: "take signed patches into the repository",
        details: "Of several, one that is not taken keeps none of the others out. Beside each FILE must lie FILE.minisig, made with `minisign -S -H -m FILE`. \
                  Nothing is applied or installed by it.",
        example: "thimble upload TZDATA-1.patch",
        who: Who::Admin,
        run: upload::upload,
    },
    Command {
        name: "upload-dir",
        arguments: at_least_one("DIR", usize::MAX),
        options: &[],
        help: "take all signed patches of directories into the repository",
        details: "Every *.patch file of DIR, by name, each with its .minisig beside it. One that is not \
                  taken keeps none of the others out.",
        example: "thimble upload-dir /media/usb/patches",
        who: Who::Admin,
        run: upload::upload_dir,
    },
    Command {
        name: "apply",
        arguments: Arguments { name: "ID", least: 0, most: limits::COMMAND_NAMES },
        options: &[switch("all", "all patches that are available"), LOST],
        help: "want patches on all hosts that they concern",
        details: "Nothing is installed yet: host-install does that, host by host. What a patch \
                  requires is not applied with it: apply that first, or in the same command.",
        example: "thimble apply TZDATA-1",
        who: Who::Admin,
        run: patches::apply,
    },
    Command {
        name: "remove",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[LOST],
        help: "want applied patches off all hosts again",
        details: "Nothing changes on the hosts yet: host-install does that, host by host. The \
                  patch stays in the repository.",
        example: "thimble remove TZDATA-1",
        who: Who::Admin,
        run: patches::remove,
    },
    Command {
        name: "delete",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[LOST],
        help: "take patches that are on no host out of the repository",
        details: "It changes no host: a patch that one still holds is not deleted. The entry's place \
                  is free again only after `thimble purge`.",
        example: "thimble delete TZDATA-1",
        who: Who::Admin,
        run: patches::delete,
    },
    Command {
        name: "commit",
        arguments: Arguments { name: "ID", least: 0, most: limits::COMMAND_NAMES },
        options: &[
            switch("all", "all patches that are applied"),
            valued("release", "RELEASE", "with --all: only patches for this release"),
            switch("dry-run", "show what would be committed, and change nothing"),
            switch("yes", "do not ask; where nobody can be asked, this is wanted"),
            LOST,
        ],
        help: "keep applied patches for good: no remove is possible again",
        details: "What they require is committed with them. Hosts then free the files that they kept \
                  to go back. It installs nothing. --dry-run only asks: who may query may use it.",
        example: "thimble commit TZDATA-1 --yes",
        who: Who::Admin,
        run: commit::commit,
    },
    Command {
        name: "query",
        arguments: at_most_one("available|applied|committed"),
        options: &[valued("release", "RELEASE", "only patches for this release")],
        help: "list the repository's patches and their states",
        details: "The state is told from what the hosts hold: Partial-Apply and Partial-Remove wait \
                  for host-install; with n/a the hosts have not told yet.",
        example: "thimble query applied --release 24.09",
        who: Who::Query,
        run: patches::query,
    },
    Command {
        name: "show",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[],
        help: "describe patches",
        details: "The description, what it requires, the files that it brings.",
        example: "thimble show TZDATA-1",
        who: Who::Query,
        run: patches::show,
    },
    Command {
        name: "what-requires",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[],
        help: "list the patches that require these themselves",
        details: "A patch cannot be removed while one that requires it is applied.",
        example: "thimble what-requires TZDATA-1",
        who: Who::Query,
        run: relations::what_requires,
    },
    Command {
        name: "query-dependencies",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[switch("recursive", "also what those require, to the end")],
        help: "list the patches that these require",
        details: "An id a line. What is not in the repository is listed too, and named on standard \
                  error.",
        example: "thimble query-dependencies TZDATA-2 --recursive",
        who: Who::Query,
        run: relations::query_dependencies,
    },
    Command {
        name: "is-applied",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[],
        help: "ask whether patches are on all hosts that they concern",
        details: "True and exit code 0 if all are Applied or Committed by their Patch State; else False \
                  and 1, and standard error names those that are not.",
        example: "thimble is-applied TZDATA-1",
        who: Who::Query,
        run: relations::is_applied,
    },
    Command {
        name: "is-available",
        arguments: at_least_one("ID", limits::COMMAND_NAMES),
        options: &[],
        help: "ask whether patches are in the repository and on no host",
        details: "True and exit code 0 if all are Available by their Patch State; else False and 1, and \
                  standard error names those that are not.",
        example: "thimble is-available TZDATA-1",
        who: Who::Query,
        run: relations::is_available,
    },
];
