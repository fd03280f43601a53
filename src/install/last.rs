//! The outcome of the last request, and whether the host still owes a restart.
//!
//! A host owes a restart from an install that requires one until the kernel's boot id
//! changes. A later install that is rejected or rolled back does not change that.

use std::os::fd::AsFd;

use serde::{Deserialize, Serialize};

use super::boot::{boot_id, has_restarted_since};
use super::error::InstallError;
use super::installer::Installer;
use super::state_files::{LAST, Stored};
use crate::types::{Reason, RequestId};
use crate::wire::install::{LastInstall, Outcome};

/// The content of the file `last`.
#[derive(Serialize, Deserialize)]
struct Remembered {
    last: LastInstall,
    /// The id of the boot in which an install required a restart.
    restart_owed_in: Option<String>,
}

impl Stored for Remembered {
    const EARLIEST: u16 = 1;

    fn encode(&self) -> postcard::Result<(u16, Vec<u8>)> {
        Ok((1, postcard::to_extend(self, Vec::new())?))
    }

    fn decode(_version: u16, body: &[u8]) -> postcard::Result<Self> {
        postcard::from_bytes(body)
    }
}

impl Installer<'_> {
    /// The last request and its outcome.
    pub fn last(&self) -> Result<Option<LastInstall>, InstallError> {
        let remembered: Option<Remembered> = LAST.read(self.home.as_fd())?;
        Ok(remembered.map(|Remembered { last, restart_owed_in }| LastInstall {
            reboot_required: restart_owed_in.is_some_and(|boot| !has_restarted_since(&boot)),
            ..last
        }))
    }

    /// Stores the outcome of a request, durably. `asks_for_restart`: what it changed takes
    /// effect only after a restart of the host.
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
