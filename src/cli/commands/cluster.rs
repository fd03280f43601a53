//! Hosts, controllers and the daemon.

use super::{Arguments, Command, NONE, Who, at_least_one, one, switch, valued};
use crate::cli::{controllers, host_install, hosts, metrics, run, status, watch};
use crate::limits;

/// In the order of `--help`.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "query-hosts",
        arguments: NONE,
        options: &[
            switch("wide", "also node id, node type, when heard, last install and reason"),
            switch("failed", "hosts whose last install failed or was rejected"),
            switch("lost", "hosts unheard of for long"),
            switch("not-current", "hosts of which Patch Current is not Yes"),
            switch("at-work", "hosts that install, or are asked to"),
        ],
        help: "list the hosts and how they stand",
        details: "Of several filters, a host that any of them names is listed. Patch Current is Yes where a host has what is applied, No where host-install has \
                  something to do, Pending during an install, Failed after one that failed, n/a while this \
                  controller lacks a file.",
        example: "thimble query-hosts",
        who: Who::Query,
        run: hosts::query_hosts,
    },
    Command {
        name: "host-install",
        arguments: Arguments { name: "HOST", least: 0, most: limits::COMMAND_NAMES },
        options: &[
            switch("all", "all hosts, a few at a time: a rollout, which the controllers carry on"),
            valued("parallel", "N", "with --all: hosts at work at once (default 4)"),
            valued("stop-after-failures", "K", "with --all: stop at so many (default 3, 0 for never)"),
            switch("force", "also on hosts that are not locked"),
            switch("stop", "ask no further host of the rollout"),
            switch("resume", "go on with a stopped rollout; hosts that failed are asked again"),
        ],
        help: "bring hosts to what is applied, and watch",
        details: "HOST is a hostname, an address or a node id. A host that fails puts its previous \
                  patches back; none is rebooted. Leaving (Ctrl-C) stops nothing, and a rollout goes on \
                  when a controller dies: come back with `thimble watch`.",
        example: "thimble host-install worker-0 worker-1",
        who: Who::Admin,
        run: host_install::host_install,
    },
    Command {
        name: "host-install-async",
        arguments: at_least_one("HOST", limits::COMMAND_NAMES),
        options: &[switch("force", "also on a host that is not locked")],
        help: "ask hosts to come to what is applied, and do not wait",
        details: "It ends once the hosts are asked: query-hosts and watch show how they fare.",
        example: "thimble host-install-async worker-0 worker-1",
        who: Who::Admin,
        run: hosts::host_install_async,
    },
    Command {
        name: "drop-host",
        arguments: one("HOST"),
        options: &[],
        help: "forget a host; it returns when it is heard again",
        details: "Nothing changes on the host itself: its patches stay, its agent goes on.",
        example: "thimble drop-host worker-9",
        who: Who::Admin,
        run: hosts::drop_host,
    },
    Command {
        name: "status",
        arguments: NONE,
        options: &[],
        help: "say how the daemon is: troubles first, then counters",
        details: "Troubles come first, each with what to do. Then who this is, the controllers and \
                  hosts it hears, what is missing, and what was refused, by reason.",
        example: "thimble status",
        who: Who::Query,
        run: status::status,
    },
    Command {
        name: "watch",
        arguments: NONE,
        options: &[switch("until-done", "end with the rollout, and with its exit code")],
        help: "show how the cluster stands, live, until Ctrl-C",
        details: "Troubles, the rollout, hosts at work. Into a pipe it writes a line for each change, with \
                  --json a document. It waits for a daemon that restarts, and stops nothing when it ends.",
        example: "thimble watch",
        who: Who::Query,
        run: watch::watch,
    },
    Command {
        name: "metrics",
        arguments: NONE,
        options: &[],
        help: "write what status knows as OpenMetrics text",
        details: "For node_exporter's textfile collector: write beside the file, then rename.",
        example: "thimble metrics",
        who: Who::Query,
        run: metrics::metrics,
    },
    Command {
        name: "drop-controller",
        arguments: one("CONTROLLER"),
        options: &[],
        help: "forget a controller that is gone, so that purge need not wait",
        details: "CONTROLLER is a hostname or a node id, as status shows them. It is not told and not \
                  stopped. Before one that was dropped returns, its repository must be emptied: see the guide.",
        example: "thimble drop-controller controller-1",
        who: Who::Admin,
        run: controllers::drop_controller,
    },
    Command {
        name: "purge",
        arguments: NONE,
        options: &[],
        help: "make room: drop what the repository keeps of deleted patches",
        details: "Every controller that is known must be present and have the same repository. It \
                  touches no patch that is not deleted, and no host.",
        example: "thimble purge",
        who: Who::Admin,
        run: controllers::purge,
    },
    Command {
        name: "reload",
        arguments: NONE,
        options: &[],
        help: "have the daemon read its configuration and key file anew, as SIGHUP does",
        details: "A line says what has changed, another what waits for a restart. A file that is wrong changes \
                  nothing.",
        example: "thimble reload",
        who: Who::Admin,
        run: run::reload,
    },
    Command {
        name: "run",
        arguments: NONE,
        options: &[],
        help: "run the daemon in the foreground",
        details: "It ends with SIGTERM. An install that is under way is finished or undone at the \
                  next start.",
        example: "thimble run --config /etc/thimble/thimble.toml",
        who: Who::Root,
        run: run::run,
    },
];
