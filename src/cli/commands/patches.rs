//! The repository's patches.

use super::{Arguments, Command, LOST, Who, at_least_one, at_most_one, switch, valued};
use crate::cli::patches;
use crate::limits;

/// In the order of `--help`.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "upload",
        arguments: at_least_one("FILE", usize::MAX),
        options: &[],
        help: "take signed patches into the repository",
        details: "Beside each FILE must lie FILE.minisig, made with `minisign -S -H -m FILE`. \
                  Nothing is applied or installed by it.",
        example: "thimble upload TZDATA-1.patch",
        who: Who::Admin,
        run: patches::upload,
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
            switch("yes", "do not ask; where nobody can be asked, this is wanted"),
            LOST,
        ],
        help: "keep applied patches for good: no remove is possible again",
        details: "What they require is committed with them. Hosts then free the files that they kept \
                  to go back. It installs nothing.",
        example: "thimble commit TZDATA-1 --yes",
        who: Who::Admin,
        run: patches::commit,
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
];
