//! `run`: the daemon in the foreground, with the roles of its configuration; `installer`,
//! which is root for a daemon that is not; and `reload`, which makes a daemon read its
//! configuration again.

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::guard::root_only;
use super::out::Out;
use super::patches::print_lines;
use crate::config::{self, User};
use crate::control::Request;
use crate::daemon;

/// `thimble run`
pub fn run(invocation: &Invocation, _out: &mut Out) -> Result<(), Failure> {
    let user = invocation.value("user").map(|_| user(invocation)).transpose()?;
    daemon::run(invocation.config(), user).map_err(refused)
}

/// `thimble installer`
pub fn installer(invocation: &Invocation, _out: &mut Out) -> Result<(), Failure> {
    root_only()?;
    daemon::installer::run(invocation.config(), user(invocation)?.uid).map_err(refused)
}

/// `thimble reload`
pub fn reload(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    print_lines(invocation, Request::Reload, out)
}

/// The daemon's user.
fn user(invocation: &Invocation) -> Result<User, Failure> {
    let name = invocation.value("user").map_or("thimble".into(), |name| name.to_string_lossy());
    config::user(&name).map_err(refused)
}

fn refused(reason: String) -> Failure {
    Failure::new(Exit::Refused, reason)
}
