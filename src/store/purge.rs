//! purge and drop-controller: the operator removes deleted patches from the map, and a
//! controller that will not return from the known ones.

use std::io;

use super::controllers::Controllers;
use super::disk::Store;
use super::error::{JobFailure, Stop, finish, send};
use crate::config::Config;
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::types::{Digest, NodeId, Text};

/// Drops all tombstones, durably. If other controllers may have them, raises the map's
/// purge floor above them. Reports [`Report::EntryPurged`] for
/// each, [`Report::Floor`], a [`Report::Item`], then `Done`; or `Failed`.
///
/// Only the event loop knows which controllers are present: it must not ask unless every
/// known controller is present with the digest `agreed`. If a merge has changed the map
/// meanwhile, nothing is purged: the floor would include changes that some controllers
/// do not have.
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
        send(reporter, &Report::EntryPurged(id.clone()))?;
    }
    if store.floor() > 0 {
        send(reporter, &Report::Floor(store.floor()))?;
    }
    let line = match gone.len() {
        0 => Text::truncated("there are no deleted patches to purge"),
        1 => Text::truncated("1 deleted patch is purged"),
        many => Text::format(format_args!("{many} deleted patches are purged")),
    };
    send(reporter, &Report::Item(line))
}

/// Removes a known controller, durably: no purge waits for it any more. If it returns, it
/// becomes known again. Reports [`Report::ControllerDropped`], a [`Report::Item`],
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
            "controller {node} is not known here: look for its node id with status"
        ))
        .into());
    };
    known.remove(node);
    known.write(store.dir())?;
    send(reporter, &Report::ControllerDropped(node))?;
    send(reporter, &Report::Item(Text::format(format_args!("controller {name} ({node}) is forgotten"))))
}
