//! The TIPC network in `status`, and the commands that inspect it.
//!
//! | file | contents |
//! |---|---|
//! | `tipc_row` | the daemon's TIPC state in `status` |
//! | `net` | the topology service and names of nodes, for the commands |
//! | `watch`, `serve`, `matrix` | one command each |

#[cfg(feature = "tipc")]
mod matrix;
#[cfg(feature = "tipc")]
mod net;
#[cfg(feature = "tipc")]
mod serve;
mod tipc_row;
#[cfg(feature = "tipc")]
mod watch;

#[cfg(feature = "tipc")]
pub use self::{matrix::matrix, serve::serve, watch::watch};
#[cfg(not(feature = "tipc"))]
pub use absent::{absent as matrix, absent as serve, absent as watch};
pub(super) use tipc_row::{json, text};

#[cfg(not(feature = "tipc"))]
mod absent {
    use crate::cli::command::Invocation;
    use crate::cli::exit::{Exit, Failure};
    use crate::cli::out::Out;

    /// The TIPC commands in a build without TIPC: an error.
    pub fn absent(_: &Invocation, _: &mut Out) -> Result<(), Failure> {
        let sentence = "this thimble is built for UDP: use the build for TIPC";
        Err(Failure::new(Exit::Refused, sentence))
    }
}
