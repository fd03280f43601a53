//! How the last request ended, and whether the host still owes a restart.
//!
//! A restart is owed from an install that asks for one until the kernel's boot
//! id is another: a later install that is rejected or rolled back does not pay
//! it.

use std::os::fd::AsFd;

use serde::{Deserialize, Serialize};

use super::boot::{boot_id, has_restarted_since};
use super::error::InstallError;
use super::installer::Installer;
use super::state_files::LAST;
use crate::types::{Reason, RequestId};
use crate::wire::install::{LastInstall, Outcome};

/// What the file `last` holds.
#[derive(Serialize, Deserialize)]
struct Remembered {
    last: LastInstall,
    /// The boot in which a patch asked for a restart.
    restart_owed_in: Option<String>,
}

impl Installer<'_> {
    /// The last request, and how it ended.
    pub fn last(&self) -> Result<Option<LastInstall>, InstallError> {
        let remembered: Option<Remembered> = LAST.read(self.home.as_fd())?;
        Ok(remembered.map(|Remembered { last, restart_owed_in }| LastInstall {
            reboot_required: restart_owed_in.is_some_and(|boot| !has_restarted_since(&boot)),
            ..last
        }))
    }

    /// Remembers how a request ended, durably. `asks_for_restart`: it installed
    /// what is in effect only after one.
    pub fn remember(
        &self,
        request_id: RequestId,
        outcome: Outcome,
        reason: &str,
        asks_for_restart: bool,
    ) -> Result<LastInstall, InstallError> {
        let owed = self.last()?.is_some_and(|last| last.reboot_required);
        let reboot_required = asks_for_restart || owed;
        let last = LastInstall { request_id, outcome, reason: Reason::truncated(reason), reboot_required };
        let restart_owed_in = reboot_required.then(boot_id);
        LAST.write(self.home.as_fd(), &Remembered { last: last.clone(), restart_owed_in })?;
        Ok(last)
    }
}
