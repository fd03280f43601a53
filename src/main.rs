//! Arguments to one of: daemon, worker, client.

use std::process::ExitCode;

fn main() -> ExitCode {
    // How the daemon starts a worker; nobody types it.
    if std::env::args_os().nth(1).is_some_and(|word| word == "worker") {
        return thimble::daemon::worker::main();
    }
    thimble::cli::main()
}
