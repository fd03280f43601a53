//! `run`: the daemon in the foreground, with the roles of its configuration; and
//! `reload`, which makes it read the configuration again.

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::Out;
use super::patches::print_lines;
use crate::control::Request;

/// `thimble run`
pub fn run(invocation: &Invocation, _out: &mut Out) -> Result<(), Failure> {
    crate::daemon::run(invocation.config()).map_err(|reason| Failure::new(Exit::Refused, reason))
}

/// `thimble reload`
pub fn reload(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    print_lines(invocation, Request::Reload, out)
}
