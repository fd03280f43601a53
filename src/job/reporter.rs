//! How a worker's job tells the loop how it goes.

use std::io;

use super::Report;

/// Takes a job's reports to whoever started it.
pub trait Reporter {
    /// Passes one report on; blocks while the reader is behind.
    ///
    /// # Errors
    /// The reader is gone: the job should end.
    fn report(&mut self, report: &Report) -> io::Result<()>;
}
