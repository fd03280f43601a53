//! apply, remove, delete, commit: durable changes of entries' states.

use std::io;

use super::collision;
use super::disk::Store;
use super::error::{JobFailure, Stop, finish, send};
use super::floor;
use super::requirement;
use crate::config::Config;
use crate::job::reporter::Reporter;
use crate::job::{Change, Report};
use crate::repo::effective::wanted;
use crate::repo::entry::{Entry, EntryState};
use crate::repo::rules::{self, OnAllHosts, OnHosts};
use crate::types::Text;

/// Makes a change as a whole or not at all: checks the rules on the map on disk, then
/// replaces the map. Reports [`Report::Entry`] for each entry changed,
/// [`Report::Item`] for each patch concerned, then `Done`; or `Failed`.
///
/// Only the event loop knows what hosts have installed: it must not ask for a deletion
/// that [`rules::check_delete`] refuses because of them.
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
        send(reporter, &Report::Entry(entry.clone()))?;
    }
    let already = change.ids.iter().filter(|id| changed.iter().all(|entry| entry.id != **id));
    let (changed_text, unchanged_text) = report_texts(change.to);
    for (id, text) in
        changed.iter().map(|entry| (&entry.id, changed_text)).chain(already.map(|id| (id, unchanged_text)))
    {
        send(reporter, &Report::Item(Text::format(format_args!("{id} {text}"))))?;
    }
    if change.to.is_deleted() {
        for gone in &changed {
            let is_shared =
                store.entries().iter().any(|entry| entry.hash == gone.hash && !entry.state.is_deleted());
            // The map no longer names the file, so the deletion is done. If the file
            // stays, the next start removes it.
            if !is_shared && let Err(error) = store.blobs().remove(&gone.hash) {
                let notice = format_args!("{} is deleted, but its file is still there: {error}", gone.id);
                send(reporter, &Report::Notice(Text::format(notice)))?;
            }
        }
    }
    Ok(())
}

/// The changed entries.
fn decide(store: &Store, change: &Change) -> Result<Vec<Entry>, JobFailure> {
    let mut slots = Vec::new();
    let map = store.map(&mut slots);
    let to_change = match change.to {
        EntryState::Applied => {
            let to_apply = rules::check_apply(&map, &change.ids)?;
            requirement::check(&map, &to_apply, &store.blobs())?;
            collision::check(&map, &to_apply, &store.blobs())?;
            if !change.below_floor {
                let after = wanted(&map).iter().chain(to_apply.iter()).collect();
                floor::check(&map, &after, &store.blobs())?;
            }
            to_apply
        }
        EntryState::Available => {
            let to_remove = rules::check_remove(&map, &change.ids)?;
            if !change.below_floor {
                let after = wanted(&map).iter().filter(|slot| !to_remove.contains(*slot)).collect();
                floor::check(&map, &after, &store.blobs())?;
            }
            to_remove
        }
        EntryState::Deleted | EntryState::Voided => {
            let blobs = store.blobs();
            let has_file = |slot| map.entry(slot).is_some_and(|entry| blobs.has(entry));
            rules::check_delete(&map, &change.ids, |_| OnHosts::Nowhere, has_file)?
        }
        EntryState::Committed => rules::check_commit(&map, &change.ids, |_| OnAllHosts::Everywhere)?,
    };
    let stamp = store.next_stamp();
    let entries = map.iter_by_id().filter(|(slot, _)| to_change.contains(*slot));
    Ok(entries.map(|(_, entry)| rules::changed(entry, change.to, stamp)).collect())
}

/// The report for a patch that was changed, and for one that had the state already.
const fn report_texts(to: EntryState) -> (&'static str, &'static str) {
    match to {
        EntryState::Applied => ("is now applied", "is already applied"),
        EntryState::Available => ("is no longer applied", "is not applied"),
        EntryState::Deleted | EntryState::Voided => ("has been deleted", "is deleted already"),
        EntryState::Committed => ("is now committed", "is already committed"),
    }
}
