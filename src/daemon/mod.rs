//! The event loop, stream sessions, the control socket, worker processes.
//!
//! | file | what is there |
//! |---|---|
//! | `start` | from a configuration to a running loop |
//! | `event_loop` | sockets, processes and the clock meet the state machines |
//! | `tokens`, `ready` | numbers of the sources that `poll` watches; which of them may have more |
//! | `repository` | a state machine: the repository is loading, starting, serving; the change at work |
//! | `jobs` | starts workers, applies their reports, reaps them |
//! | `sessions` | stream sessions, from the first byte to a worker |
//! | `workers`, `process` | worker processes; children of the loop's or of the installer's |
//! | `installer` | what remains root where the daemon is not: starts the workers that install |
//! | `worker`, `confine` | the other side: a worker's own `main`; what it gives up first |
//! | `awaited` | an install that waits for a controller, from its worker to the state machine |
//! | `topology` | the topology service's events, on their way to the state machines |
//! | `network`, `follow` | what the interface is; its changes, on their way to the sockets |
//! | `exchange`, `pace`, `fetch`, `pull`, `serve` | a session in a worker: its frames, its limits, who asks, who answers |
//! | `spread` | a file that is sent to all hosts at once: sender, receiver, what is kept |
//! | `frames`, `hellos` | answers of the loop on a session; hellos by unicast |
//! | `relay` | between a worker that installs and the one that has its session |
//! | `control_socket` | connections of commands |
//! | `answers`, `rows`, `summary`, `alerts`, `alert_nodes`, `stalled` | what commands are answered |
//! | `pinged` | the last ask of `thimble ping`, and when its host answered |
//! | `reload`, `reconfigure`, `settings` | reads the configuration anew, in a worker; applies it, in the loop |
//! | `notify`, `supervisor` | sd_notify's protocol; the status that the supervisor receives |
//! | `shutdown` | ends the daemon |
//! | `reexec` | executes the new program file after thimble's own was replaced |
//! | `losses`, `tell_losses` | what the log was told of lost nodes and links; tells it |
//! | `os_error` | the system's words for an error, without heap |
//! | `buffers` | memory that is resident only as it is used |
//! | `counters`, `clock`, `replaced`, `log` | what is counted, kept and logged |

mod alert_nodes;
mod alerts;
mod answers;
mod awaited;
mod buffers;
mod clock;
mod confine;
mod control_socket;
mod copies;
mod counters;
mod event_loop;
mod exchange;
mod fetch;
#[cfg(test)]
mod fixture;
mod floors;
mod follow;
mod frames;
mod gather;
mod hellos;
pub mod installer;
mod jobs;
mod links;
mod log;
mod losses;
mod names;
mod network;
mod notify;
mod oom;
mod os_error;
mod pace;
mod pinged;
mod process;
mod proof;
mod pull;
mod ready;
mod reconfigure;
mod reexec;
mod relay;
mod reload;
mod replaced;
mod repository;
mod resolving;
mod rows;
mod serve;
mod sessions;
mod settings;
mod shutdown;
mod spread;
mod stalled;
mod start;
mod summary;
mod supervisor;
mod sys;
mod tell_losses;
mod tokens;
mod topology;
mod transport;
mod unicast;
pub mod worker;
mod workers;

pub use start::run;
