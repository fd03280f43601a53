//! How a daemon whose own file was replaced gives way to the new one: in the same
//! process, so that the supervisor sees none end.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use log::info;

use super::event_loop::Daemon;
use super::sys;
use crate::install::own_file;

impl Daemon<'_> {
    /// Starts the file that this process was started from in its place, as this one
    /// was started. Every descriptor closes on exec: sockets, and with them the locks.
    /// Returns only where that fails, with why; then the supervisor starts it.
    #[inline(never)]
    pub fn reexec(&mut self) -> String {
        self.control.remove();
        // A child would not die with this process, which goes on, and nobody would
        // know it there.
        self.workers.kill_and_reap_all(&self.registry);
        let path = own_file().and_then(|(path, _)| CString::new(path.as_os_str().as_bytes()).ok());
        let Some(path) = path else { return "where thimble's own file is is not known".into() };
        let shown = path.to_string_lossy();
        info!("{shown} is another thimble now, and takes over");
        format!("{shown} cannot be started in this thimble's place: {}", sys::exec(&path))
    }
}
