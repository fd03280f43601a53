//! Reports all of the store's content: at a controller's start, and again when the event
//! loop's copy may be out of date.

use std::io;

use super::controllers::Controllers;
use super::disk::Store;
use super::error::{Stop, finish, send};
use super::floor;
use super::signed;
use crate::config::Config;
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::types::Reason;

/// Opens the store, making it if it is missing. Only at a start, removes files that a
/// crash left: later, another worker may be writing them; and corrects entries that say
/// something else than their files. Reports
/// [`Report::Store`], each [`Report::Controller`], [`Report::Floor`] if it is above 0,
/// each [`Report::Entry`], [`Report::Rollout`] if there is one, and
/// [`Report::BlobMissing`] for each patch whose file is missing or not whole,
/// [`Report::FloorHere`] for each other one that is a floor; then `Done`, or `Failed`.
///
/// # Errors
/// The reporter's.
pub fn load(config: &Config, is_start: bool, reporter: &mut dyn Reporter) -> io::Result<()> {
    finish(run(config, is_start, reporter), reporter)
}

fn run(config: &Config, is_start: bool, reporter: &mut dyn Reporter) -> Result<(), Stop> {
    let mut store = Store::open(&config.node.state_dir)?;
    let mut notices = Vec::new();
    if is_start {
        store.clean()?;
        // An earlier version may have taken what it could not compare.
        match signed::correct(&mut store, |_| true) {
            Ok(corrected) => notices.extend(corrected.into_iter().map(|corrected| corrected.notice)),
            Err(error) => notices.push(Reason::truncated(&error.to_string())),
        }
    }
    let controllers = Controllers::read(store.dir())?;
    send(reporter, &Report::Store { replica: store.replica(), counter: store.counter() })?;
    for (node, hostname) in controllers.iter() {
        send(reporter, &Report::Controller { node: *node, hostname: hostname.clone() })?;
    }
    if store.floor() > 0 {
        send(reporter, &Report::Floor(store.floor()))?;
    }
    for entry in store.entries() {
        send(reporter, &Report::Entry(entry.clone()))?;
    }
    if let Some(rollout) = store.rollout() {
        send(reporter, &Report::Rollout(*rollout))?;
    }
    for entry in store.entries().iter().filter(|entry| !entry.state.is_deleted()) {
        if store.blobs().has(entry) {
            floor::report(&store.blobs(), entry, reporter)?;
        } else {
            send(reporter, &Report::BlobMissing { hash: entry.hash, reason: Reason::default() })?;
        }
    }
    notices.into_iter().try_for_each(|notice| send(reporter, &Report::Notice(notice)))
}
