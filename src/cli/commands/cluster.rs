//! Commands about hosts, controllers and the daemon.

use super::{Arguments, Command, NONE, Opt, Who, at_least_one, one, output, switch, valued};
use crate::cli::{controllers, explain, host_install, hosts, ping, run, scrape, status, watch};
use crate::limits;

/// In the order of `--help`.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "query-hosts",
        arguments: NONE,
        options: &[
            switch("wide", "also node id, type, when heard, last install and reason"),
            switch("failed", "hosts whose last install failed or was rejected"),
            switch("lost", "hosts unheard of for long"),
            switch("not-current", "hosts whose Patch Current is not Yes"),
            switch("at-work", "hosts that are installing or asked to"),
        ],
        help: "list the hosts and their states",
        details: "With several filters, a host that matches any of them is listed. Patch Current is Yes for a host that has \
                  the applied patches, No if host-install has work to do, Pending during an install, Failed after \
                  a failed one, n/a while this controller lacks a patch file.",
        example: "thimble query-hosts",
        who: Who::Query,
        run: hosts::query_hosts,
    },
    Command {
        name: "explain",
        arguments: one("HOST|ID"),
        options: &[],
        help: "tell why a host is not current, or what keeps a patch back",
        details: "Each cause comes with what happens next, and when, and with what to do about it. HOST is a hostname, \
                  an address or a node id. It only looks.",
        example: "thimble explain worker-0",
        who: Who::Query,
        run: explain::explain,
    },
    Command {
        name: "ping",
        arguments: one("HOST"),
        options: &[Opt {
            name: "count",
            short: Some('c'),
            value: Some("N"),
            is_repeatable: false,
            help: "how many times it is asked by each way (default 3)",
        }],
        help: "ask a host by each way, and tell what comes back",
        details: "By unicast, by multicast, and by a session: what is answered, how soon, what is lost, and what to do \
                  about it. The exit code is 0 if each way is answered at least once, 1 if one is not, 6 if none \
                  is. HOST is a hostname, an address or a node id.",
        example: "thimble ping worker-0",
        who: Who::Query,
        run: ping::ping,
    },
    Command {
        name: "host-install",
        arguments: Arguments { name: "HOST", least: 0, most: limits::COMMAND_NAMES },
        options: &[
            switch("all", "all hosts, a few at a time: a rollout, run by the controllers"),
            valued("parallel", "N", "with --all: hosts at work at once (default 4)"),
            valued("stop-after-failures", "K", "with --all: stop at so many (default 3, 0 for never)"),
            switch("force", "also on hosts that are not locked"),
            switch("stop", "stop the rollout: no further host is asked"),
            switch("resume", "continue a stopped rollout; failed hosts are asked again"),
        ],
        help: "install what is applied on hosts, and watch",
        details: "HOST is a hostname, an address or a node id. A host that fails restores its \
                  previous patches; no host is rebooted. Ctrl-C does not stop installs, and a rollout continues \
                  when a controller fails: `thimble watch` shows it again.",
        example: "thimble host-install worker-0 worker-1",
        who: Who::Admin,
        run: host_install::host_install,
    },
    Command {
        name: "host-install-async",
        arguments: at_least_one("HOST", limits::COMMAND_NAMES),
        options: &[switch("force", "also on hosts that are not locked")],
        help: "ask hosts to install what is applied, and do not wait",
        details: "It ends once the hosts are asked: query-hosts and watch show the progress.",
        example: "thimble host-install-async worker-0 worker-1",
        who: Who::Admin,
        run: hosts::host_install_async,
    },
    Command {
        name: "drop-host",
        arguments: one("HOST"),
        options: &[],
        help: "forget a host; it returns when it is heard again",
        details: "Nothing changes on the host itself: its patches stay, its agent keeps running.",
        example: "thimble drop-host worker-9",
        who: Who::Admin,
        run: hosts::drop_host,
    },
    Command {
        name: "status",
        arguments: NONE,
        options: &[],
        help: "show the daemon's state: troubles first, then counters",
        details: "Each trouble says what to do. Then come the node, the controllers and hosts that it \
                  hears, missing patch files, and refused datagrams by reason.",
        example: "thimble status",
        who: Who::Query,
        run: status::status,
    },
    Command {
        name: "watch",
        arguments: NONE,
        options: &[switch("until-done", "end with the rollout, and with its exit code")],
        help: "show the cluster's state, live, until Ctrl-C",
        details: "Shows troubles, the rollout and hosts at work. In a pipe it writes a line for each change, with \
                  --json a document. It waits for a daemon that restarts. Ending it stops nothing.",
        example: "thimble watch",
        who: Who::Query,
        run: watch::watch,
    },
    Command {
        name: "metrics",
        arguments: NONE,
        options: &[
            output("replace this file, as a whole: for node_exporter's textfile collector"),
            switch("http", "answer the HTTP request on standard input: for systemd or inetd"),
        ],
        help: "write the values of status as OpenMetrics text",
        details: "With -o and --http the text has thimble_up, which is 0, and nothing else, if the daemon \
                  cannot be reached.",
        example: "thimble metrics -o /var/lib/prometheus/node-exporter/thimble.prom",
        who: Who::Query,
        run: scrape::metrics,
    },
    Command {
        name: "drop-controller",
        arguments: one("CONTROLLER"),
        options: &[],
        help: "forget a controller, so that purge does not wait for it",
        details: "CONTROLLER is a hostname or a node id, as status shows them. It is neither notified nor \
                  stopped. Before a dropped controller returns, its repository must be emptied: see the guide.",
        example: "thimble drop-controller controller-1",
        who: Who::Admin,
        run: controllers::drop_controller,
    },
    Command {
        name: "purge",
        arguments: NONE,
        options: &[],
        help: "make room: drop the entries of deleted patches",
        details: "Every known controller must be present and have the same repository. Other \
                  patches and hosts are not affected.",
        example: "thimble purge",
        who: Who::Admin,
        run: controllers::purge,
    },
    Command {
        name: "reload",
        arguments: NONE,
        options: &[],
        help: "make the daemon read configuration and key file again",
        details: "SIGHUP does the same. One line says what has changed, another what needs a restart. An invalid file changes nothing.",
        example: "thimble reload",
        who: Who::Admin,
        run: run::reload,
    },
    Command {
        name: "run",
        arguments: NONE,
        options: &[valued(
            "user",
            "NAME",
            "become this user, who needs an installer where there is an agent",
        )],
        help: "run the daemon in the foreground",
        details: "SIGTERM ends it. An interrupted install is finished or undone at the next start.",
        example: "thimble run --config /etc/thimble/thimble.toml",
        who: Who::Root,
        run: run::run,
    },
    Command {
        name: "installer",
        arguments: NONE,
        options: &[valued("user", "NAME", "the daemon's user (default: thimble)")],
        help: "run the installer, for a daemon that is not root",
        details: "It starts the workers that install, as root, when the daemon asks for them at installer_socket. SIGTERM ends it.",
        example: "thimble installer --user thimble",
        who: Who::Root,
        run: run::installer,
    },
];
