//! apply, remove, delete, commit: entries move to another state, durably.

use std::io;

use super::disk::Store;
use super::error::{JobFailure, Stop, finish, tell};
use super::{collision, index};
use crate::config::Config;
use crate::job::reporter::Reporter;
use crate::job::{Change, Report};
use crate::repo::entry::{Entry, EntryState};
use crate::repo::rules::{self, OnAllHosts, OnHosts};
use crate::types::Text;

/// Carries a change out as a whole or not at all: the rules, on the map as it is
/// on the disk, then the map. Reports [`Report::Entry`] for each entry changed,
/// [`Report::Item`] for each patch concerned, then `Done`; or `Failed`.
///
/// What hosts hold is known to the loop alone: it must not ask for a deletion
/// that [`rules::check_delete`] refuses for their sake.
///
/// # Errors
/// The reporter's.
pub fn change(config: &Config, change: &Change, reporter: &mut dyn Reporter) -> io::Result<()> {
    finish(run(config, change, reporter), reporter)
}

fn run(config: &Config, change: &Change, reporter: &mut dyn Reporter) -> Result<(), Stop> {
    let mut store = Store::open(&config.node.state_dir)?;
    if change.renew {
        store.renew()?;
    }
    let changed = decide(&store, change)?;
    if !changed.is_empty() {
        store.commit(&changed)?;
    }
    for entry in &changed {
        tell(reporter, &Report::Entry(entry.clone()))?;
    }
    let already = change.ids.iter().filter(|id| changed.iter().all(|entry| entry.id != **id));
    let (done, was_done) = words(change.to);
    for (id, words) in changed.iter().map(|entry| (&entry.id, done)).chain(already.map(|id| (id, was_done))) {
        tell(reporter, &Report::Item(Text::format(format_args!("{id} {words}"))))?;
    }
    if change.to == EntryState::Deleted {
        for gone in &changed {
            let is_shared = store
                .entries()
                .iter()
                .any(|entry| entry.hash == gone.hash && entry.state != EntryState::Deleted);
            // The map no longer names it, so the deletion is done; a file that
            // stays is removed by the next load.
            if !is_shared && let Err(error) = store.blobs().remove(&gone.hash) {
                let notice = format_args!("{} is deleted, but its file is still there: {error}", gone.id);
                tell(reporter, &Report::Notice(Text::format(notice)))?;
            }
        }
    }
    Ok(())
}

/// The entries as the change leaves them.
fn decide(store: &Store, change: &Change) -> Result<Vec<Entry>, JobFailure> {
    let mut slots = Vec::new();
    let map = store.map(&mut slots);
    let to_change = match change.to {
        EntryState::Applied => {
            let to_apply = rules::check_apply(&map, &change.ids)?;
            let blobs = store.blobs();
            collision::check(&map, &to_apply, |entry| index::read(&blobs, entry))?;
            to_apply
        }
        EntryState::Available => rules::check_remove(&map, &change.ids)?,
        EntryState::Deleted => rules::check_delete(&map, &change.ids, |_| OnHosts::Nowhere)?,
        EntryState::Committed => rules::check_commit(&map, &change.ids, |_| OnAllHosts::Everywhere)?,
    };
    let stamp = store.next_stamp();
    let entries = map.iter_by_id().filter(|(slot, _)| to_change.contains(*slot));
    Ok(entries.map(|(_, entry)| rules::changed(entry, change.to, stamp)).collect())
}

/// What is said of a patch that was changed, and of one that was so already.
const fn words(to: EntryState) -> (&'static str, &'static str) {
    match to {
        EntryState::Applied => ("is now applied", "is already applied"),
        EntryState::Available => ("is no longer applied", "is not applied"),
        EntryState::Deleted => ("has been deleted", "is deleted already"),
        EntryState::Committed => ("is now committed", "is already committed"),
    }
}
