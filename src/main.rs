//! Arguments to one of: daemon, worker, client.

use std::process::ExitCode;

fn main() -> ExitCode {
    thimble::cli::main()
}
