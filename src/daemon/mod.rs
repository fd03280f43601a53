//! The event loop, stream sessions, the control socket, worker processes.
//!
//! | file | what is there |
//! |---|---|
//! | `start` | from a configuration to a running loop |
//! | `event_loop` | sockets, processes and the clock meet the state machines |
//! | `jobs` | what the loop starts workers for, and makes of their reports |
//! | `ready` | which sources may have more |
//! | `sessions` | stream sessions, from the first byte to a worker |
//! | `workers`, `job` | worker processes, and what they are told and tell |
//! | `worker` | the other side: a worker's own `main` |
//! | `topology` | words of who is there, on their way to the state machines |
//! | `exchange`, `fetch`, `pull`, `serve` | a session in a worker: its frames, who asks, who answers |
//! | `control`, `protocol`, `told` | connections of commands, and what is said on them |
//! | `answers`, `rows`, `standing`, `troubles` | what commands are answered |
//! | `reload` | reading the configuration anew |
//! | `notify`, `ending` | word to the supervisor; the daemon's last acts |
//! | `succession` | how it gives way where thimble itself was replaced |
//! | `buffers` | memory that is resident only as it is used |
//! | `counters`, `clock`, `replaced`, `log` | what is counted, kept and logged |

mod answers;
mod buffers;
mod clock;
mod control_socket;
mod counters;
mod ending;
mod event_loop;
mod exchange;
mod fetch;
#[cfg(test)]
mod fixture;
mod jobs;
mod log;
mod notify;
mod proof;
mod pull;
mod ready;
mod reload;
mod replaced;
mod rows;
mod serve;
mod sessions;
mod standing;
mod start;
mod succession;
mod sys;
mod topology;
mod transport;
mod troubles;
pub mod worker;
mod workers;

pub use start::run;
