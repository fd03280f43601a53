//! A host as commands show it, and the filters of host lists.

use serde::{Deserialize, Serialize};

use crate::fsm::controller::Currency;
use crate::fsm::presence::LossCause;
use crate::fsm::requests::RequestStatus;
use crate::fsm::rollout::RolloutPart;
use crate::fsm::ways::Way;
use crate::types::{Digest, Hostname, NodeId, NodeType, Reason, SwVersion, Text};
use crate::wire::install::Step;

/// What a host is doing, as the `State` column shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostState {
    /// Nothing.
    #[default]
    Idle,
    /// An install, at this step and percentage.
    Installing {
        /// The step.
        step: Step,
        /// 0 to 100.
        percent: u8,
    },
    /// The last install failed.
    InstallFailed,
    /// The last install was rejected a short time ago.
    InstallRejected,
    /// The host is lost.
    Lost,
}

/// One host, for `query-hosts` and `host-install`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostRow {
    /// Its node id.
    pub node: NodeId,
    /// Its hostname.
    pub hostname: Hostname,
    /// The address of its last ack.
    pub address: Text<48>,
    /// Its kind.
    pub nodetype: NodeType,
    /// Whether it has the patches that it should have.
    pub current: Currency,
    /// It must restart before all its patches are in effect.
    pub reboot_required: bool,
    /// The release that runs.
    pub sw_version: SwVersion,
    /// What it is doing.
    pub state: HostState,
    /// Milliseconds since its last ack.
    pub age_ms: u64,
    /// By which way its last ack came, if the transport tells.
    pub way: Option<Way>,
    /// Why it is lost, if it is.
    pub lost: Option<LossCause>,
    /// The digest of what is installed.
    pub installed_digest: Digest,
    /// The status of the last install request to it.
    pub install: RequestStatus,
    /// The reason of the last install's outcome.
    pub reason: Reason,
    /// Its part in the last rollout; `None` if there was no rollout.
    pub part: Option<RolloutPart>,
}

/// Which hosts a list contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostFilter {
    /// All.
    All,
    /// Hosts whose last install failed, was rejected or was not answered.
    Failed,
    /// Hosts that are lost.
    Lost,
    /// Hosts that are not known to have what they should have: those whose `Patch Current`
    /// is not `Yes`.
    NotCurrent,
    /// Hosts that are installing, or were asked to and have not answered yet.
    AtWork,
    /// Hosts of the last rollout that are installing, have failed or have not answered.
    Rollout,
}

impl HostFilter {
    /// Whether the list contains this host.
    #[must_use]
    pub fn matches(self, row: &HostRow) -> bool {
        match self {
            Self::All => true,
            Self::Failed => {
                row.current == Currency::Failed
                    || matches!(row.state, HostState::InstallFailed | HostState::InstallRejected)
            }
            Self::Lost => row.state == HostState::Lost,
            Self::NotCurrent => row.current != Currency::Current,
            Self::AtWork => {
                matches!(row.state, HostState::Installing { .. })
                    || matches!(row.install, RequestStatus::Waiting | RequestStatus::Running)
            }
            Self::Rollout => {
                matches!(row.part, Some(RolloutPart::AtWork | RolloutPart::Failed | RolloutPart::NoAnswer))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::install::Outcome;

    fn host(current: Currency, state: HostState, install: RequestStatus) -> HostRow {
        HostRow {
            node: NodeId(1),
            hostname: Hostname::default(),
            address: Text::truncated(""),
            nodetype: NodeType::default(),
            current,
            reboot_required: false,
            sw_version: SwVersion::default(),
            state,
            age_ms: 0,
            way: None,
            lost: None,
            installed_digest: Digest::default(),
            install,
            reason: Reason::default(),
            part: None,
        }
    }

    #[test]
    fn each_filter_matches_exactly_its_hosts() {
        use HostFilter::{AtWork, Failed, Lost, NotCurrent};
        let installing = HostState::Installing { step: Step::Fetching, percent: 1 };
        let ended = RequestStatus::Ended(Outcome::Installed);
        for (current, state, install, filters) in [
            (Currency::Current, HostState::Idle, ended, &[][..]),
            (Currency::Current, HostState::Lost, ended, &[Lost]),
            (Currency::OutOfDate, HostState::Idle, RequestStatus::None, &[NotCurrent]),
            (Currency::OutOfDate, HostState::Lost, RequestStatus::None, &[Lost, NotCurrent]),
            (Currency::Unknown, HostState::Idle, RequestStatus::None, &[NotCurrent]),
            (Currency::Pending, HostState::Idle, RequestStatus::Waiting, &[NotCurrent, AtWork]),
            (Currency::Pending, installing, RequestStatus::None, &[NotCurrent, AtWork]),
            (Currency::Failed, HostState::Idle, RequestStatus::NoAnswer, &[Failed, NotCurrent]),
            (Currency::Failed, HostState::InstallFailed, RequestStatus::None, &[Failed, NotCurrent]),
            (Currency::OutOfDate, HostState::InstallRejected, RequestStatus::None, &[Failed, NotCurrent]),
        ] {
            let row = host(current, state, install);
            assert!(HostFilter::All.matches(&row));
            for filter in [Failed, Lost, NotCurrent, AtWork, HostFilter::Rollout] {
                assert_eq!(filter.matches(&row), filters.contains(&filter), "{filter:?}: {row:?}");
            }
        }
    }

    #[test]
    fn the_rollout_filter_matches_hosts_that_install_or_failed_in_it() {
        let parts = [
            RolloutPart::Done,
            RolloutPart::Behind,
            RolloutPart::Current,
            RolloutPart::Next,
            RolloutPart::Lost,
        ];
        let mut row = host(Currency::Current, HostState::Idle, RequestStatus::None);
        for part in parts {
            row.part = Some(part);
            assert!(!HostFilter::Rollout.matches(&row), "{part:?}");
        }
        for part in [RolloutPart::AtWork, RolloutPart::Failed, RolloutPart::NoAnswer] {
            row.part = Some(part);
            assert!(HostFilter::Rollout.matches(&row), "{part:?}");
        }
    }
}
