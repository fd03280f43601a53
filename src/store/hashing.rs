//! Both hashes of a patch file, made while it comes.
//!
//! In a thread of their own: they cost more than all else that is done with the
//! bytes, and most machines have a second core.

use std::sync::mpsc;
use std::{panic, thread};

use crate::patch::SignatureError;
use crate::patch::signature::{Claim, VerifiedFile};

/// Pieces of a file that may wait to be hashed.
const WAITING: usize = 32;

/// Calls `feed` with a place for the file's bytes, in their order. Gives what
/// signature and hash say of them, or why `feed` broke off.
pub(super) fn alongside<E>(
    claim: &Claim<'_>,
    feed: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E>,
) -> Result<Result<VerifiedFile, SignatureError>, E> {
    thread::scope(|scope| {
        let (pieces, to_hash) = mpsc::sync_channel::<Vec<u8>>(WAITING);
        // Memory comes back: new pages for each piece cost as much as its hashes.
        let (used, again) = mpsc::channel::<Vec<u8>>();
        let hashing = scope.spawn(move || {
            let mut pass = claim.begin()?;
            for piece in to_hash {
                pass.update(&piece)?;
                // Nobody takes it where all has been fed.
                let _ = used.send(piece);
            }
            pass.finish()
        });
        // A hasher that takes no more has found a fault, and says which.
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
