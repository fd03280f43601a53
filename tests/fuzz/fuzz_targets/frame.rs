//! A frame's body, both ways round: bytes that decode mean the same once
//! encoded again, and every frame that can be built survives the way there and back.

#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use thimble::limits::FRAME_BODY_BYTES;
use thimble::wire::frame::{DetailPage, Frame, InstalledPatch, ManifestPatch, Purpose, Role};

mod words;
use words::{digest, hash, list, name, node, text};

fuzz_target!(|bytes: &[u8]| {
    if let Ok((frame, rest)) = postcard::take_from_bytes::<Frame>(bytes) {
        assert_eq!(encoded_and_back(&frame), frame);
        assert!(rest.len() < bytes.len(), "a frame is at least one byte");
    }
    if let Ok(frame) = any_frame(&mut Unstructured::new(bytes)) {
        assert_eq!(encoded_and_back(&frame), frame);
    }
});

/// Every frame that can be built fits the buffer that sessions send from.
fn encoded_and_back(frame: &Frame) -> Frame {
    let mut buffer = [0; FRAME_BODY_BYTES];
    let bytes = postcard::to_slice(frame, &mut buffer).expect("a frame fits FRAME_BODY_BYTES");
    let (back, rest) = postcard::take_from_bytes(bytes).expect("what is encoded decodes");
    assert!(rest.is_empty(), "nothing is left over");
    back
}

fn any_frame(input: &mut Unstructured<'_>) -> Result<Frame> {
    Ok(match input.int_in_range(0..=9)? {
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
        _ => Frame::Refused { reason: text(input)? },
    })
}
