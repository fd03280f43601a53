//! A frame, both ways round, through the session that seals and opens it: bytes
//! without the key are never believed; a body under a valid tag is refused or
//! means the same once sent on; every frame that can be built arrives as it was sent.

#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use thimble::limits::{FRAME_BODY_BYTES, FRAME_BYTES, TAG_BYTES};
use thimble::types::NodeId;
use thimble::wire::frame::{DetailPage, Frame, InstalledPatch, ManifestPatch, Purpose, Role};
use thimble::wire::session::SessionKeys;

use thimble_fuzz::{digest, hash, list, name, node, text};

fuzz_target!(|bytes: &[u8]| {
    let unsealed = ends().1.open(bytes);
    assert!(!matches!(unsealed, Ok(Some(_))), "believed without the key: {unsealed:?}");

    if let Some(frame) = received(&sealed_body(bytes)) {
        assert_eq!(sent_and_received(&frame), frame);
    }
    if let Ok(frame) = any_frame(&mut Unstructured::new(bytes)) {
        assert_eq!(sent_and_received(&frame), frame);
    }
});

fn sent_and_received(frame: &Frame) -> Frame {
    let mut out = [0; FRAME_BYTES];
    let len = ends().0.seal(frame, &mut out);
    received(&out[..len]).expect("what one end seals the other opens")
}

/// The frame that `bytes` hold, where the receiving end believes them.
fn received(bytes: &[u8]) -> Option<Frame> {
    let (frame, used) = ends().1.open(bytes).ok()??;
    assert_eq!(used, bytes.len(), "a frame takes all of its bytes");
    Some(frame)
}

/// Any body under a valid tag, as a holder of the key could make it: the sealing
/// of [`SessionKeys::seal`], spelled out.
fn sealed_body(body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(FRAME_BODY_BYTES)];
    let (sender, _) = ends();
    let mut bytes = (body.len() as u16).to_le_bytes().to_vec();
    bytes.extend_from_slice(body);
    let mut hasher = blake3::Hasher::new_keyed(&sender.send_key);
    hasher.update(&sender.send_counter.to_le_bytes()).update(&bytes);
    bytes.extend_from_slice(&hasher.finalize().as_bytes()[..TAG_BYTES]);
    bytes
}

/// Both ends of a new session, the sending one first.
fn ends() -> (SessionKeys, SessionKeys) {
    let (to, back) = ([1; 32], [2; 32]);
    let end = |peer, send_key, recv_key| SessionKeys {
        peer: NodeId(peer),
        send_key,
        send_counter: 0,
        recv_key,
        recv_counter: 0,
    };
    (end(2, to, back), end(1, back, to))
}

fn any_frame(input: &mut Unstructured<'_>) -> Result<Frame> {
    Ok(match input.int_in_range(0..=10)? {
        0 => Frame::Open {
            role: if input.arbitrary()? { Role::Controller } else { Role::Agent },
            node: node(input)?,
            peer: node(input)?,
            purpose: if input.arbitrary()? { Purpose::QueryDetailed } else { Purpose::Fetch },
        },
        1 => Frame::Busy { retry_after_ms: input.arbitrary()? },
        2 => Frame::QueryDetailed,
        3 => Frame::QueryDetailedResp(DetailPage {
            query_id: input.arbitrary()?,
            installed_digest: digest(input)?,
            nodetype: name(input)?,
            sw_version: name(input)?,
            installed: list(input, |input| Ok(InstalledPatch { id: name(input)?, hash: hash(input)? }))?,
        }),
        4 => Frame::ManifestReq { digest: digest(input)?, nodetype: name(input)? },
        5 => Frame::ManifestPage {
            patches: list(input, |input| {
                Ok(ManifestPatch {
                    id: name(input)?,
                    hash: hash(input)?,
                    size_bytes: input.arbitrary()?,
                    committed: input.arbitrary()?,
                })
            })?,
        },
        6 => Frame::BlobReq { hash: hash(input)?, offset: input.arbitrary()? },
        7 => {
            Frame::Blob { len_bytes: input.arbitrary()?, signature: list(input, |input| input.arbitrary())? }
        }
        8 => Frame::End,
        9 => Frame::BlobPartReq {
            hash: hash(input)?,
            offset: input.arbitrary()?,
            len_bytes: input.arbitrary()?,
        },
        _ => Frame::Refused { reason: text(input)? },
    })
}
