//! A rollout begins, stops, goes on or ends: the map's register of it, durably.

use std::io;

use super::disk::Store;
use super::error::{JobFailure, Stop, finish, tell};
use crate::config::Config;
use crate::job::reporter::Reporter;
use crate::job::{Report, RolloutChange};

/// Makes a rollout the map's, if that still has the one that it is to replace.
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
            "another controller, or another command, has just changed the rollout: see how it stands with \
             thimble watch, and try again",
        )
        .into());
    }
    if change.renew {
        store.renew()?;
    }
    let rollout = change.to.stamped(store.next_stamp());
    store.set_rollout(rollout)?;
    tell(reporter, &Report::Rollout(rollout))
}
