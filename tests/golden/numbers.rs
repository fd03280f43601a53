//! The numbers of the variants of each enum on the wire, in entries and in digests. New
//! variants are only appended.

use thimble::repo::entry::{EntryState, Status};
use thimble::wire::frame::{Purpose, Role};
use thimble::wire::install::{Outcome, Step};
use thimble::wire::messages::{AgentState, MsgType, RequestState};

/// Each variant is encoded as its index in the list.
#[track_caller]
fn are_numbered<T: serde::Serialize + std::fmt::Debug>(variants: &[T]) {
    for (number, variant) in variants.iter().enumerate() {
        let mut out = [0; 4];
        let bytes = postcard::to_slice(variant, &mut out).unwrap();
        assert_eq!(usize::from(bytes[0]), number, "{variant:?}");
    }
}

#[test]
fn variants_keep_their_numbers() {
    are_numbered(&[
        Step::Checking,
        Step::Fetching,
        Step::Verifying,
        Step::Staging,
        Step::PreScripts,
        Step::Switching,
        Step::PostScripts,
        Step::Health,
        Step::RollingBack,
    ]);
    are_numbered(&[Outcome::Installed, Outcome::Rejected, Outcome::RolledBack, Outcome::Broken]);
    are_numbered(&[
        AgentState::Idle,
        AgentState::Installing,
        AgentState::InstallFailed,
        AgentState::InstallRejected,
    ]);
    are_numbered(&[RequestState::None, RequestState::Running, RequestState::Ended(Outcome::Installed)]);
    are_numbered(&[Purpose::QueryDetailed, Purpose::Fetch, Purpose::Pull, Purpose::Blobs]);
    are_numbered(&[Role::Controller, Role::Agent]);
    are_numbered(&[EntryState::Deleted, EntryState::Available, EntryState::Applied, EntryState::Committed]);
    are_numbered(&[Status::Released, Status::Development, Status::Obsolete]);
}

#[test]
fn messages_keep_their_numbers() {
    let named: Vec<_> = MsgType::ALL.into_iter().map(|msgtype| (msgtype as u8, msgtype.as_str())).collect();
    let frozen = [
        (1, "Hello"),
        (2, "HelloAck"),
        (3, "SyncReq"),
        (4, "SyncComplete"),
        (5, "HelloAgent"),
        (6, "HelloAgentAck"),
        (9, "AgentInstallReq"),
        (10, "AgentInstallResp"),
        (11, "DropHostReq"),
        (12, "OtherControllers"),
        (13, "Ping"),
        (14, "Pong"),
        (15, "SpreadOffer"),
        (16, "SpreadReport"),
    ];
    assert_eq!(named, frozen);
}
