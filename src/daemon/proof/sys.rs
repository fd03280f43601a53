//! The allocator of test builds: the system's allocator with a counter.

#![deny(clippy::cast_possible_truncation)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static WATCHED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

struct Counting;

fn count() {
    if WATCHED.load(Ordering::Relaxed) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the pointer came from the system's allocator with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Starts counting.
pub fn watch_allocations() {
    WATCHED.store(true, Ordering::Relaxed);
}

/// Runs `start` without counting its allocations.
pub fn exempt<T>(start: impl FnOnce() -> T) -> T {
    let was_watched = WATCHED.swap(false, Ordering::Relaxed);
    let result = start();
    WATCHED.store(was_watched, Ordering::Relaxed);
    result
}

/// Allocations since [`watch_allocations`].
#[must_use]
pub fn loop_allocations() -> Option<u64> {
    Some(COUNT.load(Ordering::Relaxed))
}
