//! A controller's end of a session that a worker answers: manifests and patch files
//! out of the store.

use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use super::exchange::Exchange;
use crate::store::{self, Blob};
use crate::types::{Hash, Reason};
use crate::wire::frame::{Frame, Purpose};

/// Serves one session until its other end has what it wants: an agent manifests
/// and patch files, another controller patch files alone.
///
/// # Errors
/// The other end is gone or silent, or sent what has no place here.
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
        return refuse(exchange, "The file is shorter than that.");
    };
    let Ok(signature) = heapless::Vec::from_slice(&signature) else {
        return refuse(exchange, "The patch's signature is too long to send.");
    };
    file.seek(SeekFrom::Start(offset))?;
    exchange.send(Frame::Blob { len_bytes, signature })?;
    let sent = io::copy(&mut io::Read::take(&mut file, len_bytes), exchange.raw())?;
    if sent != len_bytes {
        // The file shrank; the other end sees the session end in its middle.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    exchange.send(Frame::End)
}

fn refuse(exchange: &mut Exchange, reason: &str) -> io::Result<()> {
    exchange.send(Frame::Refused { reason: Reason::truncated(reason) })
}
