//! Both hashes of a patch file, made while it comes.
//!
//! In a thread of their own: they cost more than all else that is done with the
//! bytes, and most machines have a second core.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
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
    let belt = Belt::default();
    thread::scope(|scope| {
        let hashing = scope.spawn(|| {
            // A hasher that takes no more has found a fault, and says which.
            let _end = End(&belt);
            let mut pass = claim.begin()?;
            while let Some(piece) = belt.take() {
                pass.update(&piece)?;
                belt.give_back(piece);
            }
            pass.finish()
        });
        let end = End(&belt);
        let fed = feed(&mut |bytes| belt.put(bytes));
        drop(end);
        let verified = hashing.join().unwrap_or_else(|cause| panic::resume_unwind(cause));
        fed.map(|()| verified)
    })
}

/// Takes pieces from the one who reads to the one who hashes, and their memory back:
/// new pages for each piece cost as much as its hashes. The standard library's channels
/// do it too, in 7 KB more of code.
#[derive(Default)]
struct Belt {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Vec<u8>>,
    used: Vec<Vec<u8>>,
    /// One of the two has ended.
    is_over: bool,
}

impl Belt {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while it must and may.
    fn wait(&self, mut must_wait: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while must_wait(&state) && !state.is_over {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Puts a copy of these bytes on, once there is room, or drops it where nobody takes
    /// it any more.
    fn put(&self, bytes: &[u8]) {
        let mut piece = self.lock().used.pop().unwrap_or_default();
        piece.clear();
        piece.extend_from_slice(bytes);
        let mut state = self.wait(|state| state.waiting.len() >= WAITING);
        if !state.is_over {
            state.waiting.push(piece);
            self.moved.notify_one();
        }
    }

    /// The next piece, once there is one; none at the end.
    fn take(&self) -> Option<Vec<u8>> {
        let mut state = self.wait(|state| state.waiting.is_empty());
        let piece = (!state.waiting.is_empty()).then(|| state.waiting.remove(0));
        self.moved.notify_one();
        piece
    }

    fn give_back(&self, piece: Vec<u8>) {
        self.lock().used.push(piece);
    }
}

/// One of the two: where it ends, in whatever way, the other waits no more.
struct End<'b>(&'b Belt);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_and_no_more_of_them_wait_than_may() {
        let belt = Belt::default();
        thread::scope(|scope| {
            let taken = scope.spawn(|| {
                let mut taken = Vec::new();
                while let Some(piece) = belt.take() {
                    assert!(belt.lock().waiting.len() <= WAITING);
                    taken.extend_from_slice(&piece);
                    belt.give_back(piece);
                }
                taken
            });
            let end = End(&belt);
            (0..=255).for_each(|byte| belt.put(&[byte]));
            drop(end);
            assert_eq!(taken.join().unwrap(), Vec::from_iter(0..=255));
        });
        assert!(belt.lock().used.len() <= WAITING + 2, "memory comes back");
    }

    #[test]
    fn nobody_waits_for_one_who_has_ended_and_nothing_is_kept_for_it() {
        let belt = Belt::default();
        drop(End(&belt));
        (0..=255).for_each(|byte| belt.put(&[byte]));
        assert!(belt.lock().waiting.is_empty());
        assert_eq!(belt.take(), None);
    }
}
