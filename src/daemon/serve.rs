//! The serving end of a session, in a controller's worker: sends manifests and patch
//! files from the store.

use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use super::exchange::Exchange;
use crate::store::{self, Blob};
use crate::types::{Hash, Reason};
use crate::wire::frame::{Frame, Purpose};

/// Answers requests until the peer ends the session. An agent may request manifests and
/// patch files, another controller only patch files.
///
/// # Errors
/// The connection was lost or timed out, or the peer sent an unexpected frame.
pub fn serve(state_dir: &Path, exchange: &mut Exchange, purpose: Purpose) -> io::Result<()> {
    while let Some(frame) = exchange.receive()? {
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
            Frame::BlobReq { hash, offset } => send_blob(state_dir, exchange, &hash, offset)?,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(())
}

fn send_blob(state_dir: &Path, exchange: &mut Exchange, hash: &Hash, offset: u64) -> io::Result<()> {
    let Blob { mut file, size_bytes, signature } = match store::blob(state_dir, hash) {
        Ok(blob) => blob,
        Err(reason) => return refuse(exchange, &reason),
    };
    let Some(len_bytes) = size_bytes.checked_sub(offset) else {
        return refuse(exchange, "The file is shorter than the requested offset.");
    };
    let Ok(signature) = heapless::Vec::from_slice(&signature) else {
        return refuse(exchange, "The patch's signature is too long to send.");
    };
    file.seek(SeekFrom::Start(offset))?;
    exchange.send(Frame::Blob { len_bytes, signature })?;
    let sent = io::copy(&mut io::Read::take(&mut file, len_bytes), exchange.raw())?;
    if sent != len_bytes {
        // The file shrank. The peer sees the session end before the blob is complete.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    exchange.send(Frame::End)
}

fn refuse(exchange: &mut Exchange, reason: &str) -> io::Result<()> {
    exchange.send(Frame::Refused { reason: Reason::truncated(reason) })
}
