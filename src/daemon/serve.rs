//! The serving end of a session, in a controller's worker: sends manifests and patch
//! files from the store.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::exchange::Exchange;
use crate::store::{self, Blob};
use crate::types::{Hash, Reason};
use crate::wire::frame::{Frame, Purpose};

/// Bytes of a patch file that are sent at once. The time that a phase has left is checked
/// before each.
const PIECE_BYTES: usize = 64 * 1024;

/// Answers requests until the peer ends the session. An agent may request manifests and
/// patch files, another controller only patch files.
///
/// # Errors
/// The connection was lost or timed out, or the peer sent an unexpected frame.
pub fn serve(state_dir: &Path, exchange: &mut Exchange, purpose: Purpose) -> io::Result<()> {
    loop {
        exchange.begin_phase();
        let Some(frame) = exchange.receive()? else { return Ok(()) };
        exchange.begin_phase();
        match frame {
            Frame::ManifestReq { digest, nodetype } if purpose == Purpose::Fetch => {
                match store::manifest(state_dir, &digest, &nodetype) {
                    Ok(patches) => {
                        for page in patches.chunks(crate::limits::PAGE_PATCHES) {
                            exchange.send(Frame::ManifestPage { patches: page.iter().cloned().collect() })?;
                        }
                        exchange.send(Frame::End)?;
                    }
                    Err(reason) => refuse(exchange, &reason)?,
                }
            }
            Frame::BlobReq { hash, offset } => send_blob(state_dir, exchange, &hash, offset, u64::MAX)?,
            Frame::BlobPartReq { hash, offset, len_bytes } => {
                send_blob(state_dir, exchange, &hash, offset, len_bytes)?;
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Sends at most `most` bytes of a file.
fn send_blob(
    state_dir: &Path,
    exchange: &mut Exchange,
    hash: &Hash,
    offset: u64,
    most: u64,
) -> io::Result<()> {
    let Blob { mut file, size_bytes, signature } = match store::blob(state_dir, hash) {
        Ok(blob) => blob,
        Err(reason) => return refuse(exchange, &reason),
    };
    let Some(len_bytes) = size_bytes.checked_sub(offset) else {
        return refuse(exchange, "The file is shorter than the requested offset.");
    };
    let len_bytes = len_bytes.min(most);
    let Ok(signature) = heapless::Vec::from_slice(&signature) else {
        return refuse(exchange, "The patch's signature is too long to send.");
    };
    file.seek(SeekFrom::Start(offset))?;
    exchange.send(Frame::Blob { len_bytes, signature })?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = len_bytes;
    while left > 0 {
        let room = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        // If the file shrank, the peer sees the session end before the blob is complete.
        file.read_exact(&mut piece[..room])?;
        exchange.write_all(&piece[..room])?;
        left -= room as u64;
    }
    exchange.send(Frame::End)
}

fn refuse(exchange: &mut Exchange, reason: &str) -> io::Result<()> {
    exchange.send(Frame::Refused { reason: Reason::truncated(reason) })
}
