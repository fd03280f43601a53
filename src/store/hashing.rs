//! Computes both hashes of a patch file while it arrives, in a thread of its own: hashing
//! costs more than everything else that is done with the bytes, and most machines have a
//! second core.

use std::sync::mpsc;
use std::{panic, thread};

use crate::patch::SignatureError;
use crate::patch::signature::{Claim, VerifiedFile};

/// The most pieces of a file that wait to be hashed: of 256 KiB, which a session reads at
/// once, they are a third of a worker's budget of memory.
const QUEUE: usize = 16;

/// Calls `feed` with a function that takes the file's bytes in order. Returns the result
/// of the verification, or the error of `feed`.
pub(super) fn alongside<E>(
    claim: &Claim<'_>,
    feed: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E>,
) -> Result<Result<VerifiedFile, SignatureError>, E> {
    thread::scope(|scope| {
        let (pieces, to_hash) = mpsc::sync_channel::<Vec<u8>>(QUEUE);
        // Buffers are reused: new pages for each piece would cost as much as its hashes.
        let (used, again) = mpsc::channel::<Vec<u8>>();
        let hashing = scope.spawn(move || {
            let mut pass = claim.begin();
            for piece in to_hash {
                pass.update(&piece)?;
                // Fails when all bytes have been fed, and is not needed then.
                let _ = used.send(piece);
            }
            pass.finish()
        });
        // If the hasher has stopped, it returns the error.
        let fed = feed(&mut |bytes| {
            let mut piece = again.try_recv().unwrap_or_default();
            piece.clear();
            piece.extend_from_slice(bytes);
            drop(pieces.send(piece));
        });
        drop(pieces);
        let verified = hashing.join().unwrap_or_else(|cause| panic::resume_unwind(cause));
        fed.map(|()| verified)
    })
}
