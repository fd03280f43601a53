//! What does the store hold? Asked at a controller's start, and again where its
//! loop has lost track.

use std::io;

use super::controllers::Controllers;
use super::disk::Store;
use super::error::{Stop, finish, tell};
use crate::config::Config;
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::repo::entry::EntryState;
use crate::types::Reason;

/// Opens the store, making it where there is none. At a start it removes what a
/// crash left; later that may be what another worker is at. Reports
/// [`Report::Store`], each [`Report::Controller`], [`Report::Floor`] where it is
/// above 0, each [`Report::Entry`], [`Report::Rollout`] where there is one, and [`Report::BlobMissing`] for each patch
/// whose file is not there or not whole; then `Done`, or `Failed` with what to do.
///
/// # Errors
/// The reporter's.
pub fn load(config: &Config, is_start: bool, reporter: &mut dyn Reporter) -> io::Result<()> {
    finish(run(config, is_start, reporter), reporter)
}

fn run(config: &Config, is_start: bool, reporter: &mut dyn Reporter) -> Result<(), Stop> {
    let store = Store::open(&config.node.state_dir)?;
    if is_start {
        store.clean()?;
    }
    let controllers = Controllers::read(store.dir())?;
    tell(reporter, &Report::Store { replica: store.replica(), counter: store.counter() })?;
    for (node, hostname) in controllers.iter() {
        tell(reporter, &Report::Controller { node: *node, hostname: hostname.clone() })?;
    }
    if store.floor() > 0 {
        tell(reporter, &Report::Floor(store.floor()))?;
    }
    for entry in store.entries() {
        tell(reporter, &Report::Entry(entry.clone()))?;
    }
    if let Some(rollout) = store.rollout() {
        tell(reporter, &Report::Rollout(*rollout))?;
    }
    let live = store.entries().iter().filter(|entry| entry.state != EntryState::Deleted);
    for entry in live.filter(|entry| !store.blobs().has(entry)) {
        tell(reporter, &Report::BlobMissing { hash: entry.hash, reason: Reason::default() })?;
    }
    Ok(())
}
