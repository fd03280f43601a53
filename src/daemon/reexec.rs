//! Executes the new program file in this process after thimble's own file was replaced,
//! so that the supervisor does not see the daemon end.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use log::info;

use super::event_loop::Daemon;
use super::sys;
use crate::install::own_file;

impl Daemon<'_> {
    /// Executes the file at the path that this process was started from, with the same
    /// arguments. All descriptors close on exec, and with them sockets and locks. Returns
    /// only on failure, with the reason; the supervisor then starts the new file.
    #[inline(never)]
    pub fn reexec(&mut self) -> String {
        self.control.remove();
        // The process lives on, so a worker would not die with it, and the new program
        // would not know it.
        self.workers.kill_and_reap_all(&self.registry);
        let path = own_file().and_then(|(path, _)| CString::new(path.as_os_str().as_bytes()).ok());
        let Some(path) = path else { return "the path of thimble's own file is not known".into() };
        let shown = path.to_string_lossy();
        info!("{shown} was replaced: the new thimble takes over");
        format!("{shown} cannot be started in this thimble's place: {}", sys::exec(&path, None))
    }
}
