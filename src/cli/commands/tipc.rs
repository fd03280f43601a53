//! Commands about the TIPC network. They are in the table of every build, so that help,
//! manual and completions are the same. A build for UDP reports that it has no TIPC.

use super::{Arguments, Command, NONE, Who, switch, valued};
use crate::cli::tipc::{matrix, serve, watch};

/// In the order of `--help`.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "tipc watch",
        arguments: NONE,
        options: &[
            valued("type", "T", "service type; 0 is nodes, 2 is links"),
            valued("lower", "L", "lowest instance (default 0)"),
            valued("upper", "U", "highest instance (default: the highest of all)"),
            switch("ports", "each socket that binds or unbinds a range (default)"),
            switch("service", "only the first and the last socket of each range"),
            valued("timeout", "MS", "end after this time in milliseconds (default: never)"),
            valued("node", "N", "ask this node's topology service (default: the local one)"),
        ],
        help: "show bindings to TIPC services, and each change",
        details: "Existing bindings come first. Times are UTC. N is a node's address or identity, as `tipc \
                  node list` shows it. With --json each line is a document.",
        example: "thimble tipc watch --type 7488",
        who: Who::Anybody,
        run: watch,
    },
    Command {
        name: "tipc serve",
        arguments: Arguments { name: "T:L-U", least: 1, most: usize::MAX },
        options: &[valued("scope", "cluster|node", "who can find the socket (default: cluster)")],
        help: "bind a test socket to TIPC services, until Ctrl-C",
        details: "T is a service type of 64 or more, L and U instances: 18888:6-53, or 18888:7 for one. A \
                  range may be repeated. Each message that arrives is shown with sender and length.",
        example: "thimble tipc serve 18888:6-53 18888:54-55",
        who: Who::Anybody,
        run: serve,
    },
    Command {
        name: "tipc matrix",
        arguments: NONE,
        options: &[],
        help: "ask every TIPC node for its links, and draw a matrix",
        details: "Links that only one end reports are marked, and so are nodes that do not answer.",
        example: "thimble tipc matrix",
        who: Who::Anybody,
        run: matrix,
    },
];
