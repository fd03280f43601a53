//! A host as commands see it: how it stands, what it does, what became of the
//! last install, and which lists it belongs to.

use serde::{Deserialize, Serialize};

use crate::fsm::controller::Currency;
use crate::fsm::presence::LossCause;
use crate::fsm::requests::RequestStatus;
use crate::fsm::rollout::RolloutPart;
use crate::types::{Digest, Hostname, NodeId, NodeType, Reason, SwVersion, Text};
use crate::wire::install::Step;

/// What a host does, as shown in the `State` column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostState {
    /// Nothing.
    #[default]
    Idle,
    /// An install, at this step, this far.
    Installing {
        /// The step.
        step: Step,
        /// 0 to 100.
        percent: u8,
    },
    /// The last install failed.
    InstallFailed,
    /// The last install was rejected, not long ago.
    InstallRejected,
    /// Unheard of for long.
    Lost,
}

/// One host, for `query-hosts` and `host-install`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostRow {
    /// Its node id.
    pub node: NodeId,
    /// What it calls itself.
    pub hostname: Hostname,
    /// Where it was heard last.
    pub address: Text<48>,
    /// Its kind.
    pub nodetype: NodeType,
    /// How it stands to what is wanted.
    pub current: Currency,
    /// It must restart for all to be in effect.
    pub reboot_required: bool,
    /// The release that runs.
    pub sw_version: SwVersion,
    /// What it does.
    pub state: HostState,
    /// Milliseconds since it was heard last.
    pub age_ms: u64,
    /// Why it is lost, if it is.
    pub lost: Option<LossCause>,
    /// The digest of what is installed.
    pub installed_digest: Digest,
    /// What became of the install asked for last.
    pub install: RequestStatus,
    /// Why the last install failed or was rejected.
    pub reason: Reason,
    /// Its part in the last rollout; `None` where there was none.
    pub part: Option<RolloutPart>,
}

/// Which hosts a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostFilter {
    /// All.
    All,
    /// Those whose last install failed or was rejected, or got no answer.
    Failed,
    /// Those unheard of for long.
    Lost,
    /// Those that are not known to have what they should have: all that `Patch
    /// Current` does not call `Yes`.
    NotCurrent,
    /// Those that install, or were asked to and have not answered yet.
    AtWork,
    /// Those of the last rollout that are at work, or have failed or not answered.
    Rollout,
}

impl HostFilter {
    /// Whether a host is one of these.
    #[must_use]
    pub fn takes(self, row: &HostRow) -> bool {
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
            lost: None,
            installed_digest: Digest::default(),
            install,
            reason: Reason::default(),
            part: None,
        }
    }

    #[test]
    fn each_filter_takes_the_hosts_that_it_names_and_no_other() {
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
            assert!(HostFilter::All.takes(&row));
            for filter in [Failed, Lost, NotCurrent, AtWork, HostFilter::Rollout] {
                assert_eq!(filter.takes(&row), filters.contains(&filter), "{filter:?}: {row:?}");
            }
        }
    }

    #[test]
    fn a_rollout_s_list_is_of_those_at_work_and_of_those_that_failed_in_it() {
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
            assert!(!HostFilter::Rollout.takes(&row), "{part:?}");
        }
        for part in [RolloutPart::AtWork, RolloutPart::Failed, RolloutPart::NoAnswer] {
            row.part = Some(part);
            assert!(HostFilter::Rollout.takes(&row), "{part:?}");
        }
    }
}
