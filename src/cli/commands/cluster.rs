//! Hosts, controllers and the daemon.

use super::{Command, NONE, Who, at_least_one, one, switch};
use crate::cli::{controllers, hosts, progress, run, status};
use crate::limits;

/// In the order of `--help`.
pub const COMMANDS: &[Command] = &[
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
        name: "status",
        arguments: NONE,
        options: &[],
        help: "say how the daemon is: troubles first, then counters",
        details: "",
        example: "thimble status",
        who: Who::Query,
        run: status::status,
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
        name: "run",
        arguments: NONE,
        options: &[],
        help: "run the daemon, in the foreground, with the roles that the configuration gives",
        details: "It ends with SIGTERM. An install that is under way is finished or undone at the next start.",
        example: "thimble run --config /etc/thimble/thimble.toml",
        who: Who::Root,
        run: run::run,
    },
];
