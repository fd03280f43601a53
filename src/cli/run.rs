//! `run`: the daemon, in the foreground, with the roles of its configuration.

use super::exit::{Exit, Failure};
use super::out::Out;
use super::parse::Invocation;

/// `thimble run`
pub fn run(invocation: &Invocation, _out: &mut Out) -> Result<(), Failure> {
    crate::daemon::run(invocation.config()).map_err(|reason| Failure::new(Exit::Refused, reason))
}
