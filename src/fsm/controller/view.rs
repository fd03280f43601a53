//! The status of hosts and patches as a controller sees them, computed on demand.

use super::{Controller, ControllerTimers, Currency};
use crate::fsm::host_kinds::HostKinds;
use crate::fsm::hosts::Host;
use crate::fsm::pacing::Pacing;
use crate::fsm::requests::{ReasonSource, RequestStatus};
use crate::repo::rules::OnHosts;
use crate::repo::slots::Slot;
use crate::repo::state::Spread;
use crate::time::Instant;
use crate::types::{Digest, Reason};
use crate::wire::install::Outcome;

impl Controller<'_> {
    /// The kinds of hosts that were heard.
    #[must_use]
    pub fn kinds(&self) -> &HostKinds {
        &self.kinds
    }

    /// The rounds of HelloAgent.
    #[must_use]
    pub fn pacing(&self) -> &Pacing {
        &self.pacing
    }

    /// The timers.
    #[must_use]
    pub fn timers(&self) -> &ControllerTimers {
        &self.timers
    }

    /// Acks of hosts for which the table had no room.
    #[must_use]
    pub fn hosts_refused(&self) -> u64 {
        self.hosts_refused
    }

    /// How often nodes were asked again that missed a window, since the start.
    #[must_use]
    pub fn asks_sent(&self) -> u64 {
        self.asks.sent().saturating_add(self.sync.asks_sent())
    }

    /// How many nodes were lost because they did not answer, since the start.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.asks.lost().saturating_add(self.sync.unanswered())
    }

    /// The digest of what a host should have, if its kind is known.
    #[must_use]
    pub fn wanted_digest(&self, host: &Host) -> Option<Digest> {
        self.kinds.known(&host.ack.nodetype).map(|kind| kind.digest)
    }

    /// Whether a host has the patches that it should have.
    #[must_use]
    pub fn currency(&self, host: &Host) -> Currency {
        let wanted = self.kinds.known(&host.ack.nodetype).map(|kind| kind.digest);
        let last_failed = match host.request.status() {
            RequestStatus::Ended(outcome) => outcome != Outcome::Installed,
            RequestStatus::NoAnswer => true,
            RequestStatus::None | RequestStatus::Waiting | RequestStatus::Running => false,
        };
        if host.is_installing() {
            Currency::Pending
        } else if host.ack.patch_failed || (last_failed && wanted != Some(host.ack.installed_digest)) {
            Currency::Failed
        } else if wanted == Some(host.ack.installed_digest) {
            let is_complete = self.sync.blobs().first_wanted(&self.map).is_none();
            if is_complete { Currency::Current } else { Currency::Unknown }
        } else {
            Currency::OutOfDate
        }
    }

    /// How many hosts have the patch in a slot, and how many it concerns.
    #[must_use]
    pub fn spread(&self, slot: Slot) -> Spread {
        let mut spread = Spread::default();
        let Some(entry) = self.map.entry(slot) else { return spread };
        spread.is_blocked = crate::repo::effective::blocked_by(&self.map, slot).is_some();
        for host in self.hosts.iter() {
            let has = u32::from(host.installed.contains(slot));
            let concerned = u32::from(entry.meta.concerns(&host.ack.nodetype));
            spread.hosts_known = spread.hosts_known.saturating_add(1);
            spread.hosts_with = spread.hosts_with.saturating_add(has);
            spread.hosts_concerned = spread.hosts_concerned.saturating_add(concerned);
            spread.concerned_with = spread.concerned_with.saturating_add(has & concerned);
            spread.is_unknown |= !host.is_known() && (concerned == 1 || has == 1);
        }
        spread
    }

    /// Whether a host has the patch in a slot, for [`check_delete`]. With
    /// `despite_lost`, lost hosts do not count.
    ///
    /// [`check_delete`]: crate::repo::rules::check_delete
    #[must_use]
    pub fn on_hosts(&self, now: Instant, slot: Slot, despite_lost: bool) -> OnHosts {
        let lost_after = self.timers.host_lost;
        let mut found = OnHosts::Nowhere;
        for host in self.hosts.iter() {
            let is_lost = host.is_lost(now, lost_after);
            if is_lost && despite_lost {
                continue;
            }
            // The last report of a host that installs does not say what it will have.
            if host.is_known() && !is_lost && !host.is_installing() {
                if host.installed.contains(slot) {
                    return OnHosts::On(host.ack.hostname.clone());
                }
            } else {
                found = OnHosts::MayBeOn(host.ack.hostname.clone());
            }
        }
        found
    }

    /// The reason that belongs to the outcome of a host's last install; empty if there
    /// is none. To show it, make it a [`Reason`]: the host may have sent what a terminal obeys.
    #[must_use]
    pub fn reason(&self, host: &Host) -> &str {
        match host.request.reason_source() {
            ReasonSource::Nothing => "",
            ReasonSource::Fixed(reason) => reason,
            ReasonSource::FromHost(request) => self.reasons.get(request).map_or(
                "only the latest reasons are kept, and other hosts have sent theirs since: see this host's own status",
                Reason::raw,
            ),
        }
    }
}
