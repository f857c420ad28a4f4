//! A cap on a single allocation, and a count of the bytes allocated at one time. libFuzzer's `-malloc_limit_mb` needs the hooks of
//! a sanitizer, which is not used here.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The cap in bytes, far more than an input of 4 KiB needs.
const MOST: usize = 64 << 20;

/// The bytes allocated now, and their maximum since the last reset.
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Capped;

#[global_allocator]
static ALLOCATOR: Capped = Capped;

// A global allocator needs `unsafe`. This one counts and forwards to the system allocator. Above the cap it returns null, which
// aborts the process with the number of requested bytes.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST {
            return std::ptr::null_mut();
        }
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(place, layout) }
    }
}

/// Returns the result of `step`, and the maximum of bytes that it had allocated at one time. A fuzz target has one thread, so the
/// count is exact.
pub(crate) fn peak_of<T>(step: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let answer = step();
    (answer, PEAK.load(Ordering::Relaxed) - before)
}
