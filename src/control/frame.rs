//! A frame of the control socket: `length u32 LE | body`, the body in postcard.

use serde::{Deserialize, Serialize};

use crate::limits;

/// Bytes of the length in front of a body.
pub const HEAD_BYTES: usize = 4;

/// Bytes of the largest frame.
pub const FRAME_BYTES: usize = HEAD_BYTES + limits::CONTROL_FRAME_BYTES;

/// A frame that violates the protocol: its length is over
/// [`limits::CONTROL_FRAME_BYTES`], or its body is not a message. The connection must
/// be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedFrame;

/// Encodes a message at the beginning of `buffer`. Returns the frame's length, or `None`
/// if the buffer is too short.
pub fn encode<M: Serialize>(message: &M, buffer: &mut [u8]) -> Option<usize> {
    let (head, body) = buffer.split_first_chunk_mut::<HEAD_BYTES>()?;
    let body_len = postcard::to_slice(message, body).ok()?.len();
    *head = u32::try_from(body_len).ok()?.to_le_bytes();
    Some(HEAD_BYTES + body_len)
}

/// The length of the body after this head.
///
/// # Errors
/// [`MalformedFrame`]: it is over the limit.
pub fn body_len(head: [u8; HEAD_BYTES]) -> Result<usize, MalformedFrame> {
    let len = u32::from_le_bytes(head) as usize;
    if len > limits::CONTROL_FRAME_BYTES { Err(MalformedFrame) } else { Ok(len) }
}

/// The first message in `received`, and the length of its frame; `None` until it is
/// complete.
///
/// # Errors
/// [`MalformedFrame`]; see [`body_len`] and [`decode`].
pub fn first<'b, M: Deserialize<'b>>(received: &'b [u8]) -> Result<Option<(M, usize)>, MalformedFrame> {
    let Some((head, rest)) = received.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let body_len = body_len(*head)?;
    let Some(body) = rest.get(..body_len) else { return Ok(None) };
    Ok(Some((decode(body)?, HEAD_BYTES + body_len)))
}

/// The message in a frame's body.
///
/// # Errors
/// [`MalformedFrame`]: the body is not such a message.
pub fn decode<'b, M: Deserialize<'b>>(body: &'b [u8]) -> Result<M, MalformedFrame> {
    postcard::from_bytes(body).map_err(|_| MalformedFrame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_decoded_once_it_is_complete() {
        let mut buffer = [0; 16];
        let len = encode(&0x1234_u32, &mut buffer).unwrap();
        assert_eq!(buffer[..HEAD_BYTES], [2, 0, 0, 0][..], "the length is that of the body, little-endian");
        for cut in 0..len {
            assert_eq!(first::<u32>(&buffer[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(first(&buffer), Ok(Some((0x1234_u32, len))), "what follows it is left alone");
    }

    #[test]
    fn a_message_that_does_not_fit_is_not_truncated() {
        assert_eq!(encode(&0x1234_u32, &mut [0; 5]), None);
        assert_eq!(encode(&0x1234_u32, &mut [0; 3]), None);
    }

    #[test]
    fn a_length_over_the_limit_is_malformed_before_its_body_comes() {
        let most = limits::CONTROL_FRAME_BYTES as u32;
        assert_eq!(body_len(most.to_le_bytes()), Ok(limits::CONTROL_FRAME_BYTES));
        assert_eq!(body_len((most + 1).to_le_bytes()), Err(MalformedFrame));
        assert_eq!(first::<u32>(&(most + 1).to_le_bytes()), Err(MalformedFrame));
        assert_eq!(first::<bool>(&[1, 0, 0, 0, 7]), Err(MalformedFrame));
    }
}
