//! The entry point: a worker process of the daemon, or the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The daemon starts its workers this way. It is not a command for users.
    if std::env::args_os().nth(1).is_some_and(|word| word == "worker") {
        return thimble::daemon::worker::main();
    }
    thimble::cli::main()
}
