//! What a worker can reach that was taken over, in test builds.
//!
//! With `THIMBLE_TAKEN_OVER=DIR:PORT:PID` in the environment, a confined worker does what an
//! attacker would, instead of its job, and reports how each attempt ended. `DIR` is outside of
//! the state directory; something listens on `PORT` and on the socket `DIR/socket`; `PID` is a
//! process. With `THIMBLE_UNCONFINED=1` as well it does so without having given anything up.
//! A worker that needs no state directory tries the directory `state` beside `DIR`.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use super::sys;
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::types::Reason;

/// Whether the worker is to give up nothing.
pub fn is_unconfined() -> bool {
    std::env::var_os("THIMBLE_UNCONFINED").is_some()
}

/// Tries everything, if this worker is taken over; true if it was.
///
/// # Errors
/// The loop is gone.
pub fn run(state_dir: &Path, reporter: &mut dyn Reporter) -> io::Result<bool> {
    let Ok(payload) = std::env::var("THIMBLE_TAKEN_OVER") else { return Ok(false) };
    let [outside, port, pid] = payload.splitn(3, ':').collect::<Vec<_>>()[..] else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let outside = Path::new(outside);
    let beside = outside.with_file_name("state");
    let state_dir = if state_dir == Path::new(super::NOWHERE) { &beside } else { state_dir };
    let own = state_dir.join("taken-over");
    let attempts: [(&str, io::Result<()>); 15] = [
        ("write its own file", fs::write(&own, "x")),
        ("read its own directory", fs::read_dir(state_dir).map(drop)),
        ("write another file", fs::write(outside.join("written"), "x")),
        ("change another file", fs::OpenOptions::new().append(true).open(outside.join("secret")).map(drop)),
        ("remove another file", fs::remove_file(outside.join("victim"))),
        ("read another file", fs::read(outside.join("secret")).map(drop)),
        ("list another directory", fs::read_dir(outside).map(drop)),
        ("make a link", symlink("/etc/passwd", state_dir.join("link"))),
        ("leave a program", fs::set_permissions(outside.join("secret"), fs::Permissions::from_mode(0o4755))),
        ("give a file away", chown(outside.join("secret"), Some(1), None)),
        ("run a program", Command::new("/bin/true").status().map(drop)),
        ("reach the control socket", UnixStream::connect(outside.join("socket")).map(drop)),
        ("connect to a port", TcpStream::connect(format!("127.0.0.1:{port}")).map(drop)),
        ("signal another process", sys::signal(pid)),
        ("make code", sys::make_code()),
    ];
    for (what, tried) in attempts {
        let how = if tried.is_ok() { "done" } else { "refused" };
        reporter.report(&Report::Item(Reason::format(format_args!("{what}: {how}"))))?;
    }
    let done = Report::Done;
    reporter.report(&done)?;
    Ok(true)
}
