//! A file that is sent to all hosts at once: its workers, and what the loop does for them.
//!
//! | file | what is there |
//! |---|---|
//! | `send` | a controller's worker: reads the file, sends packets |
//! | `receive` | an agent's worker: takes packets, finds and checks blocks, keeps them |
//! | `held` | the packets that it has in memory meanwhile |
//! | `cache` | the files that are kept |
//! | `source` | what an install takes from them |
//! | `loop_side` | starts the workers, passes offers and answers between them and other nodes |
//!
//! The loop has the group's datagrams, which are authenticated one by one. The workers have the packets:
//! thousands in a second, of which each is a hint.

mod cache;
mod held;
mod loop_side;
pub mod receive;
pub mod send;
pub mod source;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::sys;
use crate::clock::boottime_ms;
use crate::job::reporter::Reporter;
use crate::job::{RefusalKind, Report, SpreadInput};
use crate::limits::SPREAD_INPUT_BYTES;
use crate::time::Instant;
use crate::types::{PatchId, Reason};

pub use loop_side::Spreading;

fn now() -> Instant {
    Instant::from_millis(boottime_ms())
}

/// Waits until the channel or the socket has something, or until then.
fn wait(channel: &OwnedFd, socket: Option<&OwnedFd>, until: Instant) -> io::Result<()> {
    let fds = [channel.as_fd(), socket.unwrap_or(channel).as_fd()];
    sys::wait_readable_for(fds, until.since(now()).as_millis())?;
    Ok(())
}

/// What the loop passes on.
struct Input([u8; SPREAD_INPUT_BYTES]);

impl Input {
    fn new() -> Self {
        Self([0; SPREAD_INPUT_BYTES])
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    /// The loop is gone.
    fn next(&mut self, channel: &OwnedFd) -> io::Result<Option<SpreadInput>> {
        loop {
            if !sys::wait_readable_for([channel.as_fd(), channel.as_fd()], 0)?[0] {
                return Ok(None);
            }
            match sys::recv_message(channel.as_fd(), &mut self.0)? {
                0 => return Err(io::ErrorKind::BrokenPipe.into()),
                got => match postcard::from_bytes(&self.0[..got]) {
                    Ok(input) => return Ok(Some(input)),
                    // Of another version of the loop: none is.
                    Err(_) => continue,
                },
            }
        }
    }
}

/// Reports how a worker's part ended: well, or why it is not done with all hosts.
fn report_end(
    id: &PatchId,
    done: &str,
    failed: Option<String>,
    reporter: &mut dyn Reporter,
) -> io::Result<()> {
    let report = match failed {
        None => Report::Done,
        Some(reason) => Report::Failed {
            kind: RefusalKind::Refused,
            reason: Reason::format(format_args!("{id} is not {done} all hosts: {reason}")),
        },
    };
    reporter.report(&report)
}
