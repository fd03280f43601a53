//! Derived keys, the opening of a session, and each frame.

use heapless::Vec;
use thimble::limits::FRAME_BYTES;
use thimble::types::{Digest, Hash, Reason};
use thimble::wire::frame::{DetailPage, Frame, InstalledPatch, ManifestPatch, Purpose, Role};
use thimble::wire::keys::{KeyClass, KeyRing, derive};
use thimble::wire::session::{Opening, SessionKeys};

use crate::repository::{entry, rollout};
use crate::{AGENT, CLUSTER, CONTROLLER, SECRET, golden, golden_keys, hex, name};

#[test]
fn derived_keys_do_not_change() {
    let [controller, group, master, node] = golden_keys("keys");
    assert_eq!(hex(&derive::controller(&SECRET).0), hex(&controller));
    assert_eq!(hex(&derive::group(&SECRET).0), hex(&group));
    assert_eq!(hex(&derive::node_master(&SECRET).0), hex(&master));
    assert_eq!(hex(&derive::node(&SECRET, AGENT).0), hex(&node));
    let ring = KeyRing::controller(&SECRET);
    let of = |class| hex(&ring.key(0, class).unwrap().0);
    assert_eq!(of(KeyClass::Controller), hex(&controller));
    assert_eq!(of(KeyClass::Group), hex(&group));
    assert_eq!(of(KeyClass::Node(AGENT)), hex(&node));
}

/// The openings of the agent, which opens the session, and of the controller.
fn openings() -> (Opening, Opening) {
    let nonce = |first: u8| std::array::from_fn(|at| first + u8::try_from(at).unwrap());
    let opening =
        |role, node, first| Opening { key_slot: 0, role, cluster: CLUSTER, node, nonce: nonce(first) };
    (opening(Role::Agent, AGENT, 0x40), opening(Role::Controller, CONTROLLER, 0x80))
}

/// The session keys of the agent and of the controller.
fn both_ends() -> (SessionKeys, SessionKeys) {
    let (agent, controller) = openings();
    let agent_ring = KeyRing::agent(&SECRET, AGENT);
    (
        SessionKeys::derive(&agent_ring, &agent, &controller, true).unwrap(),
        SessionKeys::derive(&KeyRing::controller(&SECRET), &controller, &agent, false).unwrap(),
    )
}

#[test]
fn the_opening_of_a_session_does_not_change() {
    let (agent, controller) = openings();
    for (file, opening) in [("opening_initiator", agent), ("opening_acceptor", controller)] {
        let bytes = golden(file);
        assert_eq!(hex(&opening.emit()), hex(&bytes), "{file}");
        assert_eq!(Opening::parse(bytes.as_slice().try_into().unwrap()), Ok(opening), "{file}");
    }
    let [to_acceptor, to_initiator] = golden_keys("session_keys");
    let (initiator, acceptor) = both_ends();
    assert_eq!(
        [hex(&initiator.send_key), hex(&initiator.recv_key)],
        [&to_acceptor, &to_initiator].map(|k| hex(k))
    );
    assert_eq!(
        [hex(&acceptor.recv_key), hex(&acceptor.send_key)],
        [&to_acceptor, &to_initiator].map(|k| hex(k))
    );
}

fn patch(id: &str, hash: u8) -> InstalledPatch {
    InstalledPatch { id: name(id), hash: Hash([hash; 32]) }
}

/// One frame of each variant, in order; then those with later purposes.
fn frames() -> [(&'static str, Frame); 17] {
    let digest = |byte| Digest([byte; 32]);
    let worker = || name("worker");
    let open = |purpose| Frame::Open { role: Role::Controller, node: AGENT, peer: CONTROLLER, purpose };
    [
        ("open", Frame::Open { role: Role::Agent, node: AGENT, peer: CONTROLLER, purpose: Purpose::Fetch }),
        ("busy", Frame::Busy { retry_after_ms: 1_500 }),
        ("query_detailed", Frame::QueryDetailed),
        (
            "query_detailed_resp",
            Frame::QueryDetailedResp(DetailPage {
                query_id: 0x1234_5678_9abc_def0,
                installed_digest: digest(0xd6),
                nodetype: worker(),
                sw_version: name("24.09"),
                installed: [patch("TZ-0001", 0xa1), patch("TZ-0002", 0xa2)].into_iter().collect(),
            }),
        ),
        ("manifest_req", Frame::ManifestReq { digest: digest(0xd9), nodetype: worker() }),
        (
            "manifest_page",
            Frame::ManifestPage {
                patches: Vec::from_iter([ManifestPatch {
                    id: name("TZ-0001"),
                    hash: Hash([0xa1; 32]),
                    size_bytes: 400_000,
                    committed: true,
                }]),
            },
        ),
        ("blob_req", Frame::BlobReq { hash: Hash([0xa1; 32]), offset: 65_536 }),
        (
            "blob",
            Frame::Blob { len_bytes: 334_464, signature: Vec::from_slice(b"untrusted comment: x").unwrap() },
        ),
        ("end", Frame::End),
        ("refused", Frame::Refused { reason: Reason::truncated("no such patch") }),
        ("map_req", Frame::MapReq),
        ("map_head", Frame::MapHead { hostname: name("controller-1"), floor: 0x0123_4567 }),
        ("map_entry", Frame::MapEntry(entry())),
        ("open_pull", open(Purpose::Pull)),
        ("open_blobs", open(Purpose::Blobs)),
        ("map_rollout", Frame::MapRollout(rollout())),
        (
            "blob_part_req",
            Frame::BlobPartReq { hash: Hash([0xa1; 32]), offset: 1_048_576, len_bytes: 2_097_152 },
        ),
    ]
}

#[test]
fn every_frame_keeps_its_sealed_bytes() {
    let (mut agent, mut controller) = both_ends();
    for (number, (what, frame)) in frames().into_iter().enumerate() {
        let bytes = golden(&format!("frame_{number}_{what}"));
        let mut out = [0; FRAME_BYTES];
        let len = agent.seal(&frame, &mut out);
        assert_eq!(hex(&out[..len]), hex(&bytes), "{what}: sealed");
        assert_eq!(controller.open(&bytes), Ok(Some((frame, bytes.len()))), "{what}: opened");
    }
}
