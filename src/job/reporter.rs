//! How a job sends its reports.

use std::io;

use super::Report;

/// Sends a job's reports to the process that started it.
pub trait Reporter {
    /// Sends one report; blocks while the reader is behind.
    ///
    /// # Errors
    /// The reader is gone. The job should end.
    fn report(&mut self, report: &Report) -> io::Result<()>;
}
