//! A preview of a commit, since a commit is final.

use super::super::control_socket::Pending;
use super::super::event_loop::Daemon;
use super::changes::check_commitment;
use super::{Answered, RequestRefused, known};
use crate::control::{ErrorKind, Reply};
use crate::fsm::hosts::Host;
use crate::job::PatchIds;
use crate::repo::rules::commit_closure;
use crate::time::Instant;
use crate::types::Reason;

impl Daemon<'_> {
    /// Lists the patches that a commit of these would take, with the rules of a commit,
    /// and the refusal if there is one.
    ///
    /// # Errors
    /// The patches cannot be determined.
    #[inline(never)]
    pub(super) fn would_commit(
        &mut self,
        now: Instant,
        slot: usize,
        ids: &PatchIds,
        force: bool,
    ) -> Result<Answered, RequestRefused> {
        let controller = self.controller()?;
        known(controller, ids)?;
        let closure = commit_closure(controller.map(), ids)
            .map_err(|refusal| (ErrorKind::Refused, Reason::format(format_args!("{refusal}"))))?;
        let refusal = check_commitment(now, controller, ids, force).err().unwrap_or_default();
        let has_one = |host: &&Host| closure.iter().any(|slot| host.installed.contains(slot));
        let hosts = controller.hosts().iter().filter(has_one).count();
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        self.control.reply(slot, &Reply::Commitment { hosts, refusal });
        Ok(Answered::Continues(Pending::Patches { only: Some(closure), after: None }))
    }
}
