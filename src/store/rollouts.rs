//! Durable changes of the rollout: begin, stop, resume, end.

use std::io;

use super::disk::Store;
use super::error::{JobFailure, Stop, finish, send};
use crate::config::Config;
use crate::job::reporter::Reporter;
use crate::job::{Report, RolloutChange};

/// Replaces the map's rollout, if the map still has the one that the change names.
/// Reports [`Report::Rollout`], then `Done`; or `Failed`.
///
/// # Errors
/// The reporter's.
pub fn change_rollout(
    config: &Config,
    change: &RolloutChange,
    reporter: &mut dyn Reporter,
) -> io::Result<()> {
    finish(run(config, change, reporter), reporter)
}

fn run(config: &Config, change: &RolloutChange, reporter: &mut dyn Reporter) -> Result<(), Stop> {
    let mut store = Store::open(&config.node.state_dir)?;
    if store.rollout().map(|held| held.stamp) != change.instead_of {
        return Err(JobFailure::refused(
            "another controller, or another command, has just changed the rollout: look at it with thimble watch, \
             and try again",
        )
        .into());
    }
    if change.renew {
        store.renew()?;
    }
    let rollout = change.to.stamped(store.next_stamp());
    store.set_rollout(rollout)?;
    send(reporter, &Report::Rollout(rollout))
}
