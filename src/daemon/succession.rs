//! How a daemon whose own file was replaced gives way to the new one: in the same
//! process, so that the supervisor sees none end.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use log::info;

use super::event_loop::Daemon;
use crate::install::own_file;

impl Daemon<'_> {
    /// Starts the file that this process was started from in its place, with the same
    /// arguments and the environment that it came with. Every descriptor closes on
    /// exec: sockets, and with them the locks. Returns only where that fails, with
    /// why; then the supervisor starts it.
    #[inline(never)]
    pub fn give_way(&mut self) -> String {
        self.control.remove();
        // A child would not die with this process, which goes on, and nobody would
        // know it there.
        self.workers.bury_all(&self.registry);
        let Some((path, _)) = own_file() else { return "where thimble's own file is is not known".into() };
        info!("{} is another thimble now, and takes over", path.display());
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| OsString::from("thimble"));
        let error =
            Command::new(&path).arg0(name).args(arguments).env_clear().envs(first_environment()).exec();
        format!("{} cannot be started in this thimble's place: {error}", path.display())
    }
}

/// The environment as this process was given it: what has been taken out since is
/// for the one that takes over, too.
fn first_environment() -> Vec<(OsString, OsString)> {
    let Ok(bytes) = fs::read("/proc/self/environ") else { return std::env::vars_os().collect() };
    let lines = bytes.split(|byte| *byte == 0);
    let pairs = lines.filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
        Some((text(line.get(..at)?), text(line.get(at + 1..)?)))
    });
    pairs.collect()
}
