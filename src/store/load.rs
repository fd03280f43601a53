//! At a controller's start: what does the store hold?

use std::io;

use super::disk::Store;
use super::error::{Stop, finish, tell};
use crate::config::Config;
use crate::daemon::job::Report;
use crate::daemon::reporter::Reporter;
use crate::repo::entry::EntryState;
use crate::types::Reason;

/// Opens the store, making it where there is none, removes what a crash left,
/// and reports [`Report::Store`], each [`Report::Entry`], and
/// [`Report::BlobMissing`] for each patch whose file is not there or not whole;
/// then `Done`, or `Failed` with what to do.
///
/// # Errors
/// The reporter's.
pub fn load(config: &Config, reporter: &mut dyn Reporter) -> io::Result<()> {
    finish(run(config, reporter), reporter)
}

fn run(config: &Config, reporter: &mut dyn Reporter) -> Result<(), Stop> {
    let store = Store::open(&config.node.state_dir)?;
    store.clean()?;
    tell(reporter, &Report::Store { replica: store.replica(), counter: store.counter() })?;
    for entry in store.entries() {
        tell(reporter, &Report::Entry(entry.clone()))?;
    }
    let live = store.entries().iter().filter(|entry| entry.state != EntryState::Deleted);
    for entry in live.filter(|entry| !store.blobs().has(entry)) {
        tell(reporter, &Report::BlobMissing { hash: entry.hash, reason: Reason::default() })?;
    }
    Ok(())
}
