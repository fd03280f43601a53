//! What an operator lets a repository forget: deleted patches, and a controller
//! that is gone for good.

use std::io;

use super::controllers::Controllers;
use super::disk::Store;
use super::error::{JobFailure, Stop, finish, tell};
use crate::config::Config;
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::types::{Digest, NodeId, Text};

/// Drops all tombstones, durably, and raises the map's purge floor above them
/// where other controllers may have them. Reports [`Report::EntryPurged`] for
/// each, [`Report::Floor`], a [`Report::Item`], then `Done`; or `Failed`.
///
/// Who is present is known to the loop alone: it must not ask unless every
/// controller known is there with the digest `agreed`. Where the map has another by
/// now, since a merge was faster, nothing is purged: the floor would count changes
/// as seen by all that some have not seen.
///
/// # Errors
/// The reporter's.
pub fn purge(config: &Config, agreed: Digest, reporter: &mut dyn Reporter) -> io::Result<()> {
    finish(run_purge(config, agreed, reporter), reporter)
}

fn run_purge(config: &Config, agreed: Digest, reporter: &mut dyn Reporter) -> Result<(), Stop> {
    let mut store = Store::open(&config.node.state_dir)?;
    if store.map(&mut Vec::new()).digest() != agreed {
        return Err(JobFailure::refused(
            "the repository has just changed, and other controllers may not have the change: wait until \
             thimble status calls them synced, and try again",
        )
        .into());
    }
    let gone = store.purge()?;
    for id in &gone {
        tell(reporter, &Report::EntryPurged(id.clone()))?;
    }
    if store.floor() > 0 {
        tell(reporter, &Report::Floor(store.floor()))?;
    }
    let line = match gone.len() {
        0 => Text::truncated("no deleted patch is kept in mind: there is nothing to purge"),
        1 => Text::truncated("1 deleted patch is purged"),
        many => Text::format(format_args!("{many} deleted patches are purged")),
    };
    tell(reporter, &Report::Item(line))
}

/// Forgets a controller, durably: no purge waits for it any more. Where it comes
/// back it is met anew. Reports [`Report::ControllerDropped`], a [`Report::Item`],
/// then `Done`; or `Failed`.
///
/// # Errors
/// The reporter's.
pub fn drop_controller(config: &Config, node: NodeId, reporter: &mut dyn Reporter) -> io::Result<()> {
    finish(run_drop(config, node, reporter), reporter)
}

fn run_drop(config: &Config, node: NodeId, reporter: &mut dyn Reporter) -> Result<(), Stop> {
    let store = Store::open(&config.node.state_dir)?;
    let mut known = Controllers::read(store.dir())?;
    let Some(name) = known.name(node).cloned() else {
        return Err(JobFailure::refused(format_args!(
            "no controller {node} has ever been met here: look for its node id with status"
        ))
        .into());
    };
    known.forget(node);
    known.write(store.dir())?;
    tell(reporter, &Report::ControllerDropped(node))?;
    tell(reporter, &Report::Item(Text::format(format_args!("controller {name} ({node}) is forgotten"))))
}
