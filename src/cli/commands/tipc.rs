//! TIPC's network, as its topology service tells it. Of every thimble's table, so
//! that help, manual and completions are the same; one that was built for UDP says
//! that it was.

use super::{Arguments, Command, NONE, Who, switch, valued};
use crate::cli::tipc::{matrix, serve, watch};

/// In the order of `--help`.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "tipc watch",
        arguments: NONE,
        options: &[
            valued("type", "T", "service type; 0 is for nodes, 2 for links"),
            valued("lower", "L", "from this instance on (default 0)"),
            valued("upper", "U", "up to this instance (default: the highest)"),
            switch("ports", "each socket that binds a range, or stops to (default)"),
            switch("service", "the first and the last socket of each range only"),
            valued("timeout", "MS", "end after so many milliseconds (default: go on)"),
            valued("node", "N", "ask this node's topology service (default: our own)"),
        ],
        help: "show what is bound to TIPC services, as it comes and goes",
        details: "What is there already comes first. Times are UTC. N is a node's address or identity, as `tipc \
                  node list` shows it. With --json a document a line.",
        example: "thimble tipc watch --type 7488",
        who: Who::Anybody,
        run: watch,
    },
    Command {
        name: "tipc serve",
        arguments: Arguments { name: "T:L-U", least: 1, most: usize::MAX },
        options: &[valued("scope", "cluster|node", "who may find it (default: the cluster)")],
        help: "bind a socket to TIPC service ranges, for a try, until Ctrl-C",
        details: "T is a service type of 64 or more, L and U instances: 18888:6-53, or 18888:7 for one. The \
                  same range may be given again. What is sent there is shown by sender and length.",
        example: "thimble tipc serve 18888:6-53 18888:54-55",
        who: Who::Anybody,
        run: serve,
    },
    Command {
        name: "tipc matrix",
        arguments: NONE,
        options: &[],
        help: "ask every TIPC node for its links, and draw who is linked to whom",
        details: "A link that one of its ends does not know of is marked, as is a node that does not answer.",
        example: "thimble tipc matrix",
        who: Who::Anybody,
        run: matrix,
    },
];
