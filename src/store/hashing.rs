//! Computes both hashes of a patch file while it arrives, that which is signed in a thread of its own: it
//! costs more than everything else that is done with the bytes, and most machines have a second core.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use crate::patch::SignatureError;
use crate::patch::signature::{Claim, VerifiedFile};

/// The most pieces of a file that wait to be hashed: of 256 KiB, which a session reads at
/// once, they are a third of a worker's budget of memory.
const QUEUE: usize = 16;

/// A thread costs more than to hash so many bytes.
const ALONE_BYTES: u64 = 256 * 1024;

/// A function that takes bytes.
type Take<'t> = dyn FnMut(&[u8]) + 't;

/// Calls `feed` with a function that takes the file's bytes in order, which are `size_bytes`.
/// Returns the result of the verification, or the error of `feed`.
pub(super) fn alongside<E>(
    claim: &Claim<'_>,
    size_bytes: u64,
    feed: &mut dyn FnMut(&mut Take<'_>) -> Result<(), E>,
) -> Result<Result<VerifiedFile, SignatureError>, E> {
    if size_bytes <= ALONE_BYTES {
        let mut pass = claim.begin();
        let mut fed = Ok(());
        feed(&mut |bytes| {
            if fed.is_ok() {
                fed = pass.update(bytes);
            }
        })?;
        return Ok(fed.and_then(|()| pass.finish()));
    }
    let pieces = Pieces::default();
    let (mut signed, mut content) = claim.begin_halves();
    let mut hashed = Ok(());
    thread::scope(|scope| {
        let (signed, pieces) = (&mut signed, &pieces);
        let hash = move || {
            // Whoever feeds must not wait for one that has stopped.
            let _ended = Ended(pieces);
            let mut piece = Vec::new();
            while let Some(next) = pieces.next(piece) {
                signed.update(&next);
                piece = next;
            }
        };
        spawn(scope, Box::new(hash)).expect("failed to spawn thread");
        let _ended = Ended(pieces);
        feed(&mut |bytes| {
            pieces.push(bytes);
            if hashed.is_ok() {
                hashed = content.update(bytes);
            }
        })
    })?;
    Ok(hashed.and_then(|()| content.finish(signed)))
}

/// Starts a thread that ends before the scope does. In one place, since each kind of closure
/// would take 2 KB of the binary.
///
/// # Errors
/// The system's.
pub(super) fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: Box<dyn FnOnce() + Send + 'scope>,
) -> io::Result<()> {
    thread::Builder::new().spawn_scoped(scope, work).map(drop)
}

/// Pieces of a file on their way from the thread that has them to the one that hashes them. Not a
/// channel of std, which takes 7 KB of the program.
#[derive(Default)]
struct Pieces {
    way: Mutex<Way>,
    changed: Condvar,
}

#[derive(Default)]
struct Way {
    waiting: VecDeque<Vec<u8>>,
    /// Buffers are used again: new pages for each piece would cost as much as its hashes.
    used: Vec<Vec<u8>>,
    /// One end is gone: nothing more comes, or nothing more is taken.
    has_ended: bool,
}

/// Says that this end is gone, also where its thread panics or returns early.
struct Ended<'p>(&'p Pieces);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.changed.notify_all();
    }
}

impl Pieces {
    fn lock(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `is_ready`, or an end is gone.
    fn until(&self, is_ready: impl Fn(&Way) -> bool) -> MutexGuard<'_, Way> {
        let waited = self.changed.wait_while(self.lock(), |way| !way.has_ended && !is_ready(way));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a piece once there is room. Drops it where the hasher has ended, which returns its error.
    fn push(&self, bytes: &[u8]) {
        let mut way = self.until(|way| way.waiting.len() < QUEUE);
        let mut piece = way.used.pop().unwrap_or_default();
        if !way.has_ended {
            // Copied without the lock.
            drop(way);
            piece.clear();
            piece.extend_from_slice(bytes);
            self.lock().waiting.push_back(piece);
            self.changed.notify_all();
        }
    }

    /// The next piece, for one that is no longer needed; `None` when all were taken.
    fn next(&self, used: Vec<u8>) -> Option<Vec<u8>> {
        self.lock().used.push(used);
        let piece = self.until(|way| !way.waiting.is_empty()).waiting.pop_front();
        self.changed.notify_all();
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pieces_are_taken_in_order_by_a_slow_end() {
        let pieces = Pieces::default();
        thread::scope(|scope| {
            let taker = scope.spawn(|| {
                let mut taken = Vec::new();
                let mut piece = Vec::new();
                while let Some(next) = pieces.next(piece) {
                    taken.extend_from_slice(&next);
                    thread::yield_now();
                    piece = next;
                }
                taken
            });
            let ended = Ended(&pieces);
            let sent: Vec<u8> = (0..50 * QUEUE).map(|number| number as u8).collect();
            sent.chunks(3).for_each(|piece| pieces.push(piece));
            drop(ended);
            assert_eq!(taker.join().unwrap(), sent);
        });
        assert!(pieces.lock().used.len() <= QUEUE + 2, "buffers are used again");
    }

    #[test]
    fn nobody_waits_for_an_end_that_is_gone() {
        let pieces = Pieces::default();
        drop(Ended(&pieces));
        for _ in 0..2 * QUEUE {
            pieces.push(b"x");
        }
        assert_eq!(pieces.next(Vec::new()), None);
    }
}
